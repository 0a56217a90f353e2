"""One set of tests for the engines of an index, a folder with faiss and Milvus: the same answers, whatever changes."""

import logging
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest
import torch

from hierpretrain.apis.addresses import milvus_address
from hierpretrain.apis.branches import label_paths, nodes_of
from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.apis.index_changes import Change
from hierpretrain.evaluation import Embeddings
from hierpretrain.taxonomy import Taxonomy
from tests.apis.test_index import TREE, brute_force, build, images
from tests.apis.test_index_changes import Reading, assert_same_answers, joined, kills, picture, some  # noqa: F401
from tests.datasets.trees import write_image

ABOUT = dict(model="resnet, epoch_5.pth", fingerprint="0123abcd")


@pytest.fixture(params=["folder", "milvus"])
def make(request, tmp_path):
    """Returns a function that makes an index of embedded images, and one that opens it anew."""
    if request.param == "folder":

        def make(embedded, **about):
            index = EmbeddingIndex.build(embedded, kind="flat", log=lambda line: None, **(about or ABOUT))
            index.save(tmp_path / "index")
            return index, lambda: EmbeddingIndex.open(tmp_path / "index")

    else:
        pytest.importorskip("milvus_lite")
        from hierpretrain.apis.milvus import MilvusIndex

        address = f"milvus-lite://{tmp_path}/of many.db#photos"

        def make(embedded, **about):
            width = embedded.features.shape[1]
            index = MilvusIndex.create(address, width=width, **(about or ABOUT))
            index.add(embedded)
            return index, lambda: EmbeddingIndex.open(address)

    return make


def known(number, prefix, several=False, seed=0):
    """Images with keys and metadata, some with texts that are hard to quote."""
    colours = ["red", 'a "b" \\ c', "é\n'", ""]
    return images(
        seed,
        number,
        several=several,
        unlabelled=True,
        prefix=prefix,
        keys=[f"{prefix}K{i}" if i % 3 else "" for i in range(number)],
        metadata={"colour": [colours[i % 4] for i in range(number)]},
        digests=[f"{prefix}{i}" for i in range(number)],
    )


@pytest.mark.parametrize("several", [False, True])
def test_answers_are_those_of_brute_force(make, several):
    there, query = known(90, "photos/", several=several), images(1, 6, prefix="new/")
    there.features[5] = there.features[40]  # equal images stand in their order
    query.features[0] = there.features[40]
    index, reopen = make(there)
    for opened in (index, reopen()):
        assert len(opened) == 90
        assert opened.taxonomy == TREE
        for level, within in [
            (None, None),
            (None, ("animal",)),
            (None, ("food", "fruit", "cherry")),
            (1, None),
            ("kind", None),
            ("kind", ("animal",)),
            ("kingdom", ("animal", "cat")),
            ("breed", ("tool",)),
        ]:
            number = None if level is None else TREE.level(level)
            expected = brute_force(there, query, 200, number, within)
            for k in (1, 4, 200):
                for result, answer in zip(opened.search(query, k, level=level, within=within), expected, strict=True):
                    found = [(one.path, one.node) for one in result.neighbours]
                    assert found == [(path, node) for path, _, node in answer[:k]]
                    scores = [one.score for one in result.neighbours]
                    assert scores == pytest.approx([score for _, score, _ in answer[:k]], abs=1e-6)
        wanted = build(there).classify(query, k=9)
        assert list(map(str, opened.classify(query, k=9))) == list(map(str, wanted))


def test_what_it_learns_and_answers_is_the_same(make):
    there, held_out = known(120, "photos/", several=True), known(90, "held/", seed=1)
    query = images(2, 9, prefix="new/")
    folder = build(there)
    expected = folder.calibrate(held_out, precision=0.6, k=30)
    index, reopen = make(there)
    assert index.calibration is None
    found = index.calibrate(held_out, precision=0.6, k=30)
    for level, other in zip(found, expected, strict=True):
        assert level == pytest.approx(other, abs=1e-3, nan_ok=True)
    for opened in (index, reopen()):
        learned, wanted = opened.calibration, folder.calibration
        assert (learned.num_images, learned.k, learned.level_names) == (wanted.num_images, 30, wanted.level_names)
        assert learned.paths.temperature == wanted.paths.temperature
        answers, right = opened.answer(query), folder.answer(query)
        assert answers.nodes.equal(right.nodes)
        assert answers.num_named.equal(right.num_named)
        assert answers.confidences.numpy() == pytest.approx(right.confidences.numpy(), abs=1e-4)
        assert [one.path for one in opened.classify(query)] == [one.path for one in folder.classify(query)]
    with pytest.raises(ValueError, match="held-out images must not be in the index"):
        index.calibrate(there, precision=0.6)
    elsewhere = replace(held_out, digests=[*there.digests[:10], *held_out.digests[10:]])
    with pytest.raises(
        ValueError, match=r"by their file or their content, .*; '/.*/held/0\.jpg', .* are; leave them out"
    ):
        index.calibrate(elsewhere, precision=0.6)
    below = Taxonomy([("photos", *path) for path in TREE.node_paths()], ("level1", "level2", "level3", "level4"))
    too_deep = replace(held_out, labels=below.node_labels()[:1].repeat(90, 1), taxonomy=below)
    told = (
        r"none of these 90 is below one of its 'kingdom': a label of theirs is 'photos.*', and one of the index's '\w+"
    )
    with pytest.raises(ValueError, match=told):
        index.calibrate(too_deep, precision=0.6)
    assert index.calibration.k == 30  # the one that there was
    index.parts["calibration"] = {**index.parts["calibration"], "k": 0}
    with pytest.raises(ValueError, match=r"the calibration of the index (in|at) \S+.* is damaged: counts"):
        _ = index.calibration
    index.calibration = None
    assert "calibration" not in index.parts


def test_all_that_is_known_comes_back(make):
    there = known(12, "photos/", several=True)
    index, reopen = make(there)
    for opened in (index, reopen()):
        for row, result in enumerate(opened.search(there, 1)):
            (found,) = result.neighbours
            assert (found.path, found.key) == (there.paths[row], there.keys[row])
            assert found.metadata == ({"colour": text} if (text := there.metadata["colour"][row]) else {})
        assert (opened.paths, opened.keys) == (there.paths, list(there.keys))
        all_of_it = opened.embeddings()
        assert all_of_it.features.numpy() == pytest.approx(there.features.numpy(), abs=1e-6)
        assert (list(all_of_it.digests), all_of_it.metadata) == (list(there.digests), there.metadata)
        told = opened.info()
        assert (told["images"], told["width"], told["model"]) == (12, 6, "resnet, epoch_5.pth")
        assert (told["keys"], told["metadata"], told["carries_model"]) == (8, ["colour"], False)
        places = {path for row in there.labels for path in label_paths(TREE, row)}
        nodes = {path[:depth] for path in places for depth in range(1, len(path) + 1)}
        assert told["levels"] == {
            name: sum(len(node) == depth for node in nodes) for depth, name in enumerate(TREE.level_names, start=1)
        }


