"""tools/make_split.py as a user runs it, in this process."""

import re
import runpy
import sys
from pathlib import Path

import pytest

from hierpretrain.apis import read_level
from hierpretrain.datasets import ListDataset, Split

ROOT = Path(__file__).parent.parent


@pytest.fixture
def make_split(tmp_path, monkeypatch):
    """Runs the tool on a list of 30 images: kinds a, b, c; two breeds each; every fifth image is the test split."""
    lines = [f"{i:02}.jpg,{'train' if i % 5 else 'test'},{'abc'[i % 3]},{'xy'[i % 2]}" for i in range(30)]
    (tmp_path / "list.csv").write_text("\n".join(["image,split,kind,breed", *lines, "none.jpg,train,,"]) + "\n")
    (tmp_path / "config.py").write_text(
        "train_dataloader = dict(dataset=dict(type='ListDataset', ann_file='list.csv', data_root='nowhere', "
        "split='train', split_file='none.json', level_names=('sort', 'race'), pipeline=[dict(type='LoadRGB')]))\n"
    )

    def run(*arguments):
        command = ["make_split.py", str(tmp_path / "config.py"), "--data-root", str(tmp_path), *arguments]
        monkeypatch.setattr(sys, "argv", [*command, "--out", str(tmp_path / "split.json")])
        runpy.run_path(str(ROOT / "tools/make_split.py"), run_name="__main__")
        return Split.load(tmp_path / "split.json")

    return run


def test_table_and_file(make_split, capsys, tmp_path):
    split = make_split("--level", "sort", "--unseen", "b")
    assert split.level == "sort"  # the config's name of it
    assert split.unseen == (("b",),)
    assert split.shares == (0.6, 0.2, 0.2)
    assert {image for image, tag in split.tags.items() if tag.startswith("unseen")} == {
        f"{i:02}.jpg" for i in range(1, 30, 3)
    }
    assert capsys.readouterr().out.splitlines() == [
        "tag                      images    classes",
        "seen_test                     4          2",
        "seen_train                   12          2",
        "seen_val                      4          2",
        "unseen_test                   2          1",
        "unseen_train                  6          1",
        "unseen_val                    2          1",
        "unused                        1          0",
        f"written to {tmp_path}/split.json",
    ]


def test_classes_and_branches_as_lists_of_names(make_split, capsys):
    split = make_split("--level", "race", "--unseen", '["a", "x"]', "b/y", "--hold-out", '["c"]')
    assert (split.unseen, split.held_out) == ((("a", "x"), ("b", "y")), (("c",),))
    for option in ("--unseen", "--hold-out"):
        with pytest.raises(SystemExit):
            make_split("--level", "race", "--unseen", "b/y", option, "[1]")
        message = f"error: {option} takes a path, a name, or a JSON list of names; it is '[1]'"
        assert message in capsys.readouterr().err


def test_options(make_split, tmp_path):
    split = make_split("--level", "-1", "--unseen-share", "0.5", "--seed", "4", "--shares", "0.5", "0", "0.5")
    assert (split.level, split.seed, split.shares, len(split.unseen)) == ("race", 4, (0.5, 0.0, 0.5), 3)
    (tmp_path / "classes.txt").write_text('a/x\r\n\n ["c", "y"] \n')
    arguments = ("--keep-splits", "--val-share", "0.25", "--unit", "2")
    split = make_split("--level", "2", "--unseen-file", str(tmp_path / "classes.txt"), *arguments)
    assert split.unseen == (("a", "x"), ("c", "y"))
    assert (split.shares, split.val_share, split.unit) == (None, 0.25, "race")
    assert all(tag.endswith("_test") == (int(name[:2]) % 5 == 0) for name, tag in split.tags.items() if tag != "unused")


def test_the_annotations_are_read_once(make_split, monkeypatch):
    calls = []
    read = ListDataset.read
    monkeypatch.setattr(ListDataset, "read", lambda self: calls.append(self) or read(self))
    assert make_split("--level", "1", "--unseen", "b").unseen == (("b",),)
    assert len(calls) == 1


