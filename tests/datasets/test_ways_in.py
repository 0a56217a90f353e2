"""Data sets of torchvision, Hugging Face, WebDataset and Parquet: the same images and labels as files have."""

import datetime
import io
import json
import os
import pickle
import re
import subprocess
import sys
import tarfile
import unicodedata
from decimal import Decimal
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.datasets import FakeData, ImageFolder

from hierpretrain.apis import EmbeddingInferencer
from hierpretrain.datasets import (
    FolderDataset,
    HierarchicalBatchSampler,
    HuggingFaceDataset,
    TorchvisionDataset,
    UnreadableImage,
    WebDataset,
)
from hierpretrain.datasets.class_paths import class_path
from hierpretrain.registry import DATASETS
from tests.datasets.trees import write_image

PATHS = {"tabby": "animal/cat/tabby", "dog": ["animal", "dog"], "saw": ("tool",)}
CLASSES = ("tabby", "dog", "saw")
COLOURS = {"tabby": (200, 10, 10), "dog": (10, 200, 10), "saw": (10, 10, 200)}


def load(item):
    return item["img"].getpixel((0, 0)), tuple(item["gt_label"].tolist())


PIPELINE = [dict(type="LoadRGB"), load]


def test_class_paths_are_found_in_any_unicode_form():
    assert class_path("cafe\u0301", {"caf\u00e9": "place/caf\u00e9"}, "places") == ("place", "caf\u00e9")


def encoded(name, kind="PNG"):
    file = io.BytesIO()
    Image.new("RGB", (8, 6), COLOURS[name]).save(file, kind)
    return file.getvalue()


EXPECTED = [(COLOURS["tabby"], (0, 0, 0)), (COLOURS["dog"], (0, 1, -1)), (COLOURS["saw"], (1, -1, -1))]


def check(data, num_workers=0, context=None):
    """All images and labels are there, with workers too, and the batch sampler takes the labels."""
    loader = DataLoader(data, 4, num_workers=num_workers, multiprocessing_context=context, collate_fn=list)
    assert [item for batch in loader for item in batch] == EXPECTED * 4
    assert next(iter(HierarchicalBatchSampler(data, 12)))


@pytest.fixture(scope="module")
def inferencer():
    torch.manual_seed(0)
    backbone = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
    pipeline = [dict(type="LoadRGB"), dict(type="torchvision/Resize", size=(32, 32))]
    config = dict(
        model=dict(type="HierarchicalContrastive", backbone=backbone),
        test_dataloader=dict(dataset=dict(pipeline=pipeline)),
    )
    return EmbeddingInferencer(Config(config), checkpoint="", device="cpu", progress=False)


# ---------------------------------------------------------------- torchvision
class Pairs(list):
    """Items (picture, class), as torchvision's data sets in memory have them."""

    classes = CLASSES

    def __init__(self, names=CLASSES * 4):
        super().__init__((Image.new("RGB", (8, 6), COLOURS[name]), CLASSES.index(name)) for name in names)
        self.targets = [target for _, target in self]


@pytest.mark.parametrize(
    ("num_workers", "context"), [(0, None), (2, "fork"), pytest.param(2, "spawn", marks=pytest.mark.slow)]
)
def test_items_of_pictures_and_classes(num_workers, context):
    data = TorchvisionDataset(dataset=Pairs(), class_paths=PATHS, pipeline=PIPELINE)
    check(data, num_workers, context)
    assert data.taxonomy.level_names == ("level1", "level2", "level3")


@pytest.mark.parametrize("kind", [list, np.asarray, torch.tensor])
def test_targets_of_any_kind(kind):
    pairs = Pairs()
    pairs.targets = kind(pairs.targets)
    check(TorchvisionDataset(dataset=pairs, class_paths=PATHS.__getitem__, pipeline=PIPELINE))


def test_two_in_one_process_are_told_apart():
    first, second = (TorchvisionDataset(dataset=Pairs([name]), pipeline=PIPELINE) for name in ("dog", "saw"))
    assert (first[0][0], second[0][0]) == (COLOURS["dog"], COLOURS["saw"])
    assert first.taxonomy.level_names == ("class",)


