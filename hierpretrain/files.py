"""Files and folders that are whole whenever they are there, and the files that come with the package."""

import ctypes
import glob
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

from hierpretrain._names import same_name

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None  # type: ignore[assignment]

_POINTER = b"version https://git-lfs"

SHIPPED = Path(__file__).with_name(".mim")
"""What comes with the package beside its code, where OpenMMLab looks for it: ``configs``, ``tools``,
``model-index.yml`` and ``data``. Links to them in a clone, copies in a wheel."""


def as_called(path: str, root: str = "") -> str:
    r"""Returns a path as its file or folder is really called, where its name is given in another Unicode form.

    Macs name files in the decomposed form, and what people type is composed. A path that is there, one that is not
    there in any form, and one that is there in several other forms, are returned as they are.

    Args:
        path: The path.
        root: The folder that it is relative to.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, "cafe\u0301").mkdir()
        ...     as_called("caf\u00e9", folder) == "cafe\u0301"
        True
    """
    if path.isascii() or os.path.exists(os.path.join(root, path)):
        return path
    there = "/" if path.startswith("/") else ""
    for part in filter(None, path.split("/")):
        above = os.path.join(root, there)
        name: str | None = part
        if not os.path.exists(os.path.join(above, part)):
            name = same_name(part, os.listdir(above or ".")) if os.path.isdir(above or ".") else None
        if name is None:
            return path
        there = os.path.join(there, name)
    return there


def write_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file whole or not at all: on an error, a kill or a full disk, a file that was there stays as it was.

    Args:
        path: The file to write; missing folders are made.
        data: Its content.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_whole(f"{folder}/new/file.txt", b"content")
        ...     Path(folder, "new/file.txt").read_text()
        'content'
    """
    with whole_file(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | os.PathLike[str], data: Any) -> None:
    """Writes data as JSON, whole or not at all; in ASCII, since the name of a file may be no text at all."""
    write_whole(path, (json.dumps(data, indent=1) + "\n").encode())


def sha256(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's bytes, as hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stand_in(path: str | os.PathLike[str]) -> str:
    """Returns what a file is that stands where another should: empty, or a pointer of Git LFS; otherwise ``''``.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "weights.pth").write_text("version https://git-lfs.github.com/spec/v1")
        ...     stand_in(f"{folder}/weights.pth")
        'it is a pointer of Git LFS in place of the file, which `git lfs pull` gets'
    """
    with open(path, "rb") as file:
        head = file.read(len(_POINTER))
    if not head:
        return "it is empty"
    return "it is a pointer of Git LFS in place of the file, which `git lfs pull` gets" if head == _POINTER else ""


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives the path of a temporary file, which becomes the file when the block ends without an error.

    Its name is its own: process ids repeat in containers. What killed writers of the same file left is removed.

    Args:
        path: The file to write; missing folders are made. A file that is there is replaced.

    Yields:
        A path in the same folder, to write the content to.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    with named_errors(path), _scratch(path, lambda new: new.touch(exist_ok=False)) as temporary:
        try:
            yield temporary
            flush(temporary)
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def named_errors(path: str | os.PathLike[str]) -> Iterator[None]:
    """Makes an error of the system say which file or folder could not be written; a full disk's names none.

    Example:
        >>> with named_errors("results.json"):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
        OSError: [Errno 28] No space left on device: 'results.json'
    """
    try:
        yield
    except OSError as error:
        if error.errno is None and error.filename is None:  # NumPy's, which says neither why nor where
            raise OSError(f"{os.fspath(path)} was not written: {error}; make room on its disk") from error
        if error.filename is None or Path(error.filename).name.startswith(f".{Path(path).name}.new."):
            error.filename = os.fspath(path)
        raise


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Removes what killed writers of a file or folder left beside it; what a living one writes is locked, and stays.

    Where the file system knows no locks, all stays: nothing tells the one from the other.

    Args:
        path: The file or folder that was to be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     Path(folder, ".file.txt.new.0123456789abcdef").touch()
        ...     remove_leftovers(f"{folder}/file.txt")
        ...     os.listdir(folder)
        []
    """
    path = Path(path)
    for left in path.parent.glob(f"{glob.escape(f'.{path.name}.new.')}{'[0-9a-f]' * 16}"):
        with suppress(OSError), _held(left, wait=False) as held:
            if held:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


