"""Checks that what runs on a GPU gives what a CPU gives: each function is a part of `gpu.py`, and returns its checks.

A check is what was compared, by how much the two differ at most, and by how much they may.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import gradient_caching
import losses
import mmengine.device.utils
import retrieval
import torch
import torch.distributed as dist
from measure import ROOT
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from processes import run_ranks
from step import emoji_config, quiet_runner
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from hierpretrain.apis import build_runner
from hierpretrain.functional import hierarchical_contrastive_loss, retrieval_metrics
from hierpretrain.models.gather import _Gather, gather_rows
from hierpretrain.registry import MODELS, OPTIM_WRAPPERS
from hierpretrain.taxonomy import Taxonomy

sys.path.insert(0, str(ROOT))  # the oracles of the tests, before a package of others that has this name too
with mock.patch.dict(os.environ):  # whose processes have one thread each
    from tests.conftest import random_features, random_labels
    from tests.models.every_loss import every_loss
    from tests.reference import contrastive as reference
    from tests.reference.paths import random_paths

Check = dict[str, Any]
Loss = Callable[[Tensor, Tensor], Tensor]
IN_CHUNKS = 10_240  # rows, of which a GPU holds 6,553 at a time


def check(what: str, error: float, bar: float) -> Check:
    """Returns a check, which is passed if the error is at most the bar; NaN is not.

    Example:
        >>> check("value", float("nan"), 0.1)["passed"]
        False
    """
    return {"what": what, "error": float(error), "bar": bar, "passed": bool(error <= bar)}


def difference(found: Tensor, wanted: Tensor) -> float:
    """Returns the norm of the difference in times of the norm of what is wanted.

    Example:
        >>> difference(torch.tensor([3.0, 4.4]), torch.tensor([3.0, 4.0]))
        0.08
    """
    found, wanted = found.detach().cpu().double(), wanted.detach().cpu().double()
    return round(float((found - wanted).norm() / wanted.norm().clamp(min=1e-30)), 12)


def value_and_gradient(loss: Loss, features: Tensor, labels: Tensor) -> Tensor:
    """Returns the value of a loss and its gradient, in one vector on the CPU."""
    value, gradient = losses.step(loss, features, labels)
    return torch.cat([value.reshape(1), gradient.flatten()]).cpu().double()


def largest(found: Mapping[str, float]) -> tuple[str, float]:
    """Returns the name and the value of the largest error, or of one that is no number."""
    name = max(found, key=lambda name: (found[name] != found[name], found[name]))
    return name, found[name]


def of_types(what: str, errors: Mapping[torch.dtype, Mapping[str, float]]) -> list[Check]:
    """Returns a check for each type of number, of the case with the largest error."""
    checks = []
    for dtype, of_dtype in errors.items():
        name, error = largest(of_dtype)
        bar = 1e-9 if dtype == torch.float64 else 1e-4
        checks.append(check(f"{what}, {str(dtype)[6:]}, worst of {len(of_dtype)}: {name}", error, bar))
    return checks


# ---------------------------------------------------------------- losses
def readable(device: str, small: bool) -> list[Check]:
    """Compares value and gradient of the paper's losses, in all options, with loops over pairs on the CPU."""
    errors: dict[torch.dtype, dict[str, float]] = {torch.float64: {}, torch.float32: {}}
    for paths, positives, constraint, grad in itertools.product(
        (False, True), ("share", "diverge"), (None, "pair", "anchor", "level"), (False, True)
    ):
        features = random_features(1, rows=10)
        labels = random_paths(1, rows=10, branching=3) if paths else random_labels(1, rows=10)
        options = dict(positives=positives, constraint=constraint, constraint_grad=grad)
        wanted = value_and_gradient(
            partial(reference.hierarchical_contrastive_loss, **options),
            features,
            labels,  # type: ignore[arg-type]
        )
        for dtype, of_dtype in errors.items():
            loss = partial(hierarchical_contrastive_loss, **options)  # type: ignore[arg-type]
            found = value_and_gradient(loss, features.detach().to(device, dtype), labels.to(device))
            name = f"{positives}, {constraint or 'no constraint'}{', its gradient' * grad}{', several paths' * paths}"
            of_dtype[name] = difference(found, wanted)
    return of_types("loops over pairs, float64, CPU", errors)


