import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch

from hierpretrain import taxonomy
from hierpretrain.taxonomy import (
    PAD,
    Taxonomy,
    append_instances,
    check_labels,
    depth,
    longest_paths,
    paired_depth,
    path_heights,
    prefix_ids,
    shared_depth,
)
from tests.conftest import random_labels
from tests.reference import contrastive as reference
from tests.reference import hierarchy
from tests.reference.paths import other_order, random_paths

# the label matrix drawn at the head of hierpretrain/taxonomy.py
ROWS = {
    ("animal", "cat", "siamese"): [0, 0, 0],
    ("animal", "cat", "tabby"): [0, 0, 1],
    ("animal", "dog"): [0, 1, PAD],
    ("food", "fruit", "apple"): [1, 2, 2],
    ("food", "fruit", "cherry"): [1, 2, 3],
    ("tool",): [2, PAD, PAD],
}


def test_the_drawn_tree_has_the_drawn_rows(tree):
    assert tree.encode(ROWS).tolist() == list(ROWS.values())
    assert tree.encode(ROWS).dtype == torch.int64
    for path, row in ROWS.items():
        assert tree.decode(row) == path
        assert tree.decode(torch.tensor(row)) == path


def test_inner_nodes_and_no_label_at_all_encode(tree):
    assert tree.encode([("animal",), ("animal", "cat"), ()]).tolist() == [[0, -1, -1], [0, 0, -1], [-1, -1, -1]]
    assert tree.decode([PAD] * 3) == ()
    assert tree.encode([]).shape == (0, 3)


def test_nodes_know_their_names_parents_and_children(tree):
    assert [tree.num_nodes(level) for level in (1, 2, 3)] == [3, 3, 4]
    assert tree.num_nodes("breed") == 4
    assert [tree.level(level) for level in (1, 3, -1, -3, "kind")] == [1, 3, 3, 1, 2]
    assert [tree.name("kind", i) for i in range(3)] == ["cat", "dog", "fruit"]
    assert [tree.parent(2, i) for i in range(3)] == [0, 0, 1]
    assert [tree.parent(1, i) for i in range(3)] == [PAD] * 3
    assert [tree.children(1, i) for i in range(3)] == [(0, 1), (2,), ()]
    assert [tree.children(2, i) for i in range(3)] == [(0, 1), (), (2, 3)]
    assert tree.children(3, 0) == ()


def test_one_name_below_two_parents_is_two_nodes():
    tree = Taxonomy([("women", "shorts"), ("men", "shorts")], ("gender", "category"))
    assert tree.num_nodes(2) == 2
    assert tree.encode([("women", "shorts"), ("men", "shorts")]).tolist() == [[1, 1], [0, 0]]


def test_ids_do_not_depend_on_the_order_of_the_paths():
    paths = list(ROWS)
    names = ("a", "b", "c")
    assert Taxonomy(paths, names) == Taxonomy(paths[::-1] + paths, names)
    assert Taxonomy(paths, names) != Taxonomy(paths[:-1], names)


