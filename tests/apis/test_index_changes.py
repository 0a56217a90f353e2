"""Changes of an index: after any of them it answers as one made anew of the same images; in any thread."""

import itertools
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hierpretrain.apis.image_digests import image_digest
from hierpretrain.apis.images import gather_images
from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.apis.index_changes import Change, ImageRecord, UpdatePlan, completed, plan_update
from hierpretrain.apis.index_files import part_path
from hierpretrain.apis.part_files import read_whole
from hierpretrain.apis.segments import _joined_from
from hierpretrain.datasets.joined import join_labels
from hierpretrain.evaluation import Embeddings
from hierpretrain.files import write_whole
from hierpretrain.taxonomy import Taxonomy
from tests.apis.test_index import TREE, brute_force, build, images, names_of
from tests.datasets.trees import write_image

TOOLS = Path(__file__).parents[2] / "tools/benchmarks"


@pytest.fixture(scope="module")
def kills():
    sys.path.insert(0, str(TOOLS))
    yield runpy.run_path(str(TOOLS / "index_kills.py"))
    sys.path.remove(str(TOOLS))


def some(embedded, rows):
    """Some of the images."""
    return embedded.select(list(rows))


def joined(parts):
    """Images one behind the other, under one tree."""
    tree, labels = join_labels([(part.taxonomy, part.labels) for part in parts])
    paths = [path for part in parts for path in part.paths]
    return Embeddings(
        torch.cat([part.features for part in parts]),
        labels,
        torch.empty(len(paths), 0, dtype=torch.int64),
        ["all"] * len(paths),
        paths,
        tree,
        (),
    )


def assert_same_answers(index, embedded, query, levels=(None, "kind"), branches=(None, ("animal",)), exact=True):
    """The index answers as one that is built of the images, and that as brute force."""
    assert index.paths == embedded.paths
    assert [set(names) for names in names_of(index)] == [set(names) for names in names_of(embedded)]
    for level in levels:
        for within in branches:
            number = None if level is None else embedded.taxonomy.level(level)
            found = index.search(query, 7, level=level, within=within)
            expected = brute_force(embedded, query, 7, number, within)
            for result, answer in zip(found, expected, strict=True):
                if exact or within is not None:
                    assert [(one.path, one.node) for one in result.neighbours] == [(one[0], one[2]) for one in answer]
                scores = [one.score for one in result.neighbours]
                assert scores == pytest.approx([score for _, score, _ in answer], abs=1e-3 if index.half else 1e-6)
    fresh = build(embedded, kind="flat", half=index.half)
    if exact:
        assert list(map(str, index.classify(query, k=9))) == list(map(str, fresh.classify(query, k=9)))


@pytest.mark.parametrize("kind", ["flat", "hnsw", "ivf"])
@pytest.mark.parametrize("folder", [None, "index"])
@pytest.mark.parametrize("seed", range(2))
def test_an_index_that_was_changed_answers_as_one_made_anew(kind, folder, seed, tmp_path, monkeypatch):
    monkeypatch.setattr("hierpretrain.apis.segments._LARGE", 40)  # so that parts of the kind come too
    generator = np.random.default_rng(seed)
    there = images(seed, 80, several=True, unlabelled=True)
    index = build(there, kind=kind)
    query = images(99, 4, prefix="new/")
    if folder:
        index.save(tmp_path / folder)
    for step in range(8):
        if step % 3 < 2:
            new = images(100 + step, int(generator.integers(1, 60)), several=step % 2 == 0, prefix=f"{step}/")
            assert index.add(new) == Change(added=len(new.paths))
            there = joined([there, new])
        else:
            gone = set(generator.choice(len(there.paths), int(generator.integers(1, 50)), replace=False).tolist())
            assert index.remove([there.paths[i] for i in gone]) == Change(removed=len(gone))
            there = some(there, [i for i in range(len(there.paths)) if i not in gone])
        exact = kind == "flat"
        assert_same_answers(index, there, query, exact=exact)
        if folder:
            opened = EmbeddingIndex.open(tmp_path / folder)
            assert opened.search(query, 5) == index.search(query, 5)
            assert opened.labels.equal(index.labels)