def test_metadata_filters(make):
    there, query = known(60, "photos/"), images(1, 3, prefix="new/")
    index, _ = make(there)
    for text in ("red", 'a "b" \\ c', "é\n'"):
        chosen = some(there, [i for i in range(60) if there.metadata["colour"][i] == text])
        for level, within in ((None, None), (None, ("animal",)), ("kind", ("animal",))):
            number = None if level is None else TREE.level(level)
            expected = brute_force(chosen, query, 7, number, within)
            found = index.search(query, 7, level=level, within=within, where={"colour": text})
            assert [[one.path for one in result.neighbours] for result in found] == [
                [path for path, _, _ in answer] for answer in expected
            ]
    with pytest.raises(ValueError, match="the index has no metadata 'color'; did you mean 'colour'"):
        index.search(query, where={"color": "red"})


@pytest.mark.parametrize(
    ("where", "within", "message"),
    [
        ({"colour": "rde"}, None, "^no image of the index has colour='rde'; did you mean 'red'?"),
        ({"colour": "mauve"}, None, "^no image of the index has colour='mauve'; there are 'blue', 'red'$"),
        ({"colour": ""}, None, "^every image of the index has a text in 'colour', and an empty one is asked for"),
        ({"colour": "red"}, "tool", "^no image of the index within 'tool' has colour='red': ask for less$"),
        ({"colour": "red", "size": "S"}, None, "^no image of the index has colour='red' and size='S': ask for less$"),
    ],
)
def test_a_search_that_no_image_fits_finds_none_and_who_asks_is_told(make, where, within, message):
    paths = [("animal", "cat"), ("animal", "dog"), ("tool",)]
    tree = Taxonomy(paths, ("kingdom", "kind"))
    there = images(0, 3, tree=Taxonomy([], ()), metadata={"colour": ["red", "red", "blue"], "size": ["", "L", "S"]})
    index, _ = make(replace(there, taxonomy=tree, labels=tree.encode(paths)))
    with pytest.raises(ValueError, match=message):
        index.check_fits(where, within)
    index.check_fits({"colour": "red"}, "animal")
    (found,) = index.search(images(1, 1), where=where, within=within)
    assert found.neighbours == ()


def test_nodes_whose_images_went_are_no_branches(make):
    paths = [("animal", "cat"), ("pet", "cat"), ("pet", "dog")]
    tree = Taxonomy(paths, ("kingdom", "kind"))
    there = replace(images(0, 3, tree=Taxonomy([], ())), taxonomy=tree, labels=tree.encode(paths))
    index, _ = make(there)
    with pytest.raises(ValueError, match="2 nodes of the tree have the name 'cat': 'animal/cat', 'pet/cat'"):
        index.check_search(within="cat")
    assert index.branches() == [("animal",), ("pet",), *paths]
    index.remove(there.paths[0])
    (found,) = index.search(images(1, 1), within="cat")
    assert [one.path for one in found.neighbours] == [there.paths[1]]
    for dead in ("animal/cat", ("animal",)):
        with pytest.raises(ValueError, match=r"the tree has no branch .*Its 1 topmost nodes are 'pet'$"):
            index.check_search(within=dead)
    assert index.branches() == [("pet",), *paths[1:]]
    assert index.info()["levels"] == {"kingdom": 1, "kind": 2}


def test_branches_are_read_once_as_long_as_nothing_changes(make, monkeypatch):
    paths = [("animal", "cat"), ("pet", "dog"), ("tool", "saw")]
    tree = Taxonomy(paths, ("kingdom", "kind"))
    there = replace(images(0, 3, tree=Taxonomy([], ())), taxonomy=tree, labels=tree.encode(paths))
    index, reopen = make(there)
    other, read = reopen(), []
    for engine in ("segments", "milvus"):
        monkeypatch.setattr(f"hierpretrain.apis.{engine}.nodes_of", lambda *args: read.append(1) or nodes_of(*args))
    for _ in range(2):
        assert index.info()["levels"] == {"kingdom": 3, "kind": 3}
        assert index.branches() == [("animal",), ("pet",), ("tool",), *paths]
        with pytest.raises(ValueError, match=r"Its 3 topmost nodes are 'animal', 'pet', 'tool'$"):
            index.check_search(within="zebra")
    assert read == [1]
    other.add(embeddings=there.features[:1] + 1, keys=["new"], paths=[("pet", "cat")])
    index.refresh()
    assert index.branches() == [("animal",), ("pet",), ("tool",), paths[0], ("pet", "cat"), *paths[1:]]
    other.remove("new")
    index.refresh()
    assert index.branches() == [("animal",), ("pet",), ("tool",), *paths]


def test_metadata_are_texts_to_filters_too(make):
    there = images(
        0, 4, metadata={"price": ["1", "1.5", "", "1"], "note": ["", "", "", "x"], "new": ["true", "", "true", ""]}
    )
    index, _ = make(there)
    for where, rows in (
        ({"price": 1}, {0, 3}),
        ({"price": 1.5}, {1}),
        ({"price": 1.0}, {0, 3}),
        ({"price": np.float32(1.5)}, {1}),
        ({"new": True}, {0, 2}),
        ({"price": ""}, {2}),
        ({"price": None}, {2}),
        ({"price": "1", "note": ""}, {0}),
    ):
        (found,) = index.search(images(1, 1), where=where)
        assert {neighbour.path for neighbour in found.neighbours} == {there.paths[row] for row in rows}
    with pytest.raises(ValueError, match=r"where takes one text of each name, .*; of 'price' it is \['1', '2'\]"):
        index.search(images(1, 1), where={"price": ["1", "2"]})


@pytest.mark.parametrize("kind", [float, np.float64, np.float32, Decimal])
def test_numbers_and_flags_are_texts_as_a_list_has_them(make, kind):
    index, _ = make(images(0, 2, metadata={"price": ["3", "0.5"], "new": ["true", "false"]}))
    flag = np.bool_ if kind in (np.float64, np.float32) else bool
    for where, number in (
        ({"price": kind(3.0)}, 0),
        ({"price": kind(0.5)}, 1),
        ({"new": flag(True)}, 0),
        ({"new": flag(False)}, 1),
    ):
        (found,) = index.search(images(1, 1), where=where)
        assert [one.path for one in found.neighbours] == [f"photos/{number}.jpg"]
    more = {"new": [flag(True), flag(False)], "price": [kind(3.0), kind("nan")]}
    index.add(embeddings=images(1, 2).features, keys=[kind(17.0), kind("inf")], metadata=more)
    rows = index.embeddings()
    assert list(rows.keys) == ["", "", "17", "inf"]
    assert rows.metadata["new"] == ["true", "false", "true", "false"]
    assert rows.metadata["price"] == ["3", "0.5", "3", ""]
    assert index.remove([kind(17)]) == Change(removed=1)


