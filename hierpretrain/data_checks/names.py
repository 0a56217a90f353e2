"""Names of classes and splits that are spelt in two ways."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from hierpretrain._names import LabelNames
from hierpretrain.data_checks.problems import Problem
from hierpretrain.data_checks.sources import class_name

_GAPS = re.compile(r"[\s_\-]+")
_DECIMAL = re.compile(r"\d+\.0+")


def spelling_key(name: str) -> str:
    r"""Returns what names that differ in case, spaces, signs or Unicode forms alone have in common.

    Underscores and hyphens count as spaces, look-alike letters of Unicode (full-width ones, ligatures) as the plain
    ones, marks without a width not at all, and 1.0 as 1.

    Example:
        >>> spelling_key("T-Shirt"), spelling_key(" t_shirt\u00a0"), spelling_key("ｔ　ｓｈｉｒｔ"), spelling_key("7.0")
        ('t shirt', 't shirt', 't shirt', '7')
    """
    name = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())
    name = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")  # marks that nobody sees
    name = _GAPS.sub(" ", name).strip()
    return name.partition(".")[0] if _DECIMAL.fullmatch(name) else name


def name_problems(nodes: Counter[LabelNames], splits: Sequence[str] = ()) -> list[Problem]:
    """Finds names of one level, and names of splits, that are one name in two spellings.

    Args:
        nodes: Every node of the tree with its number of images.
        splits: The splits that there are.
    """
    same: dict[tuple[int, str], dict[str, list[LabelNames]]] = {}
    for node in nodes:
        same.setdefault((len(node), spelling_key(node[-1])), {}).setdefault(node[-1], []).append(node)
    problems = []
    for spellings in same.values():
        if len(spellings) > 1:
            ordered = sorted((node for of_one in spellings.values() for node in of_one), key=lambda n: (-nodes[n], n))
            counts = ", ".join(f"{name!r} {sum(nodes[n] for n in of_one):,}" for name, of_one in spellings.items())
            first, *others = map(class_name, ordered)
            problems.append(Problem("two spellings", first, tuple(others), f"images: {counts}"))
    tags: dict[str, list[str]] = {}
    for split in sorted(set(splits)):
        tags.setdefault(spelling_key(split), []).append(split)
    problems += [Problem("two spellings", first, tuple(others), "splits") for first, *others in tags.values() if others]
    return problems
