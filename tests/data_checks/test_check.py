"""All faults that are planted are found, and nothing else; of clean data nothing is said."""

import csv
import json
import os
import re
import unicodedata
from pathlib import Path

import pytest

from hierpretrain.data_checks import check_sources, folder_source, list_source, pictures, write_problems
from hierpretrain.data_checks.problems import KINDS, listing
from hierpretrain.data_checks.tree import count_nodes, tree_problems
from hierpretrain.datasets import FolderDataset, read_folder, read_list
from tests.data_checks.plant import HUGE, noise, plant, write, write_clean


def told(found, root):
    """Returns the (kind, subject, others) of all problems, files by their paths below the root."""
    cut = f"{root}/"
    return sorted(
        (problem.kind, problem.subject.removeprefix(cut), tuple(other.removeprefix(cut) for other in problem.others))
        for problem in found.problems
    )


@pytest.fixture(autouse=True)
def _small_is_huge(monkeypatch):
    monkeypatch.setattr(pictures, "HUGE", HUGE**2)


@pytest.fixture
def root(tmp_path):
    return tmp_path / "photos"


def test_of_a_clean_tree_nothing_is_said(root):
    names = write_clean(root)
    found = check_sources([folder_source(str(root))], workers=0)
    assert told(found, root) == []
    assert sorted(found.sources[0].images) == sorted(names)
    assert found.sources[0].images == [
        path.removeprefix(f"{root}/") for path in FolderDataset(data_root=str(root)).image_paths
    ]


def test_every_planted_fault_of_a_folder_is_found_and_nothing_else(root, tmp_path):
    write_clean(root)
    planted = plant(root, tmp_path / "outside")
    found = check_sources([folder_source(str(root))], workers=0)
    assert set(told(found, root)) ^ planted == set()
    assert len(found.problems) == len(planted)


def write_list(path, header, lines):
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *lines])


def test_of_a_clean_list_nothing_is_said(root, tmp_path):
    names = write_clean(root)
    lines = [[name, "test" if name[-5] == "b" else "train", *name.split("/")[:-1][:2]] for name in names]
    write_list(tmp_path / "list.csv", ["image", "split", "kingdom", "kind"], [[*line, ""][:4] for line in lines])
    found = check_sources([list_source(tmp_path / "list.csv", root)], workers=0)
    assert told(found, root) == []
    assert found.sources[0].level_names == ("kingdom", "kind")
    assert found.paths[:2] == [(("animal", "cat"),)] * 2


def test_a_column_of_splits_of_another_name_is_told(root, tmp_path):
    names = write_clean(root)
    lines = [[name, "test" if name[-5] == "b" else "train", name.split("/")[0]] for name in names]
    write_list(tmp_path / "list.csv", ["image", "Split", "kind"], lines)
    (problem,) = check_sources([list_source(tmp_path / "list.csv", root)], workers=0).problems
    assert (problem.kind, problem.subject) == ("doubtful level", "Split")
    assert problem.why == "holds splits (name it, split_column='Split', --split-column Split)"
    assert check_sources([list_source(tmp_path / "list.csv", root, split_column="Split")], workers=0).problems == []


@pytest.mark.parametrize("value", [True, {"width": 1}])
def test_a_column_of_no_names_is_told_once(root, tmp_path, value):
    names = write_clean(root)
    records = [dict(image=name, kind=name.split("/")[0], other=value) for name in names]
    (tmp_path / "list.json").write_text(json.dumps(records))
    found = check_sources([list_source(tmp_path / "list.json", root)], workers=0)
    (problem,) = found.problems
    assert (problem.kind, problem.subject) == ("doubtful level", "other")
    assert problem.why == f"holds values that are no names, such as {value}"
    assert found.sources[0].level_names == ("kind",)
    assert check_sources([list_source(tmp_path / "list.json", root, levels="kind")], workers=0).problems == []


