"""Every text file of every data set, damaged: the annotations are what they were, or an error names the file."""

import json
import re
import tempfile
from functools import cache
from pathlib import Path

import pytest
import yaml

from hierpretrain.apis import load_config
from hierpretrain.datasets import HierarchicalDataset, ListDataset
from hierpretrain.datasets.annotations import Annotations
from hierpretrain.datasets.lists import read_list
from hierpretrain.datasets.text_files import read_json_file
from hierpretrain.registry import DATASETS
from hierpretrain.taxonomy import Taxonomy
from tests.config_trees import WRITERS

TEXTS = (".txt", ".csv", ".json", ".noun")
OPTIONS = {"DyML": dict(subset="animal"), "ImageNet": dict(hierarchy="data.noun"), "INaturalist": dict(year="2017")}
FOLDERS = {"DyML": "dyml_animal"}

NO_LISTS = {"ModelNet40", "OpenClipart96"}  # the labels are names of folders


def read(kind, root):
    """Returns the annotations of a data set, of its first split file or list on."""
    options = dict(OPTIONS.get(kind, {}))
    if "hierarchy" in options:
        options["hierarchy"] = str(root / options["hierarchy"])
    dataset = DATASETS.get(kind)(data_root=str(root), **options)
    found = dataset.read()
    return found.images, found.labels, found.splits, found.extra_labels


@cache
def written(kind):
    """Returns the folder of a small data set, the texts in it and what is read of it."""
    root = Path(tempfile.mkdtemp(), FOLDERS.get(kind, kind))
    WRITERS[kind](root)
    paths = {path.name: path for path in sorted(root.rglob("*"), reverse=True) if path.suffix in TEXTS}  # one of a name
    return root, {path: path.read_bytes() for path in paths.values()}, read(kind, root)


def of_old_macs(data):
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r")


def of_windows(data):
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