def registered(device: str, small: bool) -> list[Check]:
    """Compares value and gradient of every registered loss with the CPU's in float64."""
    images, dim, tree = (12 if small else 256), 16, Taxonomy([("a", "x"), ("a", "y"), ("b", "z")], ("kind", "thing"))
    generator = torch.Generator().manual_seed(0)
    paths = torch.tensor([[0, 0], [0, 1], [1, 2]])[torch.randint(3, (images,), generator=generator)]
    features = normalize(torch.randn(2 * images, dim, dtype=torch.float64, generator=generator), dim=1)
    labels, numbers = paths.repeat(2, 1), torch.arange(images).repeat(2)
    errors: dict[torch.dtype, dict[str, float]] = {torch.float64: {}, torch.float32: {}}
    # LevelTripletLoss wants the triplets of its own sampler
    for config in every_loss(but=("LevelTripletLoss",), num_classes=3, in_channels=dim):
        if isinstance(config.get("num_classes"), list):
            config["num_classes"] = [2, 3]

        def build(config: dict[str, Any] = config) -> nn.Module:
            torch.manual_seed(0)
            module = MODELS.build(dict(config))
            if hasattr(module, "set_taxonomy"):
                module.set_taxonomy(tree)
            return module

        def of(module: nn.Module, features: Tensor) -> Tensor:
            own = [tensor.to(features.device) for tensor in (labels, numbers)]
            return value_and_gradient(lambda rows, classes: module(rows, classes, own[1]), features, own[0])

        wanted = of(build().double(), features)
        for dtype, of_dtype in errors.items():
            of_dtype[config["type"]] = difference(of(build().to(device, dtype), features.to(device, dtype)), wanted)
    return of_types("registered losses, CPU in float64", errors)


def in_chunks(device: str, small: bool) -> list[Check]:
    """Compares the losses of a batch that is computed in several chunks with the CPU's in float64."""
    rows = 600 if small else IN_CHUNKS
    features, labels = losses.batch(rows, 32 if small else 128, losses.BAR_LEVELS, "cpu")
    errors: dict[torch.dtype, dict[str, float]] = {torch.float64: {}, torch.float32: {}}
    for name in (losses.HIMULCON, losses.PAIR, losses.ANCHOR, losses.SUPCON):
        loss = losses.contenders()[name]
        wanted = value_and_gradient(loss, features.double(), labels)
        for dtype, of_dtype in errors.items():
            of_dtype[name] = difference(value_and_gradient(loss, features.to(device, dtype), labels.to(device)), wanted)
    return of_types(f"{rows:,} rows, CPU in float64", errors)


def autocast(device: str, small: bool) -> list[Check]:
    """Compares losses that are called under autocast, and with features in half precision, with the plain ones."""
    features, labels = losses.batch(64 if small else 1024, 32, 3, device)
    checks = []
    for dtype in (torch.bfloat16, torch.float16):
        errors = {}
        for name in (losses.HIMULCON, losses.PAIR, losses.SUPCON):
            loss = losses.contenders()[name]

            def under_autocast(rows: Tensor, classes: Tensor, loss: Loss = loss, dtype: torch.dtype = dtype) -> Tensor:
                with torch.autocast(device, dtype):
                    return loss(rows, classes)

            plain = value_and_gradient(loss, features, labels)
            errors[f"{name}, autocast"] = difference(value_and_gradient(under_autocast, features, labels), plain)
            half = features.to(dtype)
            wanted = losses.step(loss, half.float(), labels)[0]
            errors[f"{name}, features"] = difference(losses.step(loss, half, labels)[0], wanted)
        name, error = largest(errors)
        checks.append(check(f"{str(dtype)[6:]}, worst of {len(errors)}: {name}", error, 1e-6))
    return checks


