"""``hierpretrain check``: what it prints and writes, its exit status, folders, lists, configs and trained models."""

import csv
import json
from dataclasses import replace

import pytest
from mmengine.config import Config
from PIL import Image

from hierpretrain.apis import EmbeddingIndex
from hierpretrain.commands.check import main
from hierpretrain.data_checks import check_sources, config_sources
from hierpretrain.datasets import Split
from tests.commands.places import write_model
from tests.data_checks.plant import noise, write, write_clean
from tests.data_checks.test_labels import clean, embedded
from tests.datasets.test_ways_in import write_shard
from tests.datasets.trees import write_inshop


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Returns a function that runs the command in a folder of its own and returns its status and what it printed."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        monkeypatch.setattr("sys.argv", ["check", "--workers", "0", *map(str, words)])
        with pytest.raises(SystemExit) as ended:
            main()
        return ended.value.code, capsys.readouterr()

    return run


def rows(path):
    with open(path, newline="") as file:
        return [(row["severity"], row["kind"], row["what"]) for row in csv.DictReader(file)]


def test_a_clean_folder(tmp_path, run):
    write_clean(tmp_path / "photos")
    status, printed = run("photos")
    assert status == 0
    assert printed.out.splitlines() == [
        "6 images in photos",
        "levels: level1 (2), level2 (2)",
        "size 24 x 24; modes RGB 6; formats PNG 4, JPEG 1, WEBP 1",
        "",
        "0 errors, 0 warnings, 0 notes: all are in check.csv",
    ]
    assert rows("check.csv") == []


def test_errors_and_warnings_make_the_status(tmp_path, run):
    write_clean(tmp_path / "photos")
    write(tmp_path / "photos/tool/tiny.png", 50, size=(4, 9))
    assert run("photos")[0] == 0
    status, printed = run("photos", "--strict")
    assert status == 1
    assert (
        "warning: 1 x tiny image (has a side of less than 8 pixels)\n    photos/tool/tiny.png: 4 x 9 pixels"
        in printed.out
    )
    for i in range(5):
        (tmp_path / f"photos/tool/{i}.jpg").touch()
    status, printed = run("photos", "--out", "all.json", "--most", "2")
    assert status == 1
    assert "error: 5 x empty file" in printed.out
    assert "    photos/tool/1.jpg\n    and 3 more" in printed.out
    written = json.loads((tmp_path / "all.json").read_text())
    assert written["counts"] == {"error": 5, "warning": 1, "note": 0}
    assert [problem["subject"] for problem in written["problems"][:5]] == [f"photos/tool/{i}.jpg" for i in range(5)]
    assert run("photos", "--quick", "--strict")[0] == 1  # the empty files are told without opening


def test_a_list_with_its_options(tmp_path, run):
    write_clean(tmp_path / "photos")
    (tmp_path / "shop.csv").write_text(
        "photo;kind;price\nanimal/cat/a.png;cat;1,50\nanimal/cat/b.jpg;cat;2,50\nanimal/dog/a.png;dog;3,5\n"
        "animal/dog/b.png;dog;4,5\ngone.png;dog;5,5\n"
    )
    words = ("shop.csv", "--image-column", "photo", "--image-root", "photos")
    status, printed = run(*words, "--levels", "kind")
    assert status == 1
    assert rows("check.csv") == [("error", "missing file", "photos/gone.png")]
    assert run(*words)[0] == 1
    assert ("error", "doubtful level", "price") in rows("check.csv")
    status, printed = run("shop.csv", "--levels", "kind")
    assert status == 2
    assert "there is no column 'image'" in printed.err


def test_a_config_s_data_sets_and_leaks_between_them(tmp_path, run):
    write_clean(tmp_path / "a")
    write_clean(tmp_path / "b", first=20)
    (tmp_path / "both.py").write_text(
        "train_dataloader = dict(dataset=dict(type='FolderDataset', data_root='a'))\n"
        "val_dataloader = dict(dataset=dict(type='FolderDataset', data_root='b'))\n"
        "test_dataloader = val_dataloader\n"
    )
    assert run("both.py")[0] == 0
    assert rows("check.csv") == []
    (tmp_path / "b/tool/leak.png").write_bytes((tmp_path / "a/tool/a.png").read_bytes())
    status, printed = run("both.py")
    assert status == 1
    assert rows("check.csv") == [
        ("error", "copies across splits", "a/tool/a.png"),
        ("error", "copies across splits", "b/tool/leak.png"),
    ]
    assert "splits: train 6, val 7" in printed.out


