import json
import os
import re
import shutil

import numpy as np
import pytest
from scipy.io import savemat

from hierpretrain.datasets import ImageNet
from hierpretrain.datasets import imagenet as shell
from hierpretrain.datasets.imagenet_files import read_val_classes
from hierpretrain.registry import DATASETS
from tests.datasets.write_imagenet import (
    CLASSES,
    EDGES,
    NAMES,
    write_breeds,
    write_devkit,
    write_edges,
    write_images,
    write_lines,
    write_nouns,
    write_robustness,
)

RACER, BARREL = "n04037443", "n02795169"


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("imagenet")
    written = write_images(root / "images")
    return str(root / "images"), written, write_nouns(root / "wordnet/data.noun")


def classes_of(data):
    """The class of every image, from the extra label's ids, which count in sorted order."""
    return [CLASSES[i] for i in data.extra_labels[:, 0].tolist()]


def relative(data, root):
    return [os.path.relpath(path, root) for path in data.image_paths]


def test_items(tree, logged):
    root, written, nouns = tree
    for split in ("train", "val"):
        data = ImageNet(data_root=root, hierarchy=nouns, split=split, pipeline=[{"type": "LoadRGB"}])
        expected = sorted(path for path in written if path.startswith(split))
        assert relative(data, root) == expected
        assert classes_of(data) == [written[path] for path in expected]
        assert data.metainfo["extra_label_names"] == ("wnid",)
        for name, row in zip(classes_of(data), data.labels, strict=True):
            assert data.taxonomy.decode(row)[-1] == f"{name} {NAMES[name].split(',')[0]}"
        for i in range(3):  # among those of train, a CMYK JPEG and a PNG named .JPEG
            assert np.asarray(data[i]["img"]).shape == (16, 16, 3)
    assert isinstance(DATASETS.build({"type": "ImageNet", "data_root": root, "hierarchy": nouns}), ImageNet)


def test_paths_are_those_of_the_hierarchy(tree, logged):
    root, _, nouns = tree
    data = ImageNet(data_root=root, hierarchy=nouns)
    paths = {data.taxonomy.decode(row)[-1][:9]: data.taxonomy.decode(row) for row in data.labels}
    artifact, animal, car = "n00021939 artifact", "n00015388 animal", "n02958343 car"
    assert paths == {
        "n01531178": (animal, "n01503061 bird", "n01531178 goldfinch"),
        "n02012849": (animal, "n01503061 bird", "n02012849 crane"),
        "n02085620": (animal, "n02084071 dog", "n02085620 Chihuahua"),
        "n02085782": (animal, "n02084071 dog", "n02085782 Japanese spaniel"),
        "n02795169": (artifact, "n02795169 barrel"),
        "n02930766": (artifact, car, "n02930766 cab"),
        "n03126707": (artifact, "n03126707 crane"),
        "n04037443": (artifact, car, "n04037443 racer"),
    }
    assert data.taxonomy.level_names == ("level1", "level2", "level3")
    first = ImageNet(data_root=root, hierarchy=nouns, policy="first")  # of the synset's pointers, the artifact
    assert (artifact, "n04037443 racer") in {first.taxonomy.decode(row) for row in first.labels}
    long = ImageNet(data_root=root, hierarchy=nouns, collapse=False).taxonomy
    assert long.num_levels == 5
    cut = ImageNet(data_root=root, hierarchy=nouns, depths=[1], level_names=["kind", "object"]).taxonomy
    assert (cut.num_nodes("kind"), cut.num_nodes("object")) == (2, 8)
    birds = ImageNet(data_root=root, hierarchy=nouns, root="n01503061", missing="drop")
    assert set(birds.metainfo["taxonomy"]["names"][0]) == {"n01531178 goldfinch", "n02012849 crane"}


@pytest.mark.parametrize("write", [write_robustness, write_breeds])
def test_info_dirs(tree, logged, tmp_path, write):
    root, _, _ = tree
    data = ImageNet(data_root=root, hierarchy=write(tmp_path), policy="longest")
    assert data.labels.equal(ImageNet(data_root=root, hierarchy=tree[2]).labels)


