"""Times what comes before the model: images a second from files to augmented views, in one process.

For emoji64 and for JPEGs of growing size, two random views of every image are made by

- our data set with the pipeline that our configs had (torchvision's ``ColorJitter``) and with ``PILColorJitter``; with
  ``LoadRGB(min_side=...)``, which decodes large JPEGs at a part of their size; and from pixels that lie in memory
  already, which is all that keeping decoded images could gain;
- torchvision as its documentation advises: version 2 of its transforms on uint8 tensors, and version 1 on pictures;
- mmpretrain's SimCLR pipeline, without a change of hue, which fails with numpy 2.

The limit is to decode the files and do nothing with them. ``--workers`` times the emoji config's ``DataLoader`` with so
many processes, and with more batches drawn ahead.

Examples:
    python tools/benchmarks/data_path.py
    python tools/benchmarks/data_path.py --sides --workers 1 2
"""

import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from measure import ROOT, Report, command, parse, per_second, race
from mmengine.config import Config
from mmengine.dataset import default_collate
from mmengine.registry import DefaultScope
from mmengine.runner import Runner
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import v2

from hierpretrain.apis import load_config
from hierpretrain.datasets import FolderDataset, HierarchicalDataset
from hierpretrain.datasets.loading import open_rgb
from hierpretrain.registry import TRANSFORMS

JITTER = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
LEAST = 0.2  # of a picture that a view shows
TORCHVISION_JITTER, OUR_JITTER, SMALLER, IN_MEMORY, VERSION_1, VERSION_2, MMPRETRAIN, LIMIT = (
    "ours, torchvision/ColorJitter",
    "ours",
    "ours, LoadRGB(min_side)",
    "ours, pixels in memory",
    "torchvision, pictures",
    "torchvision, tensors",
    "mmpretrain, no hue",
    "limit: decoding",
)


def write_jpegs(folder: Path, side: int, number: int) -> list[Path]:
    """Writes JPEGs of ``side`` x 3/4 ``side`` px with as much detail as photographs have, about 1.5 bits a pixel."""
    rng = np.random.default_rng(side)
    folder.mkdir(parents=True)
    for i in range(number):
        height, width = side * 3 // 4, side
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        smooth = np.asarray(coarse.resize((width, height), Image.BICUBIC)).astype(np.int16)
        pixels = (smooth + rng.integers(-6, 7, smooth.shape)).clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.jpg", quality=85)
    return sorted(folder.iterdir())


def view_config(size: int, jitter: str) -> list[dict[str, Any]]:
    """Returns a view's transforms as our configs write them."""
    return [
        dict(type="torchvision/RandomResizedCrop", size=size, scale=(LEAST, 1.0), interpolation="bilinear"),
        dict(type="RandomApply", transforms=[dict(type=jitter, **JITTER)], prob=0.8),
        dict(type="torchvision/RandomGrayscale", p=0.2),
    ]


def our_pipeline(size: int, jitter: str, load: Any = None) -> list[Any]:
    """Returns the pipeline of our configs; ``load`` takes the place of ``LoadRGB``."""
    views = dict(type="Views", transforms=view_config(size, jitter), num_views=2)
    return [load or dict(type="LoadRGB"), views, dict(type="PackInputs", meta_keys=("sample_idx", "img_path"))]


def of_pictures(size: int, jitter: Callable[..., Any] | None = None) -> Callable[[str], list[Tensor]]:
    """Returns what one writes with torchvision's first transforms."""
    view = transforms.Compose(
        [
            transforms.RandomResizedCrop(size, (LEAST, 1.0)),
            jitter or transforms.RandomApply([transforms.ColorJitter(**JITTER)], 0.8),
            transforms.RandomGrayscale(0.2),
            transforms.PILToTensor(),
        ]
    )

    def load(path: str) -> list[Tensor]:
        image = Image.open(path).convert("RGB")
        return [view(image), view(image)]

    return load


def of_tensors(size: int) -> Callable[[str], list[Tensor]]:
    """Returns what torchvision's documentation calls the fast way: decoded to a uint8 tensor that stays one."""
    view = v2.Compose(
        [
            v2.RandomResizedCrop(size, (LEAST, 1.0), antialias=True),
            v2.RandomApply([v2.ColorJitter(**JITTER)], 0.8),
            v2.RandomGrayscale(0.2),
        ]
    )

    def load(path: str) -> list[Tensor]:
        image = decode_image(path, ImageReadMode.RGB)
        return [view(image), view(image)]

    return load


def of_mmpretrain(size: int) -> Callable[[str], dict[str, Any]]:
    """Returns mmpretrain's pipeline for SimCLR, less its flip and blur."""
    jitter = {key: value for key, value in JITTER.items() if key != "hue"}
    view = [
        dict(type="mmpretrain.RandomResizedCrop", scale=size, crop_ratio_range=(LEAST, 1.0), backend="cv2"),
        dict(type="RandomApply", transforms=[dict(type="mmpretrain.ColorJitter", **jitter)], prob=0.8),
        dict(type="mmpretrain.RandomGrayscale", prob=0.2, keep_channels=True, channel_weights=(0.114, 0.587, 0.2989)),
    ]
    steps = [
        TRANSFORMS.build(dict(type="LoadImageFromFile", _scope_="mmpretrain")),
        TRANSFORMS.build(dict(type="mmpretrain.MultiView", num_views=2, transforms=[view])),
        TRANSFORMS.build(dict(type="mmpretrain.PackInputs")),
    ]

    def load(path: str) -> dict[str, Any]:
        results: Any = {"img_path": path, "gt_label": 0}
        for step in steps:
            results = step(results)
        return results

    return load


