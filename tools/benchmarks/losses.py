"""Times the contrastive losses, forward and backward, and measures their memory, from small batches to 100 times that.

Contenders: our HiMulCon, and HiMulConE with either bound, also where every image has two paths; Algorithm 1 of *Use All
The Labels*, a SupCon loss for every level, once as it is written down and once with the logits and their softmax taken
out of the loop; our SupCon and pytorch-metric-learning's, over the finest level alone; and, to go by, one plain
log-sum-exp over the same logits with autograd's backward pass. (Ours can be faster than that: it holds few logits.)
A contender whose memory, by its peak at the size before, would pass ``--memory-limit`` is left out.

Rows are random unit vectors, two views of each image, in a tree of 8 nodes, of 6 children each, and so on.

Examples:
    python tools/benchmarks/losses.py
    python tools/benchmarks/losses.py --rows 1024 --memory-rows 0 --threads 1
    python tools/benchmarks/losses.py --device cuda --rows 1024 4096 16384 --memory-rows 65536 --memory-limit 40
    python tools/benchmarks/losses.py --device cuda --autocast
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from functools import partial

import torch
from measure import Report, command, fitting, parse, peak_memory, race
from pytorch_metric_learning.distances import DotProductSimilarity
from pytorch_metric_learning.losses import SupConLoss
from torch import Tensor
from torch.nn.functional import normalize

from hierpretrain.functional import hierarchical_contrastive_loss, supcon_loss
from hierpretrain.functional.contrastive import LEVEL_WEIGHTS
from hierpretrain.taxonomy import PAD, prefix_ids

TEMPERATURE = 0.1
BRANCHING = (8, 6, 6, 6, 2, 2, 2, 2)
BAR_ROWS, BAR_LEVELS = (1024, 4096), 4

LIMIT = "one plain log-sum-exp"
HIMULCON, PAIR, ANCHOR = "HiMulCon", "HiMulConE, pair", "HiMulConE, anchor"
ALGORITHM_1, ONE_SOFTMAX = "Algorithm 1, level by level", "Algorithm 1, one softmax"
SUPCON, PML, PML_UNIT = "SupCon", "SupCon of PML", "SupCon of PML, unit rows"
SEVERAL, SEVERAL_PAIR = "HiMulCon, several paths", "HiMulConE, pair, several paths"
BARS = {HIMULCON: 1.0, PAIR: 1.5, ANCHOR: 1.5, SEVERAL: 3.0, SEVERAL_PAIR: 3.0}  # times LIMIT

Loss = Callable[[Tensor, Tensor], Tensor]


def plain_log_sum_exp(features: Tensor, labels: Tensor) -> Tensor:
    """What every loss of this kind has to compute: all logits and their log-sum-exp."""
    return torch.logsumexp((features / TEMPERATURE) @ features.T, 1).mean()


def algorithm_1(features: Tensor, labels: Tensor) -> Tensor:
    """HiMulCon as the paper's Algorithm 1 goes about it: a SupCon loss of its own for every level, then their sum."""
    levels, total = labels.shape[1], features.new_zeros(())
    for level, node in enumerate(prefix_ids(labels).unbind(1), 1):
        total = total + LEVEL_WEIGHTS["exp"](level, levels) * mean_over_positives(log_softmax(features), node)
    return total / levels


def one_softmax(features: Tensor, labels: Tensor) -> Tensor:
    """The same with what all levels share taken out of the loop."""
    levels, total, log_p = labels.shape[1], features.new_zeros(()), log_softmax(features)
    for level, node in enumerate(prefix_ids(labels).unbind(1), 1):
        total = total + LEVEL_WEIGHTS["exp"](level, levels) * mean_over_positives(log_p, node)
    return total / levels


def log_softmax(features: Tensor) -> Tensor:
    """Returns (M, M) log-probabilities, -inf for a row and itself."""
    logits = (features / TEMPERATURE) @ features.T
    return logits.fill_diagonal_(-torch.inf).log_softmax(1)


def mean_over_positives(log_p: Tensor, node: Tensor) -> Tensor:
    """Returns SupCon's loss over the (M,) nodes of one level."""
    positive = (node[:, None] == node[None]) & (node != PAD)[:, None]
    positive.fill_diagonal_(False)
    count = positive.sum(1)
    nll = -log_p.masked_fill(~positive, 0.0).sum(1) / count.clamp(min=1)
    return nll.sum() / (count > 0).sum().clamp(min=1)


def contenders() -> dict[str, Loss]:
    """Returns all losses by name; those over one level take the finest one."""
    pml, unit = SupConLoss(temperature=TEMPERATURE), DotProductSimilarity(normalize_embeddings=False)
    pml_unit = SupConLoss(temperature=TEMPERATURE, distance=unit)
    return {
        LIMIT: plain_log_sum_exp,
        HIMULCON: hierarchical_contrastive_loss,
        PAIR: lambda features, labels: hierarchical_contrastive_loss(features, labels, constraint="pair"),
        ANCHOR: lambda features, labels: hierarchical_contrastive_loss(features, labels, constraint="anchor"),
        SEVERAL: lambda features, labels: hierarchical_contrastive_loss(features, two_paths(labels)),
        SEVERAL_PAIR: lambda features, labels: hierarchical_contrastive_loss(
            features, two_paths(labels), constraint="pair"
        ),
        ALGORITHM_1: algorithm_1,
        ONE_SOFTMAX: one_softmax,
        SUPCON: lambda features, labels: supcon_loss(features, prefix_ids(labels)[:, -1]),
        PML: lambda features, labels: pml(features, prefix_ids(labels)[:, -1]),
        PML_UNIT: lambda features, labels: pml_unit(features, prefix_ids(labels)[:, -1]),
    }