def test_json_round_trip_keeps_every_id(tree, tmp_path):
    tree.save(tmp_path / "tree.json")
    loaded = Taxonomy.load(tmp_path / "tree.json")
    assert loaded == tree
    assert loaded.encode(ROWS).tolist() == list(ROWS.values())
    assert loaded.children(1, 0) == (0, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["tree.json"]  # nothing temporary is left
    assert json.loads(json.dumps(tree.to_dict())) == tree.to_dict()


def test_a_number_that_no_level_has_may_be_a_name():
    tree = Taxonomy([("a", "b")], ("2024", "-3"))
    assert [tree.level(level) for level in (1, 2, -1, -2, 2024, "2024", -3, "-3")] == [1, 2, 2, 1, 1, 1, 2, 2]
    for unknown in (3, 0, "2025", 1.0):
        with pytest.raises(ValueError, match=f"no level {unknown!r}"):
            tree.level(unknown)


def test_a_tree_without_levels_is_allowed():
    tree = Taxonomy([(), ()], ())
    assert tree.encode([(), ()]).shape == (2, 0)
    assert Taxonomy.from_dict(tree.to_dict()) == tree


@pytest.mark.parametrize(
    ("paths", "level_names", "message"),
    [
        (["cat"], ("kind",), r"a path must be a sequence of names, not the string 'cat'; pass \('cat',\)"),
        ([("a", "b")], ("kind",), r"path \('a', 'b'\) has 2 levels, more than the 1 level_names"),
        ([("a", "")], ("x", "y"), r"non-empty string; path \('a', ''\) has ''"),
        ([("a", 7)], ("x", "y"), "has 7"),
        ([("a", ["b"])], ("x", "y"), r"non-empty string; path \('a', \['b'\]\) has \['b'\]"),
        ([(1,), (2,)], ("x",), r"path \(1,\) has 1"),
        ([("a",), "cat"], ("x",), "not the string 'cat'"),
        ([[("a",), ("b", "c")]], ("x",), r"path \('b', 'c'\) has 2 levels"),
        ([("a",)], ("x", "y"), "level 'y' has no node: no path reaches it"),
        ([("a",)], ("x", "x"), "level_names must be different non-empty strings"),
        ([("a",)], ("",), "level_names must be different non-empty strings"),
    ],
)
def test_bad_paths(paths, level_names, message):
    with pytest.raises(ValueError, match=message):
        Taxonomy(paths, level_names)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda t: t.encode([("animal", "cow")]), r"no 'cow' below \('animal',\)"),
        (lambda t: t.encode([("animal", "cat", "tabby", "big")]), r"no 'big' below"),
        (lambda t: t.decode([0, 0]), "a label row of this taxonomy has 3 entries"),
        (lambda t: t.decode([0, PAD, 1]), "PAD .* only on the right"),
        (lambda t: t.decode([1, 0, 0]), "node 0 of level 2 hangs below 0, not 1"),
        (lambda t: t.decode([0, 9, PAD]), "level 2 has nodes 0 to 2, not 9"),
        (lambda t: t.num_nodes("colour"), "no level 'colour'.*'kingdom', 'kind', 'breed'"),
        (
            lambda t: t.num_nodes("bred"),
            r"no level 'bred' \(did you mean 'breed'\?\): levels are 1 \(coarsest\) to 3, or",
        ),
        (lambda t: t.num_nodes(True), r"no level True: levels are 1 \(coarsest\) to 3"),
        (lambda t: t.num_nodes(0), r"no level 0: levels are 1 \(coarsest\) to 3"),
        (lambda t: t.num_nodes(-4), "no level -4"),
        (lambda t: t.name(1, 3), "level 1 has nodes 0 to 2, not 3"),
    ],
)
def test_bad_questions(tree, call, message):
    with pytest.raises(ValueError, match=message):
        call(tree)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(format="other"), "no taxonomy: expected a dict with 'format'"),
        (dict(names=None), r"the taxonomy lacks \['names'\]"),
        (dict(level_names=["kingdom"]), "names 1 levels but lists names of 3"),
        (dict(parents=[[-1, -1], [0, 0, 1], [0, 0, 2, 2]]), "level 1 of the taxonomy has 3 names and 2 parents"),
        (dict(parents=[[-1, -1, -1], [0, 0, 7], [0, 0, 2, 2]]), r"\('fruit'\) of level 2 has the parent 7"),
        (dict(parents=[[0, -1, -1], [0, 0, 1], [0, 0, 2, 2]]), "of level 1 has the parent 0"),
        (dict(names=[["animal", "animal", "tool"], ["cat", "dog", "fruit"], list("abcd")]), "'animal' twice below"),
        (dict(names=[["animal", 3, "tool"], ["cat", "dog", "fruit"], list("abcd")]), "has the name 3"),
    ],
)
def test_bad_files(tree, tmp_path, change, message):
    data = {key: value for key, value in (tree.to_dict() | change).items() if value is not None}
    (tmp_path / "tree.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=message):
        Taxonomy.load(tmp_path / "tree.json")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[" * 100_000])
def test_no_json(tmp_path, content):
    (tmp_path / "tree.json").write_bytes(content)
    with pytest.raises(ValueError, match="is no JSON file of a taxonomy"):
        Taxonomy.load(tmp_path / "tree.json")


def test_one_word_in_two_unicode_forms_is_one_name(tmp_path):
    one, two = "caf\u00e9", "cafe\u0301"
    tree = Taxonomy([("bar",), (two, "x"), (one, two), (one,)], ("place", two))
    assert tree == Taxonomy([("bar",), (one, "x"), (one, one)], ("place", one))
    assert tree.names(1) == ["bar", one]
    assert tree.encode([(two, one), (one, "x"), ("bar",)]).tolist() == [[1, 0], [1, 1], [0, -1]]
    assert tree.encode([[(two,), (one, "x")], ("bar",)]).tolist() == [[1, 1], [0, -1]]  # one leads to the other
    assert tree.known_depths([(two, two), (two, "pub")]).tolist() == [2, 1]
    assert tree.level(two) == tree.level(one) == 2
    old = {**tree.to_dict(), "level_names": ["place", two], "names": [["bar", two], [two, "x"]]}
    (tmp_path / "tree.json").write_text(json.dumps(old))
    assert Taxonomy.load(tmp_path / "tree.json") == tree
    with pytest.raises(ValueError, match="level 1 of the taxonomy has the node 'caf\u00e9' twice"):
        Taxonomy.from_dict({**old, "names": [[one, two], ["bar", "x"]]})
    with pytest.raises(ValueError, match="level_names must be different"):
        Taxonomy([("a", "b")], (one, two))


NAMES = ["a", "b", "B", "é", "q\u0301", "日本", "\U0001f43e", "a b", "ab"]


def draw_paths(seed, count=40, levels=4):
    """Ragged paths of few names, so that siblings, cousins and levels share them; with duplicates and empty paths."""
    rng = np.random.default_rng(seed)
    drawn = [
        tuple(NAMES[i] for i in rng.integers(rng.integers(1, len(NAMES) + 1), size=rng.integers(levels + 1)))
        for _ in range(count)
    ]
    deepest = ("b",) * levels  # so that every level has a node
    return [drawn[i] for i in rng.integers(count, size=2 * count)] + [deepest]


def number_plainly(paths, num_levels):
    """For each level a dict from the path of a node to its id, in sorted order: what a tree's ids must be."""
    levels = range(1, num_levels + 1)
    return [
        {prefix: i for i, prefix in enumerate(sorted({path[:level] for path in paths if len(path) >= level}))}
        for level in levels
    ]


def label_plainly(path, ids):
    return [of_level[path[:level]] if len(path) >= level else PAD for level, of_level in enumerate(ids, start=1)]


@pytest.mark.parametrize("seed", range(20))
def test_a_tree_numbers_its_nodes_as_plain_dicts_do(seed):
    paths = draw_paths(seed)
    ids = number_plainly(paths, 4)
    as_lists = [list(path) if i % 2 else path for i, path in enumerate(paths)]
    tree = Taxonomy(iter(as_lists), tuple("wxyz"))
    assert tree == Taxonomy([paths[i : i + 3] or [()] for i in range(0, len(paths), 3)], tuple("wxyz"))
    for level, of_level in enumerate(ids, start=1):
        assert tree.node_paths(level) == list(of_level)
        above = ids[level - 2] if level > 1 else {(): PAD}
        assert [tree.name(level, i) for i in of_level.values()] == [path[-1] for path in of_level]
        assert [tree.parent(level, i) for i in of_level.values()] == [above[path[:-1]] for path in of_level]
        below = ids[level] if level < 4 else {}
        for path, i in of_level.items():
            assert tree.children(level, i) == tuple(child for other, child in below.items() if other[:-1] == path)
    labels = [label_plainly(path, ids) for path in paths]
    assert tree.encode(as_lists).tolist() == labels
    assert tree.encode(paths[:1]).tolist() == labels[:1]
    assert [tree.decode(row) for row in labels] == paths


@pytest.mark.parametrize("seed", range(10))
def test_several_paths_encode_as_plain_dicts_say(seed):
    paths = draw_paths(seed)
    ids = number_plainly(paths, 4)
    tree = Taxonomy(paths, tuple("wxyz"))
    items = [paths[i : i + 1 + i // 3 % 3] for i in range(0, len(paths) - 3, 3)]
    kept = [longest_paths(item) for item in items]
    most = max(map(len, kept))
    rows = [[label_plainly(path, ids) for path in item] + [[PAD] * 4] * (most - len(item)) for item in kept]
    assert tree.encode(items).tolist() == rows
    assert tree.encode([tuple(item) for item in items]).tolist() == rows


@pytest.mark.parametrize("seed", range(10))
def test_a_tree_of_a_file_keeps_its_ids_in_any_order(seed):
    tree = Taxonomy(draw_paths(seed), tuple("wxyz"))
    rng = np.random.default_rng(seed)
    data, old_of = tree.to_dict(), []
    for level in range(4):
        old_of.append(rng.permutation(tree.num_nodes(level + 1)).tolist())
        data["names"][level] = [data["names"][level][old] for old in old_of[-1]]
        parents = [data["parents"][level][old] for old in old_of[-1]]
        data["parents"][level] = [old_of[level - 1].index(parent) for parent in parents] if level else parents
    other = Taxonomy.from_dict(data)
    assert other.to_dict() == data
    for level in range(1, 5):
        paths = other.node_paths(level)
        assert paths == [tree.node_paths(level)[old] for old in old_of[level - 1]]
        labels = other.encode(paths)
        assert labels[:, level - 1].tolist() == list(range(len(paths)))
        assert torch.equal(labels[:, :level], other.node_labels(level))
        new_of = [old_of[level].index(old) for old in range(len(old_of[level]))] if level < 4 else []
        for i, old in enumerate(old_of[level - 1]):
            assert set(other.children(level, i)) == {new_of[child] for child in tree.children(level, old)}
            assert list(other.children(level, i)) == sorted(other.children(level, i))


def test_many_items_are_as_few_at_a_time(monkeypatch):
    paths = draw_paths(0)
    items = [*paths, *(paths[i : i + 2] for i in range(5))]
    tree = Taxonomy(items, tuple("wxyz"))
    labels = tree.encode(items)
    monkeypatch.setattr(taxonomy, "_AT_A_TIME", 3)
    assert Taxonomy(iter(items), tuple("wxyz")) == tree
    assert torch.equal(tree.encode(iter(items)), labels)
    assert torch.equal(tree.encode(iter(paths)), tree.encode(paths))
    with pytest.raises(ValueError, match=r"path \('a', ''\) has ''"):
        Taxonomy([*paths, ("a", "")], tuple("wxyz"))


def test_how_far_down_a_tree_has_a_path_agrees_with_its_prefixes(tree):
    paths = [*ROWS, (), ("animal", "cow"), ("animal", "dog", "pug"), ("food", "fruit", "apple", "red", "x"), ("cat",)]
    expected = [max(n for n in range(len(path) + 1) if path[:n] in {(), *tree.node_paths()}) for path in paths]
    assert tree.known_depths(paths).tolist() == expected
    assert tree.known_depths([]).tolist() == []


def test_copies_and_pickles_of_a_tree_are_equal_and_small(tree):
    size = len(pickle.dumps(tree))
    tree.encode(ROWS), tree.children(1, 0)  # make what is looked up
    assert len(pickle.dumps(tree)) == size
    for other in (pickle.loads(pickle.dumps(tree)), copy.deepcopy(tree), copy.copy(tree)):
        assert other == tree
        assert hash(other) == hash(tree)
        assert other.encode(ROWS).tolist() == list(ROWS.values())


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        ([("animal", "dog"), ("animal", 7)], r"must be a non-empty string; path \('animal', 7\) has 7"),
        ([[("animal", ["dog"]), ("tool",)]], r"path \('animal', \['dog'\]\) has \['dog'\]"),
        ([("tool",), ("dog", "cat"), ("cow",)], r"path \('dog', 'cat'\) is not in the taxonomy: no 'dog' below \(\)"),
        ([["animal", ""]], "no '' below"),
        ([("tool", "tool")], r"no 'tool' below \('tool',\)"),
        ([("cat",)], r"no 'cat' below \(\)"),  # a name of another level
    ],
)
def test_the_first_path_that_is_not_in_the_tree_is_told(tree, paths, message):
    with pytest.raises(ValueError, match=message):
        tree.encode(paths)


@pytest.mark.parametrize("seed", range(5))
def test_shared_depth_and_prefix_ids_agree_with_a_loop(seed):
    a, b = random_labels(seed, rows=9), random_labels(seed + 100, rows=7)
    expected = [[reference.shared_depth(x, y) for y in b] for x in a]
    assert shared_depth(a, b).tolist() == expected
    ids = prefix_ids(a)
    assert ((ids == PAD) == (a == PAD)).all()
    for level in range(1, 4):
        column = ids[:, level - 1]
        same = (column[:, None] == column) & (column != PAD)
        assert (same == (shared_depth(a, a) >= level)).all()
        known = column[column != PAD].unique().tolist()
        assert known == list(range(len(known)))  # dense


@pytest.mark.parametrize("widest", [1, 2**40, 2**61])
def test_ids_of_any_width_give_the_same_prefix_ids(widest):
    labels = random_labels(3, rows=60, levels=3, branching=4)
    wide = torch.where(labels == PAD, PAD, labels * widest)
    assert wide.max() > widest  # and above 2^63 in all, if (parent, node) were one number without more ado
    assert (prefix_ids(wide) == prefix_ids(labels)).all()
    assert prefix_ids(labels[:0]).shape == (0, 3)


# ---------------------------------------------------------------- several paths
@pytest.mark.parametrize("seed", range(5))
def test_what_items_of_several_paths_share_agrees_with_a_loop(seed):
    a, b = random_paths(seed, rows=9), random_paths(seed + 100, rows=7, most=2)
    one = random_labels(seed, rows=7)
    for left, right in ((a, b), (b, a), (a, one), (one, a)):
        expected = [[reference.shared_depth(x, y) for y in right] for x in left]
        assert shared_depth(left, right).tolist() == expected
        assert shared_depth(other_order(left) if left.ndim == 3 else left, right).tolist() == expected
        rows = min(len(left), len(right))
        assert paired_depth(left[:rows], right[:rows]).tolist() == [expected[i][i] for i in range(rows)]
    assert depth(a).tolist() == [max((row != PAD).sum().item() for row in item) for item in a]
    ids = prefix_ids(a)
    assert ((ids == PAD) == (a == PAD)).all()
    assert (shared_depth(ids, ids) == shared_depth(a, a)).all()
    for level in range(3):  # one numbering for all paths, by the level's column alone
        column, whole = ids[..., level].flatten(), a[..., : level + 1].flatten(0, 1)
        known = column != PAD
        same = (whole[known][:, None] == whole[known]).all(2)
        assert ((column[known][:, None] == column[known]) == same).all()


def test_an_item_of_several_paths_encodes_to_a_row_each(tree):
    both = [("food", "fruit", "apple"), ("tool",)]
    labels = tree.encode([("animal", "dog"), both, (), [("tool",), ("tool",), ()]])
    none = [PAD] * 3
    assert labels.tolist() == [
        [[0, 1, PAD], none],
        [[1, 2, 2], [2, PAD, PAD]],
        [none, none],
        [[2, PAD, PAD], none],
    ]
    assert shared_depth(labels, labels).tolist() == [[2, 0, 0, 0], [0, 3, 0, 1], [0, 0, 0, 0], [0, 1, 0, 1]]
    # one path that others lead to is one path
    assert tree.encode([[("animal",), ("animal", "cat", "tabby"), ("animal", "cat")]]).tolist() == [[0, 0, 1]]
    assert Taxonomy([("animal", "dog"), both], ("x", "y", "z")).encode([both]).shape == (1, 2, 3)
    with pytest.raises(ValueError, match="no 'cow' below"):
        tree.encode([[("tool",), ("animal", "cow")]])
    with pytest.raises(ValueError, match="a path must be a sequence of names, not the string 'tool'"):
        tree.encode(["tool"])


def test_a_path_that_another_goes_on_from_says_nothing_more():
    a, ab, abc, b = ("a",), ("a", "b"), ("a", "b", "c"), ("b",)
    assert longest_paths([ab, b, a, abc, b]) == [b, abc]
    assert longest_paths([b, ab]) == [b, ab]  # in their order
    assert longest_paths([a, a]) == [a]
    assert longest_paths([(), a]) == [a]
    assert longest_paths([()]) == [()]


def test_images_are_instances_below_each_of_their_nodes():
    labels = torch.tensor([[[0, 5], [1, PAD]], [[0, 5], [1, PAD]], [[0, PAD], [PAD, PAD]], [[PAD, PAD], [PAD, PAD]]])
    rows = append_instances(labels, torch.tensor([4, 4, 5, 6]))
    assert depth(rows).tolist() == [3, 3, 2, 1]
    assert ((rows != PAD).sum(2) == torch.tensor([[3, 2], [3, 2], [2, 0], [1, 0]])).all()
    assert shared_depth(rows, rows).tolist() == [[3, 3, 1, 0], [3, 3, 1, 0], [1, 1, 2, 0], [0, 0, 0, 1]]


def test_one_path_as_several_is_the_same(tree):
    labels = tree.encode(ROWS)
    assert shared_depth(labels[:, None], labels).tolist() == shared_depth(labels, labels).tolist()
    assert prefix_ids(labels[:, None]).tolist() == prefix_ids(labels)[:, None].tolist()
    assert depth(labels[:, None]).tolist() == depth(labels).tolist()
    images = torch.arange(len(labels))
    assert append_instances(labels[:, None], images).tolist() == append_instances(labels, images)[:, None].tolist()


def test_what_knows_one_path_alone_says_so(tree):
    labels = tree.encode([[("animal", "dog"), ("tool",)]])
    for call in (path_heights, lambda rows: tree.lca_heights(rows, rows)):
        with pytest.raises(ValueError, match="one path an item, here; these have up to 2 paths"):
            call(labels)


def test_pairs_are_as_many_on_both_sides():
    with pytest.raises(ValueError, match="paired label matrices must have as many items each; they have 2 and 3"):
        paired_depth(torch.zeros(2, 1, dtype=torch.int64), torch.zeros(3, 1, dtype=torch.int64))
    with pytest.raises(ValueError, match="same levels; they have 1 and 2"):
        paired_depth(torch.zeros(2, 1, dtype=torch.int64), torch.zeros(2, 2, 2, dtype=torch.int64))


def test_depth_counts_what_is_known():
    assert depth(torch.tensor([[PAD, PAD], [3, PAD], [3, 4]])).tolist() == [0, 1, 2]
    assert depth(torch.empty(2, 0, dtype=torch.int64)).tolist() == [0, 0]


def test_large_ids_do_not_collide():
    labels = torch.tensor([[2**24], [2**24 + 1], [2**62]])
    assert shared_depth(labels, labels).tolist() == torch.eye(3, dtype=torch.int64).tolist()
    assert prefix_ids(labels).tolist() == [[0], [1], [2]]


def test_instances_are_the_deepest_level_of_the_same_tree():
    labels = torch.tensor([[0, 5], [0, 5], [0, PAD], [0, PAD], [PAD, PAD]])
    images = torch.tensor([3, 4, 5, 5, 6])
    rows = append_instances(labels, images)
    assert depth(rows).tolist() == [3, 3, 2, 2, 1]
    expected = shared_depth(labels, labels)
    same = images[:, None] == images
    assert (shared_depth(rows, rows) == expected + same).all()


def test_an_instance_is_never_taken_for_a_child_node():
    rows = append_instances(torch.tensor([[0, PAD], [0, 7]]), torch.tensor([7, 1]))
    assert shared_depth(rows, rows)[0, 1] == 1


@pytest.mark.parametrize(
    ("labels", "instances", "message"),
    [
        (torch.zeros(2, 1, dtype=torch.int64), torch.zeros(3, dtype=torch.int64), r"instances must be \(2,\)"),
        (torch.full((1, 1), 2**40), torch.zeros(1, dtype=torch.int64), "node ids must be below 2\\^40"),
    ],
)
def test_bad_instances(labels, instances, message):
    with pytest.raises(ValueError, match=message):
        append_instances(labels, instances)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.tensor([0, 1]), r"labels must be \(N, L\), one row of node ids per item; their shape is \(2,\)"),
        (torch.tensor([[0.0]]), "labels must be integers.*torch.float32"),
        (torch.tensor([[True]]), "labels must be integers.*torch.bool"),
        (torch.tensor([[0, 1], [3, -2]]), r"with ids from 0; row 1 is \[3, -2\]"),
        (torch.tensor([[0, 1, 2]] * 17 + [[3, -1, 5]]), r"PAD \(-1\) only on the right; row 17 is \[3, -1, 5\]"),
        (
            torch.zeros(4, 3, 2, dtype=torch.int64),
            r"one path an item, here; these have up to 3 paths. Give .*'drop', or",
        ),
    ],
)
def test_bad_labels(labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (torch.zeros(1, 1, 1, 1, dtype=torch.int64), r"labels must be \(N, L\), one row .* shape is \(1, 1, 1, 1\)"),
        (torch.zeros(4, 0, 2, dtype=torch.int64), r"labels must be \(N, L\), one row .* shape is \(4, 0, 2\)"),
        (torch.zeros(1, 1, 1), "labels must be integers.*torch.float32"),
        (torch.tensor([[[0, 1], [0, -2]]]), r"must be \(N, P, L\) with ids from 0; row 1 of item 0 is \[0, -2\]"),
        (torch.tensor([[[0, 1]], [[-1, 1]]]), r"\(N, P, L\) with PAD \(-1\) only on the right; row 0 of item 1 is"),
    ],
)
def test_bad_labels_of_several_paths(labels, message):
    with pytest.raises(ValueError, match=message):
        check_labels(labels, several_paths=True)


