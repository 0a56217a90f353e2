import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import Compose, PILToTensor, RandomGrayscale, RandomResizedCrop

from hierpretrain.registry import TRANSFORMS


@TRANSFORMS.register_module()
class SlowDown:
    """Makes each image take 20 ms."""

    def __call__(self, results):
        time.sleep(0.02)
        return results


TOOLS = Path(__file__).parents[2] / "tools/benchmarks"


@pytest.fixture
def step(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    import step

    yield step
    sys.modules.pop("step")


def small(config):
    config.model.backbone = dict(type="ResNet", depth=18, base_channels=4, stem_channels=4)
    config.model.projection = dict(type="ProjectionHead", in_channels=32, out_channels=8)
    config.param_scheduler = None
    config.train_dataloader.num_workers = 0
    return config


def test_the_runner_and_the_bare_loop_train_alike(step):
    config = small(step.synthetic_config(8, size=32, steps=8))
    loss = lambda features, labels: step.hierarchical_contrastive_loss(features, labels, constraint="pair")  # noqa: E731
    rounds = step.take_turns(config, step.BarePixels, loss, steps=3, rounds=2)
    assert len(rounds) == 2  # the bare loop comes after, then before
    for blocks in rounds:
        losses = {name: block.losses for name, block in blocks.items()}
        assert all(block.seconds > 0 for block in blocks.values())
        assert len(losses[step.OURS]) == 3 + step.WARM_UP
        np.testing.assert_allclose(losses[step.OURS], losses[step.BARE], rtol=1e-4)
        assert losses[step.LIMIT][-1] < losses[step.LIMIT][0]  # it learns its one batch by heart


def test_a_slow_pipeline_is_not_hidden_by_the_others_turns(step):
    config = small(step.synthetic_config(8, size=32, steps=8))
    config.train_dataloader.num_workers = 1
    config.train_dataloader.dataset.pipeline = [dict(type="SlowDown"), *config.train_dataloader.dataset.pipeline]
    loss = lambda features, labels: step.hierarchical_contrastive_loss(features, labels, constraint="pair")  # noqa: E731
    (blocks,) = step.take_turns(config, step.BarePixels, loss, steps=4, rounds=1)
    assert blocks[step.OURS].seconds > 8 * 0.02 * 0.9  # nothing loads ahead for longer than a step takes


def test_the_bare_images_are_ours(step):
    config = small(step.emoji_config(8))
    crop = dict(type="torchvision/RandomResizedCrop", size=48, scale=(0.3, 1.0), interpolation="bilinear")
    pipeline = config.train_dataloader.dataset.pipeline
    pipeline[1].transforms = [crop, dict(type="torchvision/RandomGrayscale", p=0.2)]
    with step.quiet_runner(config) as runner:
        ours = runner.build_dataloader(config.train_dataloader).dataset
    view = Compose([RandomResizedCrop(48, (0.3, 1.0)), RandomGrayscale(0.2), PILToTensor()])
    bare = step.BareImages(ours, view)
    from hierpretrain.datasets import seeded

    for row in (0, 99, 7460):
        with seeded(ours.seed, 0, row):
            views, labels = bare[row]
        item = ours[row]
        assert all(map(torch.equal, views, item["inputs"]))
        assert labels.tolist() == item["data_samples"].gt_label.tolist()


def test_the_options_compute_one_loss(step, monkeypatch):
    emoji_config = step.emoji_config
    monkeypatch.setattr(step, "emoji_config", lambda batch_size: small(emoji_config(batch_size)))
    losses = [contender() for contender in step.option_contenders(8).values()]
    assert losses[1:3] == pytest.approx([losses[0]] * 2, rel=1e-4)
    assert losses[3] == pytest.approx(losses[0], rel=0.05)


def test_command(step, monkeypatch, capsys, tmp_path):
    emoji_config = step.emoji_config
    monkeypatch.setattr(step, "emoji_config", lambda batch_size: small(emoji_config(batch_size)))
    monkeypatch.setattr(step, "WARM_UP", 1)
    options = ["--batch-sizes", "8", "--rounds", "2", "--steps", "2", "--save", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["step.py", *options])
    step.main()
    assert "bar: step of 8 images" in capsys.readouterr().out
    assert (tmp_path / "step.json").exists()
