"""Confidence down a path: evidence against a loop, coefficients against scikit-learn, the chain rule; messages."""

import math

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from hierpretrain.functional.chain_rule import (
    cross_fitted_confidence,
    fit_path_confidence,
    path_confidence,
    path_evidence,
)
from hierpretrain.functional.tree_knn import tree_knn
from hierpretrain.taxonomy import PAD
from tests.functional.test_tree_knn import random_labels


def held_out(seed, number=400, levels=3, slope=1.0):
    """Evidence, the nodes of paths of any length, and whether they are right, more often where evidence is."""
    generator = torch.Generator().manual_seed(seed)
    evidence = torch.randn(number, levels, 2, generator=generator, dtype=torch.float64)
    ends = torch.randint(1, levels + 1, (number, 1), generator=generator)
    nodes = torch.zeros(number, levels, dtype=torch.int64).masked_fill(torch.arange(levels) >= ends, PAD)
    lucky = torch.rand(number, levels, generator=generator) < torch.sigmoid(slope * evidence.sum(2) + 0.5)
    return evidence, nodes, (lucky & (nodes != PAD)).long().cumprod(1).bool()


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_evidence_equals_a_loop(several, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = random_labels(seed, 30, several)
    indices = torch.stack([torch.randperm(30, generator=generator)[:9] for _ in range(17)])
    indices[0, 4:] = PAD
    similarities = 2 * torch.rand(indices.shape, generator=generator, dtype=torch.float64) - 1
    nodes, shares = tree_knn(similarities, indices, labels, temperature=0.2)
    evidence = path_evidence(similarities, indices, labels, nodes, shares)
    for query in range(len(indices)):
        above = 1.0
        for level in range(nodes.shape[1]):
            path = nodes[query, : level + 1].tolist()
            if path[-1] == PAD:
                assert evidence[query, level].tolist() == [0, 0]
                continue
            inside = [
                float(cosine)
                for cosine, index in zip(similarities[query], indices[query].tolist(), strict=True)
                if index != PAD and any(row[: level + 1] == path for row in labels[index].view(-1, 3).tolist())
            ]
            fraction = min(max(float(shares[query, level]) / above, 1e-3), 1 - 1e-3)
            assert evidence[query, level].tolist() == pytest.approx([math.log(fraction / (1 - fraction)), max(inside)])
            above = float(shares[query, level])


def test_the_first_level_is_scikit_learns_where_that_has_no_bound():
    evidence, nodes, correct = held_out(0)
    mean = evidence[:, 0].mean(0, keepdim=True)
    theirs = LogisticRegression(C=1e3, tol=1e-8, max_iter=1000).fit(
        torch.cat([evidence[:, 0], mean, mean]).numpy(), [*correct[:, 0].tolist(), True, False]
    )
    expected = [*theirs.coef_[0], *theirs.intercept_]
    assert min(expected[:2]) > 0
    assert fit_path_confidence(evidence, nodes, correct)[0].tolist() == pytest.approx(expected, abs=1e-3)


def test_a_level_is_fitted_on_what_is_right_above_it():
    evidence, nodes, correct = held_out(1)
    some = correct[:, 0]
    alone = fit_path_confidence(evidence[some, 1:2], nodes[some, 1:2], correct[some, 1:2])
    assert fit_path_confidence(evidence, nodes, correct)[1].tolist() == pytest.approx(alone[0].tolist(), abs=1e-4)


def test_more_evidence_never_makes_less_sure():
    evidence, nodes, correct = held_out(2, slope=-1.0)
    coefficients = fit_path_confidence(evidence, nodes, correct)
    assert coefficients[:, :2].abs().max() == 0
    rate = (int(correct[:, 0].sum()) + 1) / (len(correct) + 2)
    assert torch.sigmoid(coefficients[0, 2]).item() == pytest.approx(rate, abs=1e-4)


def test_a_level_that_no_image_reaches_is_as_likely_wrong_as_right():
    evidence, nodes, correct = held_out(3)
    nodes[:, 2], correct[:, 2] = PAD, False
    coefficients = fit_path_confidence(evidence, nodes, correct)
    assert torch.sigmoid(coefficients[2]).tolist() == pytest.approx([0.5] * 3)


def test_confidence_is_the_product_of_the_conditionals_and_never_rises():
    evidence, nodes, correct = held_out(4)
    coefficients = fit_path_confidence(evidence, nodes, correct)
    confidences = path_confidence(evidence, nodes, coefficients)
    for query in range(20):
        product = 1.0
        for level in range(3):
            logit = float(evidence[query, level] @ coefficients[level, :2] + coefficients[level, 2])
            product *= 0 if nodes[query, level] == PAD else 1 / (1 + math.exp(-logit))
            assert float(confidences[query, level]) == pytest.approx(product)
    assert (confidences.diff(dim=1) <= 0).all()
    assert ((confidences >= 0) & (confidences <= 1)).all()


def test_the_order_of_the_images_does_not_matter():
    evidence, nodes, correct = held_out(5)
    order = torch.randperm(len(nodes), generator=torch.Generator().manual_seed(0))
    shuffled = fit_path_confidence(evidence[order], nodes[order], correct[order])
    assert shuffled.numpy() == pytest.approx(fit_path_confidence(evidence, nodes, correct).numpy(), abs=1e-4)


def test_the_true_model_is_found_and_its_confidence_is_calibrated():
    evidence, nodes, correct = held_out(6, 20_000)
    coefficients = fit_path_confidence(evidence, nodes, correct)
    assert coefficients.numpy() == pytest.approx(np.tile([1, 1, 0.5], (3, 1)), abs=0.15)


def test_no_image_is_judged_by_coefficients_that_know_it():
    evidence, nodes, correct = held_out(7, 40)
    before = cross_fitted_confidence(evidence, nodes, correct)
    for row in (0, 17):
        changed = correct.clone()
        changed[row] = False if correct[row].any() else nodes[row] != PAD
        assert cross_fitted_confidence(evidence, nodes, changed)[row].equal(before[row])
        assert not cross_fitted_confidence(evidence, nodes, changed).equal(before)


def test_errors():
    evidence, nodes, correct = held_out(8, 4)
    with pytest.raises(ValueError, match="must be of as many images, and of one at least; they are of 4, 3 and 4"):
        fit_path_confidence(evidence, nodes[:3], correct)
    with pytest.raises(ValueError, match=r"not have a right node below a wrong one; row 0 is \[False, True, False\]"):
        fit_path_confidence(evidence, nodes, torch.tensor([[False, True, False]]).expand(4, 3))
    with pytest.raises(ValueError, match="must be at least 2 held-out images; there is 1"):
        cross_fitted_confidence(evidence[:1], nodes[:1], correct[:1])
