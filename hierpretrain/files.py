"""Files that are whole whenever they are there, and those that come with the package."""

import os
from pathlib import Path

SHIPPED = Path(__file__).with_name(".mim")
"""What comes with the package beside its code, where OpenMMLab looks for it: ``configs``, ``tools``,
``model-index.yml`` and ``data``. Links to them in a clone, copies in a wheel."""


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file whole or not at all: on an error, a kill or a full disk, a file that was there stays as it was.

    Args:
        path: Where to; missing folders are made.
        data: The content; written beside the place, confirmed by the disk, then moved there.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(f"{folder}/new/file.txt", b"content")
        ...     Path(folder, "new/file.txt").read_text()
        'content'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def check_place(path: str | os.PathLike[str], *, folder: bool = False) -> None:
    """Raises unless a file can be written at a place; to be called before the work, not after it.

    Args:
        path: The place; folders above it may be missing.
        folder: Whether it is a folder that shall be written there.

    Raises:
        ValueError: That names what is in the way.

    Example:
        >>> check_place(f"{__file__}/results.json")
        Traceback (most recent call last):
        ValueError: .../files.py/results.json cannot be written: .../files.py is a file; give another place
    """
    above = Path(path).absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        why = "is not yours to write to" if above.is_dir() else "is a file"
        raise ValueError(f"{path} cannot be written: {above} {why}; give another place")
    if not folder and Path(path).is_dir():
        raise ValueError(f"{path} cannot be written: it is a folder; give the name of a file")
