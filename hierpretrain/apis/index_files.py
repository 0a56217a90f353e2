"""The folder of an index: one generation of it, whole whenever it is read, and believed only after it was checked."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import torch
from torch import Tensor

from hierpretrain._json import parse_object
from hierpretrain._texts import check_texts_in, short
from hierpretrain.apis import part_files
from hierpretrain.apis.addresses import is_address, milvus_address
from hierpretrain.apis.index_format import ENDINGS, FORMAT, MANIFEST, image_path
from hierpretrain.apis.part_files import check_part, parse_manifest, read_whole, write_manifest, write_part
from hierpretrain.apis.segments import Generation, Segment
from hierpretrain.arrays import read_array
from hierpretrain.datasets.joined import recode
from hierpretrain.files import check_writable, in_turn
from hierpretrain.functional.approximate import (
    check_stored,
    kind_of,
    make_reconstructible,
    search_parameters,
    set_search_parameters,
)
from hierpretrain.taxonomy import Taxonomy

_OLDER = {"index.faiss", "labels.npy", "files.json", "taxonomy.json", "skipped.json", "metadata.json"}  # of v1
_ABOUT = {"model": str, "fingerprint": str, "width": int, "kind": str, "half": bool, "seed": int}
_TYPES = _ABOUT | {"count": int, "segments": list, "parts": dict}
_SEGMENT_TYPES = {"count": int, "kind": str, "root": str, "recall": dict, "search": dict, "parts": dict}
_TAXONOMY, _SKIPPED = "taxonomy", "skipped"
_REMEDY = "make the index anew (hierpretrain index)"


def check_target(folder: str | os.PathLike[str], *, half: bool = False, seed: int = 0) -> None:
    """Raises unless an index may be written to a folder: a new or an empty one, or one that holds an index alone.

    An address of Milvus must be of the right form.

    Args:
        folder: The folder or the address.
        half: Whether embeddings shall be stored as float16, which Milvus does not do.
        seed: Of the clusters of the index, which Milvus makes without one.

    Raises:
        ValueError: That names a file that would be lost, what is in the way, or an option that Milvus has not.
    """
    if is_address(folder):
        milvus_address(os.fspath(folder))
        if given := [f"{name}={value}" for name, value in (("half", half), ("seed", seed)) if value]:
            raise ValueError(
                f"half and seed are for an index in a folder, and {str(folder)!r} is an address: leave out "
                f"{' and '.join(given)}"
            )
        return
    part_files.check_target(folder, MANIFEST, _OLDER, "an index")


def check_changeable(folder: str | os.PathLike[str]) -> None:
    """Raises unless the index in a folder can be written to, as on a disk that is read-only; before the work.

    Raises:
        ValueError: That names what is in the way.
    """
    if not is_address(folder):
        check_writable(Path(folder, MANIFEST))


def only_writer(folder: str | os.PathLike[str]) -> Any:
    """Waits until no other process of this machine writes the index, and keeps others waiting in a ``with`` block."""
    return in_turn(Path(folder, MANIFEST))


def write_generation(folder: str | os.PathLike[str], index: Generation, *, stored: bool) -> tuple[Generation, bytes]:
    """Writes a generation, whole or not at all; an older one in the folder is replaced.

    Args:
        folder: The folder; the caller is its only writer.
        index: What to write.
        stored: Whether parts that say that they are stored are in this folder, so that they need not be written.

    Returns:
        The generation, which says where all of its parts are, and the bytes of its manifest.

    Raises:
        ValueError: If the manifest cannot say what the index is, since its model is no text for example.
        OSError: If the disk is full, or the folder cannot be written to.
    """
    folder = Path(folder)
    _check_types(folder / MANIFEST, vars(index), _ABOUT)
    folder.mkdir(parents=True, exist_ok=True)
    tree = _write_json(folder, _TAXONOMY, index.taxonomy.to_dict())
    segments = [_write_segment(folder, segment, tree, stored=stored) for segment in index.segments]
    parts = {}
    for name, data in index.parts.items():
        parts[name] = _write_bytes(folder, name, ENDINGS.get(name, ".json"), data) if isinstance(data, bytes) else data
    named = {_TAXONOMY: tree, **parts}
    if index.skipped:
        named[_SKIPPED] = _write_json(folder, _SKIPPED, dict(index.skipped))
    manifest = {
        "format": FORMAT,
        "model": index.model,
        "fingerprint": index.fingerprint,
        "width": index.width,
        "kind": index.kind,
        "half": index.half,
        "seed": index.seed,
        "count": len(index),
        "segments": [_entry(segment) for segment in segments],
        "parts": named,
    }
    files = {file for segment in segments for file in segment.stored.values()} | set(named.values())
    written = write_manifest(folder, MANIFEST, manifest, files, _OLDER)
    return replace(index, segments=tuple(segments), parts=parts), written


def read_generation(
    folder: str | os.PathLike[str], known: Generation | None = None, manifest: bytes | None = None
) -> tuple[Generation, bytes]:
    """Reads what :func:`write_generation` wrote last, never parts of two generations.

    Args:
        folder: The folder.
        known: An older generation of it, whose segments need not be read again.
        manifest: The bytes of that one's manifest; where they are the same, ``known`` is returned.

    Returns:
        The generation, and the bytes of its manifest.

    Raises:
        ValueError: If there is no index, or a part is missing, damaged or does not fit.
    """
    folder = Path(folder)

    def read(data: bytes) -> tuple[Generation, bytes]:
        return (known if known is not None and data == manifest else _read(folder, data, known)), data

    try:
        return read_whole(folder / MANIFEST, read)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(
            f"there is no index in {folder}: it has no {MANIFEST}; make one there (hierpretrain index)"
        ) from error


def part_path(folder: str | os.PathLike[str], name: object) -> Path:
    """Returns where a part lies, after checking its digest.

    Raises:
        ValueError: If it is missing or damaged.
    """
    return check_part(Path(folder, MANIFEST), name, _REMEDY)


def _write_json(folder: Path, kind: str, data: Any) -> str:
    text = json.dumps(data, separators=(",", ":"))  # in ASCII, since the name of a file may be no text at all
    return _write_bytes(folder, kind, ".json", text.encode())


def _write_bytes(folder: Path, kind: str, ending: str, data: bytes) -> str:
    return write_part(folder, kind, ending, lambda path: path.write_bytes(data))


def _write_segment(folder: Path, segment: Segment, tree: str, *, stored: bool) -> Segment:
    names = dict(segment.stored) if stored else {}
    if "vectors" not in names:
        names["vectors"] = write_part(folder, "vectors", ".faiss", lambda path: _write_faiss(path, segment.index))
    if "images" not in names:
        segment = replace(segment, root=_root(segment.paths))
        images = {
            "paths": [path[len(segment.root) :] for path in segment.paths],
            "keys": segment.keys if any(segment.keys) else [],
            "digests": segment.digests if any(segment.digests) else [],
            "metadata": dict(segment.metadata),
        }
        names["images"] = _write_json(folder, "images", images)
    if "labels" not in names:  # in the tree of the moment: a later one has other numbers
        names["labels"], names[_TAXONOMY] = _write_array(folder, "labels", segment.labels), tree
    if segment.removed is not None and "removed" not in names:
        names["removed"] = _write_array(folder, "removed", segment.removed)
    return replace(segment, stored=names)


def _root(paths: list[str]) -> str:
    """Returns what all paths begin with, up to the last slash of it: paths come back as they are."""
    root = os.path.commonprefix(paths)  # noqa: RUF071
    return root[: root.rfind("/") + 1]


def _entry(segment: Segment) -> dict[str, Any]:
    return {
        "count": len(segment),
        "kind": kind_of(segment.index)[0],
        "root": segment.root,
        "recall": dict(segment.recall),
        "search": search_parameters(segment.index),
        "parts": dict(segment.stored),
    }


def _write_array(folder: Path, kind: str, array: Tensor) -> str:
    data = io.BytesIO()
    np.save(data, array.numpy(), allow_pickle=False)
    return _write_bytes(folder, kind, ".npy", data.getvalue())


def _write_faiss(path: Path, index: Any) -> None:
    try:
        faiss.write_index(index, str(path))
    except RuntimeError as error:  # faiss has no other for a full disk
        raise OSError(f"{path} cannot be written: {error}") from error


def _read(folder: Path, data: bytes, known: Generation | None) -> Generation:
    """Reads the parts that a manifest names."""
    path = folder / MANIFEST
    about = parse_manifest(data, path, FORMAT, _REMEDY)
    _check_types(path, about, _TYPES)
    for entry in about["segments"]:
        _check_types(path, entry, _SEGMENT_TYPES)
    tree = _read_tree(folder, about["parts"].get(_TAXONOMY))
    skipped = _read_texts(folder, about["parts"][_SKIPPED]) if _SKIPPED in about["parts"] else {}
    segments = [_read_segment(folder, entry, tree, about, known) for entry in about["segments"]]
    parts = {name: file for name, file in about["parts"].items() if name not in (_TAXONOMY, _SKIPPED)}
    for name, file in parts.items():
        if not isinstance(file, str) or not (folder / file).is_file():
            raise ValueError(f"{folder / str(file)}, the part {name!r}, is missing; {_REMEDY}")
    index = Generation(
        tuple(segments),
        tree,
        about["model"],
        about["fingerprint"],
        about["width"],
        about["kind"],
        about["half"],
        about["seed"],
        skipped,
        parts,
    )
    if len(index) != about["count"]:
        raise ValueError(f"{path} must have a count of {len(index)}, its images; it has {about['count']}; {_REMEDY}")
    return index


def _read_segment(
    folder: Path, entry: Mapping[str, Any], tree: Taxonomy, about: Mapping[str, Any], known: Generation | None
) -> Segment:
    """Reads the parts of a segment; what an older generation has of them is taken from it."""
    names, root = entry["parts"], image_path(entry["root"], "")
    older = {} if known is None else {segment.stored.get("vectors"): segment for segment in known.segments}
    before = older.get(names.get("vectors"))
    if before is None:
        index = _read_faiss(part_path(folder, names.get("vectors")))
    elif before.stored == names and before.root == root and tree == known.taxonomy:
        return before
    else:
        index = before.index
    images = _read_object(part_path(folder, names.get("images")))
    count, path = entry["count"], folder / names["images"]
    columns = {name: images.get(name) for name in ("paths", "keys", "digests")}
    metadata = images.get("metadata")
    if not isinstance(metadata, dict):
        raise ValueError(f"{path} must hold 'metadata', an object of lists; {_REMEDY}")
    for name in ("keys", "digests"):
        columns[name] = columns[name] or [""] * count
    for name, column in {**columns, **metadata}.items():
        check_texts_in(path, name, column, count, _REMEDY)
    own = _read_tree(folder, names.get(_TAXONOMY))
    labels = _read_labels(folder, names, own)
    removed = None
    if "removed" in names:
        removed = torch.from_numpy(read_array(part_path(folder, names["removed"]), _REMEDY, dtype=np.bool_))
    counts = {"labels": len(labels), "vectors": index.ntotal} | ({} if removed is None else {"removed": len(removed)})
    if wrong := {name: number for name, number in counts.items() if number != count}:
        name, number = next(iter(wrong.items()))
        raise ValueError(f"{folder / names[name]} must be of {count} images; it is of {number}; {_REMEDY}")
    if index.d != about["width"]:
        raise ValueError(
            f"{folder / names['vectors']} must have vectors of {about['width']} numbers, as {MANIFEST} says; they have "
            f"{index.d}; {_REMEDY}"
        )
    try:
        if kind_of(index) != (entry["kind"], about["half"]):
            raise ValueError(f"it is {kind_of(index)}, but {MANIFEST} says {(entry['kind'], about['half'])}")
        set_search_parameters(index, entry["search"])
    except ValueError as error:
        raise ValueError(f"{folder / names['vectors']} cannot be used: {error}; {_REMEDY}") from error
    if wrong := [recall for recall in entry["recall"].values() if type(recall) is not float]:
        raise ValueError(f"{folder / MANIFEST} must have recalls that are numbers; it has {short(wrong[0])}; {_REMEDY}")
    paths = [image_path(root, path) for path in columns["paths"]]
    return Segment(
        index,
        recode(labels, own, tree),
        paths,
        columns["keys"],
        columns["digests"],
        metadata,
        removed,
        entry["recall"],
        dict(names),
        root,
    )


def _read_labels(folder: Path, names: Mapping[str, Any], tree: Taxonomy) -> Tensor:
    path = part_path(folder, names.get("labels"))
    labels = torch.from_numpy(read_array(path, _REMEDY, dtype=np.int64))
    try:
        return tree.check_own(labels, several_paths=True)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}; {_REMEDY}") from error


def _check_types(path: Path, data: Any, types: Mapping[str, type]) -> None:
    for name, kind in types.items():
        value = data.get(name) if isinstance(data, dict) else None
        if type(value) is not kind:
            raise ValueError(f"{path} must have {name!r}, of type {kind.__name__}; it has {short(value)}; {_REMEDY}")


def _read_tree(folder: Path, name: object) -> Taxonomy:
    path = part_path(folder, name)
    try:
        return Taxonomy.from_dict(_read_object(path))
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} holds no label tree: {error}; {_REMEDY}") from error


def _read_texts(folder: Path, name: object) -> dict[str, str]:
    path = part_path(folder, name)
    texts = _read_object(path)
    if wrong := [text for text in texts.values() if not isinstance(text, str)]:
        raise ValueError(f"{path} must hold texts; it holds {short(wrong[0])}; {_REMEDY}")
    return texts


def _read_faiss(path: Path) -> Any:
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


def _read_object(path: Path) -> dict[str, Any]:
    return parse_object(path.read_bytes(), path, _REMEDY, any_text=True)
