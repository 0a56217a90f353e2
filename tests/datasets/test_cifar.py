import multiprocessing
import os
import pickle
import re
import signal
import struct
import time
from pathlib import Path

import numpy as np
import pytest
import torchvision

from hierpretrain.datasets import CIFAR100, read_cifar100
from hierpretrain.datasets.cifar import write_images
from hierpretrain.registry import DATASETS
from tests.datasets.write_cifar import COARSE, FINE, PARENT, write_cifar100, write_pickle


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    root = tmp_path_factory.mktemp("cifar")
    return str(root), write_cifar100(root)


# ---------------------------------------------------------------- what is read
def test_labels_and_pixels(tree):
    root, splits = tree
    for split, raw in splits.items():
        data = CIFAR100(data_root=root, split=split, pipeline=[{"type": "LoadRGB"}])
        assert len(data) == len(raw["fine_labels"])
        assert data.taxonomy.level_names == ("coarse", "fine")
        for i, fine in enumerate(raw["fine_labels"]):
            assert data.taxonomy.decode(data.labels[i]) == (COARSE[PARENT[fine]], FINE[fine])
            assert data.image_paths[i] == f"{root}/images/{split}/{FINE[fine]}/{raw['filenames'][i]}"
            pixels = np.asarray(data[i]["img"])
            for y, x in ((0, 0), (3, 17), (31, 31)):
                expected = [raw["data"][i][plane * 1024 + y * 32 + x] for plane in range(3)]
                assert pixels[y, x].tolist() == expected
    assert type(DATASETS.build({"type": "CIFAR100", "data_root": root})) is CIFAR100


def test_torchvision_reads_the_same(tree, monkeypatch):
    root, _ = tree
    monkeypatch.setattr(torchvision.datasets.CIFAR100, "_check_integrity", lambda self: True)
    monkeypatch.setattr(torchvision.datasets.cifar, "check_integrity", lambda *paths: True)
    for split in ("train", "test"):
        theirs = torchvision.datasets.CIFAR100(root, train=split == "train")
        ours = CIFAR100(data_root=root, split=split, pipeline=[{"type": "LoadRGB"}])
        assert len(ours) == len(theirs)
        for i, (picture, label) in enumerate(theirs):
            assert (np.asarray(ours[i]["img"]) == np.asarray(picture)).all()
            assert ours.taxonomy.decode(ours.labels[i])[1] == theirs.classes[label]


def test_the_pickled_files_are_read_once(tmp_path):
    write_cifar100(tmp_path)
    before = CIFAR100(data_root=str(tmp_path))
    for file in (tmp_path / "cifar-100-python").iterdir():
        file.unlink()
    after = CIFAR100(data_root=str(tmp_path))
    assert (after.image_paths, after.labels.tolist()) == (before.image_paths, before.labels.tolist())


def test_folders(tmp_path):
    write_cifar100(tmp_path / "data")
    inside = tmp_path / "data/cifar-100-python"
    assert CIFAR100(data_root=str(inside)).image_paths[0].startswith(f"{inside}/images/train/apple/")
    elsewhere = tmp_path / "scratch/cifar"
    assert CIFAR100(data_root=str(inside), images=str(elsewhere)).image_paths[0].startswith(f"{elsewhere}/train/apple/")
    assert (elsewhere.stat().st_mode & 0o777) == 0o755
    assert sorted(os.listdir(tmp_path / "scratch")) == ["cifar"]


def test_equal_file_names(tmp_path):
    splits = write_cifar100(tmp_path)
    names = splits["train"]["filenames"]
    names[5] = names[0]  # both are apples
    write_pickle(tmp_path / "cifar-100-python/train", splits["train"])
    data = CIFAR100(data_root=str(tmp_path), split="train", pipeline=[{"type": "LoadRGB"}])
    assert [Path(data.image_paths[i]).name for i in (0, 5)] == ["apple_s_000000.png", "apple_s_000000-5.png"]
    for i in (0, 5):
        assert np.asarray(data[i]["img"])[0, 0, 0] == splits["train"]["data"][i][0]


