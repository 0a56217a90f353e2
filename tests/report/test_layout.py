import sys

import numpy as np
import pytest
import torch

from hierpretrain.report.layout import add_others, positions
from hierpretrain.visualization import tsne_map
from tests.reference.metrics import ranking
from tests.report.sets import random_set


@pytest.fixture
def without_open_tsne(monkeypatch):
    monkeypatch.setitem(sys.modules, "openTSNE", None)


def blobs(number=90):
    rng = np.random.default_rng(0)
    which = np.arange(number) % 3
    return torch.from_numpy(np.eye(8)[which] + 0.05 * rng.normal(size=(number, 8))).float(), which


def test_few_images_are_laid_out_by_t_sne():
    features = random_set(0).features
    found, how = positions(features, seed=3)
    np.testing.assert_array_equal(found, tsne_map(features, seed=3)[0])
    assert how.startswith("Laid out by t-SNE of all 40 images.")


def test_others_lie_at_the_median_of_their_five_nearest_of_the_sample():
    features, _ = blobs()
    rows = torch.arange(0, 90, 4)
    sampled = np.random.default_rng(1).normal(size=(len(rows), 2)).astype(np.float32)
    found = add_others(features, sampled, rows, seed=0)
    np.testing.assert_array_equal(found[rows], sampled)
    gap = np.ptp(sampled, axis=0).mean() / np.sqrt(90) / 2
    steps = []
    for i in sorted(set(range(90)) - set(rows.tolist())):
        order = [j for j in ranking(features[i].double(), features.double(), i) if j in rows.tolist()][:5]
        x, y = zip(*(sampled[rows.tolist().index(j)] for j in order), strict=True)
        steps.append((found[i] - (sorted(x)[2], sorted(y)[2])) / gap)
    # aside are steps of a standard normal distribution, 67 x 2 of them
    assert np.abs(np.mean(steps, 0)).max() < 0.5
    assert 0.8 < np.std(steps) < 1.2


def test_a_sample_is_laid_out_where_open_tsne_is_missing(without_open_tsne):
    features, which = blobs()
    found, how = positions(features, most_by_tsne=30, seed=2)
    sampled, rows = tsne_map(features, seed=2, max_points=30)
    np.testing.assert_array_equal(found[rows], sampled)
    assert "t-SNE of 30 images drawn at random; each of the other 60 lies where" in how
    assert "pip install openTSNE" in how
    centres = np.stack([found[which == group].mean(0) for group in range(3)])
    assert (np.linalg.norm(found[:, None] - centres, axis=2).argmin(1) == which).all()


def test_open_tsne_lays_out_all_where_it_is_installed():
    pytest.importorskip("openTSNE")
    features, which = blobs()
    found, how = positions(features, most_by_tsne=30)
    assert how.startswith("Laid out by t-SNE of all 90 images (openTSNE).")
    centres = np.stack([found[which == group].mean(0) for group in range(3)])
    assert (np.linalg.norm(found[:, None] - centres, axis=2).argmin(1) == which).all()


@pytest.mark.parametrize("number", [1, 2])
def test_one_image_and_two(number):
    found, how = positions(torch.eye(2)[:number])
    assert found.tolist() == [[0.0, 0.0], [1.0, 0.0]][:number]
    assert how == "Too few images for a map: they lie side by side."


@pytest.mark.parametrize("most", [5000, 10])
@pytest.mark.parametrize("open_tsne", [True, False])
def test_a_collapsed_model_is_one_point(most, open_tsne, monkeypatch):
    if not open_tsne:
        monkeypatch.setitem(sys.modules, "openTSNE", None)
    found, _ = positions(torch.ones(30, 8) / 8**0.5, most_by_tsne=most)
    assert (found == 0).all()
