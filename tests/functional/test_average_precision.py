import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, precision_score

from hierpretrain.functional import average_precision_metrics
from hierpretrain.taxonomy import PAD
from tests.reference import classification as reference


def random_case(seed, images=40, classes=6, ties=True, dtype=torch.float64):
    """Scores, a few values of which repeat, and classes of which the last has few images."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(images, classes, generator=generator, dtype=dtype)
    scores = (scores * 2).round() / 2 if ties else scores
    return scores, (torch.rand(images, generator=generator) ** 2 * classes).long()


def test_by_hand():
    # class 0 ranks its images 1 and 3 of 4; class 1 its own 1 and, together with a wrong one, 3; no image is of class 2
    scores = torch.tensor([[0.9, 0.3, 0.1], [0.8, 0.7, 0.1], [0.7, 0.3, 0.1], [0.1, 0.3, 0.9]])
    metrics, by_class = average_precision_metrics(scores, torch.tensor([0, 1, 0, 1]))
    first = (1 / 1 + 2 / 3) / 2
    second = 1 / 2 * 1 / 1 + 1 / 2 * 2 / 4  # the other three are equal: one threshold, at rank 4
    assert by_class == pytest.approx({0: first, 1: second})
    # in one ranking: 0.9 right, 0.9 wrong; 0.8; 0.7 right, 0.7 right; 0.3 three times, one right; 0.1 four times
    micro = 1 / 4 * 1 / 2 + 2 / 4 * 3 / 5 + 1 / 4 * 4 / 8
    expected = dict(map=(first + second) / 2, map_images=(first + second) / 2, map_micro=micro)
    # predicted are 0, 0, 0 and 2: class 0 is right twice of three times, class 1 is never predicted
    expected |= dict(precision=(2 / 3 + 0) / 2, accuracy=2 / 4, num_classes=2, num_empty_classes=1)
    assert metrics == pytest.approx(expected | dict(num_unscored_classes=0, num_items=4, num_left_out=0))


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_single_classes_equal_the_oracle_and_scikit_learn(seed, ties):
    scores, targets = random_case(seed, ties=ties)
    metrics, by_class = average_precision_metrics(scores, targets)
    expected, expected_by_class = reference.average_precision(scores, [{t} for t in targets.tolist()], range(6))
    assert metrics == pytest.approx(expected)
    assert by_class == pytest.approx(expected_by_class)

    present = sorted(by_class)
    wanted = torch.nn.functional.one_hot(targets, 6).numpy()
    theirs = [average_precision_score(wanted[:, c], scores[:, c].numpy()) for c in present]
    assert [by_class[c] for c in present] == pytest.approx(theirs)
    own = wanted[:, present], scores.numpy()[:, present]
    assert metrics["map"] == pytest.approx(average_precision_score(*own, average="macro"))
    assert metrics["map_images"] == pytest.approx(average_precision_score(*own, average="weighted"))
    assert metrics["map_micro"] == pytest.approx(average_precision_score(wanted, scores.numpy(), average="micro"))
    options = dict(labels=present, average="macro", zero_division=0)
    assert metrics["precision"] == pytest.approx(precision_score(targets, scores.numpy().argmax(1), **options))


@pytest.mark.parametrize("seed", range(4))
def test_several_classes_equal_the_oracle_and_scikit_learn(seed):
    scores, _ = random_case(seed)
    targets = torch.rand(scores.shape, generator=torch.Generator().manual_seed(seed)) < 0.3
    targets[:, 4] = False
    known = targets.any(1).numpy()
    assert 0 < known.sum() < len(known)
    metrics, by_class = average_precision_metrics(scores, targets)
    sets = [set(row.nonzero()[:, 0].tolist()) for row in targets]
    expected, expected_by_class = reference.average_precision(scores, sets, range(6))
    assert metrics == pytest.approx(expected)
    assert by_class == pytest.approx(expected_by_class)
    assert (metrics["num_empty_classes"], metrics["num_left_out"]) == (1, int((~known).sum()))

    present = [0, 1, 2, 3, 5]
    own = targets.numpy()[known][:, present], scores.numpy()[known][:, present]
    assert metrics["map"] == pytest.approx(average_precision_score(*own, average="macro"))
    assert metrics["map_images"] == pytest.approx(average_precision_score(*own, average="weighted"))
    sides = targets.numpy()[known].ravel(), scores.numpy()[known].ravel()
    assert metrics["map_micro"] == pytest.approx(average_precision_score(*sides))
    assert average_precision_metrics(scores, targets.int()) == (metrics, by_class)


def test_a_class_without_a_column_counts_with_its_share_of_the_images():
    scores, targets = random_case(0)
    classes = torch.tensor([30, 10, 50, 20, 40, 60])
    ids = classes[targets]
    ids[:7], ids[7:9] = 15, 99
    metrics, by_class = average_precision_metrics(scores, ids, classes)
    expected, expected_by_class = reference.average_precision(scores, [{i} for i in ids.tolist()], classes.tolist())
    assert metrics == pytest.approx(expected)
    assert by_class == pytest.approx(expected_by_class)
    assert (by_class[15], by_class[99]) == pytest.approx((7 / 40, 2 / 40))
    assert metrics["num_unscored_classes"] == 2
    # as if the columns were there, all of one lowest score
    scores = torch.cat([scores, torch.full((40, 2), -1e9)], 1)
    as_if = average_precision_metrics(scores, ids, torch.cat([classes, torch.tensor([99, 15])]))
    assert as_if == (metrics | {"num_unscored_classes": 0}, by_class)


def test_images_without_a_class_are_left_out_and_counted():
    scores, targets = random_case(1)
    expected, by_class = average_precision_metrics(scores[5:], targets[5:])
    targets[:5] = PAD
    assert average_precision_metrics(scores, targets) == (expected | {"num_left_out": 5}, by_class)


def test_one_hot_targets_are_single_classes():
    scores, targets = random_case(2)
    targets[:5] = PAD
    wanted = targets[:, None] == torch.arange(6)
    assert average_precision_metrics(scores, wanted) == average_precision_metrics(scores, targets)


def test_order_and_names_and_scale_do_not_matter():
    scores, targets = random_case(3)
    expected, by_class = average_precision_metrics(scores, targets)
    rows = torch.randperm(40, generator=torch.Generator().manual_seed(0))
    assert average_precision_metrics(scores[rows], targets[rows])[0] == pytest.approx(expected)
    names = torch.tensor([2**40, 7, 2**62, 0, 3, 2**40 + 1])
    metrics, renamed = average_precision_metrics(scores, names[targets], names)
    assert metrics == pytest.approx(expected)
    assert renamed == {int(names[c]): value for c, value in by_class.items()}
    assert list(renamed) == sorted(renamed)
    assert average_precision_metrics(scores.exp(), targets) == (expected, by_class)


def test_the_best_and_the_worst_order_and_no_order():
    wanted = torch.tensor([0, 0, 1, 2])
    scores = torch.nn.functional.one_hot(wanted, 3).float()
    best, by_class = average_precision_metrics(scores, wanted)
    assert [best[name] for name in ("map", "map_images", "map_micro", "precision", "accuracy")] == [1.0] * 5
    assert by_class == {0: 1.0, 1: 1.0, 2: 1.0}
    # equal scores say nothing: AP is the share of the class, and the first column is predicted
    none, by_class = average_precision_metrics(torch.zeros(4, 3), wanted)
    assert by_class == {0: 2 / 4, 1: 1 / 4, 2: 1 / 4}
    assert none["map_images"] == pytest.approx((2 * 2 / 4 + 1 / 4 + 1 / 4) / 4)
    assert none["map_micro"] == pytest.approx(4 / 12)
    assert (none["precision"], none["accuracy"]) == (pytest.approx(2 / 4 / 3), 2 / 4)
    worst, by_class = average_precision_metrics(-scores, wanted)
    assert by_class == pytest.approx({0: 2 / 4, 1: 1 / 4, 2: 1 / 4})  # one threshold again, below that of the others
    assert worst["accuracy"] == 0


def test_classes_with_more_images_weigh_more_in_the_mean_over_images():
    scores = torch.tensor([[3.0, 0.0], [2.0, 0.0], [1.0, 2.0], [0.0, 1.0]])
    metrics, by_class = average_precision_metrics(scores, torch.tensor([0, 0, 0, 1]))
    assert by_class == {0: 1.0, 1: 1 / 2}
    assert metrics["map"] == pytest.approx((1 + 1 / 2) / 2)
    assert metrics["map_images"] == pytest.approx((3 * 1 + 1 / 2) / 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_any_float_dtype_and_more_scores_than_a_block(dtype, monkeypatch):
    scores, targets = random_case(4, dtype=torch.float32)
    scores = scores.to(dtype)
    expected = average_precision_metrics(scores.double(), targets)
    monkeypatch.setattr("hierpretrain.functional.average_precision._BLOCK", 7)
    assert average_precision_metrics(scores.requires_grad_(), targets) == expected


def test_scores_that_differ_in_double_only_differ():
    scores = torch.tensor([[1.0], [1.0 - 1e-12], [1.0 - 2e-12]], dtype=torch.float64)
    assert average_precision_metrics(scores, torch.tensor([0, 9, 0]))[1][0] == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision_metrics(scores.float(), torch.tensor([0, 9, 0]))[1][0] == pytest.approx(2 / 3)


SCORES = torch.eye(4)
IDS = torch.tensor([0, 1, 0, PAD])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(scores=SCORES[0]), r"scores must be \(Q, C\), a row per image and a column per class; .* is \(4,\)"),
        (dict(scores=SCORES[:, :0]), r"scores must be \(Q, C\).*their shape is \(4, 0\)"),
        (dict(scores=SCORES.long()), "scores must be floating-point; they are torch.int64"),
        (dict(scores=SCORES / 0), "scores must be finite; row 0 is not"),
        (dict(targets=IDS[:3]), r"targets must be \(4,\)"),
        (dict(targets=IDS - 3), "targets must be ids from 0, or PAD"),
        (dict(targets=torch.full((4,), PAD)), "at least one image must have a class; none of 4 has"),
        (dict(targets=torch.zeros(4, 4, dtype=torch.bool)), "at least one image must have a class; none of 4 has"),
        (dict(targets=SCORES[:, :3].bool()), r"targets of several classes must be \(4, 4\).*shape is \(4, 3\)"),
        (dict(targets=SCORES), r"booleans, or integers 0 and 1; pass \(targets > 0\)"),
        (dict(targets=SCORES.long() * 2), "booleans, or integers 0 and 1"),
        (dict(classes=torch.arange(3)), r"classes must be \(4,\) integers, .* they are \(3,\) torch.int64"),
        (dict(classes=SCORES[0]), r"classes must be \(4,\) integers, .* they are \(4,\) torch.float32"),
        (dict(classes=torch.tensor([0, 1, 5, 5])), "classes must be different ids from 0; id 5 is not"),
        (dict(classes=torch.tensor([0, 1, 2, PAD])), "classes must be different ids from 0; id -1 is not"),
    ],
)
def test_wrong_arguments(changes, message):
    with pytest.raises(ValueError, match=message):
        average_precision_metrics(**dict(scores=SCORES, targets=IDS, classes=torch.arange(4)) | changes)


def test_results_are_plain_numbers():
    metrics, by_class = average_precision_metrics(SCORES, IDS)
    assert all(type(value) in (int, float) for value in [*metrics.values(), *by_class.values(), *by_class])
    assert np.isfinite(list(metrics.values())).all()
