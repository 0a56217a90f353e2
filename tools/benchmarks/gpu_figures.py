"""Measures what a GPU takes: each function is a part of `gpu.py`, and returns the rows of a report.

The comparisons are those of the other commands of this folder, at the sizes of a GPU.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import data_path
import gradient_caching
import losses
import retrieval
import step
from gpu_checks import on_device
from measure import Report, fitting, peak_memory, per_second, race
from torch import Tensor
from torch.utils.data import DataLoader

from hierpretrain.functional import hierarchical_contrastive_loss

Rows = list[dict[str, Any]]
OURS, OTHERS = "HiMulConE, pair", "SupCon of PML"
PHASES = ("forward", "loss", "backward", "optimizer")


def loss_figures(device: str, rows: int, dim: int, autocast: bool) -> Rows:
    """Times the losses of one size of a batch, and measures their memory."""
    report = Report("losses", "Losses", "rows")
    options = argparse.Namespace(dim=dim, levels=losses.BAR_LEVELS, device=device, autocast=autocast)
    losses.compare(report, rows, options, rounds=5 if rows > 16_384 else 9)
    return report.rows


def step_figures(device: str, backbone: str, images: int, size: int, steps: int) -> Rows:
    """Times whole steps in bfloat16: MMEngine's Runner with our config against a bare loop with another loss."""
    report = Report("step", "Steps", "images")
    with on_device(device):
        config = _step_config(backbone, images, size, steps)
        blocks = step.take_turns(config, step.BarePixels, _loss(OTHERS), steps, rounds=2)
    names = {step.OURS: f"Runner, {OURS}", step.BARE: f"bare loop, {OTHERS}", step.LIMIT: "the same, one batch"}
    seconds = {name: [of_round[key].seconds for of_round in blocks] for key, name in names.items()}
    memory = {name: blocks[-1][key].memory for key, name in names.items()}
    case = {"backbone": backbone, "images": images, "views": 2, "pixels": size}
    rates = per_second(images, seconds)
    against = names[step.BARE]
    report.add(case, seconds, against=against, memory=memory if device == "cuda" else None, images_per_second=rates)
    return report.rows


def phase_figures(device: str, backbone: str, images: int, size: int, steps: int) -> Rows:
    """Times forward, loss, backward and optimizer of a bare step in bfloat16, with our loss and with another."""
    report = Report("phases", "Phases of a step", "images")
    with on_device(device), step.quiet_runner(_step_config(backbone, images, size, steps)) as runner:
        data = step.BarePixels(runner.build_dataloader(runner.cfg.train_dataloader).dataset)
        views, labels = next(iter(DataLoader(data, images)))
        bare = {name: step.BareStep(runner, _loss(name)) for name in (OURS, OTHERS)}
    del runner
    views, labels = [view.to(device) for view in views], labels.to(device)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in bare}
    for number in range(-step.WARM_UP, steps):
        for name in list(bare) if number % 2 else list(bare)[::-1]:
            phases = step.time_phases(bare[name], views, labels)
            if number >= 0:
                rounds[name].append(phases)
    seconds = {name: [sum(phases.values()) for phases in of_rounds] for name, of_rounds in rounds.items()}
    medians = {
        f"{phase}_ms": {
            name: 1e3 * statistics.median(phases[phase] for phases in of_rounds) for name, of_rounds in rounds.items()
        }
        for phase in PHASES
    }
    memory = {name: peak_memory(partial(bare[name], views, labels), device=device) for name in bare}
    case = {"backbone": backbone, "images": images, "views": 2, "pixels": size}
    report.add(case, seconds, against=OTHERS, memory=memory, **medians)
    return report.rows


def grad_cache_figures(device: str, rows: int, size: int, depth: int, channels: int, pixels: int) -> Rows:
    """Times steps with and without gradient caching, and measures their memory."""
    report = Report("gradient_caching", "Gradient caching", "rows")
    data = gradient_caching.batch(rows, pixels)
    made = gradient_caching.contenders(data, [size], depth, channels, device)
    steps, too_large = fitting({name: taken for name, (_, taken) in made.items()})
    seconds = race(steps, rounds=3, warm_up=0)
    memory = {name: peak_memory(taken, device=device) for name, taken in steps.items()}
    case = {"rows": rows, "pixels": pixels, "ResNet": depth}
    by_hand = f"{gradient_caching.BY_HAND}, {size}"
    report.add(case, seconds, against=by_hand, memory=memory, out_of_memory=too_large)
    return report.rows


def loader_figures(device: str, images: int, side: int, size: int, batches: int) -> Rows:
    """Counts the images a second that the data path makes views of, by number of workers; no GPU takes part."""
    report = Report("data_path", "From image files to two views", "workers")
    cv2.setNumThreads(0)  # as our default_runtime.py says
    cores = len(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        for number, path in enumerate(data_path.write_jpegs(Path(folder, "written"), side, images)):
            for copy in range(8):  # other names for it: what they cost does not depend on which image it is
                of_class = Path(folder, "photos", f"{number % 8}", f"{copy}")
                of_class.mkdir(parents=True, exist_ok=True)
                os.link(path, of_class / path.name)
        shutil.rmtree(Path(folder, "written"))
        config = step.emoji_config(64 if images > 64 else 8)
        pipeline = data_path.our_pipeline(size, "PILColorJitter", dict(type="LoadRGB", min_side=int(2.6 * size)))
        config.train_dataloader.dataset = dict(
            type="FolderDataset", data_root=str(Path(folder, "photos")), pipeline=pipeline
        )
        workers = sorted({max(1, cores // 2), cores})
        made = data_path.loader_rates(config, workers, batches)
        made = {f"{number} workers": made[f"{number} workers, 2 batches ahead"] for number in workers}
        seconds = race(made, rounds=2, warm_up=1)  # the first time, the workers start
        rates = per_second(batches * config.train_dataloader.batch_size, seconds)
        report.add({"JPEG of px": side, "view": size, "cores": cores}, seconds, images_per_second=rates)
    return report.rows


def retrieval_figures(device: str, queries: int, gallery: int, per_class: int) -> Rows:
    """Times the retrieval metrics, which the CPU computes, against faiss's search for the nearest ten on the CPU.

    A bare search on the device is beside them.
    """
    report = Report("retrieval", "Retrieval metrics", "gallery")
    sets = retrieval.embedded(queries, gallery, 128, per_class, None)
    made = retrieval.contenders(sets, device)
    query, items = sets[0].to(device), sets[2].to(device)

    def search() -> list[Tensor]:
        return [(rows @ items.T).topk(min(10, gallery)).indices for rows in query.split(2048)]

    on_the_device = f"torch, nearest 10, {device}"
    kept = (retrieval.OURS, retrieval.NO_MAP, retrieval.PML, retrieval.LIMIT)
    steps, too_large = fitting({on_the_device: search, **{name: made[name] for name in kept}})
    seconds = race(steps, rounds=2, warm_up=0)
    case = {"queries": queries, "gallery": gallery, "dim": 128, "per_class": per_class}
    report.add(case, seconds, against=retrieval.LIMIT, out_of_memory=too_large)
    return report.rows


def _step_config(backbone: str, images: int, size: int, steps: int) -> Any:
    config = step.synthetic_config(images, size, step.WARM_UP + steps, backbone)
    config.optim_wrapper.type = "BF16OptimWrapper"
    return config


def _loss(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    if name == OURS:
        return partial(hierarchical_contrastive_loss, constraint="pair")
    return losses.contenders()[losses.PML]
