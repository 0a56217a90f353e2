import json
import re
from collections import Counter, defaultdict
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from hierpretrain.datasets import (
    Annotations,
    Emoji64,
    ListDataset,
    Split,
    renewed_split,
    seen_unseen_split,
    share_split,
)
from hierpretrain.datasets.split_files import with_split

LEVELS = ("kind", "animal", "breed")


def annotate(labels, splits=None, level_names=LEVELS, order=None):
    """Annotations of the images 0000.jpg, 0001.jpg, ... with these labels."""
    rows = [(f"{i:04}.jpg", tuple(label), splits[i] if splits else "all") for i, label in enumerate(labels)]
    rows = rows if order is None else [rows[i] for i in order]
    images, labels, splits = map(list, zip(*rows, strict=True))
    return Annotations(images, labels, splits, level_names, "pets", source="pets")


def random_labels(seed, number=400):
    """Ragged labels over a tree whose nodes differ much in size; names repeat under different parents."""
    draw = np.random.default_rng(seed)
    labels = []
    for _ in range(number):
        path = (f"k{int(6 * draw.random() ** 2)}", f"a{draw.integers(4)}", f"b{int(5 * draw.random() ** 2)}")
        labels.append(path[: draw.choice([0, 1, 2, 3], p=[0.02, 0.03, 0.15, 0.8])])
    return labels


def test_classes_and_images_are_found_in_any_unicode_form(tmp_path):
    one, two = "caf\u00e9", "cafe\u0301"
    pets = Annotations(
        [f"{name}/{i}.jpg" for name in (one, "bar", "pub") for i in range(5)],
        [(name, f"{name} inside") for name in (one, "bar", "pub") for _ in range(5)],
        ["all"] * 15,
        ("place", "room"),
        "pets",
    )
    for unseen in (two, [two]):
        split = seen_unseen_split(pets, level="place", unseen=[unseen])
        assert split.unseen == ((one,),)
    assert seen_unseen_split(pets, level="room", unseen=[[two, f"{two} inside"]]).unseen == ((one, f"{one} inside"),)
    assert seen_unseen_split(pets, level="place", unseen=["bar"], held_out=[two]).held_out == ((one,),)
    elsewhere = {image.replace(one, two): tag for image, tag in split.tags.items()}
    replace(split, tags=elsewhere).save(tmp_path / "split.json")
    assert with_split(pets, tmp_path / "split.json").splits == [split.tags[image] for image in pets.images]
    replace(split, tags={**elsewhere, f"{one}/0.jpg": "seen_train"}).save(tmp_path / "split.json")
    with pytest.raises(ValueError, match="1 images are only in the file"):
        with_split(pets, tmp_path / "split.json")


def counts_by_node(annotations, split, depth=None):
    """(seen or unseen, node) -> tag without its first word -> images."""
    counts = defaultdict(Counter)
    for image, label in zip(annotations.images, annotations.labels, strict=True):
        if (tag := split.tags[image]) != "unused":
            seen, part = tag.split("_")
            counts[seen, label[:depth]][part] += 1
    return counts


# ---------------------------------------------------------------- what every split promises
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("level", [1, 2, 3])
@pytest.mark.parametrize("shares", [(0.6, 0.2, 0.2), (0.5, 0.0, 0.5), (0.15, 0.25, 0.6), (1 / 3, 1 / 3, 1 / 3)])
def test_promises_on_random_trees(seed, level, shares):
    rows = annotate(random_labels(seed))
    split = seen_unseen_split(rows, level=level, unseen=0.3, seed=seed, shares=shares)
    assert list(split.tags) == rows.images
    # classes are seen or unseen as a whole, and as many are unseen as asked for
    sides = defaultdict(set)
    for image, label in zip(rows.images, rows.labels, strict=True):
        if len(label) >= level:
            sides[label[:level]].add(split.tags[image].split("_")[0])
        else:
            assert split.tags[image] == "unused"
    assert all(len(side) == 1 for side in sides.values())
    unseen = sorted(path for path, side in sides.items() if side == {"unseen"})
    assert split.unseen == tuple(unseen)
    assert len(unseen) == int(0.3 * len(sides) + 0.5)
    # each node's parts are its shares, rounded down or up, with one image in train
    for counts in counts_by_node(rows, split).values():
        number = counts.total()
        assert counts["train"] >= 1
        for part, share in zip(("train", "val", "test"), shares, strict=True):
            exact = Fraction(str(share)) * number
            assert int(exact) <= counts[part] <= int(exact) + (exact > int(exact))


@pytest.mark.parametrize("seed", range(10))
def test_totals_follow_the_shares(seed):
    labels = [label for label in random_labels(seed) if len(label) == 3]
    labels += sorted(set(labels))  # no node of one image, which would have to be for training
    rows = annotate(labels)
    split = seen_unseen_split(rows, level=1, unseen=0.3, seed=seed, shares=(0.5, 0.3, 0.2))
    totals = defaultdict(Counter)
    for (side, _), counts in counts_by_node(rows, split).items():
        totals[side].update(counts)
    for counts in totals.values():
        for part, share in (("train", 0.5), ("val", 0.3), ("test", 0.2)):
            assert abs(counts[part] - share * counts.total()) <= 1


