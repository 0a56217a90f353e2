"""Lists as people have them: separators, encodings, formats, names of columns, several places, damage."""

import csv
import datetime
import gzip
import io
import json
import random
import re
import unicodedata
import uuid
from decimal import Decimal

import pytest

from hierpretrain._texts import read_where
from hierpretrain.datasets import ListDataset, read_list
from hierpretrain.datasets.cells import free_text, no_names, text_of
from hierpretrain.datasets.tables import read_table
from hierpretrain.datasets.text_files import no_character
from tests.apis.test_index import build, images
from tests.datasets.trees import write_image

WESTERN = "image,kind\na.jpg,Müller\nb.jpg,café\nc.jpg,Straße\n"


@pytest.fixture
def read(tmp_path):
    """Writes a list and reads it."""

    def read(content, name="list.csv", **options):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return read_list(tmp_path / name, tmp_path, **options)

    return read


# ---------------------------------------------------------------- separators
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("name", ["list.csv", "list.txt"])
def test_the_separator_is_found_out(read, delimiter, name):
    text = 'image|kind|breed\na.jpg|cat|"tabby| ; , x"\nb.jpg|tool|\n'.replace("|", delimiter)
    rows = read(text, name)
    assert rows.level_names == ("kind", "breed")
    assert rows.labels == [("cat", f"tabby{delimiter} ; , x"), ("tool",)]
    assert read(text, name, delimiter=delimiter).labels == rows.labels


def test_the_separator_is_the_one_that_makes_the_image_a_column(read):
    text = "image;kind (a, b, c)\nx.jpg;cat\n"
    assert read(text).level_names == ("kind (a, b, c)",)
    with pytest.raises(ValueError, match=r"list\.csv:2: the line has 1 fields and the header 3; correct the line"):
        read(text, delimiter=",")


def test_a_list_of_one_column(read):
    assert read("image\na.jpg\n\nb.jpg\n", need_labels=False).images == ["a.jpg", "b.jpg"]


def test_what_excel_writes_for_itself_is_no_header(read):
    assert read("sep=;\r\nimage;kind\r\na.jpg;x\r\n").labels == [("x",)]
    with pytest.raises(
        ValueError, match=r"list\.csv:4: the line has 1 fields and the header 2; .* that hold a semicolon"
    ):
        read("sep=;\nimage;kind\na.jpg;x\nb.jpg\n")


def test_rows_of_nothing_but_separators_are_left_out_and_lines_still_counted(read):
    assert read("image;kind;\na.jpg;x;\n;;\n\n").images == ["a.jpg"]
    with pytest.raises(ValueError, match=r"list\.csv:5: the field 'image' is missing"):
        read("image;kind;\na.jpg;x;\n;;\n\n;x;\n")


def test_a_delimiter_and_an_encoding_are_of_text(read):
    with pytest.raises(ValueError, match="must be one character; it is '::'"):
        read("image\na.jpg\n", delimiter="::")
    with pytest.raises(ValueError, match="a delimiter is of CSV alone"):
        read("[]", "list.json", delimiter=",")


# ---------------------------------------------------------------- encodings
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_unicode_needs_no_word(read, logged, encoding):
    assert read(WESTERN.encode(encoding)).labels == [("Müller",), ("café",), ("Straße",)]
    assert logged == []


@pytest.mark.parametrize("word", ["cat", "Müller"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_unicode_without_a_mark_is_read_and_told(read, logged, encoding, word):
    assert read(f"image,kind\na.jpg,{word}\n".encode(encoding)).labels == [(word,)]
    (line,) = logged
    assert (
        f"is not UTF-8; it was read as {encoding}{', with words such as' if word == 'Müller' else '; if that'}" in line
    )


def test_western_bytes_are_read_and_told(read, logged):
    assert read(WESTERN.encode("cp1252")).labels == [("Müller",), ("café",), ("Straße",)]
    (line,) = logged
    assert "is not UTF-8; it was read as cp1252, with words such as 'Müller', 'café', 'Straße'. If these" in line


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("cp1251", "кошка собака птица медведь лошадь корова заяц лисица волк"),
        ("shift_jis", "ネコ科 犬小屋 動物園 植物の写真 ひらがな カタカナ 東京都の建物"),
        ("cp1253", "γάτα σκύλος πουλί αρκούδα άλογο αγελάδα αλεπού λύκος"),
        ("mac_roman", "café Straße Größe"),
    ],
)
def test_other_bytes_are_read_right_or_told_or_refused(read, logged, encoding, words):
    text = "image,kind\n" + "".join(f"{i}.jpg,{word}\n" for i, word in enumerate(2 * words.split()))
    right = [(word,) for word in 2 * words.split()]
    refused = ""
    try:
        labels = read(text.encode(encoding)).labels
    except ValueError as error:
        refused = str(error)
    if refused:
        assert "cannot be told which encoding the list has" in refused
        assert "encoding='cp1252' (--encoding cp1252)" in refused
    else:
        assert any(repr(labels[0][0]) in line for line in logged)
    logged.clear()
    assert read(text.encode(encoding), encoding=encoding).labels == right
    assert logged == []


def test_a_few_bytes_that_read_as_anything_are_not_guessed(read):
    with pytest.raises(ValueError, match=r"list\.csv:2: byte 0xea is not UTF-8, and it cannot be told .*кошка"):
        read("image,kind\na.jpg,кошка\n".encode("cp1251"))


def test_a_wrong_encoding_is_an_error(read):
    with pytest.raises(ValueError, match="there is no encoding 'utf-9'"):
        read(WESTERN, encoding="utf-9")
    with pytest.raises(ValueError, match=r"list\.csv:2: byte 0xfc is not UTF-8"):
        read(WESTERN.encode("cp1252"), encoding="utf-8")


# ---------------------------------------------------------------- damage
@pytest.mark.parametrize("name", ["list.csv", "list.json", "list.jsonl"])
def test_zeros_are_damage(read, name):
    with pytest.raises(ValueError, match=rf"{name}:3: the file holds zero bytes, as after a power loss"):
        read(b"image,kind\na.jpg,x\n" + b"\0" * 9, name)