def test_what_is_told_of_an_index_is_the_same(make):
    metadata = {"size": ["1", "2", "3", ""], "colour": ["red", "", "", "blue"]}
    index, reopen = make(images(0, 4, keys=["A", "A", "B", ""], metadata=metadata))
    for opened in (index, reopen()):
        told = opened.info()
        assert (told["images"], told["keys"], told["metadata"]) == (4, 2, ["colour", "size"])


def test_an_array_of_metadata_is_found_by_each_of_its_entries(make):
    """An array is that of a cell, or of an image's rows; a text in brackets that is no array is a text."""
    cells = [
        "red",
        '["red", "50% off"]',
        '["dark red", "a, red", "\\u00e9 \\"x\\" \\\\ y"]',
        "[38, 39, 1.5]",
        '[red, "red"',
        "[[[[",
        '["grün", "rot"]',
    ]
    index, _ = make(images(0, len(cells), metadata={"note": cells}))
    for text, rows in {
        "red": {0, 1},
        "50% off": {1},
        'é "x" \\ y': {2},
        "a, red": {2},
        39: {3},
        1.5: {3},
        "3": set(),
        cells[1]: {1},
        cells[4]: {4},
        "grün": {6},
    }.items():
        (found,) = index.search(images(1, 1), where={"note": text})
        assert {neighbour.path for neighbour in found.neighbours} == {f"photos/{row}.jpg" for row in rows}, text


def test_metadata_of_one_name_is_one_column_in_any_unicode_form(make):
    one, two = "caf\u00e9", "cafe\u0301"
    index, _ = make(images(0, 2, metadata={one: ["a", "b"]}))
    index.add(images(1, 1, prefix="new/", metadata={two: ["a"]}))
    (found,) = index.search(images(1, 1), where={two: "a"})
    assert sorted(neighbour.path for neighbour in found.neighbours) == ["new/0.jpg", "photos/0.jpg"]
    assert index.info()["metadata"] == [one]
    for add in (
        lambda: index.add(images(2, 1, prefix="x/", metadata={one: ["a"], two: ["b"]})),
        lambda: index.add(embeddings=np.eye(6)[:1], keys=["k"], metadata={one: ["a"], two: ["b"]}),
    ):
        with pytest.raises(ValueError, match="names of metadata must differ in more than their Unicode form; 'cafe"):
            add()
    assert len(index) == 3


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([float("nan")], r"index.parts\['x'\]: no JSON: NaN is no number of JSON; give finite numbers, and keys"),
        ({1: "a", "1": "b"}, "no JSON: the key '1' is there twice in object 1; give finite numbers, and keys that"),
    ],
)
def test_a_part_that_could_not_be_read_is_not_kept(make, value, message):
    index, reopen = make(images(number=3))
    with pytest.raises(ValueError, match=message):
        index.parts["x"] = value
    assert dict(reopen().parts) == {}


def test_what_another_index_could_not_read_and_this_one_has_is_not_skipped(make):
    index, _ = make(images(0, 3))
    index.merge(build(images(1, 2, prefix="other/", skipped={"photos/1.jpg": "broken", "gone.jpg": "gone"})))
    assert index.skipped == {"gone.jpg": "gone"}


def test_what_is_named_is_found_in_any_unicode_form(make):
    one, two = "caf\u00e9", "cafe\u0301"
    index, _ = make(
        images(0, 4, keys=[one, f"{two} 1", "", ""], metadata={one: [one, one, "bar", ""], "name": [two, "", "", ""]})
    )
    for name in (one, two):
        for text in (one, two):
            (found,) = index.search(images(1, 1), where={name: text})
            assert sorted(neighbour.key for neighbour in found.neighbours) == [f"{two} 1", one]
    (found,) = index.search(images(1, 1), where={"name": two})  # as it was given
    assert [neighbour.key for neighbour in found.neighbours] == [one]
    with pytest.raises(ValueError, match="the index has no metadata 'nome'; did you mean 'name'"):
        index.search(images(1, 1), where={"nome": two})
    with pytest.raises(ValueError, match="the index has no image of the key or file 'caf"):
        index.remove([two, f"{one} 2"])
    assert index.remove([two, f"{one} 1"]) == Change(removed=2)
    vectors = images(2, 2).features
    index.add(embeddings=vectors, keys=[one, two], files=["x", "y"], metadata={two: [two, "bar"]})
    (found,) = index.search(images(1, 1), where={one: one})
    assert [neighbour.path for neighbour in found.neighbours] == ["x"]
    assert index.remove(two) == Change(removed=2)  # of one key, in whatever form it was given
    assert {"x", "y"}.isdisjoint(index.paths)


def test_what_changes_is_as_if_made_anew(make):
    there = images(0, 40, several=True, unlabelled=True)
    index, reopen = make(there)
    query, generator = images(99, 3, prefix="new/"), np.random.default_rng(0)
    for step in range(5):
        if step % 3 < 2:
            new = images(100 + step, 20, several=step % 2 == 0, prefix=f"{step}/")
            assert index.add(new) == Change(added=20)
            there = joined([there, new])
        else:
            gone = set(generator.choice(len(there.paths), 17, replace=False).tolist())
            assert index.remove([there.paths[i] for i in gone]) == Change(removed=17)
            there = some(there, [i for i in range(len(there.paths)) if i not in gone])
        for opened in (index, reopen()):
            labelled = opened.embeddings()
            assert labelled.paths == there.paths
            found = opened.search(query, 7, within="animal")
            assert [[one.path for one in result.neighbours] for result in found] == [
                [path for path, _, _ in answer] for answer in brute_force(there, query, 7, None, ("animal",))
            ]


def test_the_tree_grows_by_others_images_too(make):
    index, reopen = make(images(0, 20, tree=Taxonomy([], ())))
    query = images(1, 2)
    with pytest.raises(ValueError, match="there is no level 'kind': the images of the index have no labels"):
        index.search(query, level="kind")
    with pytest.raises(ValueError, match="to classify, images of the index need labels"):
        index.classify(query)
    other = reopen()
    other.add(images(2, 30, prefix="b/"))
    index.refresh()
    assert index.taxonomy == other.taxonomy == TREE
    assert index.search(query, 3, within="animal/cat") == other.search(query, 3, within="animal/cat") != []
    index.add(embeddings=np.eye(6)[:1], keys=["S1"], paths=[("animal", 'ape/"x"')])
    assert index.search(images(1, 1), within=("animal", 'ape/"x"'))[0].neighbours[0].key == "S1"
    colour = Taxonomy([("x",)], ("colour",))
    unlike = {**vars(images(3, 1, tree=Taxonomy([], ()), prefix="c/")), "labels": colour.node_labels(1)}
    with pytest.raises(ValueError, match="must have the same levels to be one set under one tree"):
        index.add(Embeddings(**{**unlike, "taxonomy": colour}))
    assert len(index) == 51


