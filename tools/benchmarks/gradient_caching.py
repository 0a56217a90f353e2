"""Measures time and memory of a training step with and without gradient caching, up to 100 times the smallest batch.

Contenders: the plain step; ``grad_cache`` of two sizes; the two passes of Gao et al. (2021) written out, which is the
limit: one forward without a graph, one with it, one backward; and the authors' library, if it is there
(``pip install git+https://github.com/luyug/GradCache``). All start from the same bytes and leave the same gradients.

The encoder is a ResNet-18 with group normalisation, so that the plain step is the reference for the values too.

Examples:
    python tools/benchmarks/gradient_caching.py
    python tools/benchmarks/gradient_caching.py --device cuda --depth 50 --channels 64 --pixels 224 --sizes 64 128
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from measure import Report, command, parse, peak_memory, race
from mmpretrain.structures import DataSample
from torch import Tensor, nn
from torch.nn.functional import normalize

from hierpretrain.models import HierarchicalContrastive

try:
    from grad_cache import GradCache
except ImportError:
    GradCache = None

PLAIN, BY_HAND, LIBRARY = "whole batch at once", "two passes by hand", "GradCache library"

Step = Callable[[], Tensor]


class Encoder(nn.Module):
    """The model from bytes to the features that the loss compares, as one writes it in a loop of one's own."""

    def __init__(self, model: HierarchicalContrastive) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        """Returns (N, D) unit features of (N, C, H, W) bytes."""
        prepared = self.model.data_preprocessor.prepare(images)
        return normalize(self.model.projection(self.model.extract_feat(prepared)), dim=1)


def make(grad_cache: int | None, depth: int, channels: int, device: str) -> HierarchicalContrastive:
    """Returns the model, always with the same weights."""
    torch.manual_seed(0)
    norm = dict(type="GN", num_groups=min(8, channels))
    model = HierarchicalContrastive(
        dict(type="ResNet", depth=depth, base_channels=channels, stem_channels=channels, norm_cfg=norm),
        dict(type="ProjectionHead", in_channels=(8 if depth < 50 else 32) * channels),
        dict(type="HiMulConLoss", chunk_size=256),
        grad_cache=grad_cache,
    )
    return model.to(device).train()


