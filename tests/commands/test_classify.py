"""``hierpretrain calibrate`` and ``hierpretrain classify``, from folders and lists to tables, files and errors."""

import csv
import json
import os
import shutil
import sys

import pytest

from hierpretrain.apis import EmbeddingInferencer
from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.commands import calibrate as calibrate_command
from hierpretrain.commands import classify as classify_command
from tests.commands.places import COLOURS, write_model, write_set


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model, an index of three classes, and held-out and new images of these and of another one."""
    root = tmp_path_factory.mktemp("made")
    write_model(root)
    write_set(root / "gallery", list(COLOURS)[:3], 8, 0)
    write_set(root / "held_out", list(COLOURS), 16, 1)
    write_set(root / "new", list(COLOURS), 3, 2)
    inferencer = EmbeddingInferencer(root / "tiny.py", root / "epoch_1.pth", device="cpu", progress=False)
    inferencer.build_index(root / "gallery", root / "index")
    inferencer.build_index(root / "gallery", root / "bare.index")
    return root


@pytest.fixture(params=["the index's model", "a config and a checkpoint"])
def run(made, monkeypatch, request):
    def run(command, index, *words):
        model = [] if request.param == "the index's model" else [made / "tiny.py", made / "epoch_1.pth"]
        words = [made / index, *model, *words, "--device", "cpu", "--workers", "0"]
        monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
        command.main()

    return run


def rows(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_calibrate_then_classify(made, run, tmp_path, capsys):
    run(calibrate_command, "index", made / "held_out", "--precision", "0.8")
    printed = capsys.readouterr().out
    assert "calibrated by 64 images\n" in printed
    assert [line.split()[:3] for line in printed.splitlines()[-2:]] == [["level1", "48", "16"], ["level2", "48", "16"]]
    index = EmbeddingIndex.load(made / "index")
    assert (index.calibration.goal, index.calibration.rate, index.calibration.k) == ("precision", 0.8, 50)

    run(classify_command, "index", made / "new", "--csv", tmp_path / "out.csv", "--json", tmp_path / "out.json")
    printed = capsys.readouterr()
    assert "not calibrated" not in printed.err
    inferencer = EmbeddingInferencer(made / "tiny.py", made / "epoch_1.pth", device="cpu", progress=False)
    inferencer.load_index(made / "index")
    expected, near = inferencer.classify(made / "new"), inferencer.search(made / "new", k=3)
    found = rows(tmp_path / "out.csv")
    assert len(found) == len(expected) == 12
    for row, one, neighbours in zip(found, expected, near, strict=True):
        assert row["image"] == one.query
        assert row["path"] == ("/".join(one.path) or "unknown")
        assert int(row["named"]) == len(one.path)
        sure = [row["confidence level1"], row["confidence level2"]]
        assert sure[: len(one.path)] == [f"{value:.4f}" for value in one.confidences]
        assert [row[f"nearest {i}"] for i in (1, 2, 3)] == [neighbour.path for neighbour in neighbours.neighbours]
        label = one.query.removeprefix(f"{made / 'new'}/").rpartition("/")[0]
        assert row["label"] == ("unknown" if label == "other/it" else label)
        right = row["path"] == row["label"]
        assert (row["grade"] == "right") == right
    measured = json.loads((tmp_path / "out.json").read_text())
    grades = [row["grade"] for row in found if row["label"].startswith("animal")]
    assert measured["branches"]["animal"]["num_images"] == 6
    assert measured["branches"]["animal"]["right"] == grades.count("right") / 6
    assert measured["levels"]["level1"]["num_unknown"] == 3
    assert "(nothing known)" in printed.out


def test_keys_of_a_list_come_back(made, run, tmp_path, capsys):
    files = sorted(file.relative_to(made / "new") for file in (made / "new").rglob("*.png"))
    (made / "new/list.csv").write_text("image,sku\n" + "".join(f"{file},sku {i}\n" for i, file in enumerate(files)))
    words = ["--levels", "--key-column", "sku", "--nearest", "1", "--csv", tmp_path / "out.csv"]
    run(classify_command, "bare.index", made / "new/list.csv", *words)
    found = rows(tmp_path / "out.csv")
    assert [row["key"] for row in found] == [f"sku {i}" for i in range(12)]
    assert "grade" not in found[0]
    assert "nearest 2" not in found[0]
    printed = capsys.readouterr()
    assert "the index was not calibrated: confidences are fractions of votes" in printed.err
    assert "branch" not in printed.out


def test_names_that_are_no_text_are_written_as_they_are(made, run, tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    try:
        shutil.copy(next((made / "new").rglob("*.png")), name)
    except OSError:
        pytest.skip("this file system has names of text alone")
    run(classify_command, "bare.index", os.fsdecode(name), "--csv", tmp_path / "out.csv")
    assert name in (tmp_path / "out.csv").read_bytes()


def test_without_a_file_the_answers_are_printed(made, run, capsys):
    run(classify_command, "bare.index", made / "new/animal/cat/0.png")
    line = capsys.readouterr().out.splitlines()[-1]
    inferencer = EmbeddingInferencer(made / "tiny.py", made / "epoch_1.pth", device="cpu", progress=False)
    inferencer.load_index(made / "bare.index")
    (one,) = inferencer.classify(made / "new/animal/cat/0.png")
    assert line == f"{one.query}: {one}"


@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        (calibrate_command, ["held_out", "--precision", "95"], "precision must be above 0 and below 1; it is 95.0"),
        (calibrate_command, ["gallery", "--precision", "0.9"], "held-out images must not be in the index"),
        (calibrate_command, ["held_out", "--false-alarms", "0"], "false_alarms must be above 0 and below 1; it is 0.0"),
        (calibrate_command, ["new/animal/cat/0.png", "--precision", "0.9"], "at least 2 held-out images need labels"),
        (classify_command, ["new", "--nearest", "0"], "k must be at least 1; it is 0"),
        (classify_command, ["new/animal/cat/0.png", "--csv", "o.csv", "--json", "o.json"], "no image has a label"),
        (classify_command, ["new", "--csv", "nowhere.png/out.csv"], "cannot be written"),
    ],
)
def test_errors(made, run, capsys, monkeypatch, command, words, message):
    monkeypatch.chdir(made)
    (made / "nowhere.png").touch()
    with pytest.raises(SystemExit, match="2"):
        run(command, "bare.index", *words)
    assert message in capsys.readouterr().err
    assert not (made / "o.csv").exists()
    assert EmbeddingIndex.open(made / "bare.index").calibration is None


def test_without_a_config_images_are_needed(made, capsys, monkeypatch):
    for words, message in (
        ([], "give images: files, folders, patterns or lists; or CONFIG and CHECKPOINT, for the config's test data"),
        (["new", "--cfg-options", "a=1"], "--cfg-options are for CONFIG, and the index carries its own"),
        ([str(made / "new"), "--splits", "test"], "--data-root and --splits are for the config's own test data"),
    ):
        monkeypatch.setattr(sys, "argv", ["classify", str(made / "bare.index"), *words])
        with pytest.raises(SystemExit, match="2"):
            classify_command.main()
        assert message in capsys.readouterr().err


def test_one_goal_is_needed(made, run, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(calibrate_command, "bare.index", made / "held_out")
    assert "one of the arguments --precision --false-alarms is required" in capsys.readouterr().err
