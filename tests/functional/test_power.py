import pytest
import torch
from torch.nn.functional import normalize

from hierpretrain.functional import power_normalize


def test_the_cosine_of_square_roots_is_the_bhattacharyya_coefficient():
    counts = torch.rand(5, 7, dtype=torch.float64)
    unit = normalize(power_normalize(counts), dim=1)
    shares = counts / counts.sum(1, keepdim=True)
    for i in range(5):
        for j in range(5):
            coefficient = sum((p * q) ** 0.5 for p, q in zip(shares[i].tolist(), shares[j].tolist(), strict=True))
            assert float(unit[i] @ unit[j]) == pytest.approx(coefficient)


def test_signs_order_and_zeros_are_kept():
    features = torch.tensor([[-8.0, -1.0, -0.0, 0.0, 1.0, 8.0]])
    assert power_normalize(features, 1 / 3).tolist() == [pytest.approx([-2, -1, 0, 0, 1, 2])]
    assert power_normalize(features, 1) is features