@pytest.mark.parametrize("order", "CF")
@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_files_that_were_pickled_anew(tree, tmp_path, protocol, order):
    root, splits = tree
    folder = tmp_path / "cifar-100-python"
    folder.mkdir()
    for split, raw in splits.items():
        copy = raw | {"data": np.asarray(raw["data"], order=order)}
        (folder / split).write_bytes(pickle.dumps(copy, protocol))
    names = {"fine_label_names": list(FINE), "coarse_label_names": list(COARSE)}
    (folder / "meta").write_bytes(pickle.dumps(names, protocol))
    data = CIFAR100(data_root=str(tmp_path), pipeline=[{"type": "LoadRGB"}])
    expected = CIFAR100(data_root=root, pipeline=[{"type": "LoadRGB"}])
    assert data.labels.tolist() == expected.labels.tolist()
    for i in range(len(data)):
        assert (np.asarray(data[i]["img"]) == np.asarray(expected[i]["img"])).all()


# ---------------------------------------------------------------- whole or not at all
def test_several_processes_at_once(tmp_path):
    write_cifar100(tmp_path)
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        rows = pool.map(read_cifar100, [str(tmp_path)] * 2)
    assert rows[0] == rows[1]
    assert len(rows[0].images) == 11
    assert sorted(os.listdir(tmp_path)) == ["cifar-100-python", "images"]


def _write_slowly(root):
    makedirs = os.makedirs

    def slow(*args, **options):
        time.sleep(0.05)
        return makedirs(*args, **options)

    os.makedirs = slow
    write_images(root, f"{root}/images")


def test_killed_in_the_middle(tmp_path):
    write_cifar100(tmp_path)
    process = multiprocessing.get_context("spawn").Process(target=_write_slowly, args=(str(tmp_path),))
    process.start()
    while not list(tmp_path.glob(".images.*/train/*")):
        assert process.is_alive()
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    assert not (tmp_path / "images").exists()
    assert len(CIFAR100(data_root=str(tmp_path))) == 11


def test_an_error_leaves_nothing_behind(tmp_path):
    splits = write_cifar100(tmp_path)
    splits["test"]["fine_labels"][2] = 5
    write_pickle(tmp_path / "cifar-100-python/test", splits["test"])
    with pytest.raises(ValueError, match=r"test: image 2: a label must be 0 to 4, as in 'meta'; it is 5"):
        CIFAR100(data_root=str(tmp_path))
    assert os.listdir(tmp_path) == ["cifar-100-python"]


# ---------------------------------------------------------------- untrusted files
class Malicious:
    def __reduce__(self):
        return os.mkdir, ("ran",)


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("file", ["meta", "train"])
def test_pickled_code_does_not_run(tmp_path, monkeypatch, file, protocol):
    monkeypatch.chdir(tmp_path)
    write_cifar100(tmp_path)
    (tmp_path / "cifar-100-python" / file).write_bytes(pickle.dumps({"data": Malicious()}, protocol))
    with pytest.raises(ValueError, match=rf"{file}: it asks for \w+\.mkdir, which an array of numbers does not need"):
        CIFAR100(data_root=str(tmp_path))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["builtins eval", "builtins getattr", "numpy.core.multiarray scalar", "numpy load"])
def test_no_other_names(tmp_path, name):
    write_cifar100(tmp_path)
    module, attribute = name.split()
    (tmp_path / "cifar-100-python/meta").write_bytes(f"c{module}\n{attribute}\n.".encode())
    with pytest.raises(ValueError, match=rf"it asks for {re.escape(module)}\.{attribute}, which an array of numbers"):
        CIFAR100(data_root=str(tmp_path))


def plain(value):
    """The opcodes of a value, without the header and the final stop."""
    return pickle.dumps(value, protocol=3)[2:-1]


def name(module, attribute):
    return f"c{module}\n{attribute}\n".encode()


def number_type(code, state):
    return name("numpy", "dtype") + plain((code, False, True)) + b"R" + state + b"b"


def number_array(shape, dtype, raw, fortran=False):
    made = name("numpy.core.multiarray", "_reconstruct") + b"(" + name("numpy", "ndarray") + plain((0,)) + plain(b"b")
    parts = b"".join((plain(1), plain(shape), dtype, plain(fortran), plain(raw)))
    return made + b"tR(" + parts + b"tb"


