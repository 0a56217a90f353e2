from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from hierpretrain.engine import RecallCurveHook, RetrievalSheetHook, TSNEHook, pictures
from hierpretrain.evaluation import EmbeddingEvaluator, Embeddings, HierarchicalRetrievalMetric, RetrievalMetric
from hierpretrain.functional import recall_curve
from hierpretrain.taxonomy import Taxonomy
from tests.datasets.trees import write_image

PATHS = [
    ("fruit", "tropical", "mango"),
    [("fruit", "berry", "tomato"), ("vegetable", "tomato")],
    ("vegetable", "carrot"),
    [("fruit", "berry", "grape"), ("vegetable",)],
    ("vegetable", "tomato"),
    (),
]
TREE = Taxonomy(PATHS, ("kind", "group", "crop"))


@pytest.fixture
def embedded(tmp_path):
    """Six images at growing angles from the first."""
    angles = torch.tensor([0.0, 10, 21, 33, 46, 60]).deg2rad()
    files = [str(write_image(tmp_path / f"{i}.png", (40 * i, 0, 0), size=(8, 8))) for i in range(6)]
    features = torch.stack([angles.cos(), angles.sin()], 1)
    return Embeddings(features, TREE.encode(PATHS), torch.zeros(6, 0).long(), ["test"] * 6, files, TREE, ())


@pytest.fixture
def sheet(monkeypatch):
    """What a sheet would show: rows, and title and levels as ``said``."""
    shown = SimpleNamespace(rows=[], said={})

    def keep(rows, path, **said):
        shown.rows[:] = rows
        shown.said = said

    monkeypatch.setattr(pictures, "plot_retrieval_sheet", keep)
    return shown


def in_common(sheet):
    """Query -> {neighbour: (shared levels, is it the whole path)}, images by their numbers, the nearest first."""
    return {
        int(row.query[-5]): {int(found.path[-5]): (found.shared, found.whole) for found in row.neighbours}
        for row in sheet.rows
    }


def test_neighbours_are_graded_by_the_path_that_shares_most(embedded, sheet, tmp_path):
    RetrievalSheetHook(num_neighbours=5).draw(embedded, tmp_path / "sheet.png")
    assert sheet.said["levels"] == ["kind", "group", "crop"]
    none, kind = (0, False), (1, False)
    expected = {  # 3 hangs on vegetable itself, so what is a vegetable shares that whole path of it
        0: {1: kind, 2: none, 3: kind, 4: none, 5: none},
        1: {0: kind, 2: kind, 3: (2, False), 4: (2, True), 5: none},
        2: {1: kind, 3: kind, 4: kind, 0: none, 5: none},
        3: {2: (1, True), 4: (1, True), 1: (2, True), 5: none, 0: kind},
        4: {3: kind, 5: none, 2: kind, 1: (2, True), 0: none},
    }
    found = in_common(sheet)
    assert {query: set(of.items()) for query, of in found.items()} == {
        query: set(of.items()) for query, of in expected.items()
    }
    assert list(found[0]) == [1, 2, 3, 4, 5]
    assert [row.caption for row in sheet.rows] == [
        ("fruit / tropical / mango",),
        ("fruit / berry / tomato; vegetable / tomato",),
        ("vegetable / carrot",),
        ("fruit / berry / grape; vegetable",),
        ("vegetable / tomato",),
    ]
    assert sheet.rows[0].neighbours[-1].caption == ("",)  # without a label


def test_levels_below_the_chosen_one_do_not_count(embedded, sheet, tmp_path):
    RetrievalSheetHook("kind", num_neighbours=5).draw(embedded, tmp_path / "sheet.png")
    assert sheet.said["levels"] == ["kind"]
    rights = {query: [i for i, (_, whole) in found.items() if whole] for query, found in in_common(sheet).items()}
    # of 0 fruit; 1 both; 2 vegetable; 3 both; 4 vegetable; the nearest first
    assert rights == {0: [1, 3], 1: [0, 2, 3, 4], 2: [1, 3, 4], 3: [2, 4, 1, 0], 4: [3, 2, 1]}


