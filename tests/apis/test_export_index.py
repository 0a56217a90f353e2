"""An export says what an index knows, and a program without this toolbox answers as the index does."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hierpretrain.apis import EmbeddingInferencer, export_program
from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.commands import export as export_command
from hierpretrain.taxonomy import Taxonomy
from tests.commands.places import COLOURS, write_model, write_set

DOCS = Path(__file__).parents[2] / "docs/export.md"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model, and a calibrated index of three classes."""
    root = tmp_path_factory.mktemp("made")
    write_model(root)
    inferencer = EmbeddingInferencer(root / "tiny.py", root / "epoch_1.pth", device="cpu", progress=False)
    index = inferencer.build_index(write_set(root / "gallery", list(COLOURS)[:3], 8, 0), root / "index")
    index.calibrate(inferencer.embed(write_set(root / "held_out", COLOURS, 8, 1)), precision=0.7, k=7)
    write_set(root / "new", COLOURS, 2, 2)
    return root


def test_the_tree_and_the_thresholds_travel(made, tmp_path, monkeypatch, capsys):
    index = EmbeddingIndex.open(made / "index", device="cpu")
    words = [
        "export",
        str(made / "index"),
        str(made / "new"),
        "--out",
        str(tmp_path / "encoder.pt2"),
        "--device",
        "cpu",
    ]
    monkeypatch.setattr(sys, "argv", words)
    export_command.main()
    assert "images (8): largest difference" in capsys.readouterr().out
    about = json.loads((tmp_path / "encoder.json").read_text())
    assert about["output"]["width"] == about["output"]["shape"][1] == 64
    assert Taxonomy.from_dict(about["taxonomy"]) == index.taxonomy
    assert type(index.calibration).from_dict(about["calibration"]) == index.calibration
    bare = export_program(index.inferencer, tmp_path / "bare.pt2", log=lambda line: None)
    assert not {"taxonomy", "calibration"} & bare.keys()


def test_words_that_name_no_model(made, tmp_path, monkeypatch, capsys):
    out = ["--out", str(tmp_path / "encoder.pt2")]
    for words, message in (
        ([str(made / "tiny.py")], "tiny.py is no index: give CONFIG and CHECKPOINT, or an INDEX that carries its"),
        ([str(made / "index"), "--cfg-options", "a=1"], "--cfg-options are for CONFIG, and an index carries its own"),
    ):
        monkeypatch.setattr(sys, "argv", ["export", *words, *out])
        with pytest.raises(SystemExit, match="2"):
            export_command.main()
        assert message in capsys.readouterr().err


def test_an_index_of_another_model_is_refused(made, tmp_path):
    write_model(tmp_path, seed=1)
    other = EmbeddingInferencer(tmp_path / "tiny.py", tmp_path / "epoch_1.pth", device="cpu", progress=False)
    index = EmbeddingIndex.open(made / "index")
    with pytest.raises(ValueError, match=r"the index is of tiny, epoch_1\.pth, and not of .*: give an index of this"):
        export_program(other, tmp_path / "encoder.pt2", index=index)
    assert not (tmp_path / "encoder.pt2").exists()


@pytest.mark.slow
def test_the_program_of_the_docs_answers_as_the_index_does(made, tmp_path):
    pytest.importorskip("onnxscript")
    index = EmbeddingIndex.open(made / "index", device="cpu")
    index.save(tmp_path / "index")
    index = EmbeddingIndex.open(tmp_path / "index", device="cpu")
    index.carry_onnx()
    index.remove([index.paths[3]])
    index.add(write_set(tmp_path / "more", ["tool/saw"], 3, 3))  # and an image of two places, and one of none
    vectors = index.embeddings().features[[1, 2]]
    twins = dict(zip(("A", "B"), index.paths[1:3], strict=True))  # which comes first is a matter of rounding
    index.add(embeddings=vectors, keys=["A", "B"], paths=[[("animal", "cat"), ("tool", "toy")], ()])
    assert len(index._now.segments) > 1
    text = DOCS.read_text("utf-8")
    for name in ("similar", "answer"):
        (program,) = re.findall(rf"^```python\n(\"\"\"python {name}\.py.*?)^```", text, re.DOTALL | re.MULTILINE)
        assert not {"torch", "hierpretrain"} & set(re.findall(r"^(?:import|from) (\w+)", program, re.MULTILINE))
        (tmp_path / f"{name}.py").write_text(program)
    answers = set()
    for photo in sorted((made / "new").rglob("*0.png")):
        words = [sys.executable, tmp_path / "answer.py", tmp_path / "index", photo]
        *found, answer = subprocess.run(words, capture_output=True, text=True, check=True).stdout.splitlines()
        (result,) = index.search(str(photo), 5)
        names = [line.split(" ", 2)[2] for line in found], [one.path for one in result.neighbours]
        assert [twins.get(name, name) for name in names[0]] == [twins.get(name, name) for name in names[1]]
        scores = [float(line.split()[0]) for line in found]
        assert scores == pytest.approx([one.score for one in result.neighbours], abs=6e-4)
        assert answer == ("/".join(index.classify(str(photo))[0].path) or "unknown")
        answers.add(answer)
    assert len(answers) > 1