def test_breeds_lacks_classes(tree, logged, tmp_path):
    root, written, _ = tree
    edges = [pair for pair in EDGES if BARREL not in pair and pair != ("n00021939", RACER)]
    edges += [("n00021939", "dummy7"), ("dummy7", "n03126707")]
    edges.remove(("n00021939", "n03126707"))
    info = write_breeds(tmp_path, edges)
    with pytest.raises(ValueError, match=f"lacks 1 of the 8 classes: '{BARREL}'; .* leave them out by missing='drop'"):
        ImageNet(data_root=root, hierarchy=info)
    data = ImageNet(data_root=root, hierarchy=info, missing="drop", split="train")
    assert relative(data, root) == sorted(p for p, name in written.items() if name != BARREL and p[:3] == "tra")
    assert data.extra_labels.max() == 6
    names = {data.taxonomy.decode(row) for row in data.labels}
    assert ("n00021939 artifact", "n03126707 crane") in names  # not below a dummy
    assert any("left out 1 of 8 classes" in text for text in logged)
    assert f"{root}: left out 5 of 40 images, of classes that are left out" in logged


def test_superclasses(tree, logged):
    root, _, nouns = tree
    data = ImageNet(data_root=root, hierarchy=nouns, superclasses=["n02084071", "n02958343"], split="val")
    assert data.taxonomy.level_names == ("superclass", "class")
    assert {data.taxonomy.decode(row) for row in data.labels} == {
        ("n02084071 dog", "n02085620 Chihuahua"),
        ("n02084071 dog", "n02085782 Japanese spaniel"),
        ("n02958343 car", "n02930766 cab"),
        ("n02958343 car", "n04037443 racer"),
    }
    assert len(data) == 8
    with pytest.raises(ValueError, match="is below the superclasses n00021939 artifact, n02958343 car"):
        ImageNet(data_root=root, hierarchy=nouns, superclasses=["n00021939", "n02958343"])
    both = ImageNet(data_root=root, hierarchy=nouns, superclasses=["n02958343", "n00021939"], overlap="first")
    assert {both.taxonomy.decode(row) for row in both.labels} == {
        ("n02958343 car", "n02930766 cab"),
        ("n02958343 car", "n04037443 racer"),
        ("n00021939 artifact", "n02795169 barrel"),
        ("n00021939 artifact", "n03126707 crane"),
    }
    with pytest.raises(
        ValueError, match=r"has no node 'n02159955', 'n02484322', .*3.0"
    ):  # the small WordNet here lacks most of them
        ImageNet(data_root=root, hierarchy=nouns, superclasses="mixed_10")
    with pytest.raises(ValueError, match="superclasses must be a list of nodes or one of mixed_10; it is 'mixed_11'"):
        ImageNet(data_root=root, hierarchy=nouns, superclasses="mixed_11")
    with pytest.raises(ValueError, match="superclasses are levels of their own; leave out policy, depths and root"):
        ImageNet(data_root=root, hierarchy=nouns, superclasses=["n02084071"], depths=[1])


def test_align_gives_every_class_a_node_of_the_finest_level(tree, logged, tmp_path):
    root, _, nouns = tree
    options = dict(data_root=root, hierarchy=nouns, depths=(2,), level_names=("superclass", "class"))
    ragged, aligned = ImageNet(**options), ImageNet(**options, align=True)
    assert (ragged.taxonomy.num_nodes("class"), aligned.taxonomy.num_nodes("class")) == (6, 8)
    assert aligned.taxonomy.num_nodes("superclass") == ragged.taxonomy.num_nodes("superclass") == 5
    crane = "n03126707 crane"
    assert {("n01503061 bird", "n02012849 crane"), (crane, crane)} <= set(map(aligned.taxonomy.decode, aligned.labels))
    for name in ("n02795169 barrel", crane):  # they hang right below the artifact
        assert (name,) in set(map(ragged.taxonomy.decode, ragged.labels))
    deep = ImageNet(data_root=root, hierarchy=nouns, align=True)
    assert ("n00021939 artifact", crane, crane) in set(map(deep.taxonomy.decode, deep.labels))
    paths = {name: ["x"] if i else ["x", "y"] for i, name in enumerate(CLASSES)}
    (tmp_path / "paths.json").write_text(json.dumps(paths))
    listed = ImageNet(data_root=root, hierarchy=str(tmp_path / "paths.json"), align=True)
    expected = {("x", "y", CLASSES[0]), *(("x", name, name) for name in CLASSES[1:])}
    assert set(map(listed.taxonomy.decode, listed.labels)) == expected


