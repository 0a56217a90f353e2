"""Measures a training step with and without FrozenFeaturesHook: paper B's VGG-16 with random weights at 224 px.

It trains twice on random pictures with the same batches, from images and from kept features, and prints the median
time of a step, loading included. The first steps are left out. The time that the hook spends once on every image is
printed too.

Example:
    python tools/benchmarks/frozen_features.py
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from PIL import Image

from hierpretrain.apis import build_runner, load_config

BASE = Path(__file__).parents[2] / "configs/_base_/models/vgg16_fc.py"
WARM_UP = 2  # steps


class StartHook(Hook):
    """Notes when training begins, after all other hooks have prepared it."""

    priority = "VERY_LOW"
    began = 0.0

    def before_train(self, runner: Runner) -> None:
        """Notes the time."""
        self.began = time.perf_counter()


def main() -> None:
    """Prints a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=6, help="steps that are measured")
    parser.add_argument("--triplets", type=int, default=16, help="triplets of a batch, each of three images")
    parser.add_argument("--size", type=int, default=224, help="height and width of the images, in pixels")
    parser.add_argument("--workers", type=int, default=0, help="processes that load images")
    args = parser.parse_args()
    images = 3 * args.triplets * (args.steps + WARM_UP)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "images"), images, args.size + 32)
        step = {name: measure(folder, args, name == "features") for name in ("images", "features")}
    print(f"\n{args.triplets} triplets a step, {args.size} px\n\n| a step from | seconds |\n| --- | ---: |")
    for name, (seconds, _) in step.items():
        print(f"| {name} | {seconds:.3f} |")
    print(f"\nfrom features a step is {step['images'][0] / step['features'][0]:.1f} times as fast")
    once = step["features"][1]
    print(f"to keep the features took {once:.1f} s for {images} images, {1000 * once / images:.0f} ms an image")


def write(folder: Path, number: int, size: int) -> None:
    """Writes pictures of noise in two folders."""
    rng = np.random.default_rng(0)
    for i in range(number):
        path = folder / str(i % 2) / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).save(path)


def measure(folder: str, args: argparse.Namespace, kept: bool) -> tuple[float, float]:
    """Trains, and returns the median seconds of a step and the seconds before the first step."""
    config = Config(
        dict(
            default_scope="hierpretrain",
            model=load_config(BASE, {"model.backbone.init_cfg": None, "model.neck.init_cfg": None}).model,
            train_dataloader=dict(
                batch_size=3 * args.triplets,
                num_workers=args.workers,
                sampler=dict(type="DefaultSampler", shuffle=True),
                dataset=dict(
                    type="FolderDataset",
                    data_root=f"{folder}/images",
                    pipeline=[
                        dict(type="LoadRGB"),
                        dict(type="torchvision/Resize", size=(args.size, args.size), interpolation="bilinear"),
                        dict(type="PackInputs", meta_keys=("sample_idx", "img_path")),
                    ],
                ),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type="Adam", lr=1e-4)),
            default_hooks=dict(checkpoint=None),
            custom_hooks=[dict(type="FrozenFeaturesHook")] * kept,
            randomness=dict(seed=0),
            log_level="WARNING",
            work_dir=f"{folder}/{kept}",
            experiment_name=f"kept_{kept}",
        )
    )
    config.model.loss = dict(type="SupConLoss", level=1)
    runner = build_runner(config)
    start = StartHook()
    runner.register_hook(start)
    began = time.perf_counter()
    runner.train()
    seconds, _ = runner.message_hub.get_scalar("train/time").data
    return statistics.median(seconds[WARM_UP:]), start.began - began


if __name__ == "__main__":
    main()
