import pytest
import torch

from hierpretrain.functional import class_distances, mistake_metrics, mistakes
from hierpretrain.taxonomy import PAD, Taxonomy
from tests.memory import LargestTensor
from tests.reference import hierarchy as reference

# six classes in three pairs: 1 to the sibling, 2 to the other two of the half, 3 to the rest
PATHS = [(0, 0, 0), (0, 0, 1), (0, 1, 2), (0, 1, 3), (1, 2, 4), (1, 2, 5)]
SIX = torch.tensor([[reference.lca_height(a, b, PATHS) for b in PATHS] for a in PATHS], dtype=torch.float64)


def random_case(seed, items=20, classes=6, k=6):
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.rand(items, classes, generator=generator).argsort(1)[:, :k]
    labels = torch.randint(PAD, classes, (items,), generator=generator)
    cost = torch.rand(classes, classes, generator=generator, dtype=torch.float64)  # not even symmetric
    return predicted, labels, cost.fill_diagonal_(0)


def test_class_distances_are_heights_in_the_tree_cut_at_the_level(tree):
    assert class_distances(tree, "kingdom").tolist() == [[0, 1, 1], [1, 0, 1], [1, 1, 0]]
    # cat, dog, fruit: the breeds below cat do not count
    assert class_distances(tree, 2).tolist() == [[0, 1, 2], [1, 0, 2], [2, 2, 0]]
    assert class_distances(tree, -1).tolist() == [[0, 1, 3, 3], [1, 0, 3, 3], [3, 3, 0, 1], [3, 3, 1, 0]]
    assert class_distances(tree, 3).dtype == torch.int16
    breeds = tree.node_labels("breed")
    assert class_distances(tree, "breed").tolist() == tree.lca_heights(breeds, breeds).tolist()
    with pytest.raises(ValueError, match="no level 'colour'"):
        class_distances(tree, "colour")


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("tree_like", [False, True])
@pytest.mark.parametrize("block", [1, 14, 1 << 20])  # one class at a time, two, all
def test_equals_the_oracle(monkeypatch, seed, tree_like, block):
    monkeypatch.setattr(mistakes, "_BLOCK", block)
    predicted, labels, distances = random_case(seed)
    distances = SIX if tree_like else distances
    metrics = mistake_metrics(predicted, labels, distances, ks=(1, 2, 6))
    expected = reference.mistake_metrics(predicted, labels, distances, ks=(1, 2, 6))
    assert list(metrics) == list(expected)
    assert metrics == pytest.approx(expected, abs=1e-12)
    assert all(-1e-12 <= metrics[f"{name}@{k}"] <= 1 + 1e-12 for name in ("hier_precision", "hmap") for k in (1, 2, 6))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int64, torch.float16, torch.float32])
def test_distances_may_have_any_type(dtype):
    predicted, labels, _ = random_case(0)
    assert mistake_metrics(predicted, labels, SIX.to(dtype), ks=(1, 5)) == mistake_metrics(
        predicted, labels, SIX, ks=(1, 5)
    )
    wrong = SIX > 0
    assert mistake_metrics(predicted, labels, wrong, ks=[3]) == mistake_metrics(
        predicted, labels, wrong.double(), ks=[3]
    )


def test_memory_beside_the_distances_is_far_below_their_square(monkeypatch):
    monkeypatch.setattr(mistakes, "_BLOCK", 1000)
    tree = Taxonomy([(str(i % 7), str(i)) for i in range(200)], ("coarse", "fine"))
    with LargestTensor() as made:
        distances = class_distances(tree, "fine")
    assert made.numel == 200 * 200  # the distances themselves
    assert distances.equal(tree.lca_heights(tree.node_labels(2), tree.node_labels(2)).short())
    labels = torch.arange(200)
    predicted = (labels[:, None] + torch.arange(5)) % 200
    with LargestTensor() as made:
        mistake_metrics(predicted, labels, distances, ks=(1, 5))
    assert made.numel == 1000


def test_a_k_given_twice_counts_once():
    case = random_case(1)
    assert mistake_metrics(*case, ks=(2, 1, 2, 1)) == mistake_metrics(*case, ks=(2, 1))


def test_by_hand():
    # class 0: its sibling first, then itself; class 4: itself, then its sibling; an item without a label
    metrics = mistake_metrics(torch.tensor([[1, 0], [4, 5], [0, 1]]), torch.tensor([0, 4, PAD]), SIX, ks=(1, 2))
    assert metrics == pytest.approx(
        {
            "hier_dist@1": 1 / 2,
            "best_hier_dist@1": 1 / 2,
            "hier_precision@1": (2 / 3 + 1) / 2,
            "hmap@1": (2 / 3 + 1) / 2,
            "hier_dist@2": 1 / 2,
            "best_hier_dist@2": 0,
            "hier_precision@2": 1,
            "hmap@2": (5 / 6 + 1) / 2,
            "mistake_severity": 1,
            "num_mistakes": 1,
            "num_items": 2,
        }
    )


