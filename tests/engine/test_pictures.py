import pytest
import torch

from hierpretrain.engine import RecallCurveHook, RetrievalSheetHook, TSNEHook, pictures
from hierpretrain.evaluation import Embeddings
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


def test_a_neighbour_is_right_by_any_path(embedded, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(pictures, "plot_retrieval_sheet", lambda rows, path, title: drawn.extend(rows))
    RetrievalSheetHook("kind", num_neighbours=5).draw(embedded, tmp_path / "sheet.png")
    rights = {int(row.query[-5]): [int(path[-5]) for path, _, right in row.neighbours if right] for row in drawn}
    # of 0 fruit; 1 both; 2 vegetable; 3 both; 4 vegetable; the nearest first
    assert rights == {0: [1, 3], 1: [0, 2, 3, 4], 2: [1, 3, 4], 3: [2, 4, 1, 0], 4: [3, 2, 1]}
    assert [row.caption for row in drawn] == [
        "tropical / mango",
        "berry / tomato; vegetable / tomato",
        "vegetable / carrot",
        "berry / grape; vegetable",
        "vegetable / tomato",
    ]
    assert drawn[0].neighbours[-1][1] == ""  # without a label
    drawn.clear()
    RetrievalSheetHook("group", num_neighbours=5).draw(embedded, tmp_path / "sheet.png")
    # 1 and 3 are berries, 1 and 4 tomatoes among the vegetables
    assert {int(row.query[-5]): [int(path[-5]) for path, _, right in row.neighbours if right] for row in drawn} == {
        1: [3, 4],
        3: [1],
        4: [1],
    }


def test_pictures_are_drawn_of_images_of_several_paths(embedded, tmp_path, monkeypatch):
    groups = []
    monkeypatch.setattr(pictures, "plot_tsne", lambda points, names, path, title: groups.extend(names))
    TSNEHook("kind").draw(embedded, tmp_path / "tsne.png")
    assert groups == ["fruit", "(several)", "vegetable", "(several)", "vegetable", "(none)"]
    RetrievalSheetHook("kind").draw(embedded, tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 5000


def test_the_recall_curve_leaves_out_images_of_several_classes(embedded, tmp_path):
    RecallCurveHook(["kind"], max_k=3).draw(embedded, tmp_path / "recall.png")
    rows, kinds = embedded.features[[0, 2, 4, 5]], torch.tensor([0, 1, 1, -1])
    expected = recall_curve(rows, kinds, rows, kinds, max_k=3, same_set=True).tolist()
    found = [float(line.split(",")[1]) for line in (tmp_path / "recall.csv").read_text().splitlines()[1:]]
    assert found == pytest.approx(expected)
    assert (tmp_path / "recall.png").stat().st_size > 5000