def test_the_same_content_has_the_same_paths_in_any_process(tmp_path):
    ours = TorchvisionDataset(dataset=Pairs(["dog"])).image_paths
    code = (
        "from tests.datasets.test_ways_in import Pairs, TorchvisionDataset\n"
        "data = [TorchvisionDataset(dataset=Pairs([name])) for name in ('saw', 'tabby', 'dog')]\n"
        "print(*(one.image_paths[0] for one in data))\n"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    theirs = done.stdout.split()
    assert theirs[2:] == ours
    assert len(set(theirs)) == 3


@pytest.mark.parametrize("change", ["targets", "picture", "split", "palette"])
def test_other_content_has_other_paths(change):
    pairs, other = Pairs(), Pairs()
    if change == "targets":
        other.targets = [0] * 12
    elif change == "picture":
        other[0] = (Image.new("RGB", (8, 6), "white"), 0)
    elif change == "split":
        pairs.split, other.split = "train", "test"
    else:
        for one, colour in ((pairs, 3), (other, 4)):
            one[0] = (Image.new("P", (8, 6)), 0)
            one[0][0].putpalette([colour] * 768)
    first, second = (TorchvisionDataset(dataset=one).image_paths for one in (pairs, other))
    assert not set(first) & set(second)


def test_data_sets_that_differ_in_few_pictures_are_told_apart():
    pairs, same, other = (Pairs(["dog"] * 100) for _ in range(3))
    other[1] = (Image.new("RGB", (8, 6), COLOURS["saw"]), 1)  # which is not one of the few that are looked at
    made = [TorchvisionDataset(dataset=one, pipeline=PIPELINE) for one in (pairs, same, other)]
    first, second, third = (data.image_paths for data in made)
    assert first == second
    assert third[1] == first[1].replace("/", "-2/")
    assert [data[1][0] for data in made] == [COLOURS["dog"], COLOURS["dog"], COLOURS["saw"]]


def test_all_pictures_of_an_array_are_looked_at():
    class Arrays(Pairs):
        def __init__(self, data):
            super().__init__(["dog"] * 100)
            self.data = data

    arrays = [np.zeros((100, 6, 8, 3), np.uint8) for _ in range(3)]
    arrays[2][1] = 1
    one, same, other = [TorchvisionDataset(dataset=Arrays(data)) for data in arrays]
    assert one.image_paths == same.image_paths
    assert not set(one.image_paths) & set(other.image_paths)
    assert "-2/" not in other.image_paths[0]


def test_an_image_folder_is_read_as_files_are(tmp_path):
    for name, colour in COLOURS.items():
        write_image(tmp_path / name / "1.png", colour)
    theirs = ImageFolder(tmp_path)
    data = TorchvisionDataset(dataset=theirs, pipeline=PIPELINE)
    ours = FolderDataset(data_root=str(tmp_path), pipeline=PIPELINE)
    assert data.image_paths == ours.image_paths == [path for path, _ in theirs.samples]
    assert [data[i] for i in range(3)] == [ours[i] for i in range(3)]
    assert (
        DATASETS.build(
            dict(type="TorchvisionDataset", dataset=dict(type="ImageFolder", root=str(tmp_path)))
        ).image_paths
        == ours.image_paths
    )


def test_classes_of_one_path_are_counted(monkeypatch):
    lines = []
    monkeypatch.setattr("hierpretrain.datasets.class_paths.warn", lines.append)
    TorchvisionDataset(dataset=Pairs(), class_paths=PATHS, pipeline=PIPELINE).full_init()
    assert lines == []
    TorchvisionDataset(dataset=Pairs(), class_paths={**PATHS, "dog": "tool"}, pipeline=PIPELINE).full_init()
    twice = Pairs()
    twice.classes = ("crane", "crane", "saw")  # as ImageNet's, of which one is a bird
    TorchvisionDataset(dataset=twice, pipeline=PIPELINE).full_init()
    told = "1 of the 3 classes of Pairs are no nodes of their own, since others have the same path: "
    remedy = "; where they shall differ, have class_paths add an id to the name"
    assert lines == [
        f"{told}'dog (target 1)' and 'saw (target 2)' are 'tool'{remedy}",
        f"{told}'crane (target 0)' and 'crane (target 1)' are 'crane'{remedy}",
    ]
    rows = datasets.Dataset.from_dict({"kind": ["a", "b", "c"], "image": [encoded("dog")] * 3})
    HuggingFaceDataset(
        dataset=rows, levels=["kind"], class_paths={"a": "x/y", "b": "x/y", "c": "x/y"}, pipeline=PIPELINE
    ).full_init()
    assert lines[-1].startswith("2 of the 3 classes of ")
    assert "'a' and 'b' and 'c' are 'x/y'" in lines[-1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(dataset=Pairs(), class_paths={"tabby": "cat"}), "Pairs has the class 'dog', which class_paths lack"),
        (
            dict(dataset=Pairs(), class_paths="paths.json"),
            "class_paths must be a mapping or a function, .*'paths.json'",
        ),
        (dict(dataset=Pairs(), class_paths=lambda name: 3), "must give a path of names for the class 'tabby' of Pairs"),
        (dict(dataset=Pairs(), class_paths=lambda name: "a//b"), r"such as 'animal/cat'; it is \['a', '', 'b'\]"),
        (dict(dataset=[1]), "list has neither samples nor targets"),
        (dict(dataset=dict(type="Cifar10", root=".")), r"data set of torchvision.datasets, .*; it is 'Cifar10'"),
        (dict(dataset=dict(type="os.system")), "it is 'os.system'"),
        (dict(dataset=FakeData(3)), "FakeData has neither samples nor targets"),
    ],
)
def test_errors_of_torchvision_objects(options, message):
    with pytest.raises(ValueError, match=message):
        TorchvisionDataset(**options)


