"""``hierpretrain index`` and ``hierpretrain search``: tables, JSON and sheets of what an index finds; clear errors."""

import io
import json
import shutil
import sys

import pytest
from mmengine.logging import MMLogger
from PIL import Image

from hierpretrain.apis import EmbeddingInferencer
from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.apis.neighbours import Neighbour, SearchResult
from hierpretrain.commands import classify as classify_command
from hierpretrain.commands import export as export_command
from hierpretrain.commands import index as index_command
from hierpretrain.commands import search as search_command
from hierpretrain.commands.search import table
from tests.commands.places import write_model, write_photos

PHOTOS = ("animal/cat/1", "animal/cat/2", "animal/cat/3", "animal/dog/1", "animal/dog/2", "tool/saw/1")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A config, two checkpoints and a folder of six images and a broken one."""
    root = tmp_path_factory.mktemp("made")
    for seed in (0, 1):
        write_model(root, f"epoch_{seed}.pth", seed=seed)
    write_photos(root, [f"{name}.png" for name in PHOTOS], broken="tool/broken.png")
    return root


@pytest.fixture
def run(made, monkeypatch):
    """Returns a function that runs a command, with the model put after its first words."""

    def run(command, *words, checkpoint="epoch_0.pth"):
        place = 1 if command is search_command else 0
        model = [made / "tiny.py", made / checkpoint]
        words = [*words[:place], *model, *words[place:], "--device", "cpu", "--workers", "0"]
        words += ["--no-onnx"] if command is index_command else []
        monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
        command.main()

    return run


@pytest.fixture(scope="module")
def folder(made):
    """An index of the photos."""
    inferencer = EmbeddingInferencer(
        made / "tiny.py", made / "epoch_0.pth", device="cpu", on_error="skip", progress=False
    )
    inferencer.build_index(made / "photos", made / "photos.index")
    return made / "photos.index"


@pytest.fixture(scope="module")
def expected(made, folder):
    """What the Python interface finds for the first photo."""
    inferencer = EmbeddingInferencer(made / "tiny.py", made / "epoch_0.pth", device="cpu", progress=False)
    inferencer.load_index(folder)
    return inferencer, str(made / "photos/animal/cat/1.png")


def test_links_are_skipped_or_end_a_command(made, folder, run, tmp_path, capsys):
    (tmp_path / "mine/cat").mkdir(parents=True)
    shutil.copy(made / "photos/animal/cat/1.png", tmp_path / "mine/cat")
    gone = tmp_path / "mine/cat/gone.png"
    gone.symlink_to("nowhere.png")
    for command, words in ((index_command, ["--out", tmp_path / "index"]), (search_command, [])):
        first = [folder] if command is search_command else []
        run(command, *first, tmp_path / "mine", *words, "--skipped", tmp_path / "skipped.json")
        assert list(json.loads((tmp_path / "skipped.json").read_text())) == [str(gone)]
        assert f"{gone} is a broken link" in capsys.readouterr().err
        with pytest.raises(SystemExit, match="2"):
            run(command, *first, tmp_path / "mine", *words, "--on-error", "error")
        assert f"error: {gone} is a broken link; remove it" in capsys.readouterr().err
        with pytest.raises(SystemExit, match="2"):
            run(command, *first, tmp_path / "mine", *words, "--on-error", "replace")
        assert "invalid choice: 'replace' (choose from" in capsys.readouterr().err
    assert list(EmbeddingIndex.load(tmp_path / "index").skipped) == [str(gone)]


def test_the_index_is_that_of_the_inferencer(made, folder, run, tmp_path, capsys):
    run(index_command, made / "photos", "--out", tmp_path / "index")
    ours, theirs = EmbeddingIndex.load(tmp_path / "index"), EmbeddingIndex.load(folder)
    assert ours.paths == theirs.paths == [str(made / "photos" / f"{name}.png") for name in PHOTOS]
    assert ours.labels.equal(theirs.labels)
    assert ours.taxonomy == theirs.taxonomy
    assert ours.fingerprint == theirs.fingerprint
    assert list(ours.skipped) == [str(made / "photos/tool/broken.png")]
    names = [sorted(path.name for path in place.glob("[!w]*-*")) for place in (tmp_path / "index", folder)]
    assert names[0] == names[1]  # which hold digests of the contents
    printed = capsys.readouterr()
    size = sum(path.stat().st_size for path in (tmp_path / "index").iterdir())
    assert f"wrote {tmp_path / 'index'}: {size / 1e6:.1f} MB, {ours!r}" in printed.out
    assert "6 images, 64 x float32, 'flat'" in repr(ours)
    assert "broken.png" in printed.err


def test_kind_and_precision_are_chosen_and_recall_is_printed(made, run, tmp_path, capsys):
    run(index_command, made / "photos", "--out", tmp_path / "index", "--kind", "hnsw", "--half", "--seed", "3")
    loaded = EmbeddingIndex.load(tmp_path / "index")
    assert (loaded.kind, loaded.half, loaded.recall) == ("hnsw", True, {"recall@10": 1.0})
    assert "recall@10 against exact search: 1.000 (6 queries, efSearch 16)" in capsys.readouterr().out


def test_half_precision_is_refused_where_milvus_stores_the_vectors(made, run, tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(index_command, made / "nowhere", "--out", f"milvus-lite://{tmp_path}/x.db#photos", "--half")
    assert "error: half and seed are for an index in a folder, and " in (told := capsys.readouterr().err)
    assert "x.db#photos' is an address: leave out half=True" in told
    assert not list(tmp_path.iterdir())


def test_the_target_is_checked_before_anything_is_embedded(made, run, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(index_command, made / "nowhere", "--out", made / "photos")
    assert "which would be lost, and is no part of an index; give another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([], {}),
        (["-k", "2"], {"k": 2}),
        (["--level", "1"], {"level": 1}),
        (["--level", "-1", "--within", "animal"], {"level": -1, "within": "animal"}),
        (["--within", "animal/dog"], {"within": ("animal", "dog")}),
        (["--within", '["animal", "dog"]'], {"within": ("animal", "dog")}),
    ],
)
def test_json_and_table_are_what_python_finds(run, folder, expected, capsys, words, options):
    inferencer, query = expected
    run(search_command, folder, query, *words, "--json", "-")
    printed = capsys.readouterr()
    (answer,) = json.loads(printed.out)  # nothing else is on the standard output
    (found,) = inferencer.search(query, **options)
    assert answer["query"] == query
    assert [entry["path"] for entry in answer["neighbours"]] == [one.path for one in found.neighbours]
    assert [entry["score"] for entry in answer["neighbours"]] == [one.score for one in found.neighbours]
    assert [entry["labels"] for entry in answer["neighbours"]] == [
        [list(p) for p in one.labels] for one in found.neighbours
    ]
    assert [entry["node"] for entry in answer["neighbours"]] == [list(one.node) for one in found.neighbours]
    assert "\n".join(table(found)) in printed.err
    MMLogger.get_current_instance().warning("as a data set may warn")
    assert capsys.readouterr().out == ""


def test_classes_are_printed_and_written(run, folder, expected, tmp_path, capsys):
    inferencer, query = expected
    run(
        search_command,
        folder,
        query,
        "--classify",
        "--threshold",
        "0.4",
        "--votes",
        "3",
        "--json",
        tmp_path / "out.json",
    )
    (one,) = inferencer.classify(query, k=3, threshold=0.4)
    (answer,) = json.loads((tmp_path / "out.json").read_text())
    after = None if one.next is None else list(one.next)
    assert answer["classification"] == {"path": list(one.path), "confidences": list(one.confidences), "next": after}
    assert f"\n{query}: {one}\n" in capsys.readouterr().out


def test_the_sheet_grades_neighbours_by_what_is_known_of_the_query(run, made, folder, tmp_path, monkeypatch):
    sheets = []
    monkeypatch.setattr(
        "hierpretrain.visualization.plot_retrieval_sheet",
        lambda rows, path, levels: sheets.append((rows, path, levels)),
    )

    def in_common(path, other):
        names, others = path.split("/")[:-1], other.split("photos/")[1].split("/")[:-1]
        return next((i for i, (a, b) in enumerate(zip(names, others, strict=True)) if a != b), len(names))

    run(search_command, folder, made / "photos/animal/cat/1.png", "-k", "6", "--sheet", tmp_path / "a.png")
    ((row,), path, levels) = sheets.pop()
    assert path == str(tmp_path / "a.png")
    assert levels == ("level1", "level2")
    assert row.query == str(made / "photos/animal/cat/1.png")
    assert [found.shared for found in row.neighbours] == [None] * 6  # one file has no label
    run(search_command, folder, made / "photos", "-k", "6", "--sheet", "b.png")
    for row, name in zip(sheets.pop()[0], PHOTOS, strict=True):
        for found in row.neighbours:
            assert found.shared == in_common(name, found.path)
            assert found.whole == (found.shared == 2)
            names = tuple(found.path.split("photos/")[1].split("/")[:-1])
            assert (*found.caption[:-1], found.caption[-1].split()[0]) == names
    run(search_command, folder, made / "photos", "--level", "1", "--sheet", "c.png")
    for row, name in zip(sheets.pop()[0], PHOTOS, strict=True):
        top = name.split("/")[0]
        assert {found.caption[0].split()[0]: (found.shared, found.whole) for found in row.neighbours} == {
            "animal": (int(top == "animal"), top == "animal"),
            "tool": (int(top == "tool"), top == "tool"),
        }
    shutil.copytree(made / "photos/animal", tmp_path / "new/others")  # folders that the index's tree does not have
    run(search_command, folder, tmp_path / "new", "--sheet", "d.png")
    assert {found.shared for row in sheets.pop()[0] for found in row.neighbours} == {None}


def test_the_sheet_is_a_picture(run, made, folder, tmp_path):
    run(search_command, folder, made / "photos/tool/saw/1.png", "-k", "2", "--sheet", tmp_path / "sheet.png")
    assert Image.open(tmp_path / "sheet.png").format == "PNG"


def test_a_list_with_keys_comes_back(made, run, tmp_path, capsys):
    lines = [f"{name}.png;SKU{i};{name.split('/')[0]};{i},50" for i, name in enumerate(PHOTOS)]
    (tmp_path / "shop.csv").write_text("\n".join(["photo;sku;kind;price", *lines]), encoding="utf-8-sig")
    options = ["--image-column", "photo", "--levels", "kind", "--key-column", "sku", "--image-root", made / "photos"]
    run(index_command, tmp_path / "shop.csv", *options, "--out", tmp_path / "index")
    run(search_command, tmp_path / "index", tmp_path / "shop.csv", *options, "-k", "1", "--json", tmp_path / "out.json")
    for i, answer in enumerate(json.loads((tmp_path / "out.json").read_text())):
        (found,) = answer["neighbours"]
        assert answer["key"] == found["key"] == f"SKU{i}"
        assert answer["metadata"] == found["metadata"] == {"price": f"{i},50"}
    assert "label     key     file" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="2"):
        run(search_command, tmp_path / "index", made / "photos", "--levels", "kind")
    assert "levels say how a list is read, and there is no list" in capsys.readouterr().err


def test_a_table_by_hand():
    neighbours = (
        Neighbour("a.jpg", 1.0, (("x", "y"), ("z",))),
        Neighbour("b.jpg", -0.05, (("x", "y"), ("z",)), ("x",)),
        Neighbour("c d\n\x1b[1m.jpg", 0.98765),
    )
    assert table(SearchResult("q", neighbours)) == [
        "  rank   score  label     file",
        "     1   1.000  x/y, z    a.jpg",
        "     2  -0.050  x         b.jpg",
        "     3   0.988  -         c d\\n\\x1b[1m.jpg",
    ]
    assert table(SearchResult("q", (Neighbour("a.jpg", 1.0, (("x",),), key="S\n1"), Neighbour("b.jpg", 0.5)))) == [
        "  rank   score  label    key     file",
        "     1   1.000  x        S\\n1    a.jpg",
        "     2   0.500  -" + 16 * " " + "b.jpg",
    ]


@pytest.mark.parametrize(
    ("words", "options", "message"),
    [
        (["--level", "colour"], {}, "error: no level 'colour'"),
        (["--within", "cta"], {}, "error: the tree has no branch 'cta'; did you mean 'animal/cat'?"),
        (["--within", "[1]"], {}, "error: --within takes a path, a name, or a JSON list of names; it is '[1]'"),
        (["--within", ""], {}, "error: the tree has no branch ''"),
        (["-k", "0"], {}, "error: k must be at least 1; it is 0"),
        (["--classify", "--votes", "0"], {}, "error: k must be at least 1; it is 0"),
        (["--threshold", "0.8"], {}, "error: --votes and --threshold are for --classify; add it, or leave them out"),
        (["--json", "/dev/null/x"], {}, "error: /dev/null/x cannot be written: /dev/null is a file"),
        (["--sheet", "/"], {}, "error: / cannot be written: it is a folder; give the name of a file"),
        (["--classify", "--threshold", "2"], {}, "error: threshold must be above 0 and up to 1"),
        ([], {"checkpoint": "epoch_1.pth"}, "error: the index was made by 'tiny, epoch_0.pth' (fingerprint"),
    ],
)
def test_errors_in_one_line(run, folder, expected, capsys, words, options, message):
    with pytest.raises(SystemExit, match="2"):
        run(search_command, folder, expected[1], *words, **options)
    printed = capsys.readouterr()
    (line,) = printed.err.splitlines()
    assert message in line
    assert printed.out == ""  # nothing was embedded


def test_an_index_without_labels_says_so_before_queries_are_embedded(run, made, tmp_path, capsys):
    run(index_command, made / "photos/animal/cat", "--out", tmp_path / "flat")
    capsys.readouterr()
    for words, message in (
        (["--level", "1"], "there is no level 1: the images"),
        (["--classify"], "to classify, images"),
    ):
        with pytest.raises(SystemExit, match="2"):
            run(search_command, tmp_path / "flat", made / "photos", *words)
        printed = capsys.readouterr()
        assert f"error: {message} of the index" in printed.err
        assert printed.out == ""


@pytest.mark.parametrize(
    "words",
    [
        ["--batch-size", "3"],
        ["--workers", "1"],
        ["--amp"],
        ["--on-error", "error"],
        ["--device", "cpu"],
        ["--classify"],
        ["--where", "colour=red"],
        ["--levels"],
        ["--skipped", "skipped.json"],
        ["--cfg-options", "a=1"],
    ],
)
def test_what_a_quick_search_does_not_know_is_not_left_to_it(monkeypatch, words):
    quick = []
    monkeypatch.setattr(search_command, "quick_search", lambda *args: quick.append(args))
    monkeypatch.setattr(search_command, "_find", lambda args: ([], [], None, None))
    for options in (["-k", "3"], words):
        monkeypatch.setattr(sys, "argv", ["search", "photos.index", "new.jpg", *options])
        search_command.main()
    assert quick == [("photos.index", ["new.jpg"], 3)]


def test_a_folder_without_an_index(run, made, expected, capsys):
    with pytest.raises(SystemExit, match="2"):
        run(search_command, made / "photos", expected[1])
    assert "error: there is no index in" in capsys.readouterr().err


@pytest.mark.parametrize("command", [index_command, search_command])
def test_help_teaches(command, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["command", "--help"])
    with pytest.raises(SystemExit, match="0"):
        command.main()
    text = capsys.readouterr().out
    for part in ("Examples:", "What comes out:", "Common mistakes:", "--batch-size"):
        assert part in text


# ---------------------------------------------------------------- an index that carries its model
@pytest.fixture
def command(monkeypatch, capsys):
    """Returns a function that runs a command on words alone, and returns what it prints, or what it tells beside it."""

    def command(module, *words, told=False):
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["command", *map(str, words)])
        module.main()
        printed = capsys.readouterr()
        return printed.err if told else printed.out

    return command


OPTIONS = ["--device", "cpu", "--workers", "0"]


def test_a_search_needs_index_and_image_alone(folder, expected, command, run, capsys):
    inferencer, query = expected
    (found,) = json.loads(command(search_command, folder, query, *OPTIONS, "--json", "-"))
    (wanted,) = inferencer.search(query)
    assert [(one["path"], one["score"]) for one in found["neighbours"]] == [
        (one.path, one.score) for one in wanted.neighbours
    ]
    assert EmbeddingIndex.open(folder, device="cpu").search(query) == [wanted]
    with pytest.raises(SystemExit, match="2"):
        command(search_command, folder, query, "--cfg-options", "model.backbone.depth=34", "--device", "cpu")
    assert "error: --cfg-options are for CONFIG" in capsys.readouterr().err


def test_an_index_without_its_model_says_what_to_give(made, folder, expected, run, command, tmp_path, capsys):
    run(index_command, made / "photos", "--out", tmp_path / "bare", "--no-model")
    assert not list((tmp_path / "bare").glob("weights*"))
    with pytest.raises(SystemExit, match="2"):
        command(search_command, tmp_path / "bare", expected[1])
    assert "error: the index does not carry its model, 'tiny, epoch_0.pth': give its config and" in (
        capsys.readouterr().err
    )
    run(search_command, tmp_path / "bare", expected[1])
    for module, words, remedy in (
        (classify_command, (expected[1],), "give its config and checkpoint between the index and the images"),
        (export_command, ("--out", tmp_path / "encoder.onnx"), "give its config and checkpoint in place of the index"),
        (
            index_command,
            ("add", expected[1]),
            "make it anew (hierpretrain index, without --no-model), or in Python give",
        ),
    ):
        words = [*words[:-1], tmp_path / "bare", words[-1]] if module is index_command else [tmp_path / "bare", *words]
        with pytest.raises(SystemExit, match="2"):
            command(module, *words, "--device", "cpu")
        assert f"error: the index does not carry its model, 'tiny, epoch_0.pth': {remedy}" in capsys.readouterr().err


def test_an_index_lives(made, command, run, tmp_path, capsys):
    """Images come, change, move and go, by commands; and what is told of it."""
    photos, index = tmp_path / "photos", tmp_path / "index"
    shutil.copytree(made / "photos/animal", photos / "animal")
    run(index_command, photos, "--out", index)
    shutil.copytree(made / "photos/tool", photos / "tool")
    out = command(index_command, "add", index, photos / "tool/saw", *OPTIONS)
    assert out.endswith(f"added 1, removed 0, kept 0; {index} has 6 images\n")
    (photos / "animal/cat/1.png").unlink()
    (photos / "animal/cat/2.png").rename(photos / "animal/moved.png")
    shutil.copy(made / "photos/tool/saw/1.png", photos / "animal/dog/1.png")
    out = command(index_command, "update", index, photos, *OPTIONS, "--prune")
    # dog/1 and the moved image have contents that the index knew; the moved one and the saw have another label now
    assert out.endswith(f"added 3 (0 embedded, 2 relabelled), removed 4, kept 2; {index} has 5 images\n")
    found = EmbeddingIndex.open(index)
    assert sorted(found.paths) == sorted(str(path) for path in photos.rglob("*.png") if path.name != "broken.png")
    fresh = EmbeddingInferencer(
        made / "tiny.py", made / "epoch_0.pth", device="cpu", on_error="skip", progress=False
    ).build_index(photos)
    for one, other in zip(found.search(photos / "animal", 9), fresh.search(photos / "animal", 9), strict=True):
        assert {(near.path, near.labels) for near in one.neighbours} == {
            (near.path, near.labels) for near in other.neighbours
        }
        assert [near.score for near in one.neighbours] == pytest.approx([near.score for near in other.neighbours])
    out = command(index_command, "remove", index, photos / "animal/moved.png")
    assert out == f"added 0, removed 1, kept 0; {index} has 4 images\n"
    run(index_command, made / "photos/animal/cat", "--out", tmp_path / "other")
    out = command(index_command, "merge", index, tmp_path / "other")
    assert out == f"{tmp_path / 'other'}: added 3 (0 embedded), removed 0, kept 0; {index} has 7 images\n"
    told = json.loads(command(index_command, "info", index, "--json"))
    assert (told["images"], told["width"], told["carries_model"], told["labelled"]) == (7, 64, True, 4)
    assert "images        7\n" in command(index_command, "info", index)


def test_every_update_lists_what_it_cannot_read(made, folder, command, tmp_path):
    shutil.copytree(folder, tmp_path / "index")
    for _ in range(2):
        skipped = ("--skipped", tmp_path / "skipped.json")
        told = command(index_command, "update", tmp_path / "index", made / "photos", *OPTIONS, *skipped, told=True)
        assert "skipped 1 that cannot be read:\n" in told
        assert "broken.png" in told
        (listed,) = json.loads((tmp_path / "skipped.json").read_text())
        assert listed.endswith("broken.png")
    shutil.copy(made / "photos/animal/cat/1.png", tmp_path / "one_more.png")
    command(index_command, "add", tmp_path / "index", tmp_path / "one_more.png", *skipped)
    assert json.loads((tmp_path / "skipped.json").read_text()) == {}


def test_what_an_update_cannot_read_comes_before_what_an_earlier_one_could_not(folder, command, tmp_path):
    shutil.copytree(folder, tmp_path / "index")
    more = tmp_path / "photos/animal"
    more.mkdir(parents=True)
    for i in range(25):
        (more / f"{i}.png").write_text("broken")
    command(index_command, "update", tmp_path / "index", more.parent, *OPTIONS)
    (more / "zz.png").write_text("broken")
    told = command(index_command, "update", tmp_path / "index", more.parent, *OPTIONS, told=True)
    assert "zz.png" in told.splitlines()[1]
    assert "and 7 more" in told


@pytest.mark.parametrize("source", ["file", "-"])
def test_a_list_of_what_to_remove_may_begin_with_a_byte_order_mark(folder, command, tmp_path, monkeypatch, source):
    shutil.copytree(folder, tmp_path / "index")
    first, second, *rest = EmbeddingIndex.open(tmp_path / "index").paths
    text = f"\ufeff{first}\n{second}\n"
    (tmp_path / "gone.txt").write_text(text, "utf-8")
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    command(index_command, "remove", tmp_path / "index", "--from", tmp_path / "gone.txt" if source == "file" else "-")
    assert EmbeddingIndex.open(tmp_path / "index").paths == rest


@pytest.mark.parametrize("source", ["file", "-"])
def test_a_line_of_a_list_of_what_to_remove_ends_where_the_line_does(folder, command, tmp_path, monkeypatch, source):
    shutil.copytree(folder, tmp_path / "index")
    index = EmbeddingIndex.open(tmp_path / "index")
    keys = ["A", "B", "A\u2028B", "A\x0cB", "A\x85B"]
    index.add(embeddings=index.embeddings().features[:5], keys=keys)
    text = "\n".join([*keys[2:], ""])
    (tmp_path / "gone.txt").write_bytes(text.replace("\n", "\r\n").encode())
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    command(index_command, "remove", tmp_path / "index", "--from", tmp_path / "gone.txt" if source == "file" else "-")
    assert [key for key in EmbeddingIndex.open(tmp_path / "index").keys if key] == ["A", "B"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le"])
def test_a_list_of_what_to_remove_may_be_of_windows(folder, command, tmp_path, encoding):
    shutil.copytree(folder, tmp_path / "index")
    index = EmbeddingIndex.open(tmp_path / "index")
    first, second, *rest = index.paths
    index.add(embeddings=index.embeddings().features[:1], keys=["A "])
    (tmp_path / "gone.txt").write_bytes(f"{first} \r\n{second}\r\n\r\nA \r\n".encode(encoding))
    command(index_command, "remove", tmp_path / "index", "--from", tmp_path / "gone.txt")
    assert EmbeddingIndex.open(tmp_path / "index").paths == rest


def test_a_list_of_what_to_remove_may_name_files_whose_names_are_no_text(folder, command, tmp_path):
    shutil.copytree(folder, tmp_path / "index")
    index = EmbeddingIndex.open(tmp_path / "index")
    index.add(embeddings=index.embeddings().features[:1], keys=["caf\udce9.png"])
    (tmp_path / "gone.txt").write_bytes(b"caf\xe9.png\n")
    command(index_command, "remove", tmp_path / "index", "--from", tmp_path / "gone.txt")
    assert len(EmbeddingIndex.open(tmp_path / "index")) == len(index) - 1


def test_metadata_is_a_filter(made, run, command, tmp_path, capsys):
    lines = [f"{name}.png,{'red' if i % 2 else 'blue'}" for i, name in enumerate(PHOTOS)]
    (tmp_path / "shop.csv").write_text("\n".join(["photo,colour", *lines]))
    options = ["--image-column", "photo", "--levels", "--image-root", made / "photos"]
    run(index_command, tmp_path / "shop.csv", *options, "--out", tmp_path / "index")
    query = made / "photos/animal/cat/1.png"
    out = command(search_command, tmp_path / "index", query, "--where", "colour=red", *OPTIONS, "--json", "-")
    assert {one["metadata"]["colour"] for one in json.loads(out)[0]["neighbours"]} == {"red"}
    assert len(json.loads(out)[0]["neighbours"]) == 3
    for words, message in (
        (["colour"], "--where takes NAME=TEXT, such as colour=red; 'colour' is not"),
        (
            ["colour=red", "--where", "colour=blue"],
            "--where takes one text of each name, as an image has; of 'colour' there are two",
        ),
        (["color=red"], "the index has no metadata 'color'; did you mean 'colour'"),
    ):
        with pytest.raises(SystemExit, match="2"):
            command(search_command, tmp_path / "index", query, "--where", *words)
        assert f"error: {message}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["add", "INDEX", "photos/animal/cat"], "3 of 3 images are in the index already: '"),
        (["add", "nowhere", "photos"], "there is no index in nowhere"),
        (["remove", "INDEX", "S1"], "the index has no image of the key or file 'S1'; nothing was removed"),
        (["remove", "INDEX"], "there is nothing to remove: give keys or files"),
        (["update", "INDEX", "no.jpg"], "there is no image, folder, list or pattern 'no.jpg'"),
    ],
)
def test_errors_of_changes_are_one_line(made, folder, monkeypatch, command, capsys, words, message):
    monkeypatch.chdir(made)
    words = [str(folder) if word == "INDEX" else word for word in words]
    words = [str(made / word) if word.startswith("photos") else word for word in words]
    with pytest.raises(SystemExit, match="2"):
        command(index_command, *words)
    assert f"error: {message}" in capsys.readouterr().err.splitlines()[-1]
    assert len(EmbeddingIndex.open(folder)) == 6


@pytest.mark.parametrize("change", ["add", "update", "remove", "merge", "info"])
def test_help_of_changes(command, change, capsys):
    with pytest.raises(SystemExit, match="0"):
        command(index_command, change, "--help")
    assert f"usage: hierpretrain index {change}" in capsys.readouterr().out
