"""What is fuzzed: for every reader the files that it reads, how they are written, and how they are read."""

from __future__ import annotations

import importlib
import io
import json
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from torch import nn

import hierpretrain.datasets as datasets
from fuzzing import seals
from hierpretrain.apis import EmbeddingIndex, load_config
from hierpretrain.apis.embedding_files import read_embeddings, write_embeddings
from hierpretrain.apis.starts import check_checkpoint
from hierpretrain.datasets import Split, share_split
from hierpretrain.datasets.archive import unpack_own
from hierpretrain.datasets.cub import read_levels_above
from hierpretrain.datasets.loading import open_rgb
from hierpretrain.engine import skipped_files
from hierpretrain.engine.frozen_features import _FeaturePipeline
from hierpretrain.models.checkpoints import StrictPretrained
from hierpretrain.models.encoders.weight_files import read_weights
from hierpretrain.registry import DATASETS
from hierpretrain.report.runs import read_run
from hierpretrain.taxonomy import Taxonomy
from tests import config_trees
from tests.apis.test_index import build, images
from tests.datasets import write_cars, write_imagenet
from tests.report.work_dirs import write_run

TREE = Taxonomy([("animal", "cat", "tabby"), ("animal", "dog"), ("tool", "saw", "fret saw")], ("kind", "of", "breed"))


@dataclass(frozen=True)
class Target:
    """A reader and its files.

    Attributes:
        write: Writes the files into a new folder.
        read: Reads them, and returns all that is made of them.
        files: Patterns of the files that are mutated.
        sealed: Whether digests tell every change.
        seal: Puts digests right after a file was changed, so that what stands behind them is tried.
        names: What a message may name in place of the file.
        share: Of the mutations, where a target takes long.
    """

    write: Callable[[Path], Any]
    read: Callable[[Path], Any]
    files: Sequence[str] = ("**/*",)
    sealed: bool = False
    seal: Callable[[Path, Path], Any] | None = None
    names: Callable[[Path], Sequence[str]] | None = None
    share: float = 1.0


# ---------------------------------------------------------------- data sets
def annotations_of(kind: str, root: Path, **options: Any) -> Any:
    """Returns what a data set reads, image by image, after all checks of its constructor."""
    found = {}

    class Read(DATASETS.get(kind)):  # type: ignore[misc]
        def read(self) -> Any:
            found["annotations"] = super().read()
            return found["annotations"]

    Read(data_root=str(root), **options)
    a = found["annotations"]
    columns = {"extra": a.extra_labels, "metadata": a.metadata}
    return {
        "levels": a.level_names,
        "images": {
            image: (
                sorted(a.paths(i)),
                a.splits[i],
                a.keys[i] if a.keys else "",
                {name: {key: column[i] for key, column in part.items()} for name, part in columns.items()},
            )
            for i, image in enumerate(a.images)
        },
    }


_TEXTS = ("**/*.txt", "**/*.csv", "**/*.json", "**/*.noun")
_FOLDERS = {"DyML": "dyml_animal"}
_OPTIONS = {"DyML": dict(subset="animal"), "INaturalist": dict(year="2017")}


def _dataset(kind: str) -> Target:
    folder = _FOLDERS.get(kind, kind)
    options = _OPTIONS.get(kind, {})

    def read(root: Path) -> Any:
        more = {"hierarchy": str(root / folder / "data.noun")} if kind == "ImageNet" else {}
        return annotations_of(kind, root / folder, **options, **more)

    return Target(lambda root: config_trees.WRITERS[kind](root / folder), read, _TEXTS)


def _of_imagenet(name: str, write: Callable[[Path], Any]) -> Target:
    """ImageNet with a tree, or with classes of its validation images, in another form."""

    def make(root: Path) -> None:
        write_imagenet.write_images(root)
        write(root / name)

    return Target(
        make,
        lambda root: annotations_of("ImageNet", root, hierarchy=str(root / name), policy="longest"),
        (f"{name}*/**/*", name),
    )


def _imagenet_devkit(root: Path) -> None:
    written = write_imagenet.write_images(root, flat_val=True)
    write_imagenet.write_devkit(root / "devkit", written)
    write_imagenet.write_edges(root / "is_a.txt")


_CUB_TREE = "class,order,family\n1,Anseriformes,Anatidae\nRock_Wren,Passeriformes,Wrens\n3,Passeriformes,Finches\n"
_CUB_CLASSES = {"1": "Gadwall", "2": "Rock_Wren", "3": "Goldfinch"}


