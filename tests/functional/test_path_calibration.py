"""Calibrated answers of a vote: on a made world whose probabilities are known; thresholds against loops; messages."""

import pytest
import torch

from hierpretrain.functional.open_set import answer_metrics, correct_nodes, is_known, known_part
from hierpretrain.functional.path_calibration import (
    answer_paths,
    calibrate_paths,
    check_goal,
    choose_thresholds,
    num_named,
)
from hierpretrain.functional.search import nearest
from hierpretrain.functional.selective import false_alarm_threshold
from hierpretrain.taxonomy import PAD, depth

LABELS = torch.tensor([[node // 4, node] for node in range(16)])  # four branches of four leaves


def world(seed, number, unknown=0.2, spread=0.9):
    """Images around the centre of their leaf; the leaves of the last branch, and each fourth leaf, are unknown."""
    centres = torch.randn(4, 16, generator=torch.Generator().manual_seed(0))[LABELS[:, 0]]
    centres = centres + 0.7 * torch.randn(16, 16, generator=torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(seed)
    hidden = (LABELS[:, 0] == 3) | (LABELS[:, 1] % 4 == 3)
    weights = torch.where(hidden, unknown / hidden.sum(), (1 - unknown) / (~hidden).sum())
    leaves = torch.multinomial(weights, number, replacement=True, generator=generator)
    return centres[leaves] + spread * torch.randn(number, 16, generator=generator), LABELS[leaves]


@pytest.fixture(scope="module")
def made():
    """The neighbours of held-out and of test images among known ones, and what is right."""
    gallery, labels = world(2, 400, unknown=0)
    sets = {}
    for name, seed in (("held_out", 3), ("test", 4)):
        images, their_labels = world(seed, 4000)
        truth = known_part(their_labels, labels)
        sets[name] = (*nearest(images, gallery, 20), truth, depth(their_labels))
    return labels, sets


@pytest.mark.parametrize("goal", [{"precision": 0.9}, {"false_alarms": 0.1}])
def test_confidences_and_thresholds_hold_on_other_images(made, goal):
    labels, sets = made
    similarities, indices, truth, _ = sets["held_out"]
    calibration, _, _ = calibrate_paths(similarities, indices, labels, truth, **goal)
    similarities, indices, truth, depths = sets["test"]
    nodes, confidences, named = answer_paths(similarities, indices, labels, calibration)
    assert (confidences.diff(dim=1) <= 0).all()
    above = torch.ones(len(nodes), dtype=torch.bool)
    for level, found in enumerate(answer_metrics(nodes, confidences, named, truth, depths)):
        assert found["ece"] < 0.03
        assert found["auroc_unknown"] > 0.7
        if "precision" in goal:
            assert found["precision"] > 0.89
            assert found["coverage"] > 0.3
        else:
            known = is_known(truth)[:, level] & above
            alarms = float((named[known] <= level).double().mean())
            assert alarms == pytest.approx(0.1, abs=0.02)
        above &= named > level


def test_a_calibration_without_unknown_images_is_too_sure_of_them(made):
    labels, sets = made
    similarities, indices, truth, _ = sets["held_out"]
    known = is_known(truth)[:, 1]
    calibration, _, _ = calibrate_paths(similarities[known], indices[known], labels, truth[known], precision=0.9)
    similarities, indices, truth, depths = sets["test"]
    answers = answer_paths(similarities, indices, labels, calibration)
    assert answer_metrics(*answers, truth, depths)[1]["ece"] > 0.05


@pytest.mark.parametrize("goal", [{"precision": 0.8}, {"false_alarms": 0.2}])
def test_the_order_of_held_out_images_hardly_matters(made, goal):
    labels, sets = made
    similarities, indices, truth, _ = sets["held_out"]
    order = torch.randperm(len(truth), generator=torch.Generator().manual_seed(0))
    first, _, _ = calibrate_paths(similarities, indices, labels, truth, **goal)
    again, _, _ = calibrate_paths(similarities[order], indices[order], labels, truth[order], **goal)
    assert first.temperature == again.temperature
    for ours, theirs in zip(first.coefficients, again.coefficients, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-2)
    assert first.thresholds == pytest.approx(again.thresholds, abs=0.02)  # folds are drawn by position


def test_equal_input_gives_equal_bits(made):
    labels, sets = made
    similarities, indices, truth, _ = sets["held_out"]
    options = dict(precision=0.9, temperatures=(0.07,))
    first, *_ = calibrate_paths(similarities, indices, labels, truth, **options)
    assert first == calibrate_paths(similarities, indices, labels, truth, **options)[0]


def test_a_level_whose_names_are_never_sure_enough_ends_all_paths():
    nodes, confidences = torch.zeros(200, 3, dtype=torch.int64), torch.full((200, 3), 0.5)
    truth = torch.tensor([[[0, 0, 0]], [[0, PAD, PAD]]]).repeat(100, 1, 1)
    thresholds = choose_thresholds(confidences, nodes, truth, precision=0.9, false_alarms=None)
    assert thresholds == (0.5, None, None)
    assert num_named(confidences, nodes, thresholds).tolist() == [1] * 200


def test_precision_is_among_the_images_that_are_named_above():
    """Half of the images are not sure enough at the first level, and these alone are wrong at the second."""
    confidences = torch.tensor([[0.9, 0.4], [0.3, 0.3]]).repeat(100, 1)
    truth = torch.tensor([[[0, 0]], [[PAD, PAD]]]).repeat(100, 1, 1)
    nodes = torch.zeros(200, 2, dtype=torch.int64)
    assert correct_nodes(nodes, truth).double().mean() == 0.5
    assert choose_thresholds(confidences, nodes, truth, precision=0.95, false_alarms=None) == pytest.approx((0.9, 0.4))


def test_errors():
    for goal in ({"precision": None, "false_alarms": None}, {"precision": 0.9, "false_alarms": 0.1}):
        with pytest.raises(ValueError, match="give either a precision or a rate of false alarms, and not both"):
            check_goal(**goal)
    with pytest.raises(ValueError, match="precision must be above 0 and below 1; it is 95"):
        check_goal(95, None)
    with pytest.raises(ValueError, match="false_alarms must be above 0 and below 1; it is 0"):
        check_goal(None, 0)


def test_a_path_that_has_ended_is_not_among_the_images_that_are_named_above():
    nodes = torch.tensor([[0, PAD, PAD]] * 10 + [[0, 1, 2]] * 90)
    truth = torch.tensor([[[0, 1, 2]]]).repeat(100, 1, 1)
    confidences = torch.ones(100, 3, dtype=torch.float64)
    confidences[:10, 1:] = 0
    confidences[10:, 2] = torch.linspace(0.5, 1, 90, dtype=torch.float64)
    found = choose_thresholds(confidences, nodes, truth, precision=None, false_alarms=0.05)
    assert found == (1.0, 0.0, false_alarm_threshold(confidences[10:, 2], 0.05))
    assert found[2] > 0.5
    assert num_named(confidences, nodes, found)[:10].tolist() == [1] * 10
