"""How a neighbour is marked: by how many levels of the tree it shares with the query."""

from __future__ import annotations

import numpy as np

_ANCHORS = ("#D0342C", "#D9730D", "#8A8400", "#1A8A3A")  # from nothing in common to everything
UNKNOWN = "#888888"
"""The colour of a neighbour of which nothing is known."""


def grade_colours(num_levels: int) -> list[str]:
    """Returns the colour of every number of shared levels, from red for none to green for all.

    White text can be read on each. Sheets and the report share the colours.

    Args:
        num_levels: How many levels there are, 1 at least.

    Returns:
        ``num_levels + 1`` colours, as ``#RRGGBB``.

    Example:
        >>> grade_colours(1), grade_colours(3)
        (['#D0342C', '#1A8A3A'], ['#D0342C', '#D9730D', '#8A8400', '#1A8A3A'])
    """
    anchors = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in _ANCHORS])
    at = np.linspace(0, len(anchors) - 1, num_levels + 1)
    mixed = np.stack([np.interp(at, range(len(anchors)), channel) for channel in anchors.T], 1)
    return ["#" + "".join(f"{round(value):02X}" for value in colour) for colour in mixed]


def grade_mark(shared: int | None, whole: bool) -> str:
    """Returns what is written on a neighbour: a check mark, a cross, or the number of levels in common.

    Args:
        shared: How many levels it shares with the query; ``None`` if that is not known.
        whole: Whether this is a whole path of the query.

    Example:
        >>> [grade_mark(3, True), grade_mark(2, False), grade_mark(0, False), grade_mark(None, False)]
        ['✓', '2', '✗', '']
    """
    if shared is None:
        return ""
    return "\N{CHECK MARK}" if whole else str(shared) if shared else "\N{BALLOT X}"