def test_by_hand():
    # breeds of 1, 2, 3, 5 and 10 images, all seen; the class that is unseen has 4
    sizes = {"a": 1, "b": 2, "c": 3, "d": 5, "e": 10}
    labels = [("cat", "house", name) for name, size in sizes.items() for _ in range(size)] + [("dog", "wolf", "f")] * 4
    rows = annotate(labels)
    counts = counts_by_node(rows, seen_unseen_split(rows, level="kind", unseen=["dog"]))
    parts = ("train", "val", "test")
    # in brackets, how far the three are behind their shares before the last images of the node are dealt
    assert {(node[-1], *map(count.get, parts)) for (_, node), count in counts.items()} == {
        ("a", 1, None, None),  # the only one is for training
        ("b", 1, 1, None),  # [-0.2, 0.6, 0.6] one to deal: val comes first in a tie
        ("c", 2, None, 1),  # [0.6, 0.2, 1.2] two to deal
        ("d", 3, 1, 1),
        ("e", 6, 2, 2),
        ("f", 2, 1, 1),  # counted anew for the unseen: [0.4, 0.8, 0.8] two to deal, two there already
    }


def test_small_nodes_alternate():
    rows = annotate([("cat", "house", f"{i // 2:02}") for i in range(40)] + [("dog", "wolf", "f")])
    split = seen_unseen_split(rows, level=1, unseen=["dog"], shares=(0.5, 0.25, 0.25))
    counts = counts_by_node(rows, split)
    second = [next(iter(counts[key] - Counter(train=1))) for key in sorted(counts) if key[0] == "seen"]
    assert second == ["val", "test"] * 10


def test_seed_and_order():
    labels = random_labels(5)
    split = seen_unseen_split(annotate(labels), level=2, unseen=0.3, seed=1)
    shuffled = annotate(labels, order=np.random.default_rng(0).permutation(len(labels)))
    np.random.seed(3)  # noqa: NPY002  the global generator is none of its business
    again = seen_unseen_split(shuffled, level="animal", unseen=0.3, seed=1)
    assert again == split
    other = seen_unseen_split(annotate(labels), level=2, unseen=0.3, seed=2)
    assert other.unseen != split.unseen
    # with the classes given, the seed still draws the images
    same = [seen_unseen_split(annotate(labels), level=2, unseen=split.unseen, seed=seed) for seed in (1, 2)]
    assert same[0] == split
    assert same[1].unseen == split.unseen
    assert same[1].tags != split.tags


# ---------------------------------------------------------------- units and own splits
def model_net(models=(30, 7, 1), views=4):
    """Labels and splits of ModelNet's kind: category, model; a fifth of the models are the test split."""
    labels, splits = [], []
    for category, number in zip(("bed", "car", "sofa"), models, strict=True):
        for model in range(number):
            labels += [(category, f"{model:02}")] * views
            splits += ["test" if model % 5 == 4 else "train"] * views
    return annotate(labels, splits, ("category", "model"))


def models_by_tag(rows, split):
    tags = defaultdict(set)
    for image, label in zip(rows.images, rows.labels, strict=True):
        tags[split.tags[image]].add(label)
    assert sum(map(len, tags.values())) == len(set(rows.labels))  # no model is in two
    return {tag: Counter(label[0] for label in labels) for tag, labels in tags.items()}


def test_units_stay_whole_and_are_dealt_within_their_parent():
    rows = model_net()
    by_tag = models_by_tag(rows, seen_unseen_split(rows, level="category", unseen=["bed"], unit="model"))
    assert by_tag == {
        "unseen_train": {"bed": 18},
        "unseen_val": {"bed": 6},
        "unseen_test": {"bed": 6},
        "seen_train": {"car": 4, "sofa": 1},
        "seen_val": {"car": 2},  # 1.4: train, val and test are 0.2, 0.4 and 0.4 behind
        "seen_test": {"car": 1},
    }
    # without a unit, the views of every model are divided
    images = counts_by_node(rows, seen_unseen_split(rows, level="category", unseen=["bed"]))
    assert all(counts.keys() > {"train"} for counts in images.values())


def test_own_splits_are_kept():
    rows = model_net()
    split = seen_unseen_split(rows, level="category", unseen=["car"], shares=None)
    for image, label, own in zip(rows.images, rows.labels, rows.splits, strict=True):
        assert split.tags[image] == f"{'unseen' if label[0] == 'car' else 'seen'}_{own}"
    assert (split.shares, split.val_share, split.unit) == (None, None, None)


def test_val_out_of_own_train():
    rows = model_net()
    split = seen_unseen_split(rows, level="category", unseen=["car"], shares=None, val_share=0.2, unit="model")
    assert models_by_tag(rows, split) == {
        "seen_train": {"bed": 19, "sofa": 1},
        "seen_val": {"bed": 5},  # 4.8 of 24
        "seen_test": {"bed": 6},
        "unseen_train": {"car": 5},
        "unseen_val": {"car": 1},  # 1.2 of 6
        "unseen_test": {"car": 1},
    }
    own = {image: own for image, own in zip(rows.images, rows.splits, strict=True) if own == "test"}
    assert all(split.tags[image].endswith("_test") for image in own)


def products(seed=0):
    """Images of products under categories; every fourth product hangs in two categories, as some of In-Shop's do."""
    generator = np.random.default_rng(seed)
    labels, ids = [], []
    for product in range(60):
        homes = generator.permutation(4)[: 1 + (product % 4 == 0)]
        for _ in range(generator.integers(2, 7)):
            labels.append((f"category{generator.choice(homes)}", f"{product}"))
            ids.append(f"id{product}")
    rows = annotate(labels, ["train"] * len(labels), ("category", "product"))
    return replace(rows, extra_labels={"product_id": ids})


