"""Checks and measures the toolbox on one machine with GPUs, in parts, and writes the page docs/benchmarks/gpu.md.

First comes whether the GPU computes what a CPU computes, then what it takes. Each part runs in a process apart, and its
result is kept in gpu.json at once. A call does the parts that are missing there and fit ``--minutes``, and parts that
failed; so a call that was stopped goes on where it was. The figures of a part whose checks have failed are withheld,
and the exit status is then 1.

Examples:
    python tools/benchmarks/gpu.py
    python tools/benchmarks/gpu.py --again losses-65536
    python tools/benchmarks/gpu.py --device cpu --small --out small
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import gpu_checks
import gpu_figures
from gpu_page import page, passed, state, withheld
from measure import ROOT, machine
from processes import CallFailed, CallTimedOut, Worker

from hierpretrain.files import write_json, write_whole


class Part(NamedTuple):
    """What is done in one go.

    Attributes:
        name: Of the part.
        function: Returns checks, or rows of a report; a function of a module.
        args: Its arguments.
        seconds: What it takes at most on a GPU, by estimate.
        needs: The parts whose checks must have passed; of a part that checks, nothing.
    """

    name: str
    function: Callable[..., list[dict[str, Any]]]
    args: tuple[Any, ...]
    seconds: float
    needs: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """``'figures'`` or ``'checks'``."""
        return "figures" if self.needs else "checks"


def plan(device: str, small: bool) -> list[Part]:
    """Returns all parts in the order in which they run; small ones are for tests on a CPU."""
    parts: list[Part] = []

    def checks(**seconds: float) -> None:
        for name, limit in seconds.items():
            parts.append(Part(f"check-{name.replace('_', '-')}", getattr(gpu_checks, name), (device, small), limit))

    def figures(name: str, needs: Sequence[str], seconds: float, function: Callable[..., Any], *args: Any) -> None:
        parts.append(Part(name, function, (device, *args), seconds, tuple(f"check-{need}" for need in needs)))

    checks(readable=10, registered=10, in_chunks=30, autocast=5, gather=40, grad_cache=10, sampler_to_step=30)
    checks(amp=15, evaluation=10)
    of_losses = ("readable", "registered", "in-chunks")
    for rows, limit in {64: 5}.items() if small else {1024: 10, 4096: 10, 16_384: 20, 65_536: 60}.items():
        figures(f"losses-{rows}", of_losses, limit, gpu_figures.loss_figures, rows, 128, False)
    if not small:
        figures("losses-16384-autocast", (*of_losses, "autocast"), 20, gpu_figures.loss_figures, 16_384, 128, True)
    nets = {"small ResNet": (20, 8, 32, 2)} if small else {"ResNet-50": (45, 256, 224, 8), "ViT-B": (60, 128, 224, 8)}
    for net, (limit, *options) in nets.items():
        name = net.lower().replace(" ", "-")
        figures(f"step-{name}", ("sampler-to-step", "amp"), limit, gpu_figures.step_figures, net, *options)
        figures(f"phases-{name}", ("sampler-to-step", "amp"), 20, gpu_figures.phase_figures, net, *options)
    options = (8, 4, 18, 4, 16) if small else (1024, 128, 50, 64, 224)
    figures("gradient-caching", ("grad-cache",), 30, gpu_figures.grad_cache_figures, *options)
    options = (16, 64, 32, 4) if small else (512, 500, 224, 48)
    figures("loader", ("sampler-to-step",), 30, gpu_figures.loader_figures, *options)
    for per_class in (5,) if small else (5, 25):
        options = (60, 300, per_class) if small else (20_000, 100_000, per_class)
        figures(f"retrieval-{per_class}", ("evaluation",), 30, gpu_figures.retrieval_figures, *options)
    checks(resume=30, compiled=60)  # which no figure needs
    return parts


def next_part(parts: Sequence[Part], results: Mapping[str, Any], tried: set[str], left: float) -> Part | None:
    """Chooses the part to run: one that is missing before one that has failed, in their order; ``None`` if all is done.

    Args:
        parts: All parts.
        results: Of parts, by name.
        tried: Parts that this call has run; none is run twice.
        left: Seconds that are left.

    A part waits for the checks that it needs, and is not run if they have failed.
    """
    able = [part for part in parts if part.name not in tried and part.seconds <= left]
    able = [part for part in able if not passed(results.get(part.name)) and not withheld(part, results)]
    return min(able, key=lambda part: part.name in results, default=None)


def run(
    parts: Sequence[Part],
    results: dict[str, Any],
    keep: Callable[[], None],
    worker: Worker,
    *,
    end: float,
    patience: float,
) -> None:
    """Runs parts until all are done or the time is over.

    Args:
        parts: All parts.
        results: Of parts, by name; gets those of the parts that run.
        keep: Is called after each.
        worker: Runs the parts.
        end: When the time is over, by ``time.monotonic``.
        patience: Seconds that a part may take beyond three times its estimate, before it is ended as one that hangs.
    """
    tried, code = set[str](), code_hash()
    while (part := next_part(parts, results, tried, end - time.monotonic())) is not None:
        print(f"\n{part.name}", flush=True)
        tried.add(part.name)
        start = time.monotonic()
        found: dict[str, Any] = {"kind": part.kind, "code": code}
        try:
            limit = 3 * part.seconds + patience
            found[part.kind] = worker.call(part.function, *part.args, seconds=min(end - start, limit))
        except CallTimedOut as error:
            if end - start < limit:
                print("the time is over: it is left for the next call")
                return
            found["error"] = str(error)
        except CallFailed as error:
            found["error"] = str(error).strip()
        results[part.name] = found | {"seconds": time.monotonic() - start}
        keep()
        print(f"{state(part, results)}, {time.monotonic() - start:.0f} s", flush=True)
        for check in found.get("checks", ()):
            if not check["passed"]:
                print(f"  FAILED: {check['what']}: {check['error']:.3g}, at most {check['bar']:g} wanted")
        if "error" in found:
            print(found["error"], flush=True)


def code_hash() -> str:
    """Returns a hash of the package and of these commands, which tells the results of one code from another's."""
    files = [*(ROOT / "hierpretrain").rglob("*.py"), *(ROOT / "tools/benchmarks").glob("*.py")]
    whole = hashlib.sha256()
    for file in sorted(files):
        whole.update(file.read_bytes())
    return whole.hexdigest()[:12]