@pytest.mark.parametrize("kind", ["FolderDataset", "ListDataset"])
def test_all_faults_of_a_data_set_with_a_split_file(kind, tmp_path, run):
    names = write_clean(tmp_path / "photos")
    (tmp_path / "photos/tool/empty.png").touch()
    (tmp_path / "photos/tool/copy.png").write_bytes((tmp_path / "photos/tool/a.png").read_bytes())
    listed = [*names, "tool/empty.png", "tool/copy.png"]
    lines = "".join(f"{name},{name.rpartition('/')[0]}\n" for name in [*listed, "tool/missing.png"])
    (tmp_path / "list.csv").write_text(f"image,kind\n{lines}")
    tags = dict.fromkeys(listed, "train") | {"tool/copy.png": "val", "tool/gone.png": "val", "tool/missing.png": "val"}
    del tags["animal/dog/b.png"]
    settings = dict(level=None, unseen=(), seed=0, shares=None, val_share=None, unit=None, source="photos")
    Split(tags, **settings).save(tmp_path / "split.json")
    more = ", ann_file='../list.csv', levels=['kind']" if kind == "ListDataset" else ""
    (tmp_path / "split.py").write_text(
        f"train_dataloader = dict(dataset=dict(type='{kind}', data_root='photos', split_file='split.json'{more}))\n"
    )
    status, printed = run("split.py")
    assert status == 1
    empty, missing = "empty file", "only in the split file"
    if kind == "ListDataset":
        empty, missing = "broken image", "missing file"
    assert sorted(row[1:] for row in rows("check.csv") if row[0] == "error") == sorted(
        [
            (empty, "photos/tool/empty.png"),
            ("not in the split file", "photos/animal/dog/b.png"),
            ("only in the split file", "photos/tool/gone.png"),
            (missing, "photos/tool/missing.png"),
            ("copies across splits", "photos/tool/a.png"),
            ("copies across splits", "photos/tool/copy.png"),
        ]
    )
    assert "(none) 1, val 1" in printed.out
    for remedy in ("deal it out", "put it there, or drop its tag"):
        assert f"; {remedy}: hierpretrain make-split CONFIG --renew)\n" in printed.out


def test_data_sets_of_different_pipelines_are_opened_by_the_first(tmp_path, run):
    for root in "ab":
        write_clean(tmp_path / root, first=20 * (root == "b"))
    parts = [
        f"dict(type='FolderDataset', data_root='{root}', pipeline=[dict(type='LoadRGB', max_pixels={number})])"
        for root, number in (("a", 99), ("b", 10**6))
    ]
    (tmp_path / "two.py").write_text(
        f"test_dataloader = dict(dataset=dict(type='ConcatDataset', datasets=[{', '.join(parts)}]))\n"
    )
    assert run("two.py")[0] == 0


def test_two_lists_of_one_folder_and_an_image_that_is_in_both(tmp_path, run):
    names = write_clean(tmp_path / "photos")
    for split, some in (("train", names), ("val", names[-1:])):
        lines = [f"{name},{name.split('/')[0]}" for name in some]
        (tmp_path / f"photos/{split}.csv").write_text("\n".join(["image,kind", *lines]) + "\n")
    (tmp_path / "lists.py").write_text(
        "_list = dict(type='ListDataset', data_root='photos', levels=['kind'])\n"
        "train_dataloader = dict(dataset=dict(ann_file='train.csv', **_list, pipeline=[], split=None))\n"
        "_val = dict(ann_file='val.csv', **_list)\n"
        "val_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, dataset=_val))\n"
    )
    assert run("lists.py")[0] == 1
    assert rows("check.csv") == [("error", "copies across splits", "photos/tool/b.webp")] * 2


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ("dict(type='FolderDataset')", "a data set of the config has no 'data_root'"),
        ("dict(type='hierpretrain.datasets.FolderDataset')", "a data set of the config has no 'data_root'"),
        ("dict(type='hierpretrain.datasets.ListDataset', data_root='.')", "a data set of the config has no 'ann_file'"),
        (
            "dict(type='ListDataset', data_root='.', ann_file='a.csv', level=[])",
            "no option 'level'; did you mean 'levels'",
        ),
        ("dict(type='ListDataset', data_root='.', ann_file='a.csv')", "cannot read the list"),
    ],
)
def test_a_data_set_of_a_config_that_cannot_be_read(dataset, message, tmp_path, run):
    (tmp_path / "wrong.py").write_text(f"train_dataloader = dict(dataset={dataset})\n")
    status, printed = run("wrong.py")
    assert status == 2
    assert message in printed.err


