"""What is proposed for trees of every shape: what is learnt and measured, splits, epochs, and the reasons."""

import re

import numpy as np
import pytest
from PIL import Image

from hierpretrain.apis.proposal import ENCODERS, RATES, Search, learning_rate, level_counts, num_epochs, propose
from hierpretrain.datasets import Annotations

LEVELS = ("kind", "breed", "animal")


def annotate(labels, splits=None, level_names=LEVELS, root="pets", more_labels=None):
    names = [f"{i:05}.png" for i in range(len(labels))]
    splits = splits or ["all"] * len(labels)
    options = dict(more_labels=more_labels or {}, need_labels=False, source="the pets")
    return Annotations(names, list(labels), splits, level_names[: max(map(len, labels))], root, **options)


def flat(num_classes=10, num_images=20):
    return annotate([(f"class{i}",) for i in range(num_classes) for _ in range(num_images)])


def ragged(seed=0, number=600):
    draw = np.random.default_rng(seed)
    labels = []
    for _ in range(number):
        path = tuple(f"{'abc'[depth]}{i}" for depth, i in enumerate(draw.integers(0, 4, 3)))
        labels.append(path[: draw.choice([1, 2, 3], p=[0.1, 0.5, 0.4])])
    return annotate(labels)


# ---------------------------------------------------------------- splits by share
def test_a_flat_folder():
    annotations = flat()
    found = propose(annotations)
    assert found.untrained == ""
    assert found.train == ("train",)
    assert found.val == (Search(("val",), ("train",), ("kind",)),)
    assert found.test == (Search(("test",), ("train", "val"), ("kind",)),)
    assert found.split_sizes == {"train": 160, "val": 20, "test": 20}
    for name in set(annotations.labels):
        tags = [
            found.split.tags[i]
            for i, label in zip(annotations.images, annotations.labels, strict=True)
            if label == name
        ]
        assert [tags.count(tag) for tag in ("train", "val", "test")] == [16, 2, 2]
    assert (found.epochs, found.num_views, found.batch_size) == (num_epochs(160), 16, 64)
    assert (
        found.split_reason == "train 80%, val 10%, test 10% of the images in each node of 'kind', drawn with the seed 0"
    )
    assert propose(annotations).split.tags == found.split.tags
    assert propose(annotations, seed=1).split.tags != found.split.tags
    assert propose(annotations, shares=(0.5, 0.25, 0.25)).split_sizes == {"train": 100, "val": 50, "test": 50}


def test_a_ragged_tree():
    annotations = ragged()
    found = propose(annotations)
    assert found.split.level == "breed"  # most images do not reach the finest level
    assert found.test == (Search(("test",), ("train", "val"), ("kind", "breed", "animal")),)
    assert sum(found.split_sizes.values()) == 600
    for tag, share in (("train", 0.8), ("val", 0.1), ("test", 0.1)):
        assert abs(found.split_sizes[tag] - 600 * share) <= 2


def test_counts_of_levels():
    labels = [("cat", "tom"), ("cat", "tom"), ("cat",), ("dog", "rex")]
    counts = level_counts(annotate(labels, more_labels={2: (("dog",),)}))
    assert [(c.name, c.num_nodes, c.num_images, c.smallest, c.middle, c.largest, c.num_paired) for c in counts] == [
        ("kind", 2, 4, 2, 2.5, 3, 4),
        ("breed", 2, 3, 1, 1.5, 2, 2),
    ]


def test_one_image_in_each_finest_class():
    """Products of one image: they are dealt and measured by the level above, and a tenth is there to be measured."""
    annotations = annotate([(f"kind{i % 5}", f"product{i}") for i in range(100)])
    found = propose(annotations)
    assert found.split.level == "kind"
    assert found.split_sizes == {"train": 80, "val": 10, "test": 10}
    assert found.test[0].levels == ("kind",)


def test_few_images():
    found = propose(annotate([("cat",), ("cat",), ("dog",), ("dog",)]))
    assert found.batch_size == found.num_trained == found.split_sizes["train"]
    assert (found.epochs, found.num_views) == (60, 16)
    assert found.val
    assert found.test


