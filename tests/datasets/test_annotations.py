import json
import ntpath
import os
import re
from types import SimpleNamespace

import pytest

from hierpretrain.datasets import Annotations, read_csv, read_folder, read_json, read_jsonl, safe_paths
from hierpretrain.datasets.annotations import find_images
from hierpretrain.datasets.image_files import image_kind
from hierpretrain.datasets.safe_paths import check_inside, unsafe_reason
from tests.datasets.trees import write_image


def make(images=("a.jpg", "b.jpg"), labels=(("cat",), ()), splits=("all", "all"), levels=("kind",), **options):
    return Annotations(list(images), list(labels), list(splits), tuple(levels), root="root", **options)


# ---------------------------------------------------------------- the columns
def test_good_annotations():
    assert make().labels == [("cat",), ()]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"images": (), "labels": (), "splits": ()}, "the annotations lists no image; a data set needs at least one"),
        ({"labels": (("cat",),)}, "has 2 images but 1 entries of 'labels'"),
        ({"splits": ("all",)}, "has 2 images but 1 entries of 'splits'"),
        ({"extra_labels": {"id": []}}, "has 2 images but 0 entries of 'id'"),
        (
            {"images": ("a.jpg", "a.jpg"), "source": "the list x"},
            "the list x lists 1 images more than once: 'a.jpg'; list",
        ),
        ({"labels": ((), ())}, "has 2 images, none with a label; label at least one"),
        ({"labels": (("cat", "tabby"), ())}, "of 2 levels, more than the 1 level_names ('kind',); name every level"),
        ({"labels": (("",), ())}, "has the label ('',); names must be non-empty strings"),
        ({"labels": ((3,), ())}, "has the label (3,); names must be non-empty strings"),
        ({"splits": ("all", "")}, "has the split ''; it must be a non-empty string"),
        ({"extra_labels": {"id": ["1", 2]}}, "has the id 2; it must be a non-empty string"),
        ({"more_labels": {2: (("dog",),)}}, "has more_labels of image 2, which does not exist or has no label"),
        ({"more_labels": {-1: (("dog",),)}}, "has more_labels of image -1, which does not exist or has no label"),
        (
            {"more_labels": {1: (("dog",),)}},
            "does not exist or has no label; give its first path in",
        ),
        ({"more_labels": {0: (("dog", "pug"),)}}, "of 2 levels, more than the 1 level_names ('kind',); name every"),
        ({"more_labels": {0: (("",),)}}, "has the label ('',); names must be non-empty strings"),
        ({"images": ("a.jpg", "../b.jpg")}, "lists the image '../b.jpg', which must not be absolute, hold '..'"),
        ({"images": ("a.jpg", "./a.jpg")}, "'./a.jpg', which must have no empty or '.' part; list paths below root"),
    ],
)
def test_wrong_annotations(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make(**options)


def test_an_image_may_have_several_paths():
    rows = make(
        ["a.jpg", "b.jpg", "c.jpg"],
        [("cat",), (), ("dog", "pug")],
        ["x", "y", "z"],
        ("kind", "breed"),
        extra_labels={"id": ["1", "", "3"]},
        more_labels={0: (("dog",), ("cat", "tabby"), ("dog",)), 2: (("dog",),)},
    )
    assert rows.paths(0) == [("dog",), ("cat", "tabby")]
    assert rows.paths(1) == [()]
    assert rows.paths(2) == [("dog", "pug")]
    some = rows.take([2, 0])
    assert (some.images, some.splits, some.extra_labels["id"]) == (["c.jpg", "a.jpg"], ["z", "x"], ["3", "1"])
    assert [some.paths(row) for row in range(2)] == [rows.paths(2), rows.paths(0)]
    assert rows.take([1, 2]).more_labels == {1: (("dog",),)}


def test_at_most_five_duplicates_are_named():
    images = [f"{i % 7}.jpg" for i in range(14)]
    with pytest.raises(ValueError, match=r"lists 7 images more than once: '0\.jpg', .*'4\.jpg', \.\.\.; list every"):
        make(images, [("cat",)] * 14, ["all"] * 14)


@pytest.mark.parametrize(
    "path", ["/a", "..", "../a", "a/..", "a/../b", "C:/a", "c:a", "a\\b", "a\0b", "", ".", "./a", "a/", "a//b", "a/./b"]
)
def test_unsafe_paths(path):
    assert unsafe_reason(path).startswith("must ")


@pytest.mark.parametrize("path", ["a", "a/b.jpg", "..a/b..", "a b/ç.jpg", ".a/...", "ab:c"])
def test_safe_paths(path):
    assert unsafe_reason(path) == ""


# ---------------------------------------------------------------- files
def test_missing_files_are_counted_and_named(tmp_path):
    write_image(tmp_path / "a/1.png", "red")
    (tmp_path / "a/folder.png").mkdir()
    find_images(["a/1.png"], str(tmp_path))
    images = ["a/1.png", "a/folder.png", *(f"{folder}/{i}.png" for folder in "ab" for i in range(2, 5))]
    with pytest.raises(
        ValueError, match=r"7 of 8 images are missing below .*: 'a/folder.png', 'a/2.png'.*\.\.\.; put the"
    ):
        find_images(images, str(tmp_path))


def test_links_must_stay_inside(tmp_path):
    outside = write_image(tmp_path / "outside/1.png", "red").parent
    inside = write_image(tmp_path / "root/a/1.png", "red").parent
    root = inside.parent
    (root / "b").symlink_to(inside)
    (root / "2.png").symlink_to(inside / "1.png")
    (tmp_path / "link").symlink_to(root)
    find_images(["b/1.png", "2.png", "a/1.png"], str(root))
    find_images(["a/1.png"], str(tmp_path / "link"))
    (root / "c").symlink_to(outside)
    (root / "3.png").symlink_to(outside / "1.png")
    for image in ("c/1.png", "3.png"):
        with pytest.raises(
            ValueError, match=r"is a link that leads out of the image folder, to .*outside.*link the whole"
        ):
            find_images([image], str(root))


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "JPEG", "WEBP", "AVIF", "JPEG2000"])
def test_image_kind(tmp_path, kind):
    path = write_image(tmp_path / "a", "red", format=kind)
    assert image_kind(path.read_bytes()[:64]) == kind
    assert image_kind(b"RIFF....WAVE") == image_kind(b"") == ""