# ---------------------------------------------------------------- lists
ROWS = [
    {
        "image": f"{kind}/{i}.png",
        "split": "val" if i % 3 == 0 else "train",
        "sku": f"A{i}",
        "kind": kind,
        "breed": breed,
    }
    for i, (kind, breed) in enumerate([("cat", "tabby"), ("cat", "lion"), ("dog", "pug"), ("tool", "")] * 5)
]


def _csv(root: Path, name: str, delimiter: str) -> None:
    rows = [list(ROWS[0]), *(list(row.values()) for row in ROWS)]
    (root / name).write_text("".join(delimiter.join(row) + "\n" for row in rows), encoding="utf-8")


def _excel(root: Path) -> None:
    book = importlib.import_module("openpyxl").Workbook()
    for row in [list(ROWS[0]), *(list(row.values()) for row in ROWS)]:
        book.active.append(row)
    book.save(root / "list.xlsx")


def _parquet(root: Path) -> None:
    arrow, parquet = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    parquet.write_table(arrow.Table.from_pylist(ROWS), root / "list.parquet")


def _list(name: str, write: Callable[[Path], Any]) -> Target:
    def read(root: Path) -> Any:
        options = dict(levels=["kind", "breed"], key_column="sku", check_files=False)
        return annotations_of("ListDataset", root, ann_file=name, **options)

    return Target(write, read)


def _tagged(root: Path) -> None:
    _csv(root, "list.csv", ",")
    data = datasets.ListDataset(
        data_root=str(root), ann_file="list.csv", levels=["kind", "breed"], check_files=False, keep_annotations=True
    )
    share_split(data.annotations, level="kind").save(root / "split.json")


def _with_split(root: Path) -> Any:
    datasets.ListDataset(
        data_root=str(root),
        ann_file="list.csv",
        levels=["kind", "breed"],
        check_files=False,
        split_file=str(root / "split.json"),
    )
    return Split.load(root / "split.json")


def _with_tree(root: Path) -> Any:
    data = datasets.ListDataset(
        data_root=str(root),
        ann_file="list.csv",
        levels=["kind", "breed"],
        check_files=False,
        taxonomy=str(root / "tree.json"),
    )
    return data.taxonomy.to_dict(), data.labels


def _write_with_tree(root: Path) -> None:
    _csv(root, "list.csv", ",")
    Taxonomy([(row["kind"], row["breed"]) if row["breed"] else (row["kind"],) for row in ROWS], ("kind", "breed")).save(
        root / "tree.json"
    )


# ---------------------------------------------------------------- other libraries' data sets
def _picture(i: int = 0, mode: str = "RGB") -> Image.Image:
    values = np.random.default_rng(i).integers(0, 256, (24, 20, len(mode)), np.uint8)
    return Image.fromarray(values.squeeze()).convert(mode)


def _encoded(i: int = 0) -> bytes:
    file = io.BytesIO()
    _picture(i).save(file, "PNG")
    return file.getvalue()


def _shards(root: Path) -> None:
    with tarfile.open(root / "train.tar", "w") as tar:
        for i in range(4):
            about = json.dumps({"name": ("cat", "dog")[i % 2], "sku": f"A{i}"}).encode()
            for name, data in ((f"{i:04d}.png", _encoded(i)), (f"{i:04d}.json", about)):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))


def _read_shards(root: Path) -> Any:
    data = datasets.WebDataset(data_root=str(root), levels="name", key_column="sku", keep_annotations=True)
    found = data.annotations
    return found.labels, found.keys, found.images, [open_rgb(path) for path in data.image_paths]


def _hugging_face(root: Path) -> None:
    library = importlib.import_module("datasets")
    columns = {"image": [_picture(i) for i in range(4)], "kind": ["cat", "dog"] * 2, "sku": [f"A{i}" for i in range(4)]}
    features = library.Features(image=library.Image(), kind=library.Value("string"), sku=library.Value("string"))
    library.Dataset.from_dict(columns, features=features).save_to_disk(root / "pets")


def _read_hugging_face(root: Path) -> Any:
    data = datasets.HuggingFaceDataset(
        data_root=str(root / "pets"), levels="kind", key_column="sku", keep_annotations=True
    )
    found = data.annotations
    return found.labels, found.keys, found.images, [open_rgb(path) for path in data.image_paths]