def test_keys_and_files_are_removed(make):
    index, reopen = make(known(12, "photos/"))
    assert index.remove(["photos/K1", "photos/3.jpg", "photos/4.jpg"]) == Change(removed=3)
    assert index.remove("photos/K2") == Change(removed=1)
    with pytest.raises(ValueError, match="the index has no image of the key or file 'photos/K1'; nothing was removed"):
        index.remove(["photos/K1", "photos/5.jpg"])
    assert reopen().paths == [f"photos/{i}.jpg" for i in (0, 5, 6, 7, 8, 9, 10, 11)]
    with pytest.raises(ValueError, match=r"8 of 12 images are in the index already: 'photos/0.jpg'"):
        index.add(known(12, "photos/"))
    index.remove(index.paths)
    assert len(index) == 0
    assert [result.neighbours for result in index.search(images(1, 2))] == [(), ()]


def test_a_file_is_known_by_its_plain_name(make):
    index, reopen = make(images(number=2, prefix="./photos//"))
    assert reopen().paths == index.paths == ["photos/0.jpg", "photos/1.jpg"]
    new = images(1, 1).features
    index.add(embeddings=new, files=["./new/.//a.jpg"])
    for one in (index, reopen()):
        for name in ("./new/a.jpg", "new//a.jpg", "new/./a.jpg"):
            with pytest.raises(ValueError, match=r"1 of 1 images are in the index already: 'new/a\.jpg'"):
                one.add(embeddings=new, files=[name])
    index.add(embeddings=new, files=["new/../new/a.jpg"])  # which is another file where new is a link
    index.add(embeddings=new, keys=["https://shop//a.jpg"])
    assert reopen().paths[2:] == ["new/a.jpg", "new/../new/a.jpg", "https://shop//a.jpg"]
    assert index.remove(["new//a.jpg", "https://shop//a.jpg"]) == Change(removed=2)
    assert reopen().paths[2:] == ["new/../new/a.jpg"]


def test_of_two_files_alike_but_for_their_unicode_form_the_one_that_is_named_is_removed(make):
    composed, decomposed = "caf\u00e9.jpg", "cafe\u0301.jpg"
    index, _ = make(replace(images(number=3), paths=[composed, decomposed, "b/" + decomposed]))
    assert index.remove(["./" + composed, "./b/caf\u00e9.jpg"]) == Change(removed=2)
    assert index.paths == [decomposed]


def test_only_what_has_changed_is_embedded(make, kills):  # noqa: F811
    pixels = kills["Pixels"]()
    index, _ = make(kills["random_images"](3, "base", 0), model=pixels.name, fingerprint=pixels.fingerprint)
    index.use_model(pixels)
    assert index.update([picture(1), picture(2), picture(3)]) == Change(added=3, embedded=3)
    assert index.update([picture(1), picture(2), picture(3)]) == Change(kept=3)
    assert index.update([picture(1), picture(9), picture(2), picture(4)]) == Change(3, 2, 1, 2)
    for i, value in enumerate((1, 9, 2, 4)):
        expected = np.random.default_rng(value).standard_normal(16)
        rows = index.embeddings()
        got = rows.features[rows.paths.index(f"<image {i}>")]
        np.testing.assert_allclose(got, expected / np.linalg.norm(expected), atol=1e-6)
    assert index.update([picture(4)], prune=True) == Change(added=1, removed=7, embedded=0)
    assert index.paths == ["<image 0>"]


COMPOSED, DECOMPOSED = "caf\u00e9.png", "cafe\u0301.png"


@pytest.fixture
def shop(make, kills, tmp_path):  # noqa: F811
    """An index of nothing, its model, and a folder with photographs whose list names one in the other Unicode form."""
    model = Reading(kills["Pixels"]())
    index, _ = make(kills["random_images"](1, "base", 0), model=model.name, fingerprint=model.fingerprint)
    index.remove(index.paths)
    index.use_model(model)
    for i, name in enumerate((DECOMPOSED, "b.png")):
        write_image(tmp_path / "shop" / name, (i, i, i))
    (tmp_path / "shop/shop.csv").write_text(f"image,top,sku\n{COMPOSED},x,K\nb.png,y,B\n", encoding="utf-8")
    return index, tmp_path / "shop"


@pytest.mark.parametrize("key", ["", "sku"])
def test_a_missing_file_of_another_unicode_form_stays(shop, key):
    index, folder = shop
    options = dict(levels=["top"], key_column=key, prune=True)
    assert index.update(folder / "shop.csv", **options) == Change(added=2, embedded=2)
    assert index.paths == [str(folder / DECOMPOSED), str(folder / "b.png")]
    (folder / DECOMPOSED).rename(folder / "away")
    assert index.update(folder / "shop.csv", **options) == Change(kept=1)
    assert index.paths == [str(folder / DECOMPOSED), str(folder / "b.png")]
    assert list(index.skipped) == [str(folder / COMPOSED)]
    (folder / "away").rename(folder / DECOMPOSED)
    assert index.update(folder / "shop.csv", **options) == Change(kept=2)
    assert index.skipped == {}


def test_what_could_not_be_read_and_is_given_no_more_is_forgotten_by_a_mirror(shop):
    index, folder = shop
    (folder / "old.png").write_text("broken")
    index.update(folder)
    assert list(index.skipped) == [str(folder / "old.png")]
    (folder / "old.png").unlink()
    index.update(folder)  # other images that are not given are left alone, too
    assert list(index.skipped) == [str(folder / "old.png")]
    (folder / "new.png").write_text("broken")
    index.update(folder, prune=True)
    assert list(index.skipped) == [str(folder / "new.png")]


@pytest.mark.parametrize("how", ["missing", "broken", "a broken link"])
def test_the_image_of_a_key_stays_while_the_keys_new_file_cannot_be_read(shop, how):
    index, folder = shop
    options = dict(levels=["top"], key_column="sku", prune=True)
    index.update(folder / "shop.csv", **options)
    (folder / "more").mkdir()
    write_image(folder / "more/c.png", (7, 7, 7))
    (folder / "shop.csv").write_text("image,top,sku\nnew.png,x,K\nb.png,y,B\nmore/c.png,y,C\n")
    if how == "broken":
        (folder / "new.png").write_text("broken")
    elif how == "a broken link":
        (folder / "new.png").symlink_to("nowhere.png")
    assert index.update(folder / "shop.csv", **options) == Change(added=1, kept=1, embedded=1)
    assert sorted(index.keys) == ["B", "C", "K"]
    assert list(index.skipped) == [str(folder / "new.png")]
    (folder / "new.png").unlink(missing_ok=True)
    write_image(folder / "new.png", (9, 9, 9))
    assert index.update(folder / "shop.csv", **options) == Change(added=1, removed=1, kept=2, embedded=1)
    assert sorted(index.paths) == [str(folder / name) for name in ("b.png", "more/c.png", "new.png")]