@pytest.mark.parametrize("options", [dict(shares=(0.5, 0.2, 0.3)), dict(shares=None, val_share=0.3)])
@pytest.mark.parametrize("seed", range(3))
def test_a_product_in_two_categories_is_dealt_as_one(options, seed):
    rows = products(seed)
    ids = dict(zip(rows.images, rows.extra_labels["product_id"], strict=True))
    split = seen_unseen_split(rows, level="category", unseen=["category0"], unit="product_id", seed=seed, **options)
    tags = defaultdict(set)
    for image, tag in split.tags.items():
        tags[ids[image]].add(tag)
    assert set(map(len, tags.values())) == {1}  # no product is in two parts
    assert split.unit == "product_id"
    both = {
        product
        for product in set(ids.values())
        if len({label[0] == "category0" for label, i in zip(rows.labels, ids.values(), strict=True) if i == product})
        > 1
    }
    assert both
    assert {product for product, tag in tags.items() if tag == {"unused"}} == both
    # the nodes of the tree would have left some product in two parts
    split = seen_unseen_split(rows, level="category", unseen=["category0"], unit="product", seed=seed, **options)
    nodes = defaultdict(set)
    for image, tag in split.tags.items():
        nodes[ids[image]].add(tag)
    assert any(len(found) > 1 for found in nodes.values())


def test_images_without_the_label_of_a_unit_are_dealt_one_by_one():
    rows = annotate([("cat", "house", "a")] * 40 + [("dog", "wolf", "b")])
    rows = replace(rows, extra_labels={"product_id": ["one"] * 20 + [""] * 21})
    split = seen_unseen_split(rows, level=1, unseen=["dog"], unit="product_id", shares=(0.5, 0.25, 0.25))
    parts = Counter(split.tags[image] for image in rows.images[:20])
    assert len(parts) == 1
    assert len({split.tags[image] for image in rows.images[20:40]}) == 3


def test_a_unit_that_is_no_level_and_no_label_is_named():
    with pytest.raises(ValueError, match="product_id"):
        seen_unseen_split(model_net(), level="category", unseen=["car"], unit="product_id")


def test_items_above_the_unit_are_their_own():
    labels = [("cat", "house", "tabby")] * 4 + [("cat", "house")] * 5 + [("dog",)]
    rows = annotate(labels)
    split = seen_unseen_split(rows, level="kind", unseen=["dog"], unit="breed")
    assert len({split.tags[image] for image in rows.images[:4]}) == 1
    # six units hang below house: the breed and five images
    assert Counter(split.tags[image] for image in rows.images[4:9]).total() == 5
    units = Counter([split.tags[rows.images[0]], *(split.tags[image] for image in rows.images[4:9])])
    assert units in ({"seen_train": 4, "seen_val": 1, "seen_test": 1}, {"seen_train": 3, "seen_val": 2, "seen_test": 1})


# ---------------------------------------------------------------- how classes are named
REPEATED = [("food", "orange", "x"), ("colour", "orange", "x"), ("food", "plum", "y"), ("colour", "red", "y")]


@pytest.mark.parametrize(
    "unseen", [["plum", "colour/orange"], [("food", "plum"), ["colour", "orange"]], ["plum", "plum", "colour/orange"]]
)
def test_names_and_paths(unseen):
    split = seen_unseen_split(annotate(REPEATED), level="animal", unseen=unseen)
    assert split.unseen == (("colour", "orange"), ("food", "plum"))
    assert list(split.tags.values()) == ["seen_train", "unseen_train", "unseen_train", "seen_train"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(unseen=["orange"]), "2 classes have the name 'orange': 'colour/orange', 'food/orange'; give their paths"),
        (
            dict(unseen=["plump"]),
            "there is no class 'plump' to be unseen; did you mean 'plum'? The level has 4 classes",
        ),
        (dict(unseen=[("plum",)]), "there is no class ('plum',) to be unseen; did you mean 'plum'?"),
        (dict(unseen=[("food", "red")]), "there is no class ('food', 'red') to be unseen"),
        (dict(unseen="plum"), "unseen must be a list of classes or a fraction, not the string 'plum'; pass ['plum']"),
        (dict(unseen=None), "unseen must be a list of classes or a fraction; it is None"),
        (dict(unseen=[1]), "an unseen class must be a name or a path of names; it is 1"),
        (dict(unseen=[b"plum"]), "an unseen class must be a name or a path of names; it is b'plum'"),
        (dict(unseen=[("food", 2)]), "an unseen class must be a name or a path of names; it is ('food', 2)"),
        (dict(unseen=True), "a fraction of unseen classes must be above 0 and below 1; it is True"),
        (dict(unseen=1.0), "a fraction of unseen classes must be above 0 and below 1; it is 1.0"),
        (dict(unseen=0.95), "of the 4 of level 'animal', 4 would be unseen"),
        (dict(unseen=[]), "some classes must be seen and some unseen; of the 4 of level 'animal', 0 would be unseen"),
        (dict(level="species"), "no level 'species': levels are 1 (coarsest) to 3"),
        (dict(unit="kind"), "unit must be the level 'animal' of the classes or one below it"),
        (dict(seed=-1), "seed must be an integer from 0; it is -1"),
        (dict(seed=0.5), "seed must be an integer from 0; it is 0.5"),
        (dict(shares=(0.6, 0.2)), "shares must be three numbers from 0 to 1 for train, val and test that sum to 1"),
        (dict(shares=(0.6, 0.2, 0.3)), "the first above 0; they are (0.6, 0.2, 0.3)"),
        (dict(shares=(0, 0.5, 0.5)), "the first above 0; they are (0, 0.5, 0.5)"),
        (dict(shares=(1.2, -0.1, -0.1)), "the first above 0; they are (1.2, -0.1, -0.1)"),
        (dict(shares=(float("nan"), 0.5, 0.5)), "the first above 0; they are (nan, 0.5, 0.5)"),
        (
            dict(val_share=0.2),
            "val_share is for own splits, and shares (0.6, 0.2, 0.2) replace those; pass shares=None",
        ),
        (dict(shares=None, val_share=1), "val_share must be above 0 and below 1; it is 1"),
        (
            dict(shares=None, val_share=0.2),
            "takes val out of a split 'train' where there is no split 'val'; pets has ['all']",
        ),
    ],
)
def test_errors(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        seen_unseen_split(annotate(REPEATED), **{"level": "animal", "unseen": ["plum"]} | changes)


@pytest.mark.parametrize("share", [np.float32(0.5), np.float64(0.5), Fraction(1, 2)])
def test_shares_of_any_real_type(tmp_path, share):
    rows = annotate(REPEATED, ["train", "train", "train", "test"])
    options = dict(level="animal", shares=None)
    split = seen_unseen_split(rows, unseen=share, val_share=share, **options)
    assert split == seen_unseen_split(rows, unseen=0.5, val_share=0.5, **options)
    assert len(split.unseen) == 2
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split


def test_own_val_is_no_place_for_another():
    rows = annotate(REPEATED, ["train", "val", "train", "train"])
    with pytest.raises(ValueError, match=r"pets has \['train', 'val'\]; leave val_share out, or pass shares"):
        seen_unseen_split(rows, level=2, unseen=["plum"], shares=None, val_share=0.2)


# ---------------------------------------------------------------- files
def example(**options):
    return seen_unseen_split(annotate(random_labels(7)), **{"level": 2, "unseen": 0.3} | options)


@pytest.mark.parametrize(
    "options", [{}, dict(unit="breed"), dict(shares=None), dict(shares=(0.5, 0.3, 0.2), seed=3, level="breed")]
)
def test_a_file_gives_the_split_back(tmp_path, options):
    split = example(**options)
    split.save(tmp_path / "new/split.json")
    loaded = Split.load(tmp_path / "new/split.json")
    assert loaded == split
    loaded.save(tmp_path / "again.json")  # its images are in another order
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "new/split.json").read_bytes()


