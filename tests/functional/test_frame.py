import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cosine_similarity, cross_entropy

from hierpretrain.functional import class_distances, haframe_losses, hierarchy_aware_frame
from hierpretrain.taxonomy import Taxonomy
from tests.conftest import random_labels

TREE = Taxonomy(
    [("a", "x", "0"), ("a", "x", "1"), ("a", "y", "2"), ("b", "z", "3"), ("b", "z", "4"), ("c", "w", "5")],
    ("one", "two", "three"),
)


def random_distances(seed):
    labels = random_labels(seed, rows=20, levels=4, branching=3, ragged=False)
    tree = Taxonomy([tuple(map(str, row)) for row in labels.tolist()], ("one", "two", "three", "four"))
    return class_distances(tree, -1)


@pytest.mark.parametrize("gamma", [0.1, 1.0, 5.0, 30.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_cosines_are_those_of_the_paper_with_the_least_m_there_is(seed, gamma):
    distances = random_distances(seed)
    frame = hierarchy_aware_frame(distances, gamma=gamma)
    cosines = frame @ frame.T
    torch.testing.assert_close(cosines.diagonal(), torch.ones(len(distances), dtype=torch.float64))

    decay = torch.exp(-gamma * distances.double() / distances.max())
    i, j = divmod(int(distances.argmax()), len(distances))  # two classes that are far apart give m away
    m = ((cosines - decay) / (1 - decay))[i, j]
    torch.testing.assert_close(cosines, (1 - m) * decay + m, rtol=0, atol=1e-10)
    # the eigenvalues that the paper's search looks at: 0 at m, below 0 right below it
    least = [np.linalg.eigvalsh(((1 - x) * decay + x).numpy())[0] for x in (m.item(), m.item() - 1e-3)]
    assert least[0] == pytest.approx(0, abs=1e-10)
    assert least[1] < -1e-8


def test_classes_of_a_flat_tree_are_a_simplex():
    frame = hierarchy_aware_frame(1 - torch.eye(5), gamma=2.0)
    torch.testing.assert_close(frame @ frame.T, (1.25 * torch.eye(5) - 0.25).double())
    opposite = hierarchy_aware_frame(torch.tensor([[0, 3], [3, 0]]), gamma=0.01)
    torch.testing.assert_close(opposite @ opposite.T, torch.tensor([[1.0, -1], [-1, 1]], dtype=torch.float64))


def test_nearer_classes_have_greater_cosines_and_equal_distances_equal_ones():
    distances = class_distances(TREE, -1)
    frame = hierarchy_aware_frame(distances, gamma=3.0)
    cosines = frame @ frame.T
    of_distance = [cosines[distances == d] for d in (1, 2, 3)]
    for values in of_distance:
        torch.testing.assert_close(values, values[:1].expand_as(values))
    assert of_distance[0][0] > of_distance[1][0] > of_distance[2][0]


def test_one_class_has_a_direction():
    assert hierarchy_aware_frame(torch.zeros(1, 1)).tolist() == [[1.0]]


def test_the_losses_are_those_of_the_loops():
    frame = hierarchy_aware_frame(class_distances(TREE, -1), gamma=2.0)
    items = torch.randn(4, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([0, 5, 2, 2])
    entropies, cosines = haframe_losses(items, labels, frame)
    torch.testing.assert_close(entropies, cross_entropy(items @ frame.T, labels, reduction="none"))
    for item, label, loss in zip(items, labels, cosines, strict=True):
        wanted = [frame[k] @ frame[label] for k in range(6)]
        found = [cosine_similarity(frame[k], item, dim=0) for k in range(6)]
        torch.testing.assert_close(loss, sum((a - b) ** 2 for a, b in zip(found, wanted, strict=True)))
    assert torch.autograd.gradcheck(lambda rows: haframe_losses(rows, labels, frame), items)


def test_the_cosine_loss_sees_no_length_and_is_0_on_the_direction():
    frame = hierarchy_aware_frame(class_distances(TREE, -1))
    _, cosines = haframe_losses(7 * frame, torch.arange(6), frame)
    torch.testing.assert_close(cosines, torch.zeros(6, dtype=torch.float64))
    entropies, _ = haframe_losses(1e6 * frame, torch.arange(6), frame)
    assert not entropies.any()
    zeros = torch.zeros(1, 6, dtype=torch.float64, requires_grad=True)
    entropies, cosines = haframe_losses(zeros, torch.tensor([1]), frame)
    assert entropies.item() == pytest.approx(math.log(6))
    (entropies + cosines).sum().backward()
    assert zeros.grad.isfinite().all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: hierarchy_aware_frame(torch.zeros(3, 3)), "above 0 between different classes; .*Are two classes one"),
        (lambda: hierarchy_aware_frame(torch.zeros(2, 3)), r"distances must be \(C, C\)"),
        (lambda: hierarchy_aware_frame(torch.zeros(0, 0)), r"distances must be \(C, C\)"),
        (lambda: hierarchy_aware_frame(torch.zeros(1, 1), gamma=0), "gamma must be above 0; it is 0"),
        (
            lambda: hierarchy_aware_frame(torch.tensor([[0.0, 0.1, 0.1], [0.1, 0.0, 5.0], [0.1, 5.0, 0.0]]), gamma=1.0),
            "with gamma 1.0 there are no directions .* take the distances of a tree",
        ),
        (
            lambda: haframe_losses(torch.zeros(2, 3), torch.zeros(2, dtype=torch.int64), torch.eye(4)),
            r"transformed must be \(N, C\), labels \(N,\) and frame \(C, C\)",
        ),
    ],
)
def test_bad_input_names_the_rule(make, message):
    with pytest.raises(ValueError, match=message):
        make()
