"""What people give to be embedded: files, folders, patterns, lists, arrays, pictures, data sets, and mixtures."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from hierpretrain.apis import image_batches
from hierpretrain.apis.image_digests import image_digest
from hierpretrain.apis.images import config_dataset, gather_images, read_picture
from hierpretrain.datasets import ConcatDataset, FolderDataset, ListDataset, UnreadableImage
from tests.datasets.trees import write_image


@pytest.fixture
def photos(tmp_path):
    """A ragged folder tree of five images and a text."""
    root = tmp_path / "photos"
    for name in ("animal/cat/tom.png", "animal/cat/kit.png", "animal/any.png", "tool/saw.png", "loose.png"):
        write_image(root / name, "navy")
    (root / "notes.txt").write_text("no image")
    return root


def names(found):
    """Returns the path of names of each image."""
    return [found.taxonomy.decode(row) for row in found.labels]


def test_a_folder_gives_the_labels_of_its_sub_folders(photos):
    found = gather_images(photos)
    assert found.paths == [
        str(photos / name)
        for name in ("loose.png", "animal/any.png", "animal/cat/kit.png", "animal/cat/tom.png", "tool/saw.png")
    ]
    assert names(found) == [(), ("animal",), ("animal", "cat"), ("animal", "cat"), ("tool",)]
    assert found.splits == ["all"] * 5
    same = FolderDataset(data_root=str(photos))
    assert found.paths == same.image_paths
    assert torch.equal(found.labels, same.labels)


def test_paths_are_found_in_any_unicode_form(tmp_path):
    one, two = "caf\u00e9", "cafe\u0301"
    write_image(tmp_path / f"{two}/{two}.png", "red")
    (tmp_path / f"{two}/{two}.csv").write_text(f"image,kind\n{one}.png,bar\n", "utf-8")
    for given in (one, f"{one}/{one}.png", f"{one}/{one}.csv"):
        assert gather_images(tmp_path / given).paths == [f"{tmp_path}/{two}/{two}.png"]
    data = ListDataset(data_root=f"{tmp_path}/{one}", ann_file=f"{one}.csv")
    assert data.image_paths == [f"{tmp_path}/{two}/{two}.png"]


def test_a_folder_without_sub_folders_has_the_tree_of_no_levels(photos):
    found = gather_images(photos / "animal" / "cat")
    assert found.labels.shape == (2, 0)
    assert found.taxonomy.num_levels == 0


def test_a_file_that_is_called_an_image_counts_as_one(photos):
    (photos / "animal" / "broken.JPG").write_bytes(b"nothing like it")
    (photos / "tool" / "gone.png").symlink_to(photos / "nowhere.png")
    (photos / "tool" / "notes").symlink_to(photos / "nowhere.txt")
    found = gather_images(photos, on_error="skip")
    assert str(photos / "animal/broken.JPG") in found.paths
    assert list(found.skipped) == [str(photos / "tool/gone.png"), str(photos / "tool/notes")]
    with pytest.raises(UnreadableImage, match=r"gone\.png"):
        read_picture(str(photos / "tool/gone.png"))


@pytest.mark.parametrize("as_text", [True, False])
def test_a_single_file(photos, as_text):
    path = photos / "tool/saw.png"
    found = gather_images(str(path) if as_text else path)
    assert found.paths == [str(path)]
    assert found.labels.shape == (1, 0)


def test_a_pattern_gives_files_in_the_order_of_their_names(photos):
    found = gather_images(f"{photos}/**/*.png")
    assert found.paths == sorted(str(path) for path in photos.rglob("*.png"))
    assert len(gather_images(f"{photos}/animal/*.png").paths) == 1


@pytest.mark.parametrize("ending", ["csv", "json", "jsonl"])
def test_a_list_is_relative_to_its_own_folder(photos, ending):
    text = {
        "csv": "image,kind,split\nanimal/any.png,animal,train\ntool/saw.png,tool,test\n",
        "json": '[{"image": "animal/any.png", "kind": "animal", "split": "train"},'
        ' {"image": "tool/saw.png", "kind": "tool", "split": "test"}]',
        "jsonl": '{"image": "animal/any.png", "kind": "animal", "split": "train"}\n'
        '{"image": "tool/saw.png", "kind": "tool", "split": "test"}\n',
    }
    (photos / f"list.{ending}").write_text(text[ending])
    found = gather_images(photos / f"list.{ending}")
    assert [path[len(str(photos)) + 1 :] for path in found.paths] == ["animal/any.png", "tool/saw.png"]
    assert names(found) == [("animal",), ("tool",)]
    assert found.taxonomy.level_names == ("kind",)
    assert found.splits == ["train", "test"]


def test_a_list_of_images_alone_has_no_label(photos):
    (photos / "all.csv").write_text("image\ntool/saw.png\nloose.png\n")
    (photos / "empty.csv").write_text("image,kind\ntool/saw.png,\nloose.png,\n")
    for name in ("all.csv", "empty.csv"):
        found = gather_images(photos / name)
        assert found.labels.shape == (2, 0)
        assert found.paths == [str(photos / "tool/saw.png"), str(photos / "loose.png")]
        assert (list(found.keys), dict(found.metadata)) == ([], {})


def test_a_list_is_read_as_its_options_say(photos, tmp_path):
    (tmp_path / "shop.csv").write_text("photo;sku;kind;price\ntool/saw.png;S1;tool;3,50\nloose.png;S2;;1,00\n")
    options = dict(image_column="photo", levels=["kind"], key_column="sku", data_root=str(photos))
    found = gather_images(tmp_path / "shop.csv", **options)
    assert found.paths == [str(photos / "tool/saw.png"), str(photos / "loose.png")]
    assert names(found) == [("tool",), ()]
    assert list(found.keys) == ["S1", "S2"]
    assert found.metadata == {"price": ["3,50", "1,00"]}
    array = np.zeros((4, 4, 3), np.uint8)
    both = gather_images([array, tmp_path / "shop.csv"], **options)
    assert list(both.keys) == ["", "S1", "S2"]
    assert both.metadata == {"price": ["", "3,50", "1,00"]}
    with pytest.raises(ValueError, match="levels say how a list is read, and there is no list among the images"):
        gather_images([array, photos], levels=["kind"])


def test_arrays_and_pictures_are_named_by_their_number():
    array = np.full((4, 6, 3), 7, np.uint8)
    found = gather_images([array, Image.new("L", (5, 5)), array[..., 0]])
    assert found.paths == ["<image 0>", "<image 1>", "<image 2>"]
    assert gather_images(np.stack([array, array])).paths == ["<image 0>", "<image 1>"]
    assert gather_images(array).paths == ["<image 0>"]


def test_a_file_in_the_working_directory_has_one_name_however_it_is_given(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_image("a.png", "red")
    write_image("b./c.png", "red")
    (tmp_path / "b./gone.png").symlink_to("nowhere.png")
    (tmp_path / "list.csv").write_text("image\na.png\nb./c.png\nb./gone.png\n")
    both = ["./a.png", ".//./b./c.png"]
    untidy = ["b.//c.png", "b././c.png", "b.//././/c.png"]
    for given in (
        ".",
        "./",
        "list.csv",
        "./list.csv",
        both,
        *untidy,
        "./**/c.png",
        FolderDataset(data_root=".", on_error="skip"),
    ):
        found = gather_images(given, on_error="skip")
        assert found.paths == ["a.png", "b./c.png"][-len(found.paths) :]
        assert list(found.skipped) in ([], ["b./gone.png"])
        for source in found.sources:
            read_picture(source)
    assert gather_images(tmp_path / "a.png").paths == [str(tmp_path / "a.png")]
    (tmp_path / "link").symlink_to(tmp_path / "b.")
    assert gather_images("link/../a.png").paths == ["link/../a.png"]  # which need not be a.png: b. may lie elsewhere


def test_keys_of_missing_files_are_kept(photos):
    (photos / "list.csv").write_text("image,sku\ntool/gone too.png,K1\ntool/saw.png,K2\ntool/lost.png,\n")
    options = dict(levels=[], key_column="sku", on_error="skip")
    listed = gather_images(photos / "list.csv", **options)
    assert (listed.keys, listed.missing_keys) == (["K2"], ["K1"])
    data = [
        ListDataset(data_root=str(photos), ann_file=str(photos / "list.csv"), need_labels=False, **options)
        for _ in range(2)
    ]
    assert gather_images([*data, photos / "list.csv"], **options).missing_keys == ["K1"] * 3
    assert gather_images(ConcatDataset(data)).missing_keys == ["K1"] * 2


def test_an_iterator_of_images(photos):
    found = gather_images(photos.rglob("tool/*.png"))
    assert found.paths == [str(photos / "tool/saw.png")]
    assert gather_images(np.zeros((2, 2), np.uint8) for _ in range(2)).paths == ["<image 0>", "<image 1>"]


def test_a_sequence_is_one_set_under_one_tree(photos, tmp_path):
    other = tmp_path / "other"
    write_image(other / "plant/oak/a.png", "green")
    write_image(other / "animal/cat/felix.png", "black")
    array = np.zeros((4, 4, 3), np.uint8)
    found = gather_images([photos, array, other])
    assert names(found)[-3:] == [(), ("animal", "cat"), ("plant", "oak")]
    assert found.paths[5] == "<image 5>"
    assert torch.equal(found.labels[2], found.labels[6])  # one node, though the two folders numbered it by themselves
    assert found.taxonomy.num_nodes(1) == 3


def test_images_of_several_places_keep_them_in_a_sequence(tmp_path):
    write_image(tmp_path / "one/fruit/tomato.png", "red")
    write_image(tmp_path / "one/vegetable/tomato.png", "red")
    write_image(tmp_path / "two/fruit/apple.png", "green")
    copies = FolderDataset(data_root=str(tmp_path / "one"), merge_copies=True)
    found = gather_images([copies, tmp_path / "two"])
    assert found.labels.tolist() == [[[0], [1]], [[0], [-1]]]


def test_levels_of_other_names_do_not_mix(photos):
    for name in ("kind", "hue"):
        (photos / f"{name}.csv").write_text(f"image,{name}\ntool/saw.png,tool\n")
    with pytest.raises(ValueError, match=r"must have the same levels .* \[\('hue',\), \('kind',\)\]"):
        gather_images([photos / "kind.csv", photos / "hue.csv"])


@pytest.mark.parametrize(
    ("levels", "expected"),
    [
        ("kind", ("kind", "level2")),
        ("kind,breed", ("kind", "breed")),
        ("kind,breed,coat", ("kind", "breed", "coat")),
    ],
)
def test_the_levels_of_a_folder_have_the_names_of_a_list_beside_it(photos, levels, expected):
    label = ["animal", "cat", "grey"][: levels.count(",") + 1]
    (photos / "list.csv").write_text(f"image,{levels}\ntool/saw.png,{','.join(label)}\n")
    for given in ([photos, photos / "list.csv"], [photos / "list.csv", photos]):
        found = gather_images(given)
        assert found.taxonomy.level_names == expected
        labels = set(zip(found.paths, names(found), strict=True))
        assert (str(photos / "animal/cat/tom.png"), ("animal", "cat")) in labels
        assert {(str(photos / "tool/saw.png"), one) for one in (("tool",), tuple(label))} < labels


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "the list that was given is empty"),
        ("nowhere.png", "there is no image, folder, list or pattern 'nowhere.png'"),
        ("nowhere/*.png", r"no file matches the pattern 'nowhere/\*.png'"),
        (3, "an image must be a path, an array .* it is <class 'int'>"),
        (np.zeros((4, 4, 3)), r"of uint8 from 0 to 255; this one is \(4, 4, 3\) of float64"),
        (np.zeros((3, 4, 4), np.uint8), r"this one is \(3, 4, 4\)"),
        (torch.zeros(3, 4, 4), r"it is <class 'torch.Tensor'>; of a \(3, H, W\) tensor give tensor.permute"),
        ([Image.new("L", (4, 4)), Image.new("RGB", (0, 5))], "a picture must have pixels; <image 1> is 0 x 5"),
        (np.zeros((0, 4, 3), np.uint8), r"this one is \(0, 4, 3\)"),
    ],
)
def test_what_is_no_image_is_an_error(given, message):
    with pytest.raises(ValueError, match=message):
        gather_images(given)


def test_a_subset_of_a_data_set_is_the_images_of_its_indices(photos):
    data = FolderDataset(data_root=str(photos))
    whole, part = gather_images(data), gather_images(torch.utils.data.Subset(data, [2, 0]))
    assert part.paths == [whole.paths[2], whole.paths[0]]
    assert torch.equal(part.labels, whole.labels[[2, 0]])
    assert (part.taxonomy, part.splits) == (whole.taxonomy, ["all"] * 2)
    nested = torch.utils.data.Subset(torch.utils.data.Subset(data, [2, 0]), [1])
    assert gather_images([nested, data]).paths == [whole.paths[0], *whole.paths]


def test_an_empty_folder_is_an_error(tmp_path):
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep/notes.txt").write_text("x")
    with pytest.raises(ValueError, match=r"holds no image, neither do its sub-folders"):
        gather_images(tmp_path)


def test_pictures_become_rgb_whatever_they_are(tmp_path):
    grey = np.full((3, 5), 9, np.uint8)
    assert np.asarray(read_picture(grey)).tolist() == np.full((3, 5, 3), 9).tolist()
    clear = Image.new("RGBA", (2, 2), (0, 0, 0, 0))
    assert np.asarray(read_picture(clear)).min() == 255  # laid on white, as files are
    turned = Image.new("RGB", (4, 2))
    turned.getexif()[0x0112] = 6  # a quarter turn
    assert read_picture(turned).size == (2, 4)
    with pytest.raises(UnreadableImage, match="cannot read the image"):
        read_picture(tmp_path / "none.png")
    with pytest.raises(
        UnreadableImage, match="cannot read the image <image 3>: of mode F, its grey values go from -1 to -1"
    ):
        read_picture(Image.new("F", (2, 2), -1), name="<image 3>")


def test_the_data_set_of_a_config(photos):
    loader = dict(dataset=dict(type="FolderDataset", data_root="elsewhere", pipeline=[dict(type="LoadRGB")]))
    dataset = config_dataset(Config(dict(test_dataloader=loader)), str(photos), ["all"])
    assert len(dataset) == 5
    with pytest.raises(ValueError, match="the config has no test_dataloader"):
        config_dataset(Config(dict(model={})))
    with pytest.raises(ValueError, match="did you mean 'FolderDataset'"):
        config_dataset(Config(dict(val_dataloader=dict(dataset=dict(type="FolderDatase")))))


def test_the_digest_of_a_file_that_changed_while_it_was_read_is_not_known(tmp_path, monkeypatch):
    """Not even if it is the same again afterwards: what was embedded is another picture."""
    path = tmp_path / "a.png"
    first, other = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))
    first.save(path)
    pictures = image_batches._Pictures(SimpleNamespace(sources=[path], paths=["a.png"]), {}, np.asarray)
    assert pictures[0][2] == image_digest(path)
    read = image_batches.read_picture

    def read_another(source, **options):
        other.save(source)
        try:
            return read(source, **options)
        finally:
            first.save(source)

    monkeypatch.setattr(image_batches, "read_picture", read_another)
    _, picture, digest = pictures[0]
    assert (picture[0, 0].tolist(), digest) == ([0, 0, 255], "")


def test_the_digest_of_a_picture_is_of_all_that_it_shows():
    def with_exif(orientation):
        picture = Image.new("RGB", (4, 2), "red")
        picture.getexif()[0x0112] = orientation
        return picture

    def with_palette(*colours):
        picture = Image.new("P", (4, 2))
        picture.putpalette(colours)
        return picture

    def with_transparent(colour):
        picture = with_palette(255, 0, 0)
        picture.info["transparency"] = colour
        return picture

    different = [
        Image.new("RGB", (4, 2), "red"),
        with_exif(6),
        with_exif(3),
        with_palette(255, 0, 0),
        with_palette(0, 0, 255),
        with_transparent(0),
        with_transparent(b"\x00\x80"),
    ]
    digests = [image_digest(picture) for picture in different]
    assert len(set(digests)) == len(different)
    assert [image_digest(picture) for picture in different] == digests
    assert image_digest(with_exif(1)) == digests[0] == "897a00707ead8cafb2eb9acb9f3f5267"  # as indexes have it
