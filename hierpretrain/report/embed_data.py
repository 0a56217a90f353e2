"""Data inside a page: nothing in it can end its element or be taken for markup."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_UNSAFE = str.maketrans({character: f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"})


def as_json(value: object) -> str:
    r"""Writes JSON that is safe inside a script element, whatever the strings in it hold.

    Example:
        >>> print(as_json({"name": "</script><b>"}))
        {"name":"\u003c/script\u003e\u003cb\u003e"}
    """
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).translate(_UNSAFE)


def packed(array: NDArray[np.generic]) -> dict[str, str]:
    """Writes numbers as their little-endian bytes in base64, a third of the size of their digits.

    Args:
        array: float32, int32, uint16 or uint8, of any shape; the shape is not kept.

    Example:
        >>> packed(np.array([1, 2], np.int32))
        {'type': 'int32', 'data': 'AQAAAAIAAAA='}
    """
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return {"type": array.dtype.name, "data": base64.b64encode(little.tobytes()).decode("ascii")}


def short_paths(paths: Sequence[str]) -> list[str]:
    """Takes off what the folders of all files have in common; names of images without a file stay.

    Example:
        >>> short_paths(["/data/set/cats/1.png", "/data/set/dogs/2.png", "<image 0>"])
        ['cats/1.png', 'dogs/2.png', '<image 0>']
    """
    folders = {os.path.dirname(path) for path in paths if not path.startswith("<image ")}
    try:
        common = os.path.commonpath(folders) if folders else ""
    except ValueError:  # some absolute and some not, or on different drives
        common = ""
    start = common.rstrip("/\\") + os.sep
    return [(path.removeprefix(start) if common else path).replace(os.sep, "/") for path in paths]


def sheet_elements(name: str, sheets: Sequence[bytes]) -> str:
    r"""Writes picture files as script elements that no browser runs: their text is read when a picture is shown.

    Example:
        >>> sheet_elements("small", [b"RIFF"])
        '<script type="text/plain" id="small-0">UklGRg==</script>\n'
    """
    return "".join(
        f'<script type="text/plain" id="{name}-{i}">{base64.b64encode(sheet).decode("ascii")}</script>\n'
        for i, sheet in enumerate(sheets)
    )
