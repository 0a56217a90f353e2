import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from hierpretrain.functional import accuracy, knn_classify, linear_probe, linear_scores
from hierpretrain.taxonomy import PAD
from tests.reference import classification as reference


def random_set(seed, rows, classes, dim=8, noise=1.0, pad=0.1):
    """Rows around one centre a class, the same centres whatever the seed; some labels are PAD."""
    centres = torch.randn(classes, dim, generator=torch.Generator().manual_seed(classes))
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(classes, (rows,), generator=generator)
    features = centres[labels] + noise * torch.randn(rows, dim, generator=generator)
    labels[torch.rand(rows, generator=generator) < pad] = PAD
    return features, labels


@pytest.fixture(scope="module")
def digits():
    features, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    train, test = order[:1000], order[1000:]
    return features[train].float(), labels[train], features[test].float(), labels[test]


# ---------------------------------------------------------------- linear probe
def predicted(logits, k):
    return np.argsort(-logits, axis=1, kind="stable")[:, :k].tolist()


@pytest.mark.parametrize(("epochs", "weight_decay"), [(1, 0.0), (1, 5.0), (30, 0.0), (30, 0.01)])
def test_full_batches_equal_the_gradient_steps_by_hand(epochs, weight_decay):
    train, labels = random_set(0, 60, 7, pad=0)
    test, _ = random_set(1, 200, 7)
    options = dict(epochs=epochs, lr=3.0, weight_decay=weight_decay)
    logits = reference.softmax_regression(train, labels, test, **options)
    assert linear_probe(train, labels, test, batch_size=60, k=7, **options).tolist() == predicted(logits, 7)


def test_one_step_by_hand():
    train, labels = torch.tensor([[1.0, 4.0], [1.0, 4.0], [4.0, 4.0], [4.0, 4.0]]), torch.tensor([5, 5, 2, 2])
    # from equal scores, one step ranks by the side of the mean, 2.5; the other coordinate, a constant, has no say
    test = torch.tensor([[2.4, 9.0], [2.6, -9.0]])
    assert linear_probe(train, labels, test, epochs=1, k=1).tolist() == [[5], [2]]
    # A third row of class 5: the mean is 2.2, the deviation 1.470, and rows of 5 and 2 are scaled to -0.577 and 0.866.
    # The step adds 0.346 to 2's weight and -0.346 to 5's, 0.1 to 5's bias and -0.1 to 2's: they are equal at 0.289
    # scaled, 2.8.
    train, labels = torch.cat([train, train[:1]]), torch.cat([labels, labels[:1]])
    test = torch.tensor([[2.79, 0.0], [2.81, 0.0]])
    assert linear_probe(train, labels, test, epochs=1, k=1).tolist() == [[5], [2]]


def test_separable_classes_are_all_found():
    train, labels = random_set(2, 400, 10, dim=16, noise=0.1)
    test, test_labels = random_set(3, 300, 10, dim=16, noise=0.1)
    metrics = accuracy(linear_probe(train, labels, test), test_labels, ks=(1,))
    assert metrics["top1"] == 1.0
    assert metrics["num_left_out"] == int((test_labels == PAD).sum()) > 0


@pytest.mark.parametrize("unit", [False, True])
def test_digits_are_within_a_point_of_logistic_regression(unit):
    rows, labels = (torch.from_numpy(array) for array in load_digits(return_X_y=True))
    rows = torch.nn.functional.normalize(rows) if unit else rows
    ours, theirs = [], []
    for train, test in StratifiedKFold(4, shuffle=True, random_state=0).split(rows, labels):
        ours.append(accuracy(linear_probe(rows[train], labels[train], rows[test]), labels[test]))
        scaler = StandardScaler().fit(rows[train])
        model = LogisticRegression(max_iter=1000).fit(scaler.transform(rows[train]), labels[train])
        theirs.append(model.score(scaler.transform(rows[test]), labels[test]))
    assert abs(np.mean([metrics["top1"] for metrics in ours]) - np.mean(theirs)) < 0.01
    assert np.mean([metrics["top5"] for metrics in ours]) > 0.99