@pytest.mark.parametrize("name", ["list.csv", "list.json", "list.jsonl"])
def test_erased_storage_is_damage(read, name):
    with pytest.raises(ValueError, match=rf"{name}:2: the file holds bytes 0xff in a row, as erased storage"):
        read(b"image,kind\na.jpg,do" + b"\xff" * 30 + b"\n", name)


@pytest.mark.parametrize("name", ["list.csv", "list.json", "list.xlsx", "list.parquet"])
def test_a_pointer_in_place_of_a_list_is_told(read, name):
    with pytest.raises(ValueError, match=rf"{name} .*: it is a pointer of Git LFS in place of the file"):
        read("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", name)


@pytest.mark.parametrize(("name", "where"), [("list.json", "object 2"), ("list.jsonl", "list.jsonl:2: ")])
def test_a_key_twice_is_damage(read, name, where):
    lines = ['{"image": "a.jpg", "kind": "x"}', '{"image": "b.jpg", "kind": "x", "kind": "y"}']
    with pytest.raises(ValueError, match=r"the key 'kind' is there twice in object") as error:
        read(f"[{','.join(lines)}]" if name == "list.json" else "\n".join(lines), name)
    assert where in str(error.value)


@pytest.mark.parametrize("names", [("1", "1.0"), ("2.5", "2.50"), ("3.0", "3")])
def test_one_number_is_not_two_names(read, names):
    text = "image,kind\n" + "".join(f"{i}.jpg,{name}\n" for i, name in enumerate(names))
    with pytest.raises(ValueError, match=rf":3: 'kind' has one number in two spellings, '{names[0]}' and '{names[1]}'"):
        read(text, levels="kind")


LONG = [f"{10**31 + i}" for i in (0, 1)]  # which are one number of 28 digits


@pytest.mark.parametrize("more", ["", "c,1.5\n"])
@pytest.mark.parametrize("names", [LONG, ["0." + name for name in LONG]])
def test_long_codes_that_differ_are_different_names(read, names, more):
    assert read(f"image,kind\na,{names[0]}\nb,{names[1]}\n{more}", levels="kind").labels[:2] == [(n,) for n in names]


def test_floats_that_are_not_exact_are_no_names(read):
    text = '[{{"image": "a", "kind": {}}}, {{"image": "b", "kind": {}}}]'
    with pytest.raises(
        ValueError, match=r"json: record 1: the field 'kind' is the float 9007199254740992\.0; .*as text"
    ):
        read(text.format("9007199254740992.0", "9007199254740993.0"), "list.json")
    assert read(text.format("9007199254740991.0", -3.0), "list.json").labels == [("9007199254740991",), ("-3",)]
    assert read(text.format("9007199254740992", 9007199254740993), "list.json").labels == [
        ("9007199254740992",),
        ("9007199254740993",),
    ]


# ---------------------------------------------------------------- several lines in a cell
def test_stray_quotes_that_swallow_rows_are_told_where_they_begin(read):
    told = r"list\.csv:2: the field 'kind' holds several lines; take out .*: 'cat\\n1\.png,dog\\n2\.png,cow'"
    with pytest.raises(ValueError, match=told):
        read('image,kind\n0.png,"cat\n1.png,dog\n2.png,cow"\n3.png,dog')
    with pytest.raises(ValueError, match=r"list\.csv:3: the field 'image' holds several lines"):
        read('image,kind\n0.png,cat\n"1.png,dog\n2.png",cow\n')
    with pytest.raises(ValueError, match=r"list\.tsv:2: the field 'kind' holds several lines"):
        read('image\tkind\n0.png\t"cat\n1.png\tdog\n2.png\tcow"\n3.png\tdog', "list.tsv")


def test_a_note_may_have_several_lines_and_a_name_that_swallows_none(read):
    options = dict(levels="kind", key_column="sku")
    rows = read('image,kind,sku,note\na.jpg,"two\nlines",A,"one, two\nthree, four"\n', **options)
    assert rows.labels == [("two\nlines",)]
    assert rows.metadata == {"note": ["one, two\nthree, four"]}
    for character in "\n\u2028":  # in JSON no quote goes astray
        text = json.dumps([{"image": "a.jpg", "kind": f"cat,{character}dog", "sku": "A"}])
        assert read(text, "list.json", **options).labels == [(f"cat,{character}dog",)]


def test_numbers_that_differ_are_different_names(read):
    assert read("image,kind\na,01\nb,1\nc,10\nd,1.5\n", levels="kind").labels == [("01",), ("1",), ("10",), ("1.5",)]
    assert read('[{"image": "a", "kind": 1}, {"image": "b", "kind": 1.0}]', "list.json").labels == [("1",), ("1",)]


# ---------------------------------------------------------------- which columns are levels
CATALOGUE = "Unnamed: 0,image,sku,kind,breed,price\n" + "".join(
    f'{i},{i}.jpg,A{i},{"cat" if i < 3 else "dog"},{"tabby" if i < 2 else "pug"},"{i},50"\n' for i in range(6)
)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("Unnamed: 0", "has no name"),
        ("sku", "has another value for every image, such as 'A0', as a key has"),
        ("price", "has numbers with decimals, such as '0,50'"),
    ],
)
def test_a_column_that_looks_like_no_level_must_not_become_one(read, name, why):
    with pytest.raises(ValueError, match=f"{name!r} {why}") as error:
        read(CATALOGUE)
    assert "levels=['kind', 'breed'] (--levels kind breed)" in str(error.value)


@pytest.mark.parametrize("value", ["true", '{"width": 1}', "[true, false]", '[{"width": 1}, {"width": 2}]'])
def test_a_column_of_what_can_be_no_name_must_not_become_a_level(read, value):
    records = [f'{{"image": "{i}.jpg", "kind": "cat", "other": {value}}}' for i in range(3)]
    records[1] = '{"image": "1.jpg", "kind": "cat"}'
    with pytest.raises(
        ValueError, match=r"'other' holds values that are no names, such as (True|\{'width': 1\})"
    ) as error:
        read(f"[{','.join(records)}]", "list.json")
    assert "name the levels, such as levels=['kind'] (--levels kind)" in str(error.value)
    assert read(f"[{','.join(records)}]", "list.json", levels="kind").metadata == {"other": [value, "", value]}


