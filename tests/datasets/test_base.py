import copy
import io
import pickle
import random

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from torch.utils.data import DataLoader, IterableDataset

from hierpretrain.datasets import Annotations, FolderDataset, HierarchicalDataset, UnreadableImage
from hierpretrain.registry import DATASETS
from hierpretrain.taxonomy import Taxonomy
from tests.datasets.trees import write_image

ROWS = [  # image, label, split, product
    ("cat/1.png", ("animal", "cat", "tabby"), "train", "p9"),
    ("cat/2.png", ("animal", "cat", "siamese"), "val", "p1"),
    ("dog/3.png", ("animal", "dog"), "train", "p1"),
    ("4.png", ("tool",), "test", "p5"),
    ("dog/5.png", (), "train", "p9"),
    ("6.png", ("food", "fruit", "apple"), "val", "p5"),
]


class Pets(HierarchicalDataset):
    def read(self):
        images, labels, splits, products = map(list, zip(*ROWS, strict=True))
        levels = ("kind", "animal", "breed")
        return Annotations(images, labels, splits, levels, self.data_root, {"product": products}, source="pets")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pets")
    for i, (image, *_) in enumerate(ROWS):
        write_image(folder / image, (40 * i, 0, 0), size=(8, 6))
    return str(folder)


def noise(results):
    """A transform that draws from all three generators."""
    results["noise"] = (random.random(), np.random.rand(), np.random.normal(), torch.rand(()).item())  # noqa: NPY002
    return results


PIPELINE = (
    {"type": "LoadRGB"},
    noise,
    lambda item: (item["sample_idx"], *item["noise"], np.asarray(item["img"]).max()),
)


# ---------------------------------------------------------------- rows
def test_any_number_of_splits():
    class Many(HierarchicalDataset):
        def read(self):
            names = [str(i) for i in range(33_000)]
            return Annotations(names, [("a",)] * len(names), names, ("kind",), self.data_root, source="many")

    data = Many(data_root=".", check_files=False)
    assert (data.splits[-1], data.get_data_info(32_999)["split"]) == ("32999", "32999")
    with pytest.raises(ValueError, match=r"there is no split 'train'; many has \['0', '1', '2', '3', '4', \.\.\.\]$"):
        Many(data_root=".", check_files=False, split="train")


def test_what_is_named_is_found_in_any_unicode_form(root, tmp_path):
    one, two = "caf\u00e9", "cafe\u0301"

    class Cafes(HierarchicalDataset):
        def read(self):
            images = [row[0] for row in ROWS]
            labels, splits = [(one,), (two,), *[("bar",)] * 4], [one, two, *["train"] * 4]
            return Annotations(images, labels, splits, (two,), self.data_root, source="cafes")

    for name in (one, two):
        data = Cafes(data_root=root, split=[name])
        assert (len(data), data.splits, data.taxonomy.level_names) == (2, [one, one], (one,))
        Taxonomy([(name,), ("bar",)], (name,)).save(tmp_path / "tree.json")
        data = Cafes(data_root=root, taxonomy=str(tmp_path / "tree.json"), level_names=[two])
        assert data.labels.tolist() == [[1], [1], *[[0]] * 4]


def test_annotations_are_kept_only_if_asked_for(root):
    data = FolderDataset(data_root=root, keep_annotations=True)
    assert data.annotations == data.read()
    assert FolderDataset(data_root=root).annotations is None


def test_ids_are_of_all_splits(root):
    whole = Pets(data_root=root)
    assert whole.labels.tolist() == [[0, 0, 1], [0, 0, 0], [0, 1, -1], [2, -1, -1], [-1, -1, -1], [1, 2, 2]]
    assert whole.labels.dtype == whole.extra_labels.dtype == torch.int64
    assert whole.extra_labels.tolist() == [[2], [0], [0], [1], [2], [1]]
    assert whole.metainfo["splits"] == ("train", "val", "test")
    for split in ("train", "val", "test", ["test", "train"], ("val", "val")):
        part = Pets(data_root=root, split=split)
        wanted = {split} if isinstance(split, str) else set(split)
        rows = [i for i, row in enumerate(ROWS) if row[2] in wanted]
        assert part.taxonomy == whole.taxonomy
        assert part.labels.tolist() == whole.labels[rows].tolist()
        assert part.extra_labels.tolist() == whole.extra_labels[rows].tolist()
        assert part.splits == [ROWS[i][2] for i in rows]
        assert part.image_paths == [f"{root}/{ROWS[i][0]}" for i in rows]
        assert len(part) == len(rows)