# ---------------------------------------------------------------- nothing to learn
@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([()] * 20, "no image has a label"),
        ([("animal", "cat")] * 20, "all images with a label are in one class, 'animal/cat'"),
        ([("animal", "cat")] * 20 + [()], "all images with a label are in one class, 'animal/cat'"),
        ([(f"product{i}",) for i in range(20)], "no two images are in one class"),
        ([("shop", f"product{i}") for i in range(20)], "no two images are in one class"),
    ],
)
def test_only_embed_and_index(labels, reason):
    found = propose(annotate(labels))
    assert reason in found.untrained
    assert (found.train, found.val, found.test, found.split, found.epochs) == ((), (), (), None, 0)
    assert found.encoder == "lite0"


# ---------------------------------------------------------------- unseen classes
def test_by_class():
    annotations = flat()
    found = propose(annotations, split="class", unseen_share=0.3)
    assert found.train == ("seen_all",)
    assert found.val == found.test == (Search(("unseen_all",), (), ("kind",)),)
    assert found.split_sizes == {"seen_all": 140, "unseen_all": 60}
    classes = {"seen_all": set(), "unseen_all": set()}
    for image, label in zip(annotations.images, annotations.labels, strict=True):
        classes[found.split.tags[image]].add(label)
    assert not classes["seen_all"] & classes["unseen_all"]
    assert found.split_reason == "3 classes of 'kind', drawn with the seed 0, are not trained on"


def test_by_both():
    found = propose(flat(), split="both", class_level=1)
    assert found.train == ("seen_train",)
    assert found.val == (Search(("seen_val",), ("seen_train",), ("kind",), "seen"),)
    assert found.test == (
        Search(("seen_test",), ("seen_train", "seen_val"), ("kind",), "seen"),
        Search(("unseen_test",), ("unseen_train", "unseen_val"), ("kind",), "unseen"),
    )
    assert set(found.split_sizes) == {
        f"{part}_{tag}" for part in ("seen", "unseen") for tag in ("train", "val", "test")
    }


def test_the_level_of_the_classes():
    """The finest that nearly all images reach and whose nodes have several images; another by its name."""
    annotations = annotate([(f"k{i % 2}", f"b{i % 8}", f"{i}") for i in range(80)] + [("k0",)])
    assert propose(annotations, split="class").split.level == "breed"
    assert propose(annotations, split="class", class_level="kind", unseen_share=0.5).split.level == "kind"


# ---------------------------------------------------------------- splits of the data
def of_splits(**numbers):
    """Twelve images of three kinds in each split, or of kinds that only that split has."""
    labels, splits = [], []
    for split, own in numbers.items():
        labels += [(f"{own}{i % 3}",) for i in range(12)]
        splits += [split] * 12
    return annotate(labels, splits)


@pytest.mark.parametrize(
    ("splits", "val", "test"),
    [
        (dict(train="a", val="a", test="a"), ("val", "train"), ("test", "train val")),
        (dict(training="a", valid="a", testing="a"), ("valid", "training"), ("testing", "training valid")),
        (dict(train="a", test="a"), ("test", "train"), ("test", "train")),
        (dict(train="a", val="a"), ("val", "train"), ("val", "train")),
        (dict(train="a", query="b", gallery="b"), ("query", "gallery"), ("query", "gallery")),
        (dict(train="a", test="b"), ("test", ""), ("test", "")),  # classes that training does not have
        (dict(train="a", extra="a", Test="a"), ("Test", "train"), ("Test", "train")),
    ],
)
def test_splits_of_the_data(splits, val, test):
    found = propose(of_splits(**splits))
    assert (found.split, found.split_reason) == (None, "the data's own")
    assert found.train[0].startswith("train")
    for searches, (query, gallery) in ((found.val, val), (found.test, test)):
        assert [(s.query, s.gallery, s.levels) for s in searches] == [((query,), tuple(gallery.split()), ("kind",))]


def test_new_splits_where_the_data_have_none_to_train_on():
    for splits in (dict(train="a"), dict(a="a", b="a")):
        assert propose(of_splits(**splits)).split_sizes.keys() == {"train", "val", "test"}
    assert propose(of_splits(train="a", test="a"), split="share").split_sizes == {"train": 19, "val": 3, "test": 2}


