"""A folder whose content changes at once: parts named by their digests, and a manifest that is swapped in last.

A part never changes: new content has a new name. So whoever has read the manifest finds the parts that belong together,
or, where a writer has removed one meanwhile, a newer manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from hierpretrain._json import parse_object
from hierpretrain._texts import short
from hierpretrain.files import check_writable, flush, named_errors, sha256, stand_in, write_whole

_Read = TypeVar("_Read")
_PART = re.compile(r"[a-z][a-z_]*-([0-9a-f]{64})\.[a-z]+")
_DIGEST = "sha256"
_SCRATCH = re.compile(r"\.[a-z][a-z_.]*\.new\.[0-9a-f]{16}")


def check_target(folder: str | os.PathLike[str], manifest: str, older: Collection[str], what: str) -> None:
    """Raises unless parts may be written to a folder: a new one, an empty one, or one that holds parts alone.

    Args:
        folder: The folder.
        manifest: The name of the manifest.
        older: Names of files of older formats, which may be there beside a manifest.
        what: What the folder holds, for the message.

    Raises:
        ValueError: That names a file that would be lost, or what is in the way.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     check_target(folder, "index.json", (), "an index")
        ...     Path(folder, "holiday.jpg").touch()
        ...     check_target(folder, "index.json", (), "an index")
        Traceback (most recent call last):
        ValueError: ... holds 'holiday.jpg', which would be lost, and is no part of an index; give another folder
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; {what} is a folder: give another name")
    check_writable(folder / manifest)
    there = {entry.name for entry in folder.iterdir()} if folder.exists() else set()
    ours = {manifest, f".{manifest}.lock"} | (set(older) if manifest in there else set())
    if foreign := {name for name in there - ours if not _PART.fullmatch(name) and not _SCRATCH.fullmatch(name)}:
        raise ValueError(
            f"{folder} holds {min(foreign)!r}, which would be lost, and is no part of {what}; give another folder"
        )


def write_part(folder: Path, kind: str, ending: str, write: Callable[[Path], object]) -> str:
    """Writes a part, and returns its name: what it is, its SHA-256 and an ending.

    Args:
        folder: Where to.
        kind: What it is, in small letters.
        ending: Such as ``'.json'``.
        write: Writes the content to the path that it is given.

    Raises:
        OSError: If it cannot be written.
    """
    scratch = folder / f".{kind}.new.{secrets.token_hex(8)}"
    try:
        with named_errors(folder / kind):  # the name of the part is not known yet
            write(scratch)
            flush(scratch)
            name = f"{kind}-{sha256(scratch)}{ending}"
            os.replace(scratch, folder / name)
    finally:
        scratch.unlink(missing_ok=True)
    return name


def check_part(manifest: Path, name: object, remedy: str) -> Path:
    """Returns the path of a part that a manifest names, after checking that it holds what its name says.

    Raises:
        ValueError: If it is not there or holds something else, or no part has the name.
    """
    found = _PART.fullmatch(name) if isinstance(name, str) else None
    if not found:
        raise ValueError(f"{manifest} names {short(name)}, which is no part; {remedy}")
    path = manifest.with_name(found[0])
    try:
        digest = sha256(path)
    except FileNotFoundError as error:
        raise ValueError(f"{path}, which {manifest.name} names, is missing; {remedy}") from error
    if digest != found[1]:
        why = stand_in(path) or "the SHA-256 of its bytes is not the one in its name"
        raise ValueError(f"{path} is damaged: {why}; {remedy}")
    return path


def write_manifest(
    folder: Path, manifest: str, data: Mapping[str, Any], parts: Collection[str], older: Collection[str] = ()
) -> bytes:
    """Swaps a new manifest in, and removes the parts that it does not name with all that killed writers left.

    An error means that the older manifest is still there. Parts that cannot be removed are no error: the next writer
    tries again.

    Args:
        folder: The folder; nobody else may write to it, as :func:`~hierpretrain.files.in_turn` of the manifest sees to.
        manifest: The name of the manifest.
        data: What it shall hold, as JSON has it. A digest of it comes with it.
        parts: The parts that it names.
        older: Names of files of older formats, which go too.

    Returns:
        The bytes of the manifest.

    Raises:
        OSError: If the manifest cannot be written.
    """
    _flush_folder(folder)  # the parts, before what names them
    written = (json.dumps(sealed(data), indent=1) + "\n").encode()
    write_whole(folder / manifest, written)
    with suppress(OSError):  # the change is made, and whoever heard of an error would undo what belongs to it
        _flush_folder(folder)
        for name in set(os.listdir(folder)) - {manifest, *parts}:
            if name in older or _PART.fullmatch(name) or _SCRATCH.fullmatch(name):
                with suppress(OSError):
                    os.unlink(folder / name)
    return written


def parse_manifest(data: bytes, path: Path, form: str, remedy: str) -> dict[str, Any]:
    """Returns what :func:`write_manifest` wrote, after checking its format and its digest.

    Args:
        data: The bytes of the manifest.
        path: Where they are from, for messages.
        form: The format that it must have.
        remedy: What to do if it is damaged, for messages.

    Raises:
        ValueError: If it is damaged, or of another version.
    """
    found = parse_object(data, path, remedy, any_text=True)
    if found.get("format") != form:
        raise ValueError(
            f"{path} must have the format {form!r}; it has {short(found.get('format'))}: it is of another version; "
            f"{remedy}"
        )
    if found != sealed(found):
        raise ValueError(f"{path} is damaged: its {_DIGEST!r} is not that of what it holds; {remedy}")
    return found


def sealed(data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a manifest holds with the digest of it, in place of an older one.

    Every ``root``, the folder in which images lie, is left out of it: people change it by hand where images moved.

    Example:
        >>> sealed({"seed": 0, "root": "a/"})["sha256"] == sealed({"seed": 0, "root": "b/"})["sha256"]
        True
    """
    rest = json.loads(json.dumps(data), object_hook=_without_roots)
    return {**data, _DIGEST: hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


def _without_roots(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key not in ("root", _DIGEST)}


def read_whole(manifest: Path, read: Callable[[bytes], _Read], *, parts_change: bool = False) -> _Read:
    """Reads a manifest and its parts, as often as a writer swaps it meanwhile, until all are of one manifest.

    Another file of the same bytes is another manifest: a writer may have put others in its place, and it back again,
    while the parts were read. The file is kept open, so that no other can be taken for it.

    Args:
        manifest: The path of the manifest.
        read: Reads the parts, given the manifest's bytes.
        parts_change: If parts keep their names when they change, so that what was read may be of two manifests.

    Raises:
        ValueError: What ``read`` raises, if the manifest is still the same.
        FileNotFoundError: If there is no manifest.
    """
    while True:
        with open(manifest, "rb") as file:
            try:
                found = read(file.read())
            except (ValueError, OSError):  # a part that goes while it is read is an error of whoever reads it
                if _is_there(file, manifest):
                    raise
            else:
                if not parts_change or _is_there(file, manifest):
                    return found


def _is_there(file: IO[bytes], path: Path) -> bool:
    return os.path.samestat(os.fstat(file.fileno()), os.stat(path))


def _flush_folder(folder: Path) -> None:
    """Waits until the disk has the names in a folder, where the system can tell."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            with suppress(OSError):  # of file systems that cannot
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