@pytest.mark.parametrize("values", [("True", "False"), ("yes", "No"), ("y", "n"), ("JA", "nein")])
def test_flags_as_text_must_not_become_a_level_either(read, values):
    text = "image,kind,sale\n" + "".join(f"{i}.jpg,cat,{value}\n" for i, value in enumerate([*values, ""]))
    with pytest.raises(ValueError, match=f"'sale' holds flags, such as '{values[0]}': name the levels, such as"):
        read(text)
    assert read(text, levels=["kind", "sale"]).labels == [("cat", values[0]), ("cat", values[1]), ("cat",)]
    assert read("image,label\na.jpg,0\nb.jpg,1\n").labels == [("0",), ("1",)]  # numbers of classes


def test_metadata_that_differ_between_the_rows_of_an_image_are_an_array(read):
    records = [
        {"image": "a.jpg", "kind": kind, "colour": colour, "size": size, "note": note}
        for kind, colour, size, note in [
            ("fruit", "red; dark", 3, ""),
            ("food", ["grün", "red"], 3, "x"),
            ("plant", "", 4, ""),
        ]
    ]
    assert read(json.dumps(records), "list.json", levels="kind").metadata == {
        "colour": ['["red; dark", "grün", "red"]'],
        "size": ['["3", "4"]'],
        "note": ["x"],
    }


def test_a_wrong_cell_among_names_is_its_row_s(read):
    records = [{"image": f"{i}.jpg", "kind": kind} for i, kind in enumerate(["cat", "cat", True])]
    with pytest.raises(ValueError, match="record 3: the field 'kind' must be a string or a number; it is True"):
        read(json.dumps(records), "list.json")


@pytest.mark.parametrize(("name", "values"), [("SPLIT", "ab"), ("Split", "aa"), ("part", ("train", "Test"))])
def test_a_column_of_splits_must_not_become_a_level(read, name, values):
    """The tree would begin with train and test, and the test images would be trained on."""
    text = f"image,{name},kind\n" + "".join(f"{i}.png,{values[i % 2]},k{i % 3}\n" for i in range(6))
    with pytest.raises(ValueError, match="columns are levels by themselves only if all look like it") as error:
        read(text)
    assert f"{name!r} holds splits (name it, split_column={name!r}, --split-column {name}): " in str(error.value)
    assert "levels=['kind'] (--levels kind)" in str(error.value)
    rows = read(text, split_column=name)
    assert (rows.splits, rows.level_names) == ([*values] * 3, ("kind",))
    with pytest.raises(ValueError, match=f"{name!r} holds splits: name the levels"):  # and not the splits again
        read(text, split_column="")
    assert read(text, levels=[name, "kind"]).level_names == (name, "kind")  # which says so


def test_a_key_is_no_column_of_splits(read):
    def text(number, sku):
        return "image,kind,sku\n" + "".join(f"{i}.jpg,k{i % 3},{sku(i)}\n" for i in range(number))

    message = (
        "a column of splits has few values; 'sku' has another value for every image, such as 's0', as a key has: name "
        "the splits, split_column='...' (--split-column ...), or do without, split_column='' (--split-column ''), "
        "and name the levels"
    )
    with pytest.raises(ValueError, match=re.escape(message)):
        read(text(33_000, lambda i: f"s{i}"), split_column="sku")
    assert len(set(read(text(10, lambda i: f"s{i}"), split_column="sku").splits)) == 10
    assert len(set(read(text(24, lambda i: f"s{i // 2}"), split_column="sku").splits)) == 12


def test_named_levels_leave_the_others_as_metadata(read):
    rows = read(CATALOGUE, levels=("kind", "breed"), key_column="sku")
    assert rows.labels[0] == ("cat", "tabby")
    assert rows.keys == ["A0", "A1", "A2", "A3", "A4", "A5"]
    assert rows.metadata == {"Unnamed: 0": [*"012345"], "price": [f"{i},50" for i in range(6)]}
    some = rows.take([4, 1])
    assert (some.keys, some.metadata["price"]) == (["A4", "A1"], ["4,50", "1,50"])
    assert read(CATALOGUE, levels=(), need_labels=False).labels == [()] * 6


def test_a_level_that_repeats_needs_no_name(read):
    rows = read("image,kind,breed\n" + "".join(f"{i}.jpg,k{i % 2},b{i % 3}\n" for i in range(6)))
    assert rows.level_names == ("kind", "breed")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(levels=5), "levels must be the name of a column or a list of names; it is 5"),
        (dict(levels=["kind", 5]), r"levels must be the name of a column or a list of names; it is \['kind', 5\]"),
        (dict(extra_labels=7), "extra_labels must be the name of a column or a list of names; it is 7"),
        (dict(image_column=["image"]), r"image_column must be a text; it is \['image'\]"),
        (dict(key_column=3), "key_column must be a text; it is 3"),
        (dict(split_column=None), "split_column must be a text; it is None"),
        (dict(path_separator=5), "path_separator must be a text; it is 5"),
        (dict(level_separator=["/"]), r"level_separator must be a text; it is \['/'\]"),
    ],
)
def test_options_that_are_no_names_are_told(options, message, tmp_path):
    (tmp_path / "list.csv").write_text("image,kind\na.jpg,cat\n")
    with pytest.raises(ValueError, match=message):
        read_list(tmp_path / "list.csv", tmp_path, **options)