@contextmanager
def _scratch(path: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Makes what is to become a file or a folder, under a new name beside it, and holds it."""
    while True:
        new = path.with_name(f".{path.name}.new.{secrets.token_hex(8)}")
        make(new)
        with _held(new):
            if new.exists():  # otherwise another process took it for a leftover before it was held
                yield new
                return


@contextmanager
def _held(path: Path, *, wait: bool = True) -> Iterator[bool]:
    """Locks a file or a folder, which tells that its writer lives; gives whether it could be locked."""
    held, descriptor = False, None
    if fcntl is not None:
        with suppress(OSError):  # of a file system without locks, or of another's lock
            descriptor = os.open(path, os.O_RDONLY)
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = True
    try:
        yield held
    finally:
        if descriptor is not None:
            os.close(descriptor)


@contextmanager
def in_turn(path: str | os.PathLike[str]) -> Iterator[None]:
    """Waits while another process of this machine is in such a block for the same file.

    It spares work and does not guard the file: where the folder knows no locks, nobody waits. A killed process frees
    its lock.

    Args:
        path: The file to write; missing folders are made. The lock is a file beside it whose name begins with a dot.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder, in_turn(f"{folder}/file.txt"):
        ...     os.listdir(folder)
        ['.file.txt.lock']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = path.with_name(f".{path.name}.lock")
    with _first_at(lock) as file:
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
            if fcntl is not None:
                with suppress(OSError):  # of a file system without locks
                    fcntl.flock(file, fcntl.LOCK_UN)  # processes that were forked meanwhile have the file open, too


def _first_at(lock: Path) -> IO[str]:
    """Returns the lock file, open and locked.

    Whoever had the lock has removed its file. A process that waited at that one has to go to the new one, at which
    others wait by now.
    """
    while True:
        # it stays open; to read is enough for a lock, and all that other users may do with it
        file = os.fdopen(os.open(lock, os.O_RDONLY | os.O_CREAT, 0o666))
        try:
            if fcntl is None:
                return file
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:  # of a file system without locks
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), os.stat(lock)):
                return file
        file.close()


@contextmanager
def whole_folder(path: str | os.PathLike[str], *, replace: bool = False) -> Iterator[Path]:
    """Gives a new, temporary folder, which becomes the folder when the block ends without an error.

    What killed writers of the same folder left is removed. On Linux the new folder takes the place of an older one at
    once; elsewhere a process that is killed at that very moment leaves the older one as ``.<name>.old.*``.

    Args:
        path: The folder to write; missing folders above it are made.
        replace: Whether the new folder replaces one that is there. Otherwise that one stays: of several processes that
            write the same folder, the first wins.

    Yields:
        An empty folder, to write the files to.

    Raises:
        ValueError: If the path is a file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     with whole_folder(f"{parent}/pets") as temporary:
        ...         _ = (temporary / "cat.txt").write_text("meow")
        ...         print(os.path.exists(f"{parent}/pets"))
        ...     Path(parent, "pets/cat.txt").read_text()
        False
        'meow'
    """
    path = Path(path).resolve()
    if path.is_file():
        raise ValueError(f"{path} is a file, where a folder shall be written; move it away")
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    with named_errors(path), _scratch(path, Path.mkdir) as scratch:
        new = scratch / path.name
        try:
            new.mkdir()
            yield new
            with ThreadPoolExecutor(32) as pool:  # one by one, thousands of files take half a minute
                list(pool.map(flush, (file for file in new.rglob("*") if file.is_file())))
            if replace:
                _replace_folder(new, path)
            else:
                try:
                    os.rename(new, path)
                except OSError:
                    if not path.is_dir():  # otherwise another process was faster
                        raise
        finally:
            shutil.rmtree(scratch, ignore_errors=True)


def _replace_folder(new: Path, path: Path) -> None:
    if not path.exists():
        os.rename(new, path)
    elif not _exchange(new, path):
        old = path.with_name(f".{path.name}.old.{secrets.token_hex(8)}")
        os.rename(path, old)
        try:
            os.rename(new, path)
        except BaseException:
            os.rename(old, path)
            raise
        shutil.rmtree(old, ignore_errors=True)


def _exchange(a: Path, b: Path) -> bool:
    """Lets two folders change places at once; returns whether the system and the file system can do that."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None  # of Linux alone
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(a), here, os.fsencode(b), exchange) == 0


def flush(path: str | os.PathLike[str]) -> None:
    """Waits until the disk has the content of a file."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


def check_writable(path: str | os.PathLike[str]) -> None:
    """Raises unless a file can be written to a path; to be called before the work, not after it.

    Args:
        path: The file to write; folders above it may be missing.

    Raises:
        ValueError: That names what is in the way.

    Example:
        >>> check_writable(f"{__file__}/results.json")
        Traceback (most recent call last):
        ValueError: .../files.py/results.json cannot be written: .../files.py is a file; give another path
    """
    above = Path(path).absolute().parent
    while not above.exists():
        above = above.parent
    if not above.is_dir() or not os.access(above, os.W_OK | os.X_OK):
        why = "is not yours to write to" if above.is_dir() else "is a file"
        raise ValueError(f"{path} cannot be written: {above} {why}; give another path")
    if Path(path).is_dir():
        raise ValueError(f"{path} cannot be written: it is a folder; give the name of a file")


def true_path(path: str) -> str:
    """Returns a path without links among its folders, so that a file in them has one path.

    Example:
        >>> true_path("/a/../photos/1.jpg")
        '/photos/1.jpg'
    """
    folder, name = os.path.split(os.path.abspath(path))
    return os.path.join(_true_folder(folder), name)


@cache
def _true_folder(folder: str) -> str:
    return os.path.realpath(folder)
