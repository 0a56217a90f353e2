"""Unpacking the data sets that come with the toolbox."""

from __future__ import annotations

import errno
import os
import zipfile
import zlib
from pathlib import Path

from hierpretrain.files import SHIPPED, whole_folder

_MAX_BYTES = 2**32  # that an archive may unpack to; ours have some megabytes
_OF_DAMAGE = (errno.EINVAL, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)  # places and names in a file


def unpack_own(root: str, name: str) -> None:
    """Unpacks a data set that comes with the toolbox, unless its folder is there already.

    The archive is ``<root>.zip``, or else the one that comes with the package. The folder appears complete or not at
    all, see :func:`~hierpretrain.files.whole_folder`.

    Args:
        root: The folder.
        name: The name, without ``.zip``, of the archive that comes with the package.

    Raises:
        ValueError: If neither the folder nor an archive is there, or the archive is damaged.
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
    try:
        with zipfile.ZipFile(archive) as file, whole_folder(root) as folder:
            tops = {"".join(name.partition("/")[:2]) for name in file.namelist()}
            if len(tops) != 1 or not tops.pop().endswith("/"):  # what lies beside a folder would be left out
                raise zipfile.BadZipFile("it must hold one top folder and nothing beside it")
            members = file.infolist()
            if len({member.filename for member in members}) < len(members):
                raise zipfile.BadZipFile("a name is there twice")
            if sum(member.file_size for member in members) > _MAX_BYTES:
                raise zipfile.BadZipFile(f"it would unpack to more than {_MAX_BYTES >> 30} GiB")
            for member in members:
                member.filename = member.filename.partition("/")[2]
                if member.filename:
                    file.extract(member, folder)  # which writes nowhere else, whatever the name says
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, NotImplementedError) as error:
        raise ValueError(f"the archive {archive} cannot be unpacked: {error}; get it anew") from error
    except OSError as error:
        if error.errno not in _OF_DAMAGE:  # of the disk, which is no fault of the archive
            raise
        what = error.strerror if error.filename is None else f"{error.strerror}: {os.path.basename(error.filename)}"
        raise ValueError(f"the archive {archive} cannot be unpacked: {what}; get it anew") from error
