import pytest
import torch
from sklearn.metrics import roc_auc_score

from hierpretrain.functional import hierarchy_violations
from hierpretrain.taxonomy import PAD, shared_depth
from tests.conftest import random_labels
from tests.functional.test_hierarchical_retrieval import random_rows
from tests.functional.test_ranking import WAYS, choose
from tests.functional.test_retrieval import FAN
from tests.reference import hierarchy as reference
from tests.reference.paths import other_order, random_paths


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("levels", [1, 2, 4])
@pytest.mark.parametrize("way", WAYS)
def test_equals_the_oracle(monkeypatch, ties, ragged, levels, way):
    choose(monkeypatch, way)
    embeddings, labels = random_rows(levels, 18, ties), random_labels(levels, 18, levels, ragged=ragged)
    metrics = hierarchy_violations(embeddings, labels)
    expected = reference.hierarchy_violations(embeddings, labels)
    assert list(metrics) == list(expected)
    assert metrics == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("seed", range(4))
def test_several_paths_equal_the_oracle(seed):
    embeddings, labels = random_rows(seed, 16, seed == 0), random_paths(seed, 16, branching=3)
    expected = reference.hierarchy_violations(embeddings, labels)
    for given in (labels, other_order(labels, seed)):
        assert hierarchy_violations(embeddings, given) == pytest.approx(expected, abs=1e-12)


def test_a_hybrid_belongs_between_its_classes():
    labels = torch.tensor([[[0], [PAD]], [[0], [1]], [[1], [PAD]]])  # a cat, a hybrid, a dog: of no triple the anchor
    for degrees, violated in (((10, 12, 20), 0.0), ((10, 0, 15), 1.0), ((0, 5, 10), 0.0), ((10, 0, 25), 0.5)):
        angles = torch.tensor(degrees).deg2rad()
        metrics = hierarchy_violations(torch.stack([angles.cos(), angles.sin()], 1), labels)
        assert metrics == {"violations@1": violated, "num_triples": 0, "num_anchors": 3}


def test_by_hand():
    angles = torch.tensor([0.0, 10, 25, 45, 70]).deg2rad()
    labels = torch.tensor([[0, 0], [0, 1], [0, 0], [1, 2], [0, 0]])  # cat, dog, cat, tool, cat
    metrics = hierarchy_violations(torch.stack([angles.cos(), angles.sin()], 1), labels)
    assert metrics == pytest.approx(
        {
            # the other two cats against the dog: from the cat at 0 and the one at 25, both are behind it; from that at
            # 70, one; the dog has no closer relative
            "violations": (2 + 2 + 1) / 6,
            # the three animals against the tool, from the animals at 0, 10, 25 and 70
            "violations@1": (1 + 1 + 2 + 3) / 12,
            # the two cats against dog and tool, from the cats at 0, 25 and 70
            "violations@2": (3 + 4 + 3) / 12,
            "num_triples": 6,
            "num_anchors": 5,
        }
    )


