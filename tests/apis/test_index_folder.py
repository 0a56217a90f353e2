"""The folder of an index: whole whenever it is read, the same after it was read, and believed only if it fits."""

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import faiss
import numpy as np
import pytest

from hierpretrain.apis import index_files
from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.apis.index_files import check_target
from hierpretrain.apis.part_files import sealed
from hierpretrain.evaluation import Embeddings
from hierpretrain.files import sha256
from hierpretrain.taxonomy import Taxonomy
from tests.apis.test_index import TREE, build, images


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
@pytest.mark.parametrize("several", [False, True])
def test_a_saved_index_answers_as_before_bit_for_bit(tmp_path, kind, half, several):
    gallery = images(0, 400, several=several, unlabelled=True, skipped={"photos/ü.jpg": "broken"})
    index, query = build(gallery, kind=kind, half=half), images(1, 20)
    index.save(tmp_path / "new/photos.index")
    loaded = EmbeddingIndex.load(tmp_path / "new/photos.index")
    assert loaded.search(query, 9) == index.search(query, 9)
    assert loaded.search(query, 3, level="kind", within="animal") == index.search(
        query, 3, level="kind", within="animal"
    )
    assert loaded.search(query, 3, level="breed") == index.search(query, 3, level="breed")
    assert loaded.classify(query) == index.classify(query)
    for name in ("taxonomy", "paths", "model", "fingerprint", "kind", "half", "recall", "skipped", "width"):
        assert getattr(loaded, name) == getattr(index, name)
    assert loaded.labels.equal(index.labels)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["photos.index"]


@pytest.mark.parametrize(
    "paths",
    [
        ["photos/a.jpg", "photos/b/c.jpg", "photos/b/d.jpg"],
        ["/data/é\n'\"\\.jpg", "/data/\udcff.jpg", "/data//x"],
        ["<image 0>", "<image 1>", "<image 2>"],
        ["abc1", "abc2", "abc3"],
        ["/a", "/b/c", "/b"],
        ["same", "same", "same"],
    ],
)
def test_paths_come_back_as_they_were(tmp_path, paths):
    gallery = Embeddings(**{**vars(images(number=3)), "paths": paths, "keys": ["1", "2", "3"]})
    build(gallery).save(tmp_path / "index")
    plain = [path.replace("//", "/") for path in paths]  # and in no other respect
    assert EmbeddingIndex.load(tmp_path / "index").paths == plain


@pytest.mark.parametrize("root", ["/mnt/archive/", "/mnt/archive"])
def test_images_that_moved_are_found_by_another_root(tmp_path, root):
    build(images(number=3)).save(tmp_path / "index")
    about = tmp_path / "index/index.json"
    about.write_text(about.read_text().replace('"photos/"', f'"{root}"'))
    assert EmbeddingIndex.load(tmp_path / "index").paths == [f"/mnt/archive/{i}.jpg" for i in range(3)]