def test_data_info(root):
    data = Pets(data_root=root, split="val")
    info = data.get_data_info(1)
    assert info == data.get_data_info(-1) | {"gt_label": info["gt_label"]}
    assert info["img_path"] == f"{root}/6.png"
    assert info["sample_idx"] == 1
    assert info["gt_label"].dtype == np.int64
    assert info["gt_label"].tolist() == [1, 2, 2]
    assert info["extra_labels"].tolist() == [1]
    assert info["split"] == "val"
    info["gt_label"][:] = 7  # a transform's slip must not reach the data set
    info["extra_labels"][:] = 7
    assert data.labels[1].tolist() == [1, 2, 2]
    assert data.extra_labels[1].tolist() == [1]
    for index in (2, -3):
        with pytest.raises(IndexError, match=f"no item {index}: the data set has 2"):
            data[index]
    assert len(list(data)) == 2
    assert repr(data) == "Pets(2 images of val; Taxonomy(kind: 3, animal: 3, breed: 3))"


def test_metainfo_goes_through_a_checkpoint(root):
    buffer = io.BytesIO()
    data = Pets(data_root=root, split="train")
    torch.save(data.metainfo, buffer)
    buffer.seek(0)
    metainfo = torch.load(buffer, weights_only=True)
    assert metainfo == {
        "taxonomy": data.taxonomy.to_dict(),
        "extra_label_names": ("product",),
        "extra_label_values": {"product": ("p1", "p5", "p9")},
        "splits": ("train",),
    }
    assert Taxonomy.from_dict(metainfo["taxonomy"]) == data.taxonomy


def test_packed_inputs(root):
    pack = {"type": "PackInputs", "algorithm_keys": ("extra_labels",), "meta_keys": ("sample_idx", "img_path", "split")}
    item = Pets(data_root=root, pipeline=[{"type": "LoadRGB"}, pack])[3]
    sample = item["data_samples"]
    assert item["inputs"].shape == (3, 6, 8)
    assert item["inputs"].dtype == torch.uint8
    assert sample.gt_label.tolist() == [2, -1, -1]
    assert sample.extra_labels.tolist() == [1]
    assert (sample.sample_idx, sample.split) == (3, "test")


# ---------------------------------------------------------------- several paths
class Hybrids(HierarchicalDataset):
    """Images 1 and 4 of ``ROWS`` hang in two and three places; the second path of image 0 says nothing more."""

    def read(self):
        rows = Pets.read(self)
        more = {
            0: (("animal", "cat"),),
            1: (("animal", "dog"),),
            3: (("food", "fruit", "apple"), ("animal", "dog")),
        }
        extra = {"product": rows.extra_labels["product"], "maker": ["", "b", "a", "", "b", ""]}
        return Annotations(
            rows.images, rows.labels, rows.splits, rows.level_names, rows.root, extra, "hybrids", more_labels=more
        )


def test_all_paths_are_kept_in_one_shape_for_all_splits(root):
    none = [-1, -1, -1]
    data = Hybrids(data_root=root)
    assert data.labels.tolist() == [
        [[0, 0, 1], none, none],
        [[0, 0, 0], [0, 1, -1], none],
        [[0, 1, -1], none, none],
        [[2, -1, -1], [1, 2, 2], [0, 1, -1]],
        [none, none, none],
        [[1, 2, 2], none, none],
    ]
    assert Hybrids(data_root=root, split="train").labels.tolist() == data.labels[[0, 2, 4]].tolist()
    assert data.get_data_info(3)["gt_label"].tolist() == data.labels[3].tolist()


