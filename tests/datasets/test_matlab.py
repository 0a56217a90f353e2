import io
import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat
from scipy.sparse import eye

from hierpretrain.datasets.matlab import read_mat


def structs(**columns):
    """Returns a 1 x N array of structs."""
    rows = list(zip(*columns.values(), strict=True))
    array = np.empty((1, len(rows)), dtype=[(name, object) for name in columns])
    for i, row in enumerate(rows):
        array[0, i] = row
    return array


VALUES = {
    "text": "Ram C/V Cargo Van",
    "accent": "Citroën ☃",
    "none": "",
    "byte": np.uint8(200),
    "number": 2.5,
    "row": np.arange(5, dtype=np.int16)[None] - 2,
    "matrix": np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]),
    "cells": np.array([["a", "bcd", np.int64(2**40)]], dtype=object),
    "structs": structs(name=["x.jpg", "y.jpg"], number=[np.uint8(1), np.uint16(1000)], box=["p", np.ones((1, 3))]),
    "true": True,
    "nested": np.array([[structs(a=["b"]), "c"]], dtype=object),
}
EXPECTED = {
    "text": "Ram C/V Cargo Van",
    "accent": "Citroën ☃",
    "none": "",
    "byte": 200,
    "number": 2.5,
    "row": [-2, -1, 0, 1, 2],
    "matrix": [1.0, 4.0, 2.0, 5.0, 3.0, 6.0],  # columns first
    "cells": ["a", "bcd", 2**40],
    "structs": [{"name": "x.jpg", "number": 1, "box": "p"}, {"name": "y.jpg", "number": 1000, "box": [1.0, 1.0, 1.0]}],
    "true": 1,
    "nested": [[{"a": "b"}], "c"],
}


def written(values=VALUES, **options):
    file = io.BytesIO()
    savemat(file, values, **options)
    return file.getvalue()


def read(tmp_path, data):
    (tmp_path / "a.mat").write_bytes(data)
    return read_mat(tmp_path / "a.mat")


@pytest.mark.parametrize("do_compression", [False, True])
def test_it_reads_what_scipy_writes(tmp_path, do_compression):
    assert read(tmp_path, written(do_compression=do_compression)) == EXPECTED


def element(order, kind, payload):
    return struct.pack(f"{order}II", kind, len(payload)) + payload + bytes(-len(payload) % 8)


def array(order, kind, dims, *values, name=b"x"):
    """An array as the format describes it, written by hand."""
    head = element(order, 6, struct.pack(f"{order}II", kind, 0))
    head += element(order, 5, struct.pack(f"{order}{len(dims)}i", *dims)) + element(order, 1, name)
    return element(order, 14, head + b"".join(values))


def mat(order, *arrays):
    head = b"MATLAB 5.0 MAT-file, by hand".ljust(124)
    return head + (b"\0\1IM" if order == "<" else b"\1\0MI") + b"".join(arrays)


@pytest.mark.parametrize("order", ["<", ">"])
def test_it_reads_files_of_either_byte_order(tmp_path, order):
    text = "ab".encode("utf-16-le" if order == "<" else "utf-16-be")
    small = struct.pack(f"{order}I", 2 << 16 | 3) + struct.pack(f"{order}h", -7) + b"\0\0"
    data = mat(
        order,
        array(order, 4, (1, 2), element(order, 4, text), name=b"text"),
        array(order, 10, (1, 1), small, name=b"small"),
        array(order, 1, (1, 1), element(order, 14, b""), name=b"empty"),
    )
    assert read(tmp_path, data) == {"text": "ab", "small": -7, "empty": [[]]}


DOUBLE = element("<", 9, struct.pack("<d", 1.5))


def packed(data):
    data = zlib.compress(data)
    return struct.pack("<II", 15, len(data)) + data


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "Mat file appears to be truncated"),
        (b"image,class\n" * 40, "Unknown mat file type"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM", "Please use HDF reader for matlab v7.3 files"),
        (mat("<", array("<", 6, (1, 1), DOUBLE))[:-1], "could not read bytes"),
        (mat("<", array("<", 6, (1, 2**30), DOUBLE)), "cannot reshape array of size 1"),
        (mat("<", array("<", 6, (1, 1), element("<", 40_000, bytes(8)))), "so damaged that SciPy's reader crashes|"),
        (mat("<", packed(DOUBLE)), "Expecting miMATRIX type here, got 9"),
        (written({"x": np.array(["ab", "cd"])}), "an array of characters has several rows"),
        (written({"x": np.array([1j])}), "it holds a ndarray of type complex128, which is no array of text, real"),
        (written({"x": eye(3)}), "it holds a csc_matrix of type float64, which is no array of text, real numbers"),
    ],
)
def test_wrong_files(tmp_path, data, message):
    with pytest.raises(ValueError, match=rf"cannot read the MATLAB file .*a\.mat: ({message}).*; get it anew"):
        read(tmp_path, data)


