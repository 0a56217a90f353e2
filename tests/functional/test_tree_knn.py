import pytest
import torch

from hierpretrain.functional import tree_knn as module
from hierpretrain.functional.classification import knn_classify
from hierpretrain.functional.tree_knn import tree_knn
from hierpretrain.taxonomy import PAD, Taxonomy
from tests.reference import tree_knn as reference

TREE = Taxonomy(
    [("animal", "cat", "siamese"), ("animal", "cat", "tabby"), ("animal", "dog"), ("food", "apple"), ("tool",)],
    ("kingdom", "kind", "breed"),
)


def random_labels(seed, number, several):
    """Label rows of random nodes of any depth, some of several places and some of none."""
    generator = torch.Generator().manual_seed(seed)
    nodes = [()]
    for level in (1, 2, 3):
        nodes += [TREE.decode([*row.tolist(), *[PAD] * (3 - level)]) for row in TREE.node_labels(level)]
    most = 3 if several else 1
    items = []
    for _ in range(number):
        chosen = torch.randint(
            len(nodes), (int(torch.randint(1, most + 1, (), generator=generator)),), generator=generator
        )
        items.append([nodes[i] for i in chosen.tolist()])
    return TREE.encode(items)


def assert_same(actual, expected):
    nodes, confidences = actual
    for on_path, shares, (wanted, wanted_shares) in zip(nodes.tolist(), confidences.tolist(), expected, strict=True):
        assert on_path == wanted + [PAD] * (len(on_path) - len(wanted))
        assert shares[: len(wanted)] == pytest.approx(wanted_shares, rel=0, abs=1e-12)
        assert shares[len(wanted) :] == [0] * (len(shares) - len(wanted))


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("temperature", [0.07, 1.0])
@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("entries", [1, 2**22])  # a query at a time, and all together
def test_equals_the_oracle(monkeypatch, several, temperature, seed, entries):
    monkeypatch.setattr(module, "_ENTRIES", entries)
    generator = torch.Generator().manual_seed(seed)
    labels = random_labels(seed, 30, several)
    rows = torch.stack([torch.randperm(30, generator=generator)[: 1 + 4 * seed] for _ in range(17)])
    similarities = 2 * torch.rand(rows.shape, generator=generator, dtype=torch.float64) - 1
    similarities = similarities.mul(4).round().div(4)  # equal votes are frequent
    expected = reference.tree_knn(similarities, rows, labels, temperature)
    actual = tree_knn(similarities, rows, labels, temperature=temperature)
    assert_same(actual, expected)
    assert (actual[1][:, :-1] >= actual[1][:, 1:]).all()


def test_by_hand():
    siamese, tabby, dog, tool = TREE.encode(
        [("animal", "cat", "siamese"), ("animal", "cat", "tabby"), ("animal", "dog"), ("tool",)]
    )
    labels = torch.stack([siamese, tabby, dog, tool])
    # weights 4 : 2 : 1 : 1 with exp(s / 1)
    similarities = torch.tensor([[4.0, 2.0, 1.0, 1.0]]).log()
    nodes, confidences = tree_knn(similarities, torch.tensor([[0, 1, 2, 3]]), labels, temperature=1.0)
    assert nodes.tolist() == [[0, 0, 0]]
    assert confidences[0].tolist() == pytest.approx([7 / 8, 6 / 8, 4 / 8])


def test_votes_that_hang_on_an_inner_node_are_lost_below_it():
    cat, tabby = TREE.encode([("animal", "cat"), ("animal", "cat", "tabby")])
    rows = torch.tensor([[0, 0, 0, 1], [0, 0, 0, 0]])
    nodes, confidences = tree_knn(torch.ones(2, 4), rows, torch.stack([cat, tabby]))
    assert nodes.tolist() == [[0, 0, 1], [0, 0, PAD]]
    assert confidences.tolist() == [[1, 1, 0.25], [1, 1, 0]]