def test_float16_stays_as_it_was_stored():
    there, query = images(0, 60), images(1, 5)
    index = build(there, half=True)
    before = {one.path: one.score for one in index.search(query, 60)[0].neighbours}
    for i in range(4):
        index.add(images(i + 5, 30, prefix=f"{i}/"))  # which joins segments
    after = {one.path: one.score for one in index.search(query, 500)[0].neighbours}
    assert {path: after[path] for path in before} == before


def test_the_tree_grows():
    small = Taxonomy([("animal", "ape"), ("animal", "dog")], ("kingdom", "kind"))
    first = images(0, 20, tree=Taxonomy([], ()))
    index = build(first)
    index.add(
        Embeddings(
            **{
                **vars(images(1, 2, tree=Taxonomy([], ()), prefix="a/")),
                "labels": small.node_labels(2),
                "taxonomy": small,
            }
        )
    )
    more = images(2, 30, prefix="b/")
    index.add(more)
    assert index.taxonomy.num_levels == 3
    assert [index.taxonomy.decode(row) for row in index.labels[20:22]] == [("animal", "ape"), ("animal", "dog")]
    assert [index.taxonomy.decode(row) for row in index.labels[22:]] == [TREE.decode(row) for row in more.labels]
    assert index.search(more, 1, within="animal/ape")[0].neighbours[0].path == "a/0.jpg"
    other = Taxonomy([("x",)], ("colour",))
    with pytest.raises(ValueError, match="must have the same levels to be one set under one tree"):
        index.add(
            Embeddings(
                **{
                    **vars(images(3, 1, tree=Taxonomy([], ()), prefix="c/")),
                    "labels": other.node_labels(1),
                    "taxonomy": other,
                }
            )
        )
    assert len(index) == 52


def test_few_segments_and_little_work():
    sizes, written = [], 0
    for _ in range(2000):
        first = _joined_from(sizes, 10)
        new = 10 + sum(sizes[first:])
        written += new
        sizes = [*sizes[:first], new]
        assert len(sizes) <= 12
        assert all(a >= 2 * b for a, b in itertools.pairwise(sizes))
    assert sum(sizes) == 20_000
    assert written < 20_000 * 14  # each image as often as the sizes can double


def test_files_that_were_added_are_gone_through_once_for_all_that_were_skipped():
    class Counted(list):
        passes = 0

        def __iter__(self):
            Counted.passes += 1
            return super().__iter__()

    index, more = build(images(number=3)), images(1, 5, prefix="more/")
    passes = []
    for number in (1, 50):
        skipped = {f"more/{i}.jpg": "it is broken" for i in range(4, 4 + number)}
        Counted.passes = 0
        now = index._now.with_more(replace(more, paths=Counted(more.paths), skipped=skipped), print)
        assert list(now.skipped) == [f"more/{i}.jpg" for i in range(5, 4 + number)]
        passes.append(Counted.passes)
    assert passes[0] == passes[1]


def test_all_can_go_and_come_again(tmp_path):
    index = build(images(number=9))
    index.save(tmp_path / "index")
    index.remove(index.paths)
    index = EmbeddingIndex.open(tmp_path / "index")
    assert (len(index), index.width, index.taxonomy) == (0, 6, TREE)
    assert index.search(images(1, 2)) == [type(r)(r.query, ()) for r in index.search(images(1, 2))]
    assert index.search(images(1, 2), level="kind")[0].neighbours == ()
    with pytest.raises(ValueError, match="there is no branch 'animal': the tree is empty, for the images have no"):
        index.search(images(1, 2), level="kind", within="animal")
    with pytest.raises(ValueError, match="to classify, images of the index need labels"):
        index.classify(images(1, 2))
    index.add(images(number=3))
    assert index.search(images(number=3), 1)[2].neighbours[0].path == "photos/2.jpg"


