import io
import struct
import zlib

import numpy as np
import pytest
from scipy.io import savemat

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
NAMES = element("<", 1, b"ab")


def width(number):
    return element("<", 5, struct.pack("<i", number))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is no MATLAB file of version 5 to 7; get it anew"),
        (b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM", "it is no MATLAB file of version 5 to 7"),
        (mat("<", array("<", 6, (1, 1), DOUBLE))[:-1], "it is truncated"),
        (mat("<", array("<", 6, (1, 2), DOUBLE)), "an array of 2 values holds 1"),
        (mat("<", array("<", 6, (1, 2**30), DOUBLE)), "an array of 1073741824 values holds 1"),
        (mat("<", array("<", 6, (1, 1))), "it holds a value of class 6"),
        (mat("<", array("<", 3, (1, 1), DOUBLE)), "it holds a value of class 3, which is no text, number, cell"),
        (mat("<", array("<", 6, (1, 1), element("<", 11, b"12345678"))), "an array of numbers is of type 11"),
        (mat("<", array("<", 6, (1, 1), element("<", 9, b"123"))), "buffer size must be a multiple"),
        (mat("<", array("<", 4, (1, 1), DOUBLE)), "an array of characters is of type 9"),
        (mat("<", array("<", 4, (2, 2), element("<", 16, b"abcd"))), "an array of characters has several rows"),
        (mat("<", array("<", 1, (1, 1), DOUBLE)), "a cell or field is of type 9, not an array"),
        (mat("<", array("<", 2, (1, 1))), "an array of structs has no field names"),
        (mat("<", array("<", 2, (1, 1), width(0), NAMES)), "field names of 0 bytes are in a list of 2"),
        (mat("<", array("<", 2, (1, 1), width(3), NAMES)), "field names of 3 bytes are in a list of 2"),
        (mat("<", array("<", 2, (1, 1), width(1), NAMES, array("<", 1, (0, 0)))), "structs of 2 fields have 1 values"),
        (mat("<", array("<", 2, (1, 1), DOUBLE, NAMES)), "dimensions and lengths are of type 9"),
        (mat("<", array("<", 6, (1,), DOUBLE)), "an array has 1 dimensions"),
        (mat("<", array("<", 6, (1,) * 33, DOUBLE)), "an array has 33 dimensions"),
        (mat("<", DOUBLE), "a variable is of type 9, not an array"),
        (mat("<", element("<", 14, DOUBLE)), "an array has no flags, dimensions or name"),
        (mat("<", struct.pack("<I", 9 << 16 | 1) + b"1234"), "a small element has 9 bytes"),
        (mat("<", struct.pack("<II", 15, 4) + b"abcd"), "incorrect header check"),
        (mat("<", struct.pack("<II", 15, 20) + zlib.compress(bytes(10**6))[:20]), "a variable is truncated, or all of"),
    ],
)
def test_wrong_files(tmp_path, data, message):
    with pytest.raises(ValueError, match=rf"cannot read the MATLAB file .*a\.mat: .*{message}"):
        read(tmp_path, data)


def test_missing_file(tmp_path):
    with pytest.raises(
        ValueError, match=r"cannot read the MATLAB file .*none\.mat: No such file or directory; correct"
    ):
        read_mat(tmp_path / "none.mat")


def test_deep_nesting(tmp_path):
    nested = array("<", 1, (0, 0))
    for _ in range(3000):
        nested = array("<", 1, (1, 1), nested)
    with pytest.raises(ValueError, match="maximum recursion depth exceeded"):
        read(tmp_path, mat("<", nested))


def packed(data):
    data = zlib.compress(data)
    return struct.pack("<II", 15, len(data)) + data


@pytest.mark.parametrize("sizes", [(2000,), (400, 410), (300, 310, 320)])
def test_the_unpacked_bytes_of_a_file_are_limited(tmp_path, monkeypatch, sizes):
    variables = [array("<", 9, (1, size), element("<", 2, bytes(size)), name=f"x{size}".encode()) for size in sizes]
    data = mat("<", *map(packed, variables))
    unpacked = sum(map(len, variables))
    monkeypatch.setattr("hierpretrain.datasets.matlab._MAX_BYTES", unpacked)
    assert read(tmp_path, data) == {f"x{size}": [0] * size for size in sizes}
    monkeypatch.setattr("hierpretrain.datasets.matlab._MAX_BYTES", unpacked - 1)
    with pytest.raises(ValueError, match=f"or all of them are larger than {unpacked - 1} bytes; get it anew"):
        read(tmp_path, data)


def test_the_size_of_a_file_is_limited(tmp_path, monkeypatch):
    data = mat("<", array("<", 6, (1, 1), DOUBLE))
    monkeypatch.setattr("hierpretrain.datasets.matlab._MAX_BYTES", len(data))
    assert read(tmp_path, data) == {"x": 1.5}
    monkeypatch.setattr("hierpretrain.datasets.matlab._MAX_BYTES", len(data) - 1)
    with pytest.raises(ValueError, match=f"it is larger than {len(data) - 1} bytes; get it anew"):
        read(tmp_path, data)


EMPTY = element("<", 14, b"")
MANY = {  # a variable, and what counts in it beside itself, its flags, its dimensions (two numbers) and its name
    "numbers": (array("<", 9, (1, 300), element("<", 2, bytes(300))), 1 + 300),
    "cells": (array("<", 1, (1, 300), EMPTY * 300), 300),
    "structs": (array("<", 2, (1, 300), width(2), NAMES, EMPTY * 300), 1 + 1 + 1 + 1 + 300),
    "fields": (array("<", 2, (1, 0), width(1), element("<", 1, bytes(300))), 1 + 1 + 1 + 300),
}


@pytest.mark.parametrize("kind", MANY)
def test_the_values_of_a_file_are_limited(tmp_path, monkeypatch, kind):
    variable, number = MANY[kind]
    number += 1 + 3 + 2
    for data, total in ((mat("<", variable), number), (mat("<", *[packed(variable)] * 2), 2 * (number + 1))):
        monkeypatch.setattr("hierpretrain.datasets.matlab._MAX_VALUES", total)
        assert "x" in read(tmp_path, data)
        monkeypatch.setattr("hierpretrain.datasets.matlab._MAX_VALUES", total - 1)
        with pytest.raises(ValueError, match=f"it holds more than {total - 1} values; get it anew"):
            read(tmp_path, data)


def test_a_small_file_of_very_many_values(tmp_path):
    bomb = packed(array("<", 1, (1, 2**23 - 100), EMPTY * (2**23 - 100)))  # just below 64 MiB
    assert len(bomb) < 100_000
    with pytest.raises(ValueError, match="it holds more than 2000000 values"):
        read(tmp_path, mat("<", bomb))


def test_damage_is_an_error_or_harmless(tmp_path):
    data = written()
    rng = np.random.default_rng(0)
    errors = 0
    for _ in range(300):
        changed = bytearray(data)
        for place in rng.integers(128, len(data), 3):
            changed[place] = rng.integers(256)
        try:
            read(tmp_path, changed)
        except ValueError as error:
            errors += str(error).startswith("cannot read the MATLAB file")
    assert errors > 100
    for size in range(0, len(data), 7):  # no size but the end of a variable is a whole file
        try:
            assert read(tmp_path, data[:size]).items() <= EXPECTED.items()
        except ValueError as error:
            assert "cannot read the MATLAB file" in str(error)  # noqa: PT017