@pytest.mark.parametrize("name", ["list.csv", "list.json", "list.xlsx"])
def test_names_of_columns_are_in_one_form_and_without_space(read, write_sheet, name):
    def listed(*names):
        rows = [dict(zip(names, ("a.jpg", "cat", "x"), strict=False))]
        if name == "list.xlsx":
            return write_sheet([names, rows[0].values()])
        return json.dumps(rows) if name == "list.json" else f"{','.join(names)}\n{','.join(rows[0].values())}\n"

    one, two = (unicodedata.normalize(form, "Größe") for form in ("NFC", "NFD"))
    for there, given in [(one, two), (two, one), (f" {two} ", one)]:
        rows = read(listed("image", there, "note"), name, levels=given)
        assert (rows.level_names, rows.labels, list(rows.metadata)) == ((one,), [("cat",)], ["note"])
        assert read(listed(there, "kind"), name, image_column=given).images == ["a.jpg"]
    for double in (f"{one} ", two):
        with pytest.raises(ValueError, match=r"columns must have different names|record 1: the keys .* are one column"):
            read(listed("image", one, double), name)


def test_keys_of_json_that_are_one_column_may_be_of_different_records(read):
    text = '[{"image": "a", "kind": "x"}, {"image": "b", " kind": "y"}]'
    assert read(text, "list.json").labels == [("x",), ("y",)]


@pytest.mark.parametrize(("name", "where"), [("list.txt", ":1"), ("list.csv", ":1"), ("list.xlsx", ": row 1")])
def test_a_list_without_a_header_loses_no_image(read, write_sheet, name, where):
    rows = [["0.PNG", "cat"], ["1.png", "dog"]]
    content = write_sheet(rows) if name == "list.xlsx" else "".join(",".join(row) + "\n" for row in rows)
    for column in ("image", "0.PNG"):
        with pytest.raises(ValueError, match=rf"{name}{where}: the first line .* has the image '0\.PNG'; put a line"):
            read(content, name, image_column=column)


def test_columns_of_ones_own(read):
    rows = read("photo,use,a\nx.jpg,train,cat\n", image_column="photo", split_column="use")
    assert (rows.images, rows.splits, rows.level_names) == (["x.jpg"], ["train"], ("a",))
    with pytest.raises(ValueError, match=r"no column 'image'; the columns are \['photo', .*--image-column"):
        read("photo,use,a\nx.jpg,train,cat\n")
    for option in ("levels", "key_column", "split_column", "extra_labels"):
        with pytest.raises(ValueError, match=r"there is no column 'colour'; the columns are"):
            read("image,a\nx.jpg,cat\n", **{option: "colour"})


# ---------------------------------------------------------------- label paths
def test_a_gap_is_an_error_or_cut_and_counted(read, logged):
    text = "image,a,b,c\n1.jpg,x,y,z\n2.jpg,x,,z\n3.jpg,x,,z\n4.jpg,x,,\n"
    with pytest.raises(ValueError, match=r"list\.csv:3: the label has a gap: 'b' is empty but 'c' below it is not"):
        read(text)
    assert read(text, on_gap="cut").labels == [("x", "y", "z"), ("x",), ("x",), ("x",)]
    assert logged == [logged[0]]
    assert "2 rows have a gap in their label, which ends above it" in logged[0]


def test_rows_of_one_image_are_several_places(read, logged):
    text = "image,sku,kind,note\na.jpg,1,fruit,red\nb.jpg,2,tool,\na.jpg,1,vegetable,round\n./a.jpg,1,fruit,red\n"
    rows = read(text, levels="kind", key_column="sku")
    assert rows.images == ["a.jpg", "b.jpg"]
    assert rows.paths(0) == [("fruit",), ("vegetable",)]
    assert rows.keys == ["1", "2"]
    assert rows.metadata == {"note": ['["red", "round"]', ""]}
    assert "1 images are in several rows, and have the label paths of all of them: 'a.jpg'" in logged[0]
    with pytest.raises(ValueError, match=r"csv:4: the image 'a\.jpg' has '9' in 'sku', but '1' in .*csv:2; rows of"):
        read(text.replace("a.jpg,1,veg", "a.jpg,9,veg"), levels="kind", key_column="sku")


def test_an_empty_row_of_an_image_adds_no_place(read):
    rows = read("image,kind\na.jpg,\na.jpg,fruit\n")
    assert (rows.labels, rows.more_labels) == ([("fruit",)], {})


def test_several_places_in_a_cell(read):
    rows = read("image,kind,crop\na.jpg,fruit|vegetable,tomato\nb.jpg,fruit,apple|pear\n", path_separator="|")
    assert rows.paths(0) == [("fruit", "tomato"), ("vegetable", "tomato")]
    assert rows.paths(1) == [("fruit", "apple"), ("fruit", "pear")]
    with pytest.raises(ValueError, match=r":2: the cells of a row must hold as many places .*: 3 in 'a', 2 in 'b'"):
        read("image,a,b\na.jpg,x|y|z,u|v\n", path_separator="|")


def test_whole_paths_in_one_column(read):
    rows = read(
        "image,place\na.jpg,food > fruit | plant\nb.jpg,tool\n", levels="place", level_separator=">", path_separator="|"
    )
    assert rows.level_names == ("level1", "level2")
    assert rows.paths(0) == [("food", "fruit"), ("plant",)]
    assert rows.paths(1) == [("tool",)]
    with pytest.raises(ValueError, match="level_separator is for one column of whole paths"):
        read("image,a,b\nx,y,z\n", level_separator=">")


@pytest.mark.parametrize(("places", "names"), [("/", "/"), ("|", " | "), (">", ">>")])
def test_what_separates_paths_must_not_take_each_apart(read, places, names):
    text = f"image,place\na.jpg,food{names}fruit\n"
    with pytest.raises(ValueError, match=rf"list\.csv: path_separator separates .*; {re.escape(repr(places))} is in"):
        read(text, levels="place", level_separator=names, path_separator=places)


def test_what_separates_paths_may_be_longer_than_what_separates_their_names(read):
    rows = read("image,place\na.jpg,food/fruit / plant\n", levels="place", level_separator="/", path_separator=" / ")
    assert rows.paths(0) == [("food", "fruit"), ("plant",)]


