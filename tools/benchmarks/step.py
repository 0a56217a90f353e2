"""Times whole training steps: MMEngine's Runner with a config of ours against a bare PyTorch loop.

The two take turns, a block of steps each, in one process, with the same batches of images; nobody's workers load images
in another's turn. A step is all that happens from one to the next: waiting for the batch, preprocessing, model, loss,
optimizer, hooks, logging. The bare loop is what one would write without any of this: a data set of tensors,
torchvision's transforms, the same modules, the loss as a function, the optimizer. The limit is that loop with one batch
over and over. Validation and checkpoints are left out.

The default is the emoji config. ``--options`` races settings of it instead, on one batch. ``--synthetic`` takes a
ResNet-50 and random pixels that lie in memory, against plain SupCon, to see what our parts cost a GPU: like the tools,
it runs on a GPU if there is one.

Examples:
    python tools/benchmarks/step.py
    python tools/benchmarks/step.py --amp --batch-sizes 64
    python tools/benchmarks/step.py --options --threads 2
    python tools/benchmarks/step.py --synthetic --amp --batch-sizes 64 256
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import gc
import io
import math
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from measure import ROOT, Report, command, parse, per_second, race, synchronize
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms import ColorJitter, Compose, PILToTensor, RandomApply, RandomGrayscale, RandomResizedCrop

from hierpretrain.apis import build_runner, load_config
from hierpretrain.datasets import Annotations, HierarchicalDataset
from hierpretrain.functional import hierarchical_contrastive_loss, supcon_loss
from hierpretrain.registry import DATASETS

WARM_UP = 4  # steps of each that are not counted
BAR = 1.05  # of the Runner, in times of the bare loop
OURS, BARE, LIMIT = "Runner, our config", "bare loop", "bare loop, one batch"

Loss = Callable[[Tensor, Tensor], Tensor]


# ---------------------------------------------------------------- the bare loop
class BareStep:
    """A training step without any of ours or MMEngine's: copies of the Runner's modules, a new optimizer."""

    def __init__(self, runner: Runner, loss: Loss) -> None:
        model, options = runner.model, dict(runner.cfg.optim_wrapper.optimizer)
        self.encoder, self.projection = copy.deepcopy(model.backbone), copy.deepcopy(model.projection)
        weights = [*self.encoder.parameters(), *self.projection.parameters()]
        self.optimizer = getattr(torch.optim, options.pop("type"))(weights, **options)
        self.mean, self.std = model.data_preprocessor.mean, model.data_preprocessor.std
        self.memory_format = model.data_preprocessor.memory_format
        self.amp = runner.cfg.optim_wrapper.type == "BF16OptimWrapper"
        self.device, self.loss = weights[0].device, loss
        self.mark: Callable[[str], None] = lambda phase: None  # is told where a phase of the step ends

    def __call__(self, views: list[Tensor], labels: Tensor) -> Tensor:
        """Trains on ``views``, (B, 3, H, W) uint8 each, with ``labels`` (B, L); returns the loss."""
        images = torch.cat([view.to(self.device, non_blocking=True) for view in views])
        images = images.to(torch.float32, memory_format=self.memory_format).sub_(self.mean).div_(self.std)
        with torch.autocast(self.device.type, dtype=torch.bfloat16) if self.amp else nullcontext():
            vectors = self.encoder(images)[-1]  # of a transformer (N, D), else a feature map
            features = self.projection(vectors.mean((2, 3)) if vectors.ndim == 4 else vectors)
            features = normalize(features.float(), dim=1)
            self.mark("forward")
            loss = self.loss(features, labels.to(self.device, non_blocking=True).repeat(len(views), 1))
            self.mark("loss")
        self.optimizer.zero_grad()
        loss.backward()
        self.mark("backward")
        self.optimizer.step()
        self.mark("optimizer")
        return loss.detach()


def time_phases(step: BareStep, views: list[Tensor], labels: Tensor) -> dict[str, float]:
    """Returns the seconds of forward, loss, backward and optimizer of a step, on a GPU by its own clock."""
    on_gpu = step.device.type == "cuda"
    marks: list[tuple[str, Any]] = []

    def mark(phase: str) -> None:
        if on_gpu:
            event = torch.cuda.Event(enable_timing=True)
            event.record()
        marks.append((phase, event if on_gpu else time.perf_counter()))

    synchronize()
    mark("start")
    step.mark = mark
    step(views, labels)
    step.mark = lambda phase: None
    synchronize()
    between = (lambda a, b: a.elapsed_time(b) / 1e3) if on_gpu else (lambda a, b: b - a)
    return {phase: between(before, after) for (_, before), (phase, after) in pairwise(marks)}


class BareImages(Dataset):
    """The images of a data set as one would load them, in two views."""

    def __init__(self, ours: HierarchicalDataset, view: Callable[[Image.Image], Tensor]) -> None:
        self.paths, self.labels, self.view = ours.image_paths, ours.labels, view

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[list[Tensor], Tensor]:
        image = Image.open(self.paths[index]).convert("RGB")
        return [self.view(image), self.view(image)], self.labels[index]


EMOJI_VIEW = Compose(
    [
        RandomResizedCrop(48, (0.3, 1.0)),
        RandomApply([ColorJitter(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)], 0.8),
        RandomGrayscale(0.2),
        PILToTensor(),
    ]
)


# ---------------------------------------------------------------- pixels in memory
@DATASETS.register_module(force=True)
class Pixels(HierarchicalDataset):
    """Random pixels in two views, of a tree with four images a leaf and four nodes below a node."""

    def __init__(self, *, images: int, size: int, **options: Any) -> None:
        self.images = images
        self.pool = torch.randint(256, (64, 3, size, size), generator=torch.Generator().manual_seed(0)).byte()
        super().__init__(data_root=".", check_files=False, **options)

    def read(self) -> Annotations:
        """Makes the labels up."""
        labels = [(f"{i // 64}", f"{i // 16}", f"{i // 4}") for i in range(self.images)]
        names = [f"{i}.png" for i in range(self.images)]
        return Annotations(names, labels, ["train"] * self.images, ("a", "b", "c"), ".", source="random pixels")

    def views(self, index: int) -> list[Tensor]:
        """Returns two (3, size, size) uint8 images."""
        return [self.pool[(2 * index + view) % len(self.pool)] for view in range(2)]

    def get_data_info(self, index: int) -> dict[str, Any]:
        """Adds the views, which the pipeline only packs."""
        return {**super().get_data_info(index), "img": self.views(index)}


class BarePixels(Dataset):
    """The same pixels as plain tensors."""

    def __init__(self, ours: Pixels) -> None:
        self.ours, self.labels = ours, ours.labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[list[Tensor], Tensor]:
        return self.ours.views(index), self.labels[index]


# ---------------------------------------------------------------- taking turns
class _Done(Exception):
    """Enough steps are timed."""


class Block:
    """The steps of one contender in its turn.

    Attributes:
        losses: Of all steps.
        seconds: Of a step, the mean of those after the first ones.
        memory: Peak bytes on a GPU beyond what is held before a step.
    """

    def __init__(self, steps: int) -> None:
        self.steps, self.losses, self.seconds, self.memory = WARM_UP + steps, [], 0.0, 0

    def done(self, loss: Tensor) -> bool:
        """Takes note of a step; returns whether it was the last."""
        self.losses.append(loss.detach())
        if len(self.losses) == WARM_UP:
            synchronize()
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
                self.memory = -torch.cuda.memory_allocated()
            self.seconds = -time.perf_counter()
        if len(self.losses) < self.steps:
            return False
        synchronize()
        self.seconds = (self.seconds + time.perf_counter()) / (self.steps - WARM_UP)
        if torch.cuda.is_available():
            self.memory += torch.cuda.max_memory_allocated()
        self.losses = [loss.item() for loss in self.losses]
        return True


class Turns(Hook):
    """Times a block of the Runner's steps and, before or after it, one of the bare loop and one of the limit.

    Args:
        bare_data: Makes the data set of the bare loop from the data set of the Runner.
        loss: Loss of the bare loop.
        steps: Number of steps of each that are timed.
        bare_first: Whether the others come before the Runner.
    """

    priority = "VERY_LOW"

    def __init__(
        self, bare_data: Callable[[HierarchicalDataset], Dataset], loss: Loss, steps: int, bare_first: bool
    ) -> None:
        self.bare_data, self.loss, self.bare_first = bare_data, loss, bare_first
        self.blocks = {name: Block(steps) for name in (OURS, BARE, LIMIT)}

    def before_train(self, runner: Runner) -> None:
        """Makes the bare loops, of the weights that training starts from and of the Runner's batches."""
        ours = runner.train_dataloader
        self.loader = DataLoader(
            self.bare_data(ours.dataset),
            batch_sampler=copy.deepcopy(ours.batch_sampler),
            num_workers=ours.num_workers,
            pin_memory=ours.pin_memory,
        )
        self.bare, self.limit = (BareStep(runner, self.loss) for _ in range(2))
        if self.bare_first:
            self.run_bare()

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Takes note of a step of the Runner."""
        if self.blocks[OURS].done(outputs["loss"]):
            raise _Done

    def run_bare(self) -> None:
        """Runs the bare loop and the limit."""
        batches = iter(self.loader)
        for number, batch in enumerate(batches, 1):
            loss = self.bare(*batch)
            if number % 10 == 0:
                loss.item()  # as one logs it
            if self.blocks[BARE].done(loss):
                break
        del batches  # and its workers
        while not self.blocks[LIMIT].done(self.limit(*batch)):
            pass


@contextlib.contextmanager
def quiet_runner(config: Config) -> Iterator[Runner]:
    """Builds a Runner that only trains and whose log and files vanish."""
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.test_cfg = config.test_dataloader = config.test_evaluator = None
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        config.work_dir = folder
        config.experiment_name = Path(folder).name  # MMEngine keeps its logger and more by this name
        yield build_runner(config)


def take_turns(
    config: Config, bare_data: Callable[[HierarchicalDataset], Dataset], loss: Loss, steps: int, rounds: int
) -> list[dict[str, Block]]:
    """Trains ``rounds`` times from the start, by the Runner and by the bare loop; returns the blocks of each round."""
    found = []
    for number in range(rounds):
        turns = Turns(bare_data, loss, steps, bare_first=bool(number % 2))
        with quiet_runner(copy.deepcopy(config)) as runner:
            runner.register_hook(turns)
            with contextlib.suppress(_Done):
                runner.train()
        del runner  # and its workers
        gc.collect()
        if not turns.bare_first:
            turns.run_bare()
        found.append(turns.blocks)
    return found


OPTIONS = {  # changes of the emoji config, one on top of the other
    "float32": {"model.channels_last": False, "model.data_preprocessor.channels_last": False},
    "channels_last": {"model.channels_last": True, "model.data_preprocessor.channels_last": True},
    "... and fused AdamW": {"optim_wrapper.optimizer.fused": True},
    "... and bfloat16 (--amp)": {"optim_wrapper.type": "BF16OptimWrapper"},
}


def option_contenders(batch_size: int) -> dict[str, Callable[[], float]]:
    """Returns training steps on one batch, each of which gives the loss before it, by what the config says."""
    contenders: dict[str, Callable[[], float]] = {}
    changes: dict[str, Any] = {}
    batch = None
    for name, more in OPTIONS.items():
        changes |= more
        config = emoji_config(batch_size)
        config.merge_from_dict(changes)
        config.train_dataloader.num_workers = 0
        with quiet_runner(config) as runner:
            batch = batch or next(iter(runner.build_dataloader(config.train_dataloader)))
            wrapper = runner.build_optim_wrapper(config.optim_wrapper)
        contenders[name] = partial(_step, runner.model.train(), batch, wrapper)
    return contenders


def _step(model: BaseModel, batch: dict[str, Any], wrapper: OptimWrapper) -> float:
    return model.train_step(batch, wrapper)["loss"].item()


def emoji_config(batch_size: int) -> Config:
    """Returns the config that comes first in the documentation, with another batch size."""
    config = load_config(ROOT / "configs/himulcone_emoji.py", data_root=str(ROOT / "data/emoji64"))
    config.train_dataloader.batch_size = batch_size
    return config


BACKBONES = {
    "ResNet-50": (dict(type="ResNet", depth=50), 2048),
    "ViT-B": (dict(type="VisionTransformer", arch="b", img_size=224, patch_size=16), 768),
    "small ResNet": (dict(type="ResNet", depth=18, base_channels=4, stem_channels=4), 32),
}
"""Configs by name, with the size of a vector."""


def synthetic_config(batch_size: int, size: int, steps: int, backbone: str = "ResNet-50") -> Config:
    """Returns the emoji config with one of ``BACKBONES`` and pixels that need no loading."""
    config = emoji_config(batch_size)
    encoder, config.model.projection.in_channels = BACKBONES[backbone]
    config.model.backbone = dict(encoder)
    pack = dict(type="PackInputs", meta_keys=("sample_idx",))
    dataset = dict(type="Pixels", images=64 * math.ceil(batch_size * (steps + 8) / 64), size=size, pipeline=[pack])
    config.train_dataloader.dataset = dataset
    config.train_dataloader.num_workers = 4 if torch.cuda.is_available() else 1
    return config


def main() -> None:
    """Prints a comparison per batch size, and whether the bar is met."""
    parser = command(__doc__)
    parser.set_defaults(rounds=6)
    parser.add_argument("--steps", type=int, default=20, help="timed in a block of one contender")
    parser.add_argument("--batch-sizes", nargs="+", type=int, help="images; by default 8, 64 and 256")
    parser.add_argument("--amp", action="store_true", help="bfloat16, in both")
    parser.add_argument("--options", action="store_true", help="settings of the config against each other")
    parser.add_argument("--synthetic", action="store_true", help="ResNet-50 and pixels in memory, against SupCon")
    parser.add_argument("--size", type=int, default=224, help="of the synthetic images, px")
    args = parse(parser)
    topic = "step_options" if args.options else "step_synthetic" if args.synthetic else "step"
    report = Report(topic, "One training step: MMEngine's Runner with our config, and bare PyTorch", "images")
    if args.options:
        for batch_size in args.batch_sizes or (64,):
            seconds = race(option_contenders(batch_size), rounds=args.rounds)
            report.add({"images": batch_size, "views": 2}, seconds, against="channels_last")
    else:
        _race_bare(args, report)
    report.save(args.save)


def _race_bare(args: argparse.Namespace, report: Report) -> None:
    ratios = {}
    for batch_size in args.batch_sizes or (8, 64, 256):
        steps = args.steps
        if args.synthetic:
            config = synthetic_config(batch_size, args.size, WARM_UP + steps)
            bare_data, loss = BarePixels, lambda features, labels: supcon_loss(features, labels[:, -1])
        else:
            config = emoji_config(batch_size)
            steps = min(steps, 7_461 // batch_size - WARM_UP)  # within one epoch
            bare_data = lambda ours: BareImages(ours, EMOJI_VIEW)  # noqa: E731
            loss = lambda features, labels: hierarchical_contrastive_loss(features, labels, constraint="pair")  # noqa: E731
        if args.amp:
            config.optim_wrapper.type = "BF16OptimWrapper"
        rounds = take_turns(config, bare_data, loss, steps, args.rounds)
        seconds = {name: [blocks[name].seconds for blocks in rounds] for name in (OURS, BARE, LIMIT)}
        memory = {name: rounds[-1][name].memory for name in seconds} if torch.cuda.is_available() else None
        case = {"images": batch_size, "views": 2, "amp": args.amp, "data": "synthetic" if args.synthetic else "emoji64"}
        rates = per_second(batch_size, seconds)
        report.add(case, seconds, against=BARE, memory=memory, images_per_second=rates)
        ratios[batch_size] = report.rows[-3]["ratio"]
    usual = 64 if 64 in ratios else max(ratios)
    report.bar(f"step of {usual} images, in times of the bare loop", ratios[usual], BAR)


if __name__ == "__main__":
    main()