# ---------------------------------------------------------------- encoder, size and epochs
def test_the_size_is_that_of_the_images_if_they_are_small(tmp_path):
    labels = [("a",), ("a",), ("b",), ("b",)]
    for pixels, size in ((20, 96), (96, 96), (100, 128), (200, 224), (500, 224)):
        for i in range(4):
            Image.new("RGB", (pixels + 100, pixels)).save(tmp_path / f"{i:05}.png")
        (tmp_path / "00003.png").write_bytes(b"no image")  # its size does not count
        found = propose(annotate(labels, root=str(tmp_path)))
        assert found.image_size == size
        assert (f"the images have {pixels} px (the median)" in found.size_reason) == (size < 224)
    assert propose(annotate(labels), image_size=160).image_size == 160


def test_epochs_are_as_documented():
    """docs/finetuning.md: 30 epochs of 500 images, 8 of 5,000, 4 of 50,000; a few hundred steps at least."""
    assert [num_epochs(number) for number in (500, 5000, 50_000)] == [30, 8, 4]
    epochs = [num_epochs(number) for number in range(1, 100_000, 97)]
    assert epochs == sorted(epochs, reverse=True)
    assert all(num_epochs(number) * -(-number // 64) >= 120 for number in (100, 200, 400, 800, 1600, 3200, 6400))
    assert propose(flat(), epochs=3).epochs == 3


def test_rates_are_as_documented():
    """docs/finetuning.md: those of the table of rates from 5,000 images on, else a quarter."""
    assert [learning_rate("lite0", number) for number in (1, 4999, 5000)] == [1e-3, 1e-3, 4e-3]
    assert set(RATES) == set(ENCODERS)
    found = propose(flat(), encoder="dinov2")
    assert found.rate == learning_rate("dinov2", found.num_trained) == 3e-4 / 4


@pytest.mark.parametrize(("kind", "few", "many"), [("class", 0.5, 0.0), ("both", 0.3, 0.0), ("share", 0.0, 0.0)])
def test_few_images_keep_a_share_of_the_pretrained_encoder_for_classes_that_are_not_trained_on(kind, few, many):
    """docs/finetuning.md, Classes that training does not see."""
    assert propose(flat(), split=kind).share == few
    annotations = flat(num_images=1000)
    found = propose(annotations, split=kind)
    assert found.num_trained >= 5000
    assert found.share == many


def test_encoders():
    assert propose(flat()).encoder_reason.startswith("it fine-tunes on a CPU")
    found = propose(flat(), encoder="convnext")
    assert (found.encoder, found.encoder_reason) == ("convnext", "as you said")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(split="mine"), "split must be 'own', 'share', 'class' or 'both'; it is 'mine'"),
        (dict(encoder="lite"), "encoder must be"),
        (dict(image_size=8), "image_size must be at least 32; it is 8"),
        (dict(epochs=0), "epochs must be at least 1; it is 0"),
        (dict(shares=(0.5, 0.1, 0.1)), "shares must be three numbers"),
        (dict(split="own"), "the splits of the pets are 'all', and none is called 'train'; take --split share"),
        (dict(split="class", unseen_share=2.0), "a fraction of unseen classes must be above 0"),
        (dict(split="class", class_level="sort"), "sort"),
        (dict(seed=-1), "seed must be an integer from 0"),
        (
            dict(class_level="kind"),
            "--class-level is for --split class and both, and the splits of the pets are --split",
        ),
        (dict(unseen_share=7.0), "of the pets are --split share; it is 7.0: leave it out"),
        (dict(split="class", shares=(0.8, 0.1, 0.1)), "--shares is for --split share and both, and the splits of"),
    ],
)
def test_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        propose(flat(), **options)


def test_of_the_data_s_own_splits_nothing_is_drawn():
    annotations = of_splits(train="ab", test="a")
    for options in (dict(seed=0), dict(shares=(0.8, 0.1, 0.1)), dict(unseen_share=0.2), dict(class_level=1)):
        with pytest.raises(ValueError, match=r"the splits of the pets are --split own; it is .*: leave it out"):
            propose(annotations, **options)


def test_too_few_classes_to_leave_some_out():
    with pytest.raises(ValueError, match=r"a level must have 5 classes.*kind \(3\): take --split share"):
        propose(flat(num_classes=3), split="both")