def test_every_planted_fault_of_a_list_is_found_and_nothing_else(root, tmp_path):
    """Among them are leaks between splits, by bytes and by look, and labels that contradict each other."""
    names = write_clean(root)
    list_file = tmp_path / "list.csv"
    header = ["image", "split", "kingdom", "kind", "sku", "price"]
    lines = [[name, "train", *[*name.split("/")[:-1], ""][:2], f"A{i}", f"{i}.5"] for i, name in enumerate(names)]
    planted = set()

    def plant_row(kind, subject, image, split="train", kingdom="tool", what="", others=(), write_it=True):
        if write_it and not (root / image).exists():
            write(root / image, 500 + len(lines))
        lines.append([image, split, kingdom, what, f"A{len(lines)}", f"{len(lines)}.5"])
        if kind:
            planted.add((kind, subject, tuple(others)))

    plant_row("missing file", "gone.png", "gone.png", write_it=False)
    plant_row("unsafe path", "../secret.png", "../secret.png", write_it=False)
    plant_row("bad row", f"{list_file}:{len(lines) + 2}", "gap.png", kingdom="", what="saw")
    plant_row("bad row", f"{list_file}:{len(lines) + 2}", "", write_it=False)
    (root / "link.png").symlink_to("nowhere.png")
    plant_row("broken link", "link.png", "link.png", write_it=False)
    (root / "page.png").write_text("<html>")
    plant_row("broken image", "page.png", "page.png", write_it=False)
    plant_row("no label", "lost.png", "lost.png", kingdom="")
    plant_row("contradicting rows", "tool/a.png", "tool/a.png", split="test")
    write(root / "leak.png", 0)
    plant_row("copies across splits", "animal/cat/a.png", "leak.png", "test", "animal", "cat", ["leak.png"])
    noise(2).save(root / "look.jpg", quality=95, subsampling=0)
    plant_row("look-alikes across splits", "animal/dog/a.png", "look.jpg", "test", "animal", "dog", ["look.jpg"])
    write(root / "other.png", 3)
    plant_row("copies across classes", "animal/dog/b.png", "other.png", kingdom="tool", others=["other.png"])
    for i in range(2):
        plant_row(None, "", f"spelt{i}.png", kingdom="Tool")
    planted.add(("two spellings", "tool", ("Tool",)))
    write(root / "unlisted.png", 800)
    planted.add(("not listed", "unlisted.png", ()))
    planted |= {("doubtful level", "sku", ()), ("doubtful level", "price", ())}
    write_list(list_file, header, lines)
    found = check_sources([list_source(list_file, root)], workers=0)
    assert set(told(found, root)) ^ planted == set()
    assert len(found.problems) == len(planted)


def test_listed_files_are_found_in_any_unicode_form_of_their_folders(root, tmp_path):
    one, two = "caf\u00e9", "cafe\u0301"
    for i, name in enumerate((f"{two}/{one}/a.png", f"{two}/{one}/b.png", f"{two}/{one}/c.png")):
        write(root / name, i)
    names = [f"{one}/{two}/a.png", f"{two}/{two}/b.png"]
    write_list(tmp_path / "list.csv", ["image", "kind"], [[name, "bar"] for name in names])
    source = list_source(str(tmp_path / "list.csv"), str(root), levels=["kind"])
    assert source.images == [f"{two}/{one}/a.png", f"{two}/{one}/b.png"]
    assert [(one.kind, one.subject) for one in source.problems] == [("not listed", f"{root}/{two}/{one}/c.png")]


def test_rows_that_a_data_set_refuses_are_told(root, tmp_path):
    """Numbers in two spellings once of each, in a level and in a label outside the tree, and cells of two lines."""
    names = write_clean(root)[:6]
    splits = ["train", "val", "train", "Train", "val", "train"]
    kinds, products = ["1", "+1", "2", "2.5", "1.", "+1"], ["a", "b", "7", "7.0", "7.0", "c"]
    rows = [list(row) for row in zip(names, kinds, products, splits, strict=True)]
    write_list(tmp_path / "list.csv", ["image", "kind", "product", "split"], rows)
    options = dict(levels=["kind"], extra_labels=["product"])
    with pytest.raises(ValueError, match="has one number in two spellings"):
        read_list(tmp_path / "list.csv", root, **options)
    found = list_source(tmp_path / "list.csv", root, **options).problems
    assert [(p.subject, p.why.partition(", which")[0]) for p in found if p.kind == "bad row"] == [
        (f"{tmp_path}/list.csv:3", "'kind' has one number in two spellings, '1' and '+1'"),
        (f"{tmp_path}/list.csv:6", "'kind' has one number in two spellings, '1' and '1.'"),
        (f"{tmp_path}/list.csv:5", "'product' has one number in two spellings, '7' and '7.0'"),
        (f"{tmp_path}/list.csv:5", "'split' has one split in two spellings, 'train' and 'Train'; write it in one"),
    ]
    write_list(tmp_path / "list.csv", ["image", "kind"], [[names[0], f"cat\n{names[1]},dog"], [names[2], "cat"]])
    (problem,) = [p for p in list_source(tmp_path / "list.csv", root).problems if p.kind == "bad row"]
    assert problem.subject == f"{tmp_path}/list.csv:2"
    assert problem.why.startswith("the field 'kind' holds several lines; take out the stray quotes around them")