def test_columns_instead_of_images():
    index = build(images(number=5))
    index.add(
        embeddings=np.eye(6)[:3] * 7,
        keys=["A", "B", "C"],
        paths=[("animal", "cow"), (), [("toy", "dog"), ("tool",)]],
        files=["a.jpg", "b.jpg", "c.jpg"],
        metadata={"price": ["1", "2", ""]},
    )
    query = Embeddings(**{**vars(images(number=1)), "features": torch.eye(6)[2:3]})
    (found,) = index.search(query, 1)[0].neighbours
    assert (found.path, found.key, set(found.labels)) == ("c.jpg", "C", {("toy", "dog"), ("tool",)})
    assert index.search(query, 9, where={"price": "2"})[0].neighbours[0].key == "B"
    assert index.keys == [""] * 5 + ["A", "B", "C"]
    index.remove(["A", "./photos/1.jpg"])  # as a shell names it
    assert index.paths == ["photos/0.jpg", "photos/2.jpg", "photos/3.jpg", "photos/4.jpg", "b.jpg", "c.jpg"]


def test_keys_beside_embeddings_are_in_one_unicode_form_and_numbers_as_in_a_list():
    index = build(images(number=2))
    index.add(
        embeddings=np.eye(6)[:2], keys=["cafe\u0301", 17.0], metadata={"new": [True, np.False_], "price": [3.0, 4.5]}
    )
    assert index.keys == ["", "", "caf\u00e9", "17"]
    assert index.has_key("cafe\u0301")
    assert index.has_key("caf\u00e9")
    assert index.metadata == {"new": ["", "", "true", "false"], "price": ["", "", "3", "4.5"]}
    with pytest.raises(ValueError, match="caf\u00e9"):
        index.add(embeddings=np.eye(6)[:1], keys=["caf\u00e9"])


def test_numbers_are_keys_and_what_is_missing_is_no_metadata():
    index = build(images(number=2))
    index.add(embeddings=np.eye(6)[:2], keys=[5, "6"], metadata={"price": [None, float("nan")]})
    assert index.keys == ["", "", "5", "6"]
    assert index.search(images(number=1), 9, where={"price": "None"})[0].neighbours == ()
    with pytest.raises(ValueError, match=r"^no image of the index has price='None'; there are none$"):
        index.check_fits({"price": "None"})
    assert index.remove([5]).removed == 1
    with pytest.raises(ValueError, match=r"keys must be texts, .*; number 0 is None"):
        index.remove([None])
    for nothing in ("", [""]):  # as of an empty cell; most images have no key
        with pytest.raises(ValueError, match=r"keys must be texts, .*; number 0 is ''"):
            index.remove(nothing)


@pytest.mark.parametrize("as_given", [np.asarray, torch.as_tensor])
def test_arrays_of_embeddings_are_searched_and_classified(as_given):
    index, rows = build(images(number=5)), images(1, 3)
    given = as_given(np.asarray(rows.features) * 3)
    for ours, expected in zip(index.search(given, 2), index.search(rows, 2), strict=True):
        assert [found.path for found in ours.neighbours] == [found.path for found in expected.neighbours]
    assert [one.query for one in index.classify(given, k=2)] == ["<image 0>", "<image 1>", "<image 2>"]
    with pytest.raises(ValueError, match="must come from one model and have one D; they have 3 and 6"):
        index.search(given[:, :3])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "give images, or embeddings of them: one of the two"),
        ({"embeddings": np.eye(6)}, "embeddings need keys or files, by which they are known"),
        ({"embeddings": np.eye(6), "keys": ["a"]}, "as many labels and paths as embeddings; there are 6, 1 and 6"),
        ({"embeddings": np.eye(6)[0], "keys": ["a"]}, r"embeddings must be \(N, D\), a row an image; their shape is"),
        ({"embeddings": np.eye(7), "keys": list("abcdefg")}, "one model and have one D; they have 7 and 6"),
        ({"embeddings": np.zeros((1, 6)), "keys": ["a"]}, "row 0 is all zero"),
        ({"embeddings": np.eye(6)[:1], "keys": ["a"], "paths": ["cat"]}, "'cat' is a text: give files as files="),
        (
            {"embeddings": np.eye(6)[:2], "keys": list("ab"), "paths": [("x",), None]},
            r"None is no such one: give \(\) for no label",
        ),
        (
            {"embeddings": np.eye(6)[:1], "keys": ["a"], "paths": [("x", None)]},
            r"\('x', None\) is no such one: give \(\)",
        ),
        ({"embeddings": np.eye(6)[:1], "keys": ["a"], "paths": [[2024]]}, r"\[2024\] is no such one: give \(\)"),
        ({"embeddings": np.eye(6)[:1], "keys": ["a"], "metadata": {"x": []}}, "as many x; there are 0"),
        ({"embeddings": np.eye(6)[:1], "files": ["photos/3.jpg"]}, "in the index already: 'photos/3.jpg'"),
        ({"embeddings": np.eye(6)[:2], "keys": ["a", None]}, "keys must be texts, .*; number 1 is None"),
        ({"embeddings": np.eye(6)[:2], "keys": [float("nan"), "b"]}, "keys must be texts, .*; number 0 is nan"),
        ({"embeddings": np.eye(6)[:2], "keys": "ab"}, "keys must be texts, one an image; they are one text, 'ab'"),
        ({"embeddings": np.eye(6)[:2], "files": ["a", ""]}, "files must be texts, .*; number 1 is ''"),
        ({"embeddings": np.eye(6)[:2], "keys": ["a", "a"]}, "images must be given once; 'a' are given several times"),
        ({"images": ["a.jpg"], "keys": ["a"]}, "keys, paths, files and metadata go with embeddings"),
        ({"images": ["a.jpg"]}, "the index does not carry its model, 'resnet, epoch_5.pth'"),
    ],
)
def test_what_cannot_be_added(options, message):
    index = build(images(number=5))
    with pytest.raises(ValueError, match=message):
        index.add(**options)
    assert len(index) == 5


