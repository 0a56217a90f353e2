"""No command replaces a file that it reads, or by default one that is not its own."""

import argparse
import sys

import pytest

from hierpretrain.commands import check, check_outputs, classify, compare, make_split, report, search


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Returns a function that runs a command in an empty folder, and returns its error."""
    monkeypatch.chdir(tmp_path)

    def run(command, *words):
        monkeypatch.setattr(sys, "argv", ["hierpretrain", *words])
        with pytest.raises(SystemExit) as ended:
            command.main()
        assert ended.value.code == 2
        return capsys.readouterr().err

    return run


@pytest.mark.parametrize(
    ("command", "words", "file", "option"),
    [
        (check, ["check.csv", "--quick"], "check.csv", "out"),
        (check, ["check.csv", "--quick", "--out", "check.csv"], "check.csv", "out"),
        (check, ["photos", "--checkpoint", "a.pth", "--config", "a.py", "--out", "./a.pth"], "a.pth", "out"),
        (classify, ["shop.index", "new.csv", "--csv", "new.csv"], "new.csv", "csv"),
        (search, ["shop.index", "a.png", "b.png", "--json", "b.png"], "b.png", "json"),
        (search, ["shop.index", "a.png", "--level", "1", "--sheet", "a.png"], "a.png", "sheet"),
        (report, ["a.py", "a.pth", "new.csv", "--out", "new.csv"], "new.csv", "out"),
        (make_split, ["a.py", "--level", "1", "--unseen-share", "0.2", "--out", "a.py"], "a.py", "out"),
    ],
)
def test_what_is_read_is_not_replaced(run, tmp_path, command, words, file, option):
    (tmp_path / file).write_bytes(b"image,label\na.png,cat\n")
    assert f"{file} is read by this command and would be replaced: give another --{option}\n" in run(command, *words)
    assert (tmp_path / file).read_bytes() == b"image,label\na.png,cat\n"


def test_a_link_to_what_is_read_is_it(tmp_path):
    (tmp_path / "list.csv").write_text("image\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "list.csv")
    args = argparse.Namespace(images=[str(tmp_path / "list.csv")], csv=str(tmp_path / "link.csv"))
    with pytest.raises(
        ValueError, match=r"link\.csv is read by this command and would be replaced: give another --csv"
    ):
        check_outputs(args, "csv")


def test_two_outputs_are_two_files(tmp_path):
    args = argparse.Namespace(csv=str(tmp_path / "a.json"), json=f"{tmp_path}/./a.json")
    with pytest.raises(ValueError, match=r"a\.json would be written twice: give another --csv"):
        check_outputs(args, "csv", "json")
    check_outputs(argparse.Namespace(json="-", sheet="-"), "json", "sheet")  # the standard output


@pytest.mark.parametrize(
    ("command", "words", "file"),
    [
        (check, ["photos"], "check.csv"),
        (report, ["a.py", "a.pth"], "report.html"),
        (compare, ["runs/a"], "comparison.md"),
        (compare, ["runs/a"], "comparison.csv"),
        (compare, ["runs/a"], "comparison.html"),
    ],
)
def test_a_file_of_the_default_name_that_is_not_ours_stays(run, tmp_path, command, words, file):
    mine = b"<!DOCTYPE html>\n<title>mine</title>" if file.endswith(".html") else b"mine,all\n"
    (tmp_path / file).write_bytes(mine)
    message = f"error: {file} is there and is not of this command: give --out, or move it away\n"
    assert run(command, *words) == message
    assert (tmp_path / file).read_bytes() == mine