def test_a_config_that_does_not_train(monkeypatch, tmp_path, capsys):
    command = ["make_split.py", str(ROOT / "configs/linear_emoji.py"), "--level", "1", "--unseen", "b"]
    monkeypatch.setattr(sys, "argv", [*command, "--out", str(tmp_path / "split.json")])
    message = (
        r"linear_emoji\.py has no train_dataloader, whose data set is split; give a config that trains on .*himulcone"
    )
    with pytest.raises(SystemExit):
        runpy.run_path(str(ROOT / "tools/make_split.py"), run_name="__main__")
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize(
    ("text", "level"), [("2", 2), ("-1", -1), ("0", 0), ("kind", "kind"), ("--1", "--1"), ("²", "²")]
)
def test_levels_as_text(text, level):
    assert read_level(text) == level


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--unseen", "b", "--unseen-share", "0.2"),
        ("--unseen", "b", "--keep-splits", "--shares", "0.6", "0.2", "0.2"),
    ],
)
def test_options_that_exclude_each_other(make_split, arguments, capsys):
    with pytest.raises(SystemExit):
        make_split("--level", "1", *arguments)
    assert "usage: make_split.py" in capsys.readouterr().err


def test_a_tag_of_no_branches(make_split, capsys):
    with pytest.raises(SystemExit):
        make_split("--level", "1", "--unseen", "b", "--hold-out-tag", "catalogue")
    told = "--hold-out-tag is for the branches of --hold-out, and there is none: name them, or leave it out"
    assert told in capsys.readouterr().err


def test_the_list_of_ho_et_al():
    names = (ROOT / "configs/_base_/splits/modelnet40_ho.txt").read_text().split()
    assert names == "bathtub bed chair desk dresser monitor night_stand sofa table toilet".split()


def test_branches_that_are_held_out(make_split):
    split = make_split("--level", "race", "--unseen", "a/x", "--hold-out", "c", "--hold-out-tag", "catalogue")
    assert split.held_out == (("c",),)
    held_out = {image for image, tag in split.tags.items() if tag.startswith("catalogue_")}
    assert held_out == {f"{i:02}.jpg" for i in range(2, 30, 3)}


def test_of_data_sets_that_are_joined_each_has_a_split_of_its_own(make_split, tmp_path, capsys):
    alone = make_split("--level", "sort", "--unseen", "b")
    config = (tmp_path / "config.py").read_text()
    own = config.removeprefix("train_dataloader = dict(dataset=").removesuffix(")\n")
    (tmp_path / "config.py").write_text(
        f"train_dataloader = dict(dataset=dict(type='RepeatDataset', times=3, dataset={own}))\n"
    )
    assert make_split("--level", "sort", "--unseen", "b") == alone
    (tmp_path / "config.py").write_text(
        f"train_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=[{own}, {own}]))\n"
    )
    with pytest.raises(SystemExit):
        make_split("--level", "sort", "--unseen", "b")
    assert "one data set is split, and " in (told := capsys.readouterr().err)
    assert "trains on 2 that are joined; make a split file for each, of a config that has it alone" in told


def renew(tmp_path, monkeypatch, capsys, *arguments):
    """Runs the tool with --renew, and returns its status and what it printed."""
    command = ["make_split.py", str(tmp_path / "config.py"), "--data-root", str(tmp_path), "--renew", *arguments]
    monkeypatch.setattr(sys, "argv", command)
    capsys.readouterr()
    try:
        runpy.run_path(str(ROOT / "tools/make_split.py"), run_name="__main__")
    except SystemExit as ended:
        return ended.code, capsys.readouterr().err
    return 0, capsys.readouterr().out


def reads(tmp_path, split_file):
    """Lets the config read a split file."""
    config = (tmp_path / "config.py").read_text()
    (tmp_path / "config.py").write_text(config.replace("'none.json'", repr(split_file and str(tmp_path / split_file))))