def test_merging(tmp_path):
    one, other = images(0, 30), images(1, 20, prefix="other/", skipped={"x": "broken"})
    index = build(one)
    build(other).save(tmp_path / "other")
    assert index.merge(tmp_path / "other") == Change(added=20)
    assert_same_answers(index, joined([one, other]), images(5, 3))
    assert index.skipped == {"x": "broken"}
    with pytest.raises(ValueError, match=r"20 of 20 images are in the index already: 'other/0.jpg'"):
        index.merge(tmp_path / "other")
    stranger = EmbeddingIndex.build(images(2, 3), model="vgg", fingerprint="ffff", log=lambda line: None)
    with pytest.raises(ValueError, match=r"made by 'resnet, epoch_5.pth' .*, not by 'vgg' \(ffff\)"):
        index.merge(stranger)


# ---------------------------------------------------------------- update, with an encoder of pixels' values
def picture(value):
    return np.full((4, 4, 3), value, np.uint8)


@pytest.fixture
def living(kills, tmp_path):
    """An index of nothing in a folder, whose encoder counts what it embeds."""
    index = kills["made"](kills["random_images"](3, "base", 0))
    index.save(tmp_path / "index")

    class Counting(kills["Pixels"]):
        embedded = 0

        def embed_set(self, found, *, need_one=True):
            Counting.embedded += len(found.paths)
            return super().embed_set(found, need_one=need_one)

    index.use_model(Counting())
    return index, Counting


def test_only_what_has_changed_is_embedded(living):
    index, encoder = living
    assert index.update([picture(1), picture(2), picture(3)]) == Change(added=3, embedded=3)
    before = index._now
    assert index.update([picture(1), picture(2), picture(3)]) == Change(kept=3)
    assert index._now is before
    # the second has changed, the third is where the second was, the fourth is new
    assert index.update([picture(1), picture(9), picture(2), picture(4)]) == Change(3, 2, 1, 2)
    assert encoder.embedded == 5
    assert index.paths == ["base/0.jpg", "base/1.jpg", "base/2.jpg", "<image 0>", "<image 1>", "<image 2>", "<image 3>"]
    for i, value in enumerate((1, 9, 2, 4)):
        expected = np.random.default_rng(value).standard_normal(16)
        got = index._now.vectors(torch.tensor([3 + i]))[0]
        np.testing.assert_allclose(got, expected / np.linalg.norm(expected), atol=1e-6)
    assert index.update([picture(4)], prune=True) == Change(added=1, removed=7, embedded=0)
    assert index.paths == ["<image 0>"]


