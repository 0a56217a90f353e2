"""The classes of outcomes, and which one it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from fuzzing.children import Ended
from fuzzing.targets import Target
from fuzzing.telltale import same_text, telltale
from hierpretrain.apis.part_files import sealed

CLASSES = ("same", "undetectable", "message", "detectable", "other message", "traceback", "hang", "memory")
FAULTS = CLASSES[3:]


@dataclass(frozen=True)
class Outcome:
    """What came of a mutation: its number, the class, and what was done and said."""

    number: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}"


def judge(
    target: Target, number: int, file: Path, before: bytes, data: bytes | None, words: str, ended: Ended, digest: str
) -> Outcome:
    """Says which class an outcome is of.

    Args:
        target: What was read.
        number: The mutation's.
        file: The file that was changed, below the target's folder.
        before: Its content.
        data: Its new content.
        words: What was done.
        ended: How the reader ended.
        digest: Of what was read before.
    """
    text = f"{file}: {words}"
    if ended.how in ("traceback", "hang", "memory"):
        return Outcome(number, ended.how, f"{text}; {ended.text} ({ended.peak >> 20} MiB)")
    if ended.how == "crash":
        return Outcome(number, "traceback", f"{text}; {ended.text}")
    named = target.names(file) if target.names else (file.name, file.name.partition("-")[0] + "-")
    if ended.how == "message":
        kind = "message" if any(name in ended.text for name in named) else "other message"
        return Outcome(number, kind, f"{text}; {ended.text}")
    if ended.digest == digest:
        return Outcome(number, "same", text)
    if any(name in ended.warned for name in named):
        return Outcome(number, "message", f"{text}; {ended.warned}")
    if data is None:
        why = "it is not there"
    elif target.sealed and not (file.name == "index.json" and _same_digest(before, data)):
        why = "its digest is another"
    else:
        why = telltale(data, file.name)
    if not why and same_text(before, data or b"") and file.suffix not in (".py", ".json"):  # whose texts hold space
        why = "only space, line ends or a mark differ"
    return Outcome(number, "detectable" if why else "undetectable", f"{text}; {why}")


def _same_digest(before: bytes, data: bytes) -> bool:
    """Returns whether two manifests of an index differ in the roots alone, which people may change."""
    try:
        one, other = (json.loads(part) for part in (before, data))
        return one["sha256"] == sealed(other)["sha256"] == other["sha256"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return False