@pytest.mark.parametrize("names", [["./cats/1.jpg", "./2.jpg"], ["./cats/1.jpg", "2.jpg"], ["./a/1.jpg", "./a/2.jpg"]])
def test_files_that_an_older_version_called_with_a_dot_are_the_same_files(tmp_path, names, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr("hierpretrain.apis.living.plain_path", str)
        build(replace(images(number=2), paths=names)).save(tmp_path / "index")
    index = EmbeddingIndex.open(tmp_path / "index")
    assert index.paths == [name.removeprefix("./") for name in names]
    with pytest.raises(ValueError, match="2 of 2 images are in the index already"):
        index.add(replace(images(number=2), paths=index.paths))
    index.save(tmp_path / "copy")
    assert EmbeddingIndex.open(tmp_path / "copy").paths == index.paths
    index.remove(index.paths[0])
    assert EmbeddingIndex.open(tmp_path / "copy").paths == index.paths == [names[1].removeprefix("./")]


def parts_of(folder, kind):
    """The files of one kind of part."""
    return sorted(folder.glob(f"{kind}-*"))


def test_the_folder_holds_plain_files(tmp_path):
    gallery = images(number=5, skipped={"photos/x.jpg": "cannot read it"})
    folder = tmp_path / "index"
    build(gallery, kind="hnsw").save(folder)
    about = json.loads((folder / "index.json").read_text())
    (segment,) = about["segments"]
    named = [*segment["parts"].values(), *about["parts"].values()]
    assert sorted(["index.json", *named[:2], *set(named[2:])]) == sorted(path.name for path in folder.iterdir())
    for name in named:
        assert name.split("-")[1].split(".")[0] == sha256(folder / name)
    assert json.loads(parts_of(folder, "skipped")[0].read_text()) == {"photos/x.jpg": "cannot read it"}
    assert json.loads(parts_of(folder, "images")[0].read_text()) == {
        "paths": [f"{i}.jpg" for i in range(5)],
        "keys": [],
        "digests": [],
        "metadata": {},
    }
    assert np.array_equal(np.load(parts_of(folder, "labels")[0], allow_pickle=False), gallery.labels.numpy())
    assert Taxonomy.load(parts_of(folder, "taxonomy")[0]) == TREE
    stored = faiss.read_index(str(parts_of(folder, "vectors")[0])).reconstruct_n(0, 5)
    np.testing.assert_allclose(stored, gallery.features, atol=1e-6)
    assert (about["count"], about["width"], about["kind"], about["half"]) == (5, 6, "hnsw", False)
    assert (about["model"], about["fingerprint"]) == ("resnet, epoch_5.pth", "0123abcd")
    assert (segment["root"], segment["kind"], segment["count"]) == ("photos/", "hnsw", 5)


def test_equal_indexes_have_equal_folders(tmp_path):
    for name in "ab":
        build(images(number=50)).save(tmp_path / name)
    files = [{path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in "ab"]
    assert files[0] == files[1]


def test_keys_and_metadata_come_back_with_every_answer(tmp_path):
    known = dict(keys=[f"S{i}" for i in range(5)], metadata={"price": ["", *"1234"], "note": ["ü"] * 5})
    gallery = images(number=5, **known)
    build(gallery).save(tmp_path / "index")
    loaded = EmbeddingIndex.load(tmp_path / "index")
    assert (loaded.keys, loaded.metadata) == (known["keys"], known["metadata"])
    results = loaded.search(gallery.of("all"), k=2)
    assert [result.key for result in results] == known["keys"]
    for row, result in enumerate(results):
        first = result.neighbours[0]
        assert (first.path, first.key) == (f"photos/{row}.jpg", f"S{row}")
        assert first.metadata == ({"price": str(row)} if row else {}) | {"note": "ü"}
        assert result.metadata == first.metadata
    hash(results[0])


def test_an_index_without_them_is_as_ever_and_a_wrong_file_is_an_error(tmp_path):
    build(images(number=3)).save(tmp_path / "index")
    (found, *_) = EmbeddingIndex.load(tmp_path / "index").search(images(number=3), k=1)
    assert (found.key, found.neighbours[0].key, found.neighbours[0].metadata) == ("", "", {})
    for wrong, message in (
        ({"keys": ["a"], "metadata": {}}, r"images-.* must hold 3 texts in 'keys', one an image"),
        ({"keys": [], "metadata": {"price": [1, 2, 3]}}, "must hold 3 texts in 'price'"),
        ({"keys": [], "metadata": []}, "must hold 'metadata', an object of lists"),
        ({"keys": [], "metadata": {}, "digests": [1, 2, 3]}, "must hold 3 texts in 'digests'"),
        ({"keys": [], "metadata": {}, "paths": []}, "must hold 3 texts in 'paths'"),
    ):
        damage("images", lambda path, wrong=wrong: edit(path, **wrong))(tmp_path / "index")
        with pytest.raises(ValueError, match=message):
            EmbeddingIndex.load(tmp_path / "index")


def test_what_the_manifest_could_not_say_is_not_written(tmp_path):
    index = EmbeddingIndex.build(images(number=3), model="resnet", fingerprint=17, log=print)
    with pytest.raises(ValueError, match=r"index.json must have 'fingerprint', of type str; it has 17"):
        index.save(tmp_path / "index")
    assert {path.name for path in (tmp_path / "index").iterdir()} <= {".index.json.lock"}


def test_an_older_index_is_replaced_and_nothing_else(tmp_path):
    folder = tmp_path / "index"
    build(images(number=5, skipped={"a": "b"})).save(folder)
    build(images(number=7)).save(folder)
    assert len(EmbeddingIndex.load(folder)) == 7
    assert parts_of(folder, "skipped") == []
    assert len(parts_of(folder, "vectors")) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds 'notes.txt', which would be lost, and is no part of an index"):
        build(images(number=9)).save(folder)
    assert len(EmbeddingIndex.load(folder)) == 7
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "photos").mkdir()
    check_target(tmp_path / "photos")  # empty
    check_target(tmp_path / "new")
    (tmp_path / "photos/labels.npy").touch()  # a name of the older format, of which there is no index
    for check in (check_target, build(images(number=3)).save):
        with pytest.raises(
            ValueError, match=r"photos holds 'labels.npy', which would be lost, and is no part of an index"
        ):
            check(tmp_path / "photos")
        with pytest.raises(ValueError, match=r"labels.npy is a file; an index is a folder: give another name"):
            check(tmp_path / "photos/labels.npy")
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["labels.npy"]
    build(images(number=3)).save(tmp_path / "new")
    shutil.rmtree(tmp_path / "photos")
    (tmp_path / "photos").mkdir()
    build(images(number=3)).save(tmp_path / "photos")
    assert len(EmbeddingIndex.load(tmp_path / "photos")) == 3


def test_an_index_of_the_older_format_is_replaced_and_opening_it_says_so(tmp_path):
    folder = tmp_path / "index"
    folder.mkdir()
    for name in ("index.faiss", "labels.npy", "files.json", "taxonomy.json", "skipped.json", "metadata.json"):
        (folder / name).write_text("old")
    (folder / "index.json").write_text('{"format": "hierpretrain.index.v1"}')
    with pytest.raises(ValueError, match=r"v3'; it has 'hierpretrain.index.v1': it is of another version; make the"):
        EmbeddingIndex.open(folder)
    build(images(number=5)).save(folder)
    assert len(EmbeddingIndex.open(folder)) == 5
    assert not (folder / "labels.npy").exists()


@pytest.mark.parametrize("step", ["part_files.flush", "index_files._write_faiss", "part_files.write_whole"])
def test_a_failure_leaves_the_older_index(tmp_path, monkeypatch, step):
    folder = tmp_path / "index"
    build(images(number=5)).save(folder)
    index = EmbeddingIndex.open(folder)

    def fail(*args):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"hierpretrain.apis.{step}", fail)
        for change in (build(images(number=7)).save, lambda _: index.add(images(1, prefix="more/"))):
            with pytest.raises(OSError, match="no space left"):
                change(folder)
    assert len(EmbeddingIndex.load(folder)) == len(index) == 5
    index.add(images(1, prefix="more/"))  # and removes what was left
    about = json.loads((folder / "index.json").read_text())
    named = {name for segment in about["segments"] for name in segment["parts"].values()}
    assert {path.name for path in folder.iterdir()} == {"index.json", *named, *about["parts"].values()}
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_parts_that_cannot_be_removed_are_no_error_of_the_change(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    index, unlink = build(images(number=5)), os.unlink
    index.save(folder)
    index.parts["thresholds"] = 1

    def fail(path, **options):
        if Path(path).name.startswith("thresholds"):
            raise OSError(errno.EIO, "Input/output error", str(path))
        unlink(path, **options)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", fail)
        index.parts["thresholds"] = 2
    assert index.parts["thresholds"] == EmbeddingIndex.open(folder).parts["thresholds"] == 2
    assert not index.refresh()  # it knows the manifest that it wrote
    assert len(parts_of(folder, "thresholds")) == 2
    index.parts["thresholds"] = 3
    assert len(parts_of(folder, "thresholds")) == 1  # the next writer tried again


def test_a_full_disk_is_an_error_of_the_system():
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    with pytest.raises(OSError, match="/dev/full cannot be written"):
        index_files._write_faiss(Path("/dev/full"), build(images(number=2000, dim=64))._now.largest.index)


def damage(kind, change):
    """Returns a function that changes one file of an index; its name and the manifest are made to agree."""

    def apply(folder):
        if kind == "index":
            return change(folder / "index.json")
        (path,) = parts_of(folder, kind)
        change(path)
        if path.exists():
            new = path.with_name(f"{kind}-{sha256(path)}{path.suffix}")
            path.rename(new)
            manifest = folder / "index.json"
            manifest.write_text(manifest.read_text().replace(path.name, new.name))
            edit(manifest)

    return apply


def edit_segment(path, **values):
    data = json.loads(path.read_text())
    data["segments"][0] |= values
    edit(path, **data)


def edit(path, **values):
    data = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps(sealed(data) if path.name == "index.json" else data))


