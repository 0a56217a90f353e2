"""``hierpretrain init``: the config that it writes, what it prints, what it asks, and what it refuses."""

import os
import re
import sys

import pytest
from mmengine.config import Config

from hierpretrain.apis import load_config
from hierpretrain.apis.written_config import _path, _text
from hierpretrain.commands import init as command
from hierpretrain.commands import make_split
from hierpretrain.datasets import Split
from hierpretrain.registry import DATASETS
from tests.apis.test_look_at_data import shop, write_images, write_list

TREE = [f"{kind}/{breed}/{i}" for kind in ("cat", "dog") for breed in ("big", "small", "old") for i in range(10)]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Returns a function that runs the command in an empty folder, and returns what it prints."""
    monkeypatch.chdir(tmp_path)

    def run(*words, fails=False):
        monkeypatch.setattr(sys, "argv", ["hierpretrain init", *map(str, words)])
        monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
        if fails:
            with pytest.raises(SystemExit, match="2"):
                command.main()
            return capsys.readouterr().err
        command.main()
        return capsys.readouterr().out

    return run


def datasets(config):
    """Builds the data sets that a config trains on, validates with and tests with."""
    return [built(loader) for loader in (config.train_dataloader, config.val_dataloader, config.test_dataloader)]


def built(loader):
    """Builds a data set without its transforms, whose sizes only an encoder knows."""
    return DATASETS.build({"_scope_": "hierpretrain", **loader.dataset, "pipeline": []})


def test_a_folder(run, tmp_path):
    write_images(tmp_path / "my photos", TREE)
    printed = run("my photos")
    text = (tmp_path / "my_photos.py").read_text()
    assert text.splitlines()[0] == '"""Fine-tunes a pretrained encoder on 48 of 60 images.'
    assert 'data_root="{{fileDirname}}/my photos"' in text
    config = load_config(tmp_path / "my_photos.py")
    assert config.model.type == "HierarchicalContrastive"
    assert config.model.backbone == dict(type="EfficientNetLite0", weights=True, frozen_stages=5, image_size=96)
    assert config.model.loss == dict(type="HierarchicalJointLoss", contrastive=dict(type="CSLLoss", level=None))
    assert config.train_dataloader.batch_size == 48
    assert "batch_sampler" not in config.train_dataloader
    assert config.train_cfg.max_epochs == config.train_cfg.val_interval == 60
    assert config.default_hooks.frozen_features.num_views == 16
    assert [len(dataset) for dataset in datasets(config)] == [48, 54, 60]
    (retrieval, order), (at_end, _) = config.val_evaluator, config.test_evaluator
    levels = ["level1", "level2"]
    assert retrieval == dict(type="RetrievalMetric", levels=levels, query="val", gallery="train")
    assert order == dict(type="HierarchicalRetrievalMetric", query="val", gallery="train")
    assert at_end == dict(type="RetrievalMetric", levels=levels, query="test", gallery=["train", "val"])
    assert Split.load(tmp_path / "my_photos_splits.json").shares == (0.8, 0.1, 0.1)
    assert printed.splitlines()[:4] == [
        "my photos: 60 images",
        "levels",
        "  level1  2 nodes of 30 to 30 images, 30 in the middle",
        "  level2  6 nodes of 10 to 10 images, 10 in the middle",
    ]
    assert "  splits    train 48, val 6, test 6\n" in printed
    assert printed.splitlines()[-7:] == [
        "",
        "next",
        "  hierpretrain check my_photos.py",
        "  hierpretrain train my_photos.py",
        "  hierpretrain report my_photos.py work_dirs/my_photos/epoch_60.pth --out my_photos.html",
        "  hierpretrain index my_photos.py work_dirs/my_photos/epoch_60.pth --out my_photos.index",
        "  hierpretrain search my_photos.index 'my photos/cat/big/0.png'",
    ]


def test_the_config_moves_with_its_images(run, tmp_path, monkeypatch):
    write_images(tmp_path / "here/photos", TREE)
    run("here/photos", "--out", "here/deep/er.py")
    assert f'data_root="{tmp_path}/here/photos"' in (tmp_path / "here/deep/er.py").read_text()
    run("here/photos", "--out", "here/mine.py")
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir("/")
    assert [len(dataset) for dataset in datasets(load_config(tmp_path / "there/mine.py"))] == [48, 54, 60]


