"""Says what a step takes on 8, 64 and 512 GPUs, by a model that is held against 1, 2 and 4 processes of this machine.

The model counts operations and bytes (scaling_model.py). Its rates for this machine are measured one by one; then whole
steps are timed part by part on local processes (gloo), one thread each, and held against the model. For GPUs the rates
are assumptions, which the options change. Of more processes than cores, the seconds of the processors count, not those
of the clock.

Examples:
    python tools/benchmarks/scaling.py --save docs/benchmarks
    python tools/benchmarks/scaling.py --encoder-tflops 250 --networks 800 --gpus 16 128 --rows 262144
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import gradient_caching
import losses
import torch
import torch.distributed as dist
from measure import machine, peak_memory
from mmpretrain.registry import MODELS
from processes import run_ranks
from scaling_model import (
    FLOAT,
    Encoder,
    Hardware,
    memory_bytes,
    ring_saves,
    step_seconds,
    unshared_seconds,
)
from step import BACKBONES
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from hierpretrain.files import write_json, write_whole
from hierpretrain.functional import hierarchical_contrastive_loss
from hierpretrain.functional.pairs import nodes_of
from hierpretrain.models.gather import gather_rows

PARTS = ("encode", "exchange", "loss", "reduce")
DIM, LEVELS = 128, losses.BAR_LEVELS
CACHED = 256  # images x views that gradient caching encodes at a time


# ---------------------------------------------------------------- encoders
def count(name: str, net: nn.Module, pixels: int, bytes_of_number: int) -> Encoder:
    """Counts the operations, weights and kept bytes of a network; an image keeps what three keep beyond two."""
    kept = []
    net.train()
    for images in (2, 3):  # normalisation in training wants two
        seen: dict[int, int] = {}

        def keep(tensor: Tensor, seen: dict[int, int] = seen) -> Tensor:
            if not isinstance(tensor, nn.Parameter):
                seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            output = net(torch.zeros(images, 3, pixels, pixels))
        kept.append((sum(seen.values()), output))
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(2, 3, pixels, pixels))
    activations = (kept[1][0] - kept[0][0]) / FLOAT * bytes_of_number  # what is kept of weights is there once
    return Encoder(name, counter.get_total_flops() / 2, sum(w.numel() for w in net.parameters()), activations, pixels)


def encoders(names: list[str], pixels: int) -> list[Encoder]:
    """Returns what is known of the encoders, whose activations are in half precision."""
    return [count(name, MODELS.build(dict(BACKBONES[name][0], _scope_="mmpretrain")), pixels, 2) for name in names]


# ---------------------------------------------------------------- this machine
class Clock:
    """Adds up the seconds, of the clock and of the processor, that parts of a step take."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    @contextlib.contextmanager
    def part(self, name: str, of: str | None = None) -> Iterator[None]:
        """Times a part; what it takes is not counted for the part ``of`` that it lies in."""
        start = time.perf_counter(), time.process_time()
        yield
        for kind, (before, now) in enumerate(zip(start, (time.perf_counter(), time.process_time()), strict=True)):
            self.seconds.setdefault(name, [0.0, 0.0])[kind] += now - before
            if of is not None:
                self.seconds.setdefault(of, [0.0, 0.0])[kind] -= now - before