@pytest.mark.parametrize(
    ("policy", "rows", "labels"),
    [
        ("first", range(6), {1: [0, 0, 0], 3: [2, -1, -1]}),
        ("longest", range(6), {1: [0, 0, 0], 3: [1, 2, 2]}),
        ("drop", [0, 2, 4, 5], {}),
    ],
)
def test_one_path_is_chosen_or_the_image_left_out(root, logged, policy, rows, labels):
    data, whole = Hybrids(data_root=root, paths=policy), Pets(data_root=root)
    expected = {row: whole.labels[row].tolist() for row in rows} | labels
    assert data.labels.tolist() == list(expected.values())
    assert data.image_paths == [f"{root}/{ROWS[row][0]}" for row in rows]
    assert data.extra_labels[:, 0].tolist() == whole.extra_labels[list(rows), 0].tolist()
    assert logged == [f"hybrids: 2 of 6 images have several label paths; paths='{policy}'"]


def test_policies_are_named_and_must_leave_an_image(root):
    with pytest.raises(ValueError, match="paths must be 'all', 'first', 'longest' or 'drop'; it is 'any'"):
        Pets(data_root=root, paths="any")
    with pytest.raises(ValueError, match="paths='drop' leaves none of the chosen images of hybrids: all have several"):
        Hybrids(data_root=root, split="test", paths="drop")


def test_nodes_of_further_paths_alone_are_in_the_tree_and_every_policy_has_the_same(root):
    trees = [Hybrids(data_root=root, split="train", paths=policy).taxonomy for policy in ("all", "first", "drop")]
    assert trees[0] == trees[1] == trees[2] == Pets(data_root=root).taxonomy


def test_an_extra_label_may_be_missing(root):
    data = Hybrids(data_root=root)
    assert data.extra_labels[:, 1].tolist() == [-1, 1, 0, -1, 1, -1]
    assert data.metainfo["extra_label_values"] == {"product": ("p1", "p5", "p9"), "maker": ("a", "b")}


def test_several_paths_are_packed(root):
    pack = {"type": "PackInputs", "algorithm_keys": ("extra_labels",), "meta_keys": ("sample_idx", "img_path", "split")}
    data = Hybrids(data_root=root, pipeline=[{"type": "LoadRGB"}, pack])
    for row in (0, 3):
        sample = data[row]["data_samples"]
        assert sample.gt_label.tolist() == data.labels[row].tolist()
        assert sample.gt_label.dtype == torch.int64
        assert sample.extra_labels.tolist() == data.extra_labels[row].tolist()
        assert (sample.sample_idx, sample.split) == (row, ROWS[row][2])


def test_host_wrappers(root, monkeypatch):
    monkeypatch.setitem(DATASETS.module_dict, "Pets", Pets)
    pets = {"type": "hierpretrain.Pets", "data_root": root, "split": "train"}
    for kind, index in (("RepeatDataset", 4), ("mmengine.RepeatDataset", 1)):  # ours counts through
        with DefaultScope.overwrite_default_scope("hierpretrain"):
            data = DATASETS.build({"type": kind, "times": 2, "dataset": pets})
        assert len(data) == 6
        assert data[4]["sample_idx"] == index
        assert data[4]["img_path"] == data[1]["img_path"]


# ---------------------------------------------------------------- options
def test_level_names(root):
    assert Pets(data_root=root, level_names=["a", "b", "c"]).taxonomy.level_names == ("a", "b", "c")
    with pytest.raises(
        ValueError, match=r"level_names must name the 3 levels \('kind'.* of pets, one for one; they are"
    ):
        Pets(data_root=root, level_names=["a", "b"])


def test_taxonomy_from_a_file(root, tmp_path):
    paths = [label for _, label, *_ in ROWS]
    names = ("kind", "animal", "breed", "more")
    tree = Taxonomy([*paths, ("aaa", "b", "c", "d")], names)
    tree.save(tmp_path / "tree.json")
    data = Pets(data_root=root, taxonomy=str(tmp_path / "tree.json"))
    assert data.taxonomy == tree
    assert data.labels[3].tolist() == [3, -1, -1, -1]
    assert data.metainfo["taxonomy"] == tree.to_dict()
    with pytest.raises(
        ValueError, match=r"level_names are \('a', 'b', 'c'\) but .*tree\.json has .*; leave level_names"
    ):
        Pets(data_root=root, taxonomy=str(tmp_path / "tree.json"), level_names=["a", "b", "c"])
    Taxonomy(paths[:3], ("kind", "animal", "breed")).save(tmp_path / "small.json")
    Pets(data_root=root, taxonomy=str(tmp_path / "small.json"), split="train")
    with pytest.raises(ValueError, match=r"path \('tool',\) is not in the taxonomy"):
        Pets(data_root=root, taxonomy=str(tmp_path / "small.json"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "valid"}, r"there is no split 'valid'; pets has \['train', 'val', 'test'\]"),
        ({"split": ["train", "x"]}, "there is no split 'x'; pets has"),
        ({"split": []}, r"there is no split \(\); pets has"),
        ({"on_error": "ignore"}, "on_error must be 'error' or 'skip'; it is 'ignore'"),
        ({"seed": -1}, "seed must be an integer from 0; it is -1"),
        ({"seed": 1.5}, "seed must be an integer from 0; it is 1.5"),
        ({"seed": True}, "seed must be an integer from 0; it is True"),
        ({"seed": 2**63}, r"seed must be below 2\*\*63; it is 9223372036854775808"),
    ],
)
def test_wrong_options(root, options, message):
    with pytest.raises(ValueError, match=message):
        Pets(data_root=root, **options)


