"""Trainings that count iterations: their views, their workers, and what they do when they resume."""

import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from PIL import Image
from torch.utils.data import DataLoader

from hierpretrain.apis import build_runner
from hierpretrain.engine.training_batches import batches_of_a_pass

BATCHES = 3  # of a pass
CROP = dict(type="torchvision/RandomResizedCrop", size=16)
PACK = dict(type="PackInputs", algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split"))
WORKERS = [0, 2]
SAMPLERS = ["DefaultSampler", "InfiniteSampler"]


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(4 * BATCHES):
        folder = root / f"kind{i % 2}/thing{i % 4}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (24, 24, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return root


class Seen(Hook):
    """Keeps the index and a checksum of every image of every batch."""

    def __init__(self):
        self.batches = []

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        pairs = zip(data_batch["data_samples"], data_batch["inputs"], strict=True)
        self.batches.append([(sample.sample_idx, zlib.crc32(image.numpy().tobytes())) for sample, image in pairs])


def train(images, work_dir, *, iterations=8, epochs=None, workers=0, sampler="DefaultSampler", hooks=(), **options):
    """Trains, and returns the batches and the weights."""
    counted = dict(by_epoch=False, max_iters=iterations) if epochs is None else dict(by_epoch=True, max_epochs=epochs)
    config = Config(
        dict(
            default_scope="hierpretrain",
            model=dict(
                type="HierarchicalContrastive",
                backbone=dict(type="ResNet", depth=18, base_channels=8, stem_channels=8),
                loss=dict(type="SupConLoss", level=1),
            ),
            train_dataloader=dict(
                batch_size=4,
                num_workers=workers,
                persistent_workers=workers > 0,
                sampler=dict(type=sampler, shuffle=True),
                dataset=dict(type="FolderDataset", data_root=str(images), pipeline=[dict(type="LoadRGB"), CROP, PACK]),
            ),
            train_cfg=dict(**counted, val_interval=100),
            optim_wrapper=dict(optimizer=dict(type="SGD", lr=0.01)),
            custom_hooks=[dict(type="ExactResumeHook"), *hooks],
            default_hooks=dict(checkpoint=dict(type="CheckpointHook", interval=100, by_epoch=False)),
            env_cfg=dict(dist_cfg=dict(backend="gloo")),
            randomness=dict(seed=3),  # no data set has it by itself
            log_level="ERROR",
            work_dir=str(work_dir),
            experiment_name=f"{Path(work_dir).name}_{time.monotonic_ns()}",
            **options,
        )
    )
    torch.manual_seed(0)
    runner = build_runner(config)
    runner.register_hook(seen := Seen())
    runner.train()
    return seen.batches, {name: weight.clone() for name, weight in runner.model.state_dict().items()}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_pass_has_new_views_the_same_with_any_number_of_workers(images, tmp_path, sampler):
    batches, _ = train(images, tmp_path / "0", sampler=sampler, iterations=3 * BATCHES)
    for start in range(0, 3 * BATCHES, BATCHES):
        assert len({index for batch in batches[start : start + BATCHES] for index, _ in batch}) == 4 * BATCHES
    assert len({view for batch in batches for view in batch}) == 3 * 4 * BATCHES
    for workers in (1, 2):
        assert (
            train(images, tmp_path / str(workers), sampler=sampler, iterations=3 * BATCHES, workers=workers)[0]
            == batches
        )


@pytest.mark.parametrize("workers", WORKERS)
def test_the_views_of_a_pass_are_those_of_an_epoch(images, tmp_path, workers):
    epochs, _ = train(images, tmp_path / "epochs", epochs=2)
    passes, _ = train(images, tmp_path / "passes", iterations=2 * BATCHES, workers=workers)
    for start in (0, BATCHES):
        its, own = (sorted(view for batch in of[start : start + BATCHES] for view in batch) for of in (epochs, passes))
        assert own == its


@pytest.mark.parametrize(
    ("sampler", "workers", "done"),
    [
        ("DefaultSampler", 0, BATCHES + 1),
        ("DefaultSampler", 2, 2 * BATCHES),
        ("InfiniteSampler", 0, 2 * BATCHES),
        ("InfiniteSampler", 2, BATCHES + 1),
    ],
)
def test_a_resumed_run_is_the_run_that_was_not_stopped(images, tmp_path, sampler, workers, done):
    options = dict(workers=workers, sampler=sampler)
    whole, weights = train(images, tmp_path / "whole", **options)
    train(images, tmp_path / "half", iterations=done, **options)
    rest, own = train(images, tmp_path / "half", resume=True, **options)
    assert rest == whole[done:]
    assert all(torch.equal(own[name], weight) for name, weight in weights.items())


@pytest.mark.parametrize("workers", WORKERS)
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_measured_statistics_leave_the_batches_of_the_training_alone(images, tmp_path, workers, sampler):
    options = dict(workers=workers, sampler=sampler)
    batches, _ = train(images, tmp_path / "without", **options)
    measuring = [dict(type="PreciseBNHook", num_samples=8, interval=2)]
    assert train(images, tmp_path / "with", hooks=measuring, **options)[0] == batches


def test_less_than_a_batch_is_a_pass():
    data = list(range(5))
    loader = DataLoader(data, batch_size=8, sampler=InfiniteSampler(data, shuffle=False), drop_last=True)
    assert len(loader) == 0
    assert len(next(iter(loader))) == 8
    assert batches_of_a_pass(loader) == 1