def test_a_key_has_the_images_that_it_is_given(living, tmp_path):
    index, encoder = living
    for name in "abc":
        (tmp_path / f"{name}.jpg").write_text(name)

    def embed_set(found, *, need_one=True):
        encoder.embedded += len(found.paths)
        return encoder.embed_set(encoder(), replaced(found), need_one=need_one)

    def replaced(found):
        return type(found)(**{**vars(found), "sources": [picture(ord(Path(path).stem[0])) for path in found.paths]})

    class OfFiles(encoder):
        def embed_set(self, found, *, need_one=True):
            embedded = super().embed_set(replaced(found))
            digests = [__import__("hashlib").sha256(Path(path).read_bytes()).hexdigest()[:32] for path in found.paths]
            return Embeddings(**{**vars(embedded), "keys": found.keys, "metadata": found.metadata, "digests": digests})

    index.use_model(OfFiles())
    options = dict(levels=[], key_column="sku")
    shop = tmp_path / "shop.csv"
    shop.write_text("image,sku,price\na.jpg,S1,3\nb.jpg,S1,3\nc.jpg,S2,4\n")
    assert index.update(shop, **options) == Change(added=3, embedded=3)
    shop.write_text("image,sku,price\nb.jpg,S1,5\nc.jpg,S2,4\n")
    assert index.update(shop, **options) == Change(added=1, removed=2, kept=1, embedded=0)  # a new price, one less
    assert dict(zip(index.keys[3:], index.metadata["price"][3:], strict=True)) == {"S2": "4", "S1": "5"}
    (tmp_path / "c.jpg").write_text("changed")
    assert index.update(shop, **options) == Change(added=1, removed=1, kept=1, embedded=1)
    assert encoder.embedded == 4


class Reading:
    """Embeds files of one colour, and skips what it cannot read."""

    name, fingerprint, width, on_error = "pixels", "0", 16, "skip"

    def __init__(self, pixels):
        self.pixels = pixels

    def embed_set(self, found, *, need_one=True):
        skipped = {path: "it is broken" for path in found.paths if not Path(path).read_bytes().startswith(b"\x89PNG")}
        read = [i for i, path in enumerate(found.paths) if path not in skipped]
        chosen = found.subset(read)
        embedded = self.pixels.embed_set(replace(chosen, sources=[Image.open(path) for path in chosen.paths]))
        digests = [image_digest(path) for path in chosen.paths]
        return replace(embedded, skipped=skipped, keys=chosen.keys, metadata=chosen.metadata, digests=digests)


def shop_of(index):
    """The keys and the files of an index, and its embeddings by the file."""
    rows = index.embeddings()
    files = [Path(path).name for path in rows.paths]
    return sorted(zip(rows.keys, files, strict=True)), dict(zip(files, rows.features.tolist(), strict=True))


@pytest.mark.parametrize("prune", [False, True])
@pytest.mark.parametrize("how", ["broken", "missing"])
def test_what_cannot_be_read_now_stays_as_it_was(kills, tmp_path, prune, how):
    index = kills["made"](kills["random_images"](3, "base", 0))
    index.use_model(Reading(kills["Pixels"]()))
    for i, name in enumerate("abc"):
        write_image(tmp_path / f"{name}.png", (i, i, i))
    shop, options = tmp_path / "shop.csv", dict(levels=[], key_column="sku")
    shop.write_text("image,sku,price\na.png,S1,3\nb.png,S1,3\nc.png,S2,4\n")
    index.update(shop, prune=True, **options)
    before = shop_of(index)[1]
    as_it_was = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_text("broken") if how == "broken" else (tmp_path / "a.png").unlink()
    write_image(tmp_path / "b.png", (9, 9, 9))  # of the same key
    assert index.update(shop, prune=prune, **options) == Change(added=1, removed=1, kept=1, embedded=1)
    names, after = shop_of(index)
    assert names == [("S1", "a.png"), ("S1", "b.png"), ("S2", "c.png")]
    assert [after[name] == before[name] for name in ("a.png", "b.png", "c.png")] == [True, False, True]
    assert list(index.skipped) == [str(tmp_path / "a.png")]
    (tmp_path / "a.png").write_bytes(as_it_was)
    assert index.update(shop, prune=prune, **options) == Change(kept=3)
    assert index.skipped == {}


