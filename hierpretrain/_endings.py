"""How a program ends that its user or the reader of its output ends: without a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def ends_without_traceback() -> Iterator[None]:
    """Ends the program with one line at most where Ctrl-C, the reader of its output or a full disk ends it.

    Ctrl-C: ``interrupted``, and status 130. A reader of the standard output that has seen enough, such as ``head``:
    nothing, and status 0, unless the program ends with another one. A standard output that cannot be written, as on a
    full disk: one line and status 2.

    Example:
        >>> with ends_without_traceback():
        ...     raise KeyboardInterrupt
        Traceback (most recent call last):
        SystemExit: 130
    """
    try:
        yield
    except KeyboardInterrupt:
        say("interrupted")
        raise SystemExit(130) from None
    except OSError as error:
        if not is_of_output(error):
            raise
        raise SystemExit(_throw_output_away(error)) from None
    finally:
        try:
            if sys.stdout is not None:  # as it is where a shell closed it
                sys.stdout.flush()
        except OSError as error:
            if status := _throw_output_away(error):
                raise SystemExit(status) from None


def is_of_output(error: OSError) -> bool:
    """Tells whether an error without the name of a file comes from the standard output; writes an empty line to it."""
    if error.errno is None or error.filename is not None or sys.stdout is None:
        return False  # one of ours has no number
    try:
        print(flush=True)
    except OSError:
        return True
    return False


def say(text: str) -> None:
    """Prints a line to the standard error, if that has a reader; the status that the program ends with matters more."""
    with suppress(OSError):
        print(text, file=sys.stderr)


def _throw_output_away(error: OSError) -> int:
    """Lets what Python writes when it ends go nowhere; returns the status to end with, after saying why."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return 0
    say(f"error: the standard output cannot be written: {error}")
    return 2
