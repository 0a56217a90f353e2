"""From the cells of a list's levels to label paths: one an image, several, or none."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from hierpretrain._names import LabelNames
from hierpretrain.datasets.cells import check_spelling, check_spellings, kinds_of, text_of, texts_of
from hierpretrain.datasets.messages import warn
from hierpretrain.datasets.tables import Table


def label_paths(
    table: Table,
    levels: Sequence[str],
    *,
    level_separator: str = "",
    path_separator: str = "",
    on_gap: str = "error",
) -> list[LabelNames | list[LabelNames]]:
    r"""Returns the label path of every row, or the list of its paths where cells hold several.

    Args:
        table: The list.
        levels: The columns of the levels, the coarsest first.
        level_separator: What separates the names of a path, where ``levels`` is one column of whole paths.
        path_separator: What separates several places in one cell. An array holds several by itself. The cells of a row
            must hold as many each; one that holds a single name stands for all.
        on_gap: What happens where a level is empty and one below it is not: ``'error'`` raises, and ``'cut'`` ends the
            path there, with a warning that counts these rows.

    Raises:
        ValueError: If a separator cannot be; with the row and the column, if there is a gap, cells of a row hold
            different numbers of names, or a number is there in two spellings, as 1 and 1.0.

    Example:
        >>> table = Table("list.csv", {"image": ["a", "b"], "place": ["food > fruit | plant", "tool"]}, str)
        >>> label_paths(table, ["place"], level_separator=">", path_separator="|")
        [[('food', 'fruit'), ('plant',)], ('tool',)]
    """
    if level_separator and len(levels) != 1:
        raise ValueError(
            f"{table.path}: level_separator is for one column of whole paths; the levels are {list(levels)}: name one"
        )
    if path_separator and path_separator in level_separator:  # the places of a cell are taken apart first
        raise ValueError(
            f"{table.path}: path_separator separates whole paths; {path_separator!r} is in level_separator, "
            f"{level_separator!r}, too, and would take each path apart: give another or none"
        )
    columns = [table.columns[name] for name in levels]
    if not columns:
        return [()] * len(next(iter(table.columns.values())))
    arrays = any(issubclass(kind, list | tuple) for column in columns for kind in kinds_of(column))
    trim = _Trim(table, levels, on_gap)
    if not (arrays or level_separator or path_separator):
        return _one_path_each(table, columns, levels, trim)
    found: list[LabelNames | list[LabelNames]] = []
    for i, cells in enumerate(zip(*columns, strict=True)):
        several = [
            _places(cell, name, table.where(i) if arrays else "", path_separator)
            for cell, name in zip(cells, levels, strict=True)
        ]
        paths = [_split(path, level_separator) for path in _side_by_side(several, levels, table, i)]
        paths = list(dict.fromkeys(trim(path, lambda row=i: row) for path in paths))
        paths = [path for path in paths if path] or [()]
        found.append(paths[0] if len(paths) == 1 else paths)
    trim.count(())
    return found


def _one_path_each(
    table: Table, columns: Sequence[Sequence[Any]], levels: Sequence[str], trim: _Trim
) -> list[LabelNames | list[LabelNames]]:
    """Returns the path of every row of a table whose cells hold one name each, or none."""
    if not set().union(*map(kinds_of, columns)) <= {str, type(None)}:  # 1 and 1.0 would be one key
        columns = [texts_of(column, name, table.where) for column, name in zip(columns, levels, strict=True)]
    different = list(dict.fromkeys(zip(*columns, strict=True)))  # there are far fewer of them than rows

    def row_of(i: int) -> int:
        return list(zip(*columns, strict=True)).index(different[i])

    def where(i: int) -> str:
        return table.where(row_of(i))

    cells = zip(zip(*different, strict=True), levels, strict=True)
    texts = [texts_of(column, name, where) for column, name in cells]
    names = list(zip(*texts, strict=True))
    one_spelling = not any(map(_has_two_spellings, texts))
    known = {
        row: path if one_spelling and "" not in path else trim(path, partial(row_of, i))
        for i, (row, path) in enumerate(zip(different, names, strict=True))
    }
    if trim.gaps:
        text_of_row = dict(zip(different, names, strict=True))
        trim.count(list(map(text_of_row.__getitem__, zip(*columns, strict=True))))
    return list(map(known.__getitem__, zip(*columns, strict=True)))


def _has_two_spellings(names: Sequence[str]) -> bool:
    try:
        check_spellings(names, "", str)
    except ValueError:
        return True
    return False


class _Trim:
    """Ends paths at their first empty name, and minds gaps and numbers of two spellings."""

    def __init__(self, table: Table, levels: Sequence[str], on_gap: str) -> None:
        self.table, self.levels, self.on_gap = table, levels, on_gap
        self.gaps: set[LabelNames] = set()
        self.num_gaps = 0
        self.spelt: defaultdict[int, dict[Any, str]] = defaultdict(dict)

    def __call__(self, names: LabelNames, row: Callable[[], int]) -> LabelNames:
        depth = next((i for i, name in enumerate(names) if not name), len(names))
        if any(names[depth:]):
            if self.on_gap == "error":
                below = next(i for i in range(depth, len(names)) if names[i])
                raise ValueError(
                    f"{self.table.where(row())}: the label has a gap: {self._level(depth)} is empty but "
                    f"{self._level(below)} below it is not; name every level down to the last, or end such "
                    "paths there: on_gap='cut' (--on-gap cut)"
                )
            self.gaps.add(names)
            self.num_gaps += 1
        for level, name in enumerate(names[:depth]):
            column = self._level(level)
            check_spelling(name, self.spelt[level], lambda column=column: f"{self.table.where(row())}: {column}")
        return names[:depth]

    def count(self, rows: Sequence[LabelNames]) -> None:
        """Warns of the gaps, of all rows where each was seen once only."""
        if self.gaps:
            number = sum(row in self.gaps for row in rows) or self.num_gaps
            warn(f"{self.table.path}: {number} rows have a gap in their label, which ends above it: on_gap='cut'")

    def _level(self, depth: int) -> str:
        return repr(self.levels[depth]) if depth < len(self.levels) else f"level {depth + 1}"


def _places(cell: Any, name: str, where: str, separator: str) -> list[LabelNames]:
    """Returns the values of one cell: one each place, of several names where it holds an array of arrays."""
    if not isinstance(cell, list | tuple):
        text = text_of(cell, name, where)
        return [(part.strip(),) for part in (text.split(separator) if separator else [text])]
    places = [one if isinstance(one, list | tuple) else [one] for one in cell]
    return [tuple(text_of(part, name, where) for part in place) for place in places] or [("",)]


def _split(path: LabelNames, separator: str) -> LabelNames:
    return tuple(part.strip() for part in path[0].split(separator)) if separator and len(path) == 1 else path


def _side_by_side(cells: Sequence[list[LabelNames]], levels: Sequence[str], table: Table, row: int) -> list[LabelNames]:
    """Returns the paths of a row: the first place of each cell together, the second, and so on."""
    most = max(map(len, cells))
    if wrong := [name for name, cell in zip(levels, cells, strict=True) if len(cell) not in (1, most)]:
        counts = ", ".join(f"{len(cell)} in {name!r}" for name, cell in zip(levels, cells, strict=True))
        raise ValueError(
            f"{table.where(row)}: the cells of a row must hold as many places each, or one for all; {wrong[0]!r} does "
            f"not: {counts}"
        )
    wide = [cell * most if len(cell) == 1 else cell for cell in cells]
    return [tuple(name for cell in place for name in cell) for place in zip(*wide, strict=True)]