@DefaultScope.overwrite_default_scope("hierpretrain")
def contenders(paths: Sequence[Path], size: int) -> dict[str, Callable[[], list[Any]]]:
    """Returns the contenders, each of which makes two views of ``size`` px of all images, files of one class folder."""
    names = [str(path) for path in paths]
    pixels = {name: open_rgb(name) for name in names}

    def ours(load: Any = None, jitter: str = "PILColorJitter") -> Callable[[], list[Any]]:
        data = FolderDataset(data_root=str(paths[0].parents[1]), pipeline=our_pipeline(size, jitter, load))
        return lambda: [data[i] for i in range(len(data))]

    def all_of(load: Callable[[str], Any]) -> Callable[[], list[Any]]:
        return lambda: [load(name) for name in names]

    min_side = int(size / (LEAST * 3 / 4) ** 0.5) + 1
    return {
        TORCHVISION_JITTER: ours(jitter="torchvision/ColorJitter"),
        OUR_JITTER: ours(),
        SMALLER: ours(dict(type="LoadRGB", min_side=min_side)),
        IN_MEMORY: ours(lambda results: {**results, "img": pixels[results["img_path"]]}),
        VERSION_1: all_of(of_pictures(size)),
        VERSION_2: all_of(of_tensors(size)),
        MMPRETRAIN: all_of(of_mmpretrain(size)),
        LIMIT: all_of(lambda name: Image.open(name).load()),
    }


def loader_rates(config: Config, workers: Sequence[int], batches: int) -> dict[str, Callable[[], int]]:
    """Returns contenders that draw ``batches`` batches from the config's loader."""
    data, sampler = _data_and_sampler(config)

    def draw(workers: int, ahead: int | None) -> Callable[[], int]:
        loader = DataLoader(
            data,
            batch_sampler=list(sampler)[:batches],
            num_workers=workers,
            collate_fn=default_collate,  # as a Runner's: two tensors a batch, and not two an image
            pin_memory=torch.cuda.is_available(),
            prefetch_factor=ahead,
            persistent_workers=workers > 0,
        )
        return lambda: sum(len(batch["data_samples"]) for batch in loader)

    found = {"no workers": draw(0, None)}
    for number in workers:
        found |= {f"{number} workers, {ahead} batches ahead": draw(number, ahead) for ahead in (2, 8)}
    return found


@DefaultScope.overwrite_default_scope("hierpretrain")
def _data_and_sampler(config: Config) -> tuple[HierarchicalDataset, Any]:
    loader = Runner.build_dataloader(config.train_dataloader, seed=0)
    return loader.dataset, loader.batch_sampler


def main() -> None:
    """Prints a comparison per kind of image."""
    parser = command(__doc__)
    parser.set_defaults(rounds=5)
    parser.add_argument("--sides", nargs="*", type=int, default=[250, 500, 1000, 2000], help="widths of the JPEGs, px")
    parser.add_argument("--images", type=int, default=8, help="JPEGs of a size; eight times as many emoji")
    parser.add_argument("--workers", nargs="*", type=int, default=[], help="processes of a DataLoader")
    args = parse(parser)
    torch.set_num_threads(args.threads or 1)  # as in a DataLoader's worker
    cv2.setNumThreads(0)  # as our default_runtime.py says
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002
    torch.manual_seed(0)
    report = Report("data_path", "From image files to two views, one process", "pixels")
    config = load_config(ROOT / "configs/himulcone_emoji.py", data_root=str(ROOT / "data/emoji64"))
    emoji, _ = _data_and_sampler(config)
    with tempfile.TemporaryDirectory() as folder:
        some = Path(folder) / "emoji" / "class"
        some.mkdir(parents=True)
        chosen = np.random.default_rng(0).permutation(len(emoji))[: 8 * args.images]
        for number, row in enumerate(chosen.tolist()):
            shutil.copy(emoji.image_paths[row], some / f"{number}.webp")
        cases = [(dict(images="emoji64", pixels=64 * 64), sorted(some.iterdir()), 48)]
        for side in args.sides:
            paths = write_jpegs(Path(folder) / str(side) / "class", side, args.images)
            cases.append((dict(images="JPEG", pixels=side * (side * 3 // 4)), paths, 224))
        for case, paths, size in cases:
            seconds = race(contenders(paths, size), rounds=args.rounds, warm_up=1)
            rates = per_second(len(paths), seconds)
            report.add({**case, "view": size}, seconds, against=VERSION_1, images_per_second=rates)
    if args.workers:
        batches = 16
        seconds = race(loader_rates(config, args.workers, batches), rounds=args.rounds, warm_up=1)
        rates = per_second(batches * config.train_dataloader.batch_size, seconds)
        report.add({"loader of": "emoji64"}, seconds, against="no workers", images_per_second=rates)
    report.save(args.save)


if __name__ == "__main__":
    main()
