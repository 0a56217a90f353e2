"""A search without torch: the answers of the index, whatever was done to it; no answer where anything is wrong."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from hierpretrain.apis import EmbeddingInferencer
from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.apis.onnx_encoder import OnnxEncoder
from hierpretrain.apis.quick_search import quick_search
from tests.commands.places import write_model, write_photos

pytest.importorskip("onnxscript")

NAMES = [f"{name}/{i}.png" for name in ("animal/cat", "animal/dog", "tool/saw") for i in range(3)]
KINDS = {4: "animal/dog|tool/toy", 5: ""}
HEAVY = {"torch", "torchvision", "mmcv", "mmpretrain", "mmengine.runner", "sklearn", "scipy", "pandas", "matplotlib"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model, photographs with keys, and an index of them that carries the model in both forms."""
    root = tmp_path_factory.mktemp("made")
    write_model(root)
    write_photos(root, NAMES, broken="broken.png")
    rows = [
        f"photos/{name},K{i},{'red' if i % 2 else ''},{KINDS.get(i, name.rpartition('/')[0])}"
        for i, name in enumerate(NAMES)
    ]
    (root / "list.csv").write_text("\n".join(["image,sku,colour,kind", *rows]))
    inferencer = EmbeddingInferencer(root / "tiny.py", root / "epoch_1.pth", device="cpu", progress=False)
    options = dict(levels=["kind"], level_separator="/", path_separator="|", key_column="sku")
    images = inferencer.embed(root / "list.csv", **options)
    inferencer.build_index(images.select(range(6)), root / "index").carry_onnx()
    inferencer.build_index(images.select(range(6, 9)), root / "more")
    return root


@pytest.fixture
def folder(made, tmp_path):
    index = EmbeddingIndex.open(made / "index")
    index.save(tmp_path / "index")
    return tmp_path / "index"


def assert_same(folder, files, k):
    index = EmbeddingIndex.open(folder, device="cpu")
    found, expected = quick_search(folder, files, k), index.search(files, k)
    assert found.model == index.model
    for quick, full in zip(found.results, expected, strict=True):
        assert quick.query == full.query
        for one, other in zip(quick.neighbours, full.neighbours, strict=True):
            assert one.score == pytest.approx(other.score, abs=1e-4)
            assert (one.path, one.key, one.labels, one.node) == (other.path, other.key, other.labels, other.node)
            assert dict(one.metadata) == dict(other.metadata)


def test_its_answers_are_those_of_the_index_after_any_change(made, folder):
    files = [str(made / "photos" / name) for name in NAMES]
    assert_same(folder, files, 3)
    index = EmbeddingIndex.open(folder)
    assert index.info()["carries_onnx"]
    assert "encoder" not in index.info()["parts"]
    index.remove(["K1", "K3"])
    assert_same(folder, files, 100)
    index.merge(made / "more")
    index.add(embeddings=index.embeddings().features[:2], keys=["A", "B"], paths=[("animal", "eel"), ()])
    assert len(index._now.segments) > 1
    for k in (1, 4, 100):
        assert_same(folder, files, k)


def test_a_query_has_the_name_that_the_index_gives_it(made, folder, monkeypatch):
    monkeypatch.chdir(made)
    files = [f"./photos/{NAMES[0]}", f"photos//{NAMES[1]}"]
    assert_same(folder, files, 1)
    assert [one.query for one in quick_search(folder, files, 1).results] == [f"photos/{name}" for name in NAMES[:2]]


def test_equal_images_stand_in_their_order(made, folder):
    index = EmbeddingIndex.open(folder)
    index.add(embeddings=index.embeddings().features[[2, 2, 2]], keys=["X", "Y", "Z"])
    (result,) = quick_search(folder, [str(made / "photos" / NAMES[2])], 4).results
    assert [one.key for one in result.neighbours] == ["K2", "X", "Y", "Z"]
    assert len({one.score for one in result.neighbours}) == 1
    assert_same(folder, [str(made / "photos" / NAMES[2])], 2)


def test_it_answers_where_faiss_has_been_taught_tensors(made, folder):
    code = (
        "import sys, faiss.contrib.torch_utils; from hierpretrain.apis.quick_search import quick_search\n"
        "assert len(quick_search(sys.argv[1], [sys.argv[2]], 2).results[0].neighbours) == 2"
    )
    subprocess.run([sys.executable, "-c", code, str(folder), str(made / "photos" / NAMES[0])], check=True)


def test_half_precision(made, tmp_path):
    index = EmbeddingIndex.open(made / "index", device="cpu")
    half = EmbeddingIndex.build(
        index.embeddings(), model=index.model, fingerprint=index.fingerprint, half=True, log=lambda line: None
    )
    half.use_model(index.inferencer)
    half.save(tmp_path / "half")
    assert quick_search(tmp_path / "half", [str(made / "photos" / NAMES[0])], 3) is None  # no encoder in ONNX yet
    half.carry_onnx()
    results = quick_search(tmp_path / "half", [str(made / "photos" / NAMES[0])], 3).results
    expected = half.search(str(made / "photos" / NAMES[0]), 3)
    assert [one.path for one in results[0].neighbours] == [one.path for one in expected[0].neighbours]