def test_two_unicode_forms_of_a_name_are_two_files_or_told(root, tmp_path):
    one, two = (f"{unicodedata.normalize(form, 'Café')}/1.png" for form in ("NFC", "NFD"))
    write_list(tmp_path / "list.csv", ["image", "kind"], [[one, "x"], [two, "y"]])
    write(root / one, 1)
    write(root / two, 2)
    source = list_source(tmp_path / "list.csv", root)
    assert (source.images, source.paths, source.problems) == ([one, two], [(("x",),), (("y",),)], [])
    (root / one).unlink()
    (root / one).parent.rmdir()
    source = list_source(tmp_path / "list.csv", root)
    assert (source.images, source.paths) == ([two], [(("x",),)])
    assert told(source, root) == [("contradicting rows", two, ())]
    write_list(tmp_path / "list.csv", ["image", "kind"], [[one, "x"]])  # which is the file, and listed
    source = list_source(tmp_path / "list.csv", root)
    assert (source.images, source.problems) == ([two], [])


def test_folders_called_as_splits_are_splits(root):
    write_clean(root / "train")
    write_clean(root / "val", first=30)
    (root / "val/tool/leak.png").write_bytes((root / "train/tool/a.png").read_bytes())
    found = check_sources([folder_source(str(root))], workers=0)
    assert told(found, root) == [("copies across splits", "train/tool/a.png", ("val/tool/leak.png",))]
    assert found.sources[0].level_names == ("level1", "level2")
    assert "taken for splits" in str(found)


def test_a_folder_without_images(root):
    (root / "cat").mkdir(parents=True)
    found = check_sources([folder_source(str(root))], workers=0)
    assert told(found, root) == [("empty folder", "cat", ()), ("no images", str(root), ())]
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere' to check"):
        folder_source(str(root / "nowhere"))


def test_names_that_no_data_set_takes_are_told_of_a_folder(root):
    write_clean(root)
    write(root / "tool/my\\saw.png", 900)
    write(root / "N: nature/tree.png", 901)
    problems = check_sources([folder_source(str(root))], workers=0).problems
    assert [(problem.kind, problem.subject, problem.why) for problem in problems] == [
        (
            "unsafe path",
            f"{root}/N: nature/tree.png",
            "must not begin with a letter and a colon, as the name of a drive does",
        ),
        ("unsafe path", f"{root}/tool/my\\saw.png", "must not be absolute, hold '..' or a backslash"),
    ]
    for problem in problems:
        with pytest.raises(ValueError, match=re.escape(f", which {problem.why}; rename it")):
            read_folder(root)
        Path(problem.subject).unlink()


def test_look_alikes_of_two_splits_are_told_without_the_chain_inside_one(root):
    """A series of pictures, each like the next: of the second split, the last alone is like one of the first."""
    for i in range(4):
        write_tone(root / f"{'val' if i == 3 else 'train'}/tool/{i}.png", i)
    write_clean(root / "train", first=40)
    write_clean(root / "val", first=60)
    found = told(check_sources([folder_source(str(root))], workers=0), root)
    assert found == [
        ("look-alikes", "train/tool/0.png", ("train/tool/1.png", "train/tool/2.png")),
        ("look-alikes across splits", "train/tool/2.png", ("val/tool/3.png",)),
    ]


def write_tone(path, step):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise(200, (60, 60)).point(lambda value: min(value + 3 * step, 255)).save(path)