def test_a_published_data_set_is_read_by_its_own_reader(tmp_path, run):
    write_inshop(tmp_path / "inshop", num_products=4)
    config = "dict(type='InShop', data_root='inshop')"
    (tmp_path / "inshop.py").write_text(f"train_dataloader = dict(dataset={config})\n")
    assert run("inshop.py")[0] == 0
    assert "levels: category" in run("inshop.py")[1].out
    (next((tmp_path / "inshop").rglob("*.jpg"))).unlink()
    assert run("inshop.py")[0] == 1
    assert [row[1] for row in rows("check.csv") if row[0] == "error"] == ["missing file"]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_images_in_shards_are_opened_where_they_are(workers, tmp_path, run):
    files = [(f"animal/{i}.png", write(tmp_path / f"{i}.png", i).read_bytes()) for i in range(3)]
    files += [("tool/cut.png", files[0][1][:90]), ("tool/copy.png", files[1][1]), ("tool/x.png", b"")]
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path / "shards/a.tar", files)
    (tmp_path / "shards.py").write_text(
        "train_dataloader = dict(dataset=dict(type='RepeatDataset', times=2, "
        "dataset=dict(type='WebDataset', data_root='shards')))\n"
    )
    status, printed = run("shards.py", "--workers", workers)
    assert status == 1
    assert [row for row in rows("check.csv") if row[0] == "error"] == [
        ("error", "truncated image", "shards/a.tar/tool/cut.png"),
        ("error", "broken image", "shards/a.tar/tool/x.png"),
        ("error", "copies across classes", "shards/a.tar/animal/1.png"),
        ("error", "copies across classes", "shards/a.tar/tool/copy.png"),
    ]
    assert "formats PNG 4" in printed.out


