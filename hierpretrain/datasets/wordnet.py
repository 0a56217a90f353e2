"""Readers of class hierarchies: WordNet's own file, folders of BREEDS and of the robustness library, plain edges."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from hierpretrain.datasets.hierarchy import ClassHierarchy
from hierpretrain.datasets.text_files import read_json_file, text_lines

BREEDS_FILES = ("class_hierarchy.txt", "node_names.txt", "dataset_class_info.json")
"""The files in an ``info_dir`` of BREEDS: edges, names of nodes, names of ImageNet's classes."""

ROBUSTNESS_FILES = ("wordnet.is_a.txt", "words.txt", "imagenet_class_index.json")
"""The files in the folder of the robustness library's ImageNet helpers: edges, names of nodes, names of classes."""

MIXED_10 = (
    "n02084071",  # dog
    "n01503061",  # bird
    "n02159955",  # insect
    "n02484322",  # monkey
    "n02958343",  # car
    "n02120997",  # feline
    "n04490091",  # truck
    "n13134947",  # fruit
    "n12992868",  # fungus
    "n02858304",  # boat
)
"""The ten superclasses ``mixed_10`` of the robustness library, for :meth:`ClassHierarchy.superclasses`."""

_NOUNS = "data.noun"
_HINT = "ImageNet's ids are offsets of WordNet 3.0: take its data.noun (Debian package wordnet-base)"
_RELEASE = re.compile(r"WordNet (\d+\.\d+) Copyright")
_OFFSET = re.compile(r"\d{8}")


def read_hierarchy(path: str | os.PathLike[str]) -> ClassHierarchy:
    """Reads a class hierarchy in any of the known formats.

    Args:
        path: A folder with the files of BREEDS or of the robustness library, see :func:`read_info_dir`. WordNet's
            ``data.noun``, a file whose name begins so, or the folder with it, see :func:`read_wordnet_nouns`. Any other
            file is a list of edges, see :func:`read_edges`.

    Raises:
        ValueError: As :func:`read_info_dir`, :func:`read_wordnet_nouns` and :func:`read_edges`.
    """
    path = Path(path).expanduser()
    if path.name.startswith(_NOUNS) and not path.is_dir():
        return read_wordnet_nouns(path)
    if (path / _NOUNS).is_file():
        return read_wordnet_nouns(path / _NOUNS)
    return read_info_dir(path) if path.is_dir() else read_edges(path)


# ---------------------------------------------------------------- edges and folders of the two libraries
def read_edges(path: str | os.PathLike[str], *, policy: str = "error") -> ClassHierarchy:
    r"""Reads a list of edges, such as ``class_hierarchy.txt`` of BREEDS or ``wordnet.is_a.txt`` of robustness.

    Args:
        path: The file, in UTF-8. A line is two ids with one space between, ``parent child``; blank lines are skipped.
        policy: The hierarchy's default for nodes with several parents, see :meth:`ClassHierarchy.paths`.

    Raises:
        ValueError: With file and line, if the file cannot be read, a line does not have two fields, or a node is its
            own ancestor.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "edges.txt").write_text("all animal\nall tool\nanimal cat\nanimal dog\n")
        ...     read_edges(f"{folder}/edges.txt").paths(["cat", "tool"], collapse=False).paths
        {'cat': ('animal', 'cat'), 'tool': ('tool',)}
    """
    edges, lines = [], []
    for number, line in text_lines(path):
        fields = line.split(" ")
        if len(fields) != 2 or not all(fields) or any(field != field.strip() for field in fields):
            raise ValueError(
                f"{path}:{number}: a line is 'parent child', with one space, not {line!r}; the file may be truncated"
            )
        edges.append((fields[0], fields[1]))
        lines.append(number)
    return ClassHierarchy(edges, source=os.fspath(path), lines=lines, policy=policy)


