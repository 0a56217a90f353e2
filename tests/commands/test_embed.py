"""``hierpretrain embed``: files that numpy and the taxonomy read, skipped images listed, errors in one line."""

import itertools
import json
import multiprocessing
import re
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from hierpretrain.apis import EmbeddingInferencer, embedding_files, read_embeddings, write_embeddings
from hierpretrain.commands import errors_in_one_line
from hierpretrain.commands.embed import main
from hierpretrain.evaluation import Embeddings
from hierpretrain.taxonomy import Taxonomy
from tests.commands.places import write_model, write_photos

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def place(tmp_path):
    """A config, a checkpoint and a folder of four images, one of them broken."""
    write_model(tmp_path)
    write_photos(tmp_path, ("cat/1.png", "cat/2.png", "dog/1.png"), broken="cat/broken.png")
    return tmp_path


@pytest.fixture
def run(place, monkeypatch):
    """Returns a function that runs the command with the model of the place."""

    def run(*words):
        words = [str(place / "tiny.py"), str(place / "epoch_1.pth"), "--device", "cpu", "--workers", "0", *words]
        monkeypatch.setattr(sys, "argv", ["embed", *map(str, words)])
        main()

    return run


def test_the_files_hold_what_the_inferencer_gives(place, run, capsys):
    run(place / "photos", "--out", place / "out")
    images = json.loads((place / "out/images.json").read_text())
    assert images["paths"] == [str(place / "photos" / name) for name in ("cat/1.png", "cat/2.png", "dog/1.png")]
    assert list(images["skipped"]) == [str(place / "photos/cat/broken.png")]
    assert json.loads((place / "out/skipped.json").read_text()) == images["skipped"]
    inferencer = EmbeddingInferencer(place / "tiny.py", place / "epoch_1.pth", device="cpu", progress=False)
    np.testing.assert_allclose(np.load(place / "out/embeddings.npy"), inferencer(images["paths"]), atol=1e-6)
    tree = Taxonomy.load(place / "out/taxonomy.json")
    assert [tree.decode(row) for row in np.load(place / "out/labels.npy")] == [("cat",), ("cat",), ("dog",)]
    printed = capsys.readouterr()
    assert "embedded 3 images with tiny, epoch_1.pth" in printed.out
    assert f"cannot read the image {place / 'photos/cat/broken.png'}" in printed.err


def test_all_is_read_back_and_checked(place, run):
    run(place / "photos", "--out", place / "out")
    found = read_embeddings(place / "out")
    assert found.features.equal(torch.from_numpy(np.load(place / "out/embeddings.npy")))
    assert [found.taxonomy.decode(row) for row in found.labels] == [("cat",), ("cat",), ("dog",)]
    for name in ("embeddings.npy", "labels.npy", "images.json", "taxonomy.json"):
        whole = (place / "out" / name).read_bytes()
        for content in (bytes(len(whole)), whole[:-1], None):
            if content is None:
                (place / "out" / name).unlink()
            else:
                (place / "out" / name).write_bytes(content)
            with pytest.raises(ValueError, match=rf"{name} is (missing|damaged or of other embeddings)"):
                read_embeddings(place / "out")
        (place / "out" / name).write_bytes(whole)
    read_embeddings(place / "out")
    (place / "out/labels.npy").rename(place / "out/labels")
    (place / "out/labels.npy").mkdir()
    with pytest.raises(ValueError, match=r"labels\.npy cannot be read: Is a directory; embed the images anew"):
        read_embeddings(place / "out")
    (place / "out/manifest.json").unlink()
    with pytest.raises(ValueError, match=r"there are no embeddings in .*out: it has no manifest.json"):
        read_embeddings(place / "out")