# ---------------------------------------------------------------- what we write
def _index(root: Path) -> None:
    gallery = images(
        0, 60, skipped={"photos/x.jpg": "broken"}, keys=[f"A{i}" for i in range(60)], metadata={"x": ["y"] * 60}
    )
    index = build(gallery, kind="flat")
    index.calibrate(images(1, 30, prefix="other/"), precision=0.9, k=5)
    index.save(root / "index")


def _read_index(root: Path) -> Any:
    index = EmbeddingIndex.load(root / "index")
    query = images(2, 5)
    found = [(n.path, n.score, n.labels) for answer in index.search(query, 5) for n in answer.neighbours]
    facts = {
        name: getattr(index, name) for name in ("taxonomy", "paths", "model", "kind", "skipped", "metadata", "keys")
    }
    return found, facts, index.labels, index.calibration, index.classify(query)


def _embeddings(root: Path) -> None:
    more = dict(skipped={"photos/x.jpg": "broken"}, keys=[f"A{i}" for i in range(20)], metadata={"x": ["y"] * 20})
    write_embeddings(images(0, 20, **more), root / "embeddings")


def _network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6))


def _checkpoint(root: Path) -> None:
    meta = {"epoch": 2, "iter": 8, "cfg": "model = dict()\n", "dataset_meta": {"taxonomy": TREE.to_dict()}}
    torch.save({"meta": meta, "state_dict": _network().state_dict()}, root / "epoch_2.pth")


def _read_checkpoint(root: Path) -> Any:
    check_checkpoint(_network(), str(root / "epoch_2.pth"))
    network = _network()
    StrictPretrained(checkpoint=str(root / "epoch_2.pth"))(network)
    return network.state_dict(), read_weights(root / "epoch_2.pth")


def _safetensors(root: Path) -> None:
    importlib.import_module("safetensors.torch").save_file(_network().state_dict(), root / "x.safetensors")


def _features(root: Path) -> None:
    np.save(root / "0123abcd.npy", np.random.default_rng(0).standard_normal((12, 4, 3), np.float32))


def _read_features(root: Path) -> Any:
    kept = _FeaturePipeline(root / "0123abcd.npy", (12,), np.dtype("float32"), lambda info: info)
    return [kept({"sample_idx": i, "img_path": "x"})["features"] for i in range(12)]


_LINES = [{"loss": 2.5 - i / 4, "lr": 0.5, "epoch": 1, "iter": i, "step": i} for i in range(1, 6)] + [
    {"kind/recall@1": 0.5, "step": 2}
]


def _run(root: Path) -> None:
    write_run(root / "run", metrics={"kind/recall@1": 0.5, "kind/map": 0.25}, lines=_LINES)


def _skipped(root: Path) -> None:
    (root / "skipped.json").write_text(json.dumps({"a.jpg": "broken", "b.jpg": "cut off"}))


def _config(name: str) -> Target:
    def write(root: Path) -> None:
        small = dict(
            model=dict(
                type="HierarchicalContrastive", backbone=dict(type="ResNet", depth=18), loss=dict(type="SupConLoss")
            ),
            train_cfg=dict(by_epoch=True, max_epochs=2),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.5)),
            randomness=dict(seed=0),
            train_pipeline=[dict(type="LoadRGB"), dict(type="PackInputs", meta_keys=["img_path"])],
        )
        Config(small).dump(root / name)

    return Target(write, lambda root: load_config(root / name).to_dict())


def _image(name: str, mode: str = "RGB", **options: Any) -> Target:
    def write(root: Path) -> None:
        if name.endswith(".heic"):
            importlib.import_module("pillow_heif").register_heif_opener()
        _picture(0, mode).save(root / name, **options)

    return Target(write, lambda root: open_rgb(str(root / name)))


def _archive(root: Path) -> None:
    file = io.BytesIO()
    _picture(0).save(file, "PNG")
    with zipfile.ZipFile(root / "pets.zip", "w") as archive:
        for name, data in (
            ("pets/a.png", file.getvalue()),
            ("pets/meta/train.txt", b"a.png\n"),
            ("pets/b/c.txt", b"x"),
        ):
            archive.writestr(name, data)


def _unpacked(root: Path) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "pets.zip").symlink_to(root / "pets.zip")
        try:
            unpack_own(f"{folder}/pets", "pets")
        except Exception:
            left = [path.name for path in Path(folder).iterdir() if path.name != "pets.zip"]
            if left:
                raise AssertionError(f"left behind: {left}") from None
            raise
        home = Path(folder, "pets")
        return {str(path.relative_to(home)): path.read_bytes() for path in home.rglob("*") if path.is_file()}


