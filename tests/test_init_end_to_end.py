"""From images to a search: ``hierpretrain init`` and the commands that it names, in its order, on its config as it is.

(All but ``check``, which finds faults in data, and has tests of its own.)

The images are a folder, and a shop's list: semicolons, a byte order mark, ten columns, cells that are empty in the
middle, and items in two categories.
"""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
KINDS = {"birds": ("eagle", "gull", "owl"), "tools": ("axe", "drill", "saw")}
EACH = 25
HUES = {breed: hue for hue, breed in enumerate(b for breeds in KINDS.values() for b in breeds)}


def items():
    """Yields number, kind, breed and picture of 150 items; a breed is a colour, and a kind a direction of stripes."""
    for kind, breeds in KINDS.items():
        for breed in breeds:
            for i in range(EACH):
                number = HUES[breed] * EACH + i
                draw = np.random.default_rng(number)
                stripes = 120 * (np.arange(48) // draw.integers(3, 8) % 2)[:, None].repeat(48, 1)
                stripes = (stripes if kind == "birds" else stripes.T)[..., None].repeat(3, 2)
                stripes[..., HUES[breed] % 3] += 60 + 30 * (HUES[breed] > 2)
                noise = draw.normal(0, 20, stripes.shape)
                yield number, kind, breed, Image.fromarray(np.clip(stripes + noise, 0, 255).astype(np.uint8))


def write_folder(root):
    for number, kind, breed, picture in items():
        path = root / kind / breed / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    return root


def write_shop(root):
    (root / "pictures").mkdir(parents=True)
    with open(root / "shop.csv", "w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(["no.", "sku", "photo", "about", "price", "department", "category", "type", "maker", "added"])
        for number, kind, breed, picture in items():
            picture.save(root / "pictures" / f"{number}.png")
            place = [kind, breed, f"{breed}-{number % 2}"]
            place[1] = "" if number % 25 == 3 else place[1]
            place = ["birds|tools", "", ""] if number % 25 == 4 else place
            about = f'one of our {number} best things; with "quality", says {"everybody" if number % 2 else "nobody"}'
            maker = ("Ann", "Bob", "")[number % 3]
            price = f"{number % 40 + 1},90"
            writer.writerow([number, f"SKU-{number * 7}", f"{number}.png", about, price, *place, maker, "2024-05-01"])
    return root / "shop.csv"


@pytest.fixture
def hierpretrain(tmp_path):
    """Returns a function that runs a command line in an empty folder, as a shell would, and returns what it wrote."""

    def hierpretrain(line):
        name, *words = shlex.split(line)
        assert name == "hierpretrain"
        paths = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, "-m", "hierpretrain", *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": paths},
            capture_output=True,
            text=True,
            timeout=1500,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    return hierpretrain


def next_commands(printed):
    """Returns the commands that init names at its end, by their names, in their order."""
    lines = re.findall(r"^  (hierpretrain .+)$", printed.partition("\nnext\n")[2], re.M)
    return {line.split()[1]: line for line in lines}


def train_and_search(hierpretrain, folder, printed, levels):
    """Runs all that init names, and returns what the search found; checks what each of them says."""
    lines = next_commands(printed)
    assert list(lines) == ["check", "train", "report", "index", "search"]
    written = {path: path.read_bytes() for path in folder.glob("*.py")}
    hierpretrain(lines["train"])
    (metrics,) = folder.glob("work_dirs/*/metrics.json")
    results = json.loads(metrics.read_text())["metrics"]
    assert results[f"{levels[0]}/recall@1"] > 0.9
    assert {f"{level}/recall@1" for level in levels} <= results.keys()
    hierpretrain(lines["report"])
    (report,) = folder.glob("*.html")
    assert report.stat().st_size > 1e5
    assert "embedded 150 images" in hierpretrain(lines["index"])
    hierpretrain(f"{lines['search']} -k 4 --json found.json")
    assert {path: path.read_bytes() for path in folder.glob("*.py")} == written
    (found,) = json.loads((folder / "found.json").read_text())
    assert found["neighbours"][0]["path"] == str(folder / found["query"])  # it is in the index itself
    assert found["neighbours"][0]["score"] == pytest.approx(1, abs=1e-4)
    return found


@pytest.mark.slow
def test_a_folder(hierpretrain, tmp_path):
    write_folder(tmp_path / "photos")
    printed = hierpretrain("hierpretrain init photos --epochs 2")
    found = train_and_search(hierpretrain, tmp_path, printed, ["level1", "level2"])
    assert found["neighbours"][0]["labels"] == [["birds", "eagle"]]


@pytest.mark.slow
def test_a_list(hierpretrain, tmp_path):
    write_shop(tmp_path / "shop")
    printed = hierpretrain("hierpretrain init shop/shop.csv --epochs 2")
    found = train_and_search(hierpretrain, tmp_path, printed, ["department", "category", "type"])
    nearest = found["neighbours"][0]
    assert nearest["key"] == "SKU-0"
    assert nearest["labels"] == [["birds", "eagle", "eagle-0"]]
    assert nearest["metadata"]["price"] == "1,90"
