"""Reading arrays of NumPy's, so that what is damaged or hostile is an error with the file's name."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierpretrain.files import stand_in

_MAGIC = b"\x93NUMPY"


def read_array(
    path: str | os.PathLike[str], remedy: str, *, dtype: type | None = None, mapped: bool = False
) -> NDArray[Any]:
    """Reads a file that ``numpy.save`` wrote; the file must be as long as its header says.

    Nothing is pickled, and no memory is taken for what the file does not have.

    Args:
        path: The file.
        remedy: What to do if it is damaged, for the message.
        dtype: The type that the array must be of, such as ``numpy.float32``; ``None``: any.
        mapped: Whether the file is only opened, and read where it is looked at.

    Raises:
        ValueError: If the file is damaged, no array, or of another type.
        FileNotFoundError: If it is missing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     np.save(f"{folder}/a.npy", np.arange(3))
        ...     read_array(f"{folder}/a.npy", "make it anew")
        array([0, 1, 2])
    """
    try:
        with open(path, "rb") as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                raise ValueError(stand_in(path) or "it does not begin as arrays of NumPy do")
            file.seek(0)
            version = np.lib.format.read_magic(file)
            if version not in ((1, 0), (2, 0)):
                raise ValueError(f"its version is {version}, not (1, 0) or (2, 0)")
            read_header = (
                np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            )
            shape, _, found = read_header(file)
            if found.hasobject or not found.itemsize:
                raise ValueError(f"it is of {found}, which is no type of numbers")
            size = found.itemsize
            for length in shape:
                size *= length
            there = os.fstat(file.fileno()).st_size - file.tell()
            if size != there or any(length < 0 for length in shape):
                raise ValueError(f"its header says {'x'.join(map(str, shape))} of {found}, and {there:,} bytes follow")
        array = np.load(path, mmap_mode="r" if mapped and size else None, allow_pickle=False)
    except FileNotFoundError:
        raise
    except Exception as error:  # NumPy lets Python's parser read the header, which raises nearly anything
        raise ValueError(f"{os.fspath(path)} is damaged: {error}; {remedy}") from error
    if dtype is not None and array.dtype != dtype:
        raise ValueError(f"{os.fspath(path)} must be an array of {dtype.__name__}; it is {array.dtype}; {remedy}")
    return array
