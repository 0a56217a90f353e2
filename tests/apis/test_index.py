"""The index: search and classification against brute force, in the tree too."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from hierpretrain.apis.branches import find_branch, label_paths
from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.apis.neighbours import Classification, Neighbour
from hierpretrain.evaluation import Embeddings
from hierpretrain.functional.approximate import search_parameters
from hierpretrain.functional.sampling import sample_indices
from hierpretrain.taxonomy import PAD, Taxonomy, leads_to
from tests.functional.test_approximate import recall_by_brute_force
from tests.reference import tree_knn as reference

TREE = Taxonomy(
    [
        ("animal", "cat", "siamese"),
        ("animal", "cat", "tabby"),
        ("animal", "dog"),
        ("food", "fruit", "apple"),
        ("food", "fruit", "cherry"),
        ("tool",),
        ("toy", "dog"),
    ],
    ("kingdom", "kind", "breed"),
)
NODES = [TREE.decode([*row.tolist(), *[PAD] * (3 - level)]) for level in (1, 2, 3) for row in TREE.node_labels(level)]


def images(seed=0, number=60, dim=6, several=False, unlabelled=False, tree=TREE, prefix="photos/", **more):
    """Random embeddings at random nodes of any depth."""
    generator = np.random.default_rng(seed)
    items = []
    for _ in range(number if tree.num_levels else 0):
        count = generator.integers(1, 4) if several else 1
        items.append([NODES[i] for i in generator.choice(len(NODES), count)])
        if unlabelled and generator.random() < 0.3:
            items[-1] = [()]
    return Embeddings(
        features=torch.nn.functional.normalize(torch.from_numpy(generator.standard_normal((number, dim), np.float32))),
        labels=tree.encode(items) if items else torch.empty(number, 0, dtype=torch.int64),
        extra_labels=torch.empty(number, 0, dtype=torch.int64),
        splits=["all"] * number,
        paths=[f"{prefix}{i}.jpg" for i in range(number)],
        taxonomy=tree,
        extra_names=(),
        **more,
    )


def build(embedded, **options):
    return EmbeddingIndex.build(
        embedded, model="resnet, epoch_5.pth", fingerprint="0123abcd", **{"log": silent, **options}
    )


def silent(line):
    pass


def names_of(embedded):
    """The places of every image, by name."""
    return [label_paths(embedded.taxonomy, row) for row in embedded.labels]


def brute_force(gallery, query, k, level=None, within=None):
    """(path, score, node) of the neighbours of each query, from the names of the places alone."""
    groups, nodes = [], {}
    for j, paths in enumerate(names_of(gallery)):
        if level is None and within is None:
            groups.append([j])
            continue
        inside = [path for path in paths if within is None or path[: len(within)] == within]
        if level is None:
            groups.append([j] if inside else [])
        else:
            found = {path[:level] for path in inside if len(path) >= level}
            groups.append(
                [nodes.setdefault(node, int(gallery.taxonomy.encode([node])[0, level - 1])) for node in found]
            )
    by_id = {number: node for node, number in nodes.items()}
    answers = reference.nearest_groups(query.features, gallery.features, k, groups)
    return [[(gallery.paths[j], score, by_id.get(group, ())) for score, j, group in answer] for answer in answers]


def assert_found(results, gallery, query, expected, tolerance=1e-6):
    labels = dict(zip(gallery.paths, names_of(gallery), strict=True))
    assert [result.query for result in results] == query.paths
    for result, answer in zip(results, expected, strict=True):
        assert [(found.path, found.node) for found in result.neighbours] == [(path, node) for path, _, node in answer]
        assert [found.score for found in result.neighbours] == pytest.approx(
            [score for _, score, _ in answer], rel=0, abs=tolerance
        )
        assert all(found.labels == labels[found.path] for found in result.neighbours)


# ---------------------------------------------------------------- search
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_search_equals_brute_force(kind, several, seed):
    gallery = images(seed, 60 + 7 * seed, several=several, unlabelled=True)
    if kind == "flat":
        gallery.features[5] = gallery.features[40]  # equal images stand in their order
    query = images(seed + 50, 5, prefix="new/")
    query.features[0] = gallery.features[40]
    index = build(gallery, kind=kind)
    for level, within in [
        (None, None),
        (1, None),
        ("kind", None),
        (-1, None),
        (None, ("animal",)),
        (None, ("food", "fruit", "cherry")),
        ("kind", ("animal",)),
        ("kingdom", ("animal", "cat")),
        ("breed", ("tool",)),
    ]:
        number = None if level is None else TREE.level(level)
        expected = brute_force(gallery, query, 200, number, within)
        for k in (1, 4, 200):
            results = index.search(query, k, level=level, within=within)
            assert_found(results, gallery, query, [answer[:k] for answer in expected])
    assert index.search(query, level="breed", within="tool")[0].neighbours == ()


@pytest.mark.parametrize("half", [False, True])
def test_no_score_is_above_1(half):
    gallery = images(0, 200, 96)
    scores = [result.neighbours[0].score for result in build(gallery, half=half).search(gallery, 1)]
    assert max(scores) == 1.0
    assert scores == pytest.approx([1.0] * 200, abs=1e-3)


def test_one_node_does_not_hide_the_others():
    gallery = images(0, 400, 8)
    near = gallery.features[:, 0].argsort(descending=True)[:300]
    gallery.labels[near] = TREE.encode([("animal", "cat", "tabby")])
    query = images(1, 1, 8)
    query.features[0] = torch.eye(8)[0]
    for kind in ("flat", "ivf", "hnsw"):
        index = build(gallery, kind=kind)
        found = index.search(query, 4, level="breed")[0].neighbours
        assert len({neighbour.node for neighbour in found}) == 4
        assert_found(index.search(query, 4, level="breed"), gallery, query, brute_force(gallery, query, 4, 3))


def test_an_image_of_two_places_stands_for_both():
    tree = Taxonomy([("fruit", "tomato"), ("vegetable", "tomato"), ("tool", "saw")], ("kind", "crop"))
    gallery = images(0, 2, tree=Taxonomy([], ()))
    labels = tree.encode([[("fruit", "tomato"), ("vegetable", "tomato")], ("tool", "saw")])
    gallery = Embeddings(**{**vars(gallery), "labels": labels, "taxonomy": tree})
    index = build(gallery)
    query = Embeddings(**{**vars(gallery), "features": gallery.features[:1], "paths": ["q"], "splits": ["all"]})
    found = index.search(query, level="crop")[0].neighbours
    assert [neighbour.node for neighbour in found] == [("fruit", "tomato"), ("vegetable", "tomato"), ("tool", "saw")]
    assert found[0].labels == found[1].labels == (("fruit", "tomato"), ("vegetable", "tomato"))
    both = index.search(query, within="vegetable")[0].neighbours
    assert both == (Neighbour("photos/0.jpg", pytest.approx(1), (("fruit", "tomato"), ("vegetable", "tomato"))),)
    assert [found.node for found in index.search(query, level=2, within="fruit")[0].neighbours] == [("fruit", "tomato")]


def test_the_exact_kind_equals_all_pairs_and_finds_a_query_itself():
    gallery = images(0, 300, 32)
    results = build(gallery).search(gallery, 10)
    similarity = gallery.features.double() @ gallery.features.double().T
    for i, (result, row) in enumerate(zip(results, similarity.tolist(), strict=True)):
        order = sorted(range(300), key=lambda j: (-row[j], j))[:10]
        assert [found.path for found in result.neighbours] == [gallery.paths[j] for j in order]
        assert result.neighbours[0].path == gallery.paths[i]
        assert [found.score for found in result.neighbours] == pytest.approx([row[j] for j in order], abs=1e-6)


def test_images_without_labels_can_be_searched():
    gallery = images(0, 30, tree=Taxonomy([], ()))
    index = build(gallery)
    assert_found(index.search(gallery, 3), gallery, gallery, brute_force(gallery, gallery, 3))
    assert index.search(gallery)[0].neighbours[0].labels == ()
    with pytest.raises(ValueError, match="there is no level 'kind': the images of the index have no labels"):
        index.search(gallery, level="kind")
    with pytest.raises(ValueError, match="no branch 'cat': the tree is empty, for the images have no labels"):
        index.search(gallery, within="cat")
    with pytest.raises(ValueError, match="to classify, images of the index need labels, and none has one"):
        index.classify(gallery)


def test_search_errors():
    index, query = build(images()), images(1, 3)
    with pytest.raises(ValueError, match="k must be at least 1; it is 0"):
        index.search(query, 0)
    with pytest.raises(ValueError, match="k must be at least 1; it is -2"):
        index.search(query, -2, within="animal")
    with pytest.raises(ValueError, match=r"no level 'colour': levels are 1 \(coarsest\) to 3"):
        index.search(query, level="colour")
    with pytest.raises(ValueError, match=r"no level 1.0: levels are 1 \(coarsest\) to 3"):
        index.search(query, level=1.0)
    for k in (2.0, 1.5, float("nan"), "2", True):
        for ask in (index.search, index.classify):
            with pytest.raises(ValueError, match=f"k must be a whole number; it is {k!r}"):
                ask(query, k=k)
    with pytest.raises(ValueError, match=r"threshold must be above 0 and up to 1, .* it is '0\.5'"):
        index.classify(query, threshold="0.5")
    with pytest.raises(ValueError, match="must come from one model and have one D; they have 4 and 6"):
        index.search(images(1, 3, 4))


# ---------------------------------------------------------------- branches
def test_branches_by_path_and_by_name():
    for branch in ("animal/cat", ("animal", "cat"), ["animal", "cat"], "cat"):
        assert TREE.decode(find_branch(TREE, branch)[0]) == ("animal", "cat")
    assert TREE.decode(find_branch(TREE, "toy/dog")[0]) == ("toy", "dog")
    tree = Taxonomy([("cat",), ("toy", "cat")], ("kind", "thing"))
    assert tree.decode(find_branch(tree, "cat")[0]) == ("cat",)  # a whole path goes before a name
    slash = Taxonomy([("a/b", "c"), ("d",)], ("one", "two"))
    assert slash.decode(find_branch(slash, "a/b/c")[0]) == ("a/b", "c")


def test_branch_errors():
    with pytest.raises(ValueError, match="2 nodes of the tree have the name 'dog': 'animal/dog', 'toy/dog'; give the"):
        find_branch(TREE, "dog")
    slashes = Taxonomy([("a/b", "c"), ("a", "b/c")], ("one", "two"))
    with pytest.raises(
        ValueError, match=r"'a/b/c': \[\"a\", \"b/c\"\], \[\"a/b\", \"c\"\] \(lists, because names hold"
    ):
        find_branch(slashes, "a/b/c")
    assert [slashes.decode(find_branch(slashes, path)[0]) for path in (("a/b", "c"), ("a", "b/c"))] == [
        ("a/b", "c"),
        ("a", "b/c"),
    ]
    with pytest.raises(ValueError, match="no branch 'cheri'; did you mean 'food/fruit/cherry'"):
        find_branch(TREE, "cheri")
    with pytest.raises(
        ValueError, match=r"no branch 'animal/catt'; did you mean 'animal/cat'.*topmost nodes are 'animal'"
    ):
        find_branch(TREE, "animal/catt")
    with pytest.raises(ValueError, match=r"no branch \('cat',\); did you mean 'animal/cat'"):
        find_branch(TREE, ("cat",))  # a sequence is a path
    with pytest.raises(ValueError, match=r"no branch 'zzzz'; give the names from below the root. Its 4 topmost"):
        find_branch(TREE, "zzzz")
    with pytest.raises(ValueError, match="no branch ''"):
        find_branch(TREE, "")
    for branch in (3, [3], None):
        with pytest.raises(ValueError, match="a branch must be a name, or the names from below the root; it is "):
            find_branch(TREE, branch)


def test_membership_equals_prefixes_of_names():
    embedded = images(3, 80, several=True, unlabelled=True)
    for node in NODES:
        inside = leads_to(embedded.labels, find_branch(TREE, node)).any(1).tolist()
        assert inside == [any(path[: len(node)] == node for path in paths) for paths in names_of(embedded)]


# ---------------------------------------------------------------- classification
@pytest.mark.parametrize("kind", ["flat", "ivf", "hnsw"])
@pytest.mark.parametrize("several", [False, True])
def test_classification_equals_the_oracle(kind, several):
    gallery = images(0, 120, several=several, unlabelled=True)
    query = images(1, 40)
    index = build(gallery, kind=kind)
    labelled = [[j] if paths else [PAD] for j, paths in enumerate(names_of(gallery))]
    for k, temperature, threshold in [(1, 0.07, 0.5), (7, 0.3, 0.4), (20, 1.0, 0.2), (500, 0.1, 1.0)]:
        nearest = reference.nearest_groups(query.features, gallery.features, k, labelled)
        scores = torch.tensor([[score for score, _, _ in answer] for answer in nearest], dtype=torch.float64)
        rows = torch.tensor([[row for _, row, _ in answer] for answer in nearest])
        expected = reference.tree_knn(scores, rows, gallery.labels, temperature)
        found = index.classify(query, k=k, temperature=temperature, threshold=threshold)
        for path, one, (ids, shares) in zip(query.paths, found, expected, strict=True):
            names = TREE.decode(ids + [PAD] * (3 - len(ids)))
            accepted = sum(share >= threshold - 1e-9 for share in shares)
            assert (one.query, one.path) == (path, names[:accepted])
            assert one.confidences == pytest.approx(shares[:accepted], abs=1e-6)
            if accepted == len(names):
                assert one.next is None
            else:
                assert one.next == (names[accepted], pytest.approx(shares[accepted], abs=1e-6))


def test_a_query_in_the_index_is_classified_as_itself_by_one_vote():
    gallery = images(0, 50)
    for one, paths in zip(build(gallery).classify(gallery, k=1, threshold=1), names_of(gallery), strict=True):
        assert one.path == paths[0]
        assert one.confidences == (1.0,) * len(paths[0])
        assert one.next is None


def test_classification_reads_well():
    assert str(Classification("q", ("a", "b"), (1.0, 0.5))) == "a (1.00) / b (0.50)"
    assert str(Classification("q", (), ())) == "unknown"


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.01, float("nan")])
def test_threshold_errors(threshold):
    with pytest.raises(
        ValueError, match=f"threshold must be above 0 and up to 1, a fraction of the votes; it is {threshold}"
    ):
        build(images()).classify(images(1, 2), threshold=threshold)


def test_classification_errors():
    index = build(images())
    with pytest.raises(ValueError, match="k must be at least 1; it is 0"):
        index.classify(images(1, 2), k=0)
    with pytest.raises(ValueError, match="temperature must be above 0; it is 0"):
        index.classify(images(1, 2), temperature=0)


# ---------------------------------------------------------------- building
@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_the_recall_that_is_printed_is_that_of_brute_force(kind):
    gallery, lines = images(0, 1500, 32), []
    index = build(gallery, kind=kind, seed=4, log=lines.append)
    recall = recall_by_brute_force(index._now.largest.index, gallery.features, sample_indices(1500, 1000, seed=4))
    assert index.recall == {"recall@10": pytest.approx(recall, abs=1e-9)}
    ((name, value),) = search_parameters(index._now.largest.index).items()
    assert lines == [f"recall@10 against exact search: {recall:.3f} (1,000 queries, {name} {value})"]


def test_a_recall_below_the_target_is_printed(monkeypatch):
    monkeypatch.setattr("hierpretrain.functional.approximate._WIDEST", 16)
    lines = []
    build(images(0, 3000, 64), kind="hnsw", log=lines.append)
    assert lines[1] == "this is below 0.99, the widest search notwithstanding; kind='flat' finds all"


def test_nothing_is_measured_where_search_is_exact_or_there_is_one_image():
    lines = []
    assert build(images(), log=lines.append).recall == {}
    assert build(images(number=1), kind="hnsw", log=lines.append).recall == {}
    assert build(images(), half=True, log=lines.append).recall == {}
    assert lines == []


def test_what_an_index_says_of_itself():
    index = build(images(), half=True, kind="hnsw")
    assert (len(index), index.width, index.kind, index.half) == (60, 6, "hnsw", True)
    assert repr(index) == f"EmbeddingIndex(60 images, 6 x float16, 'hnsw', {TREE!r})"


def test_building_errors():
    embedded = images()
    for change, message in [
        (dict(labels=embedded.labels[:, :2]), "label rows of this taxonomy have 3 entries; these have 2"),
        (dict(labels=embedded.labels[1:]), "as many labels and paths as embeddings; there are 59, 60 and 60"),
        (dict(paths=embedded.paths[2:]), "there are 60, 58 and 60"),
        (dict(paths=["a.jpg"] * 60), "images must be given once; 'a.jpg' are given several times: leave"),
        (dict(labels=torch.tensor([[0, 2, 2]]).repeat(60, 1)), r"label row \[0, 2, 2\] is no path"),
        (dict(labels=torch.tensor([[9, PAD, PAD]]).repeat(60, 1)), "level 1 has nodes 0 to 3, not 9"),
        (dict(labels=torch.tensor([[0, PAD, 1]]).repeat(60, 1)), r"PAD \(-1\) only on the right"),
        (dict(labels=embedded.labels.float()), "labels must be integers"),
        (dict(features=embedded.features * 0), "row 0 is all zero"),
        (dict(keys=[*"a" * 59, 7]), "keys must be texts, which an index can keep; 7 is none: turn it into one"),
        (dict(paths=[*embedded.paths[1:], Path("a.jpg")]), r"paths must be texts, .*; PosixPath\('a.jpg'\) is none"),
        (dict(metadata={"price": [1.5] * 60}), "price must be texts, .*; 1.5 is none"),
        (dict(metadata={"price": "3" * 60}), "price must be texts, .*; '3333.* is none"),
        (dict(metadata={5: ["3"] * 60}), r"names of metadata must be texts; they are \[5\]: turn them into texts"),
        (dict(skipped={"b.jpg": None}), "skipped must be texts, .*; None is none"),
    ]:
        with pytest.raises(ValueError, match=message):
            build(Embeddings(**{**vars(embedded), **change}))
    with pytest.raises(ValueError, match="kind must be 'auto', 'flat', 'ivf' or 'hnsw'; it is 'lsh'"):
        build(embedded, kind="lsh")


# ---------------------------------------------------------------- the model
def test_an_index_of_another_model_is_refused():
    index = build(images())
    index.check_model("0123abcd", "whatever it is called", 6)
    with pytest.raises(
        ValueError,
        match=r"made by 'resnet, epoch_5.pth' \(fingerprint 0123abcd\), not by 'resnet, epoch_6.pth' \(ffff\).*make "
        "the index anew",
    ):
        index.check_model("ffff", "resnet, epoch_6.pth", 6)
    with pytest.raises(
        ValueError, match=r"made by 'resnet, epoch_5.pth' with embeddings of 6 numbers; 'vgg' gives 4096"
    ):
        index.check_model("ffff", "vgg", 4096)


def test_the_model_of_embeddings_is_the_index_s_where_both_are_known():
    gallery = replace(images(), model="ours", fingerprint="1" * 16)
    for model, fingerprint in (("ours", "1" * 16), ("any", ""), ("", "")):
        index = EmbeddingIndex.build(gallery, model=model, fingerprint=fingerprint, log=lambda line: None)
        assert len(index.search(gallery, 1)) == len(gallery.paths)
    message = "the embeddings are of 'ours' .fingerprint 1{16}., and the index would be of 'other' .2{16}.: embed the"
    with pytest.raises(ValueError, match=message):
        EmbeddingIndex.build(gallery, model="other", fingerprint="2" * 16, log=lambda line: None)


def test_columns_may_be_arrays():
    gallery = images(number=3)
    arrays = replace(
        gallery,
        paths=np.array(gallery.paths),
        keys=np.array(["a", "b", "c"]),
        metadata={"price": np.array(["1", "2", "3"])},
    )
    index = build(arrays)
    assert (index.paths, index.keys) == (gallery.paths, ["a", "b", "c"])
    index.add(embeddings=np.eye(6, dtype=np.float32)[:1], keys=["d"], paths=[np.array(["animal", "cat"])])
    assert len(index) == 4