PHOTOS = [f"photos/{kind}/{i}.png" for kind in ("animal/cat", "animal/dog", "tool/saw") for i in range(2)]


@pytest.fixture
def photos(make, kills, tmp_path, monkeypatch):  # noqa: F811
    """Returns a function that makes an index of photographs in the working directory: of a folder, or of a list."""
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(PHOTOS):
        write_image(tmp_path / name, (i, i, i))
    rows = [f"{name},S{i},{'blue' if i else 'red'},{name.split('/')[1]}" for i, name in enumerate(PHOTOS)]
    (tmp_path / "keyed.csv").write_text("\n".join(["image,sku,colour,top", *rows]))
    model = Reading(kills["Pixels"]())
    index, _ = make(images(0, 1, 16, tree=Taxonomy([], ())), model=model.name, fingerprint=model.fingerprint)
    index.remove(index.paths)
    index.use_model(model)

    def made(source="photos", **options):
        assert index.update(source, **options) == Change(added=6, embedded=6)
        return index

    return made


KEYED = dict(levels=["top"], key_column="sku")


def known_of(index):
    """What is known of each image."""
    rows = index.embeddings()
    keys = rows.keys or [""] * len(rows.paths)
    labels = [label_paths(rows.taxonomy, row) for row in rows.labels]
    return sorted(zip(rows.paths, keys, labels, rows.metadata.get("colour", [""] * len(keys)), strict=True))


@pytest.mark.parametrize(
    ("source", "number"),
    [
        ("photos/animal", 4),
        ("photos/animal/cat", 2),
        ("./photos/animal/cat/", 2),
        ("photos/animal/cat/0.png", 1),
        ("photos/*/*/0.png", 3),
        (["photos/animal", "photos/tool/saw/0.png"], 5),
        ("ABSOLUTE/photos/tool", 2),
        ("ABSOLUTE/photos", 6),
    ],
)
def test_an_update_by_a_part_of_what_is_there_changes_nothing(photos, tmp_path, source, number):
    index = photos()
    before = known_of(index)
    source = source.replace("ABSOLUTE", str(tmp_path)) if isinstance(source, str) else source
    assert index.update(source) == Change(kept=number)
    assert known_of(index) == before


def test_what_is_new_in_a_folder_below_the_one_of_the_index_is_placed_where_it_lies(photos, tmp_path):
    index = photos()
    write_image(tmp_path / "photos/animal/eel/0.png", (90, 90, 90))
    write_image(tmp_path / "photos/animal/cat/2.png", (91, 91, 91))
    assert index.update("photos/animal") == Change(added=2, kept=4, embedded=2)
    assert index.update("photos/animal/cat") == Change(kept=3)
    found = {path: labels for path, _, labels, _ in known_of(index)}
    assert found["photos/animal/eel/0.png"] == (("animal", "eel"),)
    assert found["photos/animal/cat/2.png"] == (("animal", "cat"),)


def test_an_image_whose_label_was_corrected_says_nothing_of_where_its_folder_lies(photos, tmp_path):
    index = photos()
    before = known_of(index)
    (tmp_path / "corrected.csv").write_text(f"image,level1,level2\n{PHOTOS[0]},animal,dog\n{PHOTOS[2]},dog,\n")
    assert index.update("corrected.csv", levels=["level1", "level2"]).relabelled == 2
    assert index.update("photos/animal") == Change(added=2, removed=2, kept=2, relabelled=2)
    assert known_of(index) == before


def test_an_image_is_relabelled_whatever_its_file_is_called_now(photos, tmp_path):
    index = photos("keyed.csv", **KEYED)
    (tmp_path / PHOTOS[0]).rename(tmp_path / "zero.png")
    (tmp_path / "two.csv").write_text(f"image,sku,colour,top\nzero.png,S0,red,dog\n{PHOTOS[1]},S1,blue,dog\n")
    assert index.update("two.csv", **KEYED) == Change(added=2, removed=2, relabelled=2)


def test_an_image_of_several_keys_is_relabelled_under_those_whose_label_is_another(photos, tmp_path):
    index = photos("keyed.csv", **KEYED)
    rows = [f"{PHOTOS[0]},S0,animal", f"{PHOTOS[2]},S0,tool", f"{PHOTOS[4]},S4,tool"]
    (tmp_path / "three.csv").write_text("\n".join(["image,sku,top", *rows]))
    index.update("three.csv", **KEYED)
    (tmp_path / "three.csv").write_text("\n".join(["image,sku,top", *rows, f"{PHOTOS[3]},S0,tool"]))
    assert index.update("three.csv", **KEYED) == Change(added=1, kept=3)


def test_an_image_that_moved_to_another_folder_is_relabelled_by_a_mirror(photos, tmp_path):
    index = photos()
    (tmp_path / PHOTOS[0]).rename(tmp_path / "photos/animal/dog/9.png")
    assert index.update("photos", prune=True) == Change(added=1, removed=1, kept=5, relabelled=1)
    write_image(tmp_path / "photos/animal/dog/8.png", (4, 4, 4))  # a copy of a saw, which stays
    assert index.update("photos", prune=True) == Change(added=1, kept=6)


def test_the_labels_of_an_image_may_come_in_any_order(photos, tmp_path):
    index = photos()
    rows = [f"{PHOTOS[0]},tool,saw", f"{PHOTOS[0]},animal,cat"]
    for order, change in ((rows, Change(added=1, removed=1, relabelled=1)), (rows[::-1], Change(kept=1))):
        (tmp_path / "both.csv").write_text("\n".join(["image,level1,level2", *order]))
        assert index.update("both.csv", levels=["level1", "level2"]) == change


@pytest.mark.parametrize("change", ["add", "update"])
def test_a_folder_and_a_list_come_in_one_call(photos, tmp_path, change):
    index = photos("keyed.csv", **KEYED)
    write_image(tmp_path / "new/tool/rake/0.png", "red")
    write_image(tmp_path / "more.png", "blue")
    (tmp_path / "more.csv").write_text("image,top\nmore.png,tool\n")
    assert getattr(index, change)(["new", "more.csv"]) == Change(added=2, embedded=2)
    assert index.taxonomy.level_names == ("top", "level2")
    labels = {path: labels for path, _, labels, _ in known_of(index)}
    assert labels["new/tool/rake/0.png"] == (("tool", "rake"),)
    assert labels["more.png"] == (("tool",),)


@pytest.mark.parametrize("change", ["add", "update"])
@pytest.mark.parametrize(("link", "to"), [("best", "photos/animal"), ("best/cat", "../photos/animal/cat")])
def test_a_link_to_a_folder_has_files_of_its_own(photos, tmp_path, change, link, to):
    index = photos()
    before = known_of(index)
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(to)
    number = len(list((tmp_path / link).rglob("*.png")))
    assert getattr(index, change)([link, "photos"] if change == "update" else link).added == number
    assert [row for row in known_of(index) if row[0].startswith("photos/")] == before
    assert len(index) == 6 + number


