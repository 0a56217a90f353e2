import io
import pickle
import struct
import zlib

import numpy as np
import pytest
import torch
from PIL import Image

from hierpretrain.datasets import LoadRGB, UnreadableImage
from hierpretrain.datasets.loading import PackInputs, open_rgb
from hierpretrain.registry import TRANSFORMS


def load(path):
    results = LoadRGB()({"img_path": str(path)})
    image = results["img"]
    assert image.mode == "RGB"
    assert results["ori_shape"] == results["img_shape"] == (image.height, image.width)
    return np.asarray(image)


def test_registered():
    assert isinstance(TRANSFORMS.build({"type": "LoadRGB"}), LoadRGB)
    assert repr(LoadRGB()) == "LoadRGB()"
    assert repr(LoadRGB(min_side=300)) == "LoadRGB(min_side=300)"


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "JPEG", "WEBP", "AVIF", "JPEG2000"])
def test_kind_is_told_from_the_content(tmp_path, kind):
    Image.new("RGB", (6, 4), (200, 30, 90)).save(tmp_path / "image.txt", format=kind)
    pixels = load(tmp_path / "image.txt")
    assert pixels.shape == (4, 6, 3)
    np.testing.assert_allclose(pixels[2, 3], (200, 30, 90), atol=6 if kind in ("JPEG", "WEBP", "AVIF") else 0)


def test_other_kinds_are_refused(tmp_path):
    Image.new("RGB", (6, 4)).save(tmp_path / "image.jpg", format="PPM")
    with pytest.raises(UnreadableImage, match=r"cannot read the image .*image\.jpg: cannot identify"):
        load(tmp_path / "image.jpg")


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_laid_on_white(tmp_path, kind):
    pixels = np.zeros((2, 2, 4), np.uint8)
    pixels[0, 0] = (255, 0, 0, 255)
    pixels[1, 0] = (0, 0, 0, 51)
    Image.fromarray(pixels).save(tmp_path / "a", format=kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert load(tmp_path / "a").tolist() == [[[255, 0, 0], [255] * 3], [[204] * 3, [255] * 3]]


def test_grey_with_alpha(tmp_path):
    Image.fromarray(np.array([[[10, 255], [10, 0]]], np.uint8), "LA").save(tmp_path / "a.png")
    assert load(tmp_path / "a.png").tolist() == [[[10] * 3, [255] * 3]]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_palette(tmp_path, kind):
    image = Image.fromarray(np.array([[0, 1, 2]], np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "opaque", format=kind)
    assert load(tmp_path / "opaque").tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]
    image.save(tmp_path / "clear", format=kind, transparency=1)
    assert load(tmp_path / "clear").tolist() == [[[255, 0, 0], [255, 255, 255], [0, 0, 255]]]


def test_transparent_colour_of_an_rgb_image(tmp_path):
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    image.save(tmp_path / "a.png", transparency=(4, 5, 6))
    assert load(tmp_path / "a.png").tolist() == [[[1, 2, 3], [255, 255, 255]]]


@pytest.mark.parametrize(("mode", "value", "expected"), [("L", 70, 70), ("1", 255, 255)])
def test_grey(tmp_path, mode, value, expected):
    Image.new(mode, (3, 2), value).save(tmp_path / "a.png")
    assert (load(tmp_path / "a.png") == expected).all()


@pytest.mark.parametrize("name", ["a.png", "a.tiff"])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, name):
    Image.fromarray(np.array([[0, 128, 257, 32768, 65535]], np.uint16)).save(tmp_path / name)
    assert load(tmp_path / name)[..., 0].tolist() == [[0, 0, 1, 128, 255]]