def targets() -> dict[str, Target]:
    """Returns all targets by name."""
    lists = {
        f"list{end}": _list(f"list{end}", lambda root, end=end, by=by: _csv(root, f"list{end}", by))
        for end, by in ((".csv", ","), (".tsv", "\t"), (".txt", ";"))
    }
    lists["list.json"] = _list("list.json", lambda root: (root / "list.json").write_text(json.dumps(ROWS, indent=1)))
    lists["list.jsonl"] = _list(
        "list.jsonl", lambda root: (root / "list.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    )
    lists["list.xlsx"] = _list("list.xlsx", _excel)
    lists["list.parquet"] = _list("list.parquet", _parquet)
    kinds = sorted(set(config_trees.WRITERS) - {"ModelNet40", "OpenClipart96", "Cars196"})  # names of folders, or below
    found = {
        "taxonomy": Target(lambda root: TREE.save(root / "tree.json"), lambda root: Taxonomy.load(root / "tree.json")),
        "taxonomy of a data set": Target(_write_with_tree, _with_tree, ("tree.json",)),
        **lists,
        "split file": Target(_tagged, _with_split, ("split.json",)),
        **{kind: _dataset(kind) for kind in kinds},
        "Cars196 (mat)": Target(
            lambda root: write_cars.write_cars(root, "single"),
            lambda root: annotations_of("Cars196", root),
            ("*.mat",),
            share=0.3,
        ),
        "Cars196 (csv)": Target(
            lambda root: write_cars.write_cars(root, "csv"), lambda root: annotations_of("Cars196", root), ("*.csv",)
        ),
        "CUB levels (csv)": Target(
            lambda root: (root / "birds.csv").write_text(_CUB_TREE),
            lambda root: read_levels_above(str(root / "birds.csv"), _CUB_CLASSES),
        ),
        "CUB levels (json)": Target(
            lambda root: (root / "birds.json").write_text(
                json.dumps(
                    {
                        "1": {"order": "A", "family": "B"},
                        "2": {"order": "P", "family": "W"},
                        "3": {"order": "P", "family": "F"},
                    }
                )
            ),
            lambda root: read_levels_above(str(root / "birds.json"), _CUB_CLASSES),
        ),
        "ImageNet is_a": _of_imagenet("is_a.txt", write_imagenet.write_edges),
        "ImageNet breeds": _of_imagenet("info", write_imagenet.write_breeds),
        "ImageNet robustness": _of_imagenet("info", write_imagenet.write_robustness),
        "ImageNet devkit": Target(
            _imagenet_devkit,
            lambda root: annotations_of(
                "ImageNet", root, hierarchy=str(root / "is_a.txt"), policy="longest", val_classes=str(root / "devkit")
            ),
            ("devkit/**/*",),
            share=0.3,
        ),
        "WebDataset": Target(_shards, _read_shards),
        "Hugging Face": Target(_hugging_face, _read_hugging_face, names=lambda file: ["/pets"], share=0.5),
        "index": Target(_index, _read_index, sealed=True),
        "index, sealed anew": Target(_index, _read_index, seal=seals.index, files=("index/*",)),
        "embeddings": Target(_embeddings, lambda root: read_embeddings(root / "embeddings"), sealed=True),
        "embeddings, sealed anew": Target(
            _embeddings, lambda root: read_embeddings(root / "embeddings"), seal=seals.embeddings
        ),
        "checkpoint": Target(_checkpoint, _read_checkpoint),
        "safetensors": Target(_safetensors, lambda root: read_weights(root / "x.safetensors")),
        "frozen features": Target(_features, _read_features),
        "work directory": Target(_run, lambda root: read_run(root / "run"), ("**/*.json", "**/*.py")),
        "skipped.json": Target(_skipped, lambda root: skipped_files._read(root / "skipped.json")),
        "config.yaml": _config("config.yaml"),
        "config.json": _config("config.json"),
        "archive": Target(_archive, _unpacked),
        "png": _image("a.png"),
        "png (alpha)": _image("a.png", "RGBA"),
        "jpeg": _image("a.jpg"),
        "gif": _image("a.gif"),
        "webp": _image("a.webp", lossless=True),
        "tiff": _image("a.tif", compression="tiff_lzw"),
        "bmp": _image("a.bmp"),
        "avif": _image("a.avif"),
        "heic": _image("a.heic"),
        "jpeg2000": _image("a.jp2"),
    }
    return found