def test_a_relative_name_of_the_index_is_an_absolute_one_where_a_file_shows_it(photos, tmp_path, monkeypatch):
    index = photos()
    write_image(tmp_path / PHOTOS[0], (80, 80, 80))
    assert index.update(tmp_path / "photos") == Change(added=1, removed=1, kept=5, embedded=1)
    before = known_of(index)
    for i, name in enumerate(PHOTOS):
        write_image(tmp_path / "other" / name, (50 + i, i, i))
    monkeypatch.chdir(tmp_path / "other")
    assert index.update(tmp_path / "other/photos") == Change(added=6, embedded=6)
    assert [row for row in known_of(index) if row[0] in PHOTOS] == before
    assert {row[0] for row in known_of(index)} == {*PHOTOS, *(str(tmp_path / "other" / name) for name in PHOTOS)}
    with pytest.raises(ValueError, match="6 of 6 images are in the index already"):
        index.add(tmp_path / "other/photos")


def test_a_file_is_given_once_relative_or_absolute(photos, tmp_path):
    index = photos()
    before = known_of(index)
    write_image(tmp_path / "new.png", "red")
    both = rf"images must be given once; 'new.png', '{tmp_path}/new.png' are given several times: leave the copies out"
    for change in (index.add, index.update):
        with pytest.raises(ValueError, match=both):
            change(["new.png", tmp_path / "new.png"])
    with pytest.raises(ValueError, match=r"images must be given once; .* are given several times: leave the copies"):
        index.update([tmp_path / "photos", "photos"])
    vectors = images(2, 2, 16)
    with pytest.raises(ValueError, match=both):
        build(replace(vectors, paths=["new.png", str(tmp_path / "new.png")]))
    assert known_of(index) == before


def test_a_file_that_is_given_with_and_without_its_key_is_one_image(photos, tmp_path):
    index = photos("keyed.csv", **KEYED)
    before = known_of(index)
    assert index.update(["keyed.csv", tmp_path / PHOTOS[0]], **KEYED) == Change(kept=6)
    assert known_of(index) == before


def test_what_a_source_says_nothing_of_stays(photos):
    index = photos("keyed.csv", **KEYED)
    before = known_of(index)
    assert index.update("photos/*/*/*.png") == Change(kept=6)
    assert known_of(index) == before
    change = index.update("photos", prune=True)  # which says labels, and neither keys nor metadata
    assert change == Change(added=6, removed=6, relabelled=6)
    assert str(change) == "added 6 (0 embedded, 6 relabelled), removed 6, kept 0"
    assert [(path, key, colour) for path, key, _, colour in known_of(index)] == [
        (path, key, colour) for path, key, _, colour in before
    ]
    assert {labels for _, _, labels, _ in known_of(index)} == {((*path.split("/")[1:3],),) for path in PHOTOS}


def test_a_file_of_several_keys_stays_under_all_of_them(photos, tmp_path):
    index = photos("keyed.csv", **KEYED)
    (tmp_path / "more.csv").write_text(f"image,sku,colour,top\n{PHOTOS[0]},T0,red,animal\n")
    assert index.add("more.csv", **KEYED) == Change(added=1, embedded=1)
    assert index.update([tmp_path / "keyed.csv", tmp_path / "more.csv"], **KEYED) == Change(kept=7)
    write_image(tmp_path / PHOTOS[0], (80, 80, 80))
    assert index.update("photos/*/*/*.png", prune=True) == Change(added=2, removed=2, kept=5, embedded=2)
    assert [(key, colour) for path, key, _, colour in known_of(index) if path == PHOTOS[0]] == [
        ("S0", "red"),
        ("T0", "red"),
    ]


def test_a_list_may_say_that_an_image_has_no_label(photos, tmp_path):
    index = photos("keyed.csv", **KEYED)
    (tmp_path / "less.csv").write_text(f"image,sku,colour,top\n{PHOTOS[0]},S0,,\n")
    assert index.update("less.csv", **KEYED) == Change(added=1, removed=1, relabelled=1)
    assert known_of(index)[0] == (PHOTOS[0], "S0", (), "")


def test_an_image_without_a_key_gets_the_one_that_its_file_is_given(photos, tmp_path):
    index = photos("photos/*/*/*.png")
    assert index.update("keyed.csv", **KEYED) == Change(added=6, removed=6, relabelled=6)
    assert [key for _, key, _, _ in known_of(index)] == [f"S{i}" for i in range(6)]


@pytest.fixture
def told(monkeypatch):
    """The warnings of a change."""
    lines = []
    monkeypatch.setattr("hierpretrain.apis.living.warn", lines.append)
    return lines


def test_keys_that_are_spelled_anew_are_told(photos, tmp_path, told):
    index = photos("keyed.csv", **KEYED)
    (tmp_path / "anew.csv").write_text((tmp_path / "keyed.csv").read_text().replace(",S", ",s"))
    index.update("anew.csv", **KEYED)
    assert told[0].startswith("6 images are in the index twice now, under 'S0', 'S1', ")
    assert "remove the older ones (hierpretrain index remove), or update with --prune" in told[0]
    index.update("anew.csv", prune=True, **KEYED)
    assert (len(index), len(told)) == (6, 1)


def test_files_that_moved_are_told_and_copies_are_not(photos, tmp_path, told):
    index = photos()
    (tmp_path / "photos/tool/axe").mkdir()
    (tmp_path / "photos/tool/axe/copy.png").write_bytes((tmp_path / PHOTOS[0]).read_bytes())
    assert index.update("photos") == Change(added=1, kept=6)
    assert told == []
    (tmp_path / PHOTOS[1]).rename(tmp_path / "photos/animal/cat/new.png")
    index.update("photos")
    assert f"1 images are in the index twice now, under {PHOTOS[1]!r} and 'photos/animal/cat/new.png'" in told[0]


@pytest.mark.parametrize("keyed", [True, False])
def test_a_file_that_is_there_under_another_spelling_or_key_cannot_be_added(photos, tmp_path, keyed):
    index = photos("keyed.csv", **KEYED) if keyed else photos("photos/*/*/*.png")
    before = known_of(index)
    for more, options in (
        ("photos", {}),
        (tmp_path / "photos/animal", {}),
        ("keyed.csv", KEYED),
        (tmp_path / PHOTOS[0], {}),
    ):
        with pytest.raises(ValueError, match=r"images are in the index already: '.*; leave them out, or update the"):
            index.add(more, **options)
    assert known_of(index) == before
    (tmp_path / "copy.png").write_bytes((tmp_path / PHOTOS[0]).read_bytes())
    assert index.add("copy.png") == Change(added=1, embedded=1)