def test_names_of_any_kind(tmp_path):
    tags = {'é "1".jpg': "seen_train", "b\udcff.jpg": "unseen_val"}  # the second has a byte that is no UTF-8
    split = Split(tags, "kind", (("ü",),), 0, None, 0.25, None, "pets")
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split


def test_every_truncation_is_an_error(tmp_path):
    path = tmp_path / "split.json"
    seen_unseen_split(annotate(REPEATED), level=2, unseen=["plum"]).save(path)
    whole = path.read_bytes()
    for length in range(len(whole) - 2):  # the last two are a brace and a line end
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"split\.json:\d+: no JSON: .*; it may be edited: make it anew"):
            Split.load(path)


GOOD = dict(
    format="hierpretrain.split.v1",
    source="pets",
    level="kind",
    unseen=[["dog"]],
    seed=0,
    shares=[0.6, 0.2, 0.2],
    val_share=None,
    unit=None,
    images={"seen_train": ["a.jpg"], "unseen_test": ["b.jpg"]},
)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(format="v2"), "a split file must have 'format': 'hierpretrain.split.v1', not 'v2'; make it with"),
        (dict(format=None), "a split file must have 'format': 'hierpretrain.split.v1', not None"),
        (
            dict(images={"x": ["a.jpg"], "y": ["b.jpg", "a.jpg"]}),
            "the image 'a.jpg' is listed twice, as 'x' and 'y'; list it once",
        ),
        (dict(images={"x": ["a.jpg", "a.jpg"]}), "the image 'a.jpg' is listed twice, as 'x' and 'x'"),
        (dict(images=["a.jpg"]), "'images' must be an object that gives every tag its list of images; it is ['a.jpg']"),
        (dict(images={"x": "a.jpg"}), "'images' must be an object"),
        (dict(images={"": ["a.jpg"]}), "'images' must be an object"),
        (dict(images={"x": [3]}), "'images' must be an object"),
        (dict(unseen=["dog"]), "'unseen' must be a list of paths of names; it is ['dog']"),
        (dict(seed=True), "'seed' must be an integer; it is True"),
        (dict(shares=[0.6, 0.4]), "'shares' must be null or three numbers; it is [0.6, 0.4]"),
        (dict(val_share="x"), "'val_share' must be null or a number; it is 'x'"),
        (dict(unit=2), "'unit' must be null or the name of a level or an extra label; it is 2"),
        (dict(level=""), "'level' must be null or the name of a level; it is ''"),
        (dict(source=None), "'source' must be a string; it is None"),
    ],
)
def test_wrong_files(tmp_path, changes, message):
    path = tmp_path / "split.json"
    path.write_text(json.dumps(GOOD))
    assert Split.load(path).tags == {"a.jpg": "seen_train", "b.jpg": "unseen_test"}
    path.write_text(json.dumps(GOOD | changes))
    with pytest.raises(ValueError, match=re.escape(f"{path}: {message}")):
        Split.load(path)


@pytest.mark.parametrize("key", [key for key in GOOD if key != "format"])
def test_missing_keys(tmp_path, key):
    path = tmp_path / "split.json"
    path.write_text(json.dumps({name: value for name, value in GOOD.items() if name != key}))
    with pytest.raises(
        ValueError, match=f"the key '{key}' is missing; make the file anew with hierpretrain init or make-split"
    ):
        Split.load(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "must have 'format': 'hierpretrain.split.v1', not 'list'"),
        (b"\xff", ":1: byte 0xff is not UTF-8"),
        (b"[" * 100_000, "no JSON: it is nested too deeply; it may be edited"),
    ],
)
def test_files_of_another_kind(tmp_path, content, message):
    (tmp_path / "split.json").write_bytes(content)
    with pytest.raises(ValueError, match=re.escape(message)):
        Split.load(tmp_path / "split.json")
    with pytest.raises(ValueError, match=r"cannot read the list .*none.json: No such file"):
        Split.load(tmp_path / "none.json")


# ---------------------------------------------------------------- data sets
def write_list(folder, number=12):
    lines = [f"{i}.jpg,{'train' if i % 2 else 'test'},{'abc'[i % 3]},{i % 6}" for i in range(number)]
    (folder / "list.csv").write_text("\n".join(["image,split,kind,breed", *lines]) + "\n")
    return dict(data_root=str(folder), ann_file="list.csv", check_files=False)