def test_arrays_are_several_places(read):
    records = [
        {"image": "a.jpg", "kind": ["fruit", "vegetable"], "crop": "tomato"},
        {"image": "b.jpg", "kind": "tool", "crop": None},
        {"image": "c.jpg", "kind": [], "crop": ""},
    ]
    rows = read(json.dumps(records), "list.json")
    assert rows.paths(0) == [("fruit", "tomato"), ("vegetable", "tomato")]
    assert rows.labels[1:] == [("tool",), ()]
    records = [{"image": "a.jpg", "place": [["food", "fruit"], ["plant"]]}, {"image": "b.jpg", "place": ["tool"]}]
    rows = read(json.dumps(records), "list.json")
    assert rows.paths(0) == [("food", "fruit"), ("plant",)]
    assert rows.paths(1) == [("tool",)]


# ---------------------------------------------------------------- Unicode
def test_one_word_in_two_forms_is_one_class_and_files_are_found_by_either(tmp_path):
    one, two = (unicodedata.normalize(form, "Café") for form in ("NFC", "NFD"))
    write_image(tmp_path / two / f"{two}.png", "red")
    write_image(tmp_path / "b.png", "blue")
    for name in (f"{one}/{one}.png", f"{two}/{two}.png", f"{two}/{one}.png"):
        (tmp_path / "list.csv").write_text(f"image,kind\n{name},{one}\nb.png,{two}\n", encoding="utf-8")
        data = ListDataset(data_root=str(tmp_path), ann_file="list.csv")
        assert data.image_paths == [str(tmp_path / two / f"{two}.png"), str(tmp_path / "b.png")]
        assert data.taxonomy.num_nodes(1) == 1
        assert data.taxonomy.name(1, 0) == one
    (tmp_path / "list.csv").write_text("image,kind\nCafè/x.png,a\n", encoding="utf-8")
    with pytest.raises(ValueError, match="1 of 1 images are missing below"):
        ListDataset(data_root=str(tmp_path), ann_file="list.csv")


def test_two_files_whose_names_differ_in_their_form_alone_are_two_images(tmp_path):
    one, two = (f"{unicodedata.normalize(form, 'Café')}/1.png" for form in ("NFC", "NFD"))
    for name, color in ((one, "red"), (two, "blue")):
        write_image(tmp_path / name, color)
    (tmp_path / "list.csv").write_text(f"image,kind\n{one},x\n{two},y\n{one},x\n", encoding="utf-8")
    data = ListDataset(data_root=str(tmp_path), ann_file="list.csv")
    assert data.image_paths == [str(tmp_path / one), str(tmp_path / two)]
    assert data.labels.tolist() == [[0], [1]]
    (tmp_path / two).unlink()
    (tmp_path / two).parent.rmdir()
    with pytest.raises(ValueError, match="1 files are listed in two Unicode forms of their names"):
        ListDataset(data_root=str(tmp_path), ann_file="list.csv")


# ---------------------------------------------------------------- splits
def test_one_split_in_two_spellings_would_lose_images(read):
    text = "image,split,kind\na,{},x\nb,{},x\n"
    with pytest.raises(ValueError, match=r"list\.csv:3: 'split' has one split in two spellings, 'train' and 'Train'"):
        read(text.format("train", "Train"))
    with pytest.raises(ValueError, match=r"list\.csv:3: 'split' has one number in two spellings, '1' and '1\.0'"):
        read(text.format("1", "1.0"))
    with pytest.raises(ValueError, match=r"list\.csv:3: the field 'split' is missing .*split_column='' \(--split-col"):
        read(text.format("train", ""))


# ---------------------------------------------------------------- keys and metadata of a data set
def test_keys_are_texts_two_of_which_may_be_one_number(read):
    keys = ["1.1", "1.10", "1E2", "100"]  # numbers of parts
    text = "".join(f"{key}.jpg,cat,{key}\n" for key in keys)
    assert read(f"image,kind,sku\n{text}", levels="kind", key_column="sku").keys == keys


def test_a_data_set_knows_the_keys_of_its_split(tmp_path):
    (tmp_path / "list.csv").write_text("image,sku,kind,price,split\na,1,x,2.50,s\nb,2,x,3.50,t\nc,3,y,ü,t\n", "utf-8")
    options = dict(data_root=str(tmp_path), ann_file="list.csv", levels=["kind"], check_files=False)
    data = ListDataset(**options, key_column="sku", split="t")
    assert (data.keys, data.metadata) == (["2", "3"], {"price": ["3.50", "ü"]})
    data = ListDataset(**options)
    assert (data.keys, data.metadata) == ([], {"sku": ["1", "2", "3"], "price": ["2.50", "3.50", "ü"]})


def test_no_label_at_all_is_for_those_who_say_so(tmp_path):
    (tmp_path / "list.csv").write_text("image,kind,breed\na,,\nb,,\n")
    options = dict(data_root=str(tmp_path), ann_file="list.csv", check_files=False)
    with pytest.raises(ValueError, match="has 2 images, none with a label"):
        ListDataset(**options)
    assert ListDataset(**options, need_labels=False).labels.shape == (2, 0)


# ---------------------------------------------------------------- Excel and Parquet
ROWS = [
    ["image", "kind", "number", "day", "price"],
    ["a.jpg", " café", 1, datetime.date(2024, 5, 1), 2.5],
    ["b.jpg", "tool", 2.0, None, None],
    ["a.jpg", "fruit", 1, datetime.date(2024, 5, 1), 2.5],
]


def write_excel(path):
    book = pytest.importorskip("openpyxl").Workbook()
    for row in [*ROWS[:2], [], *ROWS[2:]]:
        book.active.append(row)
    book.save(path)