def read_info_dir(path: str | os.PathLike[str]) -> ClassHierarchy:
    """Reads an ``info_dir`` of BREEDS or of the robustness library's ImageNet helpers.

    The modified hierarchy of BREEDS is a tree; a node with several parents is an error there unless a policy is chosen.
    The robustness library keeps the parent of the last line, which is the default policy for its files.

    Args:
        path: The folder. It has all :data:`BREEDS_FILES` or all :data:`ROBUSTNESS_FILES`.

    Raises:
        ValueError: With the missing files, if neither set is complete; with file and line, if a file is damaged.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder} to read a class hierarchy from; correct its path")
    lacking = {
        kind: [name for name in files if not (folder / name).is_file()]
        for kind, files in {"BREEDS": BREEDS_FILES, "robustness": ROBUSTNESS_FILES}.items()
    }
    if all(lacking.values()):
        kind = min(lacking, key=lambda kind: len(lacking[kind]))
        others = next(name for name in lacking if name != kind)
        raise ValueError(
            f"the folder {folder} is no info_dir: it lacks {', '.join(lacking[kind])} of {kind} and "
            f"{', '.join(lacking[others])} of {others}; add the files of one of them, or give a file "
            f"{_NOUNS} of WordNet 3.0"
        )
    edges, names, classes = ROBUSTNESS_FILES if lacking["BREEDS"] else BREEDS_FILES
    hierarchy = read_edges(folder / edges, policy="last" if lacking["BREEDS"] else "error")
    hierarchy.names = {**_class_names(folder / classes), **_node_names(folder / names)}
    return hierarchy


def _node_names(path: Path) -> dict[str, str]:
    names = {}
    for number, line in text_lines(path):
        node, tab, name = line.partition("\t")
        if not tab or not node or not name:
            raise ValueError(f"{path}:{number}: a line is an id, a tab and names, not {line!r}; get the file anew")
        names[node] = name
    return names


def _class_names(path: Path) -> dict[str, str]:
    """Reads [[0, id, names], ...] of BREEDS or {"0": [id, name], ...} of robustness."""
    data = read_json_file(path, "get the file anew")
    records = [[key, *_list(value)] for key, value in data.items()] if isinstance(data, dict) else _list(data)
    names = {}
    for i, record in enumerate(records):
        if len(_list(record)) != 3 or not all(isinstance(field, str) for field in record[1:]):
            raise ValueError(
                f"{path}: record {i} must be a number, a class and its names, not {record!r}; get the file anew"
            )
        names[record[1]] = record[2]
    return names


def _list(value: object) -> list:
    return value if isinstance(value, list) else []


# ---------------------------------------------------------------- WordNet
def read_wordnet_nouns(
    path: str | os.PathLike[str], *, instances: bool = False, release: str | None = "3.0"
) -> ClassHierarchy:
    """Reads the nouns of WordNet: every synset is a node, named ``n`` and eight digits, every hypernym an edge.

    Many nouns have several hypernyms; the default policy is ``'longest'``.

    Args:
        path: WordNet's ``data.noun``, in the format of the manual page wndb(5WN).
        instances: Whether instance hypernyms (*Everest* is an instance of *mountain peak*) are edges too.
        release: The release of WordNet that the file must be of, if its header names one; ``None`` accepts any.
            ImageNet's ids are from release 3.0.

    Raises:
        ValueError: With file and line, if the file is of another release or not in the format, or a hypernym is not in
            the file, as in a truncated file.
    """
    symbols = ("@", "@i") if instances else ("@",)
    edges: list[tuple[str, str]] = []
    lines: list[int] = []
    names: dict[str, str] = {}
    for number, line in text_lines(path):
        if line.startswith("  "):  # the licence
            found = _RELEASE.search(line)
            if found and release is not None and found[1] != release:
                raise ValueError(f"{path}:{number}: the file is of WordNet {found[1]}, not {release}; {_HINT}")
            continue
        try:
            node, words, pointers = _synset(line)
        except (ValueError, IndexError) as error:
            raise ValueError(
                f"{path}:{number}: no synset as WordNet's {_NOUNS} has them: {line[:60]!r}; get the file anew"
            ) from error
        names[node] = words
        for symbol, target in pointers:
            if symbol in symbols:
                edges.append((target, node))
                lines.append(number)
    for (parent, child), number in zip(edges, lines, strict=True):
        if parent not in names:
            raise ValueError(
                f"{path}:{number}: {child} has the hypernym {parent}, which is not in the file; it is truncated: get "
                "it anew"
            )
    return ClassHierarchy(edges, names=names, source=os.fspath(path), lines=lines, policy="longest", hint=_HINT)


def _synset(line: str) -> tuple[str, str, list[tuple[str, str]]]:
    """Returns a synset's id, its words and its pointers to nouns as (symbol, id); raises if the line is malformed.

    ``offset lex_filenum n w_cnt word lex_id [word lex_id ...] p_cnt [symbol offset pos source/target ...] | gloss``;
    ``w_cnt`` is hexadecimal, ``p_cnt`` decimal.
    """
    data, bar, _ = line.partition(" | ")
    fields = data.split(" ")
    if not bar or not _OFFSET.fullmatch(fields[0]) or fields[2] != "n":
        raise ValueError
    start = 4 + 2 * int(fields[3], 16)
    words = ", ".join(word.replace("_", " ") for word in fields[4:start:2])
    pointers = fields[start + 1 :]
    if not words or len(pointers) != 4 * int(fields[start]):
        raise ValueError
    return f"n{fields[0]}", words, list(_noun_pointers(pointers))


def _noun_pointers(fields: Sequence[str]) -> Iterator[tuple[str, str]]:
    for symbol, offset, part, _ in zip(*[iter(fields)] * 4, strict=True):
        if not _OFFSET.fullmatch(offset):
            raise ValueError
        if part == "n":
            yield symbol, f"n{offset}"