def test_dataset_takes_the_tags_of_the_file(tmp_path):
    options = write_list(tmp_path)
    whole = ListDataset(**options)
    split = seen_unseen_split(whole.read(), level="kind", unseen=["b"])
    split.save(tmp_path / "split.json")
    seen = set()
    for tag in sorted(set(split.tags.values())):
        part = ListDataset(**options, split_file=str(tmp_path / "split.json"), split=tag)
        rows = [i for i in range(12) if split.tags[f"{i}.jpg"] == tag]
        assert part.image_paths == [f"{tmp_path}/{i}.jpg" for i in rows]
        assert part.labels.tolist() == whole.labels[rows].tolist()
        assert part.taxonomy == whole.taxonomy  # ids are of all splits
        assert part.metainfo["splits"] == (tag,)
        seen |= set(rows)
    assert seen == set(range(12))
    with pytest.raises(ValueError, match=r"there is no split 'train'; the list .* has \['seen_"):
        ListDataset(**options, split_file=str(tmp_path / "split.json"), split="train")


def test_file_and_annotations_must_list_the_same_images(tmp_path):
    split = seen_unseen_split(ListDataset(**write_list(tmp_path)).read(), level=1, unseen=["b"])
    split.save(tmp_path / "split.json")
    for number, message in (
        (9, "3 images are only in the file: '10.jpg', '11.jpg', '9.jpg'; give the data set's own"),
        (19, r"7 images are only in the list .*: '12.jpg', .*'16.jpg', \.\.\.; give"),
    ):
        with pytest.raises(ValueError, match=f"split.json must tag exactly the images of the list .*; {message}"):
            ListDataset(**write_list(tmp_path, number), split_file=str(tmp_path / "split.json"))
    rows = annotate([("a",), ("b",)], level_names=("kind",))
    with pytest.raises(ValueError, match=r"2 images are only in pets: .* and 12 images are only in the file"):
        with_split(rows, tmp_path / "split.json")


def test_the_split_of_emoji64():
    path = "configs/_base_/splits/emoji64_seen_unseen.json"
    split = Split.load(path)
    rows = Emoji64(check_files=False).read()
    assert seen_unseen_split(rows, level="subcategory", unseen=0.2) == split
    assert Counter(split.tags.values()) == {
        "seen_train": 4241,
        "seen_val": 1414,
        "seen_test": 1414,
        "unseen_train": 1339,
        "unseen_val": 447,
        "unseen_test": 446,
    }
    assert len(split.unseen) == 20
    assert len(Emoji64(split_file=path, split=["unseen_val", "unseen_test"], check_files=False)) == 447 + 446


def test_an_image_of_seen_and_unseen_classes_is_neither():
    images = [f"{i}.jpg" for i in range(6)]
    labels = [("cat",), ("cat",), ("cat",), ("dog",), ("dog",), ("dog",)]
    more = {0: (("dog",),), 3: (("fox", "red"),), 1: (("ant",),)}
    rows = Annotations(images, labels, ["all"] * 6, ("kind", "breed"), root="pets", more_labels=more)
    split = seen_unseen_split(rows, level="kind", unseen=["dog", "fox"], shares=(1.0, 0.0, 0.0))
    assert [split.tags[image] for image in images] == [
        "unused",
        "seen_train",
        "seen_train",
        "unseen_train",
        "unseen_train",
        "unseen_train",
    ]  # 3 hangs in two unseen classes, 1 in two seen ones


@pytest.mark.parametrize("first", [0, 1])
def test_of_several_paths_the_one_that_reaches_the_classes_counts(first):
    paths = [("fruit",), ("vegetable", "tomato")]
    labels = [paths[first], ("fruit", "apple"), ("fruit", "plum")]
    rows = Annotations(
        ["0.jpg", "1.jpg", "2.jpg"], labels, ["all"] * 3, ("kind", "crop"), "x", more_labels={0: (paths[1 - first],)}
    )
    split = seen_unseen_split(rows, level="crop", unseen=["plum"], shares=(1.0, 0.0, 0.0))
    assert list(split.tags.values()) == ["seen_train", "seen_train", "unseen_train"]


def models_that_share_images(generator):
    """Twenty models of two seen categories, six of which share images; its rows and paths are in any order."""
    paths = {f"{model}/{i}.jpg": [(f"category{model % 2}", f"{model:02}")] for model in range(20) for i in range(3)}
    for image, other in (("0/0.jpg", 5), ("5/1.jpg", 12), ("1/2.jpg", 4), ("1/2.jpg", 3)):
        paths[image].append((f"category{other % 2}", f"{other:02}"))
    paths["unseen.jpg"] = [("other", "x")]
    images = [list(paths)[i] for i in generator.permutation(len(paths))]
    shuffled = [[paths[image][i] for i in generator.permutation(len(paths[image]))] for image in images]
    more = {index: tuple(several[1:]) for index, several in enumerate(shuffled) if len(several) > 1}
    labels, tags = [several[0] for several in shuffled], ["train"] * len(images)
    return Annotations(images, labels, tags, ("category", "model"), root="models", more_labels=more)


@pytest.mark.parametrize("unit", [None, "model"])
def test_units_that_share_an_image_are_one_in_any_order(unit):
    def split(order):
        rows = models_that_share_images(np.random.default_rng(order))
        return seen_unseen_split(rows, level="category", unseen=["other"], unit=unit, shares=(0.4, 0.3, 0.3)).tags

    tags = split(0)
    assert all(split(order) == tags for order in range(1, 6))
    parts = [{tags[f"{model}/{i}.jpg"] for model in together for i in range(3)} for together in ([0, 5, 12], [1, 3, 4])]
    if unit:
        assert list(map(len, parts)) == [1, 1]
        assert len(set(tags.values())) == 4  # though the others are in all parts
    for order in range(1, 6):
        own, other = (share_split(models_that_share_images(np.random.default_rng(n)), level=2) for n in (0, order))
        assert own.tags == other.tags


