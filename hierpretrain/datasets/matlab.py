"""Reading a MATLAB file as plain values, by SciPy in a process of its own.

SciPy's reader is compiled and trusts the numbers of a file: with version 1.17, three damaged bytes end the process in
one file of thirty. In a process of its own, with limits on memory and time, this too is an error that names the file.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from typing import Any

_MAX_BYTES = 2**26  # of the file, and of its values as JSON; the data sets' files have a few megabytes
_MAX_MEMORY = 2**30  # of the process; a compressed file of a few kilobytes may unpack to any size
_MAX_PROCESSOR_SECONDS = 20  # SciPy takes quadratic time for the fields of a struct; the data sets' files take one
_MAX_SECONDS = 120  # on a busy machine, and where processor time cannot be limited


def read_mat(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Reads the variables of a MATLAB file of version 4 to 7, as which ``save`` writes them by default.

    Args:
        path: The file.

    Returns:
        Name -> value: a row of characters is a ``str``, an array of cells a list, an array of structs a list of dicts,
        an array of numbers a list in the order of columns, and an array of one number this number.

    Raises:
        ValueError: If the file is missing, damaged, of version 7.3 (HDF5), larger than 64 MiB, as JSON too, needs more
            than 1 GiB of memory, 20 seconds of a processor or two minutes, or holds another kind of value (an object, a
            function, a sparse or complex array).

    Example:
        >>> import tempfile
        >>> from scipy.io import savemat
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     savemat(f"{folder}/pets.mat", {"kind": "cat", "weights": [3.5, 4.0]})
        ...     read_mat(f"{folder}/pets.mat")
        {'kind': 'cat', 'weights': [3.5, 4.0]}
    """
    try:
        with open(path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise ValueError(f"cannot read the MATLAB file {path}: {error.strerror}; correct its path") from error
    reason = f"it is larger than {_MAX_BYTES} bytes" if size > _MAX_BYTES else ""
    if not reason:
        limits = [str(limit) for limit in (_MAX_MEMORY, _MAX_PROCESSOR_SECONDS, _MAX_BYTES)]
        command = [sys.executable, "-P", "-W", "ignore", __file__, os.fspath(path), *limits]
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1"}  # each thread would count as memory
        try:
            done = subprocess.run(command, capture_output=True, timeout=_MAX_SECONDS, env=environment, check=False)
        except subprocess.TimeoutExpired:
            reason = f"it takes more than {_MAX_SECONDS} seconds"
        else:
            if done.returncode == 0:
                return json.loads(done.stdout)
            lines = done.stderr.decode(errors="replace").splitlines()
            if done.returncode > 0 and lines:
                reason = lines[-1]
            elif done.returncode == -getattr(signal, "SIGXCPU", 0):
                reason = f"it takes more than {_MAX_PROCESSOR_SECONDS} seconds of a processor"
            else:
                reason = "it is so damaged that SciPy's reader crashes"
    raise ValueError(f"cannot read the MATLAB file {path}: {reason}; get it anew")


def _main() -> None:
    """Prints the variables of a file as JSON; arguments: the file, bytes of memory, seconds, bytes of the JSON."""
    memory, seconds, size = map(int, sys.argv[2:])
    with contextlib.suppress(ImportError, ValueError):  # on Windows there is no such module, on macOS no such limit
        import resource

        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    try:
        from scipy.io import loadmat

        variables = loadmat(sys.argv[1]).items()
        text = json.dumps({name: _plain(value) for name, value in variables if not name.startswith("__")})
    except MemoryError:
        raise SystemExit(f"it takes more than {memory} bytes of memory") from None
    except Exception as error:  # SciPy raises nearly anything
        raise SystemExit(" ".join(str(error).split()) or type(error).__name__) from None
    if len(text) > size:
        raise SystemExit(f"its values take more than {size} bytes as JSON")
    print(text)


def _plain(value: Any) -> Any:
    """Returns an array of SciPy's as lists, dicts, texts and numbers."""
    import numpy as np

    if type(value) is not np.ndarray or value.dtype.kind not in "OVUiuf":
        kind = f"{type(value).__name__} of type {getattr(value, 'dtype', None)}"
        raise ValueError(f"it holds a {kind}, which is no array of text, real numbers, cells or structs")
    values = value.ravel("F")
    if value.dtype.names is not None:
        return [dict(zip(value.dtype.names, map(_plain, record), strict=True)) for record in values]
    if value.dtype.kind == "O":
        return [_plain(cell) for cell in values]
    if value.dtype.kind == "U":
        if len(values) > 1:
            raise ValueError("an array of characters has several rows")
        return str(values[0]) if len(values) else ""
    return values[0].item() if len(values) == 1 else values.tolist()


if __name__ == "__main__":
    _main()