def test_where_anything_is_wrong_there_is_no_answer(made, folder, tmp_path):
    photo = str(made / "photos" / NAMES[0])
    assert quick_search(folder, [photo], 1) is not None
    (tmp_path / "torn.png").write_bytes((made / "photos" / NAMES[0]).read_bytes()[:200])
    for files, k in (
        ([], 1),
        ([photo], 0),
        ([photo] * 65, 1),
        ([str(made / "photos")], 1),
        ([str(made / "list.csv")], 1),
        ([str(tmp_path / "torn.png")], 1),
        ([str(tmp_path / "none.png")], 1),
    ):
        assert quick_search(folder, files, k) is None
    assert quick_search(tmp_path, [photo], 1) is None
    assert quick_search(made / "more", [photo], 1) is None
    manifest = json.loads((folder / "index.json").read_text())
    for change in ({"fingerprint": "other"}, {"count": 99}, {"format": "v0"}, {"segments": 7}):
        (folder / "index.json").write_text(json.dumps({**manifest, **change}))
        assert quick_search(folder, [photo], 1) is None
    (folder / "index.json").write_text(json.dumps(manifest))
    vectors = next(folder.glob("vectors-*.faiss"))
    *data, last = vectors.read_bytes()
    vectors.write_bytes(bytes([*data, last ^ 1]))
    assert quick_search(folder, [photo], 1) is None
    with pytest.raises(ValueError, match="is damaged: the SHA-256"):
        EmbeddingIndex.open(folder)


@pytest.mark.parametrize(
    ("steps", "size"),
    [
        ([dict(type="torchvision/Resize", size=48), dict(type="torchvision/CenterCrop", size=(33, 40))], (40, 33)),
        ([dict(type="torchvision/Resize", size=(30, 45), interpolation="bicubic")], (45, 30)),
    ],
)
def test_images_are_prepared_as_the_pipeline_does(made, tmp_path, steps, size):
    options = {"test_dataloader.dataset.pipeline": [dict(type="LoadRGB"), *steps]}
    inferencer = EmbeddingInferencer(
        made / "tiny.py", made / "epoch_1.pth", options=options, device="cpu", progress=False
    )
    photos = [str(made / "photos" / name) for name in NAMES]
    wide = Image.fromarray(np.random.default_rng(0).integers(0, 256, (49, 133, 3), np.uint8))
    wide.save(tmp_path / "wide.png")
    inferencer.build_index(photos, tmp_path / "index").carry_onnx()
    encoder = OnnxEncoder(next((tmp_path / "index").glob("encoder-*.onnx")).read_bytes())
    assert encoder.prepare(wide).shape == (3, *size[::-1])
    assert np.array_equal(encoder.prepare(wide), inferencer.pipeline(wide).numpy())
    assert encoder(photos) == pytest.approx(inferencer(photos), abs=1e-5)
    assert_same(tmp_path / "index", [str(tmp_path / "wide.png")], 5)


def test_a_pipeline_that_needs_opencv_is_an_error(made, tmp_path):
    steps = [dict(type="LoadImageFromFile"), dict(type="Resize", scale=(32, 32))]
    options = {"test_dataloader.dataset.pipeline": steps}
    inferencer = EmbeddingInferencer(
        made / "tiny.py", made / "epoch_1.pth", options=options, device="cpu", progress=False
    )
    index = inferencer.build_index([str(made / "photos" / NAMES[0])], tmp_path / "index")
    with pytest.raises(ValueError, match=r"has a step that runs only with torch or OpenCV: .*opencv"):
        index.carry_onnx()
    assert not index.info()["carries_onnx"]


@pytest.mark.slow
def test_the_command_imports_neither_torch_nor_what_training_needs(made, folder):
    code = "import sys, hierpretrain.__main__ as m\nm.main()\nprint(*sys.modules, file=sys.stderr)"
    photo = str(made / "photos" / NAMES[0])
    words = ["search", str(folder), photo, "-k", "2"]
    ran = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
    assert not HEAVY & set(ran.stderr.split())
    assert "onnxruntime" in ran.stderr.split()
    whole = subprocess.run(
        [sys.executable, "-m", "hierpretrain", *words, "--device", "cpu"], capture_output=True, text=True, check=True
    )
    assert ran.stdout == whole.stdout


@pytest.mark.slow
def test_help_imports_nothing_heavy():
    code = "import sys, hierpretrain.__main__ as m\ntry: m.main()\nfinally: print(*sys.modules, file=sys.stderr)"
    for words in (["--help"], ["search", "--help"], ["index", "add", "--help"]):
        ran = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        loaded = set(ran.stderr.split())
        assert ran.stdout.startswith("usage: ")
        assert not HEAVY & loaded, words


def test_images_that_moved_are_found_by_another_root(made, folder):
    about = json.loads((folder / "index.json").read_text())
    root = about["segments"][0]["root"]
    (folder / "index.json").write_text((folder / "index.json").read_text().replace(f'"{root}"', '"/mnt/moved"'))
    assert_same(folder, [str(made / "photos" / NAMES[0])], 3)
    assert (
        quick_search(folder, [str(made / "photos" / NAMES[0])], 1)
        .results[0]
        .neighbours[0]
        .path.startswith("/mnt/moved/")
    )