def test_embeddings_that_are_replaced_while_they_are_read_are_not_mixed(tmp_path, monkeypatch):
    tree, labels = Taxonomy([("cat",)], ["kind"]), torch.tensor([[0]])
    older = Embeddings(torch.ones(1, 2), labels, labels[:, :0], ["all"], ["older.jpg"], tree, ())
    newer = replace(older, features=torch.zeros(1, 2), paths=["newer.jpg"])
    write_embeddings(older, tmp_path / "out")
    read, writings = embedding_files.read_array, iter([newer])

    def read_beside_a_writer(*given, **options):
        for embedded in writings:
            write_embeddings(embedded, tmp_path / "out")
        return read(*given, **options)

    monkeypatch.setattr(embedding_files, "read_array", read_beside_a_writer)
    found = read_embeddings(tmp_path / "out")
    assert found.paths == newer.paths
    assert found.features.equal(newer.features)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"features": torch.ones(1, 2).double()},
            r"embeddings.npy must hold finite numbers of float32, .* torch.float64",
        ),
        (
            {"features": torch.tensor([[1, torch.nan]])},
            r"\(N, D\); they are torch.float32, \(1, 2\), 1 of them not finite",
        ),
        ({"features": torch.ones(2)}, r"they are torch.float32, \(2,\), 0 of them not finite; correct the embeddings"),
        ({"labels": torch.tensor([[7]])}, "labels.npy cannot be used: level 1 has nodes 0 to 0, not 7"),
        ({"labels": torch.tensor([[0], [0]])}, "labels.npy must be of 1 images; it is of 2"),
        ({"paths": []}, "images.json must hold 1 texts in 'paths', one an image; it does not; correct the embeddings"),
        ({"splits": [None]}, "images.json must hold 1 texts in 'splits'"),
        ({"keys": [17]}, "images.json must hold 1 texts in 'keys'"),
        ({"metadata": {"price": "3"}}, "images.json must hold 1 texts in 'price'"),
        ({"metadata": {5: ["3"]}}, "images.json must hold objects of texts in 'metadata' and 'skipped'"),
        ({"skipped": {"b.jpg": OSError()}}, "images.json must hold objects of texts in 'metadata' and 'skipped'"),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, change, message):
    tree, labels = Taxonomy([("cat",)], ["kind"]), torch.tensor([[0]])
    pets = Embeddings(torch.ones(1, 2), labels, labels[:, :0], ["all"], ["a.jpg"], tree, ())
    with pytest.raises(ValueError, match=message):
        write_embeddings(replace(pets, **change), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_columns_that_are_arrays_are_written_as_lists(tmp_path):
    tree, labels = Taxonomy([("cat",)], ["kind"]), torch.tensor([[0], [0]])
    pets = Embeddings(torch.ones(2, 2), labels, labels[:, :0], ["all"] * 2, ["a.jpg", "b.jpg"], tree, ())
    arrays = replace(pets, paths=np.array(pets.paths), metadata={"price": np.array(["1"] * len(pets.paths))})
    write_embeddings(arrays, tmp_path / "out")
    read = read_embeddings(tmp_path / "out")
    assert (read.paths, read.metadata) == (pets.paths, {"price": ["1"] * len(pets.paths)})


def test_embeddings_of_a_training_are_written_as_they_are(tmp_path):
    tree, labels = Taxonomy([("cat",)], ["kind"]), torch.tensor([[0]], dtype=torch.int32)
    pets = Embeddings(torch.ones(1, 2, requires_grad=True), labels, labels[:, :0], ["all"], ["a.jpg"], tree, ())
    write_embeddings(pets, tmp_path / "out")
    found = read_embeddings(tmp_path / "out")
    assert (found.features.tolist(), found.labels.tolist()) == ([[1, 1]], [[0]])


def test_a_file_that_somebody_put_there_meanwhile_stays(tmp_path, monkeypatch):
    tree, labels = Taxonomy([("cat",)], ["kind"]), torch.tensor([[0]])
    pets = Embeddings(torch.ones(1, 2), labels, labels[:, :0], ["all"], ["a.jpg"], tree, ())
    write_embeddings(pets, tmp_path / "out")
    write = embedding_files.write_skipped
    monkeypatch.setattr(
        embedding_files, "write_skipped", lambda *given: ((tmp_path / "out/holiday.jpg").touch(), write(*given))
    )
    with pytest.raises(ValueError, match=r"holds 'holiday.jpg', which would be lost"):
        write_embeddings(pets, tmp_path / "out")
    assert (tmp_path / "out/holiday.jpg").exists()


def test_older_embeddings_are_replaced_and_nothing_else(place, run, capsys):
    run(place / "photos/cat", "--out", place / "out")
    run(place / "photos", "--out", place / "out")
    assert len(read_embeddings(place / "out").paths) == 3
    (place / "out/notes.txt").write_text("mine")
    with pytest.raises(SystemExit, match="2"):
        run("nowhere", "--out", place / "out")
    assert "out holds 'notes.txt', which would be lost" in capsys.readouterr().err


def test_a_process_that_is_killed_leaves_the_older_or_the_newer_files(place, run):
    run(place / "photos/cat", "--out", place / "out")
    small = read_embeddings(place / "out")
    for i in range(10):
        process = FORK.Process(target=write_for_ever, args=(small, place / "out"))
        process.start()
        time.sleep(0.02 * i + 0.1)
        process.kill()
        process.join()
        found = read_embeddings(place / "out")
        assert found.paths == small.paths or found.paths == [str(len(found.paths))] * len(found.paths)
    write_embeddings(small, place / "out")
    assert not [path.name for path in place.iterdir() if path.name.startswith(".out")]


def write_for_ever(some, folder):
    for number in itertools.count(1):
        rows = [0] * number
        write_embeddings(
            replace(
                some,
                features=some.features[rows],
                labels=some.labels[rows],
                extra_labels=some.extra_labels[rows],
                splits=["all"] * number,
                paths=[str(number)] * number,
            ),
            folder,
        )


def test_keys_and_metadata_of_a_list_are_written(place, run):
    (place / "shop.tsv").write_text("image\tsku\tnote\nphotos/cat/1.png\tA\tred\nphotos/dog/1.png\tB\t\n")
    run(place / "shop.tsv", "--levels", "--key-column", "sku", "--out", place / "out")
    images = json.loads((place / "out/images.json").read_text())
    assert images["keys"] == ["A", "B"]
    assert images["metadata"] == {"note": ["red", ""]}
    assert np.load(place / "out/labels.npy").shape == (2, 0)


def test_the_configs_own_test_data(place, run):
    run("--data-root", place / "photos", "--out", place / "out", "--splits", "all")
    assert len(np.load(place / "out/embeddings.npy")) == 3


def test_links_are_skipped_and_listed_too(place, run):
    (place / "photos/cat/gone.png").symlink_to("nowhere.png")
    run(place / "photos", "--out", place / "out", "--skipped", place / "mine.json")
    listed = json.loads((place / "mine.json").read_text())
    assert sorted(listed) == [str(place / "photos/cat/broken.png"), str(place / "photos/cat/gone.png")]
    assert "is a broken link" in listed[str(place / "photos/cat/gone.png")]
    assert json.loads((place / "out/skipped.json").read_text()) == listed


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["photos", "--on-error", "error"], "cannot read the image .*broken.png"),
        (["photos/cat/broken.png"], "none of the 1 images can be read"),
        (["nowhere"], "there is no image, folder, list or pattern"),
        (["photos", "--data-root", "photos"], "--data-root and --splits are for the config's own test data"),
        ([], "there is no folder 'nowhere'"),
        (["photos", "--cfg-options", "model.backbone.depth=34"], "is no checkpoint of the config's model"),
        (["photos", "--batch-size", "0"], "batch_size must be at least 1"),
        (["photos", "--device", "toaster"], "the device 'toaster' cannot be used here"),
        (["photos", "--cfg-options", "modle.backbone.depth=34"], "unknown key 'modle'; did you mean 'model'"),
    ],
)
def test_errors_are_one_line(place, run, capsys, monkeypatch, words, message):
    monkeypatch.chdir(place)
    with pytest.raises(SystemExit, match="2"):
        run(*words, "--out", place / "out")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert re.search(message, line)
    assert not (place / "out").exists()