def test_a_list(run, tmp_path):
    path = shop(tmp_path / "shop")
    printed = run(path)
    config = load_config(tmp_path / "catalogue.py")
    train, val, test = datasets(config)
    assert (len(test), test.keys[:2]) == (12, ["S000", "S007"])
    assert test.taxonomy.level_names == ("department", "category", "type")
    assert set(test.metadata) == {"no.", "about", "price", "artist", "stock"}
    assert len(train) + 1 == len(val) == 11
    assert "  sku         another value for every image, as a key has: the key\n" in printed
    assert "  price       numbers, such as prices\n" in printed
    assert "  department  2 names, such as 'home': a level\n" in printed
    assert "note: 1 images are in several places of the tree\n" in printed


def test_unseen_classes(run, tmp_path):
    write_images(tmp_path / "photos", TREE)
    printed = run("photos", "--split", "both", "--unseen-share", "0.34", "--shares", "0.6", "0.2", "0.2", "--seed", "1")
    config = load_config(tmp_path / "photos.py")
    assert [entry.get("prefix") for entry in config.test_evaluator] == ["seen", "seen", "unseen", "unseen"]
    assert config.test_evaluator[2].query == "unseen_test"
    assert config.test_evaluator[2].gallery == ["unseen_train", "unseen_val"]
    train, val, test = datasets(config)
    assert set(train.splits) == {"seen_train"}
    assert set(val.splits) == {"seen_train", "seen_val"}
    assert len(test) == 60
    assert "2 classes of 'level2', drawn with the seed 1, are not trained on" in printed
    assert config.model.pretrained_share == 0.3
    assert "  share     30 % of a similarity is the encoder's before training, for classes that are not" in printed


def test_folders_of_splits_become_a_list(run, tmp_path):
    write_images(tmp_path / "photos", [f"{split}/{name}" for split in ("train", "val") for name in TREE])
    run("photos")
    assert (tmp_path / "photos_images.csv").read_text().splitlines()[:2] == [
        "image,split,level1,level2",
        "train/cat/big/0.png,train,cat,big",
    ]
    config = load_config(tmp_path / "photos.py")
    assert not (tmp_path / "photos_splits.json").exists()
    train, val, test = datasets(config)
    assert (len(train), len(val), len(test)) == (60, 120, 120)
    assert train.taxonomy.level_names == ("level1", "level2")
    assert config.val_evaluator[0] == dict(
        type="RetrievalMetric", levels=["level1", "level2"], query="val", gallery="train"
    )


@pytest.mark.parametrize(
    ("rename", "words", "message"),
    [
        (
            ("b", "split"),
            ["--levels", "split"],
            "a column 'split' of its own; give the level another name than --levels",
        ),
        (
            ("b", "image"),
            ["--levels", "image"],
            "a column 'image' of its own; give the level another name than --levels",
        ),
        (
            ("b", "1.0"),
            [],
            "the folder '{}/ph' cannot be written as a list: 'train/1.0/0.png': 'level1' has one number in two",
        ),
        (("b", " 1"), [], "cannot be written as a list: (' 1',) of 'train/ 1/0.png' would be read as ('1',); rename"),
        (("b/0.png", b"b/caf\xe9.png"), [], "the name of the image 'train/b/caf\\udce9.png' is not UTF-8; rename it"),
    ],
)
def test_folders_of_splits_that_make_no_list_are_refused_before_anything_is_written(
    run, tmp_path, rename, words, message
):
    write_images(
        tmp_path / "ph", [f"{split}/{name}/{i}" for split in ("train", "val") for name in "1b" for i in (0, 1)]
    )
    old, new = (os.path.join(os.fsencode(tmp_path / "ph/train"), os.fsencode(name)) for name in rename)
    os.rename(old, new)
    assert message.format(tmp_path) in run("ph", *words, fails=True)
    assert os.listdir(tmp_path) == ["ph"]


