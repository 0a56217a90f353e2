"""Times ``hierpretrain check`` on a folder of real, small images, with its memory in all processes together.

The images are emoji of 64 px (``data/emoji64.zip``), written again and again as JPEG with another tint and shift each
time, so that no two are copies; one in 200 is a copy, and one in 200 a look-alike. They are written before the clock
starts. The check then runs in processes of its own, as from the shell.

Wall time tells little on a machine that others use: ``CPU seconds`` is what the process and its workers took, and half
of it is the time on two idle cores. ``MiB`` is the most memory at once, by the proportional size (PSS) of the process
and its workers, in which what they share counts once.

Examples:
    python tools/benchmarks/check.py
    python tools/benchmarks/check.py --images 2000
"""

from __future__ import annotations

import argparse
import io
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from measure import ROOT, Report, command, parse
from PIL import Image

EVERY = 200  # of the images, one is a copy and one a look-alike of the one before
PER_FOLDER = 100


def write_images(root: Path, images: int) -> None:
    """Writes the images, a hundred to a class of two levels."""
    generator = np.random.default_rng(0)
    with zipfile.ZipFile(ROOT / "data/emoji64.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".webp"))
        sources = []
        for name in names[:: max(1, len(names) // 2000)]:
            picture = Image.open(io.BytesIO(archive.read(name))).convert("RGBA")
            white = Image.new("RGBA", picture.size, "white")
            white.alpha_composite(picture)
            sources.append(np.asarray(white.convert("RGB")))
    picture, data = sources[0], b""
    for i in range(images):
        place = i // PER_FOLDER
        path = root / f"coarse{place // 10}" / f"fine{place}" / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        if i % EVERY != 1:
            if i % EVERY != 2:
                tint = generator.uniform(0.5, 1, 3)
                shift = tuple(generator.integers(0, 64, 2).tolist())
                picture = (np.roll(sources[generator.integers(len(sources))], shift, (0, 1)) * tint).astype(np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(picture).save(buffer, "JPEG", quality=70 if i % EVERY == 2 else 90)
            data = buffer.getvalue()
        path.write_bytes(data)


def run(root: Path, out: Path, workers: int) -> tuple[float, float, int, str]:
    """Runs the command; returns its seconds, the CPU seconds and most bytes of all its processes, and its output."""
    words = [sys.executable, "-m", "hierpretrain", "check", str(root), "--out", str(out), "--workers", str(workers)]
    before = os.times()
    start = time.perf_counter()
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    peak = 0
    while process.poll() is None:
        peak = max(peak, _memory(process.pid))
        time.sleep(0.2)
    seconds = time.perf_counter() - start
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    text = process.stdout.read() if process.stdout else ""
    if process.returncode not in (0, 1):
        raise SystemExit(f"the check ended with status {process.returncode}")
    return seconds, cpu, peak, text


def _memory(process: int) -> int:
    """Returns the bytes of a process and of all that it has started; what they share counts once."""
    try:
        rollup = Path(f"/proc/{process}/smaps_rollup").read_text("ascii")
        children = Path(f"/proc/{process}/task/{process}/children").read_text("ascii").split()
    except OSError:  # it has just ended
        return 0
    size = re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)
    return (int(size[1]) * 1024 if size else 0) + sum(_memory(int(child)) for child in children)


def found(text: str, kind: str) -> int:
    """Returns how many problems of a kind the output of the command tells of."""
    match = re.search(rf"([\d,]+) x {re.escape(kind)} \(", text)
    return int(match[1].replace(",", "")) if match else 0


def main() -> None:
    """Writes the images, checks them and reports."""
    parser = command(__doc__)
    parser.set_defaults(rounds=1)
    parser.add_argument("--images", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--workers", type=int, default=2)
    args: argparse.Namespace = parse(parser)
    report = Report("check", "Checking a folder of images", "images")
    for images in args.images:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder, "images")
            write_images(root, images)
            runs = [run(root, Path(folder, "check.csv"), args.workers) for _ in range(args.rounds)]
        name, text = f"ours, {args.workers} workers", runs[-1][3]
        cpu = min(one[1] for one in runs)
        report.add(
            {"images": images},
            {name: [one[0] for one in runs]},
            memory={name: max(one[2] for one in runs)},
            CPU_seconds={name: cpu},
            copies={name: found(text, "copies")},
            look_alikes={name: found(text, "look-alikes")},
        )
        if images == 100_000:
            report.bar("100,000 images, CPU seconds of two cores in a minute", cpu, 120)
            report.bar("100,000 images, GiB", max(one[2] for one in runs) / 2**30, 1)
    report.save(args.save)


if __name__ == "__main__":
    main()