def write_other_rows(path, number=40, dim=6, recipe="Flat"):
    other = faiss.index_factory(dim, recipe, faiss.METRIC_INNER_PRODUCT)
    rows = images(0, number, dim).features.numpy()
    other.train(rows)
    other.add(rows)
    faiss.write_index(other, str(path))


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def text(words):
    return lambda path: path.write_text(words)


def write_own_rows(path, rows, kind="Flat"):
    """Writes rows of any length and, of inverted lists, a list with the first row's number for all."""
    index = faiss.index_factory(6, kind, faiss.METRIC_INNER_PRODUCT)
    index.train(images(number=40).features.numpy())
    if kind == "Flat":
        index.add(rows)
    else:
        index.add_with_ids(rows, np.zeros(len(rows), np.int64))
    faiss.write_index(index, str(path))


def save_to(path, array, *, pickled=False):
    with open(path, "wb") as file:
        np.save(file, array, allow_pickle=pickled)


def labels_of(array):
    return lambda path: save_to(path, array)


WRONG_PARENT = json.dumps({**TREE.to_dict(), "parents": [[-1] * 4, [7] * 4, [0] * 4]})
DAMAGES = [
    ("index", Path.unlink, "there is no index in .*index: it has no index.json; make one there"),
    ("index", cut, "index.json is damaged: "),
    ("index", text("[" * 100_000), "index.json is damaged: "),
    ("index", text("[]"), "index.json is damaged: it must hold an object, and holds a list"),
    ("index", lambda p: edit(p, format="hierpretrain.index.v2"), "format 'hierpretrain.index.v3'; it has '.*v2'"),
    (
        "index",
        lambda p: p.write_text(p.read_text().replace("5.pth", "6.pth")),
        "index.json is damaged: its 'sha256' is",
    ),
    ("index", lambda p: edit(p, width="6"), "must have 'width', of type int; it has '6'"),
    ("index", lambda p: edit(p, half=1), "must have 'half', of type bool; it has 1"),
    ("index", lambda p: edit(p, segments=[3]), "must have 'count', of type int; it has None"),
    ("index", lambda p: edit_segment(p, recall={"a": "1"}), "must have recalls that are numbers; it has '1'"),
    ("index", lambda p: edit_segment(p, root=None), "must have 'root', of type str; it has None"),
    ("index", lambda p: edit_segment(p, search={"nprobe": 3}), "search parameters must be none for an exact index"),
    (
        "index",
        lambda p: edit_segment(p, kind="hnsw"),
        r"it is \('flat', False\), but index.json says \('hnsw', False\)",
    ),
    ("index", lambda p: edit(p, half=True), r"it is \('flat', False\), but index.json says \('flat', True\)"),
    ("index", lambda p: edit(p, count=41), "must have a count of 40, its images; it has 41"),
    ("index", lambda p: edit_segment(p, count=41), "must hold 41 texts in 'paths'"),
    ("index", lambda p: edit_segment(p, parts={}), "names None, which is no part"),
    ("index", lambda p: edit_segment(p, parts={"vectors": "../x.faiss"}), "names '../x.faiss', which is no part"),
    ("index", lambda p: edit(p, width=7), "must have vectors of 7 numbers, as index.json says; they have 6"),
    ("images", Path.unlink, "images-.* is missing"),
    ("images", text("[]"), "images-.* is damaged: it must hold an object, and holds a list"),
    ("images", lambda p: edit(p, paths=["a", 3]), "must hold 40 texts in 'paths'"),
    ("images", lambda p: p.write_bytes(b'["\xff"]'), "images-.* is damaged: .*UTF-8"),
    ("skipped", text('{"a": []}'), r"skipped-.* must hold texts; it holds \[\]"),
    ("taxonomy", Path.unlink, "taxonomy-.* is missing"),
    ("taxonomy", cut, "taxonomy-.* holds no label tree: .*is damaged"),
    ("taxonomy", text("{}"), "taxonomy-.* holds no label tree: no taxonomy"),
    ("taxonomy", text(WRONG_PARENT), "taxonomy-.* holds no label tree: .*parent 7, which does not exist"),
    ("taxonomy", text(json.dumps({**TREE.to_dict(), "names": 3})), "taxonomy-.* holds no label tree: "),
    ("labels", Path.unlink, "labels-.* is missing"),
    ("labels", cut, "labels-.* is damaged: "),
    ("labels", lambda p: p.write_bytes(b""), "labels-.* is damaged: "),
    ("labels", labels_of(np.zeros((40, 3))), "labels-.* must be an array of int64; it is float64"),
    (
        "labels",
        lambda p: save_to(p, np.array([{}], dtype=object), pickled=True),
        "labels-.* is damaged: it is of object",
    ),
    ("labels", labels_of(np.zeros((39, 3), np.int64)), "labels-.* must be of 40 images; it is of 39"),
    ("labels", labels_of(np.zeros((40, 2), np.int64)), "have 3 entries; these have 2"),
    ("labels", labels_of(np.zeros(40, np.int64)), r"labels must be \(N, L\)"),
    ("labels", labels_of(np.full((40, 3), 9)), "cannot be used: level 1 has nodes 0 to 3, not 9"),
    ("labels", labels_of(np.full((40, 3), -7)), "ids from 0"),
    ("vectors", Path.unlink, "vectors-.* is missing"),
    ("vectors", cut, "vectors-.* is no index of faiss: "),
    ("vectors", lambda p: p.write_bytes(b""), "vectors-.* is no index of faiss: "),
    ("vectors", lambda p: p.write_bytes(b"IHNf" + b"\xff" * 999), "vectors-.* is no index of faiss: "),
    ("vectors", lambda p: write_other_rows(p, number=39), "vectors-.* must be of 40 images; it is of 39"),
    (
        "vectors",
        lambda p: write_other_rows(p, dim=7),
        "must have vectors of 6 numbers, as index.json says; they have 7",
    ),
    ("vectors", lambda p: write_other_rows(p, recipe="SQ8"), "cannot be used: an index must be one of IndexFlat, "),
    ("vectors", lambda p: write_own_rows(p, np.full((40, 6), 7, np.float32)), "is damaged: .*number 0 has 17.1"),
    ("vectors", lambda p: write_own_rows(p, np.full((40, 6), np.nan, np.float32)), "length 1; number 0 has nan"),
    ("vectors", lambda p: write_own_rows(p, images(number=40).features.numpy(), "IVF1,Flat"), "lists; number 1 is not"),
    ("vectors", lambda p: write_other_rows(p, recipe="HNSW4,Flat"), r"it is \('hnsw', False\), but index.json says"),
]


