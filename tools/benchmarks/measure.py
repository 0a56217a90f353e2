"""Times functions side by side, measures their peak memory and reports both; shared by the benchmarks of this folder.

A *contender* is a function without arguments. All contenders of one comparison run in turn, round after round, in one
process, so that a machine whose clock drifts slows all of them alike. The ratio of two contenders is the median of the
rounds' ratios.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import json
import os
import platform
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Tensor
from torch.nn.functional import normalize

from hierpretrain.files import write_whole

ROOT = Path(__file__).resolve().parents[2]
"""The root of the repository."""
PACKAGES = ("torch", "torchvision", "mmengine", "mmpretrain", "faiss-cpu", "scikit-learn", "pytorch-metric-learning")


def race(
    contenders: Mapping[str, Callable[[], object]], *, rounds: int = 9, warm_up: int = 2
) -> dict[str, list[float]]:
    """Times contenders round by round, each round in the opposite order of the one before.

    Args:
        contenders: By name.
        rounds: Timed calls of each.
        warm_up: Calls of each that come before and are not timed.

    Returns:
        Seconds of every round, by name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    gc.collect()
    gc.freeze()  # or each collection would look at all modules again, which takes longer than most calls
    try:
        for number in range(-warm_up, rounds):
            names = list(contenders) if number % 2 else list(contenders)[::-1]
            for name in names:
                gc.collect()
                synchronize()
                start = time.perf_counter()
                contenders[name]()
                synchronize()
                if number >= 0:
                    seconds[name].append(time.perf_counter() - start)
    finally:
        gc.unfreeze()
    return seconds


def fitting(contenders: Mapping[str, Callable[[], object]]) -> tuple[dict[str, Callable[[], object]], list[str]]:
    """Calls each contender once; returns those that a GPU's memory holds, and the names of the others."""
    fit, too_large = {}, []
    for name, contender in contenders.items():
        try:
            contender()
            synchronize()
            fit[name] = contender
        except RuntimeError as error:
            if not (isinstance(error, torch.OutOfMemoryError) or "INT_MAX" in str(error)):  # more than a kernel counts
                raise
            too_large.append(name)
        if torch.cuda.is_available():
            gc.collect()
            torch.cuda.empty_cache()
    return fit, too_large


def per_second(count: float, seconds: Mapping[str, list[float]]) -> dict[str, float]:
    """Returns how many things a second each contender handles, by its median round.

    Args:
        count: Things that a contender handles in a round.
        seconds: As :func:`race` returns them.
    """
    return {name: count / statistics.median(of_rounds) for name, of_rounds in seconds.items()}


def features_of_classes(labels: Tensor, num_classes: int, dim: int, noise: float, *, seed: int = 0) -> Tensor:
    """Returns unit features, each the random centre of its class plus noise.

    Args:
        labels: (N,) classes.
        num_classes: Number of classes. The centres depend on this number and on ``dim`` alone.
        dim: Size D of the features.
        noise: Standard deviation of the noise of each number; a centre has length 1.
        seed: Seed of the noise.

    Returns:
        (N, D) unit features.
    """
    centres = normalize(torch.randn(num_classes, dim, generator=torch.Generator().manual_seed(0)), dim=1)
    noises = torch.randn(len(labels), dim, generator=torch.Generator().manual_seed(seed + 1))
    return normalize(centres[labels] + noise * noises, dim=1)