def test_seeds_and_surroundings(digits):
    train, labels, test, _ = digits
    train, labels = train[:300], labels[:300]
    expected = linear_probe(train, labels, test, epochs=2, k=10)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    with torch.no_grad():
        assert torch.equal(linear_probe(train, labels, test, epochs=2, k=10), expected)
    with torch.inference_mode():
        inside = linear_probe(train * 1, labels * 1, test * 1, epochs=2, k=10)
    assert torch.equal(inside, expected)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(linear_probe(train.requires_grad_(), labels, test, epochs=2, k=10), expected)
    assert not torch.equal(linear_probe(train, labels, test, epochs=2, k=10, seed=1), expected)


def test_pad_rows_are_left_out():
    (train, labels), (test, _) = random_set(4, 90, 5, pad=0.3), random_set(5, 50, 5)
    known = labels != PAD
    expected = linear_probe(train[known], labels[known], test, epochs=3)
    assert torch.equal(linear_probe(train, labels, test, epochs=3), expected)


def test_scale_shift_and_kind_of_the_features_do_not_matter():
    (train, labels), (test, _) = random_set(6, 120, 6), random_set(7, 80, 6)
    train, test = ((100 * rows).round() for rows in (train, test))  # integers, so that float16 has no rounding
    expected = linear_probe(train, labels, test, k=1)
    stretch = 2.0 ** torch.arange(-10, 6)[:8] * torch.tensor([1.0, -1.0] * 4)
    for change in (
        lambda rows: rows.double(),
        lambda rows: rows.half(),
        lambda rows: rows * 2.0**-100,
        lambda rows: rows * 2.0**100,
        lambda rows: rows * stretch + 8 * stretch,
    ):
        assert torch.equal(linear_probe(change(train), labels, change(test), k=1), expected)


def test_a_constant_coordinate_says_nothing():
    (train, labels), (test, _) = random_set(8, 120, 6), random_set(9, 80, 6)
    train = torch.cat([train, torch.full((120, 1), 0.1)], 1)
    expected = linear_probe(train, labels, torch.cat([test, torch.full((80, 1), 0.1)], 1), k=6)
    assert torch.equal(linear_probe(train, labels, torch.cat([test, torch.full((80, 1), 99.0)], 1), k=6), expected)


def test_labels_may_be_renamed():
    (train, labels), (test, _) = random_set(10, 120, 6), random_set(11, 80, 6)
    expected = linear_probe(train, labels, test, k=6)
    names = torch.tensor([2**24, 2**24 + 1, 2**40, 2**40 + 1, 2**40 + 2, 2**62])  # in order: the same bits
    renamed = torch.where(labels == PAD, PAD, names[labels])
    assert torch.equal(linear_probe(train, renamed, test, k=6), names[expected])
    names = torch.tensor([3, 0, 17, 5, 1, 2])  # in another order: rounding may differ, the ranks do not here
    renamed = torch.where(labels == PAD, PAD, names[labels])
    assert torch.equal(linear_probe(train, renamed, test, k=6), names[expected])


def test_order_of_the_rows_matters_to_batches_alone():
    (train, labels), (test, _) = random_set(12, 100, 6), random_set(13, 80, 6)
    order = torch.randperm(100, generator=torch.Generator().manual_seed(0))
    whole = [linear_probe(train[i], labels[i], test, batch_size=100, k=1) for i in (torch.arange(100), order)]
    assert torch.equal(*whole)
    order = torch.randperm(80, generator=torch.Generator().manual_seed(0))
    assert torch.equal(linear_probe(train, labels, test[order], batch_size=100, k=1), whole[0][order])


def test_fewer_classes_than_k():
    train = torch.eye(3)
    assert linear_probe(train, torch.tensor([4, 9, PAD]), train[:1]).tolist() == [[4, 9]]
    assert linear_probe(train, torch.tensor([4, 4, 4]), train).tolist() == [[4]] * 3
    assert linear_probe(train[:1], torch.tensor([4]), train).tolist() == [[4]] * 3


# ---------------------------------------------------------------- the scores of a linear layer
def test_the_layer_of_the_probe_is_the_one_that_scores():
    (train, labels), (test, _) = random_set(16, 150, 6), random_set(17, 80, 6)
    recipe = dict(optimizer="sgd", epochs=5, batch_size=32, lr=10.0, weight_decay=1e-5, cosine=True, scaling="length")
    scores, classes = linear_scores(train, labels, test, seed=3, **recipe)
    best = linear_probe(train, labels, test, epochs=5, batch_size=32, seed=3, k=6)
    assert torch.equal(classes[scores.argsort(1, descending=True)], best)
    torch.testing.assert_close(scores.sum(1), torch.ones(80, dtype=torch.float64))


