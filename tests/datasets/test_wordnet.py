import json
import re

import pytest

from hierpretrain.datasets import read_hierarchy
from hierpretrain.datasets.wordnet import MIXED_10, read_edges, read_info_dir, read_wordnet_nouns
from tests.datasets.write_imagenet import (
    CLASSES,
    EDGES,
    NAMES,
    write_breeds,
    write_edges,
    write_lines,
    write_nouns,
    write_robustness,
)

CAB, CRANE, MACHINE, RACER = "n02930766", "n02012849", "n03126707", "n04037443"
LONG = ("n00021939 artifact", "n02958343 car", "n04037443 racer")
SHORT = ("n00021939 artifact", "n04037443 racer")


def parents(edges):
    return {node: tuple(parent for parent, child in edges if child == node) for pair in edges for node in pair}


def test_edges(tmp_path):
    tree = read_edges(write_edges(tmp_path / "any.txt"))
    assert dict(tree.parents) == parents(EDGES)
    assert list(tree.parents).index(RACER) > list(tree.parents).index("n02958343")
    with pytest.raises(ValueError, match=r"any.txt: 1 nodes have several parents, the first 'n04037443'"):
        tree.paths(CLASSES)
    paths = tree.paths(CLASSES, policy="longest").paths
    assert paths[CAB] == ("n00021939", "n02958343", CAB)
    assert paths[CRANE] == ("n00015388", "n01503061", CRANE)  # of a chain, the node that branches is left
    windows = tmp_path / "windows.txt"
    windows.write_bytes((tmp_path / "any.txt").read_bytes().replace(b"\n", b"\r\n"))
    assert read_edges(windows).parents == tree.parents


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "f.txt is empty; get it anew"),
        (b"a b\n\nb\n", "f.txt:3: a line is 'parent child', with one space, not 'b'; the file may be truncated"),
        (b"a b\na b c\n", "f.txt:2: a line is 'parent child'"),
        (b"a  b\n", "f.txt:1: a line is 'parent child'"),
        (b"a b\na c ", "f.txt:2: a line is 'parent child'"),
        (b"a\tb\n", "f.txt:1: a line is 'parent child'"),
        (b"a b\nb b\n", "f.txt:2: the cycle b -> b makes a node its own ancestor"),
        (b"a b\nb c\nx \xff\n", "f.txt:3: byte 0xff is not UTF-8"),
    ],
)
def test_wrong_edges(tmp_path, text, message):
    (tmp_path / "f.txt").write_bytes(text)
    with pytest.raises(ValueError, match=re.escape(message)):
        read_edges(tmp_path / "f.txt")


def test_a_cycle_is_named_with_its_line(tmp_path):
    (tmp_path / "f.txt").write_text("r a\na b\nb c\nc a\nc x\n")
    with pytest.raises(ValueError, match=r"f.txt:\d: the cycle") as caught:
        read_edges(tmp_path / "f.txt")
    number, cycle = re.search(r"f.txt:(\d): the cycle (.*) makes", str(caught.value)).groups()
    assert (tmp_path / "f.txt").read_text().splitlines()[int(number) - 1].split() == cycle.split(" -> ")[:2]


def test_info_dirs(tmp_path):
    breeds = read_info_dir(write_breeds(tmp_path / "breeds"))
    robustness = read_info_dir(write_robustness(tmp_path / "robustness"))
    assert breeds.parents == robustness.parents == parents(EDGES)
    assert breeds.names == robustness.names == NAMES
    with pytest.raises(ValueError, match="nodes have several parents"):
        breeds.paths(CLASSES)
    assert breeds.paths(CLASSES, policy="first").paths[RACER] == LONG
    assert robustness.paths(CLASSES).paths[RACER] == SHORT  # the last line wins
    assert robustness.paths(CLASSES).paths[MACHINE] == ("n00021939 artifact", "n03126707 crane")
    assert robustness.paths(CLASSES).paths[CRANE][-1] == "n02012849 crane"


def test_info_dir_with_both_is_read_as_breeds(tmp_path):
    write_robustness(write_breeds(tmp_path))
    assert read_info_dir(tmp_path).policy == "error"


def test_what_an_info_dir_lacks(tmp_path):
    write_breeds(tmp_path)
    (tmp_path / "node_names.txt").unlink()
    with pytest.raises(
        ValueError,
        match=r"is no info_dir: it lacks node_names.txt of BREEDS and wordnet.is_a.txt, words.txt, "
        r"imagenet_class_index.json of robustness; add the files of one of them, or give a file data.noun",
    ):
        read_hierarchy(tmp_path)
    with pytest.raises(ValueError, match=r"there is no folder .*none to read"):
        read_info_dir(tmp_path / "none")
    with pytest.raises(ValueError, match=r"cannot read the list .*none: No such file"):
        read_hierarchy(tmp_path / "none")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("node_names.txt", "n1\tone\nn2 two\n", ":2: a line is an id, a tab and names, not 'n2 two'"),
        ("node_names.txt", "n1\t\n", ":1: a line is an id, a tab and names"),
        ("dataset_class_info.json", '[[0, "n1"', ":1: no JSON: Expecting"),
        ("dataset_class_info.json", '[[0, "n1", "one"], [1, "n2"]]', ": record 1 must be a number, a class and its"),
        ("dataset_class_info.json", '{"0": ["n1", 5]}', ": record 0 must be a number, a class and its names"),
        ("dataset_class_info.json", '{"0": "n1"}', ": record 0 must be a number, a class and its names, not ['0']"),
    ],
)
def test_damaged_info_dir(tmp_path, name, text, message):
    write_breeds(tmp_path)
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / name}{message}")):
        read_info_dir(tmp_path)