def plain_state(flags=0):
    return plain((3, "|", None, None, None, -1, -1, flags))


BYTES = number_type("u1", plain_state())
POINTER = struct.pack("<Q", 0x4141414141414141)
MEMO, AGAIN = b"r" + struct.pack("<I", 500), b"j" + struct.pack("<I", 500)  # a slot that pickle does not use here
FAR_FIELD = b"(" + plain(3) + plain("|") + plain(None) + plain(("f0",))  # a field outside of its item
FAR_FIELD += b"}" + plain("f0") + b"(" + BYTES + plain(1 << 40) + b"ts" + plain(8) + plain(1) + plain(0) + b"t"
OBJECTS = number_type("O8", plain_state())
HARMFUL = {  # pickled arrays that numpy's own types would load
    "pointers": (number_array((1,), OBJECTS, POINTER), "an array of numbers of type 'O8'; only uint8"),
    "flags": (
        number_array((1,), OBJECTS + MEMO, POINTER) + AGAIN + plain_state(63) + b"b0",
        "an array of numbers of type 'O8'; only uint8",
    ),
    "far field": (number_array((1,), number_type("V8", FAR_FIELD), bytes(8)), "numbers of type 'V8'; only uint8"),
    "type by name": (
        number_array((1,), name("numpy", "dtype"), b"A"),
        "an array that is not of uint8 or has the shape",
    ),
    "type by text": (number_array((1,), plain("u1"), b"A"), "an array that is not of uint8 or has the shape"),
    "too short": (number_array((8, 3072), BYTES, b"A"), "cannot reshape array of size 1 into shape"),
    "no shape": (number_array((-1, 3072), BYTES, bytes(3072)), "is not of uint8 or has the shape (-1, 3072)"),
    "list": (number_array([1], BYTES, b"A"), "is not of uint8 or has the shape [1]"),
    "half": (number_array((1.0,), BYTES, b"A"), "is not of uint8 or has the shape (1.0,)"),
    "huge": (number_array((2**70,), BYTES, b"A"), "cannot read the pickled file"),
    "no bytes": (number_array((1,), BYTES, 1), "a bytes-like object is required"),
    "no state": (name("numpy", "ndarray") + b")R" + plain(1) + b"b", "cannot read the pickled file"),
    "class state": (name("numpy", "ndarray") + plain({"values": 1}) + b"b", "cannot read the pickled file"),
    "codec": (name("_codecs", "encode") + plain(("A", "idna")) + b"R", "bytes in the code 'idna'; only latin1"),
}


@pytest.mark.parametrize("kind", HARMFUL)
def test_harmful_arrays(tmp_path, kind):
    crafted, message = HARMFUL[kind]
    write_cifar100(tmp_path)
    (tmp_path / "cifar-100-python/train").write_bytes(b"\x80\x02}" + plain("data") + crafted + b"s.")
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        CIFAR100(data_root=str(tmp_path))
    assert str(caught.value).startswith(f"cannot read the pickled file {tmp_path}/cifar-100-python/train: ")