def test_cmyk(tmp_path):
    Image.new("CMYK", (8, 8), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    np.testing.assert_allclose(load(tmp_path / "a.jpg")[4, 4], (255, 0, 0), atol=3)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_exif_orientation(tmp_path, orientation, kind):
    upright = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a", format=kind, exif=exif, **options)
    np.testing.assert_array_equal(load(tmp_path / "a"), upright)


@pytest.mark.parametrize(
    ("min_side", "size"), [(None, (400, 240)), (121, (400, 240)), (120, (200, 120)), (60, (100, 60)), (1, (50, 30))]
)
def test_a_large_jpeg_may_be_decoded_at_a_part_of_its_size(tmp_path, min_side, size):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 10, 3), dtype=np.uint8))
    image = image.resize((400, 240), Image.BICUBIC)
    image.save(tmp_path / "a.jpg", quality=95)
    results = LoadRGB(min_side)({"img_path": str(tmp_path / "a.jpg")})
    assert results["img_shape"] == size[::-1]
    expected = np.asarray(image.resize(size, Image.BOX)).astype(int)
    assert np.abs(np.asarray(results["img"]) - expected).mean() < 3
    image.save(tmp_path / "a.png")
    assert LoadRGB(min_side)({"img_path": str(tmp_path / "a.png")})["img"].tobytes() == image.tobytes()


def test_a_smaller_jpeg_is_upright_and_rgb_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("L", (400, 240), 90).save(tmp_path / "a.jpg", exif=exif)
    image = LoadRGB(120)({"img_path": str(tmp_path / "a.jpg")})["img"]
    assert (image.mode, image.size, image.getpixel((7, 9))) == ("RGB", (120, 200), (90, 90, 90))


def test_min_side_is_checked():
    with pytest.raises(ValueError, match="min_side must be a number of pixels from 1, or None; it is 0"):
        LoadRGB(min_side=0)


def test_first_frame_of_an_animation(tmp_path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert load(tmp_path / "a.gif")[0, 0].tolist() == [255, 0, 0]


def bomb():
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def truncated():
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()[:1500]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "it is empty"),
        (b"no image", "cannot identify"),
        (b"\xff\xd8\xff\xe0", "cannot identify"),
        (truncated(), "truncated"),
        (bomb(), "decompression bomb"),
    ],
)
def test_broken_file(tmp_path, data, reason):
    (tmp_path / "broken.jpg").write_bytes(data)
    with pytest.raises(UnreadableImage, match=rf"cannot read the image .*broken\.jpg.*{reason}") as caught:
        load(tmp_path / "broken.jpg")
    assert isinstance(caught.value, ValueError)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # it crosses from a worker


def test_labels_of_one_and_of_several_paths_are_packed():
    for label in ([1, 2, -1], [[1, 2, -1], [0, -1, -1]]):
        packed = PackInputs()({"img": np.zeros((4, 6, 3), np.uint8), "gt_label": np.array(label), "img_path": "a.png"})
        assert packed["data_samples"].gt_label.tolist() == label
        assert packed["data_samples"].gt_label.dtype == torch.int64
        assert packed["data_samples"].img_path == "a.png"
        assert packed["inputs"].shape == (3, 4, 6)
    assert "gt_label" not in PackInputs()({"img": np.zeros((4, 6, 3), np.uint8)})["data_samples"]


@pytest.mark.parametrize("key", ["extra_labels", "flat_label"])
def test_extra_labels_are_packed_by_their_older_name_too(key):
    item = {"img": np.zeros((4, 6, 3), np.uint8), "extra_labels": torch.tensor([3, -1])}
    packed = PackInputs(algorithm_keys=(key,), meta_keys=())(item)["data_samples"]
    assert list(packed.keys()) == ["extra_labels"]
    assert packed.extra_labels.tolist() == [3, -1]


def test_our_packing_is_the_one_that_configs_name():
    assert TRANSFORMS.get("PackInputs") is PackInputs


def test_missing_file(tmp_path):
    with pytest.raises(UnreadableImage, match=r"cannot read the image .*none\.jpg.*No such file"):
        load(tmp_path / "none.jpg")


@pytest.mark.parametrize("size", [(2001, 1), (1, 2001), (4002, 2)])
def test_a_thread_of_an_image_is_refused_before_a_resize_makes_it_a_carpet(tmp_path, size):
    Image.new("RGB", size).save(tmp_path / "a.png")
    with pytest.raises(
        UnreadableImage, match=r"a\.png: one of its sides is more than 2,000 times as long as the other \("
    ):
        open_rgb(str(tmp_path / "a.png"))
    Image.new("RGB", (2000, 1)).save(tmp_path / "b.png")
    assert open_rgb(str(tmp_path / "b.png")).size == (2000, 1)