def test_a_long_chain_of_units_is_one():
    numbers = range(3000)
    images, labels = [f"{i}.jpg" for i in numbers], [("seen", f"{3000 - i}") for i in numbers]
    more = {i: (("seen", f"{2999 - i}"),) for i in numbers}
    images, labels = [*images, "x.jpg"], [*labels, ("other", "x")]
    rows = Annotations(images, labels, ["all"] * 3001, ("kind", "thing"), root="x", more_labels=more)
    split = seen_unseen_split(rows, level="kind", unseen=["other"], unit="thing", shares=(0.4, 0.3, 0.3))
    assert Counter(split.tags.values()) == {"seen_train": 3000, "unseen_train": 1}


def branches_of_several_paths():
    names = [f"{top}/{sub}/{i}.jpg" for top in "abc" for sub in "xy" for i in range(5)] + ["c/6.jpg", "a/6.jpg"]
    records = [(name, tuple(name.split("/")[:-1]), "all") for name in names]
    annotations = Annotations.from_records(records, ["top", "sub"], "drawings")
    first = names.index("a/x/0.jpg")
    return replace(annotations, more_labels={first: (("c", "x"),)})


def test_branches_are_held_out_whole(tmp_path):
    annotations = branches_of_several_paths()
    split = seen_unseen_split(annotations, level="sub", unseen=0.25, held_out=["c"], held_out_tag="catalogue")
    assert split.held_out == (("c",),)
    assert len(split.unseen) == 1
    for image, tag in split.tags.items():
        inside = image.startswith("c/")
        assert tag.startswith("catalogue_") == inside
    assert split.tags["a/6.jpg"] == "unused"  # without a label at the level, and in no branch that is held out
    assert split.tags["a/x/0.jpg"] == "unused"  # it hangs in the branch and elsewhere
    counts = Counter(tag for tag in split.tags.values() if tag.startswith("catalogue"))
    assert counts == {"catalogue_train": 7, "catalogue_val": 2, "catalogue_test": 2}
    split.save(tmp_path / "split.json")
    assert Split.load(tmp_path / "split.json") == split


def test_a_branch_below_the_first_level_by_its_path():
    split = seen_unseen_split(branches_of_several_paths(), level="sub", unseen=["a/x"], held_out=["b/y", ("c",)])
    assert {image[:3] for image, tag in split.tags.items() if tag.startswith("held_out")} == {
        "b/y",
        "c/x",
        "c/y",
        "c/6",
    }


def test_branches_whose_names_hold_slashes_are_told_apart():
    paths = [("a/b", "c"), ("a", "b/c"), ("x", "y"), ("x", "z")]
    records = [(f"{i}/{j}.jpg", path, "all") for i, path in enumerate(paths) for j in range(5)]
    annotations = Annotations.from_records(records, ["top", "sub"], "things")
    for i, path in enumerate(paths[:2]):
        split = seen_unseen_split(annotations, level="sub", unseen=[("x", "y")], held_out=[path])
        assert split.held_out == (path,)
        assert {image[0] for image, tag in split.tags.items() if tag.startswith("held_out")} == {str(i)}
    both = r"\[\"a\", \"b/c\"\], \[\"a/b\", \"c\"\] \(lists, because names hold '/'\); give "
    with pytest.raises(ValueError, match="2 branches have the path 'a/b/c': " + both + "one of them"):
        seen_unseen_split(annotations, level="sub", unseen=[("x", "y")], held_out=["a/b/c"])
    with pytest.raises(ValueError, match="2 classes have the name 'a/b/c': " + both + "their paths"):
        seen_unseen_split(annotations, level="sub", unseen=["a/b/c"])
    assert seen_unseen_split(annotations, level="sub", unseen=["x/y"], held_out=["a/b"]).held_out == (("a/b",),)
    with pytest.raises(ValueError, match=r"there is no branch \('a', 'b', 'c'\) to be held out"):
        seen_unseen_split(annotations, level="sub", unseen=[("x", "y")], held_out=[("a", "b", "c")])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(held_out=["d"]), "there is no branch 'd' to be held out; give its path from the root"),
        (dict(held_out=["b/z"]), r"there is no branch 'b/z' to be held out; did you mean 'b/"),
        (dict(held_out=[3]), "a branch to be held out must be a path of names; it is 3"),
        (dict(held_out=[("c", 3)]), r"a branch to be held out must be a path of names; it is \('c', 3\)"),
        (dict(held_out="c"), r"held_out must be a list of branches, not the string 'c'; pass \['c'\]"),
        (dict(held_out=["c"], held_out_tag="seen"), "held_out_tag must be another word than .* it is 'seen'"),
        (dict(held_out=["a"], unseen=["a/x"]), "there is no class 'a/x' to be unseen"),
    ],
)
def test_wrong_branches(options, message):
    with pytest.raises(ValueError, match=message):
        seen_unseen_split(branches_of_several_paths(), **{"level": "sub", "unseen": 0.25, **options})


def test_a_file_with_wrong_branches(tmp_path):
    path = tmp_path / "split.json"
    seen_unseen_split(branches_of_several_paths(), level="sub", unseen=0.25, held_out=["c"]).save(path)
    path.write_text(path.read_text().replace('"held_out": [["c"]]', '"held_out": ["c"]'))
    with pytest.raises(ValueError, match=r"split\.json: 'held_out' must be a list of paths of names"):
        Split.load(path)


