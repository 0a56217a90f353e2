import pytest
import torch
from sklearn.metrics import average_precision_score, label_ranking_average_precision_score

from hierpretrain.functional.retrieval import mean_scores, recall_curve, retrieval_metrics, retrieval_scores
from hierpretrain.taxonomy import PAD
from tests.functional.test_ranking import WAYS, choose
from tests.reference import metrics as reference


def random_set(seed, rows, classes, dim=8, ties=False):
    """Random features and labels, some PAD; with ``ties`` every similarity is a multiple of 1/4 and many are equal."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, dim, generator=generator)
    if ties:  # four entries of +-1: the length is 2, so that float32 has no rounding
        features = features[:, :4].sign()
    # squared, so that classes differ in size
    labels = (classes * torch.rand(rows, generator=generator) ** 2).long()
    labels[torch.rand(rows, generator=generator) < 0.1] = PAD
    return features, labels


def assert_same(actual, expected):
    assert list(actual) == list(expected)
    assert actual == pytest.approx(expected, rel=0, abs=1e-9)


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("same_set", [False, True])
@pytest.mark.parametrize("classes", [1, 3, 25])
@pytest.mark.parametrize("way", WAYS)
def test_equals_the_oracle(monkeypatch, ties, same_set, classes, way):
    choose(monkeypatch, way)
    gallery = random_set(0, 60, classes, ties=ties)
    query = gallery if same_set else random_set(1, 25, classes + 2, ties=ties)
    for ks in ((1, 3, 10, 80), (2,)):
        expected = reference.retrieval_metrics(*query, *gallery, ks=ks, same_set=same_set)
        assert_same(retrieval_metrics(*query, *gallery, ks=ks, same_set=same_set), expected)
        del expected["map"]
        options = dict(ks=ks, same_set=same_set, average_precision=False)
        assert_same(retrieval_metrics(*query, *gallery, **options), expected)
        shards = [
            retrieval_scores(*query, *gallery, **options, queries=torch.arange(i, len(query[0]), 3)) for i in range(3)
        ]
        assert_same(mean_scores({name: torch.cat([of[name] for of in shards]) for name in shards[0]}), expected)


@pytest.mark.parametrize("same_set", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_scores_of_chosen_queries_are_those_of_each_query_alone(monkeypatch, same_set, way):
    choose(monkeypatch, way)
    gallery = random_set(12, 60, 9, ties=True)
    query = gallery if same_set else random_set(13, 25, 11, ties=True)
    chosen = torch.randperm(len(query[0]))[:17]
    scores = retrieval_scores(*query, *gallery, ks=(1, 3), same_set=same_set, queries=chosen)
    for slot, i in enumerate(chosen.tolist()):
        score = reference.query_score(*query, *gallery, i, ks=(1, 3), same_set=same_set)
        expected = score or dict.fromkeys(scores, 0)
        assert {name: values[slot].item() for name, values in scores.items()} == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        rows = random_set(3, 3, 1)  # fewer queries than threads
        for few in (random_set(2, 50, 20), random_set(2, 50, 2), rows):
            assert_same(
                retrieval_metrics(*few, *few, same_set=True), reference.retrieval_metrics(*few, *few, same_set=True)
            )
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("classes", [2, 40])
def test_average_precision_equals_scikit_learn(classes):
    (query, query_labels), (gallery, gallery_labels) = random_set(4, 100, classes), random_set(5, 300, classes)
    query_labels, gallery_labels = query_labels.clamp(min=0), gallery_labels.clamp(min=0)
    similarities = torch.nn.functional.normalize(query.double()) @ torch.nn.functional.normalize(gallery.double()).T
    relevant = query_labels[:, None] == gallery_labels
    relevant, similarities = relevant[(some := relevant.any(1))].numpy(), similarities[some].numpy()
    average_precision = sum(map(average_precision_score, relevant, similarities)) / len(relevant)
    actual = retrieval_metrics(query, query_labels, gallery, gallery_labels)["map"]
    assert actual == pytest.approx(average_precision, abs=1e-9)
    assert actual == pytest.approx(label_ranking_average_precision_score(relevant, similarities), abs=1e-9)


@pytest.mark.parametrize("same_set", [False, True])
@pytest.mark.parametrize("classes", [5, 60])
def test_equals_pytorch_metric_learning(same_set, classes):
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    gallery, gallery_labels = random_set(6, 200, classes)
    query, query_labels = (gallery, gallery_labels) if same_set else random_set(7, 80, classes)
    gallery_labels, query_labels = gallery_labels.clamp(min=0), query_labels.clamp(min=0)
    theirs = AccuracyCalculator(
        include=("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_average_precision"),
        k=len(gallery) - same_set,
        device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity()),
    ).get_accuracy(query, query_labels, gallery, gallery_labels, ref_includes_query=same_set)
    ours = retrieval_metrics(query, query_labels, gallery, gallery_labels, same_set=same_set)
    assert [ours[name] for name in ("precision@1", "r_precision", "map@r", "map")] == pytest.approx(
        [theirs[n] for n in ("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_average_precision")],
        abs=1e-6,
    )


def test_queries_inside_a_larger_gallery_equal_pytorch_metric_learning():
    pytest.importorskip("pytorch_metric_learning")
    from pytorch_metric_learning.distances import CosineSimilarity
    from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
    from pytorch_metric_learning.utils.inference import CustomKNN

    gallery, labels = random_set(6, 200, 12)
    labels = labels.clamp(min=0)
    names = ("precision_at_1", "r_precision", "mean_average_precision_at_r", "mean_average_precision")
    theirs = AccuracyCalculator(
        include=names, k=199, device=torch.device("cpu"), knn_func=CustomKNN(CosineSimilarity())
    ).get_accuracy(gallery[:70], labels[:70], gallery, labels, ref_includes_query=True)
    queries = torch.randperm(70)  # they want the queries in front; here they may be any, in any order
    ours = retrieval_metrics(gallery, labels, gallery, labels, same_set=True, queries=queries)
    expected = [theirs[name] for name in names]
    assert [ours[name] for name in ("precision@1", "r_precision", "map@r", "map")] == pytest.approx(expected, abs=1e-6)
    assert ours["num_queries"] == 70
    curve = recall_curve(gallery, labels, gallery, labels, max_k=10, same_set=True, queries=queries)
    assert curve[[0, 9]].tolist() == pytest.approx([ours["recall@1"], ours["recall@10"]])


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (torch.tensor([0, 5]), "queries must be indices from 0 to 4; these are 0 to 5"),
        (torch.tensor([-1, 2]), "these are -1 to 2"),
        (torch.zeros(2, 1, dtype=int), r"queries must be \(S,\) indices; these have shape \(2, 1\)"),
        (torch.zeros(2), "queries must be integers"),
        (torch.empty(0, dtype=int), "must have a relevant gallery item; none of 0 has"),
    ],
)
def test_queries_that_are_no_items(queries, message):
    labels = torch.tensor([0, 0, 1, 1, 1])
    for measure in (retrieval_metrics, recall_curve):
        with pytest.raises(ValueError, match=message):
            measure(FAN, labels, FAN, labels, same_set=True, queries=queries)


# ---------------------------------------------------------------- by hand
ANGLES = torch.tensor([0.0, 10, 20, 30, 40]).deg2rad()
FAN = torch.stack([ANGLES.cos(), ANGLES.sin()], 1)  # its first row ranks all of it in order


def of_first_row(labels, **kwargs):
    return retrieval_metrics(FAN[:1], torch.tensor([1]), FAN, torch.tensor(labels), **kwargs)


def test_by_hand():
    # relevant at ranks 2, 3 and 5: R = 3
    assert_same(
        of_first_row([0, 1, 1, 0, 1], ks=(1, 2, 10)),
        {
            "recall@1": 0.0,
            "precision@1": 0.0,
            "recall@2": 1.0,
            "precision@2": 1 / 2,
            "recall@10": 1.0,
            "precision@10": 3 / 10,  # the divisor stays 10 in a gallery of 5
            "r_precision": 2 / 3,
            "map@r": (1 / 2 + 2 / 3) / 3,
            "map": (1 / 2 + 2 / 3 + 3 / 5) / 3,
            "num_queries": 1,
            "num_queries_without_positives": 0,
            "num_lone_queries": 0,
        },
    )


def test_a_k_given_twice_counts_once():
    assert of_first_row([0, 1, 1, 0, 1], ks=(2, 1, 2, 1)) == of_first_row([0, 1, 1, 0, 1], ks=(2, 1))
    assert of_first_row([1, 0, 1, 0, 0], ks=(1, 1))["recall@1"] == 1


def test_pad_equals_nothing_and_queries_without_positives_are_counted():
    labels = torch.tensor([1, 1, PAD, PAD, 2])
    metrics = retrieval_metrics(FAN, labels, FAN, labels, same_set=True)
    assert (metrics["num_queries"], metrics["num_queries_without_positives"], metrics["map"]) == (2, 3, 1.0)
    metrics = retrieval_metrics(FAN, labels, FAN, labels)
    assert (metrics["num_queries"], metrics["num_queries_without_positives"]) == (3, 2)
    assert type(metrics["num_queries"]) is int


def test_one_class_is_perfect():
    labels = torch.zeros(5, dtype=int)
    for metrics in (retrieval_metrics(FAN, labels, FAN, labels, same_set=s, ks=(1, 4)) for s in (False, True)):
        assert {value for name, value in metrics.items() if not name.startswith("num")} == {1.0}


@pytest.mark.parametrize("way", WAYS)
def test_ties_rank_in_the_order_of_the_gallery(monkeypatch, way):
    choose(monkeypatch, way)
    same = torch.tensor([[1.0, 0.0]])
    ranks = [
        1 / retrieval_metrics(same, torch.tensor([1]), same.repeat(4, 1), torch.eye(4, dtype=int)[row])["map"]
        for row in range(4)
    ]
    assert ranks == pytest.approx([1, 2, 3, 4])
    # similarity 0 has two signs in float32: they tie as well
    gallery = torch.tensor([[0.0, 1.0], [0.0, -1.0], [-0.0, 1.0], [-1.0, 0.0]])
    for relevant in ([0, 1, 0, 0], [0, 0, 1, 0]):
        metrics = retrieval_metrics(same, torch.tensor([1]), gallery, torch.tensor(relevant))
        assert metrics["map"] == pytest.approx(1 / (relevant.index(1) + 1))


@pytest.mark.parametrize("way", WAYS)
def test_self_is_removed_by_index_and_its_duplicate_stays(monkeypatch, way):
    choose(monkeypatch, way)
    # rows 0 and 1 are the same picture under two labels; by position, row 1 would drop row 0 and find itself
    rows, labels = FAN[[0, 0, 2, 3]], torch.tensor([0, 1, 0, 1])
    metrics = retrieval_metrics(rows, labels, rows, labels, ks=(1, 2, 3), same_set=True)
    # 0: ranks 1, 2, 3 -> 2nd; 1: ranks 0, 2, 3 -> 3rd; 2: ranks 3, 0, 1 -> 2nd; 3: ranks 2, 0, 1 -> 3rd
    assert [metrics[f"recall@{k}"] for k in (1, 2, 3)] == [0.0, 0.5, 1.0]
    assert metrics["map"] == pytest.approx((1 / 2 + 1 / 3) / 2)


# ---------------------------------------------------------------- invariances
@pytest.mark.parametrize("same_set", [False, True])
def test_invariances(same_set):
    gallery, gallery_labels = random_set(8, 120, 12)
    query, query_labels = (gallery, gallery_labels) if same_set else random_set(9, 50, 12)
    expected = retrieval_metrics(query, query_labels, gallery, gallery_labels, same_set=same_set)

    def check(change_query, change_gallery):
        changed = change_query(query, query_labels), change_gallery(gallery, gallery_labels)
        assert_same(retrieval_metrics(*changed[0], *changed[1], same_set=same_set), expected)

    names = torch.randperm(12) + 2**24  # adjacent ids beyond what float32 tells apart
    for change in (
        lambda rows, labels: (rows, torch.where(labels == PAD, PAD, names[labels])),
        lambda rows, labels: (rows * 2.0 ** torch.randint(-60, 60, (len(rows), 1)), labels),
        lambda rows, labels: (rows.double(), labels.int()),
        lambda rows, labels: (rows.T.contiguous().T, torch.stack([labels, labels], 1)[:, 0]),
    ):
        check(change, change)
    order = torch.randperm(len(gallery))
    permute = lambda rows, labels: (rows[order], labels[order])  # noqa: E731
    check(permute if same_set else lambda *unchanged: unchanged, permute)


def test_ids_above_2_to_the_24_are_told_apart():
    labels = torch.tensor([2**24, 2**24 + 1, 2**24, 2**24 + 1, 2**24 + 1])
    metrics = retrieval_metrics(FAN[:1], labels[:1], FAN, labels, ks=(2,))
    assert (metrics["precision@2"], metrics["r_precision"]) == (0.5, 0.5)


@pytest.mark.parametrize("same_set", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_the_recall_curve_is_recall_at_every_k(monkeypatch, same_set, way):
    choose(monkeypatch, way)
    gallery = random_set(10, 60, 20, ties=True)
    query = gallery if same_set else random_set(11, 25, 22, ties=True)
    metrics = retrieval_metrics(*query, *gallery, ks=range(1, 71), same_set=same_set)
    curve = recall_curve(*query, *gallery, max_k=70, same_set=same_set)  # longer than the gallery
    assert curve.dtype == torch.float64
    assert curve.tolist() == pytest.approx([metrics[f"recall@{k}"] for k in range(1, 71)])
    assert curve[-1] == 1
    assert recall_curve(*query, *gallery, max_k=3, same_set=same_set).tolist() == curve[:3].tolist()
    assert len(recall_curve(*query, *gallery, same_set=same_set)) == 1000


# ---------------------------------------------------------------- errors
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(query=FAN[:, :1]), "query and gallery must come from one model and have one D; they have 1 and 2"),
        (dict(gallery=FAN * torch.nan), "gallery must be finite; row 0 is not"),
        (dict(query_labels=torch.zeros(4, dtype=int)), r"query_labels must be \(5,\)"),
        (dict(gallery_labels=torch.zeros(5)), "gallery_labels must be integers"),
        (dict(ks=(1, 0)), "every k of ks must be a whole number of at least 1; 0 is not"),
        (
            dict(same_set=True),
            "same_set takes query i for gallery item i, but their labels differ; pass features",
        ),
        (dict(query_labels=torch.full((5,), 9)), "must have a relevant gallery item; none of 5 has; check that"),
        (dict(query_labels=torch.full((5,), PAD)), "none of 5 has"),
    ],
)
def test_malformed_input(changes, message):
    arguments = dict(
        query=FAN, query_labels=torch.arange(5), gallery=FAN, gallery_labels=torch.tensor([0, 0, 1, PAD, 2])
    )
    arguments |= changes
    with pytest.raises(ValueError, match=message):
        retrieval_metrics(**arguments)
    if "ks" not in changes:
        with pytest.raises(ValueError, match=message):
            recall_curve(**{name: value for name, value in arguments.items() if name != "ks"})


def test_a_recall_curve_has_a_first_point():
    with pytest.raises(ValueError, match="max_k must be at least 1; it is 0"):
        recall_curve(FAN, torch.arange(5), FAN, torch.arange(5), max_k=0)