def test_targets_that_do_not_fit():
    pairs = Pairs()
    pairs.targets = [*pairs.targets[1:], 3]
    with pytest.raises(ValueError, match="has the target 3, but 3 classes"):
        TorchvisionDataset(dataset=pairs)
    pairs.targets.pop()
    with pytest.raises(ValueError, match="has 12 items but 11 targets"):
        TorchvisionDataset(dataset=pairs)


def test_a_data_set_with_transforms_of_its_own():
    pairs = Pairs()
    pairs[0] = (torch.zeros(3, 8, 6), 0)
    with pytest.raises(UnreadableImage, match="it has a Tensor: leave its transforms out"):
        TorchvisionDataset(dataset=pairs, pipeline=PIPELINE)[0]


# ---------------------------------------------------------------- Hugging Face
def table(**columns):
    return datasets.Dataset.from_dict(
        {"image": [encoded(name) for name in CLASSES * 4], "label": list(range(3)) * 4, **columns},
        datasets.Features(
            image=datasets.Image(),
            label=datasets.ClassLabel(names=list(CLASSES)),
            **{name: datasets.Value("string") for name in columns},
        ),
    )


@pytest.mark.parametrize(
    ("num_workers", "context"), [(0, None), (2, "fork"), pytest.param(2, "spawn", marks=pytest.mark.slow)]
)
def test_images_and_class_labels(num_workers, context):
    data = HuggingFaceDataset(dataset=table(), class_paths=PATHS, pipeline=PIPELINE)
    check(data, num_workers, context)


def test_columns_are_as_in_a_list(tmp_path):
    kinds = [dict(tabby="animal", dog="animal", saw="tool")[name] for name in CLASSES * 4]
    made = table(kind=kinds, breed=["tabby", "rex", None] * 4, sku=[f"A{i}" for i in range(12)], note=["x"] * 12)
    made.save_to_disk(tmp_path / "pets")
    data = HuggingFaceDataset(data_root=str(tmp_path / "pets"), levels=["kind", "breed"], key_column="sku")
    assert data.labels[:3].tolist() == [[0, 1], [0, 0], [1, -1]]
    assert data.keys[:2] == ["A0", "A1"]
    assert data.metadata == {"label": list(CLASSES) * 4, "note": ["x"] * 12}
    assert re.fullmatch(f"{tmp_path}/pets/dataset-[0-9a-f]+/00000001", data.image_paths[1])
    made.select(range(11, -1, -1)).save_to_disk(tmp_path / "turned")
    turned = HuggingFaceDataset(data_root=str(tmp_path / "turned"), levels=["kind", "breed"], key_column="sku")
    names = [path.split("/")[-2] for path in (data.image_paths[1], turned.image_paths[1])]
    assert names[0] != names[1]  # what is kept of one image is not taken for another's


