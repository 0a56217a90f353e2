"""The positions of images on the map."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor

from hierpretrain.functional.search import nearest, unit_rows
from hierpretrain.visualization import tsne_map

MOST_BY_TSNE = 5000
_VOTERS = 5  # nearest images of the sample that say where another one goes
_PCA_DIMS = 50
_MEANING = "Neighbours are kept; the distance between far groups and the size of a group mean nothing."


def positions(features: Tensor, *, most_by_tsne: int = MOST_BY_TSNE, seed: int = 0) -> tuple[NDArray[np.float32], str]:
    """Lays images out in the plane, by t-SNE as far as that is affordable.

    Up to ``most_by_tsne`` images go through scikit-learn's t-SNE. More go through openTSNE's where it is
    installed (50,000 take about two minutes on two cores); where it is not, a sample does, see :func:`add_others`.

    Args:
        features: (N, D) embeddings.
        most_by_tsne: How many images scikit-learn lays out, 3 at least.
        seed: Of the layout and of samples.

    Returns:
        (N, 2) float32 positions, and a sentence that says how they were found. One image or two lie on a line.

    Example:
        >>> found, how = positions(torch.eye(2))
        >>> found.tolist(), how
        ([[0.0, 0.0], [1.0, 0.0]], 'Too few images for a map: they lie side by side.')
    """
    number = len(features)
    if number < 3:
        found = np.stack([np.arange(number), np.zeros(number)], 1).astype(np.float32)
        return found, "Too few images for a map: they lie side by side."
    if number > most_by_tsne and (of_all := _open_tsne(features, seed)) is not None:
        return of_all, f"Laid out by t-SNE of all {number:,} images (openTSNE). {_MEANING}"
    sampled, indices = tsne_map(features, seed=seed, max_points=most_by_tsne)
    if len(indices) == number:
        return sampled, f"Laid out by t-SNE of all {number:,} images. {_MEANING}"
    found = add_others(features, sampled, torch.from_numpy(indices), seed=seed)
    return found, (
        f"Laid out by t-SNE of {len(indices):,} images drawn at random; each of the other {number - len(indices):,} "
        f"lies where its nearest of these do (pip install openTSNE lays out all). {_MEANING}"
    )


def add_others(
    features: Tensor, sampled: NDArray[np.float32], indices: Tensor, *, seed: int = 0
) -> NDArray[np.float32]:
    """Puts images on the map of a sample of them.

    Each goes to the median, of each coordinate, of its five nearest of the sample, so that one of these that lies
    elsewhere does not pull it into the void between two groups; and a little aside, at random, so that it does not hide
    others.

    Args:
        features: (N, D) embeddings.
        sampled: (M, 2) positions of the sample.
        indices: (M,) int64, the images of the sample, ascending.
        seed: Of the steps aside.

    Returns:
        (N, 2) float32 positions; the sample keeps its positions.

    Example:
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 0.01]])
        >>> found = add_others(features, np.float32([[0, 0], [0, 0]]), torch.tensor([0, 1]))
        >>> found.tolist()
        [[0.0, 0.0], [0.0, 0.0], [0.0, 0.0]]
    """
    is_other = torch.ones(len(features), dtype=torch.bool)
    is_other[indices] = False
    _, voters = nearest(features[is_other], features[indices], min(_VOTERS, len(indices)))
    found = np.empty((len(features), 2), np.float32)
    found[indices.numpy()] = sampled
    aside = np.random.default_rng(seed).normal(size=(len(voters), 2))
    gap = np.ptp(sampled, axis=0).mean() / np.sqrt(len(features)) / 2
    found[is_other.numpy()] = np.median(sampled[voters.numpy()], axis=1) + gap * aside
    return found


def _open_tsne(features: Tensor, seed: int) -> NDArray[np.float32] | None:
    """Lays all images out by openTSNE's t-SNE of their first 50 principal components; nothing without the package."""
    try:
        from openTSNE import TSNE
    except ImportError:
        return None
    units = unit_rows(features).numpy()
    if np.ptp(units, axis=0).max() < 1e-6:  # a collapsed model: t-SNE would divide by its spread
        return np.zeros((len(units), 2), np.float32)
    if units.shape[1] > _PCA_DIMS:
        units = PCA(_PCA_DIMS, random_state=seed).fit_transform(units)
    tsne = TSNE(n_jobs=torch.get_num_threads(), random_state=seed)
    return np.asarray(tsne.fit(units), np.float32)