def test_epoch_is_checked(root):
    with pytest.raises(ValueError, match="the epoch must be an integer from 0; it is -1"):
        Pets(data_root=root).set_epoch(-1)


def test_abstract():
    with pytest.raises(TypeError, match="abstract"):
        HierarchicalDataset(data_root="x")


def test_only_chosen_files_are_looked_for(tmp_path):
    write_image(tmp_path / "4.png", "red")
    assert len(Pets(data_root=str(tmp_path), split="test")) == 1
    with pytest.raises(
        ValueError, match=r"5 of 6 images are missing below .*: 'cat/1.png', .*'6.png'; put the files there"
    ):
        Pets(data_root=str(tmp_path))
    data = Pets(data_root=str(tmp_path), check_files=False, pipeline=PIPELINE)
    with pytest.raises(
        UnreadableImage, match=r"cat/1\.png: .*No such file.*; replace the file, or go on .* on_error='skip'"
    ):
        data[0]


def test_names_that_are_not_utf8(tmp_path):
    write_image(tmp_path / "cat/a.png", "red")
    name = (tmp_path / "cat/a.png").rename(bytes(tmp_path / "cat").decode() + "/caf\udce9.png")
    data = FolderDataset(data_root=str(tmp_path), pipeline=PIPELINE)
    assert data.image_paths == [str(name)]
    assert data[0][-1] == 255


# ---------------------------------------------------------------- randomness
def items(data, epochs=1, **options):
    loader = DataLoader(data, batch_size=2, collate_fn=list, **options)
    drawn = []
    for epoch in range(epochs):
        data.set_epoch(epoch)
        drawn.append([item for batch in loader for item in batch])
    return drawn


def test_items_do_not_depend_on_workers(root):
    single = items(Pets(data_root=root, pipeline=PIPELINE), epochs=3)
    double = items(
        Pets(data_root=root, pipeline=PIPELINE), epochs=3, num_workers=2, persistent_workers=True, prefetch_factor=1
    )
    assert single == double
    assert [item[0] for item in single[0]] == list(range(6))
    for column in range(1, 5):  # every generator draws anew for each item and each epoch
        assert len({item[column] for epoch in single for item in epoch}) == 18


def test_a_deep_copy_reaches_its_workers(root):
    original = Pets(data_root=root, pipeline=PIPELINE)
    data = copy.deepcopy(original)  # as MMEngine does with configs
    assert items(data, epochs=2, num_workers=1, persistent_workers=True) == items(original, epochs=2)
    data.set_epoch(7)
    assert original[0] != data[0]


def test_a_seed_reaches_workers_that_run(root):
    """As the run's does, after the loop of a training that counts iterations has started them."""
    data = Pets(data_root=root, pipeline=PIPELINE)
    loader = DataLoader(data, batch_size=2, collate_fn=list, num_workers=1, persistent_workers=True)
    first, copied = [item for batch in loader for item in batch], copy.deepcopy(data)
    data.seed = 5
    second = [item for batch in loader for item in batch]
    assert [first] == items(Pets(data_root=root, pipeline=PIPELINE))
    assert [second] == items(Pets(data_root=root, pipeline=PIPELINE, seed=5))
    assert (data.seed, copied.seed) == (5, 0)