def write_parquet(path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {name: list(column) for name, *column in zip(*ROWS, strict=True)}
    columns["number"] = [1.0, 2.0, 1.0]
    parquet.write_table(pyarrow.table(columns), path)


@pytest.fixture
def write_sheet(tmp_path):
    """Returns the bytes of an Excel file with rows, and cells that are merged."""

    def write_sheet(rows, merged=()):
        openpyxl = pytest.importorskip("openpyxl")
        book = openpyxl.Workbook()
        for row in rows:
            book.active.append(list(row))
        for cells in merged:  # as they are, which merge_cells would put in order
            book.active.merged_cells.ranges.add(openpyxl.worksheet.cell_range.CellRange(cells))
        book.save(tmp_path / "written.xlsx")
        return (tmp_path / "written.xlsx").read_bytes()

    return write_sheet


LOST = {
    "merged": (["x", None], ["C2:C3"], "is part of the merged cells C2:C3; unmerge", ["x", ""]),
    "merged across": (["x", "x"], ["B3:C3"], "is part of the merged cells B3:C3; unmerge", ["x", ""]),
    "a formula": (["x", '=UPPER("a")'], [], "has a formula that nobody has computed; open the file", ["x", ""]),
    "an error": (["x", "#N/A"], [], "is #N/A, the error of a formula; correct it", ["x", "#N/A"]),
}


@pytest.mark.parametrize("kind", LOST)
def test_a_cell_of_excel_without_a_value_is_no_name_and_told(read, write_sheet, kind):
    cells, merged, why, metadata = LOST[kind]
    rows = [["image", "kind", "other"], ["a.jpg", "cat", cells[0]], [], ["b.jpg", "dog", cells[1]]]
    rows.pop(2)
    content = write_sheet(rows, merged)
    for options in (dict(), dict(levels="kind", key_column="other"), dict(levels="kind", extra_labels="other")):
        with pytest.raises(ValueError, match=rf"list\.xlsx: row 3: the field 'other' {why}"):
            read(content, "list.xlsx", **options)
    assert read(content, "list.xlsx", levels="kind").metadata == {"other": metadata}
    with pytest.raises(ValueError, match=rf"list\.xlsx: row 3: the field 'other' {why}"):
        read(content, "list.xlsx", levels="kind", image_column="other")


def test_merged_cells_that_hold_nothing_lose_nothing(read, write_sheet):
    rows = [["image", "kind", "breed"], ["a.jpg", "cat", None], ["b.jpg", "dog", None]]
    found = read(write_sheet(rows, ["C2:C3", "A5:C9", "F1:G2"]), "list.xlsx")
    assert (found.images, found.labels) == (["a.jpg", "b.jpg"], [("cat",), ("dog",)])
    tall = read(write_sheet([*rows, ["c.jpg", "cow", None]], ["A4:A5", "B4:B5"]), "list.xlsx")  # one row, two high
    assert tall.images == ["a.jpg", "b.jpg", "c.jpg"]


def test_merged_cells_that_overlap_are_damage(read, write_sheet):
    with pytest.raises(ValueError, match=r"list\.xlsx is damaged .*: its merged cells overlap; save it anew"):
        read(write_sheet([["image", "kind"], ["a.jpg", "cat"], ["b.jpg"]], ["B1:B3", "B2:B3", "B1:B2"]), "list.xlsx")


@pytest.mark.parametrize(("name", "write"), [("list.xlsx", write_excel), ("list.parquet", write_parquet)])
def test_tables_of_other_programs(tmp_path, name, write):
    write(tmp_path / name)
    rows = read_list(tmp_path / name, tmp_path, levels="kind", key_column="number")
    assert rows.images == ["a.jpg", "b.jpg"]
    assert rows.paths(0) == [("café",), ("fruit",)]
    assert rows.keys == ["1", "2"]
    assert rows.metadata == {"day": ["2024-05-01", ""], "price": ["2.5", ""]}
    with pytest.raises(ValueError, match=rf"{name}: row {4 if name == 'list.xlsx' else 2}: the field 'day' is missing"):
        read_list(tmp_path / name, tmp_path, levels="kind", split_column="day")
    with pytest.raises(ValueError, match=r"'price' has numbers with decimals, such as '2\.5'"):
        read_list(tmp_path / name, tmp_path)
    with pytest.raises(ValueError, match="an encoding is of text files alone"):
        read_list(tmp_path / name, tmp_path, encoding="utf-8")
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-40])
    with pytest.raises(ValueError, match=rf"{name}"):
        read_list(tmp_path / name, tmp_path, levels="kind")


NUMBERS = {
    "1.50": "1.5",
    "7.00": "7",
    "-30.10": "-30.1",
    "-0.00": "0",
    "1E+2": "100",
    "1E+23": "100000000000000000000000",
    "0.00005": "5e-05",
    "12345678901234567890.1230": "12345678901234567890.123",
    "12345678901234567890123456789012345678": "12345678901234567890123456789012345678",
}


@pytest.mark.parametrize("number", NUMBERS)
def test_a_decimal_is_the_float_of_its_value_or_has_all_its_digits(number):
    decimal, text = Decimal(number), NUMBERS[number]
    assert free_text(decimal) == text_of(decimal, "price", "") == text
    assert Decimal(text) == decimal
    if len(decimal.as_tuple().digits) < 16 and abs(decimal) < 2**53:
        assert text == text_of(float(number), "price", "")


@pytest.mark.parametrize("number", ["NaN", "sNaN", "-Infinity", "1E+99999", "1E-99999"])
def test_a_decimal_that_no_float_is_near_is_no_name(number):
    assert free_text(Decimal(number)) == number
    message = f"the field 'price' must be a string or a number; it is Decimal('{number}')"
    with pytest.raises(ValueError, match=re.escape(message)):
        text_of(Decimal(number), "price", "list")


def test_arrays_and_objects_hold_texts_as_cells_do():
    day = datetime.datetime(2024, 5, 1)
    assert free_text({"price": Decimal("1.50"), "day": day}) == '{"price": "1.5", "day": "2024-05-01"}'
    assert free_text(range(2)) == "range(0, 2)"  # of no type that lists have


def hours(number):
    return datetime.timedelta(hours=number)