@pytest.mark.parametrize("option", ["photos", "model.a=[1,2", "model.a=[dict(b=1,c=2)]"])
def test_what_is_no_option_is_said(place, run, capsys, option):
    with pytest.raises(SystemExit, match="2"):
        run("--cfg-options", "model.embedding=backbone", option, "--out", place / "out")
    assert "error: --cfg-options takes key=value, up to" in (line := capsys.readouterr().err.splitlines()[-1])
    assert line.endswith(f"; {option!r} is not like that")


def test_the_place_is_checked_before_anything_is_embedded(place, run, capsys):
    with pytest.raises(SystemExit, match="2"):
        run("nowhere", "--out", place / "tiny.py")
    assert "tiny.py is a file; give another path" in capsys.readouterr().err


def test_names_do_not_break_lines_or_reach_the_terminal_raw(place, run, capsys):
    (place / "photos/cat/\x1b[2J\n.png").write_bytes(b"no image")
    (place / "photos/cat/\udcff.png").write_bytes(b"no image")
    run(place / "photos", "--out", place / "out")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert "cat/\\x1b[2J\\n.png: " in lines[1]
    assert "cat/\\udcff.png: " in lines[3]


def test_an_error_of_several_lines_is_one(capsys):
    with pytest.raises(SystemExit, match="2"), errors_in_one_line():
        raise ValueError("two\n  lines\n\nand\x1b[1m an escape")
    assert capsys.readouterr().err == "error: two lines and\\x1b[1m an escape\n"
