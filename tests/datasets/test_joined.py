import copy
from pathlib import Path

import mmengine.dataset
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.registry import init_default_scope
from torch.utils.data import Subset

from hierpretrain.apis.images import gather_images
from hierpretrain.datasets import (
    ClassBalancedDataset,
    ConcatDataset,
    FolderDataset,
    HierarchicalBatchSampler,
    LeafTripletSampler,
    LevelTripletSampler,
    ListDataset,
    RepeatDataset,
)
from hierpretrain.datasets.joined import (
    check_counts_through,
    check_one_tree,
    join_labels,
    labels_of,
    repeated_images,
    seeded_sets,
)
from hierpretrain.registry import DATASETS
from hierpretrain.taxonomy import PAD, Taxonomy
from tests.datasets.trees import write_image

FIRST = ("a/x/1.jpg", "a/x/2.jpg", "a/y/3.jpg", "b/z/4.jpg")
SECOND = ("b/5.jpg", "b/w/6.jpg", "c/x/v/7.jpg")


def written(root, names):
    for name in names:
        write_image(Path(root, name), (200, 30, 40))
    return str(root)


@pytest.fixture
def roots(tmp_path):
    return written(tmp_path / "first", FIRST), written(tmp_path / "second", SECOND)


def random_item(info):
    return info["sample_idx"], torch.rand(()).item()


def folders(roots, **options):
    return [dict(type="FolderDataset", data_root=root, **options) for root in roots]


def joined(roots, **options):
    return DATASETS.build(dict(type="ConcatDataset", datasets=folders(roots, **options)))


def test_every_image_keeps_its_names_under_the_joint_tree(roots):
    parts = [FolderDataset(data_root=root) for root in roots]
    data = joined(roots)
    assert isinstance(data, ConcatDataset)
    assert data.labels.shape == (7, 3)
    names = [data.taxonomy.decode(row) for row in data.labels]
    assert names == [part.taxonomy.decode(row) for part in parts for row in part.labels]
    assert names == [tuple(name.split("/")[:-1]) for name in FIRST + SECOND]
    assert Taxonomy.from_dict(data.metainfo["taxonomy"]) == data.taxonomy
    # the id of 'b' in the second set was that of 'a' in the first
    assert parts[1].labels[0, 0] == parts[0].labels[0, 0]
    assert data.labels[4, 0] == data.labels[3, 0] != data.labels[0, 0]
    assert data.image_paths == parts[0].image_paths + parts[1].image_paths
    assert data.splits == parts[0].splits + parts[1].splits
    for index in range(-7, 7):
        info = data.get_data_info(index)
        assert info["sample_idx"] == index % 7
        assert info["gt_label"].tolist() == data.labels[index].tolist()
        assert info["img_path"] == data.image_paths[index]


def test_equal_trees_keep_their_ids(roots):
    data = joined([roots[0], roots[0]])
    assert data.labels.tolist() == 2 * FolderDataset(data_root=roots[0]).labels.tolist()


def test_nested_sets_are_taken_apart(roots):
    inner = dict(type="RepeatDataset", dataset=dict(type="ConcatDataset", datasets=folders(roots)), times=2)
    data = ConcatDataset([inner, folders(roots)[0]])
    assert len(data) == 2 * 7 + 4
    assert [data.taxonomy.decode(row)[0] for row in data.labels] == list("aaabbbc" * 2 + "aaab")
    assert [data.get_data_info(i)["sample_idx"] for i in range(18)] == list(range(18))


def test_transforms_are_seeded_by_the_index_in_the_whole_and_by_the_epoch(roots):
    data = RepeatDataset(folders(roots[:1], pipeline=[random_item])[0], 3)
    items = [data[i] for i in range(12)]
    assert [index for index, _ in items] == list(range(12))
    assert len({drawn for _, drawn in items}) == 12
    assert items[:4] == [FolderDataset(data_root=roots[0], pipeline=[random_item])[i] for i in range(4)]
    data.set_epoch(1)
    assert not {drawn for _, drawn in items} & {data[i][1] for i in range(12)}
    data.set_epoch(0)
    data.seed = 5
    assert data.seed == 5
    assert not {drawn for _, drawn in items} & {data[i][1] for i in range(12)}
    assert copy.deepcopy(data)[3] == data[3]


def test_an_unreadable_image_is_replaced_inside_its_part(roots):
    damaged = Path(roots[1], "b/w/6.jpg")
    damaged.write_bytes(damaged.read_bytes()[:200])
    data = joined(roots, pipeline=[dict(type="LoadRGB")], on_error="skip")
    assert data[5]["sample_idx"] == 6  # the next readable one, with its own label and index
    assert data[5]["gt_label"].tolist() == data.labels[6].tolist()
    assert data.num_skipped == 1


