"""What a check finds: kinds of problems, and problems, listed for people and for programs."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from hierpretrain.files import write_json, write_whole

ERROR, WARNING, NOTE = "error", "warning", "note"


@dataclass(frozen=True)
class Kind:
    """A kind of problem.

    Attributes:
        severity: ``'error'``: a training ends at it, or its numbers are wrong; ``'warning'``: it is worth a look;
            ``'note'``: it is good to know.
        advice: What it means and what to do about it.
    """

    severity: str
    advice: str


KINDS = {
    # files
    "unreadable file": Kind(ERROR, "cannot be opened; make it readable, or remove it"),
    "broken link": Kind(ERROR, "leads to no file; put the file in place, or remove the link"),
    "link out of the folder": Kind(ERROR, "nothing outside the folder is read; move the file there"),
    "missing file": Kind(ERROR, "listed, but not there; put it there, take it off the list, or name --image-root"),
    "unsafe path": Kind(
        ERROR,
        "is absolute, begins as a drive does, or holds '..' or a backslash; list paths below the folder, or rename it",
    ),
    "empty file": Kind(ERROR, "holds no byte; copy it again"),
    "no image": Kind(ERROR, "is called an image and is none; get it anew, or remove it"),
    "no images": Kind(ERROR, "there is nothing to train on; correct the path"),
    "empty folder": Kind(WARNING, "is a class without an image; fill it, or remove it"),
    "left out": Kind(NOTE, "is no image and no class"),
    "not listed": Kind(NOTE, "is an image beside listed ones that the list leaves out"),
    "not in the split file": Kind(
        ERROR, "has no tag, at which a training ends; deal it out: hierpretrain make-split CONFIG --renew"
    ),
    "only in the split file": Kind(
        ERROR, "is tagged and not there; put it there, or drop its tag: hierpretrain make-split CONFIG --renew"
    ),
    # pictures
    "truncated image": Kind(ERROR, "its end is missing; copy it again"),
    "broken image": Kind(ERROR, "cannot be decoded; get it anew"),
    "huge image": Kind(WARNING, "has more pixels than Pillow thinks wise (89 million); save it smaller"),
    "tiny image": Kind(WARNING, "has a side of less than 8 pixels"),
    "blank image": Kind(WARNING, "is of one colour"),
    # duplicates
    "copies across splits": Kind(ERROR, "the same bytes in two splits: what was trained on is tested on; keep one"),
    "copies across classes": Kind(
        ERROR,
        "the same bytes under labels that contradict each other; keep the right one, or, where both are right, make "
        "them one image of several paths (merge_copies=True)",
    ),
    "copies": Kind(WARNING, "the same bytes, several times under one label; keep one"),
    "look-alikes across splits": Kind(WARNING, "nearly the same picture in two splits; keep them in one"),
    "look-alikes across classes": Kind(WARNING, "nearly the same picture under labels that contradict each other"),
    "look-alikes": Kind(NOTE, "nearly the same picture under one label"),
    # names
    "two spellings": Kind(WARNING, "names that differ in case, spaces or signs alone are different classes; write one"),
    "two Unicode forms": Kind(NOTE, "two folders or values that are read as one class"),
    # the tree
    "no label": Kind(WARNING, "images that no class is known of"),
    "one image": Kind(WARNING, "a class of one image, which has no other to be found by"),
    "one child": Kind(NOTE, "a class that its only child says no more than"),
    "chain": Kind(NOTE, "classes of one child each, which say no more than the last of them"),
    "two parents": Kind(WARNING, "a name below two parents is two classes; is one of them wrong?"),
    # the rows and columns of a list
    "bad row": Kind(ERROR, "cannot be read; correct the row"),
    "contradicting rows": Kind(ERROR, "rows of one image that differ in more than their labels"),
    "doubtful level": Kind(ERROR, "a column that looks like something else; name the levels: --levels ..."),
    "odd level": Kind(WARNING, "a column that is named as a level and looks like something else"),
    # what a trained model says
    "perhaps mislabelled": Kind(WARNING, "the images most like it have another label; the surest first"),
    "perhaps one class": Kind(WARNING, "classes whose images cannot be told apart by the model"),
    "perhaps two classes": Kind(WARNING, "a class whose images are of two sorts"),
}
"""Every kind of problem by its name, in the order in which they are listed."""


@dataclass(frozen=True)
class Problem:
    """A problem of a data set.

    Attributes:
        kind: A key of :data:`KINDS`.
        subject: The file, class, column or row that has it.
        others: What else belongs to it: the other copies, the other spellings.
        why: What was found.
    """

    kind: str
    subject: str
    others: tuple[str, ...] = ()
    why: str = ""

    @property
    def severity(self) -> str:
        """How bad it is; see :class:`Kind`."""
        return KINDS[self.kind].severity


def in_order(problems: Sequence[Problem]) -> list[Problem]:
    """Returns problems with the errors first, then by kind; problems of one kind keep their order."""
    kinds = sorted(KINDS, key=lambda kind: (ERROR, WARNING, NOTE).index(KINDS[kind].severity))
    rank = {kind: i for i, kind in enumerate(kinds)}
    return sorted(problems, key=lambda problem: rank[problem.kind])


def count_severities(problems: Sequence[Problem]) -> dict[str, int]:
    """Returns the number of problems of every severity.

    Example:
        >>> count_severities([Problem("left out", "notes.txt"), Problem("broken image", "a.jpg")])
        {'error': 1, 'warning': 0, 'note': 1}
    """
    counts = dict.fromkeys((ERROR, WARNING, NOTE), 0)
    for problem in problems:
        counts[problem.severity] += 1
    return counts


def listing(problems: Sequence[Problem], most: int = 3) -> list[str]:
    r"""Returns problems as lines for people: every kind with its number, what it means, and the first few.

    Args:
        problems: The problems.
        most: How many of each kind are shown.

    Example:
        >>> print("\n".join(listing([Problem("broken image", "a.jpg", why="no PNG chunk")])))
        error: 1 x broken image (cannot be decoded; get it anew)
            a.jpg: no PNG chunk
    """
    by_kind: dict[str, list[Problem]] = {}
    for problem in in_order(problems):
        by_kind.setdefault(problem.kind, []).append(problem)
    lines = []
    for kind, found in by_kind.items():
        lines.append(f"{KINDS[kind].severity}: {len(found):,} x {kind} ({KINDS[kind].advice})")
        lines += [f"    {_line(problem)}" for problem in found[:most]]
        if len(found) > most:
            lines.append(f"    and {len(found) - most:,} more")
    return lines


def _line(problem: Problem, most: int = 3) -> str:
    rest = len(problem.others) - most
    names = ", ".join((problem.subject, *problem.others[:most])) + (f" and {rest:,} more" if rest > 0 else "")
    return f"{names}: {problem.why}" if problem.why else names


def write_problems(problems: Sequence[Problem], path: str | os.PathLike[str]) -> None:
    """Writes all problems to a file, whole or not at all: JSON if it ends in ``.json``, otherwise CSV.

    CSV has a line for each subject and each of the others, all with the number of the problem, so that a spreadsheet
    can filter files; JSON has an object for each problem.
    """
    ordered = in_order(problems)
    if os.fspath(path).lower().endswith(".json"):
        rows = [{"severity": problem.severity, **asdict(problem)} for problem in ordered]
        write_json(path, {"counts": count_severities(ordered), "problems": rows})
        return
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(["problem", "severity", "kind", "what", "why"])
    for number, problem in enumerate(ordered, start=1):
        for name in (problem.subject, *problem.others):
            writer.writerow([number, problem.severity, problem.kind, name, problem.why])
    write_whole(path, text.getvalue().encode("utf-8", "surrogateescape"))
