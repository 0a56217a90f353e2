import base64
import json
import os
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from hierpretrain.evaluation import HierarchicalRetrievalMetric, RetrievalMetric, SearchSets
from hierpretrain.report import page as page_module
from hierpretrain.report import write_report
from hierpretrain.report.nearest_images import nearest_others
from hierpretrain.report.search import search
from hierpretrain.report.siblings import sibling_confusion
from hierpretrain.report.tree_quality import tree_quality
from tests.report.sets import LEVELS, embedded, random_set, unlabelled


class Elements(HTMLParser):
    """What a browser makes of a page: its elements, and the text of those with an id."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes, self.texts, self.open = [], [], {}, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.attributes.append((tag, attributes))
        if tag not in ("meta", "link", "input", "br"):
            self.open.append(attributes.get("id"))

    def handle_endtag(self, tag):
        self.open.pop()

    def handle_data(self, data):
        for name in filter(None, self.open):
            self.texts[name] = self.texts.get(name, "") + data


def written(images, tmp_path, **options):
    path = tmp_path / "report.html"
    write_report(images, path, **{"title": "Title", "log": str, **options})
    page = Elements(path.read_text(encoding="utf-8"))
    return page, json.loads(page.texts["data"])


def unpacked(array):
    return np.frombuffer(base64.b64decode(array["data"]), array["type"])


def missing(page, section):
    return page.texts[section]


@pytest.fixture
def no_map(monkeypatch):
    """Spares the time of t-SNE."""
    monkeypatch.setattr(page_module, "positions", lambda features, seed: (np.zeros((len(features), 2), np.float32), ""))


# ---------------------------------------------------------------- what the page holds
def test_the_page_holds_the_numbers_of_its_parts(tmp_path):
    images = random_set(0, places=2)
    page, data = written(images, tmp_path)
    similarities, neighbours = nearest_others(images.features, 8)
    assert unpacked(data["neighbours"]["rows"]).reshape(40, 8).tolist() == neighbours.tolist()
    np.testing.assert_allclose(
        unpacked(data["neighbours"]["similarities"]) / 32767 - 1, similarities.flatten(), atol=2e-5
    )

    (told,) = data["searches"]
    quality = tree_quality(images, images, neighbours[:, 0])
    assert unpacked(told["quality"]["images"]).tolist() == torch.cat([q.num_images for q in quality]).tolist()
    assert unpacked(told["quality"]["right"]).tolist() == torch.cat([q.num_right for q in quality]).tolist()

    names, parents = data["tree"]["names"], unpacked(data["tree"]["parents"])

    def path_of(node):
        return (*(path_of(parents[node]) if parents[node] >= 0 else ()), names[node])

    leaves = unpacked(data["images"]["leaves"]).reshape(40, -1)
    for i in range(40):
        label = images.labels[i].tolist()
        expected = {images.taxonomy.decode(row) for row in label} - {()}
        assert {path_of(leaf) for leaf in leaves[i] if leaf >= 0} == expected

    confusion = sibling_confusion(images, images, neighbours, same_set=True)
    assert [found["counts"] for found in told["confusion"]] == [found.counts.tolist() for found in confusion]
    for of_parent, found in zip(told["confusion"], confusion, strict=True):
        parent = path_of(of_parent["parent"]) if of_parent["parent"] >= 0 else ()
        assert all(path_of(child)[:-1] == parent for child in of_parent["children"])
        assert len(parent) == found.level

    searched = search(images)
    for level, curve in enumerate(told["recall"], start=1):
        assert curve["name"] == LEVELS[level - 1]
        assert curve["ks"] == list(range(1, 40))
        assert curve["values"] == pytest.approx(searched.recall(level, torch.arange(1, 40)).tolist(), abs=1e-5)
    assert f"{100 * searched.scores(1, 'map@r').mean():.1f} %" in page.texts["overview"]


def test_the_head_says_of_how_many_images_each_number_is_and_what_it_means(tmp_path, no_map):
    images = random_set(0, number=30, places=2)
    page, _ = written(images, tmp_path)
    left_out = int(images.in_several(1).sum())
    assert left_out > 1
    assert f"{left_out} of several nodes are left out" in page.texts["overview"]
    assert f"NMI: {int((images.classes(1) >= 0).sum())} images" in page.texts["overview"]
    for name in ("recall@1", "MAP@R", "NMI", "H-AP", "violations"):
        assert page.texts["meanings"].count(name) == 1
    page, _ = written(embedded(torch.eye(3), [("a", "x")] * 3, levels=("kingdom", "kind")), tmp_path)
    assert "kind 1 node" in re.sub(r"\d nodes?", lambda found: f" {found[0]}", page.texts["overview"]).replace(
        "  ", " "
    )
    assert "1 nodes" not in page.texts["overview"]


def test_mixed_up_nodes_are_numbered_through(tmp_path):
    images = random_set(3)
    _, data = written(images, tmp_path)
    quality = tree_quality(images, images, nearest_others(images.features, 1)[1][:, 0])
    first = 0
    mixed = unpacked(data["searches"][0]["quality"]["mixed_with"]).tolist()
    for level, part in enumerate(quality, start=1):
        number = images.taxonomy.num_nodes(level)
        expected = [node + first if node >= 0 else -1 for node in part.mixed_with.tolist()]
        assert mixed[first : first + number] == expected
        first += number


def test_long_curves_are_thinned_and_end_at_the_last_rank(tmp_path, no_map):
    _, data = written(random_set(0, number=400), tmp_path)
    ks = data["searches"][0]["recall"][0]["ks"]
    assert ks[:100] == list(range(1, 101))
    assert ks[-1] == 399
    assert len(ks) < 130


def test_a_sample_is_on_the_map_and_its_neighbours_are_of_it(tmp_path):
    images = random_set(1, number=60, files=[f"{i}.png" for i in range(60)])
    page, data = written(images, tmp_path, max_points=20, seed=4)
    shown = [int(name.removesuffix(".png")) for name in data["images"]["paths"][:20]]
    assert shown == sorted(set(shown))
    assert len(unpacked(data["map"]["x"])) == 20
    _, neighbours = nearest_others(images.features[shown], 8)
    assert unpacked(data["neighbours"]["rows"]).reshape(20, 8).tolist() == neighbours.tolist()
    assert "Shown are 20 of 60 images, drawn at random" in page.texts["map"]
    # examples are of all images, and those that are not on the map follow
    numbers = {example["image"] for level in data["searches"][0]["examples"] for example in level["worst"]}
    assert max(numbers) >= 20
    assert len(set(data["images"]["paths"])) == len(data["images"]["paths"])


def test_a_seed_fixes_all_but_the_date(tmp_path):
    images = random_set(1, number=60)
    first, again, other = (written(images, tmp_path, max_points=20, seed=seed)[1] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_flat_columns_colour_the_map(tmp_path):
    images = replace(
        random_set(0),
        extra_labels=torch.arange(40)[:, None] % 2,
        extra_names=("vendor",),
        extra_values={"vendor": ["x", "<b>"]},
    )
    _, data = written(images, tmp_path)
    (column,) = data["flat"]
    assert column["name"] == "vendor"
    assert [column["values"][i] for i in unpacked(column["ids"])] == ["x", "<b>"] * 20


def test_history_is_drawn_and_its_absence_says_what_is_missing(tmp_path):
    data_folder = tmp_path / "work" / "20260101_000000" / "vis_data"
    data_folder.mkdir(parents=True)
    (data_folder / "scalars.json").write_text('{"loss": 2.0, "step": 1}\n{"loss": 1.0, "step": 2}\n')
    _, data = written(random_set(0), tmp_path, history=tmp_path / "work")
    assert data["history"] == {"loss": {"loss": [[1, 2], [2.0, 1.0]]}}
    page, data = written(random_set(0), tmp_path, history=tmp_path / "a<b>")
    assert data["history"] == {}
    assert (
        f"There is no vis_data/scalars.json, which MMEngine writes when it trains, in {tmp_path / 'a<b>'}."
        in missing(page, "training")
    )
    page, _ = written(random_set(0), tmp_path)
    assert "Give the work directory of the training" in missing(page, "training")


# ---------------------------------------------------------------- what there may be little of
def test_images_without_labels_have_a_map_and_neighbours(tmp_path):
    page, data = written(unlabelled(12), tmp_path)
    assert len(unpacked(data["map"]["x"])) == 12
    assert data["neighbours"]["k"] == 8
    assert data["searches"] == []
    for section in ("overview", "recall", "tree", "siblings", "queries"):
        assert "The images have no labels" in missing(page, section)


@pytest.mark.parametrize("number", [1, 2])
def test_one_image_and_two(tmp_path, number):
    images = embedded(torch.eye(2)[:number], [("a", "x"), ("a", "y")][:number], levels=("kingdom", "kind"))
    page, data = written(images, tmp_path)
    assert unpacked(data["map"]["x"]).tolist() == [0, 1][:number]
    assert data["neighbours"]["k"] == number - 1
    assert ("There is no other image" in missing(page, "tree")) == (number == 1)
    if number == 2:
        assert [curve["name"] for curve in data["searches"][0]["recall"]] == ["kingdom"]
        assert "no query has an image of its kind to find" in page.texts["overview"]


def test_missing_files_are_grey_and_counted(tmp_path):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "there.png")
    images = random_set(0, files=[str(tmp_path / "there.png"), *(str(tmp_path / f"{i}.png") for i in range(39))])
    page, _ = written(images, tmp_path)
    assert "39 images could not be read for a thumbnail, which is grey." in page.texts["map"]


def test_the_thumbnails_make_the_file_fit(tmp_path, no_map):
    rng = np.random.default_rng(0)
    files = []
    for i in range(100):
        files.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(files[-1])
    images = unlabelled(100, files=files)
    _, data = written(images, tmp_path)
    size = os.path.getsize(tmp_path / "report.html")
    assert data["pictures"]["small"]["side"] == 64
    _, data = written(images, tmp_path, max_bytes=size - 100_000)
    assert 16 <= data["pictures"]["small"]["side"] < 64
    assert os.path.getsize(tmp_path / "report.html") <= size - 100_000
    page, data = written(images, tmp_path, max_bytes=5_000_000)  # plotly alone takes most of that
    assert data["pictures"]["small"]["side"] == 0
    assert "There are no thumbnails: they would make the file too large." in page.texts["map"]


# ---------------------------------------------------------------- what is searched for where
def test_each_search_of_the_config_has_its_own_numbers_below_its_title(tmp_path, no_map):
    images = random_set(0, number=60, splits=["train", "a", "b"] * 20)
    metrics = [
        RetrievalMetric([1], query="a", gallery="train", prefix="one"),
        RetrievalMetric(["kingdom"], query="b", prefix="two"),
        HierarchicalRetrievalMetric(query="b", prefix="two"),
    ]
    page, data = written(images, tmp_path, metrics=metrics)
    titles = [
        "one: 20 queries (a) in a gallery of 20 images (train)",
        "two: 20 images (b), each a query among the others",
    ]
    assert [search["title"] for search in data["searches"]] == titles
    assert all(title in page.texts["overview"] for title in titles)
    assert "not what the config measures" not in page.texts["overview"]
    first, second = data["searches"]
    of_first = search(images, SearchSets("a", "train"))
    recall = of_first.recall(1, torch.tensor(first["recall"][0]["ks"])).tolist()
    assert first["recall"][0]["values"] == pytest.approx(recall, abs=1e-5)
    assert (first["same_set"], second["same_set"]) == (False, True)
    asked = {example["image"] for level in first["examples"] for example in [*level["best"], *level["worst"]]}
    found = {
        neighbour["image"]
        for level in first["examples"]
        for example in [*level["best"], *level["worst"]]
        for neighbour in example["neighbours"]
    }
    assert {images.splits[i] for i in asked} == {"a"}
    assert {images.splits[i] for i in found} == {"train"}
    assert unpacked(first["quality"]["images"]).sum() == (images.of("a").labels >= 0).sum()


def test_a_search_that_the_config_does_not_measure_is_labelled(tmp_path, no_map):
    images = random_set(0, splits=["train", "test"] * 20)
    metrics = [RetrievalMetric([1], query="test", gallery="train", prefix="new")]
    page, _ = written(images, tmp_path, metrics=metrics, query="train", gallery="test")
    title = "20 queries (train) in a gallery of 20 images (test) (not what the config measures)"
    assert title in page.texts["overview"]
    page, _ = written(images, tmp_path, metrics=metrics, query=["test"], gallery=["train"])
    assert "new: 20 queries (test) in a gallery of 20 images (train)" in page.texts["overview"]
    assert "not what the config measures" not in page.texts["overview"]
    page, _ = written(images, tmp_path)
    title = "40 images (train, test), each a query among the others (not what the config measures)"
    assert title in page.texts["overview"]


def test_training_images_among_the_queries_are_told(tmp_path, no_map):
    folder = tmp_path / "real"
    folder.mkdir()
    (tmp_path / "link").symlink_to(folder)
    files = [str(tmp_path / "link" / f"{i}.png") for i in range(40)]
    images = random_set(0, files=files, splits=["test", "train"] * 20)
    metrics = [RetrievalMetric([1], query="test", gallery="train")]

    def told(trained, **options):
        return written(images, tmp_path, trained=trained, **options)[0].texts["overview"]

    trained = {str(folder / f"{i}.png") for i in (1, 3, 4)}
    assert "1 of the 20 queries are training images" in told(trained, metrics=metrics)
    assert "3 of the 40 queries are training images" in told(trained)
    assert "All queries are training images" in told({str(folder / f"{i}.png") for i in range(40)})
    assert "training images" not in told({str(folder / "other.png")})
    assert "Whether the model was trained on some of the queries is not known." in told(None)


# ---------------------------------------------------------------- safety
HOSTILE = "</script><script>alert('x')</script><img src=x onerror=alert(1)>\"'&<!--<b>"


def test_text_from_outside_is_never_markup(tmp_path):
    def page_of(name, folder):
        names = [name + str(i) for i in range(3)]
        images = embedded(
            torch.randn(12, 3, generator=torch.Generator().manual_seed(0)),
            [(names[i % 3], names[i % 2]) for i in range(12)],
            levels=(f"{name} 1", f"{name} 2"),
            files=[f"{name}/{i}.png" for i in range(12)],
            splits=[f"{name}{i % 2}" for i in range(12)],
            skipped={f"{name}.png": f"cannot read {name}"},
        )
        folder.mkdir()
        return written(images, folder, title=name, model=name, history=folder / name.replace("/", "_"))

    hostile, data = page_of(HOSTILE, tmp_path / "hostile")
    harmless, _ = page_of("harmless", tmp_path / "harmless")
    assert hostile.tags == harmless.tags
    assert not any(name.startswith("on") for _, attributes in hostile.attributes for name in attributes)
    assert hostile.texts["skipped"].count(HOSTILE) == 2
    assert data["tree"]["names"][0] == HOSTILE + "0"
    assert data["images"]["split_names"] == [HOSTILE + "0", HOSTILE + "1"]


def test_a_name_that_is_no_text_is_written_with_a_question_mark(tmp_path, no_map):
    # what Python makes of bytes of a file's name that are not UTF-8
    images = embedded(torch.eye(2), [("caf\udce9",)] * 2, levels=("kind",), files=["x/\udcff.png", "x/b.png"])
    _, data = written(images, tmp_path, title="\udcfe")
    assert data["tree"]["names"] == ["caf?"]
    assert data["images"]["paths"] == ["?.png", "b.png"]


def test_nothing_is_loaded_from_anywhere(tmp_path):
    page, _ = written(random_set(0), tmp_path)
    for tag, attributes in page.attributes:
        address = attributes.get("src") or attributes.get("href") or ""
        assert not address or address.startswith(("#", "data:")), (tag, attributes)
    (policy,) = [attributes["content"] for _, attributes in page.attributes if "http-equiv" in attributes]
    assert policy.startswith("default-src 'none';")
    assert not re.search(r"https?:", policy)


# ---------------------------------------------------------------- errors
def test_errors(tmp_path):
    images = random_set(0)

    def attempt(images, **options):
        write_report(images, tmp_path / "report.html", title="", log=str, **options)

    with pytest.raises(ValueError, match="max_points must be at least 1; it is 0"):
        attempt(images, max_points=0)
    with pytest.raises(ValueError, match="must be 16 to 256; it is 8"):
        attempt(images, thumbnail=8)
    with pytest.raises(ValueError, match="no evaluated image is of the split 'none'"):
        attempt(images, query="none", gallery="all")
    none = replace(images, features=images.features[:0], labels=images.labels[:0], splits=[], paths=[])
    with pytest.raises(ValueError, match="a report needs one embedded image at least; there is none"):
        attempt(none)
    zero = replace(images, features=images.features * (torch.arange(40) != 3)[:, None])
    with pytest.raises(ValueError, match="row 3 is all zero"):
        attempt(zero)
    assert not list(tmp_path.iterdir())