def test_labels_outside_the_tree_go_by_their_values(tmp_path):
    for number, lines in enumerate((["1.jpg,a,p", "2.jpg,b,q"], ["3.jpg,c,q", "4.jpg,a,o"])):
        Path(tmp_path, f"{number}.csv").write_text("\n".join(["image,kind,colour", *lines]) + "\n")
    options = dict(data_root=str(tmp_path), check_files=False, levels=["kind"], extra_labels=["colour"])
    data = ConcatDataset([ListDataset(ann_file=f"{number}.csv", **options) for number in range(2)])
    values = data.metainfo["extra_label_values"]["colour"]
    assert [values[i] if i != PAD else "" for i in data.extra_labels[:, 0].tolist()] == ["p", "q", "q", "o"]


def test_labels_of_one_path_beside_labels_of_several():
    tree = Taxonomy([("a",), ("b",)], ["kind"])
    more = Taxonomy([("b", "x"), ("c",)], ["kind", "breed"])
    several = torch.tensor([[[0, 0], [1, PAD]], [[PAD, PAD], [PAD, PAD]]])
    joint, labels = join_labels([(tree, torch.tensor([[1], [PAD]])), (more, several)])
    assert joint.level_names == ("kind", "breed")
    decoded = [[joint.decode(path) for path in item if path[0] != PAD] for item in labels]
    assert decoded == [[("b",)], [], [("b", "x"), ("c",)], []]


@pytest.mark.parametrize("sampler", [HierarchicalBatchSampler, LevelTripletSampler, LeafTripletSampler])
def test_samplers_take_joined_sets_and_mmengines_own_of_one_tree(roots, sampler):
    init_default_scope("hierpretrain")
    for ours, plain in (
        (joined([roots[0]] * 2), mmengine.dataset.ConcatDataset(folders([roots[0]] * 2))),
        (joined([roots[0]] * 2), torch.utils.data.ConcatDataset([FolderDataset(data_root=roots[0])] * 2)),
        (RepeatDataset(folders(roots)[0], 2), mmengine.dataset.RepeatDataset(folders(roots)[0], 2)),
    ):
        expected = list(sampler(ours.labels, 2, seed=0))
        assert list(sampler(DefaultSampler(ours), 2, seed=0)) == expected
        assert list(sampler(DefaultSampler(plain), 2, seed=0)) == expected
        if sampler is HierarchicalBatchSampler:
            assert sorted(i for batch in expected for i in batch) == list(range(8))


def test_mmengines_own_of_different_trees_is_an_error(roots):
    init_default_scope("hierpretrain")
    plain = mmengine.dataset.ConcatDataset(folders(roots), ignore_keys=["taxonomy"])
    parts = [Subset(FolderDataset(data_root=root), [0]) for root in roots]
    with pytest.raises(ValueError, match="joins data sets of different trees, where one id stands for different nodes"):
        check_one_tree(torch.utils.data.ConcatDataset(parts))
    for use in (lambda: HierarchicalBatchSampler(DefaultSampler(plain), 2), lambda: check_one_tree(plain)):
        with pytest.raises(ValueError, match=r"different trees, where one id stands for different nodes; write type="):
            use()
    with pytest.raises(ValueError, match=r"EmbeddingTestLoop tells images apart by sample_idx, .* ConcatDataset"):
        check_counts_through(plain, "EmbeddingTestLoop")
    with pytest.raises(ValueError, match="EmbeddingTestLoop tells images apart"):
        check_counts_through(Subset(plain, [0]), "EmbeddingTestLoop")
    check_counts_through(ClassBalancedDataset(joined(roots), 0.5), "EmbeddingTestLoop")
    check_counts_through(joined(roots), "EmbeddingTestLoop")
    check_one_tree(joined(roots))


def test_embedding_takes_a_joined_set(roots):
    found = gather_images(joined(roots))
    assert len(found.paths) == 7
    assert [found.taxonomy.decode(row) for row in found.labels] == [tuple(n.split("/")[:-1]) for n in FIRST + SECOND]


def test_wrong_parts(roots):
    with pytest.raises(ValueError, match="ConcatDataset needs at least one data set"):
        ConcatDataset([])
    with pytest.raises(ValueError, match="times must be at least 1; it is 0"):
        RepeatDataset(folders(roots)[0], 0)
    with pytest.raises(ValueError, match=r"list is none. For others write type='mmengine.ConcatDataset'"):
        ConcatDataset([[1, 2]])
    balanced = ClassBalancedDataset(folders(roots)[0], 0.5)
    with pytest.raises(ValueError, match="put the ConcatDataset inside the ClassBalancedDataset"):
        ConcatDataset([balanced])
    with pytest.raises(ValueError, match=r"must have the same levels .*\(level_names="):
        ConcatDataset([folders(roots)[0], dict(folders(roots)[1], level_names=("p", "q", "r"))])
    with pytest.raises(IndexError, match="there is no item 7: the data set has 7"):
        joined(roots)[7]
    for one in (folders(roots)[0], FolderDataset(data_root=roots[0])):
        with pytest.raises(ValueError, match=r"ConcatDataset takes a list of data sets or configs; this is a .* list"):
            ConcatDataset(one)
    with pytest.raises(ValueError, match=r"times must be a whole number; it is 1.5"):
        RepeatDataset(folders(roots)[0], 1.5)