def test_items_depend_on_the_seed(root):
    first, second = (Pets(data_root=root, pipeline=PIPELINE, seed=seed)[0] for seed in (0, 1))
    assert first != second


def test_global_generators_are_untouched(root):
    data = Pets(data_root=root, pipeline=PIPELINE)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002
    list(data)
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002


class Stream(IterableDataset):
    """What a wrapper may do: draws its items at random, for ever."""

    def __init__(self, data):
        self.data = data

    def __iter__(self):
        while True:
            yield self.data[random.randrange(len(self.data))]


def test_what_else_is_drawn_in_a_worker_does_not_depend_on_the_items(tmp_path):
    for i in range(200):
        path = tmp_path / f"c{i % 2}" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"\xff\xd8\xff\xe0\0\x10JFIF\0\1")
    data = FolderDataset(data_root=str(tmp_path), pipeline=[lambda item: item["sample_idx"]])
    for num_workers in (0, 2):
        torch.manual_seed(0)
        random.seed(0)
        loader = DataLoader(Stream(data), batch_size=40, num_workers=num_workers, collate_fn=list)
        met = {item for _, batch in zip(range(10), loader, strict=False) for item in batch}
        assert len(met) > 150, num_workers  # of 400 draws, 173 are different on average


def test_pickle(root):
    data = Pets(data_root=root, pipeline=PIPELINE[:2])
    assert pickle.loads(pickle.dumps(data))[2]["noise"] == data[2]["noise"]


# ---------------------------------------------------------------- unreadable images
@pytest.fixture
def broken(tmp_path):
    for i, (image, *_) in enumerate(ROWS):
        write_image(tmp_path / image, (40 * i, 0, 0))
    for image in ("dog/3.png", "4.png", "6.png"):
        (tmp_path / image).write_bytes(b"no image")
    return str(tmp_path)


def test_an_unreadable_image_is_an_error(broken):
    data = Pets(data_root=broken, pipeline=PIPELINE)
    with pytest.raises(
        UnreadableImage, match=r"cannot read the image .*dog/3\.png: cannot identify.*; replace the file"
    ):
        data[2]
    with pytest.raises(UnreadableImage, match=r"dog/3\.png"):
        items(data, num_workers=1)


def test_the_next_readable_item_takes_its_place(broken, logged):
    data = Pets(data_root=broken, pipeline=PIPELINE, on_error="skip")
    taken = [item[0] for item in items(data, epochs=1)[0]]
    assert taken == [0, 1, 4, 4, 4, 0]
    assert data.num_skipped == 3
    assert [line.split(": ")[1].rpartition("/")[2] for line in logged] == ["3.png", "4.png", "6.png"]
    assert items(data)[0] == items(data, num_workers=2)[0]
    assert len(logged) == 3
    assert data[2] != data[4]  # its own random draw, so that a batch has no image twice alike


def test_a_packed_item_says_that_it_stands_in_for_another(broken, logged):
    data = Pets(data_root=broken, pipeline=[{"type": "LoadRGB"}, {"type": "PackInputs"}], on_error="skip")
    samples = [data[index]["data_samples"] for index in range(6)]
    assert [sample.get("stand_in", False) for sample in samples] == [False, False, True, True, False, True]


def test_workers_count_what_they_skip(broken):
    data = Pets(data_root=broken, pipeline=PIPELINE, on_error="skip")
    items(data, num_workers=2)
    assert data.num_skipped == 3


def test_nothing_is_readable(tmp_path, logged):
    for image, *_ in ROWS:
        write_image(tmp_path / image, "red").write_bytes(b"")
    data = Pets(data_root=str(tmp_path), pipeline=PIPELINE, on_error="skip")
    with pytest.raises(
        UnreadableImage, match=r"none of the 6 images can be read, .*dog/5\.png the last; repair the files"
    ):
        data[5]
    assert len(logged) == 6


def test_a_pipeline_may_refuse_an_image(root, logged):
    def refuse(results):
        return None if results["sample_idx"] == 1 else results

    with pytest.raises(UnreadableImage, match=r"the pipeline returned None for the image .*cat/2\.png"):
        Pets(data_root=root, pipeline=[refuse])[1]
    data = Pets(data_root=root, pipeline=[refuse], on_error="skip")
    assert data[1]["sample_idx"] == 2
    assert data.num_skipped == 1
