"""The commands of docs/tour.md, as they stand there, in their order, in an empty folder.

But for one thing: the training is on the 607 images of the queries.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", (ROOT / "docs/tour.md").read_text(encoding="utf-8"), re.DOTALL | re.M)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """An empty folder, and an environment in which ``hierpretrain`` is the command of this checkout."""
    folder = tmp_path_factory.mktemp("tour")
    programs = folder / "bin"
    programs.mkdir()
    command = programs / "hierpretrain"
    fewer = "--cfg-options train_dataloader.dataset.split=query"
    command.write_text(
        f'#!/bin/sh\n[ "$1" = train ] && set -- "$@" {fewer}\nexec "{sys.executable}" -m hierpretrain "$@"\n'
    )
    command.chmod(0o755)
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(paths),
    }
    return folder, environment


@pytest.mark.slow
def test_the_tour_runs_from_its_first_command_to_its_last(place):
    folder, environment = place
    install, *commands = [text for kind, text in BLOCKS if kind == "bash"]
    assert "pip install" in install  # the test's environment stands for it
    assert len(commands) == 6
    printed = []
    for command in commands:
        done = subprocess.run(
            ["bash", "-e", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, timeout=1500
        )
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
        printed.append(done.stdout)
    train, index, search, within, classify, report = printed
    for part in ("contrastive", "cross_entropy"):
        assert re.search(rf"loss/{part}: [\d.]+  (loss/{part}/(category|subcategory|emoji): [\d.]+  ){{3}}", train)
    for name in ("epoch_4.pth", "metrics.json", "tsne.png", "retrieval.png"):
        assert (folder / "work_dirs/finetune_emoji" / name).exists(), name
    assert "embedded 1,254 images" in index
    assert Image.open(folder / "found.png").size[0] > 700
    assert search.count("data/emoji64/") >= 4 * 7  # four queries and six neighbours of each
    neighbours = re.findall(r"^ +\d+ +[\d.]+ +(\S+)", within, re.M)
    assert len(neighbours) == 4
    assert all(label.startswith("animals-nature/") for label in neighbours)
    assert re.search(r"flag-td/twemoji.webp: flags \([01]\.\d+\) / country-flag \([01]\.\d+\)", classify)
    assert "wrote report.html" in report
    assert 1e6 < (folder / "report.html").stat().st_size < 30e6

    (python,) = [text for kind, text in BLOCKS if kind == "python"]
    done = subprocess.run(
        [sys.executable, "-c", python], cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert len(done.stdout.splitlines()) == 3
