"""``hierpretrain report``: one file, of the images that could be read; errors in one line."""

import json
import re
import sys

import pytest

from hierpretrain.commands.report import main
from tests.commands.places import write_model, write_photos


@pytest.fixture
def place(tmp_path):
    """A config, a work directory with a checkpoint and a log, and a folder of four images, one of them broken."""
    log = tmp_path / "work" / "20260101_000000" / "vis_data"
    log.mkdir(parents=True)
    (log / "scalars.json").write_text('{"loss": 2.0, "step": 1}\n{"loss": 1.0, "step": 2}\n')
    write_model(tmp_path, "work/epoch_1.pth")
    write_photos(tmp_path, ("cat/1.png", "cat/2.png", "dog/1.png"), broken="cat/broken.png")
    return tmp_path


@pytest.fixture
def run(place, monkeypatch):
    """Returns a function that runs the command with the model of the place."""

    def run(*words):
        words = [place / "tiny.py", place / "work/epoch_1.pth", "--device", "cpu", "--workers", "0", *words]
        monkeypatch.setattr(sys, "argv", ["report", *map(str, words)])
        main()

    return run


def test_the_report_is_of_the_images_and_of_the_checkpoints_training(place, run, capsys):
    run(place / "photos", "--out", place / "out.html")
    page = (place / "out.html").read_text(encoding="utf-8")
    assert "<h1>Report of tiny, epoch_1.pth</h1>" in page
    data = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)[1])
    assert data["images"]["paths"] == ["cat/1.png", "cat/2.png", "dog/1.png"]
    assert data["history"] == {"loss": {"loss": [[1, 2], [2.0, 1.0]]}}
    assert "1 file could not be read and is not in this report" in page
    printed = capsys.readouterr().out
    assert re.search(r"wrote .*out\.html: \d+\.\d MB, with thumbnails of 64 pixels", printed)


def test_title_and_history_can_be_given(place, run):
    run(place / "photos", "--out", place / "out.html", "--title", "Pets & others", "--history", place)
    page = (place / "out.html").read_text(encoding="utf-8")
    assert "<h1>Pets &amp; others</h1>" in page
    assert f"There is no vis_data/scalars.json, which MMEngine writes when it trains, in {place}." in page


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-points", "0"], "error: max_points must be at least 1; it is 0"),
        (["--query", "test", "--gallery", "all"], "error: no evaluated image is of the split 'test'"),
    ],
)
def test_errors_are_one_line(place, run, capsys, words, message):
    with pytest.raises(SystemExit) as error:
        run(place / "photos", "--out", place / "out.html", *words)
    assert error.value.code == 2
    assert message in capsys.readouterr().err
    assert not (place / "out.html").exists()