def test_copies_that_are_merged_contradict_nothing(root):
    write_clean(root)
    (root / "tool/too.png").write_bytes((root / "animal/cat/a.png").read_bytes())
    (root / "animal/cat/again.png").write_bytes((root / "animal/cat/a.png").read_bytes())
    (root / "animal/dog/again.png").write_bytes((root / "animal/dog/a.png").read_bytes())
    source = folder_source(str(root))
    source.copies_are_merged = True
    found = check_sources([source], workers=0)
    assert told(found, root) == [("copies", "animal/dog/a.png", ("animal/dog/again.png",))]


def test_ids_below_two_parents_are_told_however_many_and_names_only_if_few(tmp_path):
    def parents(names):
        rows = [((top, name),) for top in ("a", "b") for name in names for _ in range(2)]
        nodes = count_nodes(rows)
        return [problem.subject for problem in tree_problems(rows, nodes, ("top", "name"))]

    assert parents(["101", "102"]) == ["a/101", "a/102"]
    assert parents(["denim", "silk"]) == []
    several = [(("fruit", "tomato"), ("vegetable", "tomato"))] * 2 + [(("fruit", "apple"),)] * 2
    several += [(("vegetable", "leek"),)] * 2
    assert tree_problems(several, count_nodes(several), ("kind", "crop")) == []


def test_workers_find_what_one_process_finds(root, tmp_path):
    write_clean(root)
    plant(root, tmp_path / "outside")
    sources = [folder_source(str(root))]
    alone, together = (check_sources(sources, workers=workers) for workers in (0, 2))
    assert alone.problems == together.problems
    assert (alone.pictures.digests == together.pictures.digests).all()
    assert str(alone) == str(together)


def test_every_kind_can_be_planted_or_is_tested_elsewhere():
    elsewhere = {"unreadable file", "perhaps mislabelled", "perhaps one class", "perhaps two classes", "odd level"}
    elsewhere |= {"not in the split file", "only in the split file"}  # in the tests of the command
    text = Path(__file__).with_name("plant.py").read_text() + Path(__file__).read_text()
    assert [kind for kind in KINDS if f'"{kind}"' not in text and kind not in elsewhere] == []


def test_a_pipe_that_is_listed_is_not_waited_for(root, tmp_path):
    write_clean(root)
    os.mkfifo(root / "pipe.jpg")
    write_list(
        tmp_path / "list.csv",
        ["image", "kind"],
        [["pipe.jpg", "cat"], *[[f"tool/{n}", "tool"] for n in ("a.png", "b.webp")]],
    )
    found = check_sources([list_source(tmp_path / "list.csv", root)], workers=0)
    assert ("unreadable file", "pipe.jpg", ()) in told(found, root)
    (root / "pipe.jpg").rename(root / "tool/pipe.jpg")
    found = check_sources([folder_source(str(root))], workers=0)
    assert told(found, root) == [("left out", "tool/pipe.jpg", ())]


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_large_jpeg_that_is_cut_anywhere_is_truncated(root, options):
    """Also where it is decoded at an eighth of its size."""
    write_clean(root)
    whole = write(root / "tool/large.jpg", 950, size=(1200, 900), **options).read_bytes()
    for part in (0.2, 0.6, 0.95):
        (root / "tool/large.jpg").write_bytes(whole[: int(part * len(whole))])
        found = check_sources([folder_source(str(root))], workers=0)
        assert ("truncated image", "tool/large.jpg", ()) in told(found, root)


def test_bad_options(root):
    write_clean(root)
    with pytest.raises(ValueError, match="workers must be finite and not below 0; it is -1"):
        check_sources([folder_source(str(root))], workers=-1)


def test_names_that_upset_a_terminal_or_a_file_are_written_whole(root, tmp_path):
    write_clean(root)
    odd = write(root / "tool/new\nline\x1b[2J.png", 960, size=(5, 5))
    found = check_sources([folder_source(str(root))], workers=0)
    write_problems(found.problems, tmp_path / "all.csv")
    with open(tmp_path / "all.csv", newline="", encoding="utf-8") as file:
        assert [row["what"] for row in csv.DictReader(file)] == [str(odd)]
    assert len(listing(found.problems)) == 2