def test_by_a_label_beside_the_tree_neighbours_are_right_or_wrong(embedded, sheet, tmp_path):
    embedded = replace(embedded, extra_labels=torch.tensor([[0], [1], [0], [1], [2], [0]]), extra_names=("shop",))
    RetrievalSheetHook("shop", num_neighbours=5).draw(embedded, tmp_path / "sheet.png")
    assert sheet.said["levels"] == ["shop"]
    found = in_common(sheet)
    assert found[1] == {i: (1, True) if i == 3 else (0, False) for i in (0, 2, 3, 4, 5)}
    assert 4 not in found  # nothing else is of its shop


def test_query_and_gallery_are_the_evaluators(embedded, sheet, tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(pictures, "plot_recall_curves", lambda curves, path, title: titles.append(title))
    embedded = replace(embedded, splits=["train", "test", "train", "train", "test", "val"])
    metrics = [HierarchicalRetrievalMetric(query="test", gallery="train", prefix="new"), RetrievalMetric([1])]
    searches = EmbeddingEvaluator(metrics).searches

    def draw(measured=searches, **sets):
        RetrievalSheetHook(num_neighbours=5, **sets).draw(embedded, tmp_path / "sheet.png", measured)
        RecallCurveHook(["kind"], **sets).draw(embedded, tmp_path / "recall.png", measured)
        title = sheet.said["title"].removeprefix("Nearest neighbours. ")
        assert titles.pop() == f"Recall. {title}"
        return title

    assert draw() == "new: 2 queries (test) in a gallery of 3 images (train)"
    assert {query: set(found) for query, found in in_common(sheet).items()} == {1: {0, 2, 3}, 4: {0, 2, 3}}
    assert draw(query="test", gallery="train") == draw()  # the same, by hand
    # each of all images among the others is the second metric's
    assert draw(query=["train", "test", "val"]) == "6 images (train, test, val), each a query among the others"
    other = "3 queries (test, val) in a gallery of 3 images (train) (not what the config measures)"
    assert draw(query=["test", "val"], gallery="train") == other
    assert draw([]) == "6 images (train, test, val), each a query among the others (not what the config measures)"


def test_an_evaluator_can_be_asked_for_its_searches_alone():
    evaluator = EmbeddingEvaluator([RetrievalMetric([1], query="a", gallery="b")], measure=False)
    assert [(sets.query, sets.gallery) for sets in evaluator.searches] == [("a", "b")]
    assert evaluator.evaluate(6) == {}


def test_pictures_are_drawn_of_images_of_several_paths(embedded, tmp_path, monkeypatch):
    groups = []
    monkeypatch.setattr(pictures, "plot_tsne", lambda points, names, path, title: groups.extend([title, *names]))
    TSNEHook("kind").draw(embedded, tmp_path / "tsne.png")
    assert groups == [
        "t-SNE of 6 images (test), by kind",
        "fruit",
        "(several)",
        "vegetable",
        "(several)",
        "vegetable",
        "(none)",
    ]
    RetrievalSheetHook("kind").draw(embedded, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 5000


def test_the_recall_curve_leaves_out_images_of_several_classes(embedded, tmp_path):
    RecallCurveHook(["kind"], max_k=3).draw(embedded, tmp_path / "recall.png")
    rows, kinds = embedded.features[[0, 2, 4, 5]], torch.tensor([0, 1, 1, -1])
    expected = recall_curve(rows, kinds, rows, kinds, max_k=3, same_set=True).tolist()
    found = [float(line.split(",")[1]) for line in (tmp_path / "recall.csv").read_text().splitlines()[1:]]
    assert found == pytest.approx(expected)
    assert (tmp_path / "recall.png").stat().st_size > 5000
