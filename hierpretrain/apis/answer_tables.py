"""Tables, for people, of how good the answers of an index are: by level, and by branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from hierpretrain.apis.answers import Answers
from hierpretrain.functional.open_set import RIGHT, SHORT, WRONG, grade_answers, mistake_severities
from hierpretrain.taxonomy import PAD, Taxonomy

_COLUMNS = {  # of the metrics of a level: what stands above them
    "num_known": "known",
    "num_unknown": "unknown",
    "accuracy": "best guess",
    "coverage": "named",
    "precision": "of these right",
    "caught": "unknown caught",
    "auroc_unknown": "AUROC unknown",
    "ece": "calib. error",
}


def level_table(
    level_names: Sequence[str],
    metrics: Sequence[Mapping[str, float]],
    thresholds: Sequence[float | None] | None = None,
) -> list[str]:
    r"""Returns the lines of a table, a level a line.

    Args:
        level_names: The levels.
        metrics: What :func:`~hierpretrain.functional.open_set.answer_metrics` measured of each.
        thresholds: The confidence that a name needs at each; by default not shown.

    Example:
        >>> print("\n".join(level_table(("kind",), [{"num_known": 40, "num_unknown": 2, "accuracy": 0.9}], (0.7,))))
        level    known    unknown    best guess    named    of these right ...    calib. error    threshold
        kind        40          2        90.0 %        -                 - ...               -        0.700
    """
    heads = ["level", *_COLUMNS.values(), *([] if thresholds is None else ["threshold"])]
    rows = []
    for number, (name, found) in enumerate(zip(level_names, metrics, strict=True)):
        cells = [_cell(column, found.get(column)) for column in _COLUMNS]
        if thresholds is not None:
            cells.append("none" if (one := thresholds[number]) is None else f"{one:.3f}")
        rows.append([name, *cells])
    return _aligned([heads, *rows])


def branch_metrics(taxonomy: Taxonomy, answers: Answers, truth: Tensor) -> dict[str, dict[str, float]]:
    """Grades the answers for the images of each branch, a node of the first level.

    Args:
        taxonomy: The index's tree.
        answers: The answers for N images.
        truth: (N, P, L) the right ones. An image of several paths is of the branch of its first.

    Returns:
        Name -> ``num_images``, the fractions ``right``, ``short`` and ``wrong`` of
        :func:`~hierpretrain.functional.open_set.grade_answers`, and where there are mistakes ``mistake_severity``, the
        mean of :func:`~hierpretrain.functional.open_set.mistake_severities`. ``''`` stands for images of nothing known.

    Example:
        >>> import torch
        >>> tree = Taxonomy([("animal", "cat"), ("animal", "dog")], ("kingdom", "kind"))
        >>> answers = Answers(torch.tensor([[0, 0], [0, 1]]), torch.ones(2, 2), torch.tensor([2, 2]), tree)
        >>> branch_metrics(tree, answers, torch.tensor([[[0, 0]], [[0, 0]]]))
        {'animal': {'num_images': 2, 'right': 0.5, 'short': 0.0, 'wrong': 0.5, 'mistake_severity': 1.0}}
    """
    named = answers.named()
    grades, branches = grade_answers(named, truth), truth[:, 0, 0]
    found = {}
    for branch in branches.unique().tolist():
        of = branches == branch
        name = "" if branch == PAD else taxonomy.name(1, branch)
        shares = {word: float((grades[of] == grade).double().mean()) for word, grade in _GRADES.items()}
        found[name] = {"num_images": int(of.sum()), **shares}
        if shares["wrong"]:
            found[name]["mistake_severity"] = float(mistake_severities(named[of], truth[of], taxonomy).double().mean())
    return found


def branch_table(metrics: Mapping[str, Mapping[str, float]]) -> list[str]:
    r"""Returns the lines of a table of what :func:`branch_metrics` measured, a branch a line.

    Example:
        >>> found = {"animal": {"num_images": 2, "right": 0.5, "short": 0.5, "wrong": 0.0}}
        >>> print("\n".join(branch_table(found)))
        branch    images     right     short    wrong    severity
        animal         2    50.0 %    50.0 %    0.0 %           -
    """
    rows = [["branch", "images", "right", "short", "wrong", "severity"]]
    for name, of in metrics.items():
        cells = [_cell(column, of.get(column)) for column in ("num_images", "right", "short", "wrong")]
        severity = of.get("mistake_severity")
        rows.append([name or "(nothing known)", *cells, "-" if severity is None else f"{severity:.2f}"])
    return _aligned(rows)


_GRADES = {"right": RIGHT, "short": SHORT, "wrong": WRONG}


def _cell(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,}" if column.startswith("num_") else f"{100 * value:.1f} %"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Returns rows as lines: the first column to the left, all others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [f"{first:<{widths[0]}}", *(f"{cell:>{width}}" for cell, width in zip(others, widths[1:], strict=True))]
        lines.append("    ".join(cells).rstrip())
    return lines