# ---------------------------------------------------------------- folder trees
def test_ragged_folder_tree(tmp_path, logged):
    for name in ("tool/1.png", "animal/cat/tabby/2.txt", "animal/cat/b.jpg", "animal/cat/a.png", "Top.png"):
        write_image(tmp_path / name, "red", format="PNG")
    write_image(tmp_path / "animal/._cat.png", "red")
    write_image(tmp_path / ".hidden/x.png", "red")
    (tmp_path / "animal/notes.txt").write_text("no image")
    (tmp_path / "empty").mkdir()
    rows = read_folder(tmp_path)
    assert rows.images == ["Top.png", "animal/cat/a.png", "animal/cat/b.jpg", "animal/cat/tabby/2.txt", "tool/1.png"]
    assert rows.labels == [(), ("animal", "cat"), ("animal", "cat"), ("animal", "cat", "tabby"), ("tool",)]
    assert rows.level_names == ("level1", "level2", "level3")
    assert rows.splits == ["all"] * 5
    assert logged == [f"{tmp_path}: left out 1 files that are no image and links to folders: 'animal/notes.txt'"]
    assert read_folder(tmp_path, level_names=("a", "b", "c")).level_names == ("a", "b", "c")
    with pytest.raises(ValueError, match="more than the 2 level_names"):
        read_folder(tmp_path, level_names=("a", "b"))


def test_folder_links(tmp_path, logged):
    root = write_image(tmp_path / "root/cat/1.png", "red").parents[1]
    (root / "cat/up").symlink_to(root)
    (root / "tom").symlink_to(root / "cat")
    (root / "cat/2.png").symlink_to(root / "cat/1.png")
    assert read_folder(root).images == ["cat/1.png", "cat/2.png"]
    assert "left out 2 files" in logged[0]
    (root / "broken.png").symlink_to(root / "none.png")
    with pytest.raises(ValueError, match=r"broken\.png is a broken link; remove it"):
        read_folder(root)
    (root / "broken.png").unlink()
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(ValueError, match="out is a link that leads out of the image folder"):
        read_folder(root)


def test_fifo_does_not_hang(tmp_path, logged):
    write_image(tmp_path / "cat/1.png", "red")
    os.mkfifo(tmp_path / "cat/pipe")
    assert read_folder(tmp_path).images == ["cat/1.png"]
    assert len(logged) == 1


def test_deep_tree(tmp_path):
    folder = tmp_path.joinpath(*["d"] * 300)
    write_image(folder / "a.png", "red")
    assert len(read_folder(tmp_path).labels[0]) == 300