def test_what_lies_in_a_folder_that_cannot_be_read_stays(kills, tmp_path):
    index = kills["made"](images(number=3, dim=16, tree=Taxonomy([], ())))
    index.use_model(Reading(kills["Pixels"]()))
    for i, name in enumerate(("shoes/1.png", "shoes/2.png", "hats/1.png", "hats/2.png")):
        write_image(tmp_path / "shop" / name, (i, i, i))
    index.update(tmp_path / "shop", prune=True)
    (tmp_path / "shop/shoes").rename(tmp_path / "away")
    (tmp_path / "shop/shoes").symlink_to(tmp_path / "gone")
    (tmp_path / "shop/hats/2.png").unlink()
    assert index.update(tmp_path / "shop", prune=True) == Change(removed=1, kept=1)
    assert [path[len(str(tmp_path)) :] for path in index.paths] == [
        "/shop/hats/1.png",
        "/shop/shoes/1.png",
        "/shop/shoes/2.png",
    ]
    assert "is a link that leads out of" in index.skipped[str(tmp_path / "shop/shoes")]


def test_of_two_files_alike_but_for_their_unicode_form_the_one_that_can_be_read_is_replaced():
    composed, decomposed = "caf\u00e9.png", "cafe\u0301.png"
    there = {0: ImageRecord(composed, digest="0"), 1: ImageRecord(decomposed, digest="1")}
    given = [ImageRecord(composed, digest="8"), ImageRecord(decomposed, digest="9")]
    assert plan_update(there, given, {composed}) == UpdatePlan(gone={1}, kept=set(), coming=[(1, None)])
    assert plan_update(there, given, {decomposed}) == UpdatePlan(gone={0}, kept=set(), coming=[(0, None)])


def test_what_the_index_has_as_it_is_given_is_not_made_anew():
    there = [ImageRecord(f"photos/cat/{i}.jpg", labels=(("cat",),), metadata={"sku": str(i)}) for i in range(2)]
    given = [there[0], replace(there[1], metadata={})]
    found = completed(given, there, [("metadata",)] * 2, ["photos"] * 2)
    assert found[0] is given[0]
    assert found == there


def test_images_that_are_given_twice_are_no_update(living, tmp_path):
    index, encoder = living
    write_image(tmp_path / "a.png", "red")
    before = index.paths
    with pytest.raises(ValueError, match=r"images must be given once; '.*a.png' are given several times: leave the"):
        index.update([tmp_path / "a.png", tmp_path / "a.png"])
    assert (index.paths, encoder.embedded) == (before, 0)


def test_an_update_brings_nothing_that_could_not_be_read_again(living, monkeypatch):
    index, _ = living
    monkeypatch.setattr(
        "hierpretrain.apis.living.gather_images", lambda *args, **options: replace(gather_images(*args), keys=[7])
    )
    before = EmbeddingIndex.open(index.folder).paths
    with pytest.raises(ValueError, match="keys must be texts, which an index can keep; 7 is none: turn it into one"):
        index.update([picture(1)])
    assert EmbeddingIndex.open(index.folder).paths == before


@pytest.mark.parametrize("change", ["add", "update"])
def test_levels_of_other_names_are_told_before_anything_is_embedded(living, tmp_path, change):
    index, encoder = living
    write_image(tmp_path / "1.png", "red")
    (tmp_path / "shoes.csv").write_text("image,kind\n1.png,shoe\n")
    told = r"the same levels .*; these have \[\('kind',\), \('top', 'leaf'\)\]: the index's are \('top', 'leaf'\); name"
    with pytest.raises(ValueError, match=rf"^index and images must have {told} the columns of a list .* by --levels"):
        getattr(index, change)(tmp_path / "shoes.csv")
    assert encoder.embedded == 0


@pytest.mark.parametrize("change", ["add", "update"])
def test_levels_of_a_folder_are_those_of_the_index(kills, tmp_path, change):
    index = kills["made"](kills["random_images"](3, "base", 0))
    index.use_model(Reading(kills["Pixels"]()))
    write_image(tmp_path / "0/1.png", "red")
    write_image(tmp_path / "0/leaf/new/2.png", "red")
    getattr(index, change)(tmp_path)
    assert index.taxonomy.level_names == ("top", "leaf", "level3")
    assert names_of(index)[3:] == [(("0",),), (("0", "leaf", "new"),)]


