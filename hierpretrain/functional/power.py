"""Power normalization of embeddings."""

from __future__ import annotations

from torch import Tensor

from hierpretrain.checks import as_tensor, check_number


def power_normalize(features: Tensor, power: float = 0.5) -> Tensor:
    r"""Raises the size of every value to a power and keeps its sign: :math:`\operatorname{sign}(x) |x|^p`.

    Values behind a ReLU are skewed: a few large ones decide the cosine of two images. Their square roots are spread
    more evenly. The cosine of the square roots is the Hellinger kernel, if no value is negative.

    Args:
        features: (N, D) features of any length.
        power: ``p``, above 0 and up to 1. With 1, the features are returned as they are.

    Returns:
        (N, D) features, not of unit length.

    Raises:
        ValueError: If ``power`` is out of range.

    Source: Perronnin, Sanchez and Mensink, *Improving the Fisher Kernel for Large-Scale Image Classification*, 2010,
    section 3.2; Arandjelovic and Zisserman, *Three things everyone should know to improve object retrieval*, 2012.

    The gradient is infinite where a value is 0, so it is meant for embeddings that are done, not for a loss.

    Example:
        >>> import torch
        >>> power_normalize(torch.tensor([[4.0, -9.0, 0.0]])).tolist()
        [[2.0, -3.0, 0.0]]
    """
    check_power(power)
    features = as_tensor(features)
    return features if power == 1 else features.sign() * features.abs().pow(power)


def check_power(power: float) -> None:
    """Raises a ValueError unless a power is above 0 and at most 1."""
    check_number(power=power)
    if not 0 < power <= 1:
        raise ValueError(f"power must be above 0 and at most 1; it is {power}")