def test_nouns(tmp_path):
    path = write_nouns(tmp_path / "data.noun")
    tree = read_wordnet_nouns(path)
    assert {node: set(above) for node, above in tree.parents.items()} == {
        node: set(above) for node, above in parents(EDGES).items()
    }
    assert tree.names == NAMES
    assert tree.paths(CLASSES).paths[RACER] == LONG
    for given in (path, tmp_path, write_nouns(tmp_path / "data.noun.3.0")):
        assert read_hierarchy(given).parents == tree.parents


def test_pointers_of_a_synset_are_in_the_order_of_the_file(tmp_path):
    line = "00000009 03 n 02 a_b 0 c 1 004 @ 00000007 n 0000 ~ 00000001 n 0000 @ 00000003 n 0000 + 00000003 v 0101 | g"
    others = [f"{i:08d} 03 n 01 w{i} 0 000 | gloss  " for i in (1, 3, 7)]
    tree = read_wordnet_nouns(write_lines(tmp_path / "data.noun", [*others, line]))
    assert tree.parents["n00000009"] == ("n00000007", "n00000003")
    assert tree.names["n00000009"] == "a b, c"


def test_counts_of_words_are_hexadecimal(tmp_path):
    words = " ".join(f"word{i} 0" for i in range(16))
    lines = ["00000001 03 n 01 root 0 000 | g", f"00000002 03 n 10 {words} 001 @ 00000001 n 0000 | g"]
    tree = read_wordnet_nouns(write_lines(tmp_path / "data.noun", lines))
    assert tree.names["n00000002"].split(", ") == [f"word{i}" for i in range(16)]


def test_instances(tmp_path):
    path = write_nouns(tmp_path / "data.noun", instances=[("n02084071", "n03126707")])
    assert read_wordnet_nouns(path).parents[MACHINE] == ("n00021939",)
    assert read_wordnet_nouns(path, instances=True).parents[MACHINE] == ("n00021939", "n02084071")


def test_other_release(tmp_path):
    path = write_nouns(tmp_path / "data.noun", release="3.1")
    message = r"data.noun:3: the file is of WordNet 3.1, not 3.0; ImageNet's ids are offsets of WordNet 3.0: take"
    with pytest.raises(ValueError, match=message):
        read_hierarchy(path)
    tree = read_wordnet_nouns(path, release=None)
    assert tree.names == NAMES
    with pytest.raises(
        ValueError, match=r"lacks 1 of the 1 classes: 'n00000001'; ImageNet's ids are offsets of WordNet"
    ):
        tree.paths(["n00000001"])


GOOD = "00000001 03 n 01 root 0 000 | gloss"


@pytest.mark.parametrize(
    "line",
    [
        "00000002 03 n 01 leaf 0 001 @ 00000001 n 0000",  # the gloss is cut off
        "0000002 03 n 01 leaf 0 001 @ 00000001 n 0000 | g",
        "00000002 03 v 01 leaf 0 001 @ 00000001 n 0000 | g",
        "00000002 03 n 02 leaf 0 001 @ 00000001 n 0000 | g",
        "00000002 03 n 01 leaf 0 002 @ 00000001 n 0000 | g",
        "00000002 03 n 01 leaf 0 001 @ 0000000 n 0000 | g",
        "00000002 03 n zz leaf 0 001 @ 00000001 n 0000 | g",
        "00000002 03 n 00 001 @ 00000001 n 0000 | g",
        "n00000001 n00000002",
    ],
)
def test_wrong_nouns(tmp_path, line):
    path = write_lines(tmp_path / "data.noun", [GOOD, line])
    with pytest.raises(ValueError, match=r"data.noun:2: no synset as WordNet's data.noun has them: '.*'; get the file"):
        read_wordnet_nouns(path)


def test_truncated_nouns(tmp_path):
    lines = ["  1 licence", "00000002 03 n 01 leaf 0 001 @ 00000009 n 0000 | g"]
    with pytest.raises(
        ValueError, match=r"data.noun:2: n00000002 has the hypernym n00000009, which is not in the file"
    ):
        read_wordnet_nouns(write_lines(tmp_path / "data.noun", lines))


def test_mixed_10():
    assert len(set(MIXED_10)) == 10
    assert all(re.fullmatch(r"n\d{8}", node) for node in MIXED_10)
    assert json.loads(json.dumps(MIXED_10)) == list(MIXED_10)