def test_different_levels_cannot_be_compared():
    with pytest.raises(ValueError, match="same levels; they have 1 and 2"):
        shared_depth(torch.zeros(1, 1, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64))


def test_taxonomy_and_functional_import_without_mmengine():
    code = "import sys; sys.modules['mmengine'] = None; import hierpretrain.taxonomy, hierpretrain.functional"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_million_nodes_are_no_matter():
    ids = np.arange(200_000)
    tree = Taxonomy(((f"a{i % 100}", f"b{i}") for i in ids), ("a", "b"))
    assert tree.num_nodes(2) == 200_000
    assert len(tree.encode([(f"a{i % 100}", f"b{i}") for i in ids])) == 200_000


def test_rows_are_those_of_encoded_paths_cut_at_the_level(tree):
    assert tree.node_labels(1).tolist() == [[0], [1], [2]]
    assert tree.node_labels("kind").tolist() == [[0, 0], [0, 1], [1, 2]]
    paths = [("animal", "cat", "siamese"), ("animal", "cat", "tabby"), ("food", "fruit", "apple")]
    assert torch.equal(tree.node_labels(-1)[:3], tree.encode(paths))
    with pytest.raises(ValueError, match="no level 4"):
        tree.node_labels(4)


def test_lca_heights_of_the_drawn_tree(tree):
    siamese, dog, apple, cherry, tool = (tree.encode([list(ROWS)[i]]) for i in (0, 2, 3, 4, 5))
    cat, nothing = tree.encode([("animal", "cat")]), tree.encode([()])
    for a, b, height in (
        (siamese, siamese, 0),
        (apple, cherry, 1),
        (siamese, dog, 2),  # below animal, whose other child has children
        (dog, dog, 0),
        (cat, cat, 1),  # an inner node is not a leaf
        (siamese, cat, 1),
        (tool, tool, 0),
        (siamese, tool, 3),
        (nothing, nothing, 3),
    ):
        assert tree.lca_heights(a, b).tolist() == tree.lca_heights(b, a).tolist() == [[height]]