def timed_collectives(clock: Clock) -> contextlib.AbstractContextManager[Any]:
    """Times the collectives of the loss as a part of their own, and apart from it the wait for the other processes."""

    def timed(collective: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            with clock.part("wait", of="loss"):
                dist.barrier()
            with clock.part("exchange", of="loss"):
                return collective(*args, **options)

        return call

    names = ("all_gather_into_tensor", "reduce_scatter_tensor")
    return mock.patch.multiple(dist, **{name: timed(getattr(dist, name)) for name in names})


def time_steps(rows: int, channels: int, pixels: int, rounds: int) -> list[dict[str, list[float]]]:
    """Takes steps on this process's part of a batch; returns of each the seconds of its parts: clock and processor."""
    torch.set_num_threads(1)
    model = gradient_caching.make(None, 18, channels, "cpu")
    encode, weights = gradient_caching.Encoder(model), list(model.parameters())
    own = rows // dist.get_world_size()
    generator = torch.Generator().manual_seed(dist.get_rank())
    images = torch.randint(256, (own, 3, pixels, pixels), dtype=torch.uint8, generator=generator)
    labels = losses.batch(rows, 2, LEVELS, "cpu")[1].split(own)[dist.get_rank()]
    found = []
    for number in range(-1, rounds):
        clock = Clock()
        model.zero_grad()
        dist.barrier()
        with clock.part("encode"):
            features = encode(images)
        leaf = features.detach().requires_grad_()
        with timed_collectives(clock), clock.part("loss"):
            hierarchical_contrastive_loss(leaf, labels, gather=gather_rows).backward()
        with clock.part("encode"):
            features.backward(leaf.grad)
        with clock.part("wait"):
            dist.barrier()
        with clock.part("reduce"):
            if dist.get_world_size() > 1:
                dist.all_reduce(torch.cat([weight.grad.flatten() for weight in weights]))
        if number >= 0:
            found.append(clock.seconds)
    return found


def link_rate(size: int, rounds: int) -> tuple[float, float]:
    """Returns the seconds of an exchange between two processes: of ``size`` bytes, and of next to nothing."""
    torch.set_num_threads(1)

    def seconds(numbers: int) -> float:
        own, everyone = torch.zeros(numbers), torch.zeros(numbers * dist.get_world_size())
        taken = []
        for _ in range(rounds):
            dist.barrier()
            start = time.process_time()
            dist.all_gather_into_tensor(everyone, own)
            taken.append(time.process_time() - start)
        return statistics.median(taken)

    return seconds(size // FLOAT // dist.get_world_size()), seconds(1)


def rates(rows: int, channels: int, pixels: int, rounds: int) -> tuple[Hardware, Encoder]:
    """Measures the rates of this machine one by one, on one thread, in seconds of the processor."""

    def seconds(function: Callable[[], object]) -> float:
        taken = []
        for number in range(-1, rounds):
            start = time.process_time()
            function()
            if number >= 0:
                taken.append(time.process_time() - start)
        return statistics.median(taken)

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = gradient_caching.make(None, 18, channels, "cpu")
        net = gradient_caching.Encoder(model)
        images = torch.randint(256, (256, 3, pixels, pixels), dtype=torch.uint8)
        encoder = count("this machine's", nn.Sequential(model.backbone, _Pool(), model.projection), pixels, FLOAT)
        encode = seconds(lambda: net(images).sum().backward())

        keys, chunk = torch.randn(rows, DIM), min(rows, (1 << 18) // rows)
        anchors, similarities = keys[:chunk].clone(), torch.empty(chunk, rows)
        columns = torch.zeros(DIM, rows)

        def products() -> None:
            torch.addmm(similarities, anchors, keys.T, beta=0, out=similarities)
            similarities.mm(keys)
            columns.addmm_(anchors.T, similarities)

        def passes() -> None:
            similarities.amax(1)
            similarities.sub_(1.0).exp_().sum(1)
            similarities.clamp_(max=0.0)

        nodes, sums = torch.randint(48, (rows,)), torch.zeros(rows, DIM)

        def whole_rows() -> None:
            sums.zero_().index_add_(0, nodes, keys)
            sums.add_(sums.index_select(0, nodes))

        product, one_pass, whole = seconds(products), seconds(passes), seconds(whole_rows)
        labels = losses.batch(rows, 2, LEVELS, "cpu")[1]
        numbering = seconds(lambda: nodes_of(labels))
        few = losses.batch(16, DIM, LEVELS, "cpu")
        start = seconds(lambda: [losses.step(hierarchical_contrastive_loss, *few) for _ in range(10)]) / 10
    finally:
        torch.set_num_threads(threads)
    size = 1 << 20
    exchange, nothing = (max(of) for of in zip(*run_ranks(link_rate, 2, "gloo", size, rounds), strict=True))
    hardware = Hardware(
        encoder=3 * encoder.flops * len(images) / encode,
        matmul=6 * chunk * rows * DIM / product,
        passes=8 * FLOAT * chunk * rows / one_pass,
        rows=9 * FLOAT * rows * DIM / whole,
        labels=rows * LEVELS / numbering,
        start=start,
        link=size / 2 / (exchange - nothing),
        network=float("inf"),
        per_machine=1 << 20,
        latency=nothing,
    )
    return hardware, encoder


class _Pool(nn.Module):
    def forward(self, outputs: tuple[Tensor, ...]) -> Tensor:
        return outputs[-1].mean((2, 3))


def measured_steps(encoder: Encoder, hardware: Hardware, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Times steps of several sizes on several numbers of local processes, and adds what the model says."""
    found = []
    for rows in args.local_rows:
        for number in args.processes:
            of_ranks = run_ranks(time_steps, number, "gloo", rows, args.channels, args.pixels, args.rounds)
            said = step_seconds(encoder, hardware, number, rows, DIM, LEVELS, grad_cache=False)
            row: dict[str, Any] = {"rows": rows, "processes": number}
            for kind, unit in enumerate(("clock", "processor")):
                row[unit] = {
                    part: statistics.mean(
                        statistics.median(step.get(part, (0.0, 0.0))[kind] for step in steps) for steps in of_ranks
                    )
                    for part in (*PARTS, "wait")
                }
            found.append({**row, "model": said})
            print(f"{rows:,} rows, {number} processes: {_ms(row['processor'])}; by the model {_ms(said)}", flush=True)
    return found


def measured_memory(rows: int, processes: int) -> dict[str, float]:
    """Measures what the loss of one of many processes holds, the others being copies of it, and what the model says."""
    features, labels = losses.batch(rows // processes, DIM, LEVELS, "cpu")

    def copies(own: Tensor, counts: object = None) -> tuple[Tensor, int]:
        return torch.cat([own] * processes), 0

    held = peak_memory(
        lambda: losses.step(
            lambda rows_, classes: hierarchical_contrastive_loss(rows_, classes, gather=copies), features, labels
        ),
        device="cpu",
    )
    return {"rows": rows, "processes": processes, "measured": held, "model": 4 * rows * DIM * FLOAT}


# ---------------------------------------------------------------- GPUs
def projected(encoder: Encoder, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Returns what steps on GPUs would take, by number of rows, GPUs and network."""
    found = []
    for rows in args.rows:
        for gpus in args.gpus:
            for network in args.networks if gpus > args.per_machine else args.networks[:1]:
                hardware = Hardware(
                    encoder=args.encoder_tflops * 1e12,
                    matmul=args.loss_tflops * 1e12,
                    passes=args.memory_gb_s * 1e9,
                    rows=args.memory_gb_s * 1e9,
                    labels=args.labels_per_s,
                    start=args.start_ms * 1e-3,
                    link=args.nvlink_gb_s * 1e9 * args.link_efficiency,
                    network=network / 8 * 1e9 * args.link_efficiency,
                    per_machine=args.per_machine,
                    latency=args.latency_us * 1e-6,
                )
                whole = memory_bytes(encoder, gpus, rows, DIM)
                cached = sum(whole.values()) > args.gpu_gb * 1e9
                held = memory_bytes(encoder, gpus, rows, DIM, at_a_time=CACHED if cached else None)
                seconds = step_seconds(encoder, hardware, gpus, rows, DIM, LEVELS, grad_cache=cached)
                saved, saved_bytes = ring_saves(seconds, gpus, rows, DIM)
                case = {"rows": rows, "gpus": gpus, "network": network if gpus > args.per_machine else None}
                found.append(
                    {
                        **case,
                        "grad_cache": cached,
                        "seconds": seconds,
                        "bytes": held,
                        "ring_saves": {"seconds": saved, "bytes": saved_bytes},
                        "unshared": unshared_seconds(hardware, gpus, rows, DIM, LEVELS),
                    }
                )
    return found


# ---------------------------------------------------------------- the page
def _ms(seconds: dict[str, float]) -> str:
    return ", ".join(f"{part} {1e3 * seconds[part]:.1f} ms" for part in PARTS)


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1e3 * seconds:.1f} ms"


def _table(heads: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "| " + " | ".join(["---:"] * len(heads)) + " |"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def measured_table(steps: list[dict[str, Any]]) -> str:
    """Returns the table of measured steps: seconds of the processor, and the model's in times of them."""
    lines = []
    for step in steps:
        cells = []
        for part in PARTS:
            taken, said = step["processor"][part], step["model"][part]
            alone = step["processes"] == 1 and part in ("exchange", "reduce")
            cells.append("" if alone else f"{_seconds(taken)} ({said / taken:.2f} x)")
        clock = sum(step["clock"].values())
        total = sum(step["processor"][part] for part in PARTS)
        said = sum(step["model"].values())
        lines.append(
            [
                f"{step['rows']:,}",
                str(step["processes"]),
                *cells,
                f"{_seconds(total)} ({said / total:.2f} x)",
                _seconds(clock),
            ]
        )
    return _table(["rows", "processes", *PARTS, "all", "by the clock"], lines)


def projected_table(steps: list[dict[str, Any]], gpu_bytes: float) -> str:
    """Returns the table of what steps on GPUs would take."""
    lines = []
    for step in steps:
        seconds, held = step["seconds"], step["bytes"]
        total, slowest = sum(seconds.values()), max(seconds, key=seconds.__getitem__)
        memory = sum(held.values())
        lines.append(
            [
                f"{step['rows']:,}",
                str(step["gpus"]),
                "" if step["network"] is None else f"{step['network']:,.0f} Gbit/s",
                *(f"**{_seconds(seconds[part])}**" if part == slowest else _seconds(seconds[part]) for part in PARTS),
                _seconds(total),
                f"{memory / 1e9:,.1f} GB" + (" **too much**" if memory > gpu_bytes else ""),
                f"{held['rows'] / 1e9:.2f} GB",
                "yes" if step["grad_cache"] else "",
                f"{100 * step['ring_saves']['seconds'] / total:.1f} %, {step['ring_saves']['bytes'] / 1e9:.2f} GB",
            ]
        )
    heads = ["rows", "GPUs", "network of a machine", *PARTS, "step", "memory", "of it rows", "gradient caching"]
    return _table([*heads, "a ring saves at most"], lines)


TODAY = """\
**What each process computes today.** W processes have M rows (images x views) of D numbers in all, and m = M / W \
each. The pairs are shared: a process compares its own m rows with all M, and no process computes another's pairs \
([many machines](../distributed.md)). Other work is not shared: each process holds all M rows and, in backward, their \
gradient. It numbers the nodes of all M labels, and sums all M rows below each node of the L levels. At a given M, the \
pairs of a process become fewer with W; the other work does not."""

FORMULAS = """\
| part | seconds of a process |
| --- | --- |
| encode | 3 F m / encoder rate; 4 F m with gradient caching. F: operations of a forward pass of an image |
| exchange | two collectives of 4 M D bytes (`all_gather`, and `reduce_scatter` in backward) and one of 8 M L, each \
bytes x (W - 1) / W / the slower of link and network + (W - 1) latency; four small collectives, latency alone |
| loss | 8 m M D / product rate + 56 m M bytes / memory rate (6 and 36 up to 2^20 pairs, which are held) + \
4 D (L (14 M + 12 m) + 7 M) bytes / memory rate + L M / label rate + start |
| reduce | two collectives of 4 P bytes. P: weights |

| memory | bytes of a process |
| --- | --- |
| weights | 16 P: weights, gradients and Adam's two means |
| images | 3 m pixels^2 |
| activations | A m, or A x 256 with gradient caching. A: bytes that an image keeps for backward |
| rows | 16 M D: four copies of the gathered rows at most |
| similarities | 4 m M, at most 256 MiB |

Link and network: a byte comes to each process once, by its link, and to each machine once, by its network. Parts are \
added up, as if nothing ran beside anything else; `DistributedDataParallel` hides a part of `reduce` behind `encode`. \
The loss is HiMulCon; HiMulConE takes 1.2 to 1.4 times as long ([losses](losses.md))."""


def page(data: dict[str, Any], args: argparse.Namespace) -> str:
    """Returns the page."""
    text = ["# Many GPUs, by a model that is checked on a few processes", f"```bash\n{data['command']}\n```"]
    text.append(
        "**No GPU took part.** What a step takes on 8 to 512 GPUs is counted, from operations, bytes and the rates "
        "below. The count is held against steps on 1, 2 and 4 processes of a CPU."
    )
    text += [TODAY, "## The model", FORMULAS, "## Held against local processes"]
    cores = machine()["processor"].split(" x ")[0]
    memory = data["memory"]
    text.append(
        f"One thread a process, gloo, {cores} cores. Times are seconds of the processor, the mean over the processes; "
        "in brackets is what the model says, in times of that. The last column is by the clock, with waiting. Where "
        "there are more processes than cores they take turns, and the clock says nothing about machines that have a "
        f"core for each. The encoder is a ResNet-18 with {args.channels} channels in its first layer, on images of "
        f"{args.pixels} px. D = {DIM}, L = {LEVELS}."
    )
    text.append(measured_table(data["steps"]))
    ratios = [sum(step["model"].values()) / sum(step["processor"][part] for part in PARTS) for step in data["steps"]]
    text.append(
        f"Of whole steps the model says {min(ratios):.2f} to {max(ratios):.2f} times what was measured. When it began, "
        f"{data['load']:.1f} other processes wanted to run (load average)."
    )
    hardware = data["rates"]
    text.append(
        "Rates, each measured by itself: "
        + f"encoder {hardware['encoder'] / 1e9:.1f} GFLOP/s, products {hardware['matmul'] / 1e9:.1f} GFLOP/s, "
        + f"operations on similarities {hardware['passes'] / 1e9:.1f} GB/s, on rows {hardware['rows'] / 1e9:.1f} GB/s, "
        + f"{hardware['labels'] / 1e6:.1f} million labels/s, start {1e3 * hardware['start']:.2f} ms, "
        + f"exchange {hardware['link'] / 1e9:.2f} GB/s and {1e3 * hardware['latency']:.2f} ms a message."
    )
    text.append(
        f"Memory: the loss of one of {memory['processes']} processes, {memory['rows']:,} rows in all, holds "
        f"{memory['measured'] / 2**20:.0f} MiB at most; four copies of the rows are {memory['model'] / 2**20:.0f} MiB."
    )
    text.append("## On GPUs")
    text.append(
        f"Assumed of a GPU: {args.encoder_tflops:g} TFLOP/s that an encoder comes to in bfloat16 (not the peak, since "
        f"much of it waits for memory), {args.loss_tflops:g} TFLOP/s of float32 products, {args.memory_gb_s:,g} GB/s "
        f"of its memory, {args.labels_per_s / 1e6:,g} million labels/s, {args.start_ms:g} ms to start a loss, and "
        f"{args.gpu_gb:g} GB. {args.per_machine} GPUs are on a machine, each with a link of {args.nvlink_gb_s:g} GB/s "
        f"to the others. A network's speed is of a whole machine. Links and networks come to "
        f"{args.link_efficiency:.0%} of their speed, and a message takes {args.latency_us:g} µs. All of these are "
        "options of the command; `python tools/benchmarks/gpu.py` measures a GPU."
    )
    for name, steps in data["projected"].items():
        encoder = data["encoders"][name]
        text.append(
            f"### {name}\n\nCounted on {encoder['pixels']} px: {encoder['flops'] / 1e9:.1f} GFLOP an image, "
            f"{encoder['parameters'] / 1e6:.1f} million weights, {encoder['activations'] / 1e6:.0f} MB that an image "
            "keeps in bfloat16. The slowest part is in bold."
        )
        text.append(projected_table(steps, args.gpu_gb * 1e9))
    text.append(conclusions(data["projected"]))
    text.append("Measured with " + ", ".join(f"{name} {value}" for name, value in data["machine"].items()) + ".")
    return "\n\n".join(text) + "\n"


def conclusions(by_encoder: dict[str, list[dict[str, Any]]]) -> str:
    """Says in words what the tables say: the bottlenecks, and what a ring and shared sums would save."""
    steps = [step for steps in by_encoder.values() for step in steps]
    slowest = [max(step["seconds"], key=step["seconds"].__getitem__) for step in steps]
    counts = ", ".join(f"{part} in {slowest.count(part)}" for part in PARTS if part in slowest)

    def most(share: Callable[[dict[str, Any]], float]) -> str:
        worst = max(steps, key=share)
        network = f" and {worst['network']:,.0f} Gbit/s" if worst["network"] else ""
        return f"{100 * share(worst):.1f} % ({worst['gpus']} GPUs, {worst['rows']:,} rows{network})"

    def total(step: dict[str, Any]) -> float:
        return sum(step["seconds"].values())

    return "\n".join(
        [
            "## What follows",
            "",
            f"- The slowest part, of {len(steps)} cases: {counts}.",
            f"- The exchange takes at most {most(lambda step: step['seconds']['exchange'] / total(step))} of a step.",
            "- Passing the rows round in a ring would save at most "
            f"{most(lambda step: step['ring_saves']['seconds'] / total(step))} of a step's time, "
            f"and at most {max(step['ring_saves']['bytes'] for step in steps) / 1e9:.1f} GB.",
            f"- What each process does for all rows and labels, since it is not shared, takes at most "
            f"{most(lambda step: step['unshared'] / total(step))} of a step.",
        ]
    )


def main() -> None:
    """Measures, counts, prints and saves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", nargs="+", type=int, default=[65_536, 1_048_576], help="of a batch on GPUs")
    parser.add_argument("--gpus", nargs="+", type=int, default=[8, 64, 512])
    parser.add_argument("--networks", nargs="+", type=float, default=[100, 400, 3200], help="Gbit/s out of a machine")
    parser.add_argument("--encoders", nargs="+", choices=list(BACKBONES), default=["ResNet-50", "ViT-B"])
    parser.add_argument("--encoder-pixels", type=int, default=224)
    parser.add_argument("--encoder-tflops", type=float, default=100, help="TFLOP/s of the encoder, in bfloat16")
    parser.add_argument("--loss-tflops", type=float, default=40, help="TFLOP/s of the loss's products, in float32")
    parser.add_argument("--memory-gb-s", type=float, default=2700, help="GB/s of a GPU's memory")
    parser.add_argument("--labels-per-s", type=float, default=5e8, help="labels that a GPU sorts a second")
    parser.add_argument("--start-ms", type=float, default=2, help="ms of a loss on a GPU, however small it is")
    parser.add_argument("--gpu-gb", type=float, default=80, help="GB of a GPU")
    parser.add_argument("--per-machine", type=int, default=8, help="GPUs of a machine")
    parser.add_argument("--nvlink-gb-s", type=float, default=450, help="GB/s of a GPU to the others of its machine")
    parser.add_argument("--link-efficiency", type=float, default=0.8, help="of the speed of links and networks")
    parser.add_argument("--latency-us", type=float, default=5, help="µs of a message")
    parser.add_argument("--local-rows", nargs="+", type=int, default=[1024, 4096], help="of a batch on this machine")
    parser.add_argument("--processes", nargs="+", type=int, default=[1, 2, 4], help="on this machine")
    parser.add_argument("--channels", type=int, default=8, help="of the first layer of this machine's encoder")
    parser.add_argument("--pixels", type=int, default=32, help="of this machine's images")
    parser.add_argument("--memory-rows", type=int, default=65_536, help="of the batch whose memory is measured")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", type=Path, metavar="FOLDER", help="write scaling.md and scaling.json to this folder")
    args = parser.parse_args()
    load = os.getloadavg()[0]
    memory = measured_memory(args.memory_rows, max(2, args.memory_rows // 512))
    counted = encoders(args.encoders, args.encoder_pixels)
    hardware, encoder = rates(max(args.local_rows), args.channels, args.pixels, args.rounds)
    data: dict[str, Any] = {
        "command": " ".join(["python", *sys.argv]),
        "machine": machine(),
        "load": load,
        "steps": measured_steps(encoder, hardware, args),
        "rates": vars(hardware),
        "memory": memory,
        "encoders": {encoder.name: vars(encoder) for encoder in counted},
        "projected": {encoder.name: projected(encoder, args) for encoder in counted},
    }
    text = page(data, args)
    print(text)
    if args.save:
        write_json(args.save / "scaling.json", data)
        write_whole(args.save / "scaling.md", text.encode())


if __name__ == "__main__":
    main()
