"""An index that knows how sure it is: what it learns, what it answers by it, and the file that keeps it."""

from contextlib import ExitStack
from dataclasses import replace

import numpy as np
import pytest
import torch

from hierpretrain._json import parse_json_bytes
from hierpretrain.apis.answer_tables import branch_metrics, branch_table, level_table
from hierpretrain.apis.answers import Answers, right_answers
from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.apis.thresholds import Calibration
from hierpretrain.evaluation import Embeddings
from hierpretrain.functional.path_calibration import answer_paths, calibrate_paths
from hierpretrain.functional.search import nearest
from hierpretrain.taxonomy import PAD, Taxonomy, depth

KINDS = {("animal", "cat"): 0, ("animal", "dog"): 1, ("tool", "saw"): 4, ("tool", "axe"): 5}
OTHERS = {("animal", "cow"): 2, ("food", "apple"): 9}


def images(seed, number, kinds, prefix, spread=0.8, unlabelled=0):
    """Images around the centre of their kind; kinds of one branch are near to one another."""
    centres = torch.randn(12, 12, generator=torch.Generator().manual_seed(0))
    centres[1] = centres[0] + 0.9 * centres[1]
    centres[5] = centres[4] + 0.9 * centres[5]
    generator = np.random.default_rng(seed)
    paths = [list(kinds)[i] for i in generator.integers(len(kinds), size=number)]
    features = centres[[kinds[path] for path in paths]]
    features = features + spread * torch.from_numpy(generator.standard_normal((number, 12), np.float32))
    tree = Taxonomy(paths, ("kingdom", "kind"))
    labels = tree.encode([*paths[: number - unlabelled], *[()] * unlabelled])
    return Embeddings(
        features=torch.nn.functional.normalize(features),
        labels=labels,
        extra_labels=torch.empty(number, 0),
        splits=["all"] * number,
        paths=[f"{prefix}/{i}.jpg" for i in range(number)],
        taxonomy=tree,
        extra_names=(),
    )


@pytest.fixture(scope="module")
def gallery():
    return images(0, 200, KINDS, "gallery")


@pytest.fixture(scope="module")
def held_out():
    return images(1, 600, {**KINDS, **OTHERS}, "held_out", unlabelled=20)


@pytest.fixture
def index(gallery):
    return EmbeddingIndex.build(gallery, model="tiny, epoch_1.pth", fingerprint="0123abcd", log=lambda line: None)


def test_what_it_learns_is_what_the_function_learns(index, gallery, held_out):
    measured = index.calibrate(held_out, precision=0.8)
    labelled = depth(held_out.labels) > 0
    similarities, indices = nearest(held_out.features[labelled], gallery.features, 50)
    truth, _ = right_answers(held_out.taxonomy, held_out.labels[labelled], gallery.taxonomy, gallery.labels)
    expected, _, _ = calibrate_paths(similarities, indices, gallery.labels, truth, precision=0.8)
    found = index.calibration.paths
    assert found.temperature == expected.temperature
    assert np.array(found.coefficients) == pytest.approx(np.array(expected.coefficients), abs=1e-3)
    assert found.thresholds == pytest.approx(expected.thresholds, abs=1e-3)
    assert index.calibration.num_images == 580
    assert [level["num_known"] + level["num_unknown"] for level in measured] == [580, 580]


def test_it_answers_by_what_it_learned_and_by_votes_if_it_is_told_to(index, gallery, held_out):
    query = images(2, 50, {**KINDS, **OTHERS}, "new")
    bare = index.classify(query)
    index.calibrate(held_out, false_alarms=0.1)
    similarities, indices = nearest(query.features, gallery.features, 50)
    nodes, confidences, named = answer_paths(similarities, indices, gallery.labels, index.calibration.paths)
    for row, one in enumerate(index.classify(query)):
        count = int(named[row])
        assert one.path == gallery.taxonomy.decode(nodes[row].masked_fill(torch.arange(2) >= count, PAD))
        assert one.confidences == pytest.approx(confidences[row, :count].tolist(), abs=1e-4)
        if count < 2:
            assert one.next[0] == gallery.taxonomy.name(count + 1, int(nodes[row, count]))
    assert index.classify(query, threshold=0.5) == index.classify(query, k=20) == bare
    assert index.classify(query) != bare


def test_what_is_unknown_is_said_to_be_and_an_unknown_leaf_stops_at_its_branch(index, held_out):
    index.calibrate(held_out, precision=0.9)
    kinds = {("food", "apple"): 9, ("animal", "cat"): 0, ("animal", "cow"): 2}
    apples, cats, cows = (index.classify(images(3, 60, {kind: kinds[kind]}, "new", spread=0.2)) for kind in kinds)
    assert sum(not one.path for one in apples) > 50
    assert str(next(one for one in apples if not one.path)).startswith("unknown, perhaps ")
    assert sum(one.path == ("animal", "cat") for one in cats) > 50
    assert sum(one.path == ("animal",) for one in cows) > 40