def test_parts_are_kept(make):
    index, reopen = make(images(number=5))
    assert dict(index.parts) == {}
    index.parts["thresholds"] = {"kind": [0.5, 0.25], "é": "x" * 200_000}
    assert dict(reopen().parts) == {"thresholds": {"kind": [0.5, 0.25], "é": "x" * 200_000}}
    reopen().parts["thresholds"] = 3
    assert index.parts["thresholds"] == 3
    del index.parts["thresholds"]
    assert dict(reopen().parts) == {}
    with pytest.raises(KeyError):
        index.parts["thresholds"]
    with pytest.raises(ValueError, match="a part's name must be of small letters"):
        index.parts["weights"] = 1


def test_engines_can_be_merged(make, tmp_path):
    there, other = known(20, "a/"), known(30, "b/", seed=1)
    index, _ = make(there)
    build(other).save(tmp_path / "other")
    assert index.merge(tmp_path / "other") == Change(added=30)
    back = build(images(number=3))
    back.merge(index)
    assert back.paths == [*images(number=3).paths, *there.paths, *other.paths]
    assert_same_answers(back, joined([images(number=3), there, other]), images(9, 3), levels=(None,))


def test_answers_keep_the_tree_that_they_are_in(make):
    index, _ = make(images())
    query = images(1, 6)
    answers = index.answer(query, k=5)
    before = index.in_words(query, answers)
    index.add(embeddings=np.eye(6)[:1], keys=["S1"], paths=[("aardvark",)])
    assert index.in_words(query, answers) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(k=0), "k must be at least 1; it is 0"),
        (dict(level="colour"), r"no level 'colour': levels are 1 \(coarsest\) to 3"),
        (dict(within="cta"), "the tree has no branch 'cta'"),
        (dict(query=images(1, 3, 4)), "must come from one model and have one D; they have 4 and 6"),
        (dict(query=["a.jpg"]), "the index does not carry its model, 'resnet, epoch_5.pth'"),
    ],
)
def test_errors_are_the_same(make, options, message):
    index, _ = make(images())
    with pytest.raises(ValueError, match=message):
        index.search(**{"query": images(1, 2), **options})


# ---------------------------------------------------------------- Milvus alone
def test_an_inferencer_makes_an_index_in_milvus_that_carries_its_model(tmp_path):
    pytest.importorskip("milvus_lite")
    from mmengine.config import Config

    from hierpretrain.apis import EmbeddingInferencer

    backbone = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
    pipeline = [dict(type="LoadRGB"), dict(type="torchvision/Resize", size=(32, 32))]
    model = dict(type="HierarchicalContrastive", backbone=backbone)
    torch.manual_seed(0)
    inferencer = EmbeddingInferencer(
        Config(dict(model=model, test_dataloader=dict(dataset=dict(pipeline=pipeline)))),
        "",
        device="cpu",
        progress=False,
    )
    address = f"milvus-lite://{tmp_path}/x.db#photos"
    inferencer.build_index([picture(0), picture(90), picture(250)], address)
    index = EmbeddingIndex.open(address, device="cpu")
    assert index.search(picture(90), 2) == inferencer.search(picture(90), 2)
    assert index.search(picture(90), 1)[0].neighbours[0].path == "<image 1>"
    inferencer.load_index(address)
    inferencer.build_index([picture(7)], address)
    assert len(EmbeddingIndex.open(address)) == 1
    for option, said in ((dict(half=True), "half=True"), (dict(seed=3), "seed=3")):
        with pytest.raises(ValueError, match=f"half and seed are for an index in a folder, .*: leave out {said}"):
            inferencer.build_index([picture(7)], address, **option)
    with pytest.raises(TypeError, match="unexpected keyword argument 'knd'"):
        inferencer.build_index([picture(7)], address, knd="flat")
    with pytest.raises(ValueError, match="kind must be 'auto', 'flat', 'ivf' or 'hnsw'; it is 'lsh'"):
        inferencer.build_index(["no.jpg"], address, kind="lsh")
    twice = Embeddings(**{**vars(images(number=2)), "paths": ["a.jpg"] * 2})
    with pytest.raises(ValueError, match=r"images must be given once; 'a.jpg' are given several times"):
        inferencer.build_index(twice, address)
    assert EmbeddingIndex.open(address).paths == ["<image 0>"]  # the older one stays


def test_addresses():
    assert milvus_address("milvus+https://db.example:443/shop") == ("https://db.example:443", "shop")
    assert milvus_address("milvus://[::1]:19530/shop") == ("http://[::1]:19530", "shop")
    for wrong in (
        "milvus://db:19530",
        "milvus:db/x",
        "milvus-lite:///x.txt#a",
        "milvus-lite:///x.db",
        "milvus://h/a-b",
        "milvus://host:notaport/x",
        "milvus://a:1:2/x",
    ):
        with pytest.raises(ValueError, match=r"an index in Milvus has an address such as milvus://HOST:PORT/NAME"):
            milvus_address(wrong)


def test_what_milvus_cannot_do_is_said(tmp_path):
    pytest.importorskip("milvus_lite")
    from hierpretrain.apis.milvus import MilvusIndex

    address = f"milvus-lite://{tmp_path}/x.db#photos"
    with pytest.raises(ValueError, match=r"there is no index at milvus-lite.*; make one there"):
        EmbeddingIndex.open(address)
    index = MilvusIndex.create(address, width=6, **ABOUT)
    with pytest.raises(ValueError, match=r"there is an index at .* already: open it, or replace it"):
        MilvusIndex.create(address, width=6, **ABOUT)
    with pytest.raises(ValueError, match="k must be at most 16384, Milvus's own limit; it is 20000"):
        index.search(images(), 20_000)
    with pytest.raises(ValueError, match=r"Milvus stores texts alone, and .* is none: rename the file"):
        index.add(embeddings=np.eye(6)[:1], keys=["\udcff.jpg"])
    with pytest.raises(ValueError, match="Milvus stores texts of up to 65,535 bytes"):
        index.add(embeddings=np.eye(6)[:1], keys=["x" * 70_000])
    (tmp_path / "file.db").write_text("none of milvus-lite")
    logging.disable(logging.CRITICAL)
    try:
        with pytest.raises(OSError, match=r"Milvus at .*file.db cannot do it.*; milvus-lite is for one process"):
            EmbeddingIndex.open(f"milvus-lite://{tmp_path}/file.db#photos")
    finally:
        logging.disable(logging.NOTSET)


def test_a_file_that_is_only_opened_is_not_made(tmp_path):
    pytest.importorskip("milvus_lite")
    with pytest.raises(ValueError, match=r"there is no index at milvus-lite.*; make one there"):
        EmbeddingIndex.open(f"milvus-lite://{tmp_path}/mistyped.db#photos")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [str, Path])
def test_an_address_is_no_folder_to_save_to(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=r"an index is saved to a folder, and 'milvus-lite:x.db#a' is an address: make"
    ):
        build(images(number=3)).save(kind("milvus-lite:x.db#a"))
    assert list(tmp_path.iterdir()) == []