def test_columns_of_any_plain_type_are_texts_as_in_a_list():
    cells = {
        "price": [Decimal("1.50"), None],
        "length": [datetime.timedelta(hours=30), None],
        "opens": [datetime.time(9, 30), None],
        "weight": pa.array([9.99, None], pa.float32()),
        "half": pa.array([9.99, None], pa.float16()),
        "sale": [True, None],
        "size": pa.array(["S", None]).dictionary_encode(),
    }
    arrays = {name: pa.array(column) for name, column in cells.items()}
    made = datasets.Dataset(pa.table({"image": [encoded("dog")] * 2, "kind": ["dog"] * 2, **arrays}))
    data = HuggingFaceDataset(dataset=made, levels="kind")
    texts = dict(price="1.5", length="30:00:00", opens="09:30:00", weight="9.99", half="9.99", sale="true")
    texts["size"] = "S"
    assert data.metadata == {name: [text, ""] for name, text in texts.items()}
    assert HuggingFaceDataset(dataset=made, levels=[], key_column="price", need_labels=False).keys == ["1.5", ""]


def test_splits_and_several_places():
    parts = datasets.DatasetDict(train=table(place=["a > b"] * 12), test=table(place=["c"] * 12))
    data = HuggingFaceDataset(dataset=parts, levels="place", level_separator=">", split="test", pipeline=PIPELINE)
    assert (len(data), data.labels[0].tolist(), data[1][0]) == (12, [1, -1], COLOURS["dog"])
    places = datasets.List(datasets.ClassLabel(names=list(CLASSES)))
    several = datasets.Dataset.from_dict(
        {"image": [encoded("dog")] * 2, "tags": [[0, 1], [2]]}, datasets.Features(image=datasets.Image(), tags=places)
    )
    assert HuggingFaceDataset(dataset=several).labels.tolist() == [[[2], [0]], [[1], [-1]]]


def test_columns_without_use_are_left_out():
    made = table().add_column("embedding", [[0.5] * 3] * 12)
    assert HuggingFaceDataset(dataset=made).metadata == {}


def test_parquet_with_image_bytes(tmp_path):
    table().select(range(6)).to_parquet(tmp_path / "train-0.parquet")
    table().select(range(6)).to_parquet(tmp_path / "train-1.parquet")
    options = dict(data_root=str(tmp_path), cache_dir=str(tmp_path / "cache"))
    check(HuggingFaceDataset(files="train-*.parquet", class_paths=PATHS, pipeline=PIPELINE, **options))
    files = dict(train="train-0.parquet", val=["train-1.parquet"])
    assert HuggingFaceDataset(files=files, split="val", **options).splits == ["val"] * 6


def test_parquet_of_others(tmp_path):
    import pyarrow
    from pyarrow import parquet

    rows = {"photo": [encoded(name) for name in CLASSES], "kind": list(CLASSES)}
    parquet.write_table(pyarrow.table(rows), tmp_path / "a.parquet")
    data = HuggingFaceDataset(
        data_root=str(tmp_path),
        files="*.parquet",
        image_column="photo",
        levels="kind",
        class_paths=PATHS,
        cache_dir=str(tmp_path / "cache"),
        pipeline=PIPELINE,
    )
    assert [data[i] for i in range(3)] == EXPECTED


