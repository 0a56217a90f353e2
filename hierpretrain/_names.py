"""Which of the names that are known a name is, whatever its Unicode form, and the nearest for one that is none."""

import difflib
import re
import unicodedata
from collections.abc import Collection, Iterable

LabelNames = tuple[str, ...]
"""The names of a label, from below the root of the tree down to its node."""

ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
"""What a name begins with that is an address, and no file."""


def nfc(text: str) -> str:
    r"""Returns a text in Unicode's composed form, in which names are compared.

    Example:
        >>> nfc("cafe\u0301") == "caf\u00e9"
        True
    """
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def same_name(name: str, known: Collection[str]) -> str | None:
    r"""Returns the known name that a name is: itself, or else the only one that is its text in another Unicode form.

    Example:
        >>> same_name("cafe\u0301", ["caf\u00e9", "bar"]) == "caf\u00e9", same_name("pub", ["bar"])
        (True, None)
    """
    if name in known:
        return name
    found = [other for other in known if nfc(other) == nfc(name)] if not name.isascii() else []
    return found[0] if len(found) == 1 else None


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
