"""Unpacking a zip archive whole or not at all, without writing outside the target."""

from __future__ import annotations

import lzma
import os
import shutil
import stat
import tempfile
import zipfile
import zlib
from pathlib import Path

from hierpretrain.datasets.annotations import unsafe_reason
from hierpretrain.files import SHIPPED

# what a damaged archive raises, by its way of compression
_DAMAGED = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError, EOFError, NotImplementedError, RuntimeError)


def unpack(archive: str | os.PathLike[str], target: str | os.PathLike[str], *, max_bytes: int = 2**34) -> None:
    """Unpacks a zip archive of one top folder, so that this folder becomes ``target``.

    The files are written to a temporary folder ``.<target>.*`` beside the target, which is then renamed: ``target``
    appears complete or not at all, also when the process is killed (a temporary folder may then stay behind; it can be
    deleted) and when several processes unpack at once (the first one's folder stays).

    Args:
        archive: The zip file. All its members lie in one top folder, of any name.
        target: The folder to make; nothing is done if it exists.
        max_bytes: The largest unpacked size.

    Raises:
        ValueError: If the archive is missing, damaged, larger than ``max_bytes`` or without the one top folder, or if a
            member is a link or has a name that leaves the folder.

    Example:
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with zipfile.ZipFile(f"{folder}/a.zip", "w") as file:
        ...         file.writestr("pets/cat/tabby.txt", "meow")
        ...     unpack(f"{folder}/a.zip", f"{folder}/animals")
        ...     Path(f"{folder}/animals/cat/tabby.txt").read_text()
        'meow'
    """
    archive, target = Path(archive), Path(target)
    if target.is_dir():
        return
    if target.exists():
        raise ValueError(f"{target} is a file; a folder of the archive {archive} shall have this name; move it away")
    if not archive.is_file():
        raise ValueError(f"there is no archive {archive} to unpack to {target}; put it there")
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        with zipfile.ZipFile(archive) as file:
            top = _checked_top(archive, file.infolist(), max_bytes)
            for member in file.infolist():
                path = scratch / member.filename
                if member.is_dir():
                    path.mkdir(parents=True, exist_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with file.open(member) as source, open(path, "xb") as sink:
                    shutil.copyfileobj(source, sink)
        try:
            os.rename(scratch / top, target)
        except OSError:
            if not target.is_dir():  # otherwise another process was faster, and its folder is as good as ours
                raise
    except (FileExistsError, NotADirectoryError) as error:
        raise ValueError(f"the archive {archive} holds one name twice: {error.filename}; get it anew") from error
    except _DAMAGED as error:
        if isinstance(error, OSError) and error.errno is not None:  # the system's, such as a full disk; bz2's has none
            raise
        raise ValueError(f"the archive {archive} cannot be unpacked: {error}; get it anew") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def unpack_own(root: str, name: str) -> None:
    """Unpacks a data set that comes with the toolbox, unless its folder is there already.

    The archive is ``<root>.zip``, or else the one that comes with the package.

    Args:
        root: The folder.
        name: What the archive that comes with the package is called, without ``.zip``.

    Raises:
        ValueError: If neither the folder nor an archive is there; and as :func:`unpack`.
    """
    if os.path.isdir(root):
        return
    archives = [Path(f"{root}.zip"), SHIPPED / "data" / f"{name}.zip"]
    archive = next((path for path in archives if path.is_file()), None)
    if archive is None:
        raise ValueError(
            f"{name} is neither at {root} nor, packed, at {root}.zip, and this installation came without it; it is "
            f"data/{name}.zip in HierPretrain's repository: copy it there, or correct data_root"
        )
    unpack(archive, root)


def _checked_top(archive: Path, members: list[zipfile.ZipInfo], max_bytes: int) -> str:
    """Returns the name of the one top folder of members that are safe to write."""
    for member in members:
        if reason := unsafe_reason(member.filename.removesuffix("/") if member.is_dir() else member.filename):
            raise ValueError(f"the archive {archive} holds the name {member.filename!r}, which {reason}; do not use it")
        mode = member.external_attr >> 16
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
            raise ValueError(f"the archive {archive} holds a link or device, {member.filename!r}; do not use it")
    if (size := sum(member.file_size for member in members)) > max_bytes:
        raise ValueError(f"the archive {archive} unpacks to {size} bytes, more than max_bytes={max_bytes}")
    tops = sorted({member.filename.split("/")[0] for member in members})
    if len(tops) != 1 or any("/" not in member.filename for member in members):
        raise ValueError(f"the archive {archive} must hold one top folder and nothing beside it; it holds {tops[:5]}")
    return tops[0]