def test_images_that_parquet_names_are_below_its_folder(tmp_path, monkeypatch):
    import pyarrow
    from pyarrow import parquet

    outside = write_image(tmp_path / "secret.png", COLOURS["saw"])
    for name in ("0.png", "root/0.png"):  # a path counts from data_root, and not from the working directory
        write_image(tmp_path / name, COLOURS["dog" if "/" in name else "saw"])
    (tmp_path / "root/link.png").symlink_to(outside)
    paths = ["0.png", "./0.png", str(outside), "../secret.png", "link.png"]
    rows = {"image": [{"bytes": None, "path": path} for path in paths], "kind": ["a"] * 5}
    parquet.write_table(pyarrow.table(rows), tmp_path / "root/a.parquet")
    monkeypatch.chdir(tmp_path)
    options = dict(levels="kind", pipeline=PIPELINE)
    data = HuggingFaceDataset(data_root="root", files="*.parquet", cache_dir=str(tmp_path / "cache"), **options)
    assert [data[i][0] for i in range(2)] == [COLOURS["dog"]] * 2
    for i, message in (
        (2, f"row 3 has the image '{outside}', which must not be absolute, hold '..' or a backslash; give paths below"),
        (3, "row 4 has the image '../secret.png', which must not be absolute, hold '..' or a backslash; give paths"),
        (4, "link.png is a link that leads out of the image folder, to "),
    ):
        with pytest.raises(UnreadableImage, match=re.escape(message)):
            data[i]
    made = datasets.Dataset.from_dict({"image": [{"bytes": None, "path": str(outside)}], "kind": ["a"]})
    assert HuggingFaceDataset(dataset=made, **options)[0][0] == COLOURS["saw"]  # the caller's own


@pytest.mark.parametrize("kind", ["shard", "Parquet", "save_to_disk"])
def test_files_that_are_links_out_of_their_folder_are_not_read(tmp_path, kind):
    root = tmp_path / "root"
    root.mkdir()
    options = dict(data_root=str(root), levels="label")
    if kind == "shard":
        (root / "a.tar").symlink_to(write_shard(tmp_path / "a.tar", samples_of(range(3))))
        make = WebDataset
    else:
        make, options = HuggingFaceDataset, options | dict(files="*.parquet", cache_dir=str(tmp_path / "cache"))
        if kind == "Parquet":
            table().to_parquet(tmp_path / "a.parquet")
            (root / "a.parquet").symlink_to(tmp_path / "a.parquet")
        else:
            options = dict(data_root=str(root), levels="label")
            table().save_to_disk(root)
            (file,) = root.glob("*.arrow")
            file.rename(tmp_path / "a.arrow")
            file.symlink_to(tmp_path / "a.arrow")
    with pytest.raises(ValueError, match=rf"is a link that leads out of the image folder, to {tmp_path}/a\."):
        make(**options)


def test_an_unreadable_row_is_named():
    made = datasets.Dataset.from_dict({"image": [encoded("dog"), b"no image", None], "label": ["a", "b", "a"]})
    data = HuggingFaceDataset(dataset=made, levels="label", pipeline=PIPELINE)
    for row, why in ((1, "cannot identify image file"), (2, "row 3: there is no image but NoneType")):
        with pytest.raises(UnreadableImage, match=rf"datasets:\w+/0000000{row}: .*{why}"):
            data[row]
    data = HuggingFaceDataset(dataset=made, levels="label", pipeline=PIPELINE, on_error="skip")
    assert data[1][0] == COLOURS["dog"]
    assert [os.path.basename(path) for path in data.skipped] == ["00000001", "00000002"]


