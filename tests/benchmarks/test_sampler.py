import runpy
from pathlib import Path

import numpy as np
import pytest
from pytorch_metric_learning.samplers import HierarchicalSampler

from hierpretrain.datasets import HierarchicalBatchSampler
from tests.datasets.test_sampler import check_partners

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"


@pytest.fixture
def tool(monkeypatch):
    monkeypatch.syspath_prepend(TOOLS)
    return runpy.run_path(str(TOOLS / "sampler.py"))


@pytest.mark.parametrize("tree", ["four-levels", "inshop"])
def test_the_design_that_looks_at_all_images_makes_the_tuples_that_ours_makes(tool, tree):
    labels = tool["TREES"][tree](300)
    slow = list(tool["looked_at_all"](labels.T.contiguous().numpy(), 16, np.random.default_rng(0)))
    ours = list(HierarchicalBatchSampler(labels, 16))
    for batches in (slow, ours):
        assert [len(batch) for batch in batches] == [16] * 18 + [12]
        assert sorted(image for batch in batches for image in batch) == list(range(300))
        check_partners(labels, batches, 16)


def test_the_peer_is_given_classes_and_what_they_are_grouped_by(tool):
    labels = tool["four_levels"](2_000)
    peer = HierarchicalSampler(labels[:, [-1, 0]].numpy(), 16, samples_per_class=4)
    assert len(peer) == 13 * 12 / 2 * 4
    for batch in list(peer)[:50]:
        sizes = labels[batch, 0].unique(return_counts=True)[1]
        assert sizes.tolist() == [8, 8]
        assert labels[batch, 3].unique(return_counts=True)[1].tolist() == [4] * 4


def test_the_tree_is_one_of_four_levels_at_any_size(tool):
    for images in (6_000, 50_000):
        labels = tool["four_levels"](images)
        for level in range(1, 4):
            pairs = labels[:, level - 1 : level + 1].unique(dim=0)
            assert len(pairs) == len(labels[:, level].unique())  # each node has one parent
            assert len(pairs) > len(labels[:, level - 1].unique())


def test_it_runs_and_says_what_the_bars_are(tool, monkeypatch, capsys, tmp_path):
    arguments = ["--images", "500", "--peer-up-to", "0", "--batch-size", "16", "--rounds", "1", "--save", str(tmp_path)]
    monkeypatch.setattr("sys.argv", ["sampler.py", *arguments])
    tool["main"]()
    printed = capsys.readouterr().out
    assert "bar: samples a second at 500 images" in printed
    assert "pytorch-metric-learning  " not in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sampler.json", "sampler.md"]
