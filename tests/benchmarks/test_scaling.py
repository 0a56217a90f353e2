import importlib
import json
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from hierpretrain.functional import hierarchical_contrastive_loss
from tests.memory import LiveBytes

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"
OWN = ("scaling", "scaling_model", "losses", "gradient_caching", "step", "measure", "processes")


@pytest.fixture
def scaling(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    yield importlib.import_module("scaling")
    for name in OWN:
        sys.modules.pop(name, None)


@pytest.fixture
def model(scaling):
    return importlib.import_module("scaling_model")


def hardware(model, **rates):
    known = dict(encoder=1, matmul=1, passes=1, rows=1, labels=1, start=0, link=4.0, network=1.0)
    return model.Hardware(**{**known, "per_machine": 8, "latency": 0.0, **rates})


def copies(processes, own, counts=None):
    """Stands for the exchange with processes that have the same rows."""
    return torch.cat([own] * processes), 0


class Products(TorchDispatchMode):
    """Within it, ``flops`` counts the products of matrices, also those in place, which torch's counter leaves out."""

    flops = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        if function.overloadpacket.__name__ in ("mm", "addmm", "addmm_"):
            left, right = args[-2:]
            self.flops += 2 * left.shape[0] * left.shape[1] * right.shape[1]
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize(("own", "processes"), [(1024, 1), (1536, 1), (512, 4), (256, 2)])
def test_the_products_of_a_loss_are_as_many_as_counted(scaling, model, own, processes):
    features, labels = scaling.losses.batch(own, 16, 3, "cpu")
    loss = partial(hierarchical_contrastive_loss, gather=partial(copies, processes))
    with Products() as counter:
        scaling.losses.step(loss, features, labels)
    assert counter.flops == model.loss_flops(own, own * processes, 16)


@pytest.mark.parametrize("processes", [8, 32])
def test_a_loss_holds_as_many_copies_of_the_rows_as_said(scaling, model, processes):
    features, labels = scaling.losses.batch(128, 64, 3, "cpu")
    loss = partial(hierarchical_contrastive_loss, gather=partial(copies, processes), chunk_size=16)
    with LiveBytes() as live:
        scaling.losses.step(loss, features, labels)
    said = model.memory_bytes(model.Encoder("", 0, 0, 0, 0), processes, 128 * processes, 64)["rows"]
    assert said < live.peak < 1.5 * said  # beside them: one chunk of similarities, and labels


def test_an_encoder_is_counted(scaling):
    net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.Sigmoid(), nn.Flatten(), nn.Linear(4 * 64, 2))
    found = scaling.count("net", net, 8, 2)
    assert found.flops == 2 * (64 * 4 * 27 + 256 * 2)
    assert found.parameters == 4 * 27 + 2 * 257
    assert found.activations == 2 * (3 * 64 + 4 * 64)  # the image and the sigmoid's output; 2 bytes a number


def test_bytes_pass_the_slowest_way_once(model):
    gathered = partial(model.ring_seconds, 8.0)
    assert gathered(1, hardware(model)) == 0
    assert gathered(8, hardware(model)) == 8 * 7 / 8 / 4  # within a machine
    assert gathered(16, hardware(model)) == 8 * 15 / 16 / 1  # through the network
    assert gathered(16, hardware(model, network=9.0)) == 8 * 15 / 16 / 4
    assert gathered(16, hardware(model, latency=3.0)) == 8 * 15 / 16 + 15 * 3


def test_pairs_become_fewer_with_more_processes_and_what_is_not_shared_does_not(model):
    encoder = model.Encoder("net", flops=1e6, parameters=1e3, activations=1e4, pixels=8)
    rates = hardware(model, matmul=1e9, passes=1e9, rows=1e8, labels=1e6, start=0.25)
    one, many = (model.step_seconds(encoder, rates, w, 65_536, 128, 4, grad_cache=False) for w in (1, 64))
    assert one["encode"] == 3e6 * 65_536 == 64 * many["encode"]
    assert one["exchange"] == one["reduce"] == 0
    assert many["exchange"] == pytest.approx((2 * 128 * 4 + 4 * 8) * 65_536 * 63 / 64)
    assert many["reduce"] == pytest.approx(2 * 4e3 * 63 / 64)
    unshared = [model.unshared_seconds(rates, w, 65_536, 128, 4) for w in (1, 64)]
    pairs = [step["loss"] - of_all - 0.25 for step, of_all in zip((one, many), unshared, strict=True)]
    assert pairs[0] == pytest.approx(65_536**2 * (8 * 128 + 56) / 1e9)
    assert pairs[0] == pytest.approx(64 * pairs[1])
    assert unshared[1] > 0.5 * unshared[0]
    cached = model.step_seconds(encoder, rates, 64, 65_536, 128, 4, grad_cache=True)
    assert cached["encode"] == pytest.approx(4 / 3 * many["encode"])


def test_what_a_ring_saves(model):
    saved = partial(model.ring_saves, processes=4, rows=100, dim=10)
    assert saved({"exchange": 2.0, "loss": 9.0}) == (2.0, (400 - 150) * 40)
    assert saved({"exchange": 2.0, "loss": 2.0})[0] == 1.0
    assert saved({"exchange": 4.0, "loss": 1.0})[0] == 0.0


@pytest.mark.slow
@pytest.mark.ddp
def test_the_whole_of_it(scaling, monkeypatch, tmp_path, capsys):
    options = (
        "--local-rows 64 --processes 1 2 --channels 4 --pixels 16 --rounds 1 --memory-rows 2048 --encoder-pixels 32"
    )
    options += " --rows 4096 1048576 --gpus 8 64 --networks 100 400 --gpu-gb 20"
    words = ["scaling.py", *options.split(), "--encoders", "small ResNet", "--save", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    scaling.main()
    data = json.loads((tmp_path / "scaling.json").read_text())
    assert [(step["rows"], step["processes"]) for step in data["steps"]] == [(64, 1), (64, 2)]
    alone, both = (step["processor"] for step in data["steps"])
    assert alone["exchange"] == 0
    assert all(both[part] > 0 for part in (*scaling.PARTS, "wait"))
    steps = data["projected"]["small ResNet"]
    assert [(step["rows"], step["gpus"], step["network"]) for step in steps] == [
        (rows, gpus, network) for rows in (4096, 1_048_576) for gpus, network in ((8, None), (64, 100), (64, 400))
    ]
    page = (tmp_path / "scaling.md").read_text()
    assert page.count("| 1,048,576 |") == 3
    assert "| 64 | 2 | " in page
    assert "A ring" not in page
    assert "Passing the rows round in a ring would save at most" in page