def test_a_level_that_is_called_as_another_default_one_is_no_such_level():
    tree = Taxonomy([("x", "y")], ("level3", "leaf"))
    index = build(replace(images(number=1, tree=Taxonomy([], ())), labels=tree.node_labels(2), taxonomy=tree))
    deeper = Taxonomy([("a", "b", "c")], ("level1", "level2", "level3"))
    with pytest.raises(ValueError, match=r"these have .*: the index's are \('level3', 'leaf'\); name the columns"):
        index.add(replace(images(1, 1, prefix="a/"), labels=deeper.node_labels(3), taxonomy=deeper))


def test_images_that_are_there_are_told_before_anything_is_embedded(living):
    index, encoder = living
    index.add([picture(1)])
    with pytest.raises(ValueError, match=r"1 of 2 images are in the index already: '<image 0>'; leave them out"):
        index.add([picture(2), picture(3)])
    assert encoder.embedded == 1


def test_an_index_stays_where_it_is_wherever_the_process_goes(tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    saved = build(images(number=3))
    saved.save("index")
    opened = EmbeddingIndex.open("index")
    monkeypatch.chdir("elsewhere")
    saved.add(images(1, 2, prefix="a/"))
    opened.add(images(2, 2, prefix="b/"))
    assert len(EmbeddingIndex.open(tmp_path / "index")) == 7
    assert list((tmp_path / "elsewhere").iterdir()) == []


# ---------------------------------------------------------------- parts
def test_parts_are_kept_with_the_index(tmp_path):
    index = build(images(number=5))
    index.parts["thresholds"] = {"kind": [0.5, 0.25]}
    index.save(tmp_path / "a")
    index.add(images(1, 4, prefix="more/"))
    opened = EmbeddingIndex.open(tmp_path / "a")
    assert dict(opened.parts) == {"thresholds": {"kind": [0.5, 0.25]}}
    index.parts["thresholds"] = 3
    assert opened.parts["thresholds"] == 3  # the newest, where another has replaced it
    opened.save(tmp_path / "b")
    assert EmbeddingIndex.open(tmp_path / "b").parts["thresholds"] == 3
    del opened.parts["thresholds"]
    assert dict(EmbeddingIndex.open(tmp_path / "b").parts) == {}
    with pytest.raises(KeyError):
        opened.parts["thresholds"]
    for name in ("weights", "config", "vectors", "Ü", "../x", ""):
        with pytest.raises(ValueError, match="a part's name must be of small letters"):
            index.parts[name] = 1
    (file,) = (tmp_path / "a").glob("thresholds-*")
    file.write_text("4")
    with pytest.raises(ValueError, match=r"thresholds-.* is damaged: the SHA-256"):
        index.parts["thresholds"]


def test_a_part_that_another_thread_has_read_anew_is_read_by_all(tmp_path, monkeypatch):
    build(images(number=5)).save(tmp_path / "a")
    index, other = (EmbeddingIndex.open(tmp_path / "a") for _ in range(2))
    index.parts["thresholds"] = 1
    later = [True]

    def replace_first(*args):
        if later:
            later.pop()
            other.parts["thresholds"] = 2
            index.refresh()  # as the thread of a service that watches
        return part_path(*args)

    monkeypatch.setattr("hierpretrain.apis.index.part_path", replace_first)
    assert index.parts["thresholds"] == 2


def test_a_part_that_goes_while_its_size_is_asked_for_has_none(tmp_path, monkeypatch):
    index = build(images(number=5))
    index.save(tmp_path / "a")
    expected, is_file = index.info()["bytes"], Path.is_file

    def remove_then(path):
        found = is_file(path)
        if path.name == "gone-1.json":
            path.unlink()
        return found

    (tmp_path / "a/gone-1.json").write_text("{}")
    monkeypatch.setattr(Path, "is_file", remove_then)
    assert index.info()["bytes"] == expected


# ---------------------------------------------------------------- processes and threads
def test_two_writers_lose_nothing(tmp_path):
    build(images(number=5)).save(tmp_path / "index")
    indexes = [EmbeddingIndex.open(tmp_path / "index") for _ in range(2)]

    def add(number):
        indexes[number % 2].add(images(number, 3, prefix=f"{number}/"))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(12)))
    expected = {f"{number}/{i}.jpg" for number in range(12) for i in range(3)} | {f"photos/{i}.jpg" for i in range(5)}
    assert set(EmbeddingIndex.open(tmp_path / "index").paths) == expected
    assert {index.refresh() for index in indexes} == {True, False}  # one of them was the last
    assert [set(index.paths) for index in indexes] == [expected] * 2


