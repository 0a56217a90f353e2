import pytest
import torch

from hierpretrain.functional import level_triplet_loss
from hierpretrain.functional.level_triplet import MARGINS
from tests.reference import level_triplet as reference


def rows(seed, number=9, dim=4, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [(1.5 * torch.randn(number, dim, generator=generator, dtype=dtype)).requires_grad_() for _ in range(3)]


LEVELS = [1, 2, 3, 4, 1, 2, 3, 1, 2]
TOPS = [4, 4, 3, 4, 1, 3, 5, 2, 2]


@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("min_margin", [0.0, 0.3, 5.0])
def test_value_and_gradient_are_those_of_a_loop(margin, min_margin):
    triplets, again = rows(0), rows(0)
    levels, tops = torch.tensor(LEVELS), torch.tensor(TOPS)
    loss = level_triplet_loss(*triplets, level=levels, max_level=tops, min_margin=min_margin, margin=margin)
    expected = reference.level_triplet_loss(*again, LEVELS, TOPS, min_margin, margin)
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    loss.backward()
    expected.backward()
    for ours, theirs in zip(triplets, again, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("level", [1, 2, 3, 4, 5])
def test_alpha_of_every_level_by_hand(level):
    """Equal rows cost exactly the margin: (5 - h)^2 + 0.25."""
    same = torch.ones(2, 3)
    loss = level_triplet_loss(same, same, same, level=level, max_level=5, min_margin=0.25)
    assert loss.item() == {1: 16.25, 2: 9.25, 3: 4.25, 4: 1.25, 5: 0.25}[level]


def test_distances_are_squared():
    anchor, positive, negative = torch.zeros(1, 2), torch.tensor([[3.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    assert level_triplet_loss(anchor, positive, negative, level=1, max_level=1, min_margin=1.0).item() == 9 - 4 + 1
    plain = torch.nn.TripletMarginLoss(margin=1.0)(anchor, positive, negative)
    assert plain.item() == pytest.approx(3 - 2 + 1)  # what it is not


def test_margins_meet_at_the_deepest_level_and_grow_towards_the_root():
    levels = torch.arange(1.0, 7.0)
    for name, function in MARGINS.items():
        values = function(levels, torch.full((6,), 6.0), 0.5)
        assert values[-1] == 0.5, name
        assert (values.diff() < 0).all() or name == "constant"
    assert MARGINS["exponential"](levels, torch.full((6,), 6.0), 0.5).tolist() == [31.5, 15.5, 7.5, 3.5, 1.5, 0.5]
    assert MARGINS["tree_distance"](levels, torch.full((6,), 6.0), 0.5).tolist() == [3.0, 2.5, 2.0, 1.5, 1.0, 0.5]


def test_a_margin_of_one_s_own():
    same = torch.zeros(3, 2)
    loss = level_triplet_loss(
        same,
        same,
        same,
        level=2,
        max_level=3,
        min_margin=1.0,
        margin=lambda level, top, least: 10 * level + top + least,
    )
    assert loss.item() == 24.0


def test_no_triplets_cost_nothing():
    none = torch.zeros(0, 3, requires_grad=True)
    loss = level_triplet_loss(none, none, none, level=1, max_level=2, min_margin=1.0)
    assert loss.item() == 0
    loss.backward()


def test_costs_without_reduction_are_those_of_each_triplet_alone():
    triplets, levels, tops = rows(3), torch.tensor(LEVELS), torch.tensor(TOPS)
    costs = level_triplet_loss(*triplets, level=levels, max_level=tops, min_margin=0.3, reduction="none")
    assert 0 < (costs > 0).sum() < len(costs)
    for i, cost in enumerate(costs):
        one = [row[i : i + 1] for row in triplets]
        expected = reference.level_triplet_loss(*one, LEVELS[i : i + 1], TOPS[i : i + 1], 0.3)
        torch.testing.assert_close(cost, expected.squeeze())


def test_half_precision_is_computed_in_float32():
    triplets = [row.detach().bfloat16() for row in rows(1)]
    loss = level_triplet_loss(*triplets, level=1, max_level=3, min_margin=1.0)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = level_triplet_loss(*(row.float() for row in triplets), level=1, max_level=3, min_margin=1.0)
    assert loss.dtype == inside.dtype == torch.float32
    assert loss.item() == inside.item()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(negative=torch.zeros(2, 3)), r"must be \(B, D\) floating-point of one shape; they are \(9, 4\)"),
        (dict(positive=torch.full((9, 4), torch.nan, dtype=torch.float64)), "positive must be finite; row 0"),
        (dict(level=0), "a level must be from 1 to its max_level; triplet 0 has level 0 and max_level 4"),
        (dict(level=torch.tensor([1] * 8 + [5])), "triplet 8 has level 5 and max_level 4"),
        (dict(level=torch.tensor([1, 2])), r"level must be one number or \(9,\); its shape is \(2,\)"),
        (dict(min_margin=-0.1), "min_margin must be finite and not below 0; it is -0.1"),
        (dict(reduction="sum"), "reduction must be 'mean' or 'none'; it is 'sum'"),
        (dict(margin="cubic"), "margin must be one of 'quadratic', .* not 'cubic'"),
        (dict(margin=lambda level, top, least: top / (level - 1)), "the margin must be finite; .*gives .inf"),
    ],
)
def test_bad_input(change, message):
    arguments = dict(zip(("anchor", "positive", "negative"), rows(0), strict=True))
    arguments |= dict(level=1, max_level=4, min_margin=1.0) | change
    with pytest.raises(ValueError, match=message):
        level_triplet_loss(**arguments)
