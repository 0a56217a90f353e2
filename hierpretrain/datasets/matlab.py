"""Reading a MATLAB file as plain values. SciPy's reader crashes the process at some damaged files; this one cannot."""

from __future__ import annotations

import itertools
import math
import os
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np

_MAX_BYTES = 2**26  # of the file, and of all that it unpacks to; those of the data sets are of a few megabytes
_MAX_VALUES = 2_000_000  # data elements, numbers and field names of a file; those of 16,185 cars are 0.9 million
_MAX_DIMS = 32
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
        ValueError: If the file is missing, damaged, of another version (7.3 is HDF5), larger than 64 MiB packed or
            unpacked, of more than two million values, or holds another kind of value (an object, a function, a sparse
            array).

    Example:
        >>> import tempfile
        >>> from scipy.io import savemat
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     savemat(f"{folder}/pets.mat", {"kind": "cat", "weights": [3.5, 4.0]})
        ...     read_mat(f"{folder}/pets.mat")
        {'kind': 'cat', 'weights': [3.5, 4.0]}
    """
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES + 1)
        if len(data) > _MAX_BYTES:
            raise ValueError(f"it is larger than {_MAX_BYTES} bytes")
        order = {b"\0\1IM": "<", b"\1\0MI": ">"}.get(data[124:128])
        if order is None:
            raise ValueError("it is no MATLAB file of version 5 to 7")
        return dict(_Reader(order).variables(memoryview(data)[128:]))
    except OSError as error:
        raise ValueError(f"cannot read the MATLAB file {path}: {error.strerror}; correct its path") from error
    except (ValueError, struct.error, zlib.error, RecursionError) as error:
        raise ValueError(f"cannot read the MATLAB file {path}: {error}; get it anew") from error


class _Reader:
    """Reads one file, with limits on all of it: a few kilobytes may unpack to any size and to any number of values."""

    def __init__(self, order: str) -> None:
        self.order = order
        self.bytes_left = _MAX_BYTES
        self.values_left = _MAX_VALUES

    def variables(self, data: memoryview) -> Iterator[tuple[str, Any]]:
        """Yields the name and the value of each variable."""
        for kind, payload in self._elements(data):
            if kind == _COMPRESSED:
                ((kind, payload),) = self._elements(self._unpacked(payload))
            if kind != _MATRIX:
                raise ValueError(f"a variable is of type {kind}, not an array")
            yield self._matrix(payload)

    def _unpacked(self, payload: memoryview) -> memoryview:
        unpacker = zlib.decompressobj()
        unpacked = unpacker.decompress(payload, self.bytes_left + 1)  # 0 would be no limit
        self.bytes_left -= len(unpacked)
        if not unpacker.eof or self.bytes_left < 0:
            raise ValueError(f"a variable is truncated, or all of them are larger than {_MAX_BYTES} bytes")
        return memoryview(unpacked)

    def _count(self, number: int) -> None:
        self.values_left -= number
        if self.values_left < 0:
            raise ValueError(f"it holds more than {_MAX_VALUES} values")

    def _elements(self, data: memoryview) -> Iterator[tuple[int, memoryview]]:
        """Yields the type and the content of each data element."""
        place = 0
        while place < len(data):
            self._count(1)
            (kind,) = struct.unpack_from(f"{self.order}I", data, place)
            if kind >> 16:  # a small element: type, size and content in eight bytes
                kind, size, start, end = kind & 0xFFFF, kind >> 16, place + 4, place + 8
                if size > 4:
                    raise ValueError(f"a small element has {size} bytes")
            else:
                (size,) = struct.unpack_from(f"{self.order}I", data, place + 4)
                start = place + 8
                end = start + size + (0 if kind == _COMPRESSED else -size % 8)
            if start + size > len(data):
                raise ValueError("it is truncated")
            yield kind, data[start : start + size]
            place = end

    def _matrix(self, payload: memoryview) -> tuple[str, Any]:
        """Returns the name and the value of an array."""
        if not payload:
            return "", []
        values = self._elements(payload)
        head = list(itertools.islice(values, 3))
        if len(head) < 3:
            raise ValueError("an array has no flags, dimensions or name")
        (_, flags), shape, (_, name) = head
        kind = struct.unpack_from(f"{self.order}I", flags)[0] & 0xFF
        dims = self._int32(*shape)
        if not 2 <= len(dims) <= _MAX_DIMS:
            raise ValueError(f"an array has {len(dims)} dimensions")
        count = math.prod(dims)
        if kind == _CELL:
            value: Any = [self._part(*cell) for cell in values]
        elif kind == _STRUCT:
            value = self._structs(values)
        elif kind == _CHAR:
            text = next(values, None)
            value = self._text(*text) if text else ""
            if count and dims[0] != 1:
                raise ValueError("an array of characters has several rows")
        elif kind in _NUMERIC and len(parts := list(itertools.islice(values, 2))) == 1:  # a second one is imaginary
            value = self._numbers(*parts[0])
        else:
            raise ValueError(f"it holds a value of class {kind}, which is no text, number, cell or struct")
        if len(value) != count:
            raise ValueError(f"an array of {count} values holds {len(value)}")
        return bytes(name).decode("latin-1"), value[0] if kind in _NUMERIC and count == 1 else value

    def _part(self, kind: int, payload: memoryview) -> Any:
        if kind != _MATRIX:
            raise ValueError(f"a cell or field is of type {kind}, not an array")
        return self._matrix(payload)[1]

    def _structs(self, values: Iterator[tuple[int, memoryview]]) -> list[dict[str, Any]]:
        """Makes a dict of every struct; given are the width of a field's name, the names, and the fields in turn."""
        head = list(itertools.islice(values, 2))
        if len(head) < 2:
            raise ValueError("an array of structs has no field names")
        (width,) = self._int32(*head[0])
        names = bytes(head[1][1])
        if not 0 < width <= len(names):
            raise ValueError(f"field names of {width} bytes are in a list of {len(names)}")
        self._count(len(names) // width)
        fields = [names[i : i + width].split(b"\0")[0].decode("latin-1") for i in range(0, len(names), width)]
        parts = [self._part(*value) for value in values]
        if len(parts) % len(fields):
            raise ValueError(f"structs of {len(fields)} fields have {len(parts)} values")
        return [dict(zip(fields, parts[i : i + len(fields)], strict=True)) for i in range(0, len(parts), len(fields))]

    def _int32(self, kind: int, payload: memoryview) -> list[int]:
        if kind != _INT32:
            raise ValueError(f"dimensions and lengths are of type {kind}")
        return self._numbers(kind, payload)

    def _numbers(self, kind: int, payload: memoryview) -> list[Any]:
        if kind not in _NUMBERS:
            raise ValueError(f"an array of numbers is of type {kind}")
        numbers = np.frombuffer(payload, f"{self.order}{_NUMBERS[kind]}")
        self._count(len(numbers))
        return numbers.tolist()

    def _text(self, kind: int, payload: memoryview) -> str:
        if kind not in _TEXT:
            raise ValueError(f"an array of characters is of type {kind}")
        code = _TEXT[kind]
        return bytes(payload).decode(f"{code}-{'le' if self.order == '<' else 'be'}" if code == "utf-16" else code)