def batch(rows: int, pixels: int) -> dict[str, Any]:
    """Returns two views of images of random bytes, with labels in a tree of 8 nodes with 6 children each."""
    generator = torch.Generator().manual_seed(0)
    views = [torch.randint(256, (rows // 2, 3, pixels, pixels), dtype=torch.uint8, generator=generator) for _ in "ab"]
    labels = torch.stack([torch.randint(nodes, (rows // 2,), generator=generator) for nodes in (8, 6)], 1)
    made = [DataSample(metainfo=dict(sample_idx=i)).set_gt_label(row) for i, row in enumerate(labels)]
    return dict(inputs=views, data_samples=made)


def ours(model: HierarchicalContrastive, data: dict[str, Any]) -> Step:
    """Returns a step as MMEngine takes it."""

    def step() -> Tensor:
        model.zero_grad()
        loss = model(**model.data_preprocessor(data, True), mode="loss")["loss"]
        loss.backward()
        return loss.detach()

    return step


def two_passes(model: HierarchicalContrastive, data: dict[str, Any], size: int) -> Step:
    """Returns a step that takes the gradient in the features first, and then, chunk by chunk, in the weights."""
    encoder = Encoder(model)

    def step() -> Tensor:
        model.zero_grad()
        chunks, loss_of = _bytes_and_loss(model, data)
        chunks = chunks.split(size)
        with torch.no_grad():
            features = torch.cat([encoder(chunk) for chunk in chunks])
        loss = loss_of(features.requires_grad_())
        loss.backward()
        for chunk, gradient in zip(chunks, features.grad.split(size), strict=True):
            (encoder(chunk) * gradient).sum().backward()
        return loss.detach()

    return step


def library(model: HierarchicalContrastive, data: dict[str, Any], size: int) -> Step:
    """Returns a step of the authors' library, as its page says for one encoder."""
    encoder = Encoder(model)

    def step() -> Tensor:
        model.zero_grad()
        images, loss_of = _bytes_and_loss(model, data)
        return GradCache(models=[encoder], chunk_sizes=size, loss_fn=loss_of).cache_step(images)

    return step


def _bytes_and_loss(model: HierarchicalContrastive, data: dict[str, Any]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    images = torch.cat(model.data_preprocessor.cast_data(data["inputs"]))
    labels = torch.stack([sample.gt_label for sample in data["data_samples"]]).to(images.device).repeat(2, 1)
    instances = torch.tensor([sample.sample_idx for sample in data["data_samples"]], device=images.device).repeat(2)
    return images, lambda features: model.loss_module(features, labels, instances)


def gradient(model: nn.Module, step: Step) -> Tensor:
    """Returns the loss and the gradients that a step leaves, in one vector."""
    loss = step()
    return torch.cat([loss.reshape(1), *(parameter.grad.flatten() for parameter in model.parameters())]).cpu()


def contenders(
    data: dict[str, Any], sizes: list[int], depth: int, channels: int, device: str
) -> dict[str, tuple[nn.Module, Step]]:
    """Returns all steps by name, each with its model."""

    def with_model(grad_cache: int | None, build: Callable[..., Step], *args: int) -> tuple[nn.Module, Step]:
        model = make(grad_cache, depth, channels, device)
        return model, build(model, data, *args)

    found = {PLAIN: with_model(None, ours)}
    for size in sizes:
        found[f"grad_cache={size}"] = with_model(size, ours)
    found[f"{BY_HAND}, {sizes[0]}"] = with_model(None, two_passes, sizes[0])
    if GradCache is not None:
        found[f"{LIBRARY}, {sizes[0]}"] = with_model(None, library, sizes[0])
    return found


def main() -> None:
    """Runs the comparison, prints it, and saves it on request."""
    parser = command(__doc__)
    parser.add_argument("--rows", nargs="+", type=int, default=[32, 100, 320, 1000, 3200], help="images x views")
    parser.add_argument("--sizes", nargs="+", type=int, default=[32, 128], help="of grad_cache")
    parser.add_argument("--pixels", type=int, default=32)
    parser.add_argument("--depth", type=int, default=18, help="of the ResNet")
    parser.add_argument("--channels", type=int, default=16, help="of its first layer; 64 is the original")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--memory-limit", type=float, default=4.0, metavar="GIB", help="of the plain step")
    args = parse(parser)

    report = Report("gradient_caching", "A training step with and without gradient caching", "rows")
    plain_before = (1, 0)
    for rows in args.rows:
        steps = contenders(batch(rows, args.pixels), args.sizes, args.depth, args.channels, args.device)
        if plain_before[1] * rows / plain_before[0] > args.memory_limit * 2**30:
            print(f"{rows:,} rows: {PLAIN} would pass --memory-limit; left out")
            del steps[PLAIN]
        gradients = {name: gradient(model, step) for name, (model, step) in steps.items()}
        by_hand, cached = f"{BY_HAND}, {args.sizes[0]}", f"grad_cache={args.sizes[0]}"
        exact = gradients.get(PLAIN, gradients[by_hand])
        errors = {name: float((found - exact).norm() / exact.norm()) for name, found in gradients.items()}
        rounds = max(2, min(args.rounds, 3000 // rows)) if args.device == "cpu" else args.rounds
        seconds = race({name: step for name, (_, step) in steps.items()}, rounds=rounds, warm_up=1)
        memory = {name: peak_memory(step) for name, (_, step) in steps.items()}
        if PLAIN in memory:
            plain_before = rows, memory[PLAIN]
        case = {"rows": rows, "pixels": args.pixels, "depth": args.depth, "channels": args.channels}
        report.add(case | {"device": args.device}, seconds, against=by_hand, memory=memory, gradient_error=errors)
    report.bar(f"{cached}, {rows:,} rows, difference of the gradients", errors[cached], 1e-4)
    report.save(args.save)


if __name__ == "__main__":
    main()
