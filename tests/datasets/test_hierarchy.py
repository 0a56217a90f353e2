import itertools
import re

import numpy as np
import pytest

from hierpretrain.datasets.hierarchy import ClassHierarchy
from hierpretrain.taxonomy import Taxonomy

# r ─┬─ a ─── b ─┬─ x            y hangs below b (level 3) and, later in the file, below r's child c (level 2);
#    │           ├─ y            z below d is one level deeper than below c
#    │           └─ dummy1 ─┬─ u
#    │                      └─ v
#    └─ c ─┬─ y
#          ├─ z
#          └─ d ─── z
EDGES = [
    *(("r", "a"), ("r", "c"), ("a", "b"), ("b", "x"), ("b", "y"), ("b", "dummy1"), ("dummy1", "u"), ("dummy1", "v")),
    *(("c", "y"), ("c", "z"), ("c", "d"), ("d", "z")),
]
LEAVES = ("x", "y", "z", "u", "v")


@pytest.mark.parametrize(
    ("policy", "collapse", "expected"),
    [
        ("first", False, {"x": "a b x", "y": "a b y", "z": "c z", "u": "a b u", "v": "a b v"}),
        ("last", False, {"x": "a b x", "y": "c y", "z": "c d z", "u": "a b u", "v": "a b v"}),
        ("longest", False, {"x": "a b x", "y": "a b y", "z": "c d z", "u": "a b u", "v": "a b v"}),
        ("drop", False, {"x": "a b x", "u": "a b u", "v": "a b v"}),
        ("first", True, {"x": "b x", "y": "b y", "z": "z", "u": "b u", "v": "b v"}),
        ("last", True, {"x": "b x", "y": "c y", "z": "c z", "u": "b u", "v": "b v"}),
        ("longest", True, {"x": "b x", "y": "b y", "z": "z", "u": "b u", "v": "b v"}),
        ("drop", True, {"x": "x", "u": "u", "v": "v"}),  # the tree starts at b
    ],
)
def test_policies(logged, policy, collapse, expected):
    found = ClassHierarchy(EDGES).paths(LEAVES, policy=policy, collapse=collapse)
    assert {leaf: " ".join(path) for leaf, path in found.paths.items()} == expected
    assert list(found.paths) == [leaf for leaf in LEAVES if leaf in expected]
    assert found.num_ambiguous == 2
    assert found.dropped == (("y", "z") if policy == "drop" else ())
    assert logged[0] == f"the hierarchy: 2 nodes have several parents; policy {policy!r} decided"
    assert logged[1:] == (["the hierarchy: left out 2 of 5 classes: 'y', 'z'"] if policy == "drop" else [])
    assert ClassHierarchy(EDGES, policy=policy).paths(LEAVES, collapse=collapse) == found


def test_several_parents_are_an_error():
    with pytest.raises(ValueError, match=r"2 nodes have several parents, the first 'y': b, c; choose a policy of"):
        ClassHierarchy(EDGES).paths(LEAVES)
    found = ClassHierarchy(EDGES).paths(["x", "u"])  # above these there are none
    assert found.paths == {"x": ("x",), "u": ("u",)}
    assert ClassHierarchy([("r", "x"), ("r", "y"), ("r", "x")]).parents["x"] == ("r",)  # a repeated line is no parent
    with pytest.raises(ValueError, match="policy='drop' drops every class"):
        ClassHierarchy(EDGES).paths(["y", "z"], policy="drop")


def test_dummies(logged):
    tree = ClassHierarchy(EDGES, policy="first")
    assert tree.paths(LEAVES, drop_dummies=False).paths["u"] == ("b", "dummy1", "u")
    assert tree.paths(["x", "dummy1", "u"]).paths == {"x": ("x",), "dummy1": ("dummy1",), "u": ("dummy1", "u")}
    assert tree.paths(["x", "u"], drop_dummies=False, collapse=False).paths["u"] == ("a", "b", "dummy1", "u")
    assert ClassHierarchy([("dummy1", "x"), ("dummy1", "y")]).paths("xy").paths == {"x": ("x",), "y": ("y",)}


