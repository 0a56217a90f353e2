"""What a service takes at most, and how it refuses what it does not take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields


@dataclass(frozen=True)
class Limits:
    """How much a service takes; beyond that it refuses, and says what the limit is.

    Attributes:
        files: Images in one request.
        file_bytes: Bytes of one image.
        request_bytes: Bytes of one request.
        requests: Requests that are read or worked on at a time; more are told to come again later.
        seconds: How long a request may take to arrive.
        neighbours: The largest ``k`` of a search, and votes of a classification.
        workers: Threads that decode pictures and look into the index.

    Raises:
        ValueError: If one is below 1.
    """

    files: int = 16
    file_bytes: int = 20 << 20
    request_bytes: int = 64 << 20
    requests: int = 64
    seconds: int = 30
    neighbours: int = 200
    workers: int = 2

    def __post_init__(self) -> None:
        from hierpretrain.checks import check_at_least_1  # which imports torch

        check_at_least_1(**{one.name: getattr(self, one.name) for one in fields(self)})


@dataclass
class Refusal(Exception):
    """A request that is not answered.

    Attributes:
        status: The status of HTTP.
        message: Which rule it is, what was given instead, and what to do.
        headers: Headers of the answer.
    """

    status: int
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.message


def size(number: int) -> str:
    """Returns a number of bytes for people.

    Example:
        >>> size(20 << 20), size(1536), size(12)
        ('20 MiB', '1.5 KiB', '12 bytes')
    """
    for unit, name in ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number} bytes"