def test_json(tree, logged, tmp_path):
    root, _, _ = tree
    flat = {name: "living" if name < "n025" else "thing" for name in CLASSES}
    path = tmp_path / "classes.json"
    path.write_text(json.dumps(flat))
    data = ImageNet(data_root=root, hierarchy=str(path))
    assert data.taxonomy.level_names == ("superclass", "class")
    assert [data.taxonomy.decode(row) for row in data.labels] == [(flat[name], name) for name in classes_of(data)]
    deep = {**flat, RACER: ["thing", "car", "fast"], BARREL: []}
    path.write_text(json.dumps(deep))
    data = ImageNet(data_root=root, hierarchy=str(path))
    assert data.taxonomy.level_names == ("level1", "level2", "level3", "level4")
    rows = {data.taxonomy.decode(row) for row in data.labels}
    assert {("thing", "car", "fast", RACER), (BARREL,), ("living", "n02012849")} < rows
    del flat[BARREL]
    path.write_text(json.dumps(flat))
    with pytest.raises(ValueError, match=f"classes.json lacks 1 of the 8 classes: '{BARREL}'; add them, or leave them"):
        ImageNet(data_root=root, hierarchy=str(path))
    assert len(ImageNet(data_root=root, hierarchy=str(path), missing="drop")) == 35
    assert any("classes.json: left out 1 of 8 classes" in text for text in logged)
    for option in ({"policy": "first"}, {"depths": [1]}, {"superclasses": ["n1"]}, {"collapse": False}, {"root": "n"}):
        with pytest.raises(ValueError, match=r"classes.json gives the classes' paths as they are; policy, collapse,"):
            ImageNet(data_root=root, hierarchy=str(path), **option)
    with pytest.raises(ValueError, match="missing must be 'error' or 'drop'; it is 'skip'"):
        ImageNet(data_root=root, hierarchy=str(path), missing="skip")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"n1": "a"', "1: no JSON: Expecting"),
        ("[]", "the file must be an object {class: superclass or list of ancestors}"),
        ("{}", "the file must be an object"),
        ('{"n1": 3}', "the class 'n1' must have a superclass or a list of ancestors, as non-empty strings, not 3"),
        ('{"n1": ["a", ""]}', "the class 'n1' must have"),
        ('{"": "a"}', "the class '' must have"),
        ('{"n1": ""}', "the class 'n1' must have"),
    ],
)
def test_wrong_json(tmp_path, text, message):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(ValueError, match=f"c.json:.*{re.escape(message)}"):
        shell.read_ancestors(tmp_path / "c.json")


