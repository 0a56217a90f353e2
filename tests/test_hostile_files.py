"""Small files that are made to cost much: reading them takes work and memory of their own size."""

import pickle
import time
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
import torch

from hierpretrain._json import parse_json_bytes
from hierpretrain._texts import short
from hierpretrain.arrays import read_array
from hierpretrain.datasets.cub import _read_classes
from hierpretrain.datasets.lists import read_list
from hierpretrain.datasets.loading import UnreadableImage, open_rgb, open_small
from hierpretrain.datasets.nabirds import read_nabirds
from hierpretrain.models.checkpoints import check_values
from hierpretrain.pickled import load_pickled
from hierpretrain.taxonomy import MAX_LEVELS, Taxonomy
from tests.datasets.test_loading_files import chunk
from tests.datasets.write_nabirds import write_nabirds

SECONDS = 20  # of a processor; what is quadratic took minutes


@pytest.fixture(autouse=True)
def _bounded():
    start = time.process_time()
    yield
    assert time.process_time() - start < SECONDS


def shared():
    """A list of which each level holds the one below it eight times: 8^30 parts in a few hundred bytes."""
    nested = [0] * 10
    for _ in range(30):
        nested = [nested] * 8
    return nested


def test_lists_that_share_lists():
    assert len(short(shared())) == 60
    check_values({"param_groups": shared()}, "the optimizer's state")


def test_a_pickle_that_announces_a_text_of_any_length(tmp_path):
    path = tmp_path / "x.pth"
    path.write_bytes(b"\x80\x02\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.")
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"x\.pth is damaged or holds more than weights: "):
        load_pickled(path)
    assert tracemalloc.get_traced_memory()[1] < 1 << 24
    tracemalloc.stop()
    path.write_bytes(pickle.dumps({"state_dict": shared()}, protocol=2))
    with pytest.raises(ValueError, match=r"x\.pth"):
        load_pickled(path)


def test_a_bit_of_a_weight_that_flipped_is_told(tmp_path):
    path = tmp_path / "x.pth"
    torch.save({"a": torch.arange(100.0)}, path)
    data = bytearray(path.read_bytes())
    place = data.index(torch.arange(100.0).numpy().tobytes())
    data[place + 40] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"x\.pth is damaged .*: the checksum of its member 'x/data/0' is wrong"):
        load_pickled(path)


def test_a_compressed_checkpoint_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", bytes(1 << 24))
    with pytest.raises(ValueError, match=r"it is compressed, which torch\.save does not do"):
        load_pickled(tmp_path / "x.pth")


def test_a_header_that_announces_more_than_the_file_has(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros(3, np.float32))
    data = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(data.replace(b"(3,), }          ", b"(99999999999,), }"))
    with pytest.raises(ValueError, match=r"a\.npy is damaged: its header says 99999999999 of float32, and 12 bytes"):
        read_array(tmp_path / "a.npy", "make it anew")


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x93NUMPY\x01\x00v\x00" + b"(" * 118, b"\x93NUMPY\x09\x00"])
def test_a_file_that_is_no_array(tmp_path, content):
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.npy is damaged: .*; make it anew"):
        read_array(tmp_path / "a.npy", "make it anew")


@pytest.mark.parametrize(
    "content", [b"[" * 100_000, b'{"a": 1, "a": 2}', b'{"a": NaN}', b"9" * 5000, b"\xff", b'{"a": 1e999}', b"{}\0"]
)
def test_json_that_is_none(content):
    with pytest.raises(ValueError, match=r"^x\.json is damaged: (line 1: )?\w.*; make it anew$"):
        parse_json_bytes(content, "x.json", "make it anew")


def test_pointers_of_git_lfs_in_place_of_an_array_and_of_a_picture(tmp_path):
    for name in ("a.npy", "a.png"):
        (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    told = "it is a pointer of Git LFS in place of the file, which `git lfs pull` gets"
    with pytest.raises(ValueError, match=rf"a\.npy is damaged: {told}; make it anew"):
        read_array(tmp_path / "a.npy", "make it anew")
    with pytest.raises(UnreadableImage, match=rf"cannot read the image .*a\.png: {told}"):
        open_rgb(str(tmp_path / "a.png"))


def test_a_long_chain_of_classes(tmp_path):
    chain = {i + 1: i for i in range(50_000)}
    write_nabirds(tmp_path, classes={i: "x" for i in range(50_001)}, parents=chain, images=[(1, 1), (2, 0)])
    with pytest.raises(ValueError, match="hangs 5 levels below the root, and NABirds has 4"):
        read_nabirds(str(tmp_path))


def test_many_classes(tmp_path):
    (tmp_path / "classes.txt").write_text("".join(f"{i} {i:03d}.Bird_{i}\n" for i in range(1, 100_000)))
    assert len(_read_classes(str(tmp_path / "classes.txt"))) == 99_999


def test_more_levels_than_a_tree_has(tmp_path):
    names = [f"l{i}" for i in range(5000)]
    (tmp_path / "a.csv").write_text(f"image,{','.join(names)}\na.png,{','.join('x' for _ in names)}\n")
    with pytest.raises(ValueError, match=rf"a\.csv.* has 5000 levels; a tree has at most {MAX_LEVELS}"):
        read_list(str(tmp_path / "a.csv"), str(tmp_path))
    with pytest.raises(ValueError, match=rf"a tree has at most {MAX_LEVELS} levels; here are 5000"):
        Taxonomy([("x",)], names)


def test_a_png_of_many_pixels(tmp_path):
    side = 16_384
    head = side.to_bytes(4, "big") * 2 + b"\x01\x00\x00\x00\x00"  # of a bit each
    rows = zlib.compress(bytes(side * (side // 8 + 1)), 9)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UnreadableImage, match=r"a\.png has 268,435,456 pixels: too many for a small picture of it"):
        open_small(str(tmp_path / "a.png"), 64)