def test_a_tree_in_the_embedding_has_none_and_its_reverse_has_all():
    # two axes per level, the coarser the longer: similarity grows with the shared depth
    labels = torch.tensor([[i // 4, i // 2, i] for i in range(8)]).repeat(2, 1)
    weights = torch.tensor([3.0, 2.0, 1.0])
    axes = torch.cat([w * torch.eye(8)[labels[:, level]] for level, w in enumerate(weights)], 1)
    metrics = hierarchy_violations(axes, labels)
    names = ["violations", "violations@1", "violations@2", "violations@3"]
    assert [metrics[name] for name in names] == [0] * 4
    # a metric of -similarity: rows whose products are those of the closest made smallest
    products = (shared_depth(labels, labels) == 0).float() + 0.5 * (shared_depth(labels, labels) == 1).float()
    values, vectors = torch.linalg.eigh(products.double() + 10 * torch.eye(16, dtype=torch.float64))
    reverse = hierarchy_violations(vectors * values.sqrt(), labels)
    assert reverse["violations@1"] == 1
    assert reverse["violations@2"] == 1


def test_equal_embeddings_violate_half():
    metrics = hierarchy_violations(torch.ones(12, 4), random_labels(1))
    assert {value for name, value in metrics.items() if name.startswith("violations")} == {0.5}
    # 0 has two signs in float32; they tie as well
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    assert hierarchy_violations(rows, torch.tensor([[0], [0], [1]]), max_anchors=9)["violations@1"] == pytest.approx(
        (0.5 + 0) / 2  # from the first, a tie; from the second, 0 before -1
    )


def test_boundaries_are_1_minus_the_auc_weighted_by_triples():
    embeddings, labels = random_rows(5, 40), random_labels(5, 40, ragged=False)
    unit = torch.nn.functional.normalize(embeddings.double())
    similarity, shared = unit @ unit.T, shared_depth(labels, labels)
    metrics = hierarchy_violations(embeddings, labels)
    for level in (1, 2, 3):
        total = weight = 0
        for i in range(40):
            others = torch.arange(40) != i
            relevant = (shared[i] >= level)[others]
            if relevant.any() and not relevant.all():
                triples = int(relevant.sum() * (~relevant).sum())
                total += triples * (1 - roc_auc_score(relevant, similarity[i, others]))
                weight += triples
        assert metrics[f"violations@{level}"] == pytest.approx(total / weight)


def test_anchors_are_drawn_among_labelled_items_by_the_seed():
    embeddings, labels = random_rows(6, 30), random_labels(6, 30)
    labels[:10] = PAD  # no anchors, but they are among the items that an anchor ranks
    few = hierarchy_violations(embeddings, labels, max_anchors=4, seed=3)
    assert few == hierarchy_violations(embeddings, labels, max_anchors=4, seed=3)
    assert few["num_anchors"] == 4
    singles = [reference.hierarchy_violations(embeddings, labels, [i]) for i in range(30) if labels[i, 0] != PAD]
    assert few["num_triples"] <= sum(sorted(single["num_triples"] for single in singles)[-4:])
    assert len({hierarchy_violations(embeddings, labels, max_anchors=4, seed=s)["violations@1"] for s in range(8)}) > 1
    everything = hierarchy_violations(embeddings, labels, max_anchors=len(singles))
    assert everything == hierarchy_violations(embeddings, labels, seed=9)
    assert everything["num_anchors"] == len(singles)


def test_shares_of_no_triples_are_left_out():
    assert list(hierarchy_violations(FAN, torch.tensor([[0], [0], [1], [1], [1]]))) == [
        "violations@1",
        "num_triples",
        "num_anchors",
    ]
    one_parent = hierarchy_violations(FAN, torch.tensor([[0, 0], [0, 0], [0, 1], [0, 1], [0, 1]]))
    assert "violations@1" not in one_parent
    assert one_parent["violations"] == one_parent["violations@2"]


def test_invariances():
    embeddings, labels = random_rows(7, 25), random_labels(7, 25)
    expected = hierarchy_violations(embeddings, labels)
    names, order = torch.randperm(2) + 2**24, torch.randperm(25)
    renamed = torch.where(labels == PAD, PAD, names[labels])
    assert hierarchy_violations(embeddings, renamed) == expected
    assert hierarchy_violations(embeddings[order] * 2.0 ** torch.randint(-60, 60, (25, 1)), labels[order]) == expected
    rotation = torch.linalg.qr(random_rows(8, 8))[0]
    assert hierarchy_violations(embeddings @ rotation, labels) == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(embeddings=FAN * torch.nan), "embeddings must be finite; row 0 is not"),
        (dict(labels=torch.zeros(4, 2, dtype=int)), r"labels must be \(5, L\)"),
        (dict(labels=torch.zeros(5, 2)), "labels must be integers"),
        (
            dict(labels=torch.zeros(5, 2, dtype=int)),
            "violations need an anchor with two other items.*none of 5 anchors",
        ),
        (dict(labels=torch.full((5, 2), PAD)), "none of 0 anchors"),
        (dict(max_anchors=0), "max_anchors must be at least 1; it is 0"),
    ],
)
def test_malformed_input(changes, message):
    arguments = dict(embeddings=FAN, labels=torch.tensor([[0, 0], [0, 0], [0, 1], [1, PAD], [PAD, PAD]]))
    with pytest.raises(ValueError, match=message):
        hierarchy_violations(**(arguments | changes))