def test_errors_of_hugging_face(tmp_path):
    with pytest.raises(ValueError, match="files are below data_root, and dataset has none: leave out dataset or files"):
        HuggingFaceDataset(dataset=table(), files="*.parquet")
    with pytest.raises(ValueError, match="cache_dir is of files alone, which are not given: leave out cache_dir='x'"):
        HuggingFaceDataset(dataset=table(), cache_dir="x")
    with pytest.raises(ValueError, match="give either data_root, a folder, or dataset"):
        HuggingFaceDataset()
    with pytest.raises(ValueError, match=r"has no column 'photo'; the columns are \['image', 'label'\]"):
        HuggingFaceDataset(dataset=table(), image_column="photo")
    with pytest.raises(ValueError, match=r"there is no folder '.*none' to read a data set from"):
        HuggingFaceDataset(data_root=str(tmp_path / "none"))
    with pytest.raises(ValueError, match="holds no data set as save_to_disk writes it"):
        HuggingFaceDataset(data_root=str(tmp_path))
    with pytest.raises(ValueError, match="load it without streaming"):
        HuggingFaceDataset(dataset=table().to_iterable_dataset())
    (tmp_path / "a.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(ValueError, match=r"the Parquet files below .* cannot be read"):
        HuggingFaceDataset(data_root=str(tmp_path), files="*.parquet", cache_dir=str(tmp_path / "cache"))
    with pytest.raises(ValueError, match=r"no file matches 'b\*' below"):
        HuggingFaceDataset(data_root=str(tmp_path), files="b*")


@pytest.mark.parametrize("num_workers", [0, 2])
def test_embedded_as_files_are(tmp_path, num_workers, inferencer):
    for i, name in enumerate(CLASSES * 4):
        (tmp_path / f"{i:02}.png").write_bytes(encoded(name))
    inferencer.num_workers = num_workers
    expected = inferencer([tmp_path / f"{i:02}.png" for i in range(12)])
    write_shard(tmp_path / "a.tar", samples_of(range(12)))
    made = [
        TorchvisionDataset(dataset=Pairs(), class_paths=PATHS),
        HuggingFaceDataset(dataset=table(), class_paths=PATHS),
        WebDataset(data_root=str(tmp_path), levels="name", class_paths=PATHS),
    ]
    for data in made:
        found = inferencer.embed(data)
        np.testing.assert_array_equal(found.features.numpy(), expected)
        assert [found.taxonomy.decode(row) for row in found.labels[:3]] == [class_path(n, PATHS, "") for n in CLASSES]
    index = inferencer.build_index(made[2], tmp_path / "pets.index")
    assert index.paths == made[2].image_paths
    assert inferencer.load_index(tmp_path / "pets.index").paths == index.paths
    assert inferencer.search(made[1])[1].neighbours[0].labels == (("animal", "dog"),)


# ---------------------------------------------------------------- WebDataset
class Bomb:
    def __reduce__(self):
        return os.abort, ()


def write_shard(path, samples):
    """Writes (name, bytes) as the members of a tar file."""
    with tarfile.open(path, "w") as tar:
        for name, data in samples:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def samples_of(numbers, folders=False):
    for i in numbers:
        name = CLASSES[i % 3]
        key = f"{'/'.join(class_path(name, PATHS, ''))}/{i}" if folders else f"{i:04d}"
        yield f"{key}.cls", str(i % 3).encode()
        yield f"{key}.png", encoded(name)
        yield f"{key}.json", json.dumps({"name": name, "sku": f"A{i}", "tags": ["x", i]}).encode()
        yield f"{key}.pkl", pickle.dumps(Bomb())
        yield f"{key}.pyd", pickle.dumps(Bomb())


@pytest.mark.parametrize(
    ("num_workers", "context"), [(0, None), (2, "fork"), pytest.param(2, "spawn", marks=pytest.mark.slow)]
)
def test_shards(tmp_path, num_workers, context):
    write_shard(tmp_path / "a-0.tar", samples_of(range(6)))
    write_shard(tmp_path / "a-1.tar", samples_of(range(6, 12)))
    data = WebDataset(
        data_root=str(tmp_path), shards="a-*.tar", levels="name", class_paths=PATHS, key_column="sku", pipeline=PIPELINE
    )
    check(data, num_workers, context)
    assert data.keys[7] == "A7"
    assert data.image_paths[7] == str(tmp_path / "a-1.tar/0007.png")
    assert data.metadata["tags"][7] == '["x", 7]'


def test_fields_of_shards_of_any_type_are_texts(tmp_path):
    fields = {"kind": "dog", "price": 1.50, "stock": 7.0, "sale": True, "size": {"width": 1.5}, "note": None}
    write_shard(tmp_path / "a.tar", [("a.png", encoded("dog")), ("a.json", json.dumps(fields).encode())])
    data = WebDataset(data_root=str(tmp_path), levels="kind")
    texts = dict(key="a", price="1.5", stock="7", sale="true", size='{"width": 1.5}', note="")
    assert data.metadata == {name: [text] for name, text in texts.items()}


def test_folders_in_shards_are_labels_and_shards_have_splits(tmp_path):
    write_shard(tmp_path / "train.tar", samples_of(range(12), folders=True))
    write_shard(tmp_path / "val.tar", samples_of(range(3), folders=True))
    options = dict(data_root=str(tmp_path), shards=dict(train="train.tar", val="val.tar"), pipeline=PIPELINE)
    check(WebDataset(split="train", **options))
    assert WebDataset(**options).splits == ["train"] * 12 + ["val"] * 3
    paths = {"0": "animal/cat/tabby", "1": "animal/dog", "2": "tool"}
    assert WebDataset(levels="cls", class_paths=paths, split="val", **options)[1] == EXPECTED[1]


def test_samples_may_differ_in_their_files(tmp_path):
    members = [("a.jpg", encoded("dog", "JPEG")), ("b.webp", encoded("saw", "WEBP")), ("b.json", b'{"kind": "tool"}')]
    write_shard(tmp_path / "a.tar", [("./._a.jpg", b"of macOS"), *members])
    data = WebDataset(data_root=str(tmp_path), levels="kind", pipeline=[dict(type="LoadRGB")])
    assert data.labels.tolist() == [[-1], [0]]
    assert [item["img"].size for item in map(data.__getitem__, range(2))] == [(8, 6)] * 2


def test_a_column_of_a_shard_in_two_unicode_forms_is_one(tmp_path):
    one, two = (unicodedata.normalize(form, "Größe") for form in ("NFC", "NFD"))

    def shard(*fields):
        files = ((f"{i}.png", f"{i}.json", json.dumps(of_image).encode()) for i, of_image in enumerate(fields))
        members = [member for image, text, data in files for member in ((image, encoded("dog")), (text, data))]
        write_shard(tmp_path / "a.tar", members)
        return str(tmp_path)

    root = shard({one: "a"}, {two: "b"}, {f" {two}": "a"})
    for levels in (one, two):
        data = WebDataset(data_root=root, levels=levels)
        assert (data.labels.tolist(), data.taxonomy.level_names) == ([[0], [1], [0]], (one,))
        assert data.metadata.keys() == {"key"}
        assert WebDataset(data_root=root, levels=levels, class_paths={"a": "x/y", "b": "z"}).labels.shape == (3, 2)
    with pytest.raises(ValueError, match=r"a\.tar: sample '1': the keys \[.*\] are one column; keep one"):
        WebDataset(data_root=shard({one: "a"}, {one: "a", two: "b"}), levels=one)
    data = WebDataset(data_root=shard({" image": "a", "split ": "b", " key": "c"}), levels="json_image")
    assert (data.labels.tolist(), data.splits, data.metadata) == ([[0]], ["all"], {"key": ["0"], "json_split": ["b"]})


def test_columns_of_one_name_in_two_unicode_forms_are_told():
    one, two = (unicodedata.normalize(form, "Größe") for form in ("NFC", "NFD"))
    with pytest.raises(ValueError, match="the columns must have different names; they are"):
        HuggingFaceDataset(dataset=table(**{one: ["a"] * 12, two: ["b"] * 12}), levels=one)
    data = HuggingFaceDataset(
        dataset=table(**{two: ["a", "b", "c"] * 4}), levels=one, class_paths=dict(a="x", b="y", c="z")
    )
    assert (data.taxonomy.level_names, data.labels[:3].tolist()) == ((one,), [[0], [1], [2]])


def test_nothing_outside_a_shard_is_read(tmp_path):
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        link = tarfile.TarInfo("cat/1.png")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/hostname"
        tar.addfile(link)
        member = tarfile.TarInfo("../../out.png")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"data"))
    with pytest.raises(ValueError, match=r"'a\.tar/\.\./\.\./out\.png', which must not be absolute, hold '\.\.'"):
        WebDataset(data_root=str(tmp_path), need_labels=False)
    with pytest.raises(ValueError, match="shards must be below data_root"):
        WebDataset(data_root=str(tmp_path), shards="../*.tar")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([("a.json", b"{}")], r"a\.tar: the sample 'a' has no image; images end in"),
        ([("a.png", b""), ("b.json", b"{}"), ("a.json", b"{}")], "the sample 'b' has no image"),
        ([("a.png", b""), ("a.jpg", b"")], "the sample 'a' has two images, 'a.jpg' the second"),
        (
            [("a.png", b"1"), ("b.png", b""), ("a.png", b"2")],
            "the image 'a.png' is there twice, and a name stands for one",
        ),
        ([("a.png", b""), ("a.cls", b"1"), ("a.cls", b"2")], "a.cls: the sample has 'cls' already"),
        ([("a.png", b""), ("a.cls", b"1"), ("a.json", b'{"cls": 2}')], "a.json: the sample has 'cls' already"),
        ([("a.png", b""), ("a.json", b'{"kind"')], r"a\.tar: a\.json:1: no JSON: .*; make the shard anew"),
        ([("a.png", b""), ("a.cls", b"\xff")], r"a\.tar: a\.cls:1: byte 0xff is not UTF-8"),
        ([("a.png", b"")], "there is no column 'kind'"),
    ],
)
def test_damaged_samples(tmp_path, members, message):
    write_shard(tmp_path / "a.tar", members)
    with pytest.raises(ValueError, match=message):
        WebDataset(data_root=str(tmp_path), levels="kind")


