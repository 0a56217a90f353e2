"""Reading what ``torch.save`` wrote: as data, and with no more memory than the file is long."""

from __future__ import annotations

import io
import os
import re
import zipfile
from typing import Any

import torch

from hierpretrain.files import stand_in

_ZIP, _PICKLE = b"PK\x03\x04", b"\x80"
_LONGEST = 300  # characters of torch's reason


def load_pickled(path: str | os.PathLike[str], map_location: Any = "cpu") -> Any:
    """Loads a file of weights with ``weights_only=True``.

    A zip file has a checksum for each of its members, which torch does not look at: a bit of a weight that flipped on
    the disk is an error here. The older format is a bare pickle, which may announce a text of any length: it is read
    from memory, where no more comes than there is, and takes its size once more.

    Args:
        path: The file.
        map_location: As for ``torch.load``.

    Raises:
        ValueError: If the file is damaged, or holds more than data.
        OSError: If it cannot be opened.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     torch.save({"weight": torch.ones(2)}, f"{folder}/a.pth")
        ...     load_pickled(f"{folder}/a.pth")
        {'weight': tensor([1., 1.])}
    """
    with open(path, "rb") as file:
        source = None if file.read(len(_ZIP)) == _ZIP else io.BytesIO(_rewound(file))
    try:
        if source is None:
            _check_members(path)
        return torch.load(os.fspath(path) if source is None else source, map_location=map_location, weights_only=True)
    except Exception as error:  # a pickle that is damaged makes torch raise nearly anything
        if isinstance(error, OSError) and error.filename is not None:
            raise  # of the disk; one without a name is of a place in the file that does not exist
        reason = _reason(path, error)
        raise ValueError(
            f"{os.fspath(path)} is damaged or holds more than weights: {reason}; take another file"
        ) from error


def _reason(path: str | os.PathLike[str], error: Exception) -> str:
    """Returns why a file cannot be loaded, without torch's advice to load it by running what is in it."""
    if told := stand_in(path):
        return told
    with open(path, "rb") as file:
        head = file.read(12)
    if not head.startswith((_ZIP, _PICKLE)):
        return f"it begins with {head!r}, as no file of torch.save does"
    text = " ".join(str(error).split()) or type(error).__name__
    if told := re.search(r"(?i)^weights only load failed.*?\b(unsupported [^.]+(\.\S[^.]*)*)", text):
        text = told[1]
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _check_members(path: str | os.PathLike[str]) -> None:
    """Raises a ValueError unless a zip file's members are stored as torch stores them, with the right checksums."""
    with zipfile.ZipFile(path) as file:
        members = file.infolist()
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed, which torch.save does not do")
        if sum(member.file_size for member in members) > os.path.getsize(path):
            raise ValueError("its members are longer than the file: they overlap")
        if wrong := file.testzip():
            raise ValueError(
                f"the checksum of its member {wrong!r} is wrong, as after a fault of a disk or a transfer (or it was "
                "written without checksums: torch.serialization.set_crc32_options)"
            )


def _rewound(file: Any) -> bytes:
    file.seek(0)
    return file.read()
