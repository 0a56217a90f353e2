import re
import shutil
from pathlib import Path

import pytest

from hierpretrain.datasets import MODELNET_UNSEEN, ModelNet40, modelnet, read_modelnet40, seen_unseen_split
from hierpretrain.registry import DATASETS
from tests.datasets.trees import write_image
from tests.datasets.write_modelnet import MODELS, VIEWS, write_modelnet


@pytest.fixture(scope="module", params=VIEWS)
def tree(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("modelnet") / request.param
    return str(root), write_modelnet(root, request.param), request.param


# ---------------------------------------------------------------- every rendering
def test_labels_and_splits(tree):
    root, records, _ = tree
    for split in ("train", "test"):
        data = ModelNet40(data_root=root, split=split)
        expected = [record for record in records if record[3] == split]
        assert data.image_paths == [f"{root}/{image}" for image, *_ in expected]
        assert [data.taxonomy.decode(row) for row in data.labels] == [(name, model) for _, name, model, _ in expected]
        assert data.taxonomy.level_names == ("category", "model")
        # numbers repeat across categories, and categories hold underscores
        assert (data.taxonomy.num_nodes("category"), data.taxonomy.num_nodes("model")) == (3, 10)
    assert type(DATASETS.build({"type": "ModelNet40", "data_root": root})) is ModelNet40


def test_the_rendering_is_found(tree, tmp_path):
    root, records, rendering = tree
    expected = [image for image, *_ in records]
    for home, name in ((root, rendering), (root.rpartition("/")[0], "auto"), (root.rpartition("/")[0], rendering)):
        rows = read_modelnet40(home, name)
        assert rows.images == expected
        assert rows.source == f"{rendering} at {root!r}"
    shutil.copytree(root, tmp_path / "renamed")
    assert read_modelnet40(str(tmp_path / "renamed")).source == f"{rendering} at '{tmp_path}/renamed'"


def test_stray_files_are_counted(tree, tmp_path, logged):
    root, records, rendering = tree
    copy = tmp_path / rendering
    shutil.copytree(root, copy)
    read_modelnet40(str(copy))
    assert logged == [f"{copy}: left out 1 entries that are no views of {rendering}: 'modelnet40.npy'"]
    (copy / "airplane/train/.DS_Store").touch()
    (copy / "airplane/train/Thumbs.db").touch()
    (copy / "airplane/val").mkdir()
    (copy / "code").mkdir()
    logged.clear()
    assert read_modelnet40(str(copy)).images == [image for image, *_ in records]
    assert logged == [
        f"{copy}: left out 4 entries that are no views of {rendering}: 'airplane/val', 'code', 'modelnet40.npy', "
        "'airplane/train/Thumbs.db'"
    ]


# ---------------------------------------------------------------- models and views
def test_the_first_models_are_taken(tmp_path):
    write_modelnet(tmp_path, "modelnet40v1")
    rows = read_modelnet40(str(tmp_path), max_models=(2, 1))
    models = sorted({(split, model) for (_, model), split in zip(rows.labels, rows.splits, strict=True)})
    expected = []
    for category, (train, test) in MODELS.items():
        expected += [("train", f"{category}_{number:04d}") for number in train[:2]]
        expected += [("test", f"{category}_{number:04d}") for number in test[:1]]
    assert models == sorted(expected)
    assert len(rows.images) == 12 * len(models)
    data = ModelNet40(data_root=str(tmp_path), max_models=[80, 20])
    assert len(data) == 12 * 10
    for wrong in ((0, 1), (80,), (1, 2, 3)):
        with pytest.raises(
            ValueError, match="max_models must be the numbers of training and test models, from 1; it is"
        ):
            ModelNet40(data_root=str(tmp_path), max_models=wrong)


def test_missing_views_are_told(tmp_path, logged):
    records = write_modelnet(tmp_path, "modelnet40v1")
    (tmp_path / records[5][0]).unlink()
    rows = read_modelnet40(str(tmp_path))
    assert len(rows.images) == len(records) - 1
    assert logged[1:] == [f"{tmp_path}: 1 models do not have 12 views as most: 'airplane_0001'; are files missing?"]


def test_other_renderings_names_do_not_fit(tree):
    _, _, rendering = tree
    file = "airplane_0001_001"
    fits = {
        "modelnet40v1": [f"{file}.jpg", "tv_stand_0001_012.jpg"],
        "modelnet40v1png": [f"{file}.png"],
        "modelnet40v2": [f"{file}.jpg", "airplane_0001_080.jpg"],
        "modelnet40v2png_ori4": [f"{file}.png", "airplane_0001_080.png"],
        "modelnet40_images_new_12x": ["airplane_0001.obj.shaded_v001.png", "tv_stand_0001.obj.shaded_v012.png"],
    }
    name = modelnet.RENDERINGS[rendering]
    assert all(name.fullmatch(good) for good in fits[rendering])
    for wrong in ("airplane_0001_000.jpg", "airplane_0001_081.jpg", "airplane_001_001.jpg", "_0001_001.jpg", "a.off"):
        assert not name.fullmatch(wrong)
    if "v2" not in rendering:
        assert not name.fullmatch("airplane_0001_013.jpg")
        assert not name.fullmatch("airplane_0001.obj.shaded_v013.png")


# ---------------------------------------------------------------- unseen categories
def test_unseen_categories(tmp_path):
    assert len(set(MODELNET_UNSEEN)) == 10
    listed = Path(__file__).parents[2] / "configs/_base_/splits/modelnet40_ho.txt"
    assert tuple(listed.read_text().split()) == MODELNET_UNSEEN
    write_modelnet(tmp_path, "modelnet40v1")
    unseen = [name for name in MODELNET_UNSEEN if name in MODELS]
    rows = read_modelnet40(str(tmp_path))
    split = seen_unseen_split(rows, level="category", unseen=unseen, shares=None)
    split.save(tmp_path / "split.json")
    data = ModelNet40(data_root=str(tmp_path), split="unseen_train", split_file=str(tmp_path / "split.json"))
    assert {data.taxonomy.decode(row)[1] for row in data.labels} == {"night_stand_0001", "night_stand_0002"}


# ---------------------------------------------------------------- wrong folders
def test_wrong_names(tmp_path):
    write_modelnet(tmp_path, "modelnet40v1")
    with pytest.raises(
        ValueError, match=r"no file below .* is named as in modelnet40v1png; the first is 'airplane_0001_"
    ):
        ModelNet40(data_root=str(tmp_path), rendering="modelnet40v1png")
    with pytest.raises(ValueError, match=r"rendering must be 'auto', 'modelnet40v1', .*; it is 'v1'"):
        ModelNet40(data_root=str(tmp_path), rendering="v1")
    stray = write_image(tmp_path / "airplane/train/tv_stand_0009_001.jpg", "red")
    with pytest.raises(ValueError, match=r"tv_stand_0009_001\.jpg is named as a view of a 'tv_stand'; move the file"):
        ModelNet40(data_root=str(tmp_path))
    stray.unlink()
    write_image(tmp_path / "airplane/test/airplane_0001_001.jpg", "red")
    with pytest.raises(ValueError, match=r"test/airplane_0001_001\.jpg: the model 'airplane_0001' is also in 'train'"):
        ModelNet40(data_root=str(tmp_path))


def test_several_renderings(tmp_path):
    for rendering in ("modelnet40v1", "modelnet40v1png"):
        write_modelnet(tmp_path / rendering, rendering)
    message = re.escape("holds the renderings ['modelnet40v1', 'modelnet40v1png']; choose one by rendering=")
    with pytest.raises(ValueError, match=message):
        ModelNet40(data_root=str(tmp_path))
    assert ModelNet40(data_root=str(tmp_path), rendering="modelnet40v1png").image_paths[0].endswith("_001.png")


def test_missing(tmp_path):
    for root in (tmp_path, tmp_path / "none"):
        with pytest.raises(
            ValueError, match=r"no ModelNet40 views are at .*/<category>/<train or test>; get a rendering"
        ):
            ModelNet40(data_root=str(root))
    # the meshes themselves are no pictures
    (tmp_path / "airplane/train").mkdir(parents=True)
    (tmp_path / "airplane/train/airplane_0001.off").write_text("OFF490 518 0\n")
    with pytest.raises(
        ValueError, match=r"no file below .* is named as in modelnet40v1; the first is 'airplane_0001.off'"
    ):
        ModelNet40(data_root=str(tmp_path))