@pytest.mark.parametrize("batch", [1, 3, 6, 12])
def test_a_perfect_ranking_has_precision_1_in_a_batch_of_any_size(batch):
    # the released code, with the distances of all classes in the denominator: 0.5, 1 and 2 for 3, 6 and 12 items
    labels = torch.arange(12)[:batch] % 6
    metrics = mistake_metrics(SIX.argsort(dim=1, stable=True)[labels], labels, SIX, ks=(1, 2, 3, 6))
    values = [metrics[f"{name}@{k}"] for name in ("hier_precision", "hmap") for k in (1, 2, 3, 6)]
    assert values == pytest.approx([1] * 8)
    reverse = mistake_metrics(SIX.argsort(dim=1, descending=True)[labels], labels, SIX, ks=(1, 2))
    assert (reverse["hier_precision@1"], reverse["hmap@2"]) == (0, 0)


@pytest.mark.parametrize("size", [1, 3, 7])
def test_batches_of_any_size_add_up_to_the_whole(size):
    predicted, labels, distances = random_case(3)
    labels = labels.clamp(min=0)
    whole = mistake_metrics(predicted, labels, distances, ks=(1, 5))
    parts = [
        mistake_metrics(p, y, distances, ks=(1, 5))
        for p, y in zip(predicted.split(size), labels.split(size), strict=True)
    ]
    assert sum(part["num_mistakes"] for part in parts) == whole["num_mistakes"]
    severity = sum(part["mistake_severity"] * part["num_mistakes"] for part in parts) / whole["num_mistakes"]
    assert severity == pytest.approx(whole["mistake_severity"])
    for name in ("hier_dist@1", "hier_dist@5", "best_hier_dist@5"):
        assert sum(part[name] * part["num_items"] for part in parts) / 20 == pytest.approx(whole[name])


def test_no_mistake_at_all_is_0_and_counted():
    for distances in (SIX, torch.zeros(6, 6)):  # all classes one: there is nothing to mistake
        metrics = mistake_metrics(torch.arange(6)[:, None], torch.arange(6), distances, ks=[1])
        assert (metrics["mistake_severity"], metrics["num_mistakes"], metrics["num_items"]) == (0.0, 0, 6)
        assert (metrics["hier_dist@1"], metrics["hier_precision@1"]) == (0, 1)
        assert type(metrics["num_mistakes"]) is int
    metrics = mistake_metrics(torch.tensor([[0]]), torch.tensor([0]), torch.zeros(1, 1), ks=[1])
    assert metrics["hmap@1"] == 1


def test_names_of_classes_and_the_order_of_items_do_not_matter():
    predicted, labels, distances = random_case(4)
    expected = mistake_metrics(predicted, labels, distances, ks=(1, 3))
    names, items = torch.randperm(6), torch.randperm(20)
    renamed = torch.empty_like(distances)
    renamed[names[:, None], names] = distances
    labels = torch.where(labels == PAD, PAD, names[labels])
    assert mistake_metrics(names[predicted][items], labels[items], renamed, ks=(1, 3)) == pytest.approx(expected)
    assert mistake_metrics(names[predicted].int(), labels.short(), renamed * 7, ks=(1, 3))[
        "hier_precision@3"
    ] == pytest.approx(expected["hier_precision@3"])  # the unit of the distances cancels


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(distances=torch.zeros(2, 3)), r"distances must be \(C, C\).*their shape is \(2, 3\)"),
        (dict(distances=torch.zeros(0, 0)), r"distances must be \(C, C\)"),
        (dict(distances=torch.tensor([[0, -1.0], [1, 0]])), "finite and from 0; from class 0 to 1 it is -1.0"),
        (dict(distances=torch.tensor([[0, 1], [torch.nan, 0]])), "finite and from 0; from class 1 to 0 it is nan"),
        (dict(distances=torch.ones(6, 6)), "distances must be 0 from a class to itself; for class 0 it is 1.0"),
        (dict(predicted=torch.tensor([0, 1])), r"predicted must be \(N, K\).*its shape is \(2,\)"),
        (dict(predicted=torch.rand(2, 3)), r"predicted must be class ids.*float32; pass scores.topk\(k\).indices"),
        (
            dict(predicted=torch.tensor([[0, 1], [6, 2]])),
            "predicted must be classes of the distances, 0 to 5; row 1 has 6",
        ),
        (dict(predicted=torch.tensor([[0, PAD], [1, 2]])), "predicted must be classes.*row 0 has -1"),
        (
            dict(predicted=torch.tensor([[0, 1], [2, 2]])),
            "predicted must name a class once per item; row 1 has class 2",
        ),
        (dict(labels=torch.tensor([0, 6])), "labels must be classes of the distances, 0 to 5; row 1 has 6"),
        (dict(labels=torch.tensor([0])), r"labels must be \(2,\)"),
        (dict(labels=torch.tensor([PAD, PAD])), "at least one item must have a label; none of 2 has"),
        (dict(ks=(1, 3)), "every k of ks must be 1 to 2, the predictions per item; 3 is not"),
        (dict(ks=(0,)), "every k of ks must be a whole number of at least 1; 0 is not"),
    ],
)
def test_malformed_input(changes, message):
    arguments = dict(predicted=torch.tensor([[0, 1], [1, 2]]), labels=torch.tensor([0, PAD]), distances=SIX, ks=(1, 2))
    with pytest.raises(ValueError, match=message):
        mistake_metrics(**(arguments | changes))