def batch(rows: int, dim: int, levels: int, device: str) -> tuple[Tensor, Tensor]:
    """Returns (rows, dim) unit features and their (rows, levels) labels."""
    generator = torch.Generator().manual_seed(0)
    features = normalize(torch.randn(rows, dim, generator=generator), dim=1)
    images = [torch.randint(0, children, ((rows + 1) // 2,), generator=generator) for children in BRANCHING[:levels]]
    return features.to(device), torch.stack(images, 1).repeat(2, 1)[:rows].to(device)


def two_paths(labels: Tensor) -> Tensor:
    """Gives every image the path of another one as well: (rows, 2, levels)."""
    images = (len(labels) + 1) // 2
    return torch.stack([labels, labels[:images].roll(images // 2, 0).repeat(2, 1)[: len(labels)]], 1)


def step(loss: Loss, features: Tensor, labels: Tensor, autocast: bool = False) -> tuple[Tensor, Tensor]:
    """Returns the value and the gradient of a loss."""
    leaf = features.detach().requires_grad_()
    with torch.autocast(features.device.type, torch.bfloat16, enabled=autocast):
        value = loss(leaf, labels)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad


def compare(
    report: Report, rows: int, args: argparse.Namespace, *, rounds: int, left_out: Sequence[str] = ()
) -> tuple[dict[str, list[float]], dict[str, int]]:
    """Compares the losses at one size; returns their seconds, as `race` does, and the bytes that they hold at most.

    Args:
        report: Gets the comparison.
        rows: Size M of the batch.
        args: Of them ``dim``, ``levels``, ``device`` and ``autocast``.
        rounds: Timed calls of each.
        left_out: Contenders that are not called.
    """
    features, labels = batch(rows, args.dim, args.levels, args.device)
    steps: dict[str, Callable[[], object]] = {
        name: partial(step, loss, features, labels, args.autocast)
        for name, loss in contenders().items()
        if name not in left_out
    }
    too_large: list[str] = []
    if args.device != "cpu":
        steps, too_large = fitting(steps)
    seconds = race(steps, rounds=rounds, warm_up=min(2, rounds - 1))
    memory = {name: peak_memory(contender, device=args.device) for name, contender in steps.items()}
    case = {"rows": rows, "levels": args.levels, "dim": args.dim, "device": args.device}
    case |= {"autocast": "bfloat16"} if args.autocast else {}
    report.add(case, seconds, against=LIMIT, memory=memory, out_of_memory=too_large)
    return seconds, memory


def main() -> None:
    """Runs the comparison, prints it with its bars, and saves it on request."""
    parser = command(__doc__)
    parser.add_argument("--rows", nargs="*", type=int, default=[328, 1024, 4096], help="sizes M of the batch")
    parser.add_argument("--memory-rows", type=int, default=32_768, help="size at which to hold memory to its bar; or 0")
    parser.add_argument("--dim", type=int, default=128, help="size D of an embedding")
    parser.add_argument("--levels", type=int, default=BAR_LEVELS, choices=range(1, len(BRANCHING) + 1))
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--autocast", action="store_true", help="call every loss under bfloat16 autocast")
    parser.add_argument("--memory-limit", type=float, default=6.0, metavar="GIB", help="of one contender")
    args = parse(parser)

    report = Report("losses", "Contrastive losses, forward and backward", "rows")
    peaks: dict[str, tuple[int, int]] = {}  # of each contender, the last size and its bytes there
    for rows in [*args.rows, *([args.memory_rows] if args.memory_rows else [])]:
        left_out = []
        for name in contenders():
            before, held = peaks.get(name, (rows, 0))
            if held * (rows / before) ** 2 > args.memory_limit * 2**30 and name not in BARS:
                print(f"{rows:,} rows: {name} would hold {held * (rows / before) ** 2 / 2**30:.1f} GiB; left out")
                left_out.append(name)
        # a pass over 32,768 rows takes a core half a minute
        rounds = max(1, min(args.rounds, 2**28 // rows**2)) if args.device == "cpu" else args.rounds
        seconds, memory = compare(report, rows, args, rounds=rounds, left_out=left_out)
        peaks |= {name: (rows, held) for name, held in memory.items()}
        if rows in BAR_ROWS and args.levels == BAR_LEVELS:
            for name, bar in BARS.items():
                of_limit = [ours / limit for ours, limit in zip(seconds[name], seconds[LIMIT], strict=True)]
                report.bar(f"{name}, {rows:,} rows, times {LIMIT}", statistics.median(of_limit), bar)
        if rows == BAR_ROWS[0] and args.levels == BAR_LEVELS:
            faster = [theirs / ours for ours, theirs in zip(seconds[HIMULCON], seconds[ALGORITHM_1], strict=True)]
            report.bar(f"HiMulCon, times faster than {ALGORITHM_1}", statistics.median(faster), 5, at_least=True)
        if rows == args.memory_rows:
            for levels in (args.levels, len(BRANCHING)):
                for name in (HIMULCON, PAIR):
                    held = memory[name]
                    if levels != args.levels:
                        features, labels = batch(rows, args.dim, levels, args.device)
                        held = peak_memory(partial(step, contenders()[name], features, labels, args.autocast))
                    report.bar(f"{name}, {rows:,} rows, {levels} levels, GiB", held / 2**30, 2)
    if args.save:
        report.save(args.save)


if __name__ == "__main__":
    main()
