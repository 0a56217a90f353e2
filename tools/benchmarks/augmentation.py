"""Compares views that loader workers make of one image at a time with views that kornia makes of a batch on the device.

Contenders: the random transforms of ``configs/_base_/pipelines`` on Pillow images, as in the configs, and the same
transforms of kornia (``pip install kornia``), cropping image by image (``slice``, its default) or by one warp of all
images (``resample``). Images are decoded and of one size, which kornia needs; all contenders end with a batch of uint8
views. Pillow's ``images/s`` are for one worker of the loader, and there may be a worker on every core.

The toolbox has no transforms on the device, because they were slower than one worker where both ran on one core; this
shows whether that holds on a GPU. (torchvision's v2 transforms draw once for a whole batch, and are left out.)

Examples:
    python tools/benchmarks/augmentation.py --threads 1
    python tools/benchmarks/augmentation.py --device cuda --images 512
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from measure import ROOT, Report, command, parse, per_second, race
from mmengine.config import Config
from PIL import Image
from torch import Tensor, nn

from hierpretrain.datasets import Views

PIPELINES = ROOT / "configs/_base_/pipelines"
SIZES = {"emoji48": 64, "views224": 256}  # of the decoded images, in pixels


def pictures(images: int, size: int) -> Tensor:
    """Returns (images, 3, size, size) bytes, smooth as pictures are."""
    coarse = torch.rand(images, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return (nn.functional.interpolate(coarse, size=size, mode="bicubic").clamp(0, 1) * 255).to(torch.uint8)


def view_of(pipeline: str) -> list[dict[str, Any]]:
    """Returns the random transforms of a view, as in the config."""
    (views,) = [t for t in Config.fromfile(PIPELINES / f"{pipeline}.py").train_pipeline if t["type"] == "Views"]
    return views["transforms"]


def with_pillow(pipeline: str, given: Tensor) -> Callable[[], Tensor]:
    """Returns what makes one view after the other, as a worker of the loader; all images' first views come first."""
    make = Views(view_of(pipeline), num_views=2)
    pillow = [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in given]

    def views() -> Tensor:
        made = zip(*(make.transform({"img": picture})["img"] for picture in pillow), strict=True)
        return torch.from_numpy(np.stack([np.asarray(view) for views in made for view in views])).permute(0, 3, 1, 2)

    return views


def with_kornia(pipeline: str, given: Tensor, cropping_mode: str) -> Callable[[], Tensor]:
    """Returns what makes the views of all images at once, each with random parameters of its own."""
    import kornia.augmentation as augmentation

    def build(transform: dict[str, Any]) -> nn.Module:
        options = dict(transform)
        kind = options.pop("type").rpartition("/")[2]
        if kind == "RandomApply":
            (jitter,) = options["transforms"]
            return augmentation.ColorJitter(p=options["prob"], **{k: v for k, v in jitter.items() if k != "type"})
        if kind == "RandomResizedCrop":
            size = options["size"]
            return augmentation.RandomResizedCrop((size, size), options["scale"], cropping_mode=cropping_mode)
        return getattr(augmentation, kind)(**options)

    made = augmentation.AugmentationSequential(*map(build, view_of(pipeline)), data_keys=["input"])

    @torch.no_grad()
    def views() -> Tensor:
        return (made(given.repeat(2, 1, 1, 1).float() / 255) * 255).round().to(torch.uint8)

    return views


def main() -> None:
    """Runs the comparison, prints it with its bars, and saves it on request."""
    parser = command(__doc__)
    parser.add_argument("--pipelines", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--images", type=int, default=64, help="of a batch")
    parser.add_argument("--device", default="cpu", help="of kornia: cpu or cuda")
    args = parse(parser)

    report = Report("augmentation", "Two views of a batch of images", "images")
    for pipeline in args.pipelines:
        given = pictures(args.images, SIZES[pipeline])
        steps = {"Pillow, one worker": with_pillow(pipeline, given)}
        for mode in ("slice", "resample"):
            steps[f"kornia, {mode}"] = with_kornia(pipeline, given.to(args.device), mode)
        seconds = race(steps, rounds=args.rounds)
        case = {"pipeline": pipeline, "images": args.images, "device": args.device}
        report.add(case, seconds, against="Pillow, one worker", **{"images/s": per_second(args.images, seconds)})
    report.save(args.save)


if __name__ == "__main__":
    main()