def test_a_collection_of_somebody_else_is_not_replaced(tmp_path):
    pytest.importorskip("milvus_lite")
    from pymilvus import MilvusClient

    from hierpretrain.apis.milvus import MilvusIndex

    client = MilvusClient(f"{tmp_path}/x.db")
    for name in ("customers", "photos_about"):
        client.create_collection(name, dimension=2)
        client.insert(name, [{"id": 1, "vector": [0.0, 1.0]}])
    client.close()
    for index, lost in (("customers", "customers"), ("photos", "photos_about")):
        with pytest.raises(
            ValueError, match=f"has a collection '{lost}' that is no index of .*; give the index another"
        ):
            MilvusIndex.create(f"milvus-lite://{tmp_path}/x.db#{index}", width=6, **ABOUT, replace=True)
    client = MilvusClient(f"{tmp_path}/x.db")
    for name in ("customers", "photos_about"):
        client.load_collection(name)
        assert len(client.query(name, filter="id >= 0")) == 1
    client.close()


@pytest.fixture
def in_milvus(tmp_path):
    """Returns a function that makes an index in a file of milvus-lite, in place of an older one, and its address."""
    pytest.importorskip("milvus_lite")
    from hierpretrain.apis.milvus import MilvusIndex

    address = f"milvus-lite://{tmp_path}/x.db#photos"

    def make(embedded, **about):
        index = MilvusIndex.create(address, width=6, replace=True, **{**ABOUT, **about})
        index.add(embedded)
        return index

    return make, address


def test_a_tree_that_grows_during_a_search_gives_no_other_names(in_milvus, monkeypatch):
    from hierpretrain.apis.milvus import MilvusIndex

    make, address = in_milvus
    there = images()
    index, other, look = make(there), EmbeddingIndex.open(address), MilvusIndex._found
    expected = index.classify(there, k=1)
    names = ["aardwolf", "aardvark"]

    def grow_first(self, *args):
        other.add(embeddings=np.eye(6)[:1], keys=[names[-1]], paths=[(names.pop(),)])
        index.refresh()  # as the thread of a service that watches
        return look(self, *args)

    monkeypatch.setattr(MilvusIndex, "_found", grow_first)
    assert index.classify(there, k=1) == expected
    assert len(index.classify(there, k=100)) == 60  # the newest image votes too, and its node is not in the tree
    assert not names


def test_a_tree_that_grows_while_it_is_read_is_read_again_by_the_next(in_milvus, monkeypatch):
    from hierpretrain.apis.milvus_tables import Tables

    make, address = in_milvus
    index = make(images(number=5, tree=Taxonomy([], ())))
    other, read, deeper = EmbeddingIndex.open(address), Tables.facts, [True]
    other.add(embeddings=np.eye(6)[:1], keys=["S1"], paths=[("dog",)])

    def grow_after(self, what):
        found = read(self, what)
        if self is index._tables and what in ("level", "node") and deeper:
            deeper.pop()
            other.add(embeddings=np.eye(6)[:1], keys=["S2"], paths=[("dog", "pug")])
        return found

    monkeypatch.setattr(Tables, "facts", grow_after)
    assert index.refresh()
    assert index.taxonomy == Taxonomy([("dog",)], ("level1",))
    assert index.refresh()
    assert index.taxonomy == Taxonomy([("dog", "pug")], ("level1", "level2"))


def test_other_labels_of_as_many_images_are_other_branches(in_milvus):
    make, address = in_milvus
    index, other = make(images(number=5, tree=Taxonomy([], ()))), EmbeddingIndex.open(address)
    index.add(embeddings=np.eye(6)[:2], keys=["S1", "S2"], paths=[("dog",), ("cat",)])
    assert index.branches() == [("cat",), ("dog",)]
    (gone,) = other._records({"S1"}, set())
    new = other._from_columns(np.eye(6)[:1], ["S1"], [("cat",)], None, None)
    other._change([gone], replace(new, digests=[""]))
    assert index.branches() == [("cat",)]


def test_an_unknown_branch_is_told_without_a_question_for_each_topmost_node(in_milvus, monkeypatch):
    from hierpretrain.apis.milvus_tables import Tables

    make, _ = in_milvus
    index = make(images(number=5, tree=Taxonomy([], ())))
    index.add(embeddings=np.ones((40, 6)), keys=[f"S{i}" for i in range(40)], paths=[(f"kind{i}",) for i in range(40)])
    asked, count = [], Tables.count
    monkeypatch.setattr(Tables, "count", lambda self, *args: asked.append(args) or count(self, *args))
    with pytest.raises(ValueError, match=r"Its 40 topmost nodes are 'kind0', "):
        index.check_search(within="zebra")
    assert len(asked) < 5


def test_an_index_that_is_made_anew_is_noticed(in_milvus):
    make, address = in_milvus
    index = make(images(number=5, tree=Taxonomy([], ())))
    index.add(embeddings=np.eye(6)[:1], keys=["S1"], paths=[("bee",)])
    make(images(number=5, tree=Taxonomy([], ())))
    EmbeddingIndex.open(address).add(embeddings=np.eye(6)[:1], keys=["S1"], paths=[("dog",)])
    assert index.refresh()  # though it has as many nodes as before
    assert index.taxonomy.names(1) == ["dog"]
    make(images(number=5), model="vgg", fingerprint="ffff")
    for ask in (index.refresh, lambda: index.search(images(1, 2)), lambda: index.add(images(1, 2, prefix="x/"))):
        with pytest.raises(ValueError, match=r"was made anew by 'vgg' \(fingerprint ffff\).*open it again"):
            ask()


def test_two_writers_of_a_part_leave_the_last_ones(in_milvus, monkeypatch):
    from hierpretrain.apis.milvus_tables import Tables

    make, address = in_milvus
    index, other, tell, writers = make(images(number=5)), EmbeddingIndex.open(address), Tables.tell, [True]
    index.parts["thresholds"] = 1

    def tell_then_let_other_write(self, what, facts):
        tell(self, what, facts)
        if what == "part" and writers:
            writers.pop()
            other.parts["thresholds"] = 3

    monkeypatch.setattr(Tables, "tell", tell_then_let_other_write)
    index.parts["thresholds"] = 2
    assert index.parts["thresholds"] == 3
    assert len(index._tables.facts("piece_thresholds")) == 1


def test_ids_are_of_one_writer_alone_and_in_the_order_of_coming(monkeypatch):
    from hierpretrain.apis import milvus

    monkeypatch.setattr(milvus.time, "time_ns", lambda: 1_800_000_000 * 10**9)
    begins = iter([9_000, 5, 20_000])
    monkeypatch.setattr(milvus.secrets, "randbits", lambda bits: next(begins))
    monkeypatch.setattr(milvus, "_last_id", 0)
    first = [*milvus._new_ids(5_000), *milvus._new_ids(5_000)]
    assert first == sorted(set(first))
    monkeypatch.setattr(milvus, "_last_id", 0)  # as in another process
    assert not set(first) & set(milvus._new_ids(5_000))