def test_missing_file(tmp_path):
    with pytest.raises(
        ValueError, match=r"cannot read the MATLAB file .*none\.mat: No such file or directory; correct"
    ):
        read_mat(tmp_path / "none.mat")


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        ("kill -SEGV $$", "it is so damaged that SciPy's reader crashes"),
        ("exec sleep 60", r"it takes more than 0\.2 seconds"),
    ],
)
def test_a_reader_that_crashes_or_hangs(tmp_path, monkeypatch, reader, message):
    (tmp_path / "python").write_text(f"#!/bin/sh\n{reader}\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr("sys.executable", str(tmp_path / "python"))
    monkeypatch.setattr("hierpretrain.datasets.matlab._MAX_SECONDS", 0.2 if "sleep" in reader else 60)
    with pytest.raises(ValueError, match=rf"cannot read the MATLAB file .*a\.mat: {message}; get it anew"):
        read(tmp_path, written())


def test_the_size_of_a_file_is_limited(tmp_path, monkeypatch):
    data = written({"x": 1.5})
    monkeypatch.setattr("hierpretrain.datasets.matlab._MAX_BYTES", len(data))
    assert read(tmp_path, data) == {"x": 1.5}
    monkeypatch.setattr("hierpretrain.datasets.matlab._MAX_BYTES", len(data) - 1)
    with pytest.raises(ValueError, match=rf"a\.mat: it is larger than {len(data) - 1} bytes; get it anew"):
        read(tmp_path, data)


def test_a_small_file_that_unpacks_to_very_much(tmp_path):
    size = 2**31 - 8
    bomb = packed(array("<", 9, (1, size), struct.pack("<II", 2, size), bytes(10_000)))
    with pytest.raises(ValueError, match=r"a\.mat: it takes more than 1073741824 bytes of memory; get it anew"):
        read(tmp_path, mat("<", bomb))


def struct_of_many_fields(number):
    names = b"".join(b"%07d\0" % i for i in range(number))
    head = element("<", 6, struct.pack("<II", 2, 0)) + element("<", 5, struct.pack("<2i", 1, 1)) + element("<", 1, b"x")
    return element("<", 14, head + struct.pack("<IIi", 5, 4, 8) + bytes(4) + element("<", 1, names) + EMPTY * number)


EMPTY = element("<", 14, b"")


@pytest.mark.slow
def test_a_small_file_that_takes_quadratic_time(tmp_path, monkeypatch):
    """SciPy takes 200 seconds for 300,000 fields; that three are read shows that the file is well made."""
    assert read(tmp_path, mat("<", packed(struct_of_many_fields(3)))) == {
        "x": [{"0000000": [], "0000001": [], "0000002": []}]
    }
    data = mat("<", packed(struct_of_many_fields(300_000)))
    assert len(data) < 700_000
    monkeypatch.setattr("hierpretrain.datasets.matlab._MAX_PROCESSOR_SECONDS", 2)
    with pytest.raises(ValueError, match=r"a\.mat: it takes more than 2 seconds of a processor; get it anew"):
        read(tmp_path, data)


@pytest.mark.slow
def test_a_small_file_of_very_many_values(tmp_path):
    zeros = packed(array("<", 6, (1, 23_000_000), element("<", 2, bytes(23_000_000))))
    assert len(zeros) < 30_000
    with pytest.raises(ValueError, match=r"a\.mat: its values take more than 67108864 bytes as JSON; get it anew"):
        read(tmp_path, mat("<", zeros))


def test_damage_is_an_error_or_harmless(tmp_path):
    data = written()
    rng = np.random.default_rng(0)
    errors = 0
    for _ in range(8):
        changed = bytearray(data)
        for position in rng.integers(128, len(data), 3):
            changed[position] = rng.integers(256)
        try:
            read(tmp_path, changed)
        except ValueError as error:
            errors += str(error).startswith("cannot read the MATLAB file")
    assert errors > 2
