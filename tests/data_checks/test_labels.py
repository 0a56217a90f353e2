"""What embeddings say of labels: planted wrong ones come first, one class called two, and two called one."""

import pytest
import torch

from hierpretrain.data_checks.labels import label_problems
from hierpretrain.evaluation import Embeddings
from hierpretrain.taxonomy import Taxonomy

CENTRES = {("animal", "cat"): 0, ("animal", "dog"): 1, ("tool", "saw"): 2, ("tool", "axe"): 3}


def embedded(labels, centres, seed=0, noise=0.15):
    """Returns images labelled so, each around the axis of its centre in 8 dimensions."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.eye(8)[torch.tensor(centres)] + noise * torch.randn(len(labels), 8, generator=generator)
    tree = Taxonomy(labels, ("kingdom", "kind"))
    encoded = tree.encode(labels)
    paths = [f"{i}.jpg" for i in range(len(labels))]
    return Embeddings(features, encoded, encoded[..., :0], ["all"] * len(labels), paths, tree, ())


def clean(per_class=12):
    labels = [path for path in CENTRES for _ in range(per_class)]
    return labels, [CENTRES[path] for path in labels]


def told(images, **options):
    return [(problem.kind, problem.subject, problem.others) for problem in label_problems(images, **options)]


def test_of_right_labels_nothing_is_said():
    assert told(embedded(*clean())) == []


def test_wrong_labels_are_found_at_the_coarsest_level_the_surest_first():
    labels, centres = clean()
    labels[0], labels[13] = ("tool", "saw"), ("animal", "cat")  # a cat and a dog
    problems = label_problems(embedded(labels, centres))
    assert {(problem.kind, problem.subject) for problem in problems} == {
        ("perhaps mislabelled", "0.jpg"),
        ("perhaps mislabelled", "13.jpg"),
    }
    assert problems[0].why == "votes of its neighbours: tool 0%, animal 100%"
    assert problems[1].why == "votes of its neighbours: animal/cat 0%, animal/dog 100%"


def test_a_copy_does_not_confirm_a_wrong_label():
    labels, centres = clean()
    labels[0] = labels[1] = ("tool", "saw")
    images = embedded(labels, centres)
    images.features[1] = images.features[0]
    assert {subject for kind, subject, _ in told(images) if kind == "perhaps mislabelled"} == {"0.jpg", "1.jpg"}


def test_classes_that_cannot_be_told_apart_are_perhaps_one():
    labels, centres = clean()
    centres = [0 if centre == 1 else centre for centre in centres]
    found = [one for one in told(embedded(labels, centres)) if one[0] != "perhaps mislabelled"]
    assert found == [("perhaps one class", "animal/cat", ("animal/dog",))]


def test_a_class_of_two_sorts_is_perhaps_two():
    labels, centres = clean()
    centres[:6] = [5] * 6  # half of the cats
    ((kind, subject, examples),) = told(embedded(labels, centres), k=4)
    assert (kind, subject) == ("perhaps two classes", "animal/cat")
    first, second = (int(name.removesuffix(".jpg")) for name in examples)
    assert (first < 6) != (second < 6)


def test_images_of_several_paths_vote_where_they_are_of_one_class():
    labels = [[path] for path in clean()[0]]
    labels[0] = [("animal", "cat"), ("animal", "dog")]
    assert told(embedded(labels, clean()[1])) == []


def test_too_little_to_vote():
    with pytest.raises(ValueError, match="no two such images"):
        label_problems(embedded([("a", "b")], [0]))
