import pytest
import torch
from torch.nn.functional import cross_entropy

from hierpretrain.functional import hierarchical_cross_entropy, soft_label_loss, soft_labels
from tests.reference import hierarchical_softmax as reference

# classes in no order of their parents; ids of the last column are unique within their parent only
ROWS = torch.tensor([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [0, 1, 1]])
LABELS = torch.tensor([0, 1, 2, 3, 4, 5, 0, 4])


def random_logits(seed):
    logits = 3 * torch.randn(8, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return logits.requires_grad_()


@pytest.mark.parametrize("alpha", [0.0, 0.1, 1.0, -0.5])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_hxe_is_that_of_the_sums_of_probabilities(alpha, levels):
    logits = random_logits(levels)
    rows = {1: torch.arange(6)[:, None], 2: ROWS[:, [0]] * 0 + ROWS[:, [0, 0]], 3: ROWS}[levels].clone()
    if levels == 2:
        rows[:, 1] = torch.arange(6)
    expected = [
        reference.hierarchical_cross_entropy(z, rows.tolist(), y, alpha)
        for z, y in zip(logits.tolist(), LABELS.tolist(), strict=True)
    ]
    actual = hierarchical_cross_entropy(logits, rows, LABELS, alpha=alpha)
    torch.testing.assert_close(actual, torch.tensor(expected, dtype=torch.float64))


def test_hxe_of_three_equal_classes():
    # p(parent of the first two) = 2/3, p(each | it) = 1/2; weights at alpha = log 2 are 2 (1/2, 1/4) / (3/4) = 4/3, 2/3
    rows = torch.tensor([[0, 0], [0, 1], [1, 2]])
    alpha = torch.tensor(2.0, dtype=torch.float64).log().item()
    loss = hierarchical_cross_entropy(torch.zeros(2, 3, dtype=torch.float64), rows, torch.tensor([1, 2]), alpha=alpha)
    log = torch.tensor([1.5, 2.0, 3.0], dtype=torch.float64).log()
    torch.testing.assert_close(loss, torch.stack([4 / 3 * log[0] + 2 / 3 * log[1], 4 / 3 * log[2]]))


def test_hxe_with_alpha_zero_or_one_level_is_cross_entropy_with_its_gradient():
    logits = random_logits(0)
    expected = torch.autograd.grad(cross_entropy(logits, LABELS), logits)
    for rows, alpha in ((ROWS, 0.0), (torch.arange(6)[:, None], 2.0)):
        loss = hierarchical_cross_entropy(logits, rows, LABELS, alpha=alpha).mean()
        torch.testing.assert_close(loss, cross_entropy(logits, LABELS))
        torch.testing.assert_close(torch.autograd.grad(loss, logits), expected)


def test_hxe_has_the_gradient_of_finite_differences():
    logits = random_logits(2)
    assert torch.autograd.gradcheck(lambda z: hierarchical_cross_entropy(z, ROWS, LABELS, alpha=0.5), logits)


def test_hxe_of_hopeless_classes_is_large_and_not_lost():
    # exp(-2000) is 0 in every float: the first class's parent is lost to the other, and the class to its sibling
    rows = torch.tensor([[0, 0], [0, 1], [1, 2]])
    logits = torch.tensor([[-3000.0, -1000.0, 1000.0]], requires_grad=True)
    loss = hierarchical_cross_entropy(logits, rows, torch.tensor([0]), alpha=0.0)
    assert loss.item() == 4000
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[-1.0, 0.0, 1.0]]))


def test_hxe_prefers_a_mistake_within_the_parent():
    near, far = torch.tensor([[0.0, 9.0, 0.0]]), torch.tensor([[0.0, 0.0, 9.0]])
    rows = torch.tensor([[0, 0], [0, 1], [1, 2]])
    losses = [hierarchical_cross_entropy(z, rows, torch.tensor([0]), alpha=0.5).item() for z in (near, far)]
    assert losses[0] < losses[1]
    torch.testing.assert_close(cross_entropy(near, torch.tensor([0])), cross_entropy(far, torch.tensor([0])))


@pytest.mark.parametrize("beta", [0.0, 1.0, 7.0])
def test_soft_labels_and_their_loss_are_those_of_the_loops(beta):
    distances = torch.tensor([[0, 1, 3], [1, 0, 3], [3, 3, 0]])
    expected = reference.soft_labels(distances.tolist(), beta)
    targets = soft_labels(distances.double(), beta=beta)
    torch.testing.assert_close(targets, torch.tensor(expected, dtype=torch.float64))
    torch.testing.assert_close(soft_labels(distances, beta=beta), targets.float())
    part = soft_labels(distances[:1].double(), beta=beta, max_distance=3)  # of fewer classes than the largest is among
    torch.testing.assert_close(part, targets[:1])
    halved = soft_labels(distances.double(), beta=beta, max_distance=6)
    torch.testing.assert_close(halved, soft_labels(distances.double(), beta=beta / 2))
    logits = torch.randn(3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    losses = [reference.soft_label_loss(z, y) for z, y in zip(logits.tolist(), expected, strict=True)]
    torch.testing.assert_close(soft_label_loss(logits, targets), torch.tensor(losses, dtype=torch.float64))


def test_sharp_soft_labels_are_cross_entropy():
    logits = random_logits(4)
    targets = soft_labels(1.0 - torch.eye(6, dtype=torch.float64), beta=1000.0)[LABELS]
    torch.testing.assert_close(soft_label_loss(logits, targets).mean(), cross_entropy(logits, LABELS))


def test_soft_labels_of_one_class():
    assert soft_labels(torch.zeros(1, 1), beta=3.0).tolist() == [[1.0]]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: soft_labels(torch.zeros(1, 1), beta=-1), "beta must be finite and not below 0; it is -1"),
        (lambda: soft_labels(-torch.ones(1, 1), beta=1), "distances must be finite and not below 0"),
        (lambda: soft_label_loss(torch.zeros(1, 2), torch.zeros(2, 2)), r"both be \(N, C\); they are \(1, 2\) and"),
        (
            lambda: soft_label_loss(torch.zeros(1, 2), torch.ones(1, 2).long()),
            "targets must be floating-point; .*int64",
        ),
        (lambda: hxe(alpha=float("inf")), "alpha must be finite; it is inf"),
        (lambda: hxe(rows=ROWS[[0, 0, 1]]), "class_labels must be a different label row for every class"),
        (lambda: hxe(rows=ROWS), r"logits are \(1, 3\), there are 6 classes"),
        (lambda: hxe(labels=torch.tensor([3])), "labels must be classes from 0 to 2; they go from 3 to 3"),
        (lambda: hxe(labels=torch.tensor([-1])), "they go from -1 to -1. Leave out items without a class"),
    ],
)
def test_bad_input_names_the_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def hxe(rows=ROWS[:3], labels=torch.tensor([0]), alpha=0.1):  # noqa: B008  never changed
    return hierarchical_cross_entropy(torch.zeros(1, 3), rows, labels, alpha=alpha)
