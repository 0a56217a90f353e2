"""The t-SNE picture of a checkpoint from the command line, of a list whose paths end at different levels."""

import csv

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from hierpretrain.registry import MODELS
from tests import processes
from tests.processes import ROOT

CONFIG = """
_base_ = {base!r}
model = dict(
    type="HierarchicalContrastive",
    data_preprocessor=dict(type="MultiViewPreprocessor"),
    backbone=dict(type="ResNet", depth=18, base_channels=4, stem_channels=4),
)
_pipeline = [dict(type="LoadRGB"), dict(type="PackInputs", algorithm_keys=("extra_labels",),
                                        meta_keys=("sample_idx", "img_path", "split"))]
test_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="ListDataset", data_root={root!r}, ann_file="list.csv", extra_labels=("concept",),
                 pipeline=_pipeline),
)
test_cfg = dict(type="EmbeddingTestLoop")
test_evaluator = []
custom_hooks = []
"""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A config, and a checkpoint of it with random weights."""
    root = tmp_path_factory.mktemp("ragged")
    generator = np.random.default_rng(0)
    nodes = [
        ("nave", "window", "facade"),
        ("nave", "", "organ"),
        ("tower", "spire", "tower"),
        ("tower", "spire", "facade"),
    ]
    with open(root / "list.csv", "w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["image", "part", "detail", "concept"])
        for i in range(24):
            Image.fromarray(generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(root / f"{i}.png")
            rows.writerow([f"{i}.png", *nodes[i % 4]])
    (root / "config.py").write_text(CONFIG.format(base=str(ROOT / "configs/_base_/default_runtime.py"), root=str(root)))
    model = MODELS.build(Config.fromfile(root / "config.py").model)
    torch.save({"state_dict": model.state_dict(), "meta": {}}, root / "random.pth")
    return root


@pytest.mark.parametrize("level", ["detail", "concept"])
def test_a_map_is_coloured_by_any_level_and_by_a_flat_label_column(checkpoint, tmp_path, level):
    arguments = (checkpoint / "config.py", checkpoint / "random.pth", "--level", level, "--work-dir", tmp_path)
    processes.run(tmp_path / "log.txt", ROOT / "tools/plot.py", "tsne", *arguments, "--out", "map.png")
    assert Image.open(tmp_path / "map.png").size == (1400, 1000)