def test_wrong_folders(tmp_path):
    with pytest.raises(ValueError, match=r"no folder '.*none' to read images from; correct data_root"):
        read_folder(tmp_path / "none")
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match=r"holds no image \(1 other files\); correct data_root"):
        read_folder(tmp_path)
    write_image(tmp_path / "a.png", "red")
    with pytest.raises(ValueError, match="1 images, none with a label"):
        read_folder(tmp_path)
    os.mkdir(os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(ValueError, match="a name that is not UTF-8; rename it"):
        read_folder(tmp_path)


# ---------------------------------------------------------------- lists
ROWS = [
    {"image": "a.jpg", "kind": "cat", "split": "train", "breed": "tabby", "id": "7"},
    {"image": "sub/b.jpg", "kind": "cat", "split": "val", "breed": "", "id": "8"},
    {"image": "c.jpg", "kind": "", "split": "train", "breed": "", "id": "7"},
]


def write_csv(path):
    lines = [",".join(ROWS[0]), *(",".join(row.values()) for row in ROWS)]
    path.write_text("\ufeff" + "\r\n".join(lines) + "\r\n\r\n", encoding="utf-8")


def write_jsonl(path):
    path.write_text("\n\n".join(map(json.dumps, ROWS)), encoding="utf-8")


def write_json(path):
    path.write_text(json.dumps(ROWS), encoding="utf-8")


@pytest.fixture(params=[(read_csv, write_csv), (read_json, write_json), (read_jsonl, write_jsonl)])
def kind(request, tmp_path):
    read, write = request.param
    write(tmp_path / "list")
    return lambda **options: read(tmp_path / "list", tmp_path, **options)


def test_lists(kind):
    rows = kind(extra_labels=["id"])
    assert rows.images == ["a.jpg", "sub/b.jpg", "c.jpg"]
    assert rows.labels == [("cat", "tabby"), ("cat",), ()]
    assert rows.splits == ["train", "val", "train"]
    assert rows.level_names == ("kind", "breed")
    assert rows.extra_labels == {"id": ["7", "8", "7"]}


def test_chosen_levels(kind):
    rows = kind(levels=["id", "kind"])
    assert rows.labels == [("7", "cat"), ("8", "cat"), ("7",)]
    assert kind(levels="id").level_names == ("id",)
    with pytest.raises(
        ValueError, match=r"no column 'colour'; the columns are \['image', 'kind', 'split', 'breed', 'id'\]"
    ):
        kind(levels=["colour"])
    with pytest.raises(ValueError, match="no column 'colour'"):
        kind(extra_labels=["colour"])


def test_gap(kind):
    with pytest.raises(
        ValueError, match=r"(:3|record 2): the label has a gap: 'breed' is empty but 'id' below it is not"
    ):
        kind(levels=["kind", "breed", "id"])


def csv(tmp_path, text, **options):
    (tmp_path / "list.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_csv(tmp_path / "list.csv", tmp_path, **options)


def test_quoted_csv(tmp_path):
    rows = csv(
        tmp_path, 'image, kind\n"a,b.jpg", "big ""cat"""\n ./x//c.jpg ,"two\nlines"\nd.jpg,7\n'.replace(', "', ',"')
    )
    assert rows.images == ["a,b.jpg", "x/c.jpg", "d.jpg"]
    assert rows.labels == [('big "cat"',), ("two\nlines",), ("7",)]
    assert rows.splits == ["all"] * 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list.csv' lists no image"),
        ("image,kind\n", "list.csv' lists no image"),
        ("path,kind\na.jpg,cat\n", "list.csv: there is no column 'image'; the columns are ['path', 'kind']"),
        (
            "image,split\na.jpg,x\n",
            "there is no label column; the columns are ['image', 'split']: add one for each",
        ),
        ("image,kind,kind\na.jpg,x,y\n", "list.csv:1: the columns must have different names"),
        ("image,kind,\na.jpg,x,y\n", "levels by themselves only if all look like it; 'Unnamed: 2' has no name: name"),
        ("image,kind\na.jpg,cat\nb.jpg\n", "list.csv:3: the line has 1 fields and the header 2"),
        (
            "image,kind\na.jpg,b,c\n",
            "list.csv:2: the line has 3 fields and the header 2; quote fields that hold a comma",
        ),
        ('image,kind\n"a"b,cat\n', "list.csv:2: no well-formed CSV"),
        ('image,kind\n"a.jpg,cat\n', "csv:2: no well-formed CSV: unexpected end of data; take out stray quotes, or"),
        ('image,kind\n\na.jpg,"c\nat"\nb.jpg,"dog\n\nc.jpg,cat\n', "list.csv:5: no well-formed CSV: unexpected end"),
        (
            "image,kind\n" + "a" * 200_000 + ",b\n",
            "list.csv:2: a field has more than 131,072 characters, the most that CSV may have here; take out a stray "
            "quote before it, or if it is so long, save the list as JSON Lines (.jsonl)",
        ),
        ('image,kind\na.jpg,"b\n' + "c.jpg,d\n" * 20_000, "list.csv:2: a field has more than 131,072 characters"),
        ("image,kind\n,cat\n", "list.csv:2: the field 'image' is missing or empty; give it for every image"),
        ("image,kind,split\na.jpg,cat,\n", "list.csv:2: the field 'split' is missing or empty"),
        ("image,kind\n../a.jpg,cat\n", "lists the image '../a.jpg', which must not be absolute"),
        ("image,kind\nx/../../a.jpg,cat\n", "lists the image 'x/../../a.jpg', which must not"),
        ("image,kind\n/etc/passwd,cat\n", "lists the image '/etc/passwd', which must not be absolute"),
        ("image,kind,split\na.jpg,x,s\n./a.jpg,y,t\n", "list.csv:3: the image 'a.jpg' has 't' in 'split', but 's' in"),
    ],
)
def test_wrong_csv(tmp_path, text, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        csv(tmp_path, text)


def jsonl(tmp_path, text, **options):
    (tmp_path / "list.jsonl").write_text(text, encoding="utf-8")
    return read_jsonl(tmp_path / "list.jsonl", tmp_path, **options)


def test_json_labels(tmp_path):
    text = (
        '{"image": "a.jpg", "kind": 3}\n{"image": "b.jpg", "kind": 1.5, "breed": "ü\u2028x"}\n'
        '{"image": "c.jpg", "kind": null}'
    )
    with pytest.raises(ValueError, match=r"'kind' has numbers with decimals, such as '1\.5': name the levels, such as"):
        jsonl(tmp_path, text)
    rows = jsonl(tmp_path, text, levels=("kind", "breed"))
    assert rows.labels == [("3",), ("1.5", "ü\u2028x"), ()]
    assert rows.level_names == ("kind", "breed")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"image": "b.jpg", "kind": true}', "the field 'kind' must be a string or a number; it is True"),
        ('{"image": "b.jpg", "kind": NaN}', "the field 'kind' must be a string or a number; it is nan"),
        ('{"image": "b.jpg", "kind": 1e999}', "the field 'kind' must be a string or a number; it is inf"),
        ('{"image": "b.jpg", "kind": [true]}', "the field 'kind' must be a string or a number; it is True"),
        ('{"image": "b.jpg", "kind": {"a": 1}}', "the field 'kind' must be a string or a number; it is {'a': 1}"),
        ('{"image": "b.jpg", "kind": "cat", "kind": "dog"}', "the key 'kind' is there twice in object"),
        ('{"image": "b.jpg", "kind": "\\ud800"}', r"a text holds '\\ud800', which is half a surrogate pair"),
        ('{"image": ["b.jpg"], "kind": "cat"}', "the field 'image' must be a string"),
        ('{"kind": "cat"}', "the field 'image' is missing or empty"),
        ('{"image": "b.jpg", "ki', "no JSON: Unterminated string"),
        ('["b.jpg", "cat"]', "a record must be an object with the field 'image'; it is ['b.jpg', 'cat']"),
        ("[" * 100_000, "no JSON: "),
        ('{"image": "b.jpg", "kind": ' + "9" * 5000 + "}", "no JSON: Exceeds the limit"),
    ],
)
def test_wrong_json(tmp_path, line, message):
    good = '{"image": "a.jpg", "kind": "cat"}'
    with pytest.raises(ValueError, match=rf"list\.jsonl:2: .*{re.escape(message)}"):
        jsonl(tmp_path, f"{good}\n{line}\n")
    (tmp_path / "list.json").write_text(f"[{good}, {line}]")
    with pytest.raises(ValueError, match=rf"list\.json:.*{re.escape(message)}"):
        read_json(tmp_path / "list.json", tmp_path)