def synchronize() -> None:
    """Waits until a GPU has done all that it was told to do, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def peak_memory(
    contender: Callable[[], object], *, device: str | None = None, warm_up: Callable[[], object] | None = None
) -> int:
    """Returns the most bytes that a contender holds beyond what is held before it.

    Args:
        contender: What to call.
        device: Whose memory is measured, ``'cpu'`` or ``'cuda'``. ``None``: the GPU's, if there is one.
        warm_up: What is called before, to load the libraries, such as a small case. ``None``: the contender itself.

    On a CPU the result is the resident size of the process, looked at every millisecond. Measure in a process that has
    freed little memory before: Python and the C library keep what is freed, where it stays resident and counts.
    """
    (warm_up or contender)()
    gc.collect()
    if (device or ("cuda" if torch.cuda.is_available() else "cpu")) == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        contender()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    # glibc keeps what is freed, and would hand it out again unseen
    getattr(ctypes.CDLL(None), "malloc_trim", lambda _: 0)(0)
    before = peak = _resident()
    done = threading.Event()

    def watch() -> None:
        nonlocal peak
        while not done.wait(0.001):
            peak = max(peak, _resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        contender()
    finally:
        done.set()
        watcher.join()
    return peak - before


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text("ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def machine() -> dict[str, str]:
    """Returns the processor, threads, GPU and versions that figures were measured with."""
    packages = {}
    for package in PACKAGES:
        try:
            packages[package] = version(package)
        except PackageNotFoundError:
            packages[package] = "not installed"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    found = {"processor": _processor(), "threads": str(torch.get_num_threads()), "gpu": gpu}
    return {**found, "python": platform.python_version(), **packages}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{os.cpu_count()} x {names[0]}" if names else platform.machine()


class Report:
    """Collects the figures of one topic, prints them as they come, and keeps them as JSON with a plot.

    Args:
        topic: Name of the files, without an ending.
        title: What was measured, for the page and the plot.
        size: Key of a case that says how large the case is, for the plot's horizontal axis.
    """

    def __init__(self, topic: str, title: str, size: str) -> None:
        self.topic, self.title, self.size = topic, title, size
        self.rows: list[dict[str, Any]] = []
        self.bars: list[str] = []
        print(", ".join(f"{name} {value}" for name, value in machine().items()), "\n", flush=True)

    def add(
        self,
        case: Mapping[str, Any],
        seconds: Mapping[str, list[float]],
        *,
        against: str | None = None,
        memory: Mapping[str, int] | None = None,
        out_of_memory: Sequence[str] = (),
        **figures: Mapping[str, float],
    ) -> None:
        """Adds and prints one comparison.

        Args:
            case: What the contenders were compared on, such as ``{"rows": 1024, "levels": 4}``.
            seconds: Seconds of every round by contender, as :func:`race` returns them.
            against: Contender whose time the others' times are divided by. ``None``: there are no ratios.
            memory: Peak bytes by contender, as :func:`peak_memory` returns them.
            out_of_memory: Contenders without figures, since they do not fit, as :func:`fitting` tells.
            **figures: Other numbers by contender, such as ``samples_per_second={"ours": 2e5}``.
        """
        print(
            ", ".join(
                f"{name} {value:,}" if isinstance(value, int) else f"{name} {value}" for name, value in case.items()
            )
        )
        for name, of_rounds in seconds.items():
            row = {"case": dict(case), "name": name, "seconds": statistics.median(of_rounds)}
            row |= {"fastest": min(of_rounds), "slowest": max(of_rounds), "rounds": len(of_rounds)}
            line = f"  {name:34s} {_time(row['seconds'])}  ({_time(row['fastest'])} to {_time(row['slowest'])})"
            if against in seconds:
                ratios = [ours / theirs for ours, theirs in zip(of_rounds, seconds[against], strict=True)]
                row |= {"against": against, "ratio": statistics.median(ratios)}
                line += f"  {row['ratio']:8.2f} x"
            if memory and name in memory:
                row["bytes"] = memory[name]
                line += f"  {memory[name] / 2**20:9.1f} MiB"
            for figure, of_contenders in figures.items():
                if name in of_contenders:
                    row[figure] = of_contenders[name]
                    line += f"  {of_contenders[name]:,.4g} {figure}"
            self.rows.append(row)
            print(line, flush=True)
        for name in out_of_memory:
            self.rows.append({"case": dict(case), "name": name, "seconds": None})
            print(f"  {name:34s} out of memory", flush=True)
        print(flush=True)

    def bar(self, what: str, value: float, bar: float, *, at_least: bool = False) -> None:
        """Prints whether a figure meets its bar.

        Args:
            what: Name of the figure.
            value: The figure.
            bar: What it must be.
            at_least: Whether the figure must be at least the bar, and not at most.
        """
        met = value >= bar if at_least else value <= bar
        sign = "at least" if at_least else "at most"
        self.bars.append(f"{what}: {value:,.4g}, {sign} {bar:,.4g} wanted: {'met' if met else 'MISSED'}")
        print(f"bar: {self.bars[-1]}", flush=True)

    def save(self, folder: str | Path | None) -> None:
        """Writes ``<topic>.json``, a page ``<topic>.md`` and, where cases differ in size, ``<topic>.png``.

        Args:
            folder: Where to write them; it is made if need be. ``None``: nothing is written.
        """
        if folder is None:
            return
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        data = {"topic": self.topic, "machine": machine(), "rows": self.rows, "bars": self.bars}
        write_whole(folder / f"{self.topic}.json", (json.dumps(data, indent=1) + "\n").encode())
        page = [f"# {self.title}", f"```bash\n{' '.join(['python', *sys.argv])}\n```", table(self.rows)]
        if self.bars:
            page.append("\n".join(f"- {bar}" for bar in self.bars))
        if len({row["case"].get(self.size) for row in self.rows} - {None}) > 1:
            self._draw(folder / f"{self.topic}.png")
            page.append(f"![Cost against size]({self.topic}.png)")
        page.append("Measured with " + ", ".join(f"{name} {value}" for name, value in machine().items()) + ".")
        write_whole(folder / f"{self.topic}.md", ("\n\n".join(page) + "\n").encode())

    def _draw(self, path: Path) -> None:
        matplotlib.use("Agg")
        from matplotlib import pyplot

        kinds = [("seconds", 1.0, "seconds")]
        if any("bytes" in row for row in self.rows):
            kinds.append(("bytes", 2.0**20, "peak memory, MiB"))
        figure, axes = pyplot.subplots(
            1, len(kinds), figsize=(5.5 * len(kinds), 4.5), squeeze=False, layout="constrained"
        )
        lines: dict[str, list[dict[str, Any]]] = {}
        for row in sorted(self.rows, key=lambda row: row["case"].get(self.size, 0)):
            if self.size in row["case"]:
                lines.setdefault(", ".join([row["name"], *self._kind(row["case"])]), []).append(row)
        colours = pyplot.get_cmap("tab10" if len(lines) <= 10 else "tab20")
        for axis, (key, unit, label) in zip(axes[0], kinds, strict=True):
            for number, (name, rows) in enumerate(lines.items()):
                shown = [row for row in rows if row.get(key)]  # 0 has no logarithm
                if shown:
                    sizes = [row["case"][self.size] for row in shown]
                    axis.plot(
                        sizes, [row[key] / unit for row in shown], "o-", color=colours(number), markersize=3, label=name
                    )
            axis.set(xscale="log", yscale="log", xlabel=self.size.replace("_", " "), ylabel=label)
            axis.grid(alpha=0.3)
        figure.legend(
            *axes[0][0].get_legend_handles_labels(), fontsize=7, ncols=1 + len(kinds), loc="outside lower center"
        )
        figure.suptitle(self.title, fontsize=10)
        figure.savefig(path, dpi=110, bbox_inches="tight")
        pyplot.close(figure)

    def _kind(self, case: Mapping[str, Any]) -> list[str]:
        """Returns the options in which a case differs from other cases of its size."""
        cases = [row["case"] for row in self.rows if row["case"].get(self.size) == case[self.size]]
        keys = [key for key in case if len({other.get(key) for other in cases}) > 1]
        return [f"{key.replace('_', ' ')} {case[key]}" for key in keys]


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns a table of comparisons: median time, range, ratio, memory and other figures.

    Args:
        rows: Of :attr:`Report.rows`.
    """
    known = {"case", "name", "seconds", "fastest", "slowest", "rounds", "against", "ratio", "bytes"}
    numbers = (name for row in rows for name, value in row.items() if isinstance(value, int | float))
    figures = [name for name in dict.fromkeys(numbers) if name not in known]
    heads = {"ratio": "ratio", "bytes": "MiB", **{name: name.replace("_", " ") for name in figures}}
    heads = {name: head for name, head in heads.items() if any(name in row for row in rows)}
    shown = [key for key in dict.fromkeys(key for row in rows for key in row["case"])]
    lines = ["| " + " | ".join([*shown, "", "median", "range", *heads.values()]).replace("_", " ") + " |"]
    lines.append("| " + " | ".join(["---:"] * len(shown) + ["---"] + ["---:"] * (2 + len(heads))) + " |")
    for row in rows:
        case = [f"{value:,}" if isinstance(value, int) else str(value) for value in map(row["case"].get, shown)]
        times = ["out of memory", ""]
        if row["seconds"] is not None:
            times = [_time(row["seconds"]), f"{_time(row['fastest'])} to {_time(row['slowest'])}"]
        name = f"**{row['name']}**" if row["name"] == row.get("against") else row["name"]
        of_row = {"ratio": "{:.2f} x", "bytes": "{:,.1f}", **dict.fromkeys(figures, "{:,.4g}")}
        values = {key: value / 2**20 if key == "bytes" else value for key, value in row.items() if key in heads}
        cells = [of_row[key].format(values[key]) if key in values else "" for key in heads]
        cells = [*("" if value == "None" else value for value in case), name, *times, *cells]
        lines.append("| " + " | ".join(" ".join(cell.split()) for cell in cells) + " |")
    return "\n".join(lines)


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:9.2f} ms" if seconds < 10 else f"{seconds:9.2f} s "


def command(description: str | None) -> argparse.ArgumentParser:
    """Returns a parser with the options that all timed benchmarks have: ``--rounds``, ``--threads`` and ``--save``."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9, help="timed calls of each contender")
    parser.add_argument("--threads", type=int, help="threads of torch and faiss (default: their own)")
    parser.add_argument("--save", metavar="FOLDER", help="write the figures as a page, JSON and a plot to this folder")
    return parser


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """Parses the command line and sets the number of threads."""
    args = parser.parse_args()
    if args.threads:
        import faiss

        torch.set_num_threads(args.threads)
        faiss.omp_set_num_threads(args.threads)
    return args