@pytest.mark.parametrize(("epochs", "weight_decay"), [(1, 0.0), (20, 0.0), (20, 0.5)])
def test_adam_equals_the_steps_by_hand(epochs, weight_decay):
    # 59 rows: a class with a fifth of the rows has a gradient of 0, whose rounding Adam would blow up to a whole step
    (train, labels), (test, _) = random_set(18, 59, 5, pad=0), random_set(19, 40, 5)
    options = dict(epochs=epochs, lr=0.05, weight_decay=weight_decay)
    scores, classes = linear_scores(train, labels, test, batch_size=59, **options)
    logits = reference.adam_regression(train, labels, test, **options)
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(scores.numpy(), expected, atol=2e-5)
    assert classes.tolist() == list(range(5))


def test_the_rate_is_constant_or_falls_along_half_a_cosine():
    # Two rows of opposite classes and no scaling: the weight's gradient is p - 1 times the row, from p = 1/2. Plain
    # steps with the momentum's first two: w1 = lr_0 / 2, w2 = w1 + lr_1 (0.9 / 2 + 1 - p(w1)).
    train, labels, test = torch.tensor([[1.0], [-1.0]]), torch.tensor([1, 0]), torch.tensor([[1.0]])
    for cosine, rates in ((False, (0.5, 0.5)), (True, (0.5, 0.25))):
        weight = rates[0] * 0.5
        weight += rates[1] * (0.9 * 0.5 + 1 - 1 / (1 + np.exp(-2 * weight)))
        options = dict(optimizer="sgd", epochs=2, batch_size=2, lr=0.5, cosine=cosine, scaling="none")
        scores, _ = linear_scores(train, labels, test, **options)
        assert scores[0, 1].item() == pytest.approx(1 / (1 + np.exp(-2 * weight)), abs=1e-6)


def test_scaling():
    (train, labels), (test, _) = random_set(20, 120, 4), random_set(21, 60, 4)
    moved = [rows * 2.0**-6 + 3 for rows in (train, test)]
    expected = linear_scores(train, labels, test)[0]
    torch.testing.assert_close(linear_scores(moved[0], labels, moved[1])[0], expected, atol=1e-4, rtol=0)
    mean, deviation = train[labels != PAD].mean(0), train[labels != PAD].std(0, correction=0)
    for scaling, scale in (("deviation", deviation), ("length", deviation * 8**0.5)):
        by_hand = [(rows - mean) / scale for rows in (train, test)]
        plain = linear_scores(by_hand[0], labels, by_hand[1], scaling="none")[0]
        scaled = linear_scores(train, labels, test, scaling=scaling)[0]
        torch.testing.assert_close(scaled, plain, atol=1e-5, rtol=0)
    assert not torch.allclose(scaled, expected, atol=1e-2)


def test_the_recipe_of_four_epochs_learns_from_unit_rows():
    train, labels = random_set(22, 1500, 10, dim=64, noise=3.0)
    test, test_labels = random_set(23, 1000, 10, dim=64, noise=3.0)
    train, test = (torch.nn.functional.normalize(rows + 5) for rows in (train, test))  # as after a ReLU, not around 0

    def share(**changes):
        scores, _ = linear_scores(train, labels, test, **changes)
        return accuracy(scores.argmax(1, keepdim=True), test_labels, ks=(1,))["top1"]

    best = share(epochs=40, lr=1e-2, cosine=True)
    assert share() > best - 0.02
    assert share(scaling="none") < best - 0.1


def test_sure_scores_keep_their_order():
    # one coordinate, learned until the logits are far apart: float32 probabilities of the last three would all be 1
    train, labels = torch.tensor([[-1.0], [1.0]]), torch.tensor([0, 1])
    test = torch.tensor([[1.0], [9.0], [9.5], [10.0]])
    scores, _ = linear_scores(train, labels, test, epochs=200, lr=0.01)
    assert (scores[:, 1].diff() > 0).all()
    assert (scores[1:, 1].float() == 1).all()


