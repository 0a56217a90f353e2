"""``hierpretrain report``: one file, of the images that could be read; errors in one line."""

import json
import re
import sys

import pytest

from hierpretrain.commands.report import main
from tests import processes
from tests.commands.places import write_model, write_photos
from tests.datasets.trees import write_image
from tests.processes import ROOT


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


# ---------------------------------------------------------------- what the config measures
SPLITS = """
test_dataloader = dict(
    batch_size=8,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(type="ListDataset", data_root={root!r}, ann_file="list.csv", split=["train", "test"], pipeline=[
        dict(type="LoadRGB"), dict(type="torchvision/Resize", size=(32, 32)),
        dict(type="PackInputs", algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split")),
    ]),
)
train_dataloader = dict(test_dataloader, dataset=dict(test_dataloader["dataset"], split=["train"]))
train_cfg, optim_wrapper, test_cfg = dict(by_epoch=True, max_epochs=1), dict(optimizer=dict(type="SGD", lr=0.1)), dict()
default_scope = "hierpretrain"
custom_hooks = [dict(type="MetricsFileHook")]
test_evaluator = [
    dict(type="RetrievalMetric", levels=["kind"], query="test", gallery="train"),
    dict(type="HierarchicalRetrievalMetric", query="test", gallery="train"),
    dict(type="ClusteringMetric", levels=["kind"], splits="test"),
]
"""


@pytest.fixture
def splits(place):
    """The config of the place with 40 images in two splits, whose evaluator searches for one in the other."""
    rows = ["image,kind,breed,split"]
    for i in range(40):
        name = write_image(place / f"list/{i}.png", (60 * (i % 4), 10 * (i // 4), 0), size=(40, 40)).name
        rows.append(f"{name},{'abc'[i % 3]},{'abc'[i % 3]}{i % 2},{'test' if i % 4 else 'train'}")
    (place / "list" / "list.csv").write_text("\n".join(rows))
    with open(place / "tiny.py", "a", encoding="utf-8") as file:
        file.write(SPLITS.format(root=str(place / "list")))
    return place


def overview(path):
    """The words of the overview, and its numbers as they are: (level, name) -> value."""
    page = path.read_text(encoding="utf-8").split('<section id="overview">')[1].split("</section>")[0]
    numbers = {}
    for card in page.split('<div class="card">')[1:]:
        level = re.search(r"<h3>(.*?) <small>", card)[1]
        for name, value in re.findall(r'<span class="name">(\S+?)(?: <small>.*?)?</span>.*? data-value="(.*?)"', card):
            numbers[level, name] = float(value)
    return re.sub("<.*?>", " ", page), numbers


@pytest.mark.slow
def test_the_headline_is_what_a_test_of_the_config_writes(splits, run, tmp_path):
    arguments = (splits / "tiny.py", splits / "work/epoch_1.pth", "--work-dir", tmp_path / "tested")
    processes.run(tmp_path / "log.txt", ROOT / "tools/test.py", *arguments)
    said = json.loads((tmp_path / "tested/metrics.json").read_text())["metrics"]
    run("--out", splits / "out.html")
    words, numbers = overview(splits / "out.html")
    assert "30 queries (test) in a gallery of 10 images (train)" in words
    assert "not what the config measures" not in words
    assert "training images" not in words
    names = {"kind/recall@1": ("kind", "recall@1"), "kind/map@r": ("kind", "MAP@R"), "kind/nmi": ("kind", "NMI")}
    names["h_ap"] = "The whole tree", "H-AP"
    for key, name in names.items():
        assert numbers[name] == pytest.approx(said[key], abs=1e-9)


def test_other_images_and_other_splits_are_labelled(splits, run):
    def words(*options):
        run("--out", splits / "out.html", *options)
        return overview(splits / "out.html")[0]

    assert "10 images (train), each a query among the others (not what the config measures)" in words(
        "--splits", "train"
    )
    found = words("--query", "train", "--gallery", "test")
    assert "10 queries (train) in a gallery of 30 images (test) (not what the config measures)" in found
    assert "All queries are training images" in found
    found = words(splits / "list/list.csv", "--query", "train", "test")
    assert (
        "40 images (test, train), each a query among the others (not what the config measures)".replace(
            "test, train", "train, test"
        )
        in found
    )
    assert "10 of the 40 queries are training images" in found


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max-points", "0"], "error: max_points must be at least 1; it is 0"),
        (["--query", "test", "--gallery", "all"], "error: no evaluated image is of the split 'test'"),
    ],
)
def test_errors_are_one_line_and_before_the_work(place, run, capsys, words, message):
    with pytest.raises(SystemExit) as error:
        run(place / "photos", "--out", place / "out.html", *words)
    assert error.value.code == 2
    told = capsys.readouterr()
    assert message in told.err
    assert "embedded" not in told.out
    assert not (place / "out.html").exists()
