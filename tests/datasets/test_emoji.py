import hashlib
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from hierpretrain.datasets import Emoji64
from hierpretrain.datasets.emoji import development_splits
from hierpretrain.files import SHIPPED
from hierpretrain.registry import DATASETS

ARCHIVE = Path(__file__).parents[2] / "data" / "emoji64.zip"


@pytest.fixture(scope="module")
def root():
    return str(ARCHIVE.with_suffix(""))  # which other tests read, too


def emoji(data):
    return set(data.labels[:, 2].tolist())


def test_counts(root):
    sets = {split: DATASETS.build({"type": "Emoji64", "data_root": root, "split": split}) for split in SPLITS}
    assert {split: len(data) for split, data in sets.items()} == {"train": 7461, "query": 586, "gallery": 1254}
    for data in sets.values():
        assert data.taxonomy == sets["train"].taxonomy
        assert [data.taxonomy.num_nodes(level) for level in ("category", "subcategory", "emoji")] == [9, 98, 1906]
    assert not emoji(sets["train"]) & emoji(sets["query"])
    assert emoji(sets["query"]) == emoji(sets["gallery"])
    assert len(Emoji64(data_root=root + "/")) == 9301
    row = sets["train"].get_data_info(0)
    assert row["img_path"] == f"{root}/activities/arts-crafts/art/emojione.webp"
    assert sets["train"].taxonomy.decode(row["gt_label"]) == ("activities", "arts-crafts", "art")


SPLITS = ("train", "query", "gallery")


def test_development_splits(root):
    sets = {split: Emoji64(data_root=root, split=split, development=True) for split in SPLITS}
    real = Emoji64(data_root=root, split="train")
    assert {split: len(data) for split, data in sets.items()} == {"train": 6011, "query": 462, "gallery": 988}
    assert sorted(path for data in sets.values() for path in data.image_paths) == sorted(real.image_paths)
    assert not emoji(sets["train"]) & emoji(sets["query"])
    assert emoji(sets["query"]) == emoji(sets["gallery"])
    assert (len(emoji(sets["query"])), len(emoji(real))) == (297, 1529)
    queries = "\n".join(path.removeprefix(root) for path in sets["query"].image_paths)
    assert hashlib.sha256(queries.encode()).hexdigest()[:16] == "d7d093fb5837cdbb"  # the draw must never change


def test_development_split_is_made_as_the_real_one(root):
    """The rule applied to all images gives the sizes of the real split: of every subcategory, and of every emoji."""
    data = Emoji64(data_root=root)
    names = [path.removeprefix(root + "/") for path in data.image_paths]
    ours, real = development_splits(names[::-1]), dict(zip(names, data.splits, strict=True))
    for tags in (ours, real):
        unseen = {name.rpartition("/")[0] for name, tag in tags.items() if tag != "train"}
        sizes = Counter(name.rpartition("/")[0] for name in tags)
        queries = Counter(name.rpartition("/")[0] for name, tag in tags.items() if tag == "query")
        assert all(queries[name] == max(1, sizes[name] // 3) for name in unseen)
    parts = [
        Counter(n.rpartition("/")[0] for n in {m.rpartition("/")[0] for m in tags if tags[m] == "query"})
        for tags in (ours, real)
    ]
    assert parts[0] == parts[1]


def test_emoji_of_one_design_are_never_unseen():
    tags = development_splits([f"food/fruit/{name}/0.webp" for name in "abcdefghij"])
    assert set(tags.values()) == {"train"}


def test_it_is_unpacked_from_the_archive_beside_it_or_else_the_one_that_came_with_the_package(tmp_path, monkeypatch):
    def pack(file, images):
        file.parent.mkdir(parents=True, exist_ok=True)
        with zipfile.ZipFile(file, "w") as archive:
            for split in SPLITS:
                archive.writestr(f"emoji64/meta/{split}.txt", "".join(f"{split}/{image}\n" for image in images))
                for image in images:
                    archive.writestr(f"emoji64/{split}/{image}", "an image")

    pack(tmp_path / "package/data/emoji64.zip", ["b/c/1.webp", "b/c/2.webp"])
    pack(tmp_path / "beside/emoji64.zip", ["b/c/1.webp"])
    assert SHIPPED.joinpath("data/emoji64.zip").samefile(ARCHIVE)
    monkeypatch.setattr("hierpretrain.datasets.archive.SHIPPED", tmp_path / "package")
    for folder, number in {"empty/folder": 2, "beside": 1}.items():
        assert len(Emoji64(data_root=str(tmp_path / folder / "emoji64"), split="query")) == number
        assert {path.name for path in (tmp_path / folder).iterdir()} <= {"emoji64", "emoji64.zip"}


def test_missing_set(tmp_path, monkeypatch):
    monkeypatch.setattr("hierpretrain.datasets.archive.SHIPPED", tmp_path)
    root = str(tmp_path / "emoji64")
    with pytest.raises(
        ValueError, match=r"is neither at .* nor, packed, at .*emoji64\.zip, and this .*; it is data/emoji64\.zip"
    ):
        Emoji64(data_root=root)
    (tmp_path / "emoji64").mkdir()
    with pytest.raises(ValueError, match=r"meta/train\.txt is missing; remove the folder .* to have it unpacked anew"):
        Emoji64(data_root=root)
    (tmp_path / "emoji64/meta").mkdir()
    for split in SPLITS:
        (tmp_path / f"emoji64/meta/{split}.txt").write_text("a/b/c/d.webp\na/b.webp\n")
    with pytest.raises(ValueError, match=r"train\.txt:2: a line is <category>/.*, not 'a/b\.webp'; remove the folder"):
        Emoji64(data_root=root)