def test_the_state_of_a_type_and_an_array_without_one_mean_nothing(tmp_path):
    splits = write_cifar100(tmp_path, num_test=1)
    path = tmp_path / "cifar-100-python/test"
    rest = b"".join(plain(key) + plain(value) + b"s" for key, value in splits["test"].items() if key != "data")
    array = number_array((1, 3072), number_type("u1", plain_state(63)), bytes(3072))
    path.write_bytes(b"\x80\x02}" + rest + plain("data") + array + b"s.")
    data = CIFAR100(data_root=str(tmp_path), split="test", pipeline=[{"type": "LoadRGB"}])
    assert (np.asarray(data[0]["img"]) == 0).all()
    for made in (b")R", b")\x81"):
        path.write_bytes(b"\x80\x02}" + rest + plain("data") + name("numpy", "ndarray") + made + b"s.")
        with pytest.raises(
            ValueError, match=re.escape("'data' must be uint8 of shape (N, 3072); it has the shape (0,)")
        ):
            CIFAR100(data_root=str(tmp_path), images=str(tmp_path / "other"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filenames": None}, "train: 'filenames' must be a list, of one entry for each of the 8 images"),
        ({"fine_labels": [0] * 7}, "train: 'fine_labels' must be a list, of one entry for each of the 8 images"),
        (
            {"data": np.zeros((8, 3071), np.uint8)},
            "train: 'data' must be uint8 of shape (N, 3072); it has the shape (8, 3071); get",
        ),
        (
            {"data": np.zeros((8, 3072), np.int32)},
            "train: it has an array of numbers of type 'i4'; only uint8 ('u1') is in these files; get",
        ),
        ({"data": [1, 2]}, "train: 'data' must be uint8 of shape (N, 3072); it is list"),
        ({"fine_labels": ["0"] * 8}, "train: image 0: a label must be 0 to 4, as in 'meta'; it is '0'"),
        ({"coarse_labels": [-1] * 8}, "train: image 0: a label must be 0 to 4, as in 'meta'; it is -1"),
        (
            {"coarse_labels": [2, 1, 0, 0, 4, 3, 1, 0]},
            "train: image 5: the class 'apple' hangs below 'large_man-made_out",
        ),
        ({"filenames": ["../../x.png"] * 8}, "train: image 0: a file name is of letters, digits and ._+- alone; this"),
        ({"filenames": [".hidden"] * 8}, "train: image 0: a file name is of letters, digits and ._+- alone; this"),
        ({"filenames": [3] * 8}, "train: image 0: a file name is of letters, digits and ._+- alone; this one is 3"),
    ],
)
def test_wrong_columns(tmp_path, changes, message):
    splits = write_cifar100(tmp_path)
    write_pickle(tmp_path / "cifar-100-python/train", splits["train"] | changes)
    with pytest.raises(ValueError, match=re.escape(message)):
        CIFAR100(data_root=str(tmp_path))


@pytest.mark.parametrize("names", [["a", "b", "../c", "d", "e"], ["a", "b", "b", "d", "e"], "abcde", [1, 2, 3, 4, 5]])
def test_wrong_class_names(tmp_path, names):
    write_cifar100(tmp_path)
    write_pickle(tmp_path / "cifar-100-python/meta", {"fine_label_names": names, "coarse_label_names": list(COARSE)})
    with pytest.raises(ValueError, match=r"meta: 'fine_label_names' must be different names of letters, digits and"):
        CIFAR100(data_root=str(tmp_path))


@pytest.mark.parametrize("size", [0, 1, 50, 20_000])
def test_truncated(tmp_path, size):
    write_cifar100(tmp_path)
    path = tmp_path / "cifar-100-python/train"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ValueError, match=r"cannot read the pickled file .*train: .*; get cifar-100-python.tar.gz anew"):
        CIFAR100(data_root=str(tmp_path))


def test_wrong_pickles(tmp_path):
    write_cifar100(tmp_path)
    path = tmp_path / "cifar-100-python/meta"
    write_pickle(path, {"label_names": []})  # CIFAR-10's
    with pytest.raises(ValueError, match=r"the pickled file .*meta has no 'fine_label_names'; get"):
        CIFAR100(data_root=str(tmp_path))
    write_pickle(path, [1])
    with pytest.raises(ValueError, match=r"the pickled file .*meta is a list, no dict; get"):
        CIFAR100(data_root=str(tmp_path))


def test_missing(tmp_path):
    with pytest.raises(ValueError, match=r"no CIFAR-100 .* is at .*; download cifar-100-python.tar.gz from"):
        CIFAR100(data_root=str(tmp_path))
    (tmp_path / "cifar-100-python.tar.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=rf"unpack the archive by: tar -xzf {tmp_path}/cifar-100-python\.tar\.gz -C "):
        CIFAR100(data_root=str(tmp_path))
    with pytest.raises(ValueError, match=rf"unpack the archive by: tar -xzf {tmp_path}/cifar-100-python\.tar\.gz -C "):
        CIFAR100(data_root=str(tmp_path / "cifar-100-python"))
    (tmp_path / "images").mkdir()
    with pytest.raises(
        ValueError, match=r"images holds no list\.csv: it is no folder of CIFAR-100's image files; move"
    ):
        CIFAR100(data_root=str(tmp_path))
