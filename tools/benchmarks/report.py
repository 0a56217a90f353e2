"""Builds a report of many images and opens it: time, peak memory, size of the file, time until the map is drawn.

The images are JPEG files of smooth random colours. The features of a class are its centre plus noise, and the centre of
a class lies around the centre of its parent. The bars at 50,000 images: 4 GiB of memory, a file of 30 MB.

Examples:
    python tools/benchmarks/report.py
    python tools/benchmarks/report.py --images 5000 --keep small.html
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from measure import machine
from PIL import Image

from hierpretrain.evaluation import Embeddings
from hierpretrain.report import write_report
from hierpretrain.taxonomy import Taxonomy

BRANCHING = (10, 10, 10)  # children of the root and of each node of the two levels below it
SIDE = 96


def embedded(folder: Path, number: int, dim: int) -> Embeddings:
    """Writes images and returns them with embeddings, evenly spread over the leaves."""
    rng = np.random.default_rng(0)
    paths = [()]
    centres = np.zeros((1, dim))
    for level, width in enumerate(BRANCHING, start=1):
        paths = [(*path, f"{path[-1] if path else 'node'}-{i}") for path in paths for i in range(width)]
        centres = centres.repeat(width, 0) + rng.normal(size=(len(paths), dim)) / level
    tree = Taxonomy(paths, ("order", "family", "species"))
    of_leaf = rng.integers(len(paths), size=number)
    features = torch.from_numpy(centres[of_leaf] + 0.6 * rng.normal(size=(number, dim))).float()
    files = []
    for i, leaf in enumerate(of_leaf):
        file = folder / "/".join(paths[leaf]) / f"{i:06d}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        colours = rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)
        Image.fromarray(colours).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, quality=85)
        files.append(str(file))
    labels = tree.encode([paths[leaf] for leaf in of_leaf])
    rows = torch.nn.functional.normalize(features, dim=1)
    return Embeddings(rows, labels, labels[:, :0], ["all"] * number, files, tree, ())


def time_to_map(path: Path, profile: str) -> float | None:
    """Returns the seconds from opening a report to its map in a headless Chromium, or ``None`` without one."""
    try:
        from selenium import webdriver
        from selenium.webdriver.support.wait import WebDriverWait
    except ImportError:
        return None
    programs = shutil.which("chromium"), shutil.which("chromedriver")
    if not all(programs):
        return None
    options = webdriver.ChromeOptions()
    options.binary_location = programs[0]
    for option in ("headless=new", "no-sandbox", "no-first-run", "disable-background-networking", "disable-sync"):
        options.add_argument(f"--{option}")
    for option in ("use-angle=swiftshader", "enable-unsafe-swiftshader", f"user-data-dir={profile}"):
        options.add_argument(f"--{option}")
    driver = webdriver.Chrome(options, webdriver.ChromeService(programs[1]))
    try:
        driver.get(path.as_uri())
        drawn = "return performance.getEntriesByName('map drawn')[0]?.startTime"
        return WebDriverWait(driver, 180).until(lambda driver: driver.execute_script(drawn)) / 1000
    finally:
        driver.quit()


def main() -> None:
    """Builds the report, opens it and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=50_000, help="how many images")
    parser.add_argument("--dim", type=int, default=512, help="size D of an embedding")
    parser.add_argument("--keep", metavar="FILE", help="where to leave the report; a temporary folder if not given")
    args = parser.parse_args()
    print(", ".join(f"{name} {value}" for name, value in machine().items()), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        images = embedded(Path(folder), args.images, args.dim)
        path = Path(args.keep or f"{folder}/report.html").resolve()
        start = time.monotonic()
        write_report(images, path, title=f"{args.images:,} images", log=lambda text: print(text, flush=True))
        seconds = time.monotonic() - start
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # of the whole process, in GiB
        print(f"{args.images:,} images: {seconds:.0f} s, peak {peak:.2f} GiB, {path.stat().st_size / 1e6:.1f} MB")
        drawn = time_to_map(path, f"{folder}/profile")
        print("no Chromium to open it in" if drawn is None else f"the map is drawn {drawn:.1f} s after opening")


if __name__ == "__main__":
    main()
