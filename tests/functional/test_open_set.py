"""Answers about unknown classes: the right answers by names, grades and metrics by loops, AUROC by scikit-learn."""

import pytest
import torch
from sklearn.metrics import roc_auc_score

from hierpretrain.functional.calibration import expected_calibration_error
from hierpretrain.functional.open_set import (
    RIGHT,
    SHORT,
    WRONG,
    answer_metrics,
    correct_nodes,
    grade_answers,
    is_known,
    is_unknown,
    known_part,
    mistake_severities,
    unknown_auroc,
)
from hierpretrain.taxonomy import PAD, depth
from tests.functional.test_tree_knn import TREE, random_labels


def names(labels):
    """The places of each image."""
    rows = labels[:, None] if labels.ndim == 2 else labels
    return [[path for row in item if (path := TREE.decode(row))] for item in rows]


def prefixes(paths):
    return {path[:length] for path in paths for length in range(1, len(path) + 1)}


def answers(seed, several=True, number=60):
    """Paths of any length with falling confidences, how many nodes are named, and the truth."""
    generator = torch.Generator().manual_seed(seed)
    nodes = random_labels(seed, number, several=False)
    labels = random_labels(seed + 50, number, several)
    copied = torch.rand(number, generator=generator) < 0.5
    first = labels[:, 0] if labels.ndim == 3 else labels
    nodes = torch.where(copied[:, None], first, nodes)
    truth = known_part(labels, TREE.encode([("animal", "cat", "tabby"), ("food", "apple")]))
    confidences = torch.rand(nodes.shape, generator=generator, dtype=torch.float64).cumprod(1)
    confidences = confidences.masked_fill(nodes == PAD, 0)
    named = (torch.rand(number, generator=generator) * (depth(nodes) + 1)).long()
    return nodes, confidences, named, truth, depth(labels)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_known_part_is_the_longest_prefix_that_another_image_has(several, seed):
    labels, others = random_labels(seed, 40, several), random_labels(seed + 9, 3, several)
    known = prefixes([path for item in names(others) for path in item])
    cut = known_part(labels, others)
    rows = labels if several else labels[:, None]
    for item, row in zip(rows, cut, strict=True):
        for path, found in zip(item, row, strict=True):
            whole = TREE.decode(path)
            longest = max([whole[:n] for n in range(len(whole) + 1) if whole[:n] in known or n == 0], key=len)
            assert TREE.decode(found) == longest


def test_nothing_is_known_by_no_image():
    labels = random_labels(0, 10, several=False)
    assert (known_part(labels, labels[:0]) == PAD).all()
    assert known_part(labels, labels)[:, 0].equal(labels)


@pytest.mark.parametrize("seed", range(4))
def test_right_known_and_unknown_by_names(seed):
    nodes, _, _, truth, depths = answers(seed)
    right, known, unknown = correct_nodes(nodes, truth), is_known(truth), is_unknown(truth, depths)
    for row, places in enumerate(names(truth)):
        for level in range(3):
            path = TREE.decode(nodes[row])[: level + 1]
            assert bool(right[row, level]) == (len(path) == level + 1 and path in prefixes(places))
            deepest = max(map(len, places), default=0)
            assert bool(known[row, level]) == (deepest > level)
            assert bool(unknown[row, level]) == (deepest <= level and depths[row] > deepest)
    assert not (known & unknown).any()