# ---------------------------------------------------------------- by share alone
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("level", [None, 1, "animal", 3])
@pytest.mark.parametrize("shares", [(0.6, 0.2, 0.2), (0.8, 0.1, 0.1), (0.5, 0.0, 0.5), (1 / 3, 1 / 3, 1 / 3)])
def test_promises_of_a_split_by_share(seed, level, shares):
    rows = annotate(random_labels(seed))
    split = share_split(rows, level=level, shares=shares, seed=seed)
    assert list(split.tags) == rows.images
    number = {None: 0, "animal": 2}.get(level, level)
    assert (split.level, split.unseen) == (LEVELS[number - 1] if number else None, ())
    counts = defaultdict(Counter)
    for image, label in zip(rows.images, rows.labels, strict=True):
        counts[label[:number]][split.tags[image]] += 1
    for node in counts.values():
        for tag, share in zip(("train", "val", "test"), shares, strict=True):
            assert abs(node[tag] - share * node.total()) < 2
        assert node["train"] > 0
    for tag, share in zip(("train", "val", "test"), shares, strict=True):
        assert abs(sum(node[tag] for node in counts.values()) - share * 400) <= 0.1 * 400


def test_a_split_by_share_is_the_same_in_any_order_and_in_its_file(tmp_path):
    labels = random_labels(0)
    split = share_split(annotate(labels), level=2, seed=3)
    order = np.random.default_rng(1).permutation(len(labels)).tolist()
    assert share_split(annotate(labels, order=order), level=2, seed=3).tags == split.tags
    assert share_split(annotate(labels), level=2, seed=4).tags != split.tags
    for one in (share_split(annotate(labels)), split):
        one.save(tmp_path / "split.json")
        assert Split.load(tmp_path / "split.json") == one
    tagged = with_split(annotate(labels), tmp_path / "split.json")
    assert tagged.splits == [split.tags[image] for image in tagged.images]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(level="sort"), "sort"),
        (dict(shares=(0, 0.5, 0.5)), "shares must be three numbers from 0 to 1"),
        (dict(seed=-1), "seed must be an integer from 0; it is -1"),
    ],
)
def test_wrong_options_of_a_split_by_share(options, message):
    with pytest.raises(ValueError, match=message):
        share_split(annotate(random_labels(0)), **options)


# ---------------------------------------------------------------- renewed
MAKERS = {
    "share": lambda rows: share_split(rows, level=2, seed=3),
    "together": lambda rows: share_split(rows, shares=(0.8, 0.1, 0.1)),
    "seen": lambda rows: seen_unseen_split(rows, level=2, unseen=0.3, seed=1),
    "unit": lambda rows: seen_unseen_split(rows, level=1, unseen=0.3, unit="breed", shares=(0.5, 0.25, 0.25)),
    "branch": lambda rows: seen_unseen_split(rows, level=2, unseen=0.3, held_out=["k0"], held_out_tag="not_yet"),
}


def part_of(rows, chosen):
    return rows.take([i for i in range(len(rows.images)) if chosen[i]])


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("seed", range(2))
def test_a_renewal_keeps_known_tags_drops_what_is_gone_and_is_the_same_in_any_order(maker, seed):
    rows = annotate(random_labels(seed))
    draw = np.random.default_rng(seed)
    before, now = draw.random(400) < 0.8, draw.random(400) < 0.8
    split = MAKERS[maker](part_of(rows, before))
    renewed = renewed_split(there := part_of(rows, now), split)
    assert list(renewed.tags) == there.images
    assert all(renewed.tags[image] == tag for image, tag in split.tags.items() if image in renewed.tags)
    assert set(renewed.tags.values()) <= set(split.tags.values()) | {"unused"}
    assert set(split.unseen) <= set(renewed.unseen)
    assert replace(renewed, tags=split.tags, unseen=split.unseen) == split
    order = draw.permutation(len(there.images)).tolist()
    assert renewed_split(there.take(order), split) == renewed
    assert renewed_split(there, renewed) == renewed
    removed = there.take(order[:100])
    assert renewed_split(removed, renewed).tags == {image: renewed.tags[image] for image in removed.images}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shares", [(0.6, 0.2, 0.2), (0.8, 0.1, 0.1), (0.5, 0.0, 0.5)])
def test_new_images_are_dealt_by_the_shares_of_the_file(seed, shares):
    """Of every class, and of all classes; so they are where images come one by one."""
    rows = annotate([label for label in random_labels(seed) if len(label) == 3])
    draw = np.random.default_rng(seed)
    split = share_split(part_of(rows, draw.random(len(rows.images)) < 0.5), level="breed", shares=shares, seed=seed)
    for number in (*range(50, len(rows.images), 60), len(rows.images)):
        now = {image: True for image in [*split.tags, *rows.images[:number]]}
        there = rows.take([i for i, image in enumerate(rows.images) if image in now])
        split = renewed_split(there, split)
    counts = defaultdict(Counter)
    for image, label in zip(rows.images, rows.labels, strict=True):
        counts[label][split.tags[image]] += 1
    for of_class in counts.values():
        assert of_class["train"] > 0
        for tag, share in zip(("train", "val", "test"), shares, strict=True):
            assert abs(of_class[tag] - share * of_class.total()) < 2
    total = sum(counts.values(), Counter())
    small = sum(of_class.total() < 4 for of_class in counts.values())  # whose first image is for training
    for tag, share in zip(("train", "val", "test"), shares, strict=True):
        assert abs(total[tag] - share * total.total()) <= 2 + small


