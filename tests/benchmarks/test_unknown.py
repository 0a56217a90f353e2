"""The benchmark of unknown classes: what is held out, what is tested, and the table."""

import sys
from pathlib import Path

import pytest
import torch

from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.evaluation import Embeddings
from hierpretrain.taxonomy import Taxonomy
from tests.functional.test_path_calibration import LABELS, world

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def unknown():
    sys.path.insert(0, str(ROOT / "tools/benchmarks"))
    try:
        import unknown
    finally:
        sys.path.remove(str(ROOT / "tools/benchmarks"))
    return unknown


@pytest.fixture(scope="module")
def images():
    """Images of 16 leaves in four branches, as the split of seen and unseen classes tags them."""
    features, labels = world(2, 1500, unknown=0.3, spread=0.6)
    hidden = (labels[:, 0] == 3) | (labels[:, 1] % 4 == 3)
    parts = ["train", "val", "test"]
    tree = Taxonomy([(str(branch), f"{leaf:02}") for branch, leaf in LABELS.tolist()], ("branch", "leaf"))
    return Embeddings(
        features=features,
        labels=labels,
        extra_labels=torch.empty(1500, 0),
        splits=[f"{'unseen' if is_hidden else 'seen'}_{parts[i % 3]}" for i, is_hidden in enumerate(hidden.tolist())],
        paths=[f"{i}.jpg" for i in range(1500)],
        taxonomy=tree,
        extra_names=(),
    )


def test_no_unknown_class_is_both_held_out_and_tested(unknown, images):
    index = EmbeddingIndex.build(images.of("seen_train"), model="", fingerprint="", log=lambda line: None)
    unseen = images.of(["unseen_val", "unseen_test"])
    one, other = unknown.in_halves(unseen, index)
    assert sorted(one + other) == list(range(len(unseen.paths)))
    nodes = [
        {(3,) if unseen.labels[i, 0] == 3 else tuple(unseen.labels[i].tolist()) for i in half} for half in (one, other)
    ]
    assert nodes[0].isdisjoint(nodes[1])
    assert len(nodes[0] | nodes[1]) == 4  # a branch, and a leaf in each other one
    assert min(len(one), len(other)) > 0.25 * len(unseen.paths)


def test_it_measures_and_says_so(unknown, images):
    found = unknown.measure(images)
    assert found["leaf"]["num_unknown"] == len(images.of(["unseen_val", "unseen_test"]).paths) / 2
    assert found["leaf"]["auroc_unknown"] > 0.7
    assert found["leaf"]["ece"] < 0.15
    lines = unknown.table(found).splitlines()
    assert lines[0] == "| | branch | leaf |"
    row = next(line for line in lines if line.startswith("| AUROC of unknown: confidence |"))
    assert row.endswith(f"| {100 * found['leaf']['auroc_unknown']:.1f} % |")