# ---------------------------------------------------------------- files
@pytest.mark.parametrize("place", ["ILSVRC2012_devkit_t12/data", "devkit/data", "devkit", ".", "../elsewhere/data"])
def test_flat_val_with_devkit(tree, logged, tmp_path, place):
    root = tmp_path / "root"
    written = write_images(root, flat_val=True)
    write_devkit(root / place, written)
    given = {"val_classes": "../elsewhere"} if place.startswith("..") else {}
    data = ImageNet(data_root=str(root), hierarchy=tree[2], split="val", **given)
    names = relative(data, root)
    assert names == [f"val/ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, 17)]
    assert classes_of(data) == [written[name] for name in names]
    assert data.metainfo["taxonomy"] == ImageNet(data_root=tree[0], hierarchy=tree[2]).metainfo["taxonomy"]


def test_flat_val_with_list(tree, logged, tmp_path):
    written = write_images(tmp_path, flat_val=True)
    lines = [f"{path[4:]} {name}" for path, name in written.items() if path.startswith("val/")]
    write_lines(tmp_path / "val_map.txt", lines[::-1])
    data = ImageNet(data_root=str(tmp_path), hierarchy=tree[2], split="val", val_classes="val_map.txt")
    assert classes_of(data) == [line.split()[1] for line in lines]
    for wrong, message in {
        "ILSVRC2012_val_00000001.JPEG": "val_map.txt:17: a line is 'ILSVRC2012_val_00000001.JPEG n01751748', not 'ILSV",
        "photo.JPEG n01531178": "val_map.txt:17: a line is 'ILSVRC2012_val_00000001.JPEG n01751748', not 'photo",
        "ILSVRC2012_val_00000099.JPEG 65": "val_map.txt:17: the class is the number 65, which may count in the devkit",
        "ILSVRC2012_val_00000016.JPEG n1": "val_map.txt:17: the image ILSVRC2012_val_00000016.JPEG is listed with two",
    }.items():
        write_lines(tmp_path / "val_map.txt", [*lines, wrong])
        with pytest.raises(ValueError, match=re.escape(message)):
            ImageNet(data_root=str(tmp_path), hierarchy=tree[2], val_classes="val_map.txt")
    write_lines(tmp_path / "val_map.txt", lines[:-1])
    with pytest.raises(ValueError, match=r"val_map.txt has no class for the image .*/val/ILSVRC2012_val_00000016.JPEG"):
        ImageNet(data_root=str(tmp_path), hierarchy=tree[2], val_classes="val_map.txt")
    with pytest.raises(ValueError, match=r"/val holds images outside of class folders, and no devkit says their class"):
        ImageNet(data_root=str(tmp_path), hierarchy=tree[2])


def test_damaged_devkit(tree, tmp_path):
    written = write_images(tmp_path, flat_val=True)
    write_devkit(tmp_path / "devkit", written)
    truth = tmp_path / "devkit/ILSVRC2012_validation_ground_truth.txt"
    good = truth.read_text()
    for line in ("9", "0", "-1", "n01531178"):  # 9 is an inner synset
        truth.write_text(good.replace("\n", f"\n{line}\n", 1))
        with pytest.raises(ValueError, match=rf"ground_truth.txt:2: a line is the number of a class .*, not '{line}'"):
            ImageNet(data_root=str(tmp_path), hierarchy=tree[2])
    lines = good.splitlines(keepends=True)
    for text in (good.replace(lines[0], lines[0] * 2, 1), "".join(lines[1:]), "".join(lines[:-1])):
        truth.write_text(text)
        with pytest.raises(
            ValueError, match=rf"has {text.count(chr(10))} lines, and there are 16 images in val; a line"
        ):
            ImageNet(data_root=str(tmp_path), hierarchy=tree[2])
    truth.write_text(good)
    meta = tmp_path / "devkit/meta.mat"
    for data in (meta.read_bytes()[:300], b"", b"no MATLAB file" * 20):
        meta.write_bytes(data)
        with pytest.raises(ValueError, match=r"cannot read the MATLAB file .*meta.mat: .*: unpack ILSVRC2012_dev"):
            ImageNet(data_root=str(tmp_path), hierarchy=tree[2])
    for value in (3.0, {"ILSVRC2012_ID": 1.5, "WNID": "n1", "num_children": 0.0}, {"WNID": "n1", "num_children": 0.0}):
        savemat(meta, {"synsets": value})
        with pytest.raises(ValueError, match=r"meta.mat must have a list 'synsets' .*: unpack ILSVRC2012_devkit_t12"):
            ImageNet(data_root=str(tmp_path), hierarchy=tree[2])
    meta.unlink()
    with pytest.raises(ValueError, match=r"cannot read the MATLAB file .*meta.mat: No such file .*: unpack ILSVRC2012"):
        ImageNet(data_root=str(tmp_path), hierarchy=tree[2])


@pytest.mark.parametrize("twice", [0, 1])
def test_the_whole_ground_truth_has_as_many_images_of_every_class(twice, tmp_path):
    """A line that is there twice, in place of the last one, moves the classes of all others."""
    names = [f"n{i:08d}" for i in range(1000)]
    synsets = np.zeros((1000, 1), dtype=[(kind, object) for kind in ("ILSVRC2012_ID", "WNID", "num_children")])
    synsets[:, 0] = [(float(i), name, 0.0) for i, name in enumerate(names, start=1)]
    savemat(tmp_path / "meta.mat", {"synsets": synsets})
    numbers = [str(i % 1000 + 1) for i in range(50_000)]
    numbers = numbers[:1] * twice + numbers[: len(numbers) - twice]
    (tmp_path / "ILSVRC2012_validation_ground_truth.txt").write_text("\n".join(numbers))
    if twice:
        with pytest.raises(ValueError, match="has 51 images of the class 'n00000000', and 50 are of every class"):
            read_val_classes(tmp_path)
    else:
        assert read_val_classes(tmp_path)["ILSVRC2012_val_00001001"] == names[0]


def test_ids_do_not_depend_on_the_file_systems_order(tree, logged, monkeypatch):
    root, _, nouns = tree
    expected = ImageNet(data_root=root, hierarchy=nouns)
    scandir = os.scandir

    class Shuffled:
        def __init__(self, path):
            with scandir(path) as entries:
                self.entries = list(entries)
            np.random.default_rng(len(self.entries)).shuffle(self.entries)

        def __enter__(self):
            return iter(self.entries)

        def __exit__(self, *error):
            pass

    monkeypatch.setattr(os, "scandir", Shuffled)
    data = ImageNet(data_root=root, hierarchy=nouns)
    assert data.image_paths == expected.image_paths
    assert data.labels.equal(expected.labels)


def test_list_of_images(tree, logged, tmp_path):
    root, written, nouns = tree
    path = write_lines(tmp_path / "list.txt", [f"./{name}" for name in reversed(written)])
    data = ImageNet(data_root=root, hierarchy=nouns, ann_file=path)
    assert relative(data, root) == list(reversed(written))
    assert classes_of(data) == list(reversed(written.values()))
    for wrong in ("test/a.JPEG", "train/a.JPEG", "train/n1/images/a.JPEG", "val", "/train/n1/a.JPEG"):
        write_lines(path, [next(iter(written)), wrong])
        with pytest.raises(
            ValueError, match=re.escape("list.txt:2: a line is train/<class>/<name>, val/<class>/<name>")
        ):
            ImageNet(data_root=root, hierarchy=nouns, ann_file=path)
    write_lines(path, [next(iter(written)), "val/../a.JPEG"])
    with pytest.raises(ValueError, match=r"list.txt:2: the path 'val/../a.JPEG' must not be absolute, hold '..' or a"):
        ImageNet(data_root=root, hierarchy=nouns, ann_file=path)


def test_one_split_and_few_classes(tree, logged, tmp_path):
    write_images(tmp_path, classes=CLASSES[:4])
    shutil.rmtree(tmp_path / "train")
    data = ImageNet(data_root=str(tmp_path), hierarchy=tree[2])
    assert data.metainfo["splits"] == ("val",)
    assert data.taxonomy.level_names == ("level1", "level2")  # birds and dogs, the tree starts at the animals
    with pytest.raises(ValueError, match=r"there is no split 'train'; ImageNet at .* has \['val'\]"):
        ImageNet(data_root=str(tmp_path), hierarchy=tree[2], split="train")


def test_what_is_no_image(tree, logged, tmp_path):
    written = write_images(tmp_path)
    for name in ("train/.cache/x", "train/notes.txt", "train/n01531178/Thumbs.db", "train/n01531178/.hidden.JPEG"):
        write_lines(tmp_path / name, ["text"])
    data = ImageNet(data_root=str(tmp_path), hierarchy=tree[2])
    assert sorted(relative(data, tmp_path)) == sorted(written)
    assert f"{tmp_path}: left out 2 files that have no extension of an image" in logged
    write_lines(tmp_path / "train/n02012850/a.txt", [])
    with pytest.raises(ValueError, match=r"the folder .*/train/n02012850 holds no image; remove it, or unpack its"):
        ImageNet(data_root=str(tmp_path), hierarchy=tree[2])


def test_nothing_there(tree, tmp_path):
    with pytest.raises(
        ValueError, match=r"holds no ImageNet: images are at train/<class>/<name>.JPEG and val/<class>/"
    ):
        ImageNet(data_root=str(tmp_path), hierarchy=tree[2])
    with pytest.raises(ValueError, match=r"cannot read the list .*none.txt"):
        ImageNet(data_root=tree[0], hierarchy=str(tmp_path / "none.txt"))


def test_wordnet_3_1_is_told(tree, tmp_path):
    with pytest.raises(ValueError, match=r"the file is of WordNet 3.1, not 3.0"):
        ImageNet(data_root=tree[0], hierarchy=write_nouns(tmp_path / "data.noun", release="3.1"))
    moved = [tuple(f"n1{node[2:]}" for node in pair) for pair in EDGES]
    with pytest.raises(ValueError, match=r"lacks 8 of the 8 classes: 'n01531178', .*; correct the classes or the file"):
        ImageNet(data_root=tree[0], hierarchy=write_edges(tmp_path / "other.txt", moved), missing="drop")


def test_size_of_the_real_set_is_quick(tmp_path, logged):
    names = [f"n{i:08d}" for i in range(1000)]
    edges = write_edges(
        tmp_path / "edges.txt",
        [pair for i, n in enumerate(names) for pair in ((f"g{i // 10}", n),)] + [("r", f"g{i}") for i in range(100)],
    )
    path = write_lines(tmp_path / "list.txt", [f"train/{name}/{name}_{i}.JPEG" for name in names for i in range(100)])
    data = ImageNet(data_root=str(tmp_path), hierarchy=edges, ann_file=path, check_files=False)
    assert data.labels.shape == (100_000, 2)
    assert data.labels[:, 0].bincount().tolist() == [1000] * 100
    annotations = data.read()
    assert len({id(label) for label in annotations.labels}) == 1000
    assert len({id(name) for name in annotations.extra_labels["wnid"]}) == 1000