def test_a_renewal(make_split, tmp_path, monkeypatch, capsys):
    split = make_split("--level", "sort", "--unseen", "b")
    reads(tmp_path, "split.json")
    lines = (tmp_path / "list.csv").read_text().splitlines()
    new = [f"a{i}.jpg,train,a,x" for i in range(10)] + [f"d{i}.jpg,train,d,x" for i in range(3)]
    (tmp_path / "list.csv").write_text("\n".join([lines[0], *new, *lines[4:]]) + "\n")
    status, printed = renew(tmp_path, monkeypatch, capsys)
    renewed = Split.load(tmp_path / "split.json")
    assert status == 0
    assert printed.splitlines() == [  # seen: 19, 6 and 6 of 31
        "tag                        kept        new       gone",
        "seen_test                     4          2          0",
        "seen_train                   11          8          1",
        "seen_val                      3          3          1",
        "unseen_test                   2          0          0",
        "unseen_train                  6          0          0",
        "unseen_val                    1          0          1",
        "unused                        1          0          0",
        "total                        28         13          3",
        f"written to {tmp_path}/split.json",
    ]
    assert renewed.tags.keys() - split.tags.keys() == {line.split(",")[0] for line in new}
    assert split.tags.keys() - renewed.tags.keys() == {"00.jpg", "01.jpg", "02.jpg"}
    assert all(split.tags.get(image, tag) == tag for image, tag in renewed.tags.items())
    whole = (tmp_path / "split.json").read_bytes()
    (tmp_path / "list.csv").write_text("\n".join([lines[0], *reversed([*new, *lines[4:]])]) + "\n")
    assert renew(tmp_path, monkeypatch, capsys)[0] == 0
    assert (tmp_path / "split.json").read_bytes() == whole
    (tmp_path / "list.csv").write_text("\n".join([lines[0], "e.jpg,train,e,x", *lines[4:]]) + "\n")
    status, printed = renew(tmp_path, monkeypatch, capsys, "--unseen-share", "1", "--out", str(tmp_path / "other.json"))
    assert "\nnew classes that are unseen: 'e'\n" in printed
    assert (tmp_path / "split.json").read_bytes() == whole
    assert Split.load(tmp_path / "other.json").unseen == (("b",), ("e",))


def test_a_renewal_of_a_file_that_records_no_shares(make_split, tmp_path, monkeypatch, capsys):
    tags = {f"{i:02}.jpg": "train" if i < 20 else "test" for i in range(30)}
    Split(tags, None, (), 0, None, None, None, "by hand").save(tmp_path / "split.json")
    reads(tmp_path, "split.json")
    status, told = renew(tmp_path, monkeypatch, capsys)
    assert (status, told) == (
        2,
        "error: the split file does not record by which fractions its new images can be dealt out: give them, as in "
        "--shares 0.8 0.1 0.1\n",
    )
    assert renew(tmp_path, monkeypatch, capsys, "--shares", "0.8", "0.1", "0.1")[0] == 0
    renewed = Split.load(tmp_path / "split.json")
    assert renewed.tags.items() >= tags.items()
    assert renewed.shares == (0.8, 0.1, 0.1)
    status, told = renew(tmp_path, monkeypatch, capsys, "--shares", "0.6", "0.2", "0.2")
    assert (status, told) == (2, f"error: {tmp_path}/split.json records how its images are dealt: leave out --shares\n")


def test_what_cannot_be_renewed(make_split, tmp_path, monkeypatch, capsys):
    status, told = renew(tmp_path, monkeypatch, capsys, "--level", "1")
    assert status == 2
    assert "with --renew, the split file says what --level would: leave it out" in told
    status, told = renew(tmp_path, monkeypatch, capsys, "--seed", "0")
    assert status == 2
    assert "with --renew, the split file says what --seed would: leave it out" in told
    assert "none.json: No such file" in renew(tmp_path, monkeypatch, capsys)[1]
    reads(tmp_path, "")
    assert "trains on has no split_file to renew; make one: hierpretrain" in renew(tmp_path, monkeypatch, capsys)[1]


def test_the_split_file_of_the_config_is_not_drawn_anew(make_split, tmp_path, capsys):
    reads(tmp_path, "split.json")
    make_split("--level", "sort", "--unseen", "b")  # it is not there yet
    whole = (tmp_path / "split.json").read_bytes()
    with pytest.raises(SystemExit):
        make_split("--level", "sort", "--unseen", "a")
    assert capsys.readouterr().err == (
        f"error: {tmp_path}/split.json is the split file that {tmp_path}/config.py reads, and a new one would give all "
        f"its images new tags: renew it (hierpretrain make-split {tmp_path}/config.py --renew), give another --out, or "
        "remove it first\n"
    )
    assert (tmp_path / "split.json").read_bytes() == whole
