"""The folder of a saved index: replaced whole or not at all, and believed only after it was checked."""

from __future__ import annotations

import glob
import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor

from hierpretrain.apis.thresholds import FILE as _CALIBRATION
from hierpretrain.apis.thresholds import Calibration
from hierpretrain.files import check_writable, sha256, whole_folder, write_json
from hierpretrain.functional.approximate import check_stored, make_reconstructible
from hierpretrain.taxonomy import Taxonomy

_FORMAT = "hierpretrain.index.v1"
_ABOUT, _VECTORS, _LABELS, _FILES = "index.json", "index.faiss", "labels.npy", "files.json"
_TAXONOMY, _SKIPPED, _METADATA = "taxonomy.json", "skipped.json", "metadata.json"
_OURS = {_ABOUT, _VECTORS, _LABELS, _FILES, _TAXONOMY, _SKIPPED, _METADATA, _CALIBRATION}
_TYPES = {  # of what index.json says
    "model": str,
    "fingerprint": str,
    "width": int,
    "kind": str,
    "half": bool,
    "count": int,
    "recall": dict,
    "search": dict,
    "root": str,
    "sha256": str,
}
_REMEDY = "make the index anew (hierpretrain index)"


def check_target(folder: str | os.PathLike[str]) -> None:
    """Raises unless an index may be written to a folder: a new or an empty one, or one that holds an index alone.

    Raises:
        ValueError: That names a file that would be lost, or what is in the way.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     check_target(folder)
        ...     Path(folder, "holiday.jpg").touch()
        ...     check_target(folder)
        Traceback (most recent call last):
        ValueError: ... holds 'holiday.jpg', which would be lost, and is no index; give another folder
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; an index is a folder: give another name")
    check_writable(folder, folder=True)
    there = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    if there and (_ABOUT not in there or there - _OURS):
        what = "is no index" if _ABOUT not in there else "no part of an index"
        name = min(there - _OURS or there)
        raise ValueError(f"{folder} holds {name!r}, which would be lost, and {what}; give another folder")


def write_index(
    folder: str | os.PathLike[str],
    index: Any,
    *,
    about: Mapping[str, Any],
    taxonomy: Taxonomy,
    labels: Tensor,
    paths: Sequence[str],
    skipped: Mapping[str, str],
    keys: Sequence[str] = (),
    metadata: Mapping[str, Sequence[str]] | None = None,
    calibration: Calibration | None = None,
) -> None:
    """Writes the folder of an index, whole or not at all; an older index in it is replaced.

    Args:
        folder: The folder; see :func:`check_target`.
        index: The index of faiss, of N embeddings.
        about: What ``index.json`` shall say: model, fingerprint, kind, half, recall, search.
        taxonomy: The tree of the labels.
        labels: (N, L) or (N, P, L) labels.
        paths: The N files.
        skipped: The files that could not be read, and why.
        keys: N texts by which people know the images, or nothing at all.
        metadata: What else is known of them: name -> N texts.
        calibration: What the index learned of its answers, if it did.

    Raises:
        ValueError: As :func:`check_target`.
        OSError: If the disk is full, or the folder cannot be written to.
    """
    check_target(folder)
    root = os.path.commonprefix(list(paths))  # noqa: RUF071  # up to the last slash below: paths come back as they are
    root = root[: root.rfind("/") + 1]
    with whole_folder(folder, replace=True) as new:
        _write_faiss(new / _VECTORS, index)
        np.save(new / _LABELS, labels.numpy(), allow_pickle=False)
        taxonomy.save(new / _TAXONOMY)
        write_json(new / _FILES, [path[len(root) :] for path in paths])
        if skipped:
            write_json(new / _SKIPPED, dict(skipped))
        if keys or metadata:  # an index of a folder is as it has always been
            columns = {name: list(column) for name, column in (metadata or {}).items()}
            write_json(new / _METADATA, {"keys": list(keys), "metadata": columns})
        if calibration is not None:
            calibration.save(new)
        about = {**about, "width": index.d, "count": index.ntotal, "root": root, "sha256": sha256(new / _VECTORS)}
        write_json(new / _ABOUT, {"format": _FORMAT, **{name: about[name] for name in _TYPES}})


def read_index(
    folder: str | os.PathLike[str],
) -> tuple[dict[str, Any], Any, Taxonomy, Tensor, list[str], dict[str, str], list[str], dict[str, list[str]]]:
    """Reads what :func:`write_index` wrote.

    Returns:
        What ``index.json`` says, the index of faiss, the tree, the labels, the files, the skipped ones, and the
        keys and the metadata of the files.

    Raises:
        ValueError: If there is no index, a file is missing or damaged, or two of them do not belong together.
    """
    folder = Path(folder)
    if not (folder / _ABOUT).is_file():
        path = folder.resolve()
        older = sorted(path.parent.glob(f".{glob.escape(path.name)}.old.*"))
        remedy = "make one there (hierpretrain index)"
        if older:  # a process was killed between the two renames of whole_folder
            remedy = f"the older one is whole: {shlex.join(['mv', str(older[-1]), str(path)])}"
        raise ValueError(f"there is no index in {folder}: it has no {_ABOUT}; {remedy}")
    about = _read_json(folder / _ABOUT, dict)
    if about.get("format") != _FORMAT:
        raise ValueError(
            f"{folder / _ABOUT} must have the format {_FORMAT!r}; it has {about.get('format')!r}: it is of another "
            f"version; {_REMEDY}"
        )
    for name, kind in _TYPES.items():
        if type(about.get(name)) is not kind:
            raise ValueError(
                f"{folder / _ABOUT} must have {name!r}, of type {kind.__name__}; it has {about.get(name)!r}; {_REMEDY}"
            )
    if wrong := [recall for recall in about["recall"].values() if type(recall) is not float]:
        raise ValueError(f"{folder / _ABOUT} must have recalls that are numbers; it has {wrong[0]!r}; {_REMEDY}")
    files = _read_json(folder / _FILES, list)
    skipped = _read_json(folder / _SKIPPED, dict) if (folder / _SKIPPED).exists() else {}
    keys, metadata = _read_metadata(folder / _METADATA, len(files))
    for name, texts in ((_FILES, files), (_SKIPPED, skipped.values())):
        if wrong := [text for text in texts if not isinstance(text, str)]:
            raise ValueError(f"{folder / name} must hold texts; it holds {wrong[0]!r}; {_REMEDY}")
    try:
        taxonomy = Taxonomy.from_dict(_read_json(folder / _TAXONOMY, dict))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / _TAXONOMY} holds no label tree: {error}; {_REMEDY}") from error
    labels, index = _read_labels(folder / _LABELS), _read_faiss(folder / _VECTORS, about["sha256"])
    counts = {_ABOUT: about["count"], _FILES: len(files), _LABELS: len(labels), _VECTORS: index.ntotal}
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} of {count}" for name, count in counts.items())
        raise ValueError(f"the files of {folder} must be of equally many images; they are {listed}; {_REMEDY}")
    if index.d != about["width"]:
        raise ValueError(
            f"{folder / _VECTORS} must have vectors of {about['width']} numbers, as {_ABOUT} says; they have "
            f"{index.d}; {_REMEDY}"
        )
    return about, index, taxonomy, labels, [about["root"] + file for file in files], skipped, keys, metadata


def _write_faiss(path: Path, index: Any) -> None:
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # faiss has no other for a full disk
        raise OSError(f"{path} cannot be written: {error}") from error


def _read_faiss(path: Path, digest: str) -> Any:
    if not path.is_file():
        raise ValueError(f"{path} is missing; {_REMEDY}")
    if sha256(path) != digest:  # faiss would follow the links of a damaged graph out of its memory
        raise ValueError(f"{path} is damaged or of another index: {_ABOUT} has another SHA-256; {_REMEDY}")
    try:
        index = faiss.read_index(str(path))
        make_reconstructible(index)
    except (RuntimeError, MemoryError) as error:
        raise ValueError(f"{path} is no index of faiss: {error}; {_REMEDY}") from error
    try:
        check_stored(index)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}; {_REMEDY}") from error
    return index


def _read_labels(path: Path) -> Tensor:
    if not path.is_file():
        raise ValueError(f"{path} is missing; {_REMEDY}")
    try:
        labels = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError, MemoryError) as error:
        raise ValueError(f"{path} is damaged: {error}; {_REMEDY}") from error
    if not isinstance(labels, np.ndarray) or labels.dtype != np.int64:
        kind = getattr(labels, "dtype", type(labels).__name__)
        raise ValueError(f"{path} must be an array of int64; it is {kind}; {_REMEDY}")
    return torch.from_numpy(labels)


def _read_metadata(path: Path, count: int) -> tuple[list[str], dict[str, list[str]]]:
    """Returns the keys and the metadata of the images; none where there is no such file."""
    if not path.exists():
        return [], {}
    data = _read_json(path, dict)
    keys, metadata = data.get("keys"), data.get("metadata")
    if not isinstance(keys, list) or not isinstance(metadata, dict):
        raise ValueError(f"{path} must hold 'keys', a list, and 'metadata', an object of lists; {_REMEDY}")
    for name, column in {"keys": keys or [""] * count, **metadata}.items():
        if not isinstance(column, list) or len(column) != count or not all(isinstance(text, str) for text in column):
            raise ValueError(f"{path} must hold {count} texts in {name!r}, one an image; it does not; {_REMEDY}")
    return keys, metadata


def _read_json(path: Path, kind: type) -> Any:
    if not path.is_file():
        raise ValueError(f"{path} is missing; {_REMEDY}")
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: {error}; {_REMEDY}") from error
    if not isinstance(data, kind):
        raise ValueError(f"{path} must hold a {kind.__name__}; it holds a {type(data).__name__}; {_REMEDY}")
    return data