def test_no_confidence_is_above_the_one_before(index, held_out):
    index.calibrate(held_out, precision=0.8)
    answers = index.answer(held_out)
    assert (answers.confidences.diff(dim=1) <= 0).all()
    assert answers.named().equal(
        torch.where(torch.arange(2) < answers.num_named[:, None], answers.nodes, torch.tensor(PAD))
    )


def test_it_is_kept_with_the_index(index, held_out, tmp_path):
    index.save(tmp_path / "index")
    assert EmbeddingIndex.load(tmp_path / "index").calibration is None
    index.calibrate(held_out, precision=0.8)
    loaded = EmbeddingIndex.load(tmp_path / "index")
    assert loaded.calibration == index.calibration
    assert loaded.classify(held_out) == index.classify(held_out)
    loaded.save(tmp_path / "copy")
    assert EmbeddingIndex.load(tmp_path / "copy").calibration == index.calibration
    unreached = replace(index.calibration, paths=replace(index.calibration.paths, thresholds=(0.5, None)))
    loaded.calibration = unreached
    assert EmbeddingIndex.load(tmp_path / "copy").calibration == unreached


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "v0"}, "its format must be 'hierpretrain.calibration.v1'; it is 'v0'"),
        ({"k": None}, "counts must be of another form or range; one is None"),
        ({"k": 0}, "one is 0"),
        ({"rate": 2}, "rate must be of another form or range; one is 2"),
        ({"goal": "recall"}, "goal must be of another form or range; one is 'recall'"),
        ({"paths": {}}, "it must be an object of coefficients, temperature, thresholds"),
        ({"level_names": ["kingdom"]}, "level_names, coefficients and thresholds must be lists of one length"),
        ({"fingerprint": "other"}, "is of another index: its model must be '0123abcd', not 'other'"),
        ({"level_names": ["a", "b"]}, r"its levels must be \('kingdom', 'kind'\), not \('a', 'b'\)"),
        ({"more": 1}, "it must be an object of fingerprint, format, goal"),
    ],
)
def test_a_damaged_file_is_an_error(index, held_out, tmp_path, change, message):
    index.save(tmp_path / "index")
    index.calibrate(held_out, precision=0.8)
    index.parts["calibration"] = {**index.parts["calibration"], **change}
    with pytest.raises(ValueError, match=rf"the calibration of the index in .*{message}.*; calibrate the index anew"):
        EmbeddingIndex.load(tmp_path / "index").classify(held_out)


@pytest.mark.parametrize("rows", [[[1, 2], [1, 2, 3]], [[1, 2, float("nan")], [1, 2, 3]], [[1, 2, "3"], [1, 2, 3]]])
def test_damaged_numbers_are_an_error(index, held_out, rows):
    index.calibrate(held_out, precision=0.8)
    calibration = index.calibration
    data = {**vars(calibration), "format": "hierpretrain.calibration.v1", "level_names": ["a", "b"]}
    data["paths"] = {"temperature": 0.1, "coefficients": rows, "thresholds": [0.5, 0.5]}
    with pytest.raises(ValueError, match="coefficients must be of another form or range"):
        Calibration.from_dict(data)


@pytest.mark.parametrize("name", ["coefficients", "thresholds"])
@pytest.mark.parametrize("wrong", [5, None, "abc", {}, [[1, 2, 3]]])
def test_what_is_no_list_is_an_error(index, held_out, name, wrong):
    index.calibrate(held_out, precision=0.8)
    data = index.calibration.to_dict()
    data["paths"] = {**data["paths"], name: wrong}
    with pytest.raises(ValueError, match="level_names, coefficients and thresholds must be lists of one length"):
        Calibration.from_dict(data)


def test_a_calibration_that_goes_when_it_was_read_is_not_looked_for_again(index, held_out, tmp_path, monkeypatch):
    index.calibrate(held_out, precision=0.8)
    index.save(tmp_path / "index")
    expected, other = index.classify(held_out), EmbeddingIndex.open(tmp_path / "index")

    def remove_then(*args, **options):
        if other.parts:
            del other.parts["calibration"]
        index.refresh()  # as the thread of a service that watches
        return parse_json_bytes(*args, **options)

    monkeypatch.setattr("hierpretrain.apis.index.parse_json_bytes", remove_then)
    assert index.classify(held_out) == expected
    assert index.calibration is None


def test_a_file_of_the_index_is_known_by_any_path_to_it(index, held_out):
    inside = replace(held_out, paths=["gallery/../gallery/3.jpg", *held_out.paths[1:]])
    with pytest.raises(ValueError, match=r"'.*/gallery/3.jpg' are"):
        index.calibrate(inside, precision=0.9)


