"""Reading a MATLAB file as plain values. SciPy's reader crashes the process at some damaged files; this one cannot."""

from __future__ import annotations

import math
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_MAX_BYTES = 2**28  # of an unpacked variable
_INT32, _MATRIX, _COMPRESSED = 5, 14, 15
_NUMBERS = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
_TEXT = {1: "latin-1", 2: "latin-1", 4: "utf-16", 16: "utf-8", 17: "utf-16"}
_CELL, _STRUCT, _CHAR, _NUMERIC = 1, 2, 4, range(6, 16)


def read_mat(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the variables of a MATLAB file of version 5 to 7, as which ``save`` writes them by default.

    Source: The MathWorks, "MAT-File Format", level 5.

    Args:
        path: The file.

    Returns:
        Name -> value: a row of characters is a ``str``, an array of cells a list, an array of structs a list of dicts,
        an array of numbers a list in the order of columns, and an array of one number this number.

    Raises:
        ValueError: If the file is missing, damaged, of another version (7.3 is HDF5), larger than 256 MiB a variable,
            or holds another kind of value (an object, a function, a sparse array).

    Example:
        >>> import tempfile
        >>> from scipy.io import savemat
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     savemat(f"{folder}/pets.mat", {"kind": "cat", "weights": [3.5, 4.0]})
        ...     read_mat(f"{folder}/pets.mat")
        {'kind': 'cat', 'weights': [3.5, 4.0]}
    """
    try:
        data = Path(path).read_bytes()
        order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(data[124:128])
        if order is None:
            raise ValueError("it is no MATLAB file of version 5 to 7")
        variables = {}
        for kind, payload in _elements(memoryview(data)[128:], order):
            if kind == _COMPRESSED:
                unpacker = zlib.decompressobj()
                unpacked = memoryview(unpacker.decompress(payload, _MAX_BYTES))
                if not unpacker.eof:
                    raise ValueError(f"a variable is truncated or larger than {_MAX_BYTES} bytes")
                ((kind, payload),) = _elements(unpacked, order)
            if kind != _MATRIX:
                raise ValueError(f"a variable is of type {kind}, not an array")
            name, value = _matrix(payload, order)
            variables[name] = value
        return variables
    except OSError as error:
        raise ValueError(f"cannot read the MATLAB file {path}: {error.strerror}; correct its path") from error
    except (ValueError, struct.error, zlib.error, RecursionError) as error:
        raise ValueError(f"cannot read the MATLAB file {path}: {error}; get it anew") from error


def _elements(data: memoryview, order: str) -> Iterator[tuple[int, memoryview]]:
    """Yields the type and the content of each data element."""
    place = 0
    while place < len(data):
        (kind,) = struct.unpack_from(f"{order}I", data, place)
        if kind >> 16:  # a small element: type, size and content in eight bytes
            kind, size, start, end = kind & 0xFFFF, kind >> 16, place + 4, place + 8
            if size > 4:
                raise ValueError(f"a small element has {size} bytes")
        else:
            (size,) = struct.unpack_from(f"{order}I", data, place + 4)
            start = place + 8
            end = start + size + (0 if kind == _COMPRESSED else -size % 8)
        if start + size > len(data):
            raise ValueError("it is truncated")
        yield kind, data[start : start + size]
        place = end


def _matrix(payload: memoryview, order: str) -> tuple[str, Any]:
    """Returns the name and the value of an array."""
    if not payload:
        return "", []
    parts = list(_elements(payload, order))
    if len(parts) < 3:
        raise ValueError("an array has no flags, dimensions or name")
    (_, flags), shape, (_, name), *values = parts
    kind = struct.unpack_from(f"{order}I", flags)[0] & 0xFF
    dims = _int32(*shape, order)
    if len(dims) < 2:
        raise ValueError(f"an array has {len(dims)} dimensions")
    count = math.prod(dims)
    if kind == _CELL:
        value: Any = [_part(*cell, order) for cell in values]
    elif kind == _STRUCT:
        value = _structs(values, order)
    elif kind == _CHAR:
        value = _text(*values[0], order) if values else ""
        if count and dims[0] != 1:
            raise ValueError("an array of characters has several rows")
    elif kind in _NUMERIC and len(values) == 1:
        value = _numbers(*values[0], order)
    else:
        raise ValueError(f"it holds a value of class {kind}, which is no text, number, cell or struct")
    if len(value) != count:
        raise ValueError(f"an array of {count} values holds {len(value)}")
    return bytes(name).decode("latin-1"), value[0] if kind in _NUMERIC and count == 1 else value


def _part(kind: int, payload: memoryview, order: str) -> Any:
    if kind != _MATRIX:
        raise ValueError(f"a cell or field is of type {kind}, not an array")
    return _matrix(payload, order)[1]


def _structs(values: list[tuple[int, memoryview]], order: str) -> list[dict[str, Any]]:
    """Makes a dict of every struct; given are the width of a field's name, the names, and the fields in turn."""
    if len(values) < 2:
        raise ValueError("an array of structs has no field names")
    (width,) = _int32(*values[0], order)
    names = bytes(values[1][1])
    if not 0 < width <= len(names):
        raise ValueError(f"field names of {width} bytes are in a list of {len(names)}")
    fields = [names[i : i + width].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), width)]
    parts = [_part(*value, order) for value in values[2:]]
    if len(parts) % len(fields):
        raise ValueError(f"structs of {len(fields)} fields have {len(parts)} values")
    return [dict(zip(fields, parts[i : i + len(fields)], strict=True)) for i in range(0, len(parts), len(fields))]


def _int32(kind: int, payload: memoryview, order: str) -> list[int]:
    if kind != _INT32:
        raise ValueError(f"dimensions and lengths are of type {kind}")
    return _numbers(kind, payload, order)


def _numbers(kind: int, payload: memoryview, order: str) -> list[Any]:
    if kind not in _NUMBERS:
        raise ValueError(f"an array of numbers is of type {kind}")
    return np.frombuffer(payload, f"{order}{_NUMBERS[kind]}").tolist()


def _text(kind: int, payload: memoryview, order: str) -> str:
    if kind not in _TEXT:
        raise ValueError(f"an array of characters is of type {kind}")
    code = _TEXT[kind]
    return bytes(payload).decode(f"{code}-{'le' if order == '<' else 'be'}" if code == "utf-16" else code)
