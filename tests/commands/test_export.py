"""``hierpretrain export``: a file of the kind that its name says, compared on images, errors in one line."""

import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from hierpretrain.apis import EmbeddingInferencer
from hierpretrain.commands.export import main
from tests.commands.places import write_model, write_photos


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A config, a checkpoint and two images, one of them broken."""
    folder = tmp_path_factory.mktemp("place")
    write_model(folder, size=40)
    write_photos(folder, ("1.png",), broken="broken.png")
    return folder


@pytest.fixture
def run(place, monkeypatch):
    """Returns a function that runs the command with the model of the place."""

    def run(*words):
        words = [place / "tiny.py", place / "epoch_1.pth", "--device", "cpu", *words]
        monkeypatch.setattr(sys, "argv", ["export", *map(str, words)])
        main()

    return run


def test_onnx(place, run, tmp_path, capsys):
    run(place / "photos", "--out", tmp_path / "encoder.onnx", "--opset", "20")
    inferencer = EmbeddingInferencer(str(place / "tiny.py"), place / "epoch_1.pth", device="cpu", progress=False)
    picture = np.asarray(Image.open(place / "photos/1.png"), np.float32).transpose(2, 0, 1)[None]
    (found,) = onnxruntime.InferenceSession(str(tmp_path / "encoder.onnx")).run(None, {"images": picture})
    np.testing.assert_allclose(found, inferencer(str(place / "photos/1.png")), atol=1e-5)
    about = json.loads((tmp_path / "encoder.json").read_text())
    assert (about["model"], about["fingerprint"]) == ("tiny, epoch_1.pth", inferencer.fingerprint)
    assert about["versions"]["opset"] == 20
    printed = capsys.readouterr().out
    assert "images (1): largest difference" in printed  # the broken one is skipped
    assert f"wrote {tmp_path / 'encoder.onnx'} (" in printed


def test_a_program_of_torch(run, tmp_path):
    run("--out", tmp_path / "encoder.pt2", "--dynamic-size")
    about = json.loads((tmp_path / "encoder.json").read_text())
    assert about["input"]["shape"] == ["batch", 3, "height", "width"]
    embeddings = torch.export.load(tmp_path / "encoder.pt2").module()(torch.rand(4, 3, 50, 44) * 255)
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(4))


def test_images_of_a_list_are_read_as_its_options_say(place, run, tmp_path, capsys):
    (tmp_path / "list.csv").write_text("photo;kind\nphotos/1.png;a\n")
    with pytest.raises(SystemExit, match="2"):
        run(tmp_path / "list.csv", "--out", tmp_path / "encoder.pt2")
    assert "say which holds the images, image_column='...' (--image-column ...)" in capsys.readouterr().err
    run(tmp_path / "list.csv", "--image-column", "photo", "--image-root", place, "--out", tmp_path / "encoder.pt2")
    assert "images (1): largest difference" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "encoder"], "error: --out must end in .onnx or .pt2; it is 'encoder'\n"),
        (["--out", "encoder.pt2", "--half"], "error: --half and --opset are for ONNX; leave them out, or give a name "),
        (["nowhere.png", "--out", "encoder.pt2"], "error: there is no image, folder, list or pattern 'nowhere.png'"),
    ],
)
def test_errors_are_one_line(run, tmp_path, monkeypatch, capsys, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        run(*words)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith(message)
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_missing_package_is_one_line(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SystemExit):
        run("--out", tmp_path / "encoder.onnx")
    assert capsys.readouterr().err == (
        "error: export of ONNX needs the package onnxruntime (import of onnxruntime halted; None in sys.modules): "
        "pip install 'hierpretrain[export]'\n"
    )