@pytest.mark.parametrize(("name", "change", "message"), DAMAGES)
def test_a_damaged_folder_is_an_error(tmp_path, name, change, message):
    folder = tmp_path / "index"
    build(images(number=40, skipped={"a": "b"})).save(folder)
    EmbeddingIndex.load(folder)
    damage(name, change)(folder)
    with pytest.raises(ValueError, match=message):
        EmbeddingIndex.load(folder)


@pytest.mark.parametrize("width", [2**31 - 1, 10**30])
def test_a_folder_cannot_have_a_search_take_all_memory(tmp_path, width):
    build(images(number=40), kind="hnsw").save(tmp_path / "index")
    edit_segment(tmp_path / "index/index.json", search={"efSearch": width})
    with pytest.raises(ValueError, match=r"cannot be used: .* efSearch, an integer from 1 to 1024; they are"):
        EmbeddingIndex.load(tmp_path / "index")


@pytest.mark.parametrize("kind", ["vectors", "labels", "images", "taxonomy", "skipped"])
def test_a_changed_byte_is_noticed(tmp_path, kind):
    build(images(number=40, skipped={"a": "b"})).save(tmp_path / "index")
    (path,) = parts_of(tmp_path / "index", kind)
    data = bytearray(path.read_bytes())
    data[-9] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{kind}-.* is damaged: the SHA-256 of its bytes is not the one in its name"):
        EmbeddingIndex.load(tmp_path / "index")


def test_labels_of_zeros_are_noticed(tmp_path):
    build(images(number=40)).save(tmp_path / "index")
    (path,) = parts_of(tmp_path / "index", "labels")
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(ValueError, match=r"labels-.* is damaged: the SHA-256 of its bytes is not the one in its name"):
        EmbeddingIndex.load(tmp_path / "index")


def test_no_folder(tmp_path):
    with pytest.raises(ValueError, match=r"there is no index in .*nowhere: it has no index.json"):
        EmbeddingIndex.load(tmp_path / "nowhere")