def test_images_that_come_one_by_one_by_hand():
    rows = annotate([("cat",)] * 30, level_names=("kind",))
    split = share_split(rows.take(range(10)), level="kind")
    for number in range(11, 31):
        split = renewed_split(rows.take(range(number)), split)
    assert Counter(split.tags.values()) == {"train": 18, "val": 6, "test": 6}
    gone = {image for image, tag in split.tags.items() if tag == "test"}
    rest = rows.take([i for i, image in enumerate(rows.images) if image not in gone])
    renewed = renewed_split(rows, renewed_split(rest, split))
    assert {image for image, tag in renewed.tags.items() if tag == "test"} == gone  # the others have their share


def test_new_classes_are_each_drawn_by_themselves():
    rows = annotate([(f"{i // 4:03}",) for i in range(1200)], level_names=("kind",))
    split = seen_unseen_split(rows.take(range(400)), level=1, unseen=0.3, seed=2)
    renewed = renewed_split(rows, split)
    new = set(renewed.unseen) - set(split.unseen)
    assert 45 <= len(new) <= 75  # 60 of the 200 are expected; one standard deviation is 6.5
    in_two = renewed_split(rows, renewed_split(rows.take(range(404)), split, unseen_share=0.3), unseen_share=0.3)
    assert in_two.unseen == renewed.unseen
    assert all((renewed.tags[f"{4 * int(path[0]):04}.jpg"]).startswith("unseen_") for path in new)
    assert renewed_split(rows, split, unseen_share=0).unseen == split.unseen
    assert len(renewed_split(rows, split, unseen_share=1).unseen) == 230
    seen = [i for i, label in enumerate(rows.labels[:400]) if label not in split.unseen]
    again = renewed_split(rows, renewed_split(rows.take(seen), split), unseen_share=0)
    assert again.unseen == split.unseen  # a class that comes back is what it was


@pytest.mark.parametrize("word", ["later", "unseen_food", "held_out"])
@pytest.mark.parametrize("left", [0, 5])
def test_new_images_of_a_held_out_branch_get_its_word_also_where_all_others_are_gone(word, left):
    rows = annotate([(kind,) for kind in "abcd" for _ in range(20)], level_names=("kind",))
    old = rows.take(range(70))  # ten of d
    split = seen_unseen_split(old, level=1, unseen=["a"], held_out=["d"], held_out_tag=word)
    renewed = renewed_split(rows.take([*range(60 + left), *range(70, 80)]), split)
    assert {renewed.tags[rows.images[i]].rpartition("_")[0] for i in range(70, 80)} == {word}


def test_images_under_tags_of_the_users_own_are_not_dealt():
    rows = annotate([("a",)] * 110, level_names=("kind",))
    split = share_split(rows.take(range(100)), shares=(0.6, 0.2, 0.2))
    own = replace(split, tags=split.tags | {image: "mine" for image in rows.images[:50]})
    renewed = renewed_split(rows, own)
    assert [renewed.tags[image] for image in rows.images[:50]] == ["mine"] * 50
    counts = Counter(renewed.tags[image] for image in rows.images[50:])
    assert {part: counts[part] for part in ("train", "val", "test")} == {"train": 36, "val": 12, "test": 12}


def test_new_images_of_a_unit_go_where_the_unit_is():
    rows = model_net((30, 7, 2), views=4)
    one_view = rows.take(range(0, len(rows.images), 4))
    for options in (dict(), dict(shares=None, val_share=0.2)):
        split = seen_unseen_split(one_view, level="category", unseen=["car"], unit="model", **options)
        renewed = renewed_split(rows, split)
        for i, image in enumerate(rows.images):
            assert renewed.tags[image] == split.tags[rows.images[i - i % 4]]
    rows = replace(rows, extra_labels={"object": ["/".join(label) for label in rows.labels]})
    one_view = rows.take(range(0, len(rows.images), 4))
    split = seen_unseen_split(one_view, level="category", unseen=["car"], unit="object")
    assert models_by_tag(rows, renewed_split(rows, split))


def test_own_splits_of_new_images_count_where_the_file_kept_them():
    rows = annotate([("cat",), ("dog",)] * 20, ["train", "train", "query", "query"] * 10, level_names=("kind",))
    kept = seen_unseen_split(rows.take(range(30)), level=1, unseen=["dog"], shares=None)
    assert renewed_split(rows, kept).tags == seen_unseen_split(rows, level=1, unseen=["dog"], shares=None).tags
    none = replace(rows, splits=["all"] * 40)
    not_kept = seen_unseen_split(none.take(range(30)), level=1, unseen=["dog"], shares=None)
    assert set(renewed_split(rows, not_kept).tags.values()) == {"seen_all", "unseen_all"}


def test_a_renewal_of_names_in_another_unicode_form():
    one, two = "caf\u00e9/{}.jpg", "cafe\u0301/{}.jpg"
    old, new = (
        Annotations([form.format(i) for i in range(number)], [("a",)] * number, ["all"] * number, ("kind",), "pets")
        for form, number in ((one, 10), (two, 12))
    )
    split = share_split(old)
    renewed = renewed_split(new, split)
    assert [renewed.tags[two.format(i)] for i in range(10)] == [split.tags[one.format(i)] for i in range(10)]
    assert len(renewed.tags) == 12


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        (dict(tags={"b.jpg": "train"}), {}, "knows none of the 400 images of pets, so none would keep its tag"),
        (dict(shares=None), {}, "does not record by which fractions its new images can be dealt out: give them, as in"),
        (dict(level="sort"), {}, "sort"),
        ({}, dict(unseen_share=1.5), "unseen_share must be from 0 to 1; it is 1.5"),
        ({}, dict(unseen_share=0.5), "has no unseen classes, so no new class is drawn as one; leave out unseen_share"),
    ],
)
def test_what_cannot_be_renewed(changes, options, message):
    rows = annotate(random_labels(0))
    split = share_split(rows.take(range(399)), level=1)
    with pytest.raises(ValueError, match=message):
        renewed_split(rows, replace(split, **changes), **options)
