"""Unpacking the data sets that come with the toolbox."""

from __future__ import annotations

import os
import zipfile
import zlib
from pathlib import Path

from hierpretrain.files import SHIPPED, whole_folder


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
            for member in file.infolist():
                member.filename = member.filename.partition("/")[2]
                if member.filename:
                    file.extract(member, folder)  # which writes nowhere else, whatever the name says
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, UnicodeDecodeError) as error:
        raise ValueError(f"the archive {archive} cannot be unpacked: {error}; get it anew") from error