def test_pictures_and_files_of_torchvision_s_data_sets(tmp_path, run):
    write_clean(tmp_path / "photos")
    (tmp_path / "files.py").write_text(
        "train_dataloader = dict(dataset=dict(type='TorchvisionDataset', "
        "dataset=dict(type='ImageFolder', root='photos')))\n"
    )
    (tmp_path / "photos/tool/a.png").write_bytes(b"no image")
    status, _ = run("files.py")
    assert status == 1
    assert [row for row in rows("check.csv") if row[0] == "error"] == [("error", "broken image", "photos/tool/a.png")]
    pets = [(noise(i), i // 3) for i in range(6)] + [(noise(4), 0)]
    kind = type("Pets", (list,), dict(classes=["cat", "dog"], targets=[target for _, target in pets]))
    config = Config(dict(train_dataloader=dict(dataset=dict(type="TorchvisionDataset", dataset=kind(pets)))))
    found = check_sources(config_sources(config), workers=2)
    (copies,) = found.problems
    assert copies.kind == "copies across classes"
    assert [name.rpartition("/")[2] for name in (copies.subject, *copies.others)] == ["00000004", "00000006"]
    assert found.pictures.formats == {"in memory": 7}


def test_a_trained_model_looks_at_what_is_stored(tmp_path, run):
    write_model(tmp_path)
    files = []
    for name, base in (("dark", 0), ("light", 225)):
        for i in range(6):
            path = write(tmp_path / "one.png", 60 + i)
            Image.open(path).point(lambda value, base=base: base + value // 9).save(path)
            files.append((f"{'light' if (name, i) == ('dark', 0) else name}/{name}{i}.png", path.read_bytes()))
    (tmp_path / "shards").mkdir()
    write_shard(tmp_path / "shards/a.tar", files)
    (tmp_path / "shards.py").write_text("train_dataloader = dict(dataset=dict(type='WebDataset', data_root='shards'))")
    words = ("shards.py", "--config", "tiny.py", "--checkpoint", "epoch_1.pth", "--device", "cpu", "-k", "4")
    status, printed = run(*words)
    assert status == 0, printed.err
    told = [row for row in rows("check.csv") if row[1] == "perhaps mislabelled"]
    assert told == [("warning", "perhaps mislabelled", "shards/a.tar/light/dark0.png")]


def test_a_trained_model_says_which_labels_are_wrong(tmp_path, run):
    write_model(tmp_path)
    for i in range(6):
        for name, base in (("dark", 0), ("light", 225)):
            path = write(tmp_path / f"photos/{name}/{i}.png", 60 + i)
            Image.open(path).point(lambda value, base=base: base + value // 9).save(path)
    (tmp_path / "photos/dark/0.png").rename(tmp_path / "photos/light/wrong.png")
    words = ("photos", "--config", "tiny.py", "--checkpoint", "epoch_1.pth", "--device", "cpu", "-k", "4")
    status, printed = run(*words)
    assert status == 0, printed.err
    told = [row for row in rows("check.csv") if row[1] == "perhaps mislabelled"]
    assert told == [("warning", "perhaps mislabelled", "photos/light/wrong.png")]


def test_the_labels_of_an_index_are_checked_by_its_embeddings(tmp_path, run):
    labels, centres = clean()
    labels[0] = ("tool", "saw")
    images = embedded(labels, centres)
    EmbeddingIndex.build(images, model="m", fingerprint="0", kind="ivf").save(tmp_path / "photos.index")
    assert run("photos.index")[0] == 0
    assert rows("check.csv") == [("warning", "perhaps mislabelled", "0.jpg")]


def test_missing_files_and_copies_of_an_index_are_told(tmp_path, run):
    images = embedded(*clean())
    digests, paths = [str(i) for i in range(len(images.paths))], list(images.paths)
    digests[1], digests[-1] = digests[0], digests[2]
    digests[6], paths[7] = "", "<image 7>"  # of an embedding that came without a file, and of a picture in memory
    for path in {*paths} - {"5.jpg", "6.jpg", "<image 7>"}:
        write(tmp_path / path, 1)
    images = replace(images, digests=digests, paths=paths)
    EmbeddingIndex.build(images, model="m", fingerprint="0").save(tmp_path / "photos.index")
    status, printed = run("photos.index")
    assert status == 1
    assert rows("check.csv") == [
        ("error", "missing file", "5.jpg"),
        ("error", "copies across classes", "2.jpg"),
        ("error", "copies across classes", paths[-1]),
        ("warning", "copies", "0.jpg"),
        ("warning", "copies", "1.jpg"),
    ]
    assert "the index has it; hierpretrain index remove photos.index 5.jpg takes it out" in printed.out
    assert "the images themselves were not opened" in printed.out
    assert EmbeddingIndex.open("photos.index").remove("5.jpg").removed == 1


def test_an_index_that_is_checked_elsewhere_is_told_in_one_line(tmp_path, run, monkeypatch):
    images = embedded(*clean())
    gone = str(tmp_path / "gone.jpg")
    images = replace(images, digests=[str(i) for i in range(len(images.paths))], paths=[*images.paths[:-1], gone])
    EmbeddingIndex.build(images, model="m", fingerprint="0").save(tmp_path / "photos.index")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    status, printed = run("../photos.index")
    assert status == 1
    assert rows("check.csv") == [("error", "missing file", "../photos.index"), ("error", "missing file", gone)]
    assert f"is a file in {tmp_path}/elsewhere: check it in the folder in which it was made" in printed.out


def test_a_file_of_several_keys_is_no_copy_of_itself(tmp_path, run):
    images = embedded(*clean())
    digests, paths = [str(i) for i in range(len(images.paths))], list(images.paths)
    paths[1], digests[1] = paths[0], digests[0]
    keys = [f"S{i}" for i in range(len(paths))]
    for path in paths[2:]:
        write(tmp_path / path, 1)
    images = replace(images, digests=digests, paths=paths, keys=keys)
    EmbeddingIndex.build(images, model="m", fingerprint="0").save(tmp_path / "photos.index")
    assert run("photos.index")[0] == 1
    assert rows("check.csv") == [("error", "missing file", "0.jpg")]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["photos", "--levels", "kind"], "levels say how a list is read, and photos is none"),
        (["photos", "--data-root", "x"], "are for a config's data sets"),
        (["photos", "--checkpoint", "a.pth"], "a checkpoint needs its config"),
        (["photos", "--config", "tiny.py"], "give its weights too"),
        (["nothing_of_that_name"], "nothing_of_that_name"),
        (["photos", "--out", "photos"], "it is a folder"),
    ],
)
def test_mistakes(words, message, tmp_path, run):
    write_clean(tmp_path / "photos")
    status, printed = run(*words)
    assert status == 2
    assert message in printed.err


@pytest.mark.parametrize("missing", ["my/photos", "photos.csv"])
def test_a_path_that_is_not_there_is_told_as_one(run, missing):
    status, printed = run(missing)
    assert status == 2
    assert f"there is no folder, no list and no config {missing}; correct the path" in printed.err