def test_an_image_of_two_places_votes_for_both_and_once_for_what_they_share():
    labels = TREE.encode([[("animal", "cat", "tabby"), ("animal", "dog"), ("food", "apple")], ("tool",)])
    nodes, confidences = tree_knn(torch.ones(1, 2), torch.tensor([[0, 1]]), labels)
    assert nodes.tolist() == [[0, 0, 1]]  # of cat and dog, with equal votes, the smaller id
    assert confidences.tolist() == [[0.5, 0.5, 0.5]]


def test_ties_take_the_smaller_id_and_no_neighbour_has_no_vote():
    labels = TREE.encode([("tool",), ("food", "apple")])
    nodes, _ = tree_knn(torch.ones(1, 2), torch.tensor([[0, 1]]), labels)
    assert nodes.tolist() == [[1, 2, PAD]]  # food before tool
    nodes, confidences = tree_knn(torch.ones(2, 2), torch.tensor([[0, PAD], [PAD, PAD]]), labels)
    assert nodes.tolist() == [[2, PAD, PAD], [PAD] * 3]
    assert confidences.tolist() == [[1, 0, 0], [0, 0, 0]]


def test_on_one_level_it_is_the_vote_of_knn_classify():
    generator = torch.Generator().manual_seed(0)
    train, test = torch.randn(200, 6, generator=generator), torch.randn(40, 6, generator=generator)
    labels = torch.randint(7, (200,), generator=generator)
    train, test = (torch.nn.functional.normalize(rows) for rows in (train, test))
    similarities, rows = (test.double() @ train.double().T).topk(20)
    nodes, _ = tree_knn(similarities, rows, labels[:, None])
    assert nodes.equal(knn_classify(train, labels, test, neighbours=20, k=1))


def test_a_factor_of_all_weights_and_the_order_of_neighbours_do_not_matter():
    labels, rows = random_labels(0, 30, True), torch.arange(20).view(1, 20)
    similarities = torch.rand(1, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    nodes, confidences = tree_knn(similarities, rows, labels)
    for other in (tree_knn(similarities + 90, rows, labels), tree_knn(similarities.flip(1), rows.flip(1), labels)):
        assert other[0].equal(nodes)
        torch.testing.assert_close(other[1], confidences, rtol=0, atol=1e-12)


def test_a_tiny_temperature_leaves_the_vote_to_the_nearest():
    labels = TREE.encode([("tool",), ("animal", "dog"), ("animal", "dog")])
    nodes, confidences = tree_knn(
        torch.tensor([[0.9, 0.89, 0.88]]), torch.tensor([[0, 1, 2]]), labels, temperature=1e-9
    )
    assert (nodes.tolist(), confidences.tolist()) == ([[2, PAD, PAD]], [[1, 0, 0]])


@pytest.mark.parametrize("labels", [torch.zeros(3, 0, dtype=torch.int64), torch.zeros(3, 2, dtype=torch.int64)])
def test_no_level_and_no_query(labels):
    nodes, confidences = tree_knn(torch.ones(0, 2), torch.zeros(0, 2, dtype=torch.int64), labels)
    assert nodes.shape == confidences.shape == (0, labels.shape[1])
    assert (
        tree_knn(torch.ones(2, 1), torch.zeros(2, 1, dtype=torch.int64), labels)[0].tolist()
        == [[0] * labels.shape[1]] * 2
    )


def test_errors():
    labels, rows = torch.tensor([[0, 1]]), torch.tensor([[0]])
    with pytest.raises(
        ValueError, match=r"must both be \(Q, K\), K at least 1; their shapes are \(1, 2\) and \(1, 1\)"
    ):
        tree_knn(torch.ones(1, 2), rows, labels)
    with pytest.raises(ValueError, match=r"their shapes are \(1, 0\) and \(1, 0\)"):
        tree_knn(torch.ones(1, 0), rows[:, :0], labels)
    for temperature in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(ValueError, match=f"temperature must be above 0; it is {temperature}"):
            tree_knn(torch.ones(1, 1), rows, labels, temperature=temperature)
    with pytest.raises(ValueError, match=r"PAD \(-1\) only on the right; row 0 is \[-1, 1\]"):
        tree_knn(torch.ones(1, 1), rows, torch.tensor([[PAD, 1]]))
