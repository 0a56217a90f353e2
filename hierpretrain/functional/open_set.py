"""Answers about classes that may be unknown: what the right answer is, and how well a path of nodes meets it.

An index knows the nodes that its images hang at or below. The right answer for an image is its label path as far down
as the index knows it, which may be nowhere: then the image is unknown.
"""

from __future__ import annotations

import torch
from torch import Tensor

from hierpretrain.checks import as_tensor, check_finite, check_flat
from hierpretrain.functional.calibration import expected_calibration_error
from hierpretrain.functional.selective import area_under_risk_coverage
from hierpretrain.taxonomy import PAD, Taxonomy, as_labels, as_paths, check_labels, depth, paired_depth, shared_depth

_ENTRIES = 2**22  # pairs of paths at a time


def known_part(labels: Tensor, known: Tensor) -> Tensor:
    """Cuts label paths off above the first node that no image of another set is at or below.

    Args:
        labels: (N, L) or (N, P, L) labels.
        known: (M, L) or (M, Q, L) labels of the images that are known, in the same tree.

    Returns:
        (N, P, L) int64, with P = 1 for labels of one path; ``PAD`` from the first unknown node on.

    Example:
        >>> tabby, dog, apple = [0, 0, 1], [0, 1, PAD], [1, 2, 2]
        >>> known_part(torch.tensor([tabby, dog, apple]), torch.tensor([[0, 0, 0]]))[:, 0].tolist()
        [[0, 0, -1], [0, -1, -1], [-1, -1, -1]]
    """
    labels, known = check_labels(labels, several_paths=True), check_labels(known, several_paths=True)
    labels = as_paths(labels)
    paths, where = torch.unique(labels.flatten(0, 1), dim=0, return_inverse=True)
    others = torch.unique(known.flatten(0, -2), dim=0)
    step = max(1, _ENTRIES // max(1, len(others)))
    shared = [shared_depth(some, others).amax(1) for some in torch.split(paths, step)] if len(others) else []
    deepest = torch.cat(shared)[where].view(labels.shape[:2]) if shared else torch.zeros(labels.shape[:2])
    below = torch.arange(labels.shape[2]) >= deepest[:, :, None]
    return labels.masked_fill(below, PAD)


def correct_nodes(nodes: Tensor, truth: Tensor) -> Tensor:
    """Returns whether each node of an answer is right: (N, L) bool.

    Args:
        nodes: (N, L) int64, paths; ``PAD`` where one has ended, which is never right.
        truth: (N, P, L) labels. A node on any of the P paths is right.

    Example:
        >>> correct_nodes(torch.tensor([[0, 1, 5]]), torch.tensor([[[0, 1, 4], [2, -1, -1]]])).tolist()
        [[True, True, False]]
    """
    return paired_depth(nodes, truth)[:, None] > torch.arange(nodes.shape[1])


def is_known(truth: Tensor) -> Tensor:
    """Returns whether the right answer for each image has a node at each level: (N, L) bool, of (N, P, L) labels."""
    return depth(truth)[:, None] > torch.arange(truth.shape[-1])


def is_unknown(truth: Tensor, depths: Tensor) -> Tensor:
    """Returns whether each image is of an unknown node at each level: (N, L) bool.

    It is where the right answer has ended but the image's own label has not, and from there on down. Below the end of
    its own label, an image of an inner node is neither known nor unknown.

    Args:
        truth: (N, P, L) labels, cut by :func:`known_part`.
        depths: (N,) int64, the depth of each image's whole label.

    Example:
        >>> is_unknown(torch.tensor([[[0, -1, -1]], [[0, -1, -1]]]), torch.tensor([2, 1])).tolist()
        [[False, True, True], [False, False, False]]
    """
    return ~is_known(truth) & (depths > depth(truth))[:, None]


def unknown_auroc(scores: Tensor, known: Tensor, unknown: Tensor) -> float | None:
    """Computes how well a score tells known images from unknown ones, without any threshold.

    It is the probability that a known image scores higher than an unknown one, the area under the curve of true over
    false alarms (Hendrycks and Gimpel, *A Baseline for Detecting Misclassified and Out-of-Distribution Examples*, ICLR
    2017); 0.5 is chance. Ties count half.

    Args:
        scores: (N,) scores, high for what is known.
        known: (N,) bool.
        unknown: (N,) bool. Images that are neither are left out.

    Returns:
        A fraction; ``None`` where there is no known or no unknown image.

    Raises:
        ValueError: If shapes disagree, scores are not finite, or the other two are not bool.

    Example:
        >>> scores, known = torch.tensor([0.9, 0.5, 0.7, 0.1]), torch.tensor([True, True, False, False])
        >>> unknown_auroc(scores, known, ~known)
        0.75
    """
    scores, known, unknown = as_tensor(scores).detach(), as_tensor(known), as_tensor(unknown)
    if scores.ndim != 1 or not scores.shape == known.shape == unknown.shape:
        raise ValueError(
            "scores, known and unknown must all be (N,); their shapes are "
            f"{tuple(scores.shape)}, {tuple(known.shape)} and {tuple(unknown.shape)}"
        )
    if not known.dtype == unknown.dtype == torch.bool:
        raise ValueError(f"known and unknown must be bool; they are {known.dtype} and {unknown.dtype}")
    check_finite(scores[:, None], "scores")
    some = known | unknown
    if not known.any() or not unknown.any():
        return None
    from sklearn.metrics import roc_auc_score  # a second to import, and searches do without

    return float(roc_auc_score(known[some].numpy(), scores[some].double().numpy()))


def answer_metrics(
    nodes: Tensor, confidences: Tensor, named: Tensor, truth: Tensor, depths: Tensor
) -> list[dict[str, float]]:
    """Measures the answers at each level.

    Args:
        nodes: (N, L) int64, the path that is most likely; ``PAD`` where it has ended.
        confidences: (N, L) the confidence in each of its nodes, 0 where it has ended.
        named: (N,) int64, how many of its nodes are sure enough to be named.
        truth: (N, P, L) labels, cut by :func:`known_part`.
        depths: (N,) int64, the depth of each image's whole label.

    Returns:
        For each level a dict, with fractions and counts; a fraction of nothing is left out:

        - ``accuracy``: of the known images, those whose most likely node is right, named or not;
        - ``coverage``: of the known images, those that are named, rightly or wrongly;
        - ``recall``: of the known images, those that are named rightly;
        - ``precision``: of all named images, known or not, those that are named rightly;
        - ``caught``: of the unknown images, those that are not named;
        - ``auroc_unknown``: :func:`unknown_auroc` of the confidence;
        - ``ece``: :func:`~hierpretrain.functional.calibration.expected_calibration_error` over all images that
          have a most likely node;
        - ``aurc``: :func:`~hierpretrain.functional.selective.area_under_risk_coverage` over the same;
        - ``num_known``, ``num_unknown``, ``num_named``.

    Raises:
        ValueError: If shapes disagree, or ``named`` or ``depths`` are no (N,) counts.

    Example:
        Two cats, one of them named, and an image of nothing known.

        >>> nodes, truth = torch.tensor([[0], [0], [0]]), torch.tensor([[[0]], [[0]], [[-1]]])
        >>> confidences = torch.tensor([[0.9], [0.6], [0.2]])
        >>> (found,) = answer_metrics(nodes, confidences, torch.tensor([1, 0, 0]), truth, torch.tensor([1, 1, 1]))
        >>> {name: found[name] for name in ("accuracy", "coverage", "precision", "caught", "auroc_unknown")}
        {'accuracy': 1.0, 'coverage': 0.5, 'precision': 1.0, 'caught': 1.0, 'auroc_unknown': 1.0}
    """
    nodes, truth, confidences = as_labels(nodes, "nodes"), as_labels(truth, "truth"), as_tensor(confidences).detach()
    named, depths = check_flat(named, len(nodes), "named"), check_flat(depths, len(nodes), "depths")
    if confidences.shape != nodes.shape:
        raise ValueError(
            "nodes and confidences must both be (N, L); their shapes are "
            f"{tuple(nodes.shape)} and {tuple(confidences.shape)}"
        )
    right, known, unknown = correct_nodes(nodes, truth), is_known(truth), is_unknown(truth, depths)
    is_named = named[:, None] > torch.arange(nodes.shape[1])
    metrics = []
    for level in range(nodes.shape[1]):
        of_known, of_unknown, given, ok = (table[:, level] for table in (known, unknown, is_named, right))
        asked = nodes[:, level] != PAD
        found = {
            "accuracy": _fraction(ok, of_known),
            "coverage": _fraction(given, of_known),
            "recall": _fraction(given & ok, of_known),
            "precision": _fraction(ok, given),
            "caught": _fraction(~given, of_unknown),
            "auroc_unknown": unknown_auroc(confidences[:, level], of_known, of_unknown),
        }
        if asked.any():
            found["ece"] = expected_calibration_error(confidences[asked, level], ok[asked])
            found["aurc"] = area_under_risk_coverage(confidences[asked, level], ok[asked])
        counts = {"num_known": of_known, "num_unknown": of_unknown, "num_named": given}
        kept = {name: value for name, value in found.items() if value is not None}
        metrics.append(kept | {name: int(mask.sum()) for name, mask in counts.items()})
    return metrics


RIGHT, SHORT, WRONG = 0, 1, 2
"""Grades of an answer: all of the right path and no more; a part of it; a node that is not on it."""


def grade_answers(answers: Tensor, truth: Tensor) -> Tensor:
    """Grades each answer: ``RIGHT``, ``SHORT`` or ``WRONG``.

    Args:
        answers: (N, L) int64, the named nodes; ``PAD`` from where nothing more is named.
        truth: (N, P, L) labels, cut by :func:`known_part`. All of any of the P paths is right, and for an image of
            nothing known, nothing is.

    Returns:
        (N,) int64.

    Example:
        >>> tabby, dog, none = [0, 0, 1], [0, 1, -1], [-1, -1, -1]
        >>> answers = torch.tensor([dog, none, none, dog])
        >>> grade_answers(answers, torch.tensor([[dog], [tabby], [none], [none]])).tolist()
        [0, 1, 0, 2]
    """
    answers, truth = as_labels(answers, "answers"), as_labels(truth, "truth")
    depths = depth(answers)
    ends = (truth != PAD).sum(2)  # (N, P)
    is_path = (ends > 0) | (ends.amax(1, keepdim=True) == 0)  # a row of PAD beside a path stands for nothing
    all_of = ((answers[:, None] == truth).all(2) & is_path).any(1)
    grades = torch.where(all_of, RIGHT, SHORT)
    return torch.where(depths > paired_depth(answers, truth), WRONG, grades)


def mistake_severities(answers: Tensor, truth: Tensor, taxonomy: Taxonomy) -> Tensor:
    """Computes how far each wrong answer is from the truth: the height of their lowest common ancestor.

    An answer is wrong if a node of it is; one that stops early is not. The height is the longest way from the ancestor
    down to a leaf of the tree (Bertinetto et al., *Making Better Mistakes*, CVPR 2020). Of several paths of the truth
    the nearest counts.

    Args:
        answers: (N, L) int64, the named nodes; ``PAD`` from where nothing more is named.
        truth: (N, P, L) labels, cut by :func:`known_part`.
        taxonomy: Their tree.

    Returns:
        (W,) int64, for the W wrong answers in their order: 1 for a sibling of the true leaf, L at most.

    Example:
        >>> tree = Taxonomy([("cat", "siamese"), ("cat", "tabby"), ("dog",)], ("kind", "breed"))
        >>> siamese, tabby, dog = [0, 0], [0, 1], [1, -1]
        >>> mistake_severities(torch.tensor([siamese, dog, tabby]), torch.tensor([[tabby], [tabby], [tabby]]), tree)
        tensor([1, 2])
    """
    answers, truth = as_labels(answers, "answers"), as_labels(truth, "truth")
    shared = paired_depth(answers, truth)
    return taxonomy.path_heights(answers).gather(1, shared[:, None])[depth(answers) > shared, 0]


def _fraction(mask: Tensor, among: Tensor) -> float | None:
    return float((mask & among).sum() / among.sum()) if among.any() else None