def test_mmengines_own_are_taken_apart_and_joined_under_one_tree(roots):
    init_default_scope("hierpretrain")
    plain = dict(type="mmengine.RepeatDataset", dataset=folders(roots)[0], times=2)
    more = dict(type="mmengine.ConcatDataset", datasets=[folders(roots)[1]] * 2)
    data, expected = ConcatDataset([plain, more]), ConcatDataset([folders(roots)[i] for i in (0, 0, 1, 1)])
    assert torch.equal(data.labels, expected.labels)
    assert data.image_paths == expected.image_paths


def test_mmengines_balanced_set_repeats_images_of_rare_classes(roots):
    init_default_scope("hierpretrain")
    data = FolderDataset(data_root=roots[0])
    tree = data.taxonomy
    assert [data.get_cat_ids(i) for i in range(4)] == [[tree.num_nodes(1) + data.labels[i, 1].item()] for i in range(4)]
    several = joined(roots)
    assert several.get_cat_ids(4) == [several.labels[4, 0].item()]  # the class of b/5.jpg is at the first level
    balanced = DATASETS.build(dict(type="mmengine.ClassBalancedDataset", dataset=folders(roots)[0], oversample_thr=0.5))
    assert balanced.repeat_indices == [0, 1, 2, 2, 3, 3]  # a/x has half of the images, the others a quarter
    assert torch.equal(labels_of(balanced), data.labels[[0, 1, 2, 2, 3, 3]])
    batches = list(HierarchicalBatchSampler(DefaultSampler(balanced), 2, seed=0))
    assert sorted(i for batch in batches for i in batch) == list(range(6))


@pytest.mark.parametrize("inner", ["FolderDataset", "ConcatDataset"])
def test_our_balanced_set_draws_anew_for_each_repeat_and_each_epoch(roots, inner):
    part = folders(roots[:1], pipeline=[random_item])[0]
    part = part if inner == "FolderDataset" else dict(type="ConcatDataset", datasets=[part])
    data = DATASETS.build(dict(type="ClassBalancedDataset", dataset=part, oversample_thr=0.5))
    assert isinstance(data, ClassBalancedDataset)
    items = [data[i] for i in range(6)]
    assert [index for index, _ in items] == data.repeat_indices == [0, 1, 2, 2, 3, 3]
    assert len({drawn for _, drawn in items}) == 6
    assert [data[i] for i in range(-6, 0)] == [data[i] for i in range(6)] == items
    data.set_epoch(1)
    assert not {drawn for _, drawn in items} & {data[i][1] for i in range(6)}
    data.set_epoch(0)
    data.seed = 5
    assert data.seed == data.dataset.seed == 5
    assert not {drawn for _, drawn in items} & {data[i][1] for i in range(6)}
    with pytest.raises(ValueError, match=r"list is none. For others write type='mmengine.ClassBalancedDataset'"):
        ClassBalancedDataset([1, 2], 0.5)


def test_repeats_are_one_image_and_count_through(roots):
    repeated = RepeatDataset(joined(roots), 2)
    assert repeated_images(repeated).tolist() == [*range(7)] * 2
    assert [repeated.get_data_info(i)["sample_idx"] for i in range(14)] == [*range(14)]
    mixed = ConcatDataset([FolderDataset(data_root=roots[0]), RepeatDataset(folders(roots)[1], 2)])
    expected = [0, 1, 2, 3, 4, 5, 6, 4, 5, 6]
    for data in (mixed, Subset(mixed, [9, 4]), ClassBalancedDataset(mixed, 0.5)):
        assert repeated_images(data).tolist() == expected
    for data in (FolderDataset(data_root=roots[0]), joined(roots), ClassBalancedDataset(folders(roots)[0], 0.5), [1]):
        assert repeated_images(data) is None


def test_sets_with_epochs_are_found_in_wrappers_of_others(roots):
    first, second = (FolderDataset(data_root=root) for root in roots)
    init_default_scope("hierpretrain")
    repeated = mmengine.dataset.RepeatDataset(folders(roots)[0], 2)
    for data, expected in (
        (first, [first]),
        (joined_set := ConcatDataset([first, second]), [joined_set]),
        (Subset(first, [0]), [first]),
        (torch.utils.data.ConcatDataset([Subset(first, [1]), Subset(joined_set, [0])]), [first, joined_set]),
        (repeated, [repeated.dataset]),
        ([1, 2], []),
    ):
        assert seeded_sets(data) == expected


def test_torchs_subset_has_the_labels_of_its_images(roots):
    data = joined(roots)
    part = torch.utils.data.Subset(data, [5, 0, 4])
    assert torch.equal(labels_of(part), data.labels[[5, 0, 4]])
    for sampler in (part, DefaultSampler(part)):  # the part has a `dataset`, as a sampler has
        assert sorted(i for batch in HierarchicalBatchSampler(sampler, 2, seed=0) for i in batch) == [0, 1, 2]


def test_no_set_gives_a_part_of_itself_by_indices(roots):
    for data in (FolderDataset(data_root=roots[0]), joined(roots)):
        with pytest.raises(ValueError, match=rf"{type(data).__name__} gives no part .* split_file"):
            data.get_subset([0, 1])