def test_an_image_whose_name_can_be_printed_is_the_example(run, tmp_path):
    write_images(tmp_path / "photos", TREE)
    os.rename(os.fsencode(tmp_path / "photos/cat/big/0.png"), os.fsencode(tmp_path / "photos/cat/big") + b"/0\xe9.png")
    assert run("photos").endswith("hierpretrain search photos.index photos/cat/big/1.png\n")
    for name in [name for name in TREE if name != "cat/big/0"]:
        (tmp_path / f"photos/{name}.png").unlink()
    assert run("photos", "--force").endswith("photos.index 'photos/cat/big/0\\udce9.png'\n")


@pytest.mark.parametrize("kind", ["folder", "list", "one class", "splits"])
def test_no_labels_are_embedded_and_indexed(run, tmp_path, kind):
    """The config has the encoder as it is, and the command lines that come next say so."""
    write_images(tmp_path / "photos", [f"{'cat/' if kind == 'one class' else ''}{i}" for i in range(6)])
    data = "photos"
    if kind == "splits":
        for i in range(6):
            write_images(tmp_path / "photos" / ("train" if i < 4 else "val"), [str(i)])
            (tmp_path / f"photos/{i}.png").unlink()
    if kind == "list":
        data = write_list(tmp_path / "photos.csv", ["image", "price"], [[f"{i}.png", f"{i}.50"] for i in range(6)])
    printed = run(data)
    config = load_config(tmp_path / "photos.py")
    assert config.model.loss is None
    assert config.train_dataloader is config.train_cfg is config.val_dataloader is None
    assert len(built(config.test_dataloader)) == 6
    reason = "all images with a label are in one class, 'cat'" if kind == "one class" else "no image has a label"
    assert f"  training  none: {reason}. The encoder as it is embeds, indexes and searches\n" in printed
    commands = re.findall(r"^  hierpretrain (\w+)", printed, re.M)
    assert commands == ["check", "index", "search"]
    assert "hierpretrain index photos.py '' --out photos.index\n" in printed
    assert not list(tmp_path.glob("*.json"))


def test_encoders_and_sizes(run, tmp_path):
    write_images(tmp_path / "photos", TREE)
    run("photos", "--encoder", "dinov2", "--image-size", "112", "--epochs", "3")
    config = load_config(tmp_path / "photos.py")
    assert config.model.backbone == dict(
        type="TimmEncoder", model_name="vit_small_patch14_dinov2.lvd142m", img_size=112, frozen_stages=9
    )
    assert config.train_cfg.max_epochs == 3
    assert config.optim_wrapper.optimizer == dict(type="AdamW", lr=3e-4 / 4, weight_decay=0.05)
    run("photos", "--force", "--image-size", "224")
    assert "image_size" not in load_config(tmp_path / "photos.py").model.backbone


def test_what_is_there_is_not_replaced(run, tmp_path):
    write_images(tmp_path / "photos", TREE)
    run("photos")
    before = (tmp_path / "photos.py").read_text()
    assert "error: " in (message := run("photos", "--seed", "1", fails=True))
    assert "photos.py and" in message
    assert "photos_splits.json is there already; give another --out, or replace it by --force" in message
    assert (
        ", which draws all tags of photos_splits.json anew; hierpretrain make-split photos.py --renew deals" in message
    )
    assert (tmp_path / "photos.py").read_text() == before
    told = "\nall tags of photos_splits.json are drawn anew; the next time, hierpretrain make-split photos.py --renew "
    assert told in run("photos", "--seed", "1", "--force")
    assert (tmp_path / "photos.py").read_text() != before
    assert Split.load(tmp_path / "photos_splits.json").seed == 1


