"""Paper B as a user runs it: the tools on a small tree in WikiScenes' exact format, traps included."""

import json
import re
import shutil

import pytest
import torch
from torch import nn
from torchvision.models.vgg import cfgs, make_layers

from hierpretrain.datasets import WikiScenes
from tests import processes
from tests.datasets.write_wikiscenes import CONCEPTS, write_wikiscenes
from tests.processes import ROOT
from tests.test_tools import assert_same_bits, weights

CHANNELS, EMBEDDING, PIXELS = 64, 96, 64  # an eighth of VGG-16's channels; a fraction of its embedding; an image's side
LEVELTRIPLET = ["train_cfg.max_epochs=4", "train_cfg.val_interval=4", "train_dataloader.batch_size=8"]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wikiscenes(tmp_path_factory):
    root = tmp_path_factory.mktemp("wikiscenes")
    write_wikiscenes(root, num_landmarks=9, num_images=4, size=PIXELS)
    return root


@pytest.fixture(scope="module")
def vgg(tmp_path_factory):
    """A file as torchvision's of VGG-16, of fewer channels and with random weights."""
    layers = make_layers([v if v == "M" else v * CHANNELS // 512 for v in cfgs["D"]])
    classifier = nn.Sequential(
        nn.Linear(CHANNELS * 49, EMBEDDING), nn.ReLU(), nn.Dropout(), nn.Linear(EMBEDDING, EMBEDDING)
    )
    generator = torch.Generator().manual_seed(0)
    whole = nn.ModuleDict(dict(features=layers, classifier=classifier))
    for name, weight in whole.named_parameters():
        if name.endswith("bias"):
            nn.init.zeros_(weight)
        else:
            nn.init.kaiming_normal_(weight, generator=generator)
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    torch.save({**whole.state_dict(), "classifier.6.bias": torch.zeros(1000)}, path)
    return path


def small(config, vgg):
    """Returns the options that cut a config down to the small network and to a CPU."""
    one_image = [f"pipeline.{place}.size" for place in (1, 2)]  # a resize and a crop from the centre
    sizes = dict(train=one_image, val=one_image, test=one_image)
    options = [
        f"model.backbone.base_channels={CHANNELS // 8}",
        f"model.neck.in_channels={CHANNELS}",
        f"model.neck.out_channels={EMBEDDING}",
        *[f"model.{part}.init_cfg.checkpoint={vgg}" for part in ("backbone", "neck")],
    ]
    if config == "linear_wikiscenes":
        sizes = dict(test=one_image)
        options += [f"default_hooks.{key}.max_points=150" for key in ("tsne", "tsne_concept")]
    else:
        options += ["default_hooks.logger.interval=1"]
    if config == "himulcone_wikiscenes":
        sizes["train"] = ["pipeline.1.transforms.0.size"]  # random views
        options += [f"model.projection.in_channels={EMBEDDING}"]
    options += [f"{part}_dataloader.num_workers=0" for part in sizes]
    return options + [f"{part}_dataloader.dataset.{key}={PIXELS}" for part, keys in sizes.items() for key in keys]


@pytest.fixture(scope="module")
def run(wikiscenes, vgg, tmp_path_factory):
    """Returns a function that runs a tool with a config and returns its output."""
    log = tmp_path_factory.mktemp("output") / "log.txt"

    def run_tool(tool, config, *arguments, options=()):
        words = [f"configs/{config}.py", *arguments, "--data-root", wikiscenes]
        return processes.run(log, ROOT / "tools" / tool, *words, "--cfg-options", *small(config, vgg), *options)

    return run_tool


@pytest.fixture(scope="module")
def trained(run, tmp_path_factory):
    work_dir = tmp_path_factory.mktemp("leveltriplet")
    output = run("train.py", "leveltriplet_wikiscenes", "--work-dir", work_dir, options=LEVELTRIPLET)
    (work_dir / "output.txt").write_text(output)
    return work_dir


def logged(work_dir):
    """The lines of the newest log about training steps."""
    newest = max(work_dir.glob("*/vis_data/scalars.json"))
    return [line for line in map(json.loads, newest.read_text().splitlines()) if "loss" in line]


def metrics(work_dir):
    return json.loads((work_dir / "metrics.json").read_text())["metrics"]


def test_the_curriculum_goes_through_the_levels(trained, wikiscenes):
    output = (trained / "output.txt").read_text()
    assert re.search(r"levels without a triplet, which are passed over: \[3\]", output)
    assert re.search(r"curriculum: level 1: 2 epochs \(3 nodes\), level 2: 2 epochs \(10 nodes\); replay 0\.5", output)
    steps = logged(trained)
    data = WikiScenes(data_root=str(wikiscenes), split=["small", "small_concept"])
    an_epoch = -(-len(data) // 3 // 8)
    assert [step["stage_level"] for step in steps] == [1] * 2 * an_epoch + [2] * 2 * an_epoch
    assert {step["level"] for step in steps[: 2 * an_epoch]} == {1}
    assert {step["level"] for step in steps[2 * an_epoch :]} == {1, 2}  # replayed, and the present one


def test_a_resumed_run_uses_the_kept_features_and_ends_with_the_same_bits(trained, run, tmp_path):
    assert len(list((trained / "features").iterdir())) == 1
    work_dir = tmp_path / "resumed"
    shutil.copytree(trained, work_dir)
    (work_dir / "epoch_4.pth").unlink()
    output = run("train.py", "leveltriplet_wikiscenes", "--work-dir", work_dir, "--resume", options=LEVELTRIPLET)
    assert f"resuming from {work_dir}/epoch_3.pth" in output
    (kept,) = (work_dir / "features").iterdir()
    assert f"the frozen features of {kept} are used again" in output
    assert "images embedded" not in output
    assert_same_bits(weights(work_dir / "epoch_4.pth"), weights(trained / "epoch_4.pth"))
    steps = [{key: step[key] for key in ("loss", "stage_level", "level")} for step in logged(work_dir)]
    assert steps == [{key: step[key] for key in steps[0]} for step in logged(trained)[-len(steps) :]]
    assert metrics(work_dir) == metrics(trained)


def test_ten_concepts_are_measured_on_the_checkpoint_and_two_maps_are_drawn(trained, run, tmp_path):
    output = run("test.py", "linear_wikiscenes", trained / "epoch_4.pth", "--work-dir", tmp_path)
    assert "unexpected key" not in output
    found = metrics(tmp_path)
    for place in ("concept", "easy/concept"):
        by_class = {key.removeprefix(f"{place}/ap/"): found[key] for key in found if key.startswith(f"{place}/ap/")}
        assert by_class.keys() == set(CONCEPTS)
        assert found[f"{place}/map"] == pytest.approx(sum(by_class.values()) / 10)
        # a tenth of the images is of each concept, so a tenth is chance; a concept has a look of its own
        assert min(by_class.values()) > 0.3
        assert all(found[f"{place}/{name}"] > 0.6 for name in ("map", "map_images", "precision"))
    trained_with = metrics(trained)  # the validation list, at the end of training
    assert trained_with == {key: pytest.approx(found[key], abs=1e-9) for key in trained_with}
    for picture in ("tsne_level1.png", "tsne_concept.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_an_encoder_is_measured_without_any_training(trained, run, vgg, tmp_path):
    output = run("test.py", "linear_wikiscenes", "--work-dir", tmp_path)
    assert f"26 weights of VGG16Convolutions are from {vgg}" in output
    assert f"4 weights of VGG16FullyConnected are from {vgg}" in output
    assert {f"concept/ap/{concept}" for concept in CONCEPTS} <= metrics(tmp_path).keys()
    assert metrics(tmp_path)["concept/map"] > 0.3


@pytest.mark.parametrize("config", ["leaftriplet_wikiscenes", "himulcone_wikiscenes"])
def test_what_paper_b_is_compared_with_trains_and_is_measured(run, config, tmp_path):
    options = ["train_cfg.max_epochs=1", "train_cfg.val_interval=1", "train_dataloader.batch_size=12"]
    run("train.py", config, "--work-dir", tmp_path, options=options)
    assert len(logged(tmp_path)) > 1
    assert metrics(tmp_path)["concept/map"] > 0.3
    assert (tmp_path / "features").exists() == (config == "leaftriplet_wikiscenes")