def test_depths():
    edges = [(name[:-1] or "root", name) for name in ("a", "aa", "aaa", "aaaa", "aaab", "aab", "ab", "b")]
    tree = ClassHierarchy(edges)
    leaves = ("aaaa", "aaab", "aab", "ab", "b")
    cut = {depths: tree.paths(leaves, depths=depths).paths for depths in ((1,), (2,), (3,), (1, 3), (7,))}
    assert cut[1,] == {
        "aaaa": ("a", "aaaa"),
        "aaab": ("a", "aaab"),
        "aab": ("a", "aab"),
        "ab": ("a", "ab"),
        "b": ("b",),
    }
    assert cut[2,] == {"aaaa": ("aa", "aaaa"), "aaab": ("aa", "aaab"), "aab": ("aa", "aab"), "ab": ("ab",), "b": ("b",)}
    assert cut[1, 3] == {
        "aaaa": ("a", "aaa", "aaaa"),
        "aaab": ("a", "aaa", "aaab"),
        "aab": ("a", "aab"),
        "ab": ("a", "ab"),
        "b": ("b",),
    }
    assert cut[3,] == {"aaaa": ("aaa", "aaaa"), "aaab": ("aaa", "aaab"), "aab": ("aab",), "ab": ("ab",), "b": ("b",)}
    assert cut[7,] == {leaf: (leaf,) for leaf in leaves}
    for wrong in ((), (0,), (2, 1), (1, 1), (True,), (1.5,)):
        with pytest.raises(ValueError, match="depths must"):
            tree.paths(leaves, depths=wrong)


def test_classes_above_classes():
    tree = ClassHierarchy([("r", "a"), ("a", "b"), ("b", "c"), ("a", "d")])
    assert tree.paths("abcd").paths == {"a": ("a",), "b": ("a", "b"), "c": ("a", "b", "c"), "d": ("a", "d")}
    assert tree.paths("bcd").paths == {"b": ("b",), "c": ("b", "c"), "d": ("d",)}
    assert tree.paths("rcd").paths == {"r": ("r",), "c": ("r", "a", "c"), "d": ("r", "a", "d")}
    assert tree.paths("c").paths == {"c": ("c",)}
    assert tree.paths("bc", depths=(3,)).paths == {"b": ("b",), "c": ("b", "c")}


def test_depths_keep_classes_above_classes():
    edges = [("all", "a"), ("all", "e"), ("a", "b"), ("a", "d"), ("b", "c"), ("b", "f")]
    tree = ClassHierarchy(edges)
    paths = {"b": ("a", "b"), "c": ("a", "b", "c"), "d": ("a", "d"), "e": ("e",), "f": ("a", "b", "f")}
    assert tree.paths("bcdef", depths=(1,)).paths == paths
    assert tree.paths("cdef", depths=(1,)).paths == {
        "c": ("a", "c"),
        "d": ("a", "d"),
        "e": ("e",),
        "f": ("a", "f"),
    }
    assert tree.paths("bcdef", depths=(2,)).paths == {leaf: path[path[0] == "a" :] for leaf, path in paths.items()}
    with_root = tree.paths(["all", *"cdef"], depths=(1,)).paths  # depths count from below the root, also if it stays
    assert with_root == {
        "all": ("all",),
        "c": ("all", "a", "c"),
        "d": ("all", "a", "d"),
        "e": ("all", "e"),
        "f": ("all", "a", "f"),
    }


def test_roots(logged):
    tree = ClassHierarchy([("r", "a"), ("s", "a"), ("r", "b"), ("s", "c"), ("a", "x"), ("a", "y")], source="tree.txt")
    with pytest.raises(
        ValueError, match=r"tree.txt: 2 nodes above the classes have no parent: 'r', 's'; choose one as"
    ):
        tree.paths("xyb")
    assert tree.paths("xyb", root="r").paths == {"x": ("a", "x"), "y": ("a", "y"), "b": ("b",)}
    assert tree.paths("xy", root="a").paths == {"x": ("x",), "y": ("y",)}
    with pytest.raises(ValueError, match=r"tree.txt lacks 1 of the 3 classes below the root: 'b'; correct the classes"):
        tree.paths("xyb", root="s")
    found = tree.paths("bxcy", root="s", missing="drop")
    assert (found.paths, found.dropped) == ({"x": ("a", "x"), "c": ("c",), "y": ("a", "y")}, ("b",))
    with pytest.raises(ValueError, match=r"tree.txt has no node 'q'; correct the name"):
        tree.paths("xy", root="q")
    assert tree.paths("b").paths == {"b": ("b",)}  # the other root is above none of these


