import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from PIL import Image
from torchvision.transforms import ColorJitter

from hierpretrain.datasets import seeded

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"
SIZE = 24


@pytest.fixture
def data_path(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import data_path

    with DefaultScope.overwrite_default_scope("hierpretrain"):
        yield data_path
    sys.modules.pop("data_path")


@pytest.fixture
def jpegs(data_path, tmp_path):
    return data_path.write_jpegs(tmp_path / "160/class", 160, 3)


def pixels(images):
    return [np.asarray(view).astype(int) for image in images for view in image]


def test_the_images_are_as_large_as_said_and_compress_as_photographs_do(jpegs):
    for path in jpegs:
        assert Image.open(path).size == (160, 120)
        assert 0.5 < 8 * path.stat().st_size / (160 * 120) < 3


def test_all_make_two_views_and_ours_from_memory_are_ours(data_path, jpegs):
    made = {name: contender() for name, contender in data_path.contenders(jpegs, SIZE).items()}
    ours = {name: pixels(item["inputs"] for item in made[name]) for name in made if name.startswith("ours")}
    for name, views in ours.items():
        assert {view.shape for view in views} == {(3, SIZE, SIZE)}, name
    assert all(map(np.array_equal, ours[data_path.OUR_JITTER], ours[data_path.IN_MEMORY]))
    # Pillow's hue rounds elsewhere; a picture of half the size is a little less sharp
    for name, most in {data_path.TORCHVISION_JITTER: 2, data_path.SMALLER: 8}.items():
        distances = [np.abs(a - b).mean() for a, b in zip(ours[data_path.OUR_JITTER], ours[name], strict=True)]
        assert max(distances) < most
    for name in (data_path.VERSION_1, data_path.VERSION_2):
        assert {view.shape for view in pixels(made[name])} == {(3, SIZE, SIZE)}
    assert {view.shape for view in pixels(item["inputs"] for item in made[data_path.MMPRETRAIN])} == {(3, SIZE, SIZE)}
    assert len(made[data_path.LIMIT]) == 3


def test_torchvision_makes_the_views_that_ours_makes(data_path, jpegs):
    load = dict(type="LoadRGB")
    pipeline = data_path.our_pipeline(SIZE, "torchvision/ColorJitter", load)
    pipeline[1]["transforms"][1]["prob"] = 1.0  # torchvision and mmcv draw it from different generators
    ours = data_path.FolderDataset(data_root=str(jpegs[0].parents[1]), pipeline=pipeline, seed=5)
    theirs = data_path.of_pictures(SIZE, ColorJitter(**data_path.JITTER))
    for row, path in enumerate(jpegs):
        with seeded(5, 0, row):
            views = theirs(str(path))
        assert all(map(torch.equal, views, ours[row]["inputs"]))


def test_a_loader_draws_whole_batches(data_path):
    config = data_path.load_config(TOOLS.parents[1] / "configs/himulcone_emoji.py")
    config.train_dataloader.dataset.data_root = str(TOOLS.parents[1] / "data/emoji64")
    config.train_dataloader.batch_size = 4
    rates = data_path.loader_rates(config, [1], batches=2)
    assert list(rates) == ["no workers", "1 workers, 2 batches ahead", "1 workers, 8 batches ahead"]
    assert rates["no workers"]() == rates["1 workers, 2 batches ahead"]() == 2 * 4


def test_command(data_path, monkeypatch, capsys, tmp_path):
    made = data_path.contenders
    two = (data_path.VERSION_1, data_path.LIMIT)  # the garbage is collected before each, which takes long
    monkeypatch.setattr(data_path, "contenders", lambda *args: {name: made(*args)[name] for name in two})
    monkeypatch.setattr(
        sys, "argv", ["data_path.py", *"--sides 64 --images 1 --rounds 1 --threads 1 --save".split(), str(tmp_path)]
    )
    data_path.main()
    assert capsys.readouterr().out.count("limit: decoding") == 2
    assert (tmp_path / "data_path.png").exists()
