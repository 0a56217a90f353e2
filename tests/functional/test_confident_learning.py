"""Confident learning on the votes of neighbours, against loops and against cleanlab."""

import numpy as np
import pytest
import torch

from hierpretrain.functional.confident_learning import label_errors, neighbour_votes
from hierpretrain.taxonomy import PAD


def loops(similarities, indices, classes, temperature):
    """Returns {item: {class: fraction}} and the errors, as the paper's equations say, item by item."""
    shares = []
    for row, which in zip(similarities.tolist(), indices.tolist(), strict=True):
        weights = {}
        for cosine, j in zip(row, which, strict=True):
            if j != PAD and classes[j] != PAD:
                of = int(classes[j])
                weights[of] = weights.get(of, 0) + float(np.exp(cosine / temperature))
        total = sum(weights.values())
        shares.append({of: weight / total for of, weight in weights.items()})
    thresholds = {}
    for label in sorted(set(classes.tolist()) - {PAD}):
        own = [share.get(label, 0) for share, c in zip(shares, classes.tolist(), strict=True) if c == label]
        thresholds[label] = sum(own) / len(own)
    errors = []
    for i, (share, label) in enumerate(zip(shares, classes.tolist(), strict=True)):
        sure = {of: value for of, value in share.items() if value >= thresholds[of] - 1e-6}
        if label != PAD and sure:
            of = max(sure, key=sure.get)
            if sure[of] > share.get(label, 0):
                rest = max((value for other, value in share.items() if other != label), default=0)
                errors.append((share.get(label, 0) - rest, i, of))
    return shares, sorted(errors)


def drawn(seed, items=80, classes=4, k=7, missing=True):
    """Features around centres, a fifth of the labels wrong, some missing; with the nearest neighbours."""
    generator = torch.Generator().manual_seed(seed)
    true = torch.randint(classes, (items,), generator=generator)
    features = torch.nn.functional.normalize(
        torch.eye(classes)[true] + 0.4 * torch.randn(items, classes, generator=generator), dim=1
    )
    labels = torch.where(torch.rand(items, generator=generator) < 0.2, (true + 1) % classes, true)
    if missing:
        labels[torch.rand(items, generator=generator) < 0.1] = PAD
    similarities = (features @ features.T).fill_diagonal_(-2)
    similarities, indices = similarities.topk(k)
    return similarities, indices, labels


@pytest.mark.parametrize("seed", range(4))
def test_votes_and_errors_against_loops(seed):
    similarities, indices, classes = drawn(seed)
    indices[::5, -1] = PAD
    candidates, fractions = neighbour_votes(similarities, indices, classes, temperature=0.3)
    shares, errors = loops(similarities, indices, classes, 0.3)
    for row, values, share in zip(candidates.tolist(), fractions.tolist(), shares, strict=True):
        votes = {of: value for of, value in zip(row, values, strict=True) if of != PAD}
        assert votes == pytest.approx(share)
    wrong, other = label_errors(classes, candidates, fractions)
    found = list(zip(wrong.tolist(), other.tolist(), strict=True))
    margins = {(i, of): margin for margin, i, of in errors}
    assert set(found) == set(margins)
    assert [margins[pair] for pair in found] == pytest.approx([margin for margin, _, _ in errors])
    assert errors


@pytest.mark.parametrize("seed", range(4))
def test_errors_are_those_of_cleanlab(seed):
    filter_ = pytest.importorskip("cleanlab.filter")
    similarities, indices, classes = drawn(seed, items=200, missing=False)
    candidates, fractions = neighbour_votes(similarities, indices, classes)
    dense = np.zeros((200, 4))
    for row, (ids, values) in enumerate(zip(candidates.tolist(), fractions.tolist(), strict=True)):
        for of, value in zip(ids, values, strict=True):
            if of != PAD:
                dense[row, of] = value
    theirs = filter_.find_label_issues(
        classes.numpy(), dense, filter_by="confident_learning", return_indices_ranked_by="normalized_margin", n_jobs=1
    )
    wrong, _ = label_errors(classes, candidates, fractions)
    assert set(wrong.tolist()) == set(theirs.tolist())
    margins = {
        i: 2 * dense[i, classes[i]] - max(np.delete(dense[i], classes[i])) - dense[i, classes[i]] for i in theirs
    }
    assert [margins[i] for i in wrong.tolist()] == pytest.approx([margins[i] for i in theirs.tolist()])


def test_corner_cases():
    nobody = torch.empty(0, dtype=torch.int64)
    assert [len(part) for part in label_errors(nobody, nobody.view(0, 3), torch.empty(0, 3))] == [0, 0]
    candidates, fractions = neighbour_votes(torch.ones(2, 1), torch.tensor([[1], [0]]), torch.tensor([PAD, PAD]))
    assert candidates.tolist() == [[PAD], [PAD]]
    assert fractions.tolist() == [[0.0], [0.0]]
    assert len(label_errors(torch.tensor([PAD, PAD]), candidates, fractions)[0]) == 0
    with pytest.raises(ValueError, match="classes must be"):
        label_errors(torch.tensor([0]), candidates, fractions)