def load(path: Path, told: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the results in a file, if there is one.

    Raises:
        ValueError: If they are of another machine or of other sizes.
    """
    if not path.exists():
        return {}
    data = json.loads(path.read_text("ascii"))
    for key, value in told.items():
        if _compared(data.get(key)) != _compared(value):
            raise ValueError(
                f"the results in {path} are of another {key}: {data.get(key)}, and here it is {value}. "
                "Give another folder (--out), or remove the file"
            )
    return data["parts"]


def _compared(told: Any) -> Any:
    """Returns what must be equal where results are put together; of a machine, what its figures depend on most."""
    return {name: told.get(name) for name in ("gpu", "gpus", "torch")} if isinstance(told, dict) else told


def gpus() -> dict[str, str]:
    """Returns what measure.machine() tells, and how many GPUs there are."""
    import torch

    return {**machine(), "gpus": str(torch.cuda.device_count())}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the parts that are missing; returns 1 if a check has failed or a part ended with an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--small", action="store_true", help="tiny sizes, to try the command on a CPU")
    parser.add_argument(
        "--minutes", type=float, default=9.0, help="parts that do not fit are left for the next call; it starts in one"
    )
    parser.add_argument("--again", nargs="+", default=[], metavar="PART", help="parts to run again; 'all' for all")
    parser.add_argument("--out", type=Path, help="folder of gpu.json and gpu.md (default: docs/benchmarks)")
    args = parser.parse_args(arguments)
    if args.out is None:
        if args.device == "cpu" or args.small:
            parser.error("--out FOLDER is needed: docs/benchmarks is for the figures of a GPU")
        args.out = ROOT / "docs/benchmarks"
    parts = plan(args.device, args.small)
    if unknown := set(args.again) - {part.name for part in parts} - {"all"}:
        parser.error(
            f"--again: no part is named {', '.join(sorted(unknown))}; there are {', '.join(p.name for p in parts)}"
        )
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # or deterministic mode refuses cuBLAS
    os.environ.setdefault("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True")  # or gaps make large blocks not fit
    end, worker = time.monotonic() + 60 * args.minutes, Worker()
    try:
        told = {"machine": worker.call(gpus, seconds=300), "device": args.device, "small": args.small}
        if args.device == "cuda" and told["machine"]["gpu"] == "none":
            parser.error("torch finds no GPU; --device cpu --small --out FOLDER tries the command without one")
        try:
            results = load(args.out / "gpu.json", told)
        except ValueError as error:
            parser.error(str(error))
        for name in list(results) if "all" in args.again else args.again:
            results.pop(name, None)

        def keep() -> None:
            ordered = {part.name: results[part.name] for part in parts if part.name in results}
            write_json(args.out / "gpu.json", {**told, "parts": ordered})
            write_whole(args.out / "gpu.md", page(parts, results, told).encode())

        keep()
        run(parts, results, keep, worker, end=end, patience=60 if args.device == "cuda" else 600)
    finally:
        worker.close()
    states = {part.name: state(part, results) for part in parts}
    waiting = [name for name, of_part in states.items() if of_part == "missing"]
    wrong = [name for name, of_part in states.items() if of_part in ("failed", "error")]
    for title, names in {"not done yet, call again": waiting, "wrong": wrong}.items():
        if names:
            print(f"\n{title}: {', '.join(names)}")
    print(f"\n{args.out / 'gpu.md'} has what there is")
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main())
