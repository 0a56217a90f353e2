"""The nearest of the names that are known, for a name that is not."""

import difflib
from collections.abc import Iterable


def close_names(name: str, known: Iterable[str], most: int = 1, similarity: float = 0.6) -> list[str]:
    """Returns the known names that are most like a name, the nearest first; none if no name is much like it.

    Args:
        name: What somebody wrote.
        known: The names there are.
        most: How many to return at most.
        similarity: How like the name, from 0 to 1, one must be.
    """
    return difflib.get_close_matches(name, list(known), most, cutoff=similarity)


def did_you_mean(name: str, known: Iterable[str], otherwise: str = "") -> str:
    """Returns the question that an error about an unknown name ends with.

    Args:
        name: What somebody wrote.
        known: The names there are.
        otherwise: The text to return where no known name is much like it.

    Example:
        >>> did_you_mean("tset", ["train", "test"]), did_you_mean("x", ["train", "test"], "there are train, test")
        ("did you mean 'test'?", 'there are train, test')
    """
    nearest = close_names(name, known)
    return f"did you mean {nearest[0]!r}?" if nearest else otherwise
