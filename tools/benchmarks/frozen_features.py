"""Measures a training step with and without FrozenFeaturesHook, on random pictures and with random weights, at 224 px.

``--net vgg16`` is paper B's VGG-16, frozen whole, on one view of each image. ``--net lite0`` is
EfficientNet-Lite0 whose last two stages are trained, on two augmented views of each image, of which the hook keeps
``--views``. Each trains twice, from images and from kept features, and prints the median time of a step, loading
included. The first steps are left out. The time that the hook spends once is printed too.

Example:
    python tools/benchmarks/frozen_features.py
    python tools/benchmarks/frozen_features.py --net lite0 --images 32
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
    parser.add_argument("--net", choices=("vgg16", "lite0"), default="vgg16", help="what is trained")
    parser.add_argument("--images", type=int, default=48, help="images of a batch")
    parser.add_argument("--views", type=int, default=4, help="views of each image that lite0 keeps, an even number")
    parser.add_argument("--size", type=int, default=224, help="height and width of the images, in pixels")
    parser.add_argument("--workers", type=int, default=0, help="processes that load images")
    args = parser.parse_args()
    images = args.images * (args.steps + WARM_UP)
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder, "images"), images, args.size + 32)
        step = {name: measure(folder, args, name == "features") for name in ("images", "features")}
    print(f"\n{args.net}, {args.images} images a step, {args.size} px\n\n| a step from | seconds |\n| --- | ---: |")
    for name, (seconds, _) in step.items():
        print(f"| {name} | {seconds:.3f} |")
    print(f"\nfrom features a step is {step['images'][0] / step['features'][0]:.1f} times as fast")
    once = step["features"][1]
    kept = images * (args.views if args.net == "lite0" else 1)
    print(f"to keep the features took {once:.1f} s for {kept} views, {1000 * once / kept:.0f} ms a view")


def write(folder: Path, number: int, size: int) -> None:
    """Writes pictures of noise in two folders."""
    rng = np.random.default_rng(0)
    for i in range(number):
        path = folder / str(i % 2) / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (size, size, 3), np.uint8)).save(path)


def measure(folder: str, args: argparse.Namespace, kept: bool) -> tuple[float, float]:
    """Trains, and returns the median seconds of a step and the seconds before the first step."""
    if args.net == "vgg16":
        model = load_config(BASE, {"model.backbone.init_cfg": None, "model.neck.init_cfg": None}).model
        look = [dict(type="torchvision/Resize", size=(args.size, args.size), interpolation="bilinear")]
        views = None
    else:
        preprocessor = dict(type="MultiViewPreprocessor", channels_last=True)
        model = dict(
            type="HierarchicalContrastive",
            backbone=dict(type="EfficientNetLite0", weights=False, frozen_stages=5),
            data_preprocessor=preprocessor,
            channels_last=True,
        )
        crop = dict(type="torchvision/RandomResizedCrop", size=args.size, scale=(0.3, 1.0))
        look = [dict(type="Views", transforms=[crop, dict(type="torchvision/RandomHorizontalFlip")])]
        views = args.views
    pack = dict(type="PackInputs", meta_keys=("sample_idx", "img_path"))
    config = Config(
        dict(
            default_scope="hierpretrain",
            model=model,
            train_dataloader=dict(
                batch_size=args.images,
                num_workers=args.workers,
                sampler=dict(type="DefaultSampler", shuffle=True),
                dataset=dict(
                    type="FolderDataset", data_root=f"{folder}/images", pipeline=[dict(type="LoadRGB"), *look, pack]
                ),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=dict(optimizer=dict(type="Adam", lr=1e-4)),
            default_hooks=dict(checkpoint=None),
            custom_hooks=[dict(type="FrozenFeaturesHook", dtype="float16", num_views=views)] * kept,
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