@pytest.mark.parametrize("seed", range(4))
def test_metrics_equal_a_loop(seed):
    nodes, confidences, named, truth, depths = answers(seed)
    right, known, unknown = correct_nodes(nodes, truth), is_known(truth), is_unknown(truth, depths)
    for level, found in enumerate(answer_metrics(nodes, confidences, named, truth, depths)):
        rows = [
            (bool(right[i, level]), bool(known[i, level]), bool(unknown[i, level]), int(named[i]) > level)
            for i in range(len(nodes))
        ]
        of_known = [(ok, given) for ok, is_in, _, given in rows if is_in]
        assert found["accuracy"] == pytest.approx(sum(ok for ok, _ in of_known) / len(of_known))
        assert found["coverage"] == pytest.approx(sum(given for _, given in of_known) / len(of_known))
        assert found["recall"] == pytest.approx(sum(ok and given for ok, given in of_known) / len(of_known))
        of_named = [ok for ok, _, _, given in rows if given]
        assert found["precision"] == pytest.approx(sum(of_named) / len(of_named))
        of_unknown = [not given for _, _, is_out, given in rows if is_out]
        assert found["caught"] == pytest.approx(sum(of_unknown) / len(of_unknown))
        counts = (found["num_known"], found["num_unknown"], found["num_named"])
        assert counts == (len(of_known), len(of_unknown), len(of_named))
        some = known[:, level] | unknown[:, level]
        auroc = roc_auc_score(known[some, level].numpy(), confidences[some, level].numpy())
        assert found["auroc_unknown"] == pytest.approx(auroc)
        asked = nodes[:, level] != PAD
        assert found["ece"] == expected_calibration_error(confidences[asked, level], right[asked, level])


def test_what_there_is_none_of_has_no_fraction():
    nodes, truth = torch.tensor([[0, PAD]]), torch.tensor([[[0, PAD]]])
    metrics = answer_metrics(nodes, torch.tensor([[0.5, 0.0]]), torch.tensor([0]), truth, torch.tensor([1]))
    assert "precision" not in metrics[0]
    assert "caught" not in metrics[0]
    assert metrics[1] == {"num_known": 0, "num_unknown": 0, "num_named": 0}


def test_auroc_is_of_pairs_and_ties_count_half():
    scores, known = torch.tensor([0.9, 0.5, 0.5, 0.1]), torch.tensor([True, True, False, False])
    assert unknown_auroc(scores, known, ~known) == pytest.approx((1 + 1 + 0.5 + 1) / 4)
    assert unknown_auroc(scores, known, torch.zeros(4, dtype=torch.bool)) is None


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_grades_and_severities_by_names(several, seed):
    nodes, _, named, truth, _ = answers(seed, several)
    given = nodes.masked_fill(torch.arange(3) >= named[:, None], PAD)
    severities = iter(mistake_severities(given, truth, TREE).tolist())
    for row, grade in enumerate(grade_answers(given, truth).tolist()):
        path, places = TREE.decode(given[row]), names(truth)[row]
        if path in places or (not path and not places):
            assert grade == RIGHT
        elif not path or path in prefixes(places):
            assert grade == SHORT
        else:
            assert grade == WRONG
            heights = TREE.lca_heights(given[row : row + 1], truth[row])
            assert next(severities) == int(heights.amin())
    assert next(severities, None) is None


def test_the_order_of_images_and_the_numbers_of_nodes_do_not_matter():
    tables = answers(1)
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    shuffled = answer_metrics(*(table[order] for table in tables))
    nodes, confidences, named, truth, depths = tables
    renumbered = answer_metrics(
        torch.where(nodes == PAD, PAD, nodes + 7), confidences, named, torch.where(truth == PAD, PAD, truth + 7), depths
    )
    for ours, others, again in zip(answer_metrics(*tables), shuffled, renumbered, strict=True):
        assert ours == pytest.approx(others)
        assert ours == pytest.approx(again)


def test_confidences_may_require_a_gradient():
    scores, known = torch.tensor([0.9, 0.5, 0.7, 0.1], requires_grad=True), torch.tensor([True, True, False, False])
    assert unknown_auroc(scores, known, ~known) == 0.75
    nodes, depths = torch.zeros(4, 1, dtype=torch.int64), torch.ones(4, dtype=torch.int64)
    truth = torch.where(known, 0, PAD)[:, None, None]
    (found,) = answer_metrics(nodes, scores[:, None], depths, truth, depths)
    assert found["auroc_unknown"] == 0.75