@pytest.mark.parametrize("seed", range(10))
def test_lca_heights_agree_with_a_walk_by_name(seed):
    rng = np.random.default_rng(seed)
    paths = [tuple(f"n{rng.integers(3)}" for _ in range(rng.integers(0, 5))) for _ in range(12)] + [tuple("abcd")]
    tree = Taxonomy(paths, tuple("wxyz"))
    expected = [[hierarchy.lca_height(a, b, paths) for b in paths] for a in paths[:7]]
    assert tree.lca_heights(tree.encode(paths[:7]), tree.encode(paths)).tolist() == expected
    assert tree.lca_heights(tree.encode([]), tree.encode(paths)).shape == (0, 13)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([0, 9, PAD], "level 2 has nodes 0 to 2, not 9"),
        ([1, 0, 0], "node 0 of level 2 hangs below 0, not 1"),
        ([0, PAD, 1], "PAD .* only on the right"),
        ([0, 0], "label rows of this taxonomy have 3 entries; these have 2"),
    ],
)
def test_lca_heights_of_rows_of_no_node(tree, row, message):
    good = tree.encode(ROWS)
    for rows in ((torch.tensor([row]), good), (good, torch.tensor([row]))):
        with pytest.raises(ValueError, match=message):
            tree.lca_heights(*rows)


@pytest.mark.parametrize("seed", range(10))
def test_path_heights_are_the_longest_ways_down_by_a_loop(seed):
    labels = random_labels(seed)  # ids are unique within their parent only
    paths = [tuple(i for i in row if i != PAD) for row in labels.tolist()]
    expected = [
        [
            max(len(other) for other in paths if other[:k] == path[:k]) - k if k <= len(path) else PAD
            for k in range(labels.shape[1] + 1)
        ]
        for path in paths
    ]
    assert path_heights(labels).tolist() == expected
    assert path_heights(labels[:0]).tolist() == []


def test_lca_heights_of_a_tree_without_levels_are_0():
    rows = torch.empty(2, 0, dtype=torch.int64)
    assert Taxonomy([()], ()).lca_heights(rows, rows).tolist() == [[0, 0], [0, 0]]
