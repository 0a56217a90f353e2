"""Labels as tensors, arrays and lists of any integers, and embeddings as arrays: the value that int64 gives."""

import numpy as np
import pytest
import torch

from hierpretrain.datasets import HierarchicalBatchSampler
from hierpretrain.functional import (
    happier_loss,
    hierarchical_contrastive_loss,
    hierarchical_retrieval_metrics,
    level_triplet_loss,
    retrieval_metrics,
    supcon_loss,
    triplet_loss,
)
from hierpretrain.functional.search import nearest
from hierpretrain.taxonomy import Taxonomy, append_instances, as_labels, check_labels, prefix_ids, shared_depth

LABELS = torch.tensor([[0, 0], [0, 0], [0, 1], [1, 2], [1, 2], [1, 3]])
FEATURES = torch.nn.functional.normalize(torch.randn(6, 4, generator=torch.Generator().manual_seed(0)), dim=1)
KINDS = {
    "numpy": lambda labels: labels.numpy(),
    "lists": lambda labels: labels.tolist(),
    "big-endian": lambda labels: labels.numpy().astype(">i4"),
    "read-only": lambda labels: np.frombuffer(labels.numpy().tobytes(), np.int64).reshape(labels.shape),
    "turned round": lambda labels: np.ascontiguousarray(labels.numpy()[::-1])[::-1],
    "uint8": lambda labels: labels.byte(),
    **{
        f"torch {kind}": lambda labels, kind=kind: labels.to(getattr(torch, kind))
        for kind in ("int8", "uint16", "uint32")
    },
    **{
        f"numpy {kind}": lambda labels, kind=kind: labels.numpy().astype(kind) for kind in ("int16", "uint16", "uint64")
    },
}


class Data:
    def __init__(self, labels):
        self.labels = labels

    def __len__(self):
        return len(self.labels)


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_any_kind_give_one_value(kind):
    labels, classes = KINDS[kind](LABELS), KINDS[kind](LABELS[:, 1])
    assert torch.equal(as_labels(labels), LABELS)
    assert torch.equal(check_labels(labels), LABELS)
    assert torch.equal(prefix_ids(labels), LABELS)
    assert torch.equal(shared_depth(labels, labels), shared_depth(LABELS, LABELS))
    assert torch.equal(
        append_instances(labels, KINDS[kind](torch.arange(6))), append_instances(LABELS, torch.arange(6))
    )
    batches = list(HierarchicalBatchSampler(LABELS, batch_size=3, seed=0))
    assert list(HierarchicalBatchSampler(Data(labels), batch_size=3, seed=0)) == batches
    assert list(HierarchicalBatchSampler(labels, batch_size=3, seed=0)) == batches
    for loss in (hierarchical_contrastive_loss, happier_loss):
        assert loss(FEATURES, labels).item() == loss(FEATURES, LABELS).item()
    for loss in (supcon_loss, triplet_loss):
        assert loss(FEATURES, classes).item() == loss(FEATURES, LABELS[:, 1]).item()
    of_tensors, of_arrays = (FEATURES, LABELS[:, 1]) * 2, (FEATURES.numpy(), classes) * 2
    assert retrieval_metrics(*of_arrays, same_set=True) == retrieval_metrics(*of_tensors, same_set=True)
    of_tensors, of_arrays = (FEATURES, LABELS) * 2, (FEATURES.numpy(), labels) * 2
    assert hierarchical_retrieval_metrics(*of_arrays, same_set=True) == hierarchical_retrieval_metrics(
        *of_tensors, same_set=True
    )


def test_embeddings_may_be_arrays():
    for array in (FEATURES.numpy(), FEATURES.numpy().astype(">f8"), np.asfortranarray(FEATURES.numpy())):
        assert nearest(array, array, 2)[1].tolist() == nearest(FEATURES, FEATURES, 2)[1].tolist()


@pytest.mark.parametrize("kind", [torch.uint8, torch.uint16, np.uint8, np.uint16])
def test_the_largest_of_unsigned_integers_is_a_node(kind):
    largest = 255 if "8" in str(kind) else 65535
    labels = np.full((6, 2), largest)
    labels = torch.tensor(labels).to(kind) if isinstance(kind, torch.dtype) else labels.astype(kind)
    assert as_labels(labels).tolist() == [[largest] * 2] * 6
    same = torch.zeros(6, 2, dtype=torch.int64)
    assert (
        hierarchical_contrastive_loss(FEATURES, labels).item() == hierarchical_contrastive_loss(FEATURES, same).item()
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (np.array([[2**64 - 1]], np.uint64), "labels must be below 2"),
        (torch.tensor([[2**63]], dtype=torch.uint64), "labels must be below 2"),
        (np.array([[0.0, 1.0]]), "labels must be integers, .*they are float64"),
        ([[True, False]], "labels must be integers, .*they are bool"),
        ([["cat", "dog"]], "labels must be integers, .*they are <U3"),
        ([[0, None]], "labels must be integers, .*they are object"),
        ([[0, 1], [0]], "labels must be rows of one length, with PAD"),
        (np.array([[-1, 0]], np.int8), r"PAD \(-1\) only on the right; row 0 is \[-1, 0\]"),
    ],
)
def test_what_is_no_label_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        check_labels(wrong)


def test_nothing_is_no_error():
    assert as_labels([]).tolist() == []
    assert as_labels(np.empty((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("loss", [supcon_loss, triplet_loss])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (LABELS[:, 1].float(), "must be integers"),
        (LABELS[:, 1] > 0, "must be integers"),
        (LABELS[:, 1] - 2, "ids from 0"),
    ],
)
def test_classes_are_checked_alike(loss, wrong, message):
    with pytest.raises(ValueError, match=message):
        loss(FEATURES, wrong)


def test_a_tree_takes_arrays():
    tree = Taxonomy([("animal", "cat"), ("animal", "dog"), ("tool",)], ("kingdom", "kind"))
    labels = np.array([[0, 1], [1, -1]], np.int16)
    assert tree.check_own(labels).tolist() == [[0, 1], [1, -1]]
    assert tree.lca_heights(labels, labels).tolist() == [[0, 2], [2, 0]]


# ---------------------------------------------------------------- features of great norm, and none
@pytest.mark.parametrize("mining", ["hard", "all"])
@pytest.mark.parametrize("distance", ["squared", "euclidean"])
def test_the_distances_of_a_triplet_do_not_overflow_without_a_word(mining, distance):
    options = {"mining": mining, "distance": distance}
    with pytest.raises(ValueError, match=r"features must be shorter, or their squared .* longest is 1e\+20"):
        triplet_loss(torch.eye(6) * 1e20, LABELS[:, 1], **options)
    assert triplet_loss(torch.eye(6) * 1e18, LABELS[:, 1], **options).isfinite()
    assert triplet_loss(torch.eye(6, dtype=torch.float64) * 1e20, LABELS[:, 1], **options).isfinite()
    far = torch.eye(6) * 1e20
    with pytest.raises(ValueError, match="anchor, positive and negative must be shorter, or their squared"):
        level_triplet_loss(far[:2], far[2:4] * 0, -far[:2], level=1, max_level=2, min_margin=1.0)


def test_happier_of_no_image_is_0():
    features = torch.empty(0, 4, requires_grad=True)
    loss = happier_loss(features, LABELS[:0])
    loss.backward()
    assert loss.item() == 0
    assert features.grad.shape == (0, 4)