def test_an_image_of_the_index_is_known_by_its_content(gallery, held_out):
    digests = [f"{i}" for i in range(200)]
    index = EmbeddingIndex.build(replace(gallery, digests=digests), model="tiny", fingerprint="0", log=print)
    copies = replace(gallery, paths=[f"copies/{i}.jpg" for i in range(199)] + ["<image 199>"], digests=digests)
    with pytest.raises(ValueError, match=r"the index, by their file or their content, .*'<image 199>'.* are; leave"):
        index.calibrate(copies.select([199, 3]), precision=0.9)
    index.calibrate(replace(held_out, digests=[""] * 600), precision=0.9)  # whose content is not known


@pytest.mark.parametrize("copies", [60, 61])
def test_a_few_copies_among_the_held_out_images_are_told(gallery, held_out, copies, monkeypatch):
    told = []
    monkeypatch.setattr("hierpretrain.apis.answering.warn", told.append)
    index = EmbeddingIndex.build(
        replace(gallery, digests=[f"{i}" for i in range(200)]), model="tiny", fingerprint="0", log=print
    )
    digests = [f"{i if i < copies else 'new'}" for i in range(600)]
    with ExitStack() as stack:
        if copies > 60:
            stack.enter_context(
                pytest.raises(ValueError, match=r"by their file or their content, .* are; leave them out")
            )
        index.calibrate(replace(held_out, digests=digests), precision=0.9)
    starts = ["60 of 600 held-out images are copies of the index's: '/"] if copies == 60 else []
    assert [line[: len(start)] for line, start in zip(told, starts, strict=True)] == starts


def test_held_out_images_of_a_folder_one_level_too_deep_are_told(index, gallery, held_out):
    index.calibrate(held_out, precision=0.8)
    before = index.calibration
    tree = Taxonomy([("cat",), ("dog",), ("cow",)], ("level1",))
    labels = tree.encode([()] + [("dog",)] * 599)
    told = (
        "none of these 599 is below one of its 'kingdom': a label of theirs is 'dog', and one of the index's "
        f"'{'/'.join(gallery.taxonomy.decode(gallery.labels[0]))}'; give the folder whose sub-folders"
    )
    with pytest.raises(ValueError, match=told):
        index.calibrate(replace(held_out, labels=labels, taxonomy=tree), precision=0.95)
    assert index.calibration == before


def test_errors(index, gallery, held_out):
    with pytest.raises(ValueError, match="give either a precision or a rate of false alarms, and not both"):
        index.calibrate(held_out)
    with pytest.raises(ValueError, match=r"must not be in the index, .*gallery/0.jpg'.* are; leave them out"):
        index.calibrate(gallery, precision=0.9)
    nothing = replace(held_out, labels=torch.full_like(held_out.labels, PAD))
    with pytest.raises(ValueError, match="at least 2 held-out images need labels, and 0 has: give a folder"):
        index.calibrate(nothing, precision=0.9)
    assert index.calibration is None


# ---------------------------------------------------------------- right answers and tables
def test_right_answers_are_by_name_and_of_what_the_index_has_images_of():
    known = Taxonomy([("animal", "cat"), ("animal", "dog"), ("tool", "cat")], ("kingdom", "kind"))
    other = Taxonomy(
        [("animal", "cat", "tabby"), ("animal", "dog"), ("tool", "dog"), ("tool",), ("cat",)], ("a", "b", "c")
    )
    labels = other.encode(
        [("animal", "cat", "tabby"), ("animal", "dog"), ("tool", "dog"), ("cat",), (), [("cat",), ("animal", "cat")]]
    )
    truth, depths = right_answers(other, labels, known, known.encode([("animal", "cat"), ("tool", "cat")]))
    paths = [{known.decode(row) for row in item} - {()} for item in truth]
    assert paths == [{("animal", "cat")}, {("animal",)}, {("tool",)}, set(), set(), {("animal", "cat")}]
    assert depths.tolist() == [3, 2, 2, 1, 0, 2]


def test_branches_add_up():
    tree = Taxonomy([("animal", "cat"), ("animal", "dog"), ("tool",)], ("kingdom", "kind"))
    cat, dog, tool, none = [0, 0], [0, 1], [1, PAD], [PAD, PAD]
    nodes = torch.tensor([cat, cat, tool, cat, cat])
    answers = Answers(nodes, torch.ones(5, 2), torch.tensor([2, 1, 1, 0, 2]), tree)
    found = branch_metrics(tree, answers, torch.tensor([[cat], [dog], [cat], [none], [none]]))
    third = pytest.approx(1 / 3)
    animals = {"num_images": 3, "right": third, "short": third, "wrong": third, "mistake_severity": 2.0}
    nothing = {"num_images": 2, "right": 0.5, "short": 0.0, "wrong": 0.5, "mistake_severity": 2.0}
    assert found == {"": nothing, "animal": animals}
    assert branch_table(found)[1].split() == "(nothing known) 2 50.0 % 0.0 % 50.0 % 2.00".split()


def test_a_level_without_a_sure_name_says_so():
    lines = level_table(("kind",), [{"num_known": 1234, "num_unknown": 0, "accuracy": 0.5}], (None,))
    assert lines[1].split() == "kind 1,234 0 50.0 % - - - - - none".split()