def test_wrong_json_file(tmp_path):
    (tmp_path / "list.json").write_text('[\n{"image": "a.jpg",\n')
    with pytest.raises(ValueError, match=r"list\.json:3: no JSON: .* at column 1; the file is truncated; correct"):
        read_json(tmp_path / "list.json", tmp_path)
    (tmp_path / "list.json").write_text('{"image": "a.jpg"}')
    with pytest.raises(ValueError, match="must be a list of objects, one an image; it is a dict"):
        read_json(tmp_path / "list.json", tmp_path)
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ValueError, match="lists no image"):
        read_json(tmp_path / "list.json", tmp_path)
    with pytest.raises(
        ValueError, match=r"cannot read the list .*none\.json: No such file or directory; correct its path"
    ):
        read_json(tmp_path / "none.json", tmp_path)


def test_a_file_is_inside_by_the_separator_of_the_system(monkeypatch):
    """Elsewhere than on Linux paths without links have other separators."""
    monkeypatch.setattr(safe_paths, "os", SimpleNamespace(path=ntpath))
    assert check_inside(r"C:\shards\train-0.tar", r"C:\shards") == r"C:\shards\train-0.tar"
    with pytest.raises(ValueError, match="is a link that leads out of the image folder"):
        check_inside(r"C:\shards2\train-0.tar", r"C:\shards")