@pytest.mark.parametrize("kind", ["share", "class"])
def test_a_photo_more_and_one_less(run, tmp_path, kind, monkeypatch):
    """They break the config; a renewal of the split file mends it, and leaves every other image where it was."""
    write_images(tmp_path / "photos", TREE)
    options = ["--unseen-share", "0.34"] if kind == "class" else []
    assert "drawn anew;" not in run("photos", "--split", kind, *options)
    before = Split.load(tmp_path / "photos_splits.json").tags
    write_images(tmp_path / "photos", ["cat/big/new"])
    (tmp_path / "photos/dog/old/3.png").unlink()
    loaded = load_config(tmp_path / "photos.py")
    message = (
        r"1 images are only in .*'cat/big/new.png' and 1 images are only in the file: 'dog/old/3.png'; give the data "
        r"set's own split_file, or renew .* all other tags: hierpretrain make-split CONFIG --renew"
    )
    with pytest.raises(ValueError, match=message):
        built(loaded.train_dataloader)
    config = (tmp_path / "photos.py").read_text()
    monkeypatch.setattr(sys, "argv", ["hierpretrain make-split", "photos.py", "--renew"])
    make_split.main()
    tags = Split.load(tmp_path / "photos_splits.json").tags
    assert tags.keys() - before.keys() == {"cat/big/new.png"}
    assert before.keys() - tags.keys() == {"dog/old/3.png"}
    assert all(before.get(image, tag) == tag for image, tag in tags.items())
    assert tags["cat/big/new.png"] in before.values()
    assert (tmp_path / "photos.py").read_text() == config
    built(loaded.train_dataloader)


def test_questions(run, tmp_path, monkeypatch, capsys):
    """At a terminal they are asked; elsewhere an error names the option; --yes takes the first answer."""
    write_images(tmp_path, [str(i) for i in range(12)])
    rows = [[f"{i}.png", "ab"[i % 2], "xyz"[i % 3]] for i in range(12)]
    write_list(tmp_path / "list.csv", ["image", "maker", "colour"], rows)
    message = run("list.csv", fails=True)
    assert message == (
        "error: which columns are the levels of the tree? There are 'maker', 'colour': say which (--levels ...), or "
        "take the first, --yes\n"
    )
    assert not (tmp_path / "list.py").exists()
    run("list.csv", "--yes")
    assert 'levels=["maker"]' in (tmp_path / "list.py").read_text()
    run("list.csv", "--levels", "colour", "maker", "--force")
    assert 'levels=["colour", "maker"]' in (tmp_path / "list.py").read_text()
    answers = iter(["7", "two", "2"])
    monkeypatch.setattr(sys, "argv", ["hierpretrain init", "list.csv", "--force"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("builtins.input", lambda prompt: next(answers))
    command.main()
    assert "which columns are the levels of the tree?\n  1  maker\n  2  colour\n" in capsys.readouterr().out
    assert 'levels=["colour"]' in (tmp_path / "list.py").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nowhere"], "there is no folder and no list 'nowhere'; correct the path"),
        (["photos", "--out", "photos.txt"], "a config is a Python file: --out must end in .py; it is 'photos.txt'"),
        (["photos", "--split", "own"], "none is called 'train'; take --split share, class or both"),
        (["photos", "--key-column", "sku"], "key_column say how a list is read, and 'photos' is a folder"),
        (["photos", "--out", "photos/1.png/x.py"], "1.png is a file; give another path"),
        (["photos", "--class-level", "9", "--split", "class"], "level"),
        (["photos", "--class-level", "nosuch"], "are --split share; it is 'nosuch': leave it out"),
    ],
)
def test_what_is_wrong(run, tmp_path, words, message):
    write_images(tmp_path / "photos", ["1", *TREE])
    assert message in run(*words, fails=True)
    assert not list(tmp_path.glob("*.py"))


@pytest.mark.parametrize("name", ["a b", 'quo"te', "it's", "back\\slash", "{{ fileDirname }}", "new\nline", "übel"])
def test_any_name_of_a_folder_is_written_as_it_is(name, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for path in (folder / name, tmp_path / name):
        written = folder / "config.py"
        written.write_text(f"_path = {_path(str(path), str(folder))}\n_name = {_text(name)}\n")
        config = Config.fromfile(written)
        assert (config._path, config._name) == (str(path), name)


def test_help_teaches(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["hierpretrain init", "--help"])
    with pytest.raises(SystemExit, match="0"):
        command.main()
    text = capsys.readouterr().out
    for part in ("Examples:", "What comes out:", "Common mistakes:", "--image-root"):
        assert part in text