TYPED = {
    "price": ([Decimal("1.50"), None, Decimal("2.00")], ["1.5", "", "2"]),
    "length": ([hours(30), None, hours(-1.5)], ["30:00:00", "", "-01:30:00"]),
    "short": ([hours(1) / 7200, None, hours(1)], ["00:00:00.500000", "", "01:00:00"]),
    "opens": ([datetime.time(9, 30), None, datetime.time()], ["09:30:00", "", "00:00:00"]),
    "added": ([datetime.date(2024, 5, 1), None, datetime.date(2024, 5, 2)], ["2024-05-01", "", "2024-05-02"]),
    "code": (["é".encode(), None, b" b "], ["é", "", "b"]),
    "sku": ([uuid.UUID(int=1).bytes, None, uuid.UUID(int=2).bytes], [str(uuid.UUID(int=i)) for i in (1, 2)]),
    "weight": ([9.99, None, 2.0], ["9.99", "", "2"]),
    "half": ([9.99, None, 2.0], ["9.99", "", "2"]),
    "size": (["S", None, "M"], ["S", "", "M"]),
}
TYPED["sku"][1].insert(1, "")


def write_typed_parquet(path, name, cells):
    """Writes a column of the type that its name has in databases."""
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    types = {"sku": pyarrow.binary(16), "weight": pyarrow.float32(), "price": pyarrow.decimal128(38, 2)}
    types["half"] = pyarrow.float16()
    column = pyarrow.array(cells, types.get(name))
    if name == "sku":
        column = pyarrow.ExtensionArray.from_storage(pyarrow.uuid(), column)
    if name == "size":
        column = column.dictionary_encode()
    columns = {"image": ["0.jpg", "1.jpg", "2.jpg"], "kind": ["cat", "dog", "dog"], name: column}
    parquet.write_table(pyarrow.table(columns), path)


def check_typed(path, name, texts):
    """The texts are metadata that a search finds, and names."""
    rows = read_list(path, path.parent, levels="kind")
    assert rows.metadata == {name: texts}
    index = build(images(number=3, metadata=rows.metadata))
    for i in (0, 2):
        (found,) = index.search(images(number=1), 3, where=read_where([f"{name}={texts[i]}"]))
        assert [neighbour.path for neighbour in found.neighbours] == [f"photos/{i}.jpg"]
    assert read_list(path, path.parent, levels="kind", key_column=name).keys == texts
    assert [paths[0][1:] for paths in map(read_list(path, path.parent, levels=["kind", name]).paths, range(3))] == [
        (text,) if text else () for text in texts
    ]


@pytest.mark.parametrize("name", TYPED)
def test_parquet_of_any_type(tmp_path, name):
    write_typed_parquet(tmp_path / "list.parquet", name, TYPED[name][0])
    check_typed(tmp_path / "list.parquet", name, TYPED[name][1])


