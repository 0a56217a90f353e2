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