def test_threads_search_while_another_one_adds(tmp_path):
    there = images(0, 300)
    index = build(there)
    index.save(tmp_path / "index")
    done = []

    def search():
        seen = 0
        while not done:
            results = index.search(there.of("all"), 400, level=None)
            counts = {len(result.neighbours) for result in results}
            (count,) = counts  # one moment for all queries
            assert count >= seen
            assert (count - 300) % 7 == 0 or count == 400
            assert [result.neighbours[0].path for result in results] == there.paths
            seen = count
        return seen

    with ThreadPoolExecutor(3) as pool:
        searching = [pool.submit(search) for _ in range(2)]
        for i in range(12):
            index.add(images(i + 1, 7, prefix=f"{i}/"))
        done.append(True)
        assert all(future.result() >= 300 for future in searching)


def test_an_index_that_another_model_made_anew_is_not_taken_for_the_same(tmp_path):
    build(images()).save(tmp_path / "index")
    index = EmbeddingIndex.open(tmp_path / "index")
    assert not index.refresh()
    EmbeddingIndex.build(images(), model="vgg", fingerprint="ffff", log=lambda line: None).save(tmp_path / "index")
    for ask in (index.refresh, lambda: index.add(images(1, 2, prefix="x/"))):
        with pytest.raises(ValueError, match=r"was made anew by 'vgg' \(fingerprint ffff\).*open it again"):
            ask()


def test_kills_leave_it_whole(kills, tmp_path):
    kills["made"](kills["random_images"](50, "base", 0)).save(tmp_path / "index")
    kills["kill"](tmp_path / "index", 4, seed=3, log=lambda line: None)


@pytest.mark.slow
def test_fifty_kills_leave_it_whole(kills, tmp_path):
    kills["made"](kills["random_images"](2000, "base", 0)).save(tmp_path / "index")
    assert kills["kill"](tmp_path / "index", 50, seed=0, log=lambda line: None) > 5  # some were in the middle of it


@pytest.mark.parametrize("reads", [60, pytest.param(2000, marks=pytest.mark.slow)])
def test_reads_beside_a_writer_are_whole(kills, tmp_path, reads):
    assert sum(kills["read"](tmp_path / "index", reads).values()) == reads


def test_a_manifest_that_came_back_meanwhile_is_read_again(tmp_path):
    """A part goes when another manifest is swapped in, and is there again when the first one comes back."""
    manifest = tmp_path / "index.json"
    write_whole(manifest, b"one")
    seen = []

    def read(data):
        seen.append(data)
        if len(seen) == 1:
            write_whole(manifest, b"two")
            write_whole(manifest, b"one")
            raise ValueError("a part is missing")
        return data

    assert read_whole(manifest, read) == b"one"
    assert seen == [b"one", b"one"]


@pytest.mark.parametrize(("parts_change", "times"), [(False, 1), (True, 2)])
def test_what_was_read_beside_a_change_is_read_again_where_parts_keep_their_names(tmp_path, parts_change, times):
    manifest = tmp_path / "index.json"
    write_whole(manifest, b"one")
    seen = []

    def read(data):
        if not seen:
            write_whole(manifest, b"two")
        seen.append(data)
        return data

    assert read_whole(manifest, read, parts_change=parts_change) == seen[-1]
    assert len(seen) == times


def test_an_error_of_parts_that_nobody_changed_is_raised_at_once(tmp_path):
    write_whole(tmp_path / "index.json", b"one")

    def read(data):
        raise ValueError("a part is missing")

    with pytest.raises(ValueError, match="a part is missing"):
        read_whole(tmp_path / "index.json", read)