def test_short_floats_of_parquet_keep_their_digits_within_arrays_and_objects(tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    half, single = pa.float16(), pa.float32()
    columns = {
        "image": ["0.jpg", "1.jpg"],
        "sizes": pa.array([[9.99, 0.1, None], None], pa.list_(single)),
        "halves": pa.array([[[9.99], [2.0]], []], pa.list_(pa.list_(half))),
        "weight": pa.array(
            [{"net": 9.99, "unit": "kg", "exact": 0.1}, None],
            pa.struct([("net", single), ("unit", pa.string()), ("exact", pa.float64())]),
        ),
        "parts": pa.array([[("lid", 0.3)], []], pa.map_(pa.string(), single)),
        "tensor": pa.ExtensionArray.from_storage(
            pa.fixed_shape_tensor(single, [2]), pa.array([[9.99, 2.0], None], pa.list_(single, 2))
        ),
        "shared": pa.array([9.99, 9.99], single).dictionary_encode(),
    }
    parquet.write_table(pa.table(columns), tmp_path / "list.parquet")
    read = read_table(str(tmp_path / "list.parquet")).columns
    assert {name: read[name][0] for name in list(columns)[1:]} == {
        "sizes": [9.99, 0.1, None],
        "halves": [[9.99], [2.0]],
        "weight": {"net": 9.99, "unit": "kg", "exact": 0.1},
        "parts": [("lid", 0.3)],
        "tensor": [9.99, 2.0],
        "shared": 9.99,
    }


@pytest.mark.parametrize("name", ["price", "length", "opens", "added", "weight", "size"])
def test_excel_of_any_type(tmp_path, write_sheet, name):
    cells, texts = TYPED[name]
    cells = [float(cell) if isinstance(cell, Decimal) else cell for cell in cells]
    rows = zip(["image", "0.jpg", "1.jpg", "2.jpg"], ["kind", "cat", "dog", "dog"], [name, *cells], strict=True)
    write_sheet(rows)
    check_typed(tmp_path / "written.xlsx", name, texts)


def test_bytes_that_are_no_text_are_hexadecimal_and_no_names(tmp_path):
    write_typed_parquet(tmp_path / "list.parquet", "digest", [b"\xff\x00", None, b"\x00\x01"])
    assert read_list(tmp_path / "list.parquet", tmp_path, levels="kind").metadata == {"digest": ["ff00", "", "0001"]}
    why = r"list\.parquet: row 1: the field 'digest' holds bytes that are no text in UTF-8: b'\\xff\\x00'; save the"
    with pytest.raises(ValueError, match=why):
        read_list(tmp_path / "list.parquet", tmp_path, levels="kind", key_column="digest")
    assert no_names([b"\xff", b"\xfe", "a"]) == [b"\xff", b"\xfe"]
    assert no_names([b"ab", b"\xfe", None]) == []


def test_a_page_of_parquet_whose_checksum_is_wrong_and_a_pointer_in_its_place(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "list.parquet"
    table = pyarrow.table({"image": [f"{i}.jpg" for i in range(9)], "kind": ["cat", "dog", "cow"] * 3})
    parquet.write_table(table, path, compression="none", write_page_checksum=True)
    assert read_list(path, tmp_path, levels="kind").paths(0) == [("cat",)]
    path.write_bytes(path.read_bytes().replace(b"cat", b"cut"))
    with pytest.raises(
        ValueError, match=r"list\.parquet (is damaged|cannot be read).*; write it anew|or write it anew"
    ):
        read_list(path, tmp_path, levels="kind")
    path.write_text("version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(ValueError, match=r"list\.parquet is damaged or no Parquet file: it is a pointer of Git LFS"):
        read_list(path, tmp_path, levels="kind")


def test_parquet_arrays_and_the_index_of_pandas(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"image": ["a", "b"], "kind": [["x", "y"], ["x"]], "__index_level_0__": [0, 1]}
    parquet.write_table(pyarrow.table(columns), tmp_path / "list.parquet")
    assert read_list(tmp_path / "list.parquet", tmp_path, levels="kind").paths(0) == [("x",), ("y",)]
    with pytest.raises(ValueError, match="'__index_level_0__' has no name"):
        read_list(tmp_path / "list.parquet", tmp_path)


JSON_LINES = '{"image": "a.jpg", "kind": "cat"}\n{"image": "b.jpg", "kind": "dog"}\n'


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        (JSON_LINES, "list.json", r"list\.json: the file is JSON Lines, with an object on each line; call it \.jsonl"),
        (f"[\n{JSON_LINES}]", "list.jsonl", r"list\.jsonl: the file is one list in JSON, and not .*; call it \.json"),
        ("image,kind\na.jpg,cat\nb.j", "list.csv", r"list\.csv:3: the line has 1 fields .* 2; the file is truncated"),
        ("image,kind\nb.jpg\na.jpg,cat\n", "list.csv", r"list\.csv:2: .* 2; correct the line, or quote"),
        (
            "image,kind\na.jpg,cat\n<<<<<<< HEAD\n",
            "list.csv",
            r"list\.csv:3: the line has 1 fields .* correct the line",
        ),
        ("image;kind\na.jpg;cat;x\n", "list.csv", r"list\.csv:2: .*; quote fields that hold a semicolon"),
        ("image,kind\na.jpg,cat\n".encode("utf-16")[:-1], "list.csv", r"list\.csv:\d: the last character is incompl"),
        (
            gzip.compress(b"image,kind\na.jpg,cat\n", mtime=0),  # a time in it would name the test anew each second
            "list.csv",
            r"list\.csv is no text, but compressed \(gzip\); unpack",
        ),
        (b"PK\x03\x04" + bytes(20), "list.csv", r"list\.csv is no text, but a zip archive, as files of Excel are"),
        ("image,kind\na.jpg,#N/A\nb.jpg,dog\n", "list.csv", r"list\.csv:2: the field 'kind' is '#N/A', the error of a"),
        (
            "image,kind\na.jpg,cat\nb.jpg,1.2E+15\n",
            "list.csv",
            r"list\.csv:3: .* is '1\.2E\+15', as spreadsheets write",
        ),
        ("image,kind\na.jpg,caf\ufffd\n", "list.csv", r"list\.csv:2: .* with U\+FFFD in place of a letter"),
        (
            "image,kind\nhttps://x.org/a.jpg,cat\n",
            "list.csv",
            r"'https://x\.org/a\.jpg', which is an address, and no file",
        ),
    ],
)
def test_what_a_program_has_made_of_a_list_is_told(read, content, name, message):
    with pytest.raises(ValueError, match=message):
        read(content, name, levels="kind")


def test_signs_of_damage_are_kept_in_what_is_no_name(read):
    found = read("image,kind,note\na.jpg,cat,#N/A\nb.jpg,1e+15,1.2E+15\n", levels="kind")
    assert found.metadata == {"note": ["#N/A", "1.2E+15"]}
    assert found.labels == [("cat",), ("1e+15",)]


def test_columns_of_parquet_of_one_name_are_told(tmp_path):
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = [pyarrow.array(["a.jpg"]), pyarrow.array(["cat"]), pyarrow.array(["dog"])]
    parquet.write_table(pyarrow.table(columns, names=["image", "kind", "kind"]), tmp_path / "list.parquet")
    with pytest.raises(
        ValueError, match=r"list\.parquet: the columns must have different names; they are \['image', 'k"
    ):
        read_list(tmp_path / "list.parquet", tmp_path, levels="kind")


def test_other_files_are_told_what_to_become(read):
    with pytest.raises(ValueError, match=r"must end in \.csv, .*; it is '.*list\.xls'; save the sheet as \.xlsx"):
        read("", "list.xls")


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_lines_without_quotes_are_what_a_parser_says(tmp_path, delimiter, end):
    draw = random.Random(f"{delimiter}{end}")
    for number in range(40):
        width = draw.randint(1, 4)
        rows = [[f"c{i}" for i in range(width)]]
        for _ in range(draw.choice([1, 5, 2500])):
            fields = width if draw.random() < 0.9999 else draw.randint(1, 5)
            rows.append([draw.choice(["", " ", "a", "b c", "é", "x" * 9]) for _ in range(fields)])
            if draw.random() < 0.1:
                rows.append([])
        text = end.join(delimiter.join(row) for row in rows) + draw.choice(["", end])
        path = tmp_path / f"{number}.csv"
        path.write_text(text, encoding="utf-8", newline="")
        read = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter) if any(row)]
        lines = [i for i, row in enumerate(rows, start=1) if any(row)]
        wrong = next((i for i, row in enumerate(read) if len(row) != width), None)
        if wrong is None:
            table = read_table(path, delimiter=delimiter)
            assert list(zip(*table.columns.values(), strict=True)) == list(map(tuple, read[1:]))
        else:
            with pytest.raises(
                ValueError, match=rf"{number}\.csv:{lines[wrong]}: the line has {len(read[wrong])} fiel"
            ):
                read_table(path, delimiter=delimiter)


def test_control_characters_and_half_surrogates_are_told_from_all_others():
    controls = {*range(9), *range(14, 32), 127, *range(0xD800, 0xE000)}
    found = {code for code in range(0x11000) if no_character(f"a{chr(code)}b")}
    assert found == controls