def test_damaged_shards(tmp_path):
    whole = write_shard(tmp_path / "a.tar", samples_of(range(9))).read_bytes()
    for end in (100, 700, 512 * 16, 512 * 16 + 100, len(whole) // 2):
        (tmp_path / "a.tar").write_bytes(whole[:end])
        with pytest.raises(ValueError, match=r"the shard .*a\.tar is damaged, compressed or no tar file"):
            WebDataset(data_root=str(tmp_path), levels="name")
    with tarfile.open(tmp_path / "b.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.png"))
    with pytest.raises(ValueError, match=r"b\.tar is damaged, compressed or no tar file"):
        WebDataset(data_root=str(tmp_path), shards="b.tar")
    with pytest.raises(ValueError, match=r"no file matches 'c\*\.tar' below"):
        WebDataset(data_root=str(tmp_path), shards="c*.tar")


def test_names_that_are_no_texts_are_told():
    with pytest.raises(ValueError, match="levels must be the name of a column or a list of names; it is 5"):
        HuggingFaceDataset(data_root="none", levels=5)
    with pytest.raises(ValueError, match=r"image_column must be a text; it is \['image'\]"):
        HuggingFaceDataset(data_root="none", image_column=["image"])


@pytest.mark.parametrize("order", [("train", "test"), ("test", "train")])
def test_splits_of_different_columns_are_told(order):
    library = pytest.importorskip("datasets")

    def part(**columns):
        names = {name: library.ClassLabel(names=names) for name, names in columns.items()}
        values = {"image": [Image.new("RGB", (8, 8))] * 2} | {name: [0, 1] for name in columns}
        return library.Dataset.from_dict(values, features=library.Features({"image": library.Image(), **names}))

    whole, plain, turned = part(kind=["cat", "dog"]), part(), part(kind=["dog", "cat"])
    for test, message in (
        (plain, "all splits must have the same columns; 'test' has no 'kind', which 'train' has: add it"),
        (turned, r"a column must have one type in all splits; 'kind' is ClassLabel.* in '(train|test)' and ClassLabel"),
    ):
        splits = {"train": whole, "test": test}
        with pytest.raises(ValueError, match=message):
            HuggingFaceDataset(dataset=library.DatasetDict({split: splits[split] for split in order}))
    data = HuggingFaceDataset(dataset=library.DatasetDict({split: whole for split in order}))
    assert data.labels.tolist() == [[0], [1], [0], [1]]