def test_seed_pad_and_surroundings_of_scores():
    (train, labels), (test, _) = random_set(24, 200, 5, pad=0.3), random_set(25, 30, 5)
    labels = torch.where(labels == PAD, PAD, labels * 3 + 2)
    expected, classes = linear_scores(train, labels, test, seed=1)
    assert classes.tolist() == [2, 5, 8, 11, 14]
    assert expected.dtype == torch.float64
    known = labels != PAD
    assert torch.equal(linear_scores(train[known], labels[known], test, seed=1)[0], expected)
    with torch.inference_mode():
        assert torch.equal(linear_scores(train * 1, labels, test * 1, seed=1)[0], expected)
    assert not linear_scores(train.clone().requires_grad_(), labels, test, seed=1)[0].requires_grad
    assert not torch.equal(linear_scores(train, labels, test, seed=2)[0], expected)


# ---------------------------------------------------------------- nearest neighbours
@pytest.mark.parametrize("neighbours", [1, 4, 20, 500])
@pytest.mark.parametrize("temperature", [0.003, 0.07, 10.0])
@pytest.mark.parametrize("classes", [1, 4, 30])
def test_votes_equal_the_oracle(neighbours, temperature, classes):
    (train, labels), (test, _) = random_set(14, 70, classes), random_set(15, 30, classes)
    options = dict(neighbours=neighbours, temperature=temperature, k=6)
    actual = knn_classify(train, labels, test, **options)
    assert actual.tolist() == reference.knn_classify(train, labels, test, **options)
    assert actual.dtype == torch.int64


def test_votes_by_hand():
    angles = torch.tensor([0.0, 10, 20, 30, 60]).deg2rad()
    train = torch.stack([angles.cos(), angles.sin()], 1)
    labels = torch.tensor([8, 3, 3, 5, PAD])
    query = torch.tensor([[2.0, 0.0]])
    # at a low temperature the nearest decides: exp(1/t) against exp(.985/t) + exp(.940/t); at a high one their number
    assert knn_classify(train, labels, query, temperature=0.01).tolist() == [[8, 3, 5]]
    assert knn_classify(train, labels, query, temperature=1.0).tolist() == [[3, 8, 5]]
    assert knn_classify(train, labels, query, temperature=1.0, neighbours=3).tolist() == [[3, 8, PAD]]
    assert knn_classify(train, labels, query, temperature=1.0, neighbours=1).tolist() == [[8, PAD, PAD]]
    assert knn_classify(train, labels, query, temperature=1e-5, k=2).tolist() == [[8, 3]]
    # equal votes: the smaller id first
    twins = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    assert knn_classify(twins, torch.tensor([9, 2]), query).tolist() == [[2, 9]]


def test_digits_equal_scikit_learn(digits):
    train, labels, test, test_labels = digits
    ours = knn_classify(train, labels, test, neighbours=7, temperature=0.05, k=1)[:, 0]
    model = KNeighborsClassifier(7, metric="cosine", weights=lambda distance: np.exp((1 - distance) / 0.05))
    theirs = torch.from_numpy(model.fit(train, labels).predict(test))
    assert torch.equal(ours, theirs)
    assert (ours == test_labels).double().mean() > 0.97


# ---------------------------------------------------------------- accuracy
@pytest.mark.parametrize("seed", range(3))
def test_accuracy_equals_the_oracle(seed):
    generator = torch.Generator().manual_seed(seed)
    rows = torch.stack([torch.randperm(12, generator=generator)[:7] for _ in range(50)])
    rows[:, 5:][torch.rand(50, 2, generator=generator) < 0.5] = PAD
    labels = torch.randint(-1, 14, (50,), generator=generator)
    ks = (1, 3, 5, 7, 20)
    assert accuracy(rows, labels, ks=ks) == reference.accuracy(rows, labels, ks=ks)


def test_accuracy_by_hand():
    rows = torch.tensor([[1, 2, 3], [1, 2, 3], [3, 2, PAD], [1, 2, 3], [PAD, PAD, PAD]])
    metrics = accuracy(rows, torch.tensor([1, 3, PAD, 9, 9]), ks=(1, 2, 3, 5))
    assert metrics == {"top1": 1 / 4, "top2": 1 / 4, "top3": 2 / 4, "top5": 2 / 4, "num_items": 4, "num_left_out": 1}
    assert type(metrics["num_items"]) is int
    assert accuracy(rows, torch.tensor([1, 3, PAD, 9, 9]), ks=(1, 2, 3, 5, 1, 5)) == metrics  # a k given twice