def test_missing_classes(logged):
    tree = ClassHierarchy(EDGES, policy="first", hint="take release 3.0")
    with pytest.raises(
        ValueError, match=r"lacks 2 of the 4 classes: 'n1', 'n2'; take release 3.0, or leave them out by missing='drop'"
    ):
        tree.paths(["x", "n1", "u", "n2"])
    assert tree.paths(["x", "n1", "u", "n2"], missing="drop").dropped == ("n1", "n2")
    assert logged == ["the hierarchy: left out 2 of 4 classes: 'n1', 'n2'"]
    with pytest.raises(ValueError, match=r"lacks 2 of the 2 classes: 'n1', 'n2'; take release 3.0$"):
        tree.paths(["n1", "n2"], missing="drop")
    with pytest.raises(ValueError, match="there is no class to find"):
        tree.paths([])
    with pytest.raises(ValueError, match="missing must be 'error' or 'drop'; it is 'skip'"):
        tree.paths(["x"], missing="skip")
    with pytest.raises(ValueError, match="policy must be 'error', 'first', 'last', 'longest' or 'drop'; it is 'any'"):
        tree.paths(["x"], policy="any")
    with pytest.raises(ValueError, match="policy must be 'error', 'first'"):
        ClassHierarchy(EDGES, policy="any")


def test_not_a_hierarchy():
    with pytest.raises(ValueError, match=r"f.txt has no edge"):
        ClassHierarchy([], source="f.txt")
    with pytest.raises(ValueError, match=r"f.txt: the cycle .* makes a node its own ancestor; remove one") as caught:
        ClassHierarchy([("r", "a"), ("a", "b"), ("b", "c"), ("c", "a"), ("c", "x")], source="f.txt")
    cycle = re.search("cycle (.*) makes", str(caught.value))[1].split(" -> ")
    assert cycle[0] == cycle[-1]
    assert sorted(cycle[1:]) == ["a", "b", "c"]
    assert set(itertools.pairwise(cycle)) == {("a", "b"), ("b", "c"), ("c", "a")}
    with pytest.raises(ValueError, match=r"f.txt:7: the cycle a -> a makes"):
        ClassHierarchy([("r", "a"), ("a", "a")], source="f.txt", lines=[3, 7])


def test_names_are_unique():
    tree = ClassHierarchy([("r", "n1"), ("r", "n2")], names={"n1": "crane", "n2": "crane , lifting device"})
    assert tree.paths(["n1", "n2"]).paths == {"n1": ("n1 crane",), "n2": ("n2 crane",)}
    assert tree.name("r") == "r"


def test_superclasses(logged):
    tree = ClassHierarchy(EDGES, names={"b": "bee, insect"})
    found = tree.superclasses(["b", "d"], ["x", "y", "z", "u", "c"])
    b = "b bee"
    assert found.paths == {"x": (b, "x"), "y": (b, "y"), "z": ("d", "z"), "u": (b, "u")}
    assert found.dropped == ("c",)
    assert logged == ["the hierarchy: left out 1 of 5 classes: 'c'"]
    with pytest.raises(ValueError, match="the class 'y' is below the superclasses b bee, c; take one of them out, or"):
        tree.superclasses(["b", "c"], LEAVES)
    assert tree.superclasses(["b", "c"], LEAVES, overlap="first").paths["y"] == (b, "y")
    assert tree.superclasses(["c", "b"], LEAVES, overlap="first").paths["y"] == ("c", "y")
    assert tree.superclasses(["x", "d"], ["x", "z"]).paths == {"x": ("x", "x"), "z": ("d", "z")}
    with pytest.raises(ValueError, match="no class is below the superclasses 'd'; take them out"):
        tree.superclasses(["b", "d"], ["x"])
    with pytest.raises(ValueError, match="has no node 'q'"):
        tree.superclasses(["q"], ["x"])
    with pytest.raises(ValueError, match="lacks 1 of the 2 classes"):
        tree.superclasses(["b"], ["x", "q"])
    assert tree.superclasses(["b"], ["x", "q"], missing="drop").dropped == ("q",)
    with pytest.raises(ValueError, match="overlap must be 'error' or 'first'; it is 'last'"):
        tree.superclasses(["b"], ["x"], overlap="last")


