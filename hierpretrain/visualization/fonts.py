"""Fonts for characters that matplotlib's own font lacks, such as Chinese, Japanese and Korean names."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import numpy as np
from matplotlib import font_manager, rcParams
from numpy.typing import NDArray

# fonts of many scripts, looked at first; whatever else is installed comes after them, in the order of its name
_LIKELY = re.compile(r"CJK|Noto Sans|Source Han|WenQuanYi|Droid Sans Fallback|Hiragino|PingFang|YaHei|Gothic|Unifont")


def families(text: str) -> list[str]:
    """Returns the font families that draw a text: those that are set, and installed ones for what these lack.

    matplotlib takes each character from the first family that has it. A character that no installed font has shows as
    a box.

    Args:
        text: All that is drawn with the families.

    Example:
        >>> families("cat") == rcParams["font.family"]
        True
    """
    letters = "".join(sorted({letter for letter in text if not letter.isascii()}))
    return [*rcParams["font.family"], *_others(letters, tuple(rcParams["font.family"]))]


@cache
def _others(letters: str, own: tuple[str, ...]) -> tuple[str, ...]:
    """Returns the installed families that have what one's own lack of some letters."""
    missing = {ord(letter) for letter in letters if letter.isprintable()}
    for family in own:
        missing -= _letters(font_manager.findfont(font_manager.FontProperties(family=[family])), missing)
    found = []
    for name, path in _installed() if missing else ():
        if has := _letters(path, missing):
            found.append(name)
            missing -= has
        if not missing:
            break
    return tuple(found)


def _letters(path: str, wanted: set[int]) -> set[int]:
    """Returns which of some characters a font has."""
    asked = np.fromiter(wanted, np.int64, len(wanted))
    return set(asked[np.isin(asked, _characters(path))].tolist())


@cache
def _characters(path: str) -> NDArray[np.int32]:
    """Returns all characters of a font; none of a file that FreeType cannot read."""
    try:
        return np.array(list(font_manager.get_font(path).get_charmap()), np.int32)
    except (OSError, RuntimeError):
        return np.empty(0, np.int32)


def _installed() -> list[tuple[str, str]]:
    """Returns family and file of every installed font, the likely ones first; also of those new to matplotlib."""
    manager = font_manager.fontManager
    known = {entry.fname for entry in manager.ttflist}
    for path in sorted(set(font_manager.findSystemFonts()) - known):  # the list is from when it was first imported
        try:
            manager.addfont(path)
        except (OSError, RuntimeError, ValueError):  # what FreeType cannot read draws nothing
            continue
    upright = [entry for entry in manager.ttflist if entry.style == "normal" and Path(entry.fname).exists()]
    upright = [entry for entry in upright if not entry.name.startswith("Last Resort")]  # it has a box for everything
    upright.sort(key=lambda entry: (not _LIKELY.search(entry.name), entry.name, entry.weight != 400, entry.fname))
    files: dict[str, str] = {}
    for entry in upright:
        files.setdefault(entry.name, entry.fname)
    return list(files.items())
