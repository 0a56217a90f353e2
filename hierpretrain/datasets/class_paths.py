"""From the name of a class to its path in the label tree, for data that knows flat classes alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from hierpretrain._names import same_name
from hierpretrain.datasets.folders import numbered_levels
from hierpretrain.datasets.messages import first, warn

ClassPaths = Mapping[str, str | Sequence[str]] | Callable[[str], str | Sequence[str]] | None
"""A mapping or a function from class to path, names separated by '/' or in a sequence; None: a path of one name."""


def class_path(name: str, paths: ClassPaths, source: str) -> tuple[str, ...]:
    """Returns the label path of a class.

    Args:
        name: The name of the class.
        paths: From class to path; a class may have another Unicode form there, since Macs name folders so.
        source: Where the class is from, for messages.

    Raises:
        ValueError: If the mapping lacks the class, or gives no path.

    Example:
        >>> class_path("tabby", {"tabby": "animal/cat/tabby"}, "pets"), class_path("saw", None, "pets")
        (('animal', 'cat', 'tabby'), ('saw',))
    """
    if paths is None:
        return (name,)
    known = same_name(name, paths) if isinstance(paths, Mapping) else name
    if known is None:
        raise ValueError(f"{source} has the class {name!r}, which class_paths lack; give its path in the tree")
    if not isinstance(paths, Mapping) and not callable(paths):
        raise ValueError(f"class_paths must be a mapping or a function, from a class to its path; they are {paths!r}")
    path = paths[known] if isinstance(paths, Mapping) else paths(name)
    path = path.split("/") if isinstance(path, str) else path
    if not isinstance(path, Sequence) or any(not isinstance(part, str) or not part.strip() for part in path):
        raise ValueError(
            f"class_paths must give a path of names for the class {name!r} of {source}, such as 'animal/cat'; it is "
            f"{path!r}"
        )
    return tuple(part.strip() for part in path)


def warn_of_merged(paths: Mapping[str, tuple[str, ...]], source: str) -> None:
    """Warns if classes have one path, since they are one node of the tree, and says how many and which.

    Args:
        paths: From the name of each class to its path.
        source: Where the classes are from.
    """
    if merged := merged_classes(paths):
        lost = sum(map(len, merged.values())) - len(merged)
        listed = [f"{' and '.join(map(repr, names[:3]))} are {'/'.join(path)!r}" for path, names in merged.items()]
        warn(
            f"{lost} of the {len(paths)} classes of {source} are no nodes of their own, since others have the same "
            f"path: {'; '.join(first(listed))}; where they shall differ, have class_paths add an id to the name"
        )


def merged_classes(paths: Mapping[str, tuple[str, ...]]) -> dict[tuple[str, ...], list[str]]:
    """Returns the paths that several classes have, each with the classes.

    Example:
        >>> merged_classes({"a": ("animal", "cat"), "b": ("animal", "cat"), "c": ("tool",)})
        {('animal', 'cat'): ['a', 'b']}
    """
    by_path: dict[tuple[str, ...], list[str]] = {}
    for name, path in paths.items():
        by_path.setdefault(path, []).append(name)
    return {path: names for path, names in by_path.items() if len(names) > 1}


def level_names_of(labels: Sequence[tuple[str, ...]], names: Sequence[str] | None) -> tuple[str, ...]:
    """Returns names for the levels of label paths: those given, or ``class`` for one and ``level1`` on for several."""
    depth = max(map(len, labels), default=0)
    if names is not None:
        return tuple(names)
    return ("class",) if depth == 1 else numbered_levels(depth)
