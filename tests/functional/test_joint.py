"""The cross entropies of all levels, against loops, closed forms and torch."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from hierpretrain.functional import level_cross_entropies
from hierpretrain.functional.joint import node_counts, node_weights
from hierpretrain.taxonomy import PAD
from tests.reference import joint as reference

SIZES = [3, 5, 7]


def random_logits(seed, rows=9):
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(rows, size, dtype=torch.float64, generator=generator) for size in SIZES]


def labels_of(seed, paths=1, rows=9):
    """Random node ids that end anywhere; some items have no node at all."""
    generator = torch.Generator().manual_seed(seed)
    columns = [torch.randint(size, (rows, paths), generator=generator) for size in SIZES]
    labels = torch.stack(columns, -1)
    ends = torch.randint(len(SIZES) + 1, (rows, paths, 1), generator=generator)
    labels = labels.masked_fill(torch.arange(len(SIZES)) >= ends, PAD)
    return labels[:, 0] if paths == 1 else labels


@pytest.mark.parametrize("paths", [1, 3])
@pytest.mark.parametrize("options", [{}, dict(label_smoothing=0.3), dict(balance=1.0), dict(balance=0.5)])
@pytest.mark.parametrize("known", ["all", "some"])
def test_losses_are_the_sums_of_the_definition(known, options, paths):
    logits, labels = random_logits(0), labels_of(1, paths)
    counts = [torch.arange(1.0, size + 1) for size in SIZES] if known == "all" else node_counts(labels[:6], SIZES)
    assert known == "all" or any((of_level == 0).any() for of_level in counts)
    expected = reference.level_cross_entropies(
        [of_level.tolist() for of_level in logits], labels.tolist(), [c.tolist() for c in counts], **options
    )
    found = level_cross_entropies(logits, labels, counts=counts, **options)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    if known == "all" and "balance" not in options:
        torch.testing.assert_close(level_cross_entropies(logits, labels, **options), found)


def test_counts_are_sums_of_the_targets():
    labels = labels_of(2, paths=3)
    for found, expected in zip(node_counts(labels, SIZES), reference.node_counts(labels.tolist(), SIZES), strict=True):
        torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))
    first = node_counts(labels[:, 0], SIZES)
    assert [counts.tolist() for counts in first] == reference.node_counts(labels[:, 0].tolist(), SIZES)


def test_logits_that_are_all_alike_give_the_log_of_the_number_of_known_nodes():
    labels = torch.tensor([[0, 1, 2], [2, PAD, PAD], [1, 3, PAD]])
    zeros = [torch.zeros(3, size, dtype=torch.float64) for size in SIZES]
    torch.testing.assert_close(level_cross_entropies(zeros, labels), torch.tensor(SIZES).double().log())
    counts = [torch.tensor([2, 1, 1]), torch.tensor([0, 1, 0, 5, 0]), torch.tensor([0, 0, 4, 0, 0, 0, 0])]
    expected = torch.tensor([3.0, 2.0, 1.0], dtype=torch.float64).log()
    torch.testing.assert_close(level_cross_entropies(zeros, labels, counts=counts), expected)
    # with the whole adjustment they give minus the log of the node's part of the training
    balanced = level_cross_entropies(zeros, labels, counts=counts, balance=1.0)
    by_hand = -torch.tensor([0.5, 0.25, 0.25]).log().mean(), -torch.tensor([1 / 6, 5 / 6]).log().mean(), 0.0
    torch.testing.assert_close(balanced, torch.tensor(by_hand, dtype=torch.float64), atol=1e-6, rtol=0)


def test_of_one_path_it_is_the_cross_entropy_of_torch():
    logits, labels = random_logits(3), labels_of(4)
    found = level_cross_entropies(logits, labels, label_smoothing=0.2)
    for level, scores in enumerate(logits):
        expected = cross_entropy(scores, labels[:, level], ignore_index=PAD, label_smoothing=0.2)
        torch.testing.assert_close(found[level], expected)


def test_unknown_nodes_might_as_well_not_exist():
    logits, labels = random_logits(5), labels_of(6)
    counts = node_counts(labels, SIZES)
    expected = level_cross_entropies(logits, labels, counts=counts)
    for scores, of_level in zip(logits, counts, strict=True):
        scores[:, of_level == 0] = 1e6
    torch.testing.assert_close(level_cross_entropies(logits, labels, counts=counts), expected)


def test_an_item_of_unknown_nodes_alone_takes_no_part():
    logits, labels = [scores[:2] for scores in random_logits(7)], torch.tensor([[0, 1, 2], [0, 4, 6]])
    counts = [torch.tensor([2, 1, 1]), torch.tensor([1, 1, 1, 1, 0]), torch.tensor([1, 1, 1, 0, 0, 0, 0])]
    found = level_cross_entropies(logits, labels, counts=counts)
    alone = level_cross_entropies([scores[:1] for scores in logits], labels[:1], counts=counts)
    torch.testing.assert_close(found[1:], alone[1:])
    nothing = [torch.zeros(size) for size in SIZES]
    assert level_cross_entropies(logits, labels, counts=nothing).tolist() == [0.0, 0.0, 0.0]


def test_the_order_of_paths_and_items_and_absent_paths_do_not_matter():
    logits, labels = random_logits(8), labels_of(9, paths=3)
    expected = level_cross_entropies(logits, labels)
    more = torch.cat([torch.full_like(labels[:, :1], PAD), labels.flip(1), labels[:, :1]], 1)
    torch.testing.assert_close(level_cross_entropies(logits, more), expected)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(level_cross_entropies([scores[order] for scores in logits], labels[order]), expected)


@pytest.mark.parametrize("options", [{}, dict(label_smoothing=0.3, balance=0.7)])
@pytest.mark.parametrize("paths", [1, 3])
def test_gradients_are_those_of_finite_differences(paths, options):
    labels = labels_of(10, paths)
    counts = node_counts(labels, SIZES)
    logits = [scores.requires_grad_() for scores in random_logits(11)]
    function = lambda *scores: level_cross_entropies(scores, labels, counts=counts, **options)  # noqa: E731
    assert torch.autograd.gradcheck(function, logits)


def test_a_batch_without_a_labelled_item_costs_nothing_and_has_gradients():
    logits = [scores.requires_grad_() for scores in random_logits(12)]
    losses = level_cross_entropies(logits, torch.full((9, 3), PAD))
    assert losses.tolist() == [0.0, 0.0, 0.0]
    losses.sum().backward()
    assert all(torch.equal(scores.grad, torch.zeros_like(scores)) for scores in logits)
    empty = level_cross_entropies([torch.zeros(0, size) for size in SIZES], torch.zeros(0, 3, dtype=torch.int64))
    assert empty.tolist() == [0.0, 0.0, 0.0]


def test_half_precision_is_computed_in_float32():
    logits, labels = [scores.half() for scores in random_logits(13)], labels_of(14)
    found = level_cross_entropies(logits, labels)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, level_cross_entropies([scores.float() for scores in logits], labels))


def test_a_node_that_two_paths_share_counts_once():
    assert node_weights(torch.tensor([[1, 1, 0], [PAD, PAD, PAD]])).tolist() == [[0.5, 0, 0.5], [0, 0, 0]]
    known = torch.tensor([False, True])
    assert node_weights(torch.tensor([[1, 1, 0], [0, PAD, PAD]]), known).tolist() == [[1, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(label_smoothing=2), "label_smoothing must be in 0 to 1; it is 2"),
        (dict(balance=-1), "balance must be finite and not below 0; it is -1"),
        (dict(balance=1), "balance needs counts, the items that each node has in training"),
        (dict(labels=torch.zeros(9, 2, dtype=torch.int64)), r"one column for each of the 3 levels; .* \(9, 2\)"),
        (dict(labels=torch.zeros(8, 3, dtype=torch.int64)), r"one row for each of the 9 items .* \(8, 3\)"),
        (dict(labels=torch.full((9, 3), 4)), "level 1 has 3 nodes, but a label is node 4; the tree of these labels"),
        (dict(logits=[scores * torch.nan for scores in random_logits(0)]), "the cross entropy of every item must be"),
    ],
)
def test_bad_input_names_the_rule(change, message):
    arguments = dict(logits=random_logits(0), labels=torch.zeros(9, 3, dtype=torch.int64)) | change
    with pytest.raises(ValueError, match=message):
        level_cross_entropies(**arguments)
