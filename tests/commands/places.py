"""What the tests of commands run on: a tiny config, a checkpoint of it, and images."""

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image

from hierpretrain.registry import MODELS

_CONFIG = """
model = dict(
    type="HierarchicalContrastive",
    backbone=dict(type="ResNet", depth=18, base_channels=8, stem_channels=8),
)
test_dataloader = dict(
    dataset=dict(type="FolderDataset", data_root="nowhere", pipeline=[
        dict(type="LoadRGB"), dict(type="torchvision/Resize", size=(%d, %d))
    ])
)
"""


def write_model(folder, checkpoint="epoch_1.pth", size=32, seed=0):
    """Writes ``tiny.py``, whose pictures have ``size`` pixels a side, and a checkpoint of random weights."""
    text = _CONFIG % (size, size)
    (folder / "tiny.py").write_text(text)
    torch.manual_seed(seed)
    model = MODELS.build({"_scope_": "hierpretrain", **Config.fromstring(text, ".py").model})
    torch.save({"state_dict": model.state_dict()}, folder / checkpoint)


def write_photos(folder, names, broken):
    """Writes noise images of 40 px below ``photos``, each of its own seed, and a file that is none."""
    for i, name in enumerate(names):
        path = folder / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    (folder / "photos" / broken).write_bytes(b"no image")


COLOURS = {
    "animal/cat": (200, 30, 30),
    "animal/dog": (200, 120, 30),
    "tool/saw": (30, 30, 200),
    "other/it": (30, 200, 30),
}


def write_set(folder, names, number, seed):
    """Writes images of noise around the colour of each name, and returns the folder."""
    for i, name in enumerate(names):
        generator = np.random.default_rng((seed, i))
        (folder / name).mkdir(parents=True)
        for j in range(number):
            noise = generator.normal(0, 60, (40, 40, 3))
            Image.fromarray(np.clip(COLOURS[name] + noise, 0, 255).astype(np.uint8)).save(folder / name / f"{j}.png")
    return folder