SAME = {
    "line ends of old Macs": of_old_macs,
    "line ends of Windows": of_windows,
    "a mark": lambda d: b"\xef\xbb\xbf" + d,
}
WRONG = {
    "a tail of zeros": lambda data: data[: len(data) * 2 // 3] + b"\0" * (len(data) - len(data) * 2 // 3),
    "a control character": lambda data: data[: len(data) // 2] + b"\x02" + data[len(data) // 2 :],
    "a mark inside": lambda data: data + b"\xef\xbb\xbf" + data,
    "not UTF-8": lambda data: data[: len(data) // 2] + b"\xff\xfe" + data[len(data) // 2 :],
    "emptied": lambda data: b"",
    "blank": lambda data: b"\n\n",
}


def test_every_data_set_with_lists_is_tried():
    DATASETS.import_from_location()
    kinds = {
        name
        for name, kind in DATASETS.module_dict.items()
        if isinstance(kind, type)
        and issubclass(kind, HierarchicalDataset)
        and kind.__module__.startswith("hierpretrain.")
    }
    of_any_content = {"FolderDataset", "ListDataset", "TorchvisionDataset", "HuggingFaceDataset", "WebDataset"}
    assert kinds - of_any_content <= set(WRITERS)


@pytest.mark.parametrize("damage", [*SAME, *WRONG])
@pytest.mark.parametrize("kind", sorted(set(WRITERS) - NO_LISTS))
def test_a_damaged_text_is_told_or_makes_no_difference(kind, damage):
    root, texts, expected = written(kind)
    for path, data in texts.items():
        path.write_bytes({**SAME, **WRONG}[damage](data))
        try:
            found = read(kind, root)
        except ValueError as error:
            told = path.name in str(error) and (damage in WRONG or "is not the list that was written" in str(error))
            assert told, (path, error)  # noqa: PT017  it may also make no difference
        else:
            assert found == expected, path  # of a file that is not read
        finally:
            path.write_bytes(data)


@pytest.mark.parametrize("kind", sorted(set(WRITERS) - NO_LISTS))
def test_a_key_given_twice_is_told(kind):
    root, texts, expected = written(kind)
    for path, data in texts.items():
        if path.suffix == ".json" and b"{" in data:
            path.write_bytes(data.replace(b"{", b'{"twice": 1, "twice": 2, ', 1).replace(b", }", b"}"))
            try:
                found = read(kind, root)
            except ValueError as error:
                told = path.name in str(error) and "the key 'twice' is there twice" in str(error)
                assert told, (path, error)  # noqa: PT017  it may also make no difference
            else:
                assert found == expected, path  # of a file that is not read
            finally:
                path.write_bytes(data)


# ---------------------------------------------------------------- the user's own lists
ROWS = [{"image": f"{i}.png", "kind": kind} for i, kind in enumerate(("cat", "cat", "dog"))]
LISTS = {
    ".csv": "image,kind\n0.png,cat\n1.png,cat\n2.png,dog\n",
    ".tsv": "image\tkind\n0.png\tcat\n1.png\tcat\n2.png\tdog\n",
    ".txt": "image;kind\n0.png;cat\n1.png;cat\n2.png;dog\n",
    ".json": json.dumps(ROWS, indent=1),
    ".jsonl": "".join(json.dumps(row) + "\n" for row in ROWS),
}


@pytest.mark.parametrize("kind", LISTS)
def test_a_damaged_list_is_told_or_makes_no_difference(kind, tmp_path):
    path, data = tmp_path / f"list{kind}", LISTS[kind].encode()
    for change in (*SAME.values(), lambda data: data):
        path.write_bytes(change(data))
        found = read_list(path, tmp_path)
        assert (found.images, found.labels) == ([row["image"] for row in ROWS], [(row["kind"],) for row in ROWS])
    for name, change in WRONG.items():
        if name != "not UTF-8":  # lists may be in other encodings, which are found out
            path.write_bytes(change(data))
            with pytest.raises(ValueError, match=re.escape(path.name)):
                read_list(path, tmp_path)


def test_a_delimiter_may_be_a_control_character(tmp_path):
    (tmp_path / "list.csv").write_text("image\x01kind\n0.png\x01cat\n")
    assert read_list(tmp_path / "list.csv", tmp_path, delimiter="\x01").labels == [("cat",)]


@pytest.mark.parametrize("escape", [r"\u0000", r"\ud800", r"\udc00", r"\ud83d\ud83d", r"\u001b", r"\u007f"])
@pytest.mark.parametrize("at", ["image", "kind", "key"])
def test_what_no_name_can_hold_is_told_wherever_it_stands(at, escape, tmp_path):
    row = {"image": '"a.png"', "kind": '"cat"', "key": '"k"'} | {at: f'"x{escape}y"'}
    text = "\n{" + ", ".join(f'"{name}": {value}' for name, value in row.items()) + "}"
    for name, content in {"list.jsonl": text, "list.json": f"[{text}]"}.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(ValueError, match=rf"{name}:2: no JSON: a text holds '\\\\u"):
            ListDataset(data_root=str(tmp_path), ann_file=name, levels="kind", check_files=False)


def test_characters_behind_escapes_are_right(tmp_path):
    names = ["\U0001f600", "\U0001f600\ue000", r"\ud800", "\\" + "\U0001f600", "a\tb", "é", r"\u0000"]
    (tmp_path / "names.json").write_text(json.dumps(names))
    assert read_json_file(tmp_path / "names.json", "") == names


@pytest.mark.parametrize("one", ["1", "0", "-1", "10", "1e3"])
@pytest.mark.parametrize("column", ["kind", "product"])
def test_a_number_in_two_spellings_is_one_class_or_an_error(column, one, tmp_path):
    other = f"{one}.0" if "e" not in one else "1000"
    columns = {"image": ["a.png", "b.png"], "kind": ["x", "x"], "product": ["x", "x"]} | {column: [one, other]}
    lines = [",".join(columns), *map(",".join, zip(*columns.values(), strict=True))]
    (tmp_path / "list.csv").write_text("\n".join(lines))
    with pytest.raises(ValueError, match=rf"list.csv:3: '{column}' has one number in two spellings, '{one}' and"):
        read_list(tmp_path / "list.csv", tmp_path, levels="kind", extra_labels="product")


def test_codes_that_begin_with_zero_are_no_numbers(tmp_path):
    (tmp_path / "list.csv").write_text("image,kind\na.png,1\nb.png,01\nc.png,001\n")
    assert read_list(tmp_path / "list.csv", tmp_path, levels="kind").labels == [("1",), ("01",), ("001",)]


@pytest.mark.parametrize("column", ["labels", "splits", "extra_labels", "metadata", "keys"])
def test_no_annotations_hold_half_a_surrogate_pair(column):
    """As the names of folders in another encoding have them."""
    wrong = {"labels": [("a\udce9",)], "splits": ["a\udce9"], "keys": ["a\udce9"]}
    wrong |= {name: {"x": ["a\udce9"]} for name in ("extra_labels", "metadata")}
    columns = dict(images=["a.jpg"], labels=[("cat",)], splits=["all"], level_names=("kind",), root="pets")
    with pytest.raises(ValueError, match="that no file in UTF-8 can hold, near 'a"):
        Annotations(**columns | {column: wrong[column]})


# ---------------------------------------------------------------- taxonomies and configs
def test_a_damaged_taxonomy_names_its_file(tmp_path):
    path = tmp_path / "tree.json"
    Taxonomy([("cat", "tabby"), ("dog",)], ("kind", "breed")).save(path)
    good = path.read_text()
    data = json.loads(good)
    texts = [
        good[: len(good) // 2],
        good + "\0",
        good.replace("{", '{"names": [], ', 1),
        good.replace("cat", r"\ud800"),
    ]
    values = (5, None, "x", {}, [5], [["cat"], 5], [[1], [2]], [["cat"], ["tabby"]])
    texts += [json.dumps(data | {key: value}) for key in ("names", "parents", "level_names") for value in values]
    texts += [json.dumps({key: data[key] for key in data if key != left_out}) for left_out in data]
    for text in (*texts, "5", "[]", "", "[" * 5000):
        path.write_text(text)
        with pytest.raises(ValueError, match=r"tree\.json"):
            Taxonomy.load(path)
    for place in (tmp_path, tmp_path / "no.json"):
        with pytest.raises(ValueError, match=f"cannot read the taxonomy {place}: .*; give a file that Taxonomy.save"):
            Taxonomy.load(place)


@pytest.mark.parametrize("tag", ["object/apply:os.system ['touch ran']", "name:os.system ''", "module:os ''"])
def test_a_yaml_config_runs_nothing(tag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(f"model: !!python/{tag}\n")
    with pytest.raises(ValueError, match=r"config.yaml is no config .*could not determine a constructor for the tag"):
        load_config(tmp_path / "config.yaml")
    (tmp_path / "derived.yaml").write_text("_base_: config.yaml\n")
    with pytest.raises(ValueError, match=r"derived.yaml is no config .*could not determine a constructor"):
        load_config(tmp_path / "derived.yaml")
    assert not (tmp_path / "ran").exists()


def test_configs_of_data_give_what_they_say(tmp_path):
    config = load_config("himulcone_emoji")
    for name in ("config.yaml", "config.json"):
        config.dump(str(tmp_path / name))
        read = load_config(tmp_path / name)
        plain = [yaml.safe_load(json.dumps(one.to_dict(), default=str)) for one in (config, read)]
        assert plain[0] == plain[1]


@pytest.mark.parametrize(
    ("name", "text"), [("x.json", '{"model": {"type": 1, "type": 2}}'), ("x.yaml", "model:\n  type: 1\n  type: 2")]
)
def test_a_key_that_a_config_has_twice_is_told(name, text, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"{name}.*the key 'type' is there twice"):
        load_config(tmp_path / name)


# ---------------------------------------------------------------- counts of files that must agree
def test_a_list_of_nothing_but_a_header_is_told(tmp_path):
    for kind, names in {"StanfordOnlineProducts": ("Ebay_test.txt",), "DyML": ("train/label.csv",)}.items():
        root = tmp_path / FOLDERS.get(kind, kind)
        WRITERS[kind](root)
        for name in names:
            path = next(root.rglob(Path(name).name))
            text = path.read_text()
            header = re.match(r"[^0-9]*", text)[0] if kind == "DyML" else text.partition("\n")[0]
            path.write_text(header)
            with pytest.raises(ValueError, match=rf"{path.name} lists nothing below its header"):
                read(kind, root)


def test_annotations_without_an_image_are_told(tmp_path):
    WRITERS["INaturalist"](tmp_path)
    path = next(tmp_path.rglob("val2017.json"))
    path.write_text(json.dumps(json.loads(path.read_text()) | {"images": [], "annotations": []}))
    with pytest.raises(ValueError, match=r"val2017\.json: the list 'images' is empty"):
        read("INaturalist", tmp_path)


def test_a_list_of_our_own_that_lost_a_line_is_told(tmp_path):
    root = tmp_path / "CIFAR100"
    WRITERS["CIFAR100"](root)
    path = root / "images/list.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(ValueError, match=r"list\.csv is not the list that was written: it is damaged; remove"):
        read("CIFAR100", root)


def test_cells_of_parquet_hold_no_control_characters(tmp_path):
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    for column in ("image", "kind"):
        columns = {"image": ["a.png", "b.png"], "kind": ["cat", "dog"]}
        columns[column][1] += "\0\0"
        parquet.write_table(arrow.table(columns), tmp_path / "list.parquet")
        with pytest.raises(ValueError, match=rf"list\.parquet: row 2: the field '{column}' holds '\\x00'"):
            read_list(tmp_path / "list.parquet", tmp_path)