# ---------------------------------------------------------------- processes
def gather(device: str, small: bool) -> list[Check]:
    """Checks the exchange on NCCL (gloo on a CPU): on one process the collectives alone, on more the losses too."""
    on_gpu = device == "cuda"
    sizes = sorted({1, 2, torch.cuda.device_count()}) if on_gpu else [1, 2]
    checks = []
    for world_size in sizes:
        if on_gpu and world_size > torch.cuda.device_count():
            continue
        of_ranks = run_ranks(_gather_errors, world_size, "nccl" if on_gpu else "gloo", device, 48 if small else 4096)
        for name, bar in {"rows": 0.0, "gradient": 1e-6, "losses": 1e-4}.items():
            if name in of_ranks[0]:
                what = f"{'NCCL' if on_gpu else 'gloo'}, {world_size} processes, {name}"
                checks.append(check(what, max(errors[name] for errors in of_ranks), bar))
    return checks


def _gather_errors(device: str, rows: int) -> dict[str, float]:
    """Returns how wrong the gathered rows, their gradient, and the losses are, on this process."""
    rank, world_size = dist.get_rank(), dist.get_world_size()
    errors: dict[str, float] = {"rows": 0.0, "gradient": 0.0}
    counts = [3 + other for other in range(world_size)]  # uneven
    for dtype in (torch.int64, torch.float64, torch.float32, torch.bfloat16):
        everyone = (torch.arange(sum(counts) * 2).reshape(-1, 2) % 100).to(device, dtype)
        own = everyone.split(counts)[rank].clone().requires_grad_(dtype.is_floating_point)
        found = _Gather.apply(own, counts)  # gather_rows would exchange nothing on one process
        errors["rows"] = max(errors["rows"], difference(found, everyone))
        if dtype.is_floating_point:
            (found * (rank + 1)).sum().backward()
            wanted = torch.full_like(own, sum(range(1, world_size + 1)))
            errors["gradient"] = max(errors["gradient"], difference(own.grad, wanted))
    if world_size > 1:
        features, labels = losses.batch(rows, 32, 3, "cpu")
        cuts = [0, *(rows * (other + 1) // world_size - (other + 1 < world_size) for other in range(world_size))]
        part, errors["losses"] = slice(cuts[rank], cuts[rank + 1]), 0.0
        for constraint in (None, "pair"):
            loss = partial(hierarchical_contrastive_loss, constraint=constraint)  # type: ignore[arg-type]
            value, gradient = losses.step(loss, features.double(), labels)
            found = losses.step(partial(loss, gather=gather_rows), features[part].to(device), labels[part].to(device))
            # each process's backward adds up the gradients of all, which DistributedDataParallel averages
            of_loss = max(difference(found[0], value), difference(found[1] / world_size, gradient[part]))
            errors["losses"] = max(errors["losses"], of_loss)
    return errors


# ---------------------------------------------------------------- training
def grad_cache(device: str, small: bool) -> list[Check]:
    """Compares the gradients of steps with gradient caching with the plain step's."""
    rows, pixels, channels = (10, 16, 4) if small else (256, 64, 32)
    with exact():
        made = gradient_caching.contenders(
            gradient_caching.batch(rows, pixels), [rows // 3, rows // 2], 18, channels, device
        )
        gradients = {name: gradient_caching.gradient(model, step) for name, (model, step) in made.items()}
    plain = gradients.pop(gradient_caching.PLAIN)
    return [check(name, difference(gradient, plain), 1e-4) for name, gradient in gradients.items()]


def sampler_to_step(device: str, small: bool) -> list[Check]:
    """Trains a few steps from the sampler on, on the device and on the CPU; compares images, losses and weights."""
    runs = {}
    for where in (device, "cpu"):
        config = short_config(small)
        config.optim_wrapper.optimizer = dict(type="SGD", lr=0.005)  # Adam would divide noise by noise
        steps = Steps(4)
        with on_device(where), exact(), quiet_runner(config) as runner:
            runner.register_hook(steps)
            with contextlib.suppress(_Stop):
                runner.train()
            runs[where] = steps, weights_of(runner.model)
    (found, weights), (wanted, wanted_weights) = runs[device], runs["cpu"]
    return [
        check("images of the batches that are others", found.images != wanted.images, 0),
        check("loss of the first step", abs(found.losses[0] / wanted.losses[0] - 1), 1e-4),
        check(
            f"losses of {len(wanted.losses)} steps", difference(*map(torch.tensor, (found.losses, wanted.losses))), 1e-3
        ),
        check("weights after them", difference(weights, wanted_weights), 1e-3),
    ]


def amp(device: str, small: bool) -> list[Check]:
    """Compares bfloat16, and float16 with its scaler, with autocast written by hand, and trains as float32 does."""
    rows, pixels, channels = (16, 32, 8) if small else (128, 64, 32)
    data, checks = gradient_caching.batch(rows, pixels), []

    def made() -> nn.Module:
        return gradient_caching.make(None, 18, channels, device)

    plain = _train(made(), data, "OptimWrapper")[0]
    kinds = {"BF16OptimWrapper": torch.bfloat16}
    kinds |= {"AmpOptimWrapper": torch.float16} if device == "cuda" else {}  # MMEngine's refuses a CPU
    for kind, dtype in kinds.items():
        values, gradient, scale = _train(made(), data, kind)
        model = made()
        with torch.autocast(device, dtype):
            loss = model(**model.data_preprocessor(data, True), mode="loss")["loss"]
        (1024 * loss).backward()  # so that float16 holds small gradients
        by_hand = torch.cat([weight.grad.flatten() for weight in model.parameters()]) / 1024
        checks.append(check(f"{kind}, gradient against autocast's", difference(gradient, by_hand), 0.02))
        error = abs(values[-1] / plain[-1] - 1)
        checks.append(check(f"{kind}, loss after {len(values)} steps against float32's", error, 0.05))
        if scale is not None:
            checks.append(check(f"{kind}, 1 / scale of the loss", 1 / scale if scale else float("nan"), 1.0))
    return checks


def _train(model: nn.Module, data: dict[str, Any], kind: str) -> tuple[list[float], Tensor, float | None]:
    """Returns the losses of some steps on one batch, the gradient of the first step, and the scale of the loss."""
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-4)
    wrapper = OPTIM_WRAPPERS.build(dict(type=kind, optimizer=optimizer))
    gradients: list[Tensor] = []

    def keep(*_: Any) -> None:  # the scaler has unscaled it; of a step that it skips, nobody is told
        if not gradients:
            gradients.append(torch.cat([weight.grad.flatten() for weight in model.parameters()]))

    optimizer.register_step_pre_hook(keep)
    values = [model.train_step(data, wrapper)["loss"].item() for _ in range(40)]
    scaler = getattr(wrapper, "loss_scaler", None)
    return values, gradients[0], None if scaler is None else scaler.get_scale()


def compiled(device: str, small: bool) -> list[Check]:
    """Compares a step of the compiled model, and the compiled losses, with the plain ones."""
    backend = "aot_eager" if small else "inductor"
    rows, pixels, channels = (8, 16, 4) if small else (64, 64, 32)
    data, found = gradient_caching.batch(rows, pixels), {}
    with exact():
        for name in ("plain", "compiled"):
            model = gradient_caching.make(None, 18, channels, device)
            if name == "compiled":
                model.forward = torch.compile(model.forward, backend=backend)
            found[name] = gradient_caching.gradient(model, gradient_caching.ours(model, data))
    checks = [check(f"model and loss, {backend}", difference(found["compiled"], found["plain"]), 1e-3)]
    features, labels = losses.batch(128, 32, 3, device)
    for name in (losses.HIMULCON, losses.PAIR):
        loss = losses.contenders()[name]
        faster = torch.compile(loss, backend=backend)
        error = difference(value_and_gradient(faster, features, labels), value_and_gradient(loss, features, labels))
        checks.append(check(f"{name}, {backend}", error, 1e-6))
    return checks


def resume(device: str, small: bool) -> list[Check]:
    """Compares a training that was stopped and went on with one that was not, in deterministic mode: bit by bit."""
    config, steps = short_config(small), 6
    config.randomness.deterministic = True
    config.default_hooks.checkpoint.update(by_epoch=False, interval=steps // 2)
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    config.test_cfg = config.test_dataloader = config.test_evaluator = None
    weights = {}
    try:
        with on_device(device), tempfile.TemporaryDirectory() as folder:
            for name, stops in {"in one go": [steps], "stopped": [steps // 2, steps]}.items():
                for number, last in enumerate(stops):
                    config.work_dir, config.resume = str(Path(folder, name)), number > 0
                    config.experiment_name = f"{Path(folder).name} {name} {number}"
                    with contextlib.redirect_stdout(io.StringIO()):
                        runner = build_runner(config.copy())
                        runner.register_hook(Steps(last))
                        with contextlib.suppress(_Stop):
                            runner.train()
                    weights[name] = weights_of(runner.model)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.backends.cudnn.deterministic = False
    differ = (weights["in one go"] != weights["stopped"]).sum()
    return [check(f"of {len(weights['stopped']):,} weights and statistics, those that differ", differ, 0)]


# ---------------------------------------------------------------- evaluation
def evaluation(device: str, small: bool) -> list[Check]:
    """Compares the embeddings that a model makes on the device, and the retrieval metrics of these, with the CPU's."""
    number = 40 if small else 2000
    labels = torch.arange(number) % max(number // 25, 2)
    torch.manual_seed(0)
    of_class = torch.rand(int(labels.max()) + 1, 3, 8, 8)  # or rounding alone would rank what is all alike
    pixels = (170 * interpolate(of_class[labels] + torch.rand(number, 3, 8, 8) / 2, size=64)).byte()
    model = MODELS.build(dict(type="HierarchicalContrastive", backbone=dict(type="ResNet", depth=18)))
    model.init_weights()
    embeddings = {}
    with exact(), torch.no_grad():
        for place in ("cpu", device):
            model = model.eval().to(place)
            batches = (model.data_preprocessor({"inputs": list(some)})["inputs"] for some in pixels.split(500))
            embeddings[place] = torch.cat([model.embed(some).cpu() for some in batches])
    wanted, found = (
        retrieval_metrics(one, labels, one, labels, same_set=True, ks=retrieval.KS)
        for one in (embeddings["cpu"], embeddings[device])
    )
    errors = {name: abs(found[name] - wanted[name]) for name in wanted}
    name, error = largest(errors)
    return [
        check("embeddings of a ResNet-18, CPU", difference(embeddings[device], embeddings["cpu"]), 1e-4),
        # where similarities are equal but for rounding, two items may change places: 0.0005 of recall@1 for a query
        check(f"their retrieval metrics, CPU, worst of {len(errors)}: {name}", error, 1e-3),
    ]


# ---------------------------------------------------------------- what the checks share
class _Stop(Exception):
    """Enough steps are done."""


class Steps(Hook):
    """Keeps the images and losses of a training, and ends it after a step.

    Args:
        last: Number of that step, from 1.
    """

    priority = "LOWEST"  # after the checkpoint

    def __init__(self, last: int) -> None:
        self.last = last
        self.images: list[list[int]] = []
        self.losses: list[float] = []

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict[str, Any] | None = None
    ) -> None:
        """Takes note of a step."""
        assert outputs is not None
        self.images.append([sample.sample_idx for sample in data_batch["data_samples"]])
        self.losses.append(outputs["loss"].item())
        if runner.iter + 1 == self.last:
            raise _Stop


def short_config(small: bool) -> Config:
    """Returns the emoji config for a short training without workers; a small one has a narrow network."""
    config = emoji_config(8 if small else 64)
    config.train_dataloader.num_workers = 0
    config.train_dataloader.persistent_workers = False
    if small:
        config.model.backbone = dict(type="ResNet", depth=18, base_channels=4, stem_channels=4)
        config.model.projection = dict(type="ProjectionHead", in_channels=32, out_channels=8)
    return config


def weights_of(model: nn.Module) -> Tensor:
    """Returns all weights and statistics in one vector on the CPU."""
    return torch.cat([value.detach().cpu().flatten().double() for value in model.state_dict().values()])


@contextlib.contextmanager
def on_device(device: str) -> Iterator[None]:
    """Lets MMEngine take a device, where it would take a GPU if there is one."""
    with mock.patch.object(mmengine.device.utils, "DEVICE", device):
        yield


@contextlib.contextmanager
def exact() -> Iterator[None]:
    """Lets a GPU convolve and multiply in float32, not in TF32, for comparisons with a CPU."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    try:
        for backend in backends:
            backend.allow_tf32 = False
        yield
    finally:
        for backend, allowed in zip(backends, before, strict=True):
            backend.allow_tf32 = allowed