def test_nodes_at_level():
    tree = ClassHierarchy(EDGES)
    levels = {level: tree.nodes_at_level(level, LEAVES) for level in range(5)}
    assert levels == {0: ("r",), 1: ("a", "c"), 2: ("b", "d"), 3: ("dummy1", "x", "y", "z"), 4: ("u", "v")}
    assert tree.nodes_at_level(2, LEAVES, min_leaves=2) == ("b",)
    assert tree.nodes_at_level(1, LEAVES, min_leaves=2) == ("a", "c")
    assert tree.nodes_at_level(3, LEAVES, below="c") == ("y", "z")
    assert tree.nodes_at_level(1, "yz", root="c") == ("d", "y")
    assert tree.nodes_at_level(1, ["x", "q"], missing="drop") == ("a",)
    with pytest.raises(ValueError, match=r"no node at level 5 with at least 1 classes; levels are 0 .* to 4"):
        tree.nodes_at_level(5, LEAVES)
    with pytest.raises(ValueError, match="no node at level 4 with at least 2 classes below c;"):
        tree.nodes_at_level(4, LEAVES, below="c", min_leaves=2)
    with pytest.raises(ValueError, match="has no node 'q'"):
        tree.nodes_at_level(1, LEAVES, below="q")


# ---------------------------------------------------------------- against all paths, written out
def all_paths(edges, node):
    """Every path from a node without a parent to the node, depth first."""
    above = list(dict.fromkeys(parent for parent, child in edges if child == node))
    return [[*path, node] for parent in above for path in all_paths(edges, parent)] or [[node]]


def collapsed(paths):
    """Removes, again and again, an inner node that has one child only."""
    paths = {leaf: list(path) for leaf, path in paths.items()}
    while True:
        children = {}
        for path in paths.values():
            for parent, child in itertools.pairwise(path):
                children.setdefault(parent, set()).add(child)
        single = [node for node, below in children.items() if len(below) == 1 and node not in paths]
        if not single:
            return paths
        for path in paths.values():
            path[:] = [node for node in path if node != single[0]]


@pytest.mark.parametrize("seed", range(30))
def test_random_graphs(seed, logged):
    generator = np.random.default_rng(seed)
    size = int(generator.integers(4, 16))
    edges = [("n00", f"n{i:02}") for i in range(1, size) if generator.random() < 0.2]
    for i in range(1, size):
        chosen = generator.choice(i, size=min(i, int(generator.integers(1, 4))), replace=False).tolist()
        edges += [(f"n{parent:02}", f"n{i:02}") for parent in chosen]
    edges = [edges[i] for i in generator.permutation(len(edges))]
    inner = {parent for parent, _ in edges}
    leaves = [node for node in sorted({child for _, child in edges}) if node not in inner or generator.random() < 0.2]
    tree = ClassHierarchy(edges)
    paths = {leaf: all_paths(edges, leaf) for leaf in leaves}
    above = {node for of_leaf in paths.values() for path in of_leaf for node in path}

    longest = {leaf: max(map(len, of_leaf)) for leaf, of_leaf in paths.items()}
    found = tree.paths(leaves, policy="longest", collapse=False).paths
    assert {leaf: len(path) + 1 for leaf, path in found.items()} == longest
    assert all(["n00", *path] in paths[leaf] for leaf, path in found.items())

    unique = {leaf: of_leaf[0][1:] for leaf, of_leaf in paths.items() if len(of_leaf) == 1}
    if unique:
        found = tree.paths(leaves, policy="drop", collapse=False)
        assert {leaf: list(path) for leaf, path in found.paths.items()} == unique

    first = {}
    for leaf in leaves:
        first[leaf] = [leaf]
        while above_it := [parent for parent, child in edges if child == first[leaf][0]]:
            first[leaf].insert(0, above_it[0])
    expected = collapsed(first)
    shared_top = len({path[0] for path in expected.values()}) == 1
    for path in expected.values():
        if shared_top and path[0] not in leaves:
            del path[0]
    found = tree.paths(leaves, policy="first")
    assert {leaf: list(path) for leaf, path in found.paths.items()} == expected
    several = [node for node in above if len({parent for parent, child in edges if child == node}) > 1]
    assert found.num_ambiguous == len(several)
    Taxonomy(found.paths.values(), [f"level{i}" for i in range(max(map(len, found.paths.values())))])  # is a tree

    for level in range(max(longest.values())):
        nodes = [node for node in sorted(above) if max(map(len, all_paths(edges, node))) == level + 1]
        assert tree.nodes_at_level(level, leaves) == tuple(nodes)
