"""The nearest of the names that are known, for a name that is not."""

import difflib
from collections.abc import Iterable


def close_names(name: str, known: Iterable[str], most: int = 1, similarity: float = 0.6) -> list[str]:
    """Returns at most ``most`` known names that are most like a name, the nearest first; none if none is much like it.

    How like the name one must be, from 0 to 1, is the ``similarity``.
    """
    return difflib.get_close_matches(name, list(known), most, cutoff=similarity)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Returns the question that an error about an unknown name ends with; ``otherwise``, where no name is much like it.

    Example:
        >>> did_you_mean("tset", ["train", "test"]), did_you_mean("x", ["train", "test"], "there are train, test")
        ("did you mean 'test'?", 'there are train, test')
    """
    nearest = close_names(name, known)
    return f"did you mean {nearest[0]!r}?" if nearest else otherwise