# ---------------------------------------------------------------- errors
SQUARE = torch.eye(4)
IDS = torch.tensor([0, 1, 0, PAD])


@pytest.mark.parametrize("function", [linear_probe, knn_classify])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(test=SQUARE[:3, :3]), "must come from one model and have one D; they have 4 and 3"),
        (dict(train=SQUARE[0]), r"^train must be \(N, D\), one row per item and not empty; their shape is \(4,\)"),
        (dict(test=SQUARE[:0]), r"^test must be \(N, D\), one row per item and not empty; their shape is \(0, 4\)"),
        (dict(train=SQUARE.long()), "^train must be floating-point; they are torch.int64"),
        (dict(test=SQUARE / 0), "^test must be finite; row 0 is not"),
        (dict(train_labels=IDS[:3]), r"train_labels must be \(4,\)"),
        (dict(train_labels=IDS - 3), "train_labels must be ids from 0, or PAD"),
        (dict(train_labels=torch.full((4,), PAD)), "at least one training item must have a label; all 4 are PAD"),
        (dict(k=0), "k must be at least 1; it is 0"),
    ],
)
def test_wrong_arguments_of_both(function, changes, message):
    with pytest.raises(ValueError, match=message):
        function(**dict(train=SQUARE, train_labels=IDS, test=SQUARE[:2] + 1) | changes)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear_probe(SQUARE, IDS, SQUARE, epochs=0), "epochs must be at least 1; it is 0"),
        (lambda: linear_probe(SQUARE, IDS, SQUARE, batch_size=0), "batch_size must be at least 1; it is 0"),
        (lambda: linear_probe(SQUARE, IDS, SQUARE, lr=0), "lr must be above 0 and weight_decay at least 0; they are 0"),
        (lambda: linear_probe(SQUARE, IDS, SQUARE, lr=torch.nan), "lr must be above 0"),
        (lambda: linear_probe(SQUARE, IDS, SQUARE, weight_decay=-1), "at least 0; they are 10.0 and -1"),
        (lambda: linear_scores(SQUARE, IDS, SQUARE, epochs=0), "epochs must be at least 1; it is 0"),
        (lambda: linear_scores(SQUARE, IDS, SQUARE, lr=-1), "lr must be above 0 and weight_decay at least 0; they are"),
        (lambda: linear_scores(SQUARE, IDS[:3], SQUARE), r"train_labels must be \(4,\)"),
        (lambda: linear_scores(SQUARE, IDS, SQUARE / 0), "test must be finite; row 0 is not"),
        (
            lambda: linear_scores(SQUARE, IDS, SQUARE, optimizer="sgd", lr=1e3, weight_decay=1e3, epochs=20),
            "the layer diverged with lr 1000.0 and weight_decay 1000.0; lower them",
        ),
        (lambda: linear_scores(SQUARE, IDS, SQUARE, optimizer="lbfgs"), "must be 'adam' or 'sgd'; it is 'lbfgs'"),
        (
            lambda: linear_scores(SQUARE, IDS, SQUARE, scaling=True),
            "scaling must be 'deviation', 'length' or 'none'; it is True",
        ),
        (lambda: knn_classify(SQUARE, IDS, SQUARE, neighbours=0), "neighbours must be at least 1; it is 0"),
        (lambda: knn_classify(SQUARE, IDS, SQUARE, temperature=0), "temperature must be above 0; it is 0"),
        (lambda: knn_classify(SQUARE * 0, IDS, SQUARE), "train must have a direction; row 0 is all zero"),
        (lambda: accuracy(IDS, IDS), r"predicted must be \(N, K\), the best class first; its shape is \(4,\)"),
        (lambda: accuracy(SQUARE, IDS), "predicted must be class ids, as integers; they are torch.float32"),
        (lambda: accuracy(SQUARE.long(), IDS[:2]), r"labels must be \(4,\)"),
        (
            lambda: accuracy(SQUARE.long(), IDS, ks=(1, 0)),
            "every k of ks must be a whole number of at least 1; 0 is not",
        ),
        (lambda: accuracy(SQUARE.long(), torch.full((4,), PAD)), "at least one item must have a label; all 4 are PAD"),
    ],
)
def test_wrong_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
