"""Paths from lists, archives, tables and links, which must not leave the folder that a user trusts."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

from hierpretrain._names import ADDRESS

UNTIDY = "must have no empty or '.' part"
"""The reason of :func:`unsafe_reason` that is about spelling alone."""

_DRIVE = re.compile(r"[A-Za-z]:")
_UNSAFE = re.compile(r"/|.*\\|.*\0|(?:.*/)?\.\.(?:/|\Z)", re.DOTALL)
_UNTIDY = re.compile(r"(?:.*/)?\.?(?:/|\Z)", re.DOTALL)
_SUSPICIOUS = ("\\", ":", "\0", "//", "/.")  # anywhere in paths with a slash before and behind each


def unsafe_reason(path: str) -> str:
    r"""Returns the rule that a relative path from a list or an archive breaks, an empty string if it breaks none.

    Example:
        >>> unsafe_reason("cat/tabby.jpg"), unsafe_reason("../secret.jpg")
        ('', "must not be absolute, hold '..' or a backslash")
    """
    if ADDRESS.match(path):
        return "is an address, and no file: download it"
    if _DRIVE.match(path):
        return "must not begin with a letter and a colon, as the name of a drive does"
    if _UNSAFE.match(path):
        return "must not be absolute, hold '..' or a backslash"
    return UNTIDY if _UNTIDY.match(path) else ""


def suspicious(images: Sequence[str]) -> bool:
    """Returns whether :func:`unsafe_reason` may have a reason for one of many paths; it is told quickly."""
    joined = "/".join(("", *images, ""))
    return any(part in joined for part in _SUSPICIOUS)


def check_inside(path: str, real_root: str) -> str:
    """Returns a path without links; raises a ValueError if it leads out of the root, which is given without links."""
    real = os.path.realpath(path)
    if real != real_root and not real.startswith(os.path.join(real_root, "")):
        raise ValueError(
            f"{path} is a link that leads out of the image folder, to {real}; nothing outside {real_root} is read: "
            "move the files there, or link the whole folder"
        )
    return real
