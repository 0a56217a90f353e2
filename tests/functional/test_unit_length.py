import pytest
import torch
from torch.nn.functional import normalize

from hierpretrain.functional.unit_length import unit_length


def random_rows():
    return torch.randn(5, 7, generator=torch.Generator().manual_seed(0))


def test_ordinary_rows_are_those_of_torch_to_the_bit():
    for scale in (1e-6, 1.0, 1e9):
        rows, same = (random_rows() * scale).requires_grad_(), (random_rows() * scale).requires_grad_()
        weights = torch.arange(35.0).view(5, 7)
        assert torch.equal(unit_length(rows), normalize(same, dim=1))
        (unit_length(rows) * weights).sum().backward()
        (normalize(same, dim=1) * weights).sum().backward()
        assert torch.equal(rows.grad, same.grad)


@pytest.mark.parametrize("scale", [1e-38, 1e-30, 1e-13, 1e16, 1e20, 1e37])
def test_the_length_of_a_row_changes_nothing_but_the_scale_of_its_gradient(scale):
    weights = torch.arange(35.0).view(5, 7)
    rows, long = random_rows().requires_grad_(), random_rows()
    long[1] *= scale
    long[3] *= scale
    long.requires_grad_()
    torch.testing.assert_close(unit_length(long), normalize(rows, dim=1))
    (unit_length(long) * weights / 100).sum().backward()
    (normalize(rows, dim=1) * weights / 100).sum().backward()
    expected = rows.grad.double()
    expected[[1, 3]] /= scale
    assert (long.grad.double() / expected - 1).abs().max() < 1e-3


def test_rows_of_zeros_stay_and_what_is_not_finite_is_no_number():
    rows = torch.tensor([[0.0, 0.0], [1e30, 0.0], [torch.inf, 1.0], [torch.nan, 1.0]], requires_grad=True)
    found = unit_length(rows)
    assert found[:2].tolist() == [[0.0, 0.0], [1.0, 0.0]]
    assert found[2:].isnan().any(1).all()
    assert torch.autograd.grad(unit_length(rows[:2]).sum(), rows)[0].isfinite().all()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16, torch.float64])
def test_rows_of_other_types(kind):
    largest = torch.finfo(kind).max / 4
    rows = torch.tensor([[0.6, 0.8], [0.3, 0.4]], dtype=kind) * torch.tensor([[largest], [1.0]], dtype=kind)
    torch.testing.assert_close(unit_length(rows), torch.tensor([[0.6, 0.8]] * 2, dtype=kind), rtol=1e-2, atol=0)


def test_a_compiler_sees_no_branch():
    program = torch.export.export(Unit(), (random_rows(),), strict=False).module()
    for rows in (random_rows(), random_rows() * 1e30):
        torch.testing.assert_close(program(rows), unit_length(rows))


class Unit(torch.nn.Module):
    def forward(self, rows):
        return unit_length(rows)
