import ast
import logging
import re
import struct
import zlib

import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

from hierpretrain.datasets import LoadRGB, UnreadableImage
from hierpretrain.datasets.grey import as_eight_bits
from hierpretrain.datasets.loading import as_rgb, open_rgb
from tests.datasets.test_loading_files import chunk
from tests.datasets.tiff_files import tiff

RAMP = np.tile(np.arange(256), (4, 1))


def grey(path, **options):
    pixels = np.asarray(LoadRGB(**options)({"img_path": str(path)})["img"])
    assert (pixels == pixels[..., :1]).all()
    return pixels[..., 0]


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("a.png", RAMP.astype(np.uint8)),
        ("a.png", (RAMP * 257).astype(np.uint16)),
        ("a.tif", (RAMP * 257).astype(np.uint16)),
        ("a.tif", RAMP.astype(np.int32)),
        ("a.tif", (RAMP * 257).astype(np.int32)),
        ("a.tif", (RAMP / 255).astype(np.float32)),
    ],
)
def test_every_depth_that_is_used_to_the_full_gives_the_ramp(tmp_path, name, values):
    Image.fromarray(values).save(tmp_path / name)
    assert (grey(tmp_path / name) == RAMP).all()


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_the_fewest_bits_that_hold_the_largest_value(tmp_path, bits):
    top = 2**bits - 1
    Image.fromarray(np.array([[0, top // 2, top]], np.uint16)).save(tmp_path / "a.png")
    assert grey(tmp_path / "a.png").tolist() == [[0, 127, 255]]


def test_a_range_of_ones_own(tmp_path):
    Image.fromarray(np.array([[0, 100, 150, 200, 5000]], np.uint16)).save(tmp_path / "a.png")
    assert grey(tmp_path / "a.png", grey_range=[100, 200]).tolist() == [[0, 0, 128, 255, 255]]
    Image.fromarray(np.array([[-3.0, 0.0, 5.0]], np.float32)).save(tmp_path / "f.tif")
    assert grey(tmp_path / "f.tif", grey_range=(-5, 5)).tolist() == [[51, 128, 255]]
    Image.fromarray(np.array([[70000, 140000]], np.int32)).save(tmp_path / "i.tif")
    assert grey(tmp_path / "i.tif", grey_range=(0, 140000)).tolist() == [[128, 255]]
    Image.fromarray(np.array([[7, 200]], np.uint8)).save(tmp_path / "8.png")
    assert grey(tmp_path / "8.png", grey_range=(100, 200)).tolist() == [[7, 200]]  # of 8 bits it says nothing
    assert repr(LoadRGB(grey_range=(0, 4095), max_pixels=9)) == "LoadRGB(grey_range=(0.0, 4095.0), max_pixels=9)"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            np.array([[0, 70000]], np.int32),
            r"mode I, its grey values go from 0 to 70000, outside 0 to 65535; say .*\(0, 7",
        ),
        (np.array([[-1, 5]], np.int32), "mode I, its grey values go from -1 to 5, outside 0 to 65535"),
        (
            np.array([[0, 255]], np.float32),
            r"mode F, its grey values go from 0 to 255, outside 0 to 1; .*LoadRGB\(grey_r",
        ),
        (np.array([[0, np.nan]], np.float32), "mode F, it has values that are NaN or infinite"),
    ],
)
def test_values_without_a_range_are_refused(tmp_path, values, message):
    Image.fromarray(values).save(tmp_path / "a.tif")
    with pytest.raises(UnreadableImage, match=message):
        grey(tmp_path / "a.tif")


@pytest.mark.parametrize("wrong", [(5,), (2, 1), (0, np.inf), (np.nan, 1), (1, 1)])
def test_a_range_must_rise(wrong):
    with pytest.raises(ValueError, match="grey_range must be the value that becomes black and a larger one"):
        LoadRGB(grey_range=wrong)
    with pytest.raises(ValueError, match="grey_range must be the value that becomes black and a larger one"):
        as_eight_bits(np.array([[70000, 70000]]), grey_range=wrong)


@pytest.mark.parametrize(
    ("value", "suggested", "becomes"), [(70000, "(0, 70000)", 255), (-3, "(-3, 0)", 0), (1e6 + 1, "(0, 1e+06)", 255)]
)
def test_the_suggested_range_of_an_image_of_one_value_is_one(value, suggested, becomes):
    with pytest.raises(ValueError, match=re.escape(f"LoadRGB(grey_range={suggested})")):
        as_eight_bits(np.full((1, 2), value))
    assert as_eight_bits(np.full((1, 2), value), ast.literal_eval(suggested)).tolist() == [[becomes] * 2]


def test_zero_may_be_white(tmp_path):
    Image.fromarray((RAMP * 257).astype(np.uint16)).save(tmp_path / "a.tif", tiffinfo={262: 0})
    assert (grey(tmp_path / "a.tif") == 255 - RAMP).all()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("kind", ["int8", "uint16", "int16", "int32", "uint32", "float32"])
def test_values_are_those_of_the_file(tmp_path, order, compressed, kind):
    if (order, kind) == (">", "uint32"):
        pytest.skip("Pillow does not read it")
    low, high = (0, 1) if kind == "float32" else (np.iinfo(kind).min, np.iinfo(kind).max)
    values = np.linspace(low, high, 9).astype(kind)[None]
    values[0, -1] = high  # which the floating-point numbers miss by one
    expected = np.floor((values.astype(float) - low) / (high - low) * 255 + 0.5)
    (tmp_path / "a.tif").write_bytes(tiff(values, order, compressed=compressed))
    assert (grey(tmp_path / "a.tif", grey_range=(low, high)) == expected).all()
    (tmp_path / "a.tif").write_bytes(tiff(values, order, compressed=compressed, entries=[(274, 3, 1, 6)]))
    assert (grey(tmp_path / "a.tif", grey_range=(low, high)) == expected.T).all()


def test_values_that_are_wrongly_taken_for_others_have_no_range(tmp_path):
    (tmp_path / "a.tif").write_bytes(tiff(np.array([[0, 1 << 31]], np.uint32)))
    with pytest.raises(UnreadableImage, match=r"mode I, its grey values go from 0 to 2\.14748e\+09, outside"):
        grey(tmp_path / "a.tif")
    (tmp_path / "a.tif").write_bytes(tiff(np.array([[-128, 127]], np.int8)))
    with pytest.raises(UnreadableImage, match=r"mode L, its grey values go from -128 to 127, outside 0 to 65535"):
        grey(tmp_path / "a.tif")


@pytest.mark.parametrize(("kind", "order"), [("float64", "<"), ("float16", "<"), ("uint32", ">")])
def test_values_that_pillow_does_not_read(tmp_path, kind, order):
    (tmp_path / "a.tif").write_bytes(tiff(np.ones((2, 2), kind), order))
    with pytest.raises(UnreadableImage, match=r"a\.tif: it is a TIFF that is damaged, or of values .*; save it with 8"):
        grey(tmp_path / "a.tif")


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_a_mapped_tiff_is_turned(tmp_path, orientation):
    values = np.random.default_rng(0).integers(0, 256, (4, 6), np.uint8)
    upright = {5: values.T, 6: np.rot90(values, -1), 7: np.rot90(values.T, 2), 8: np.rot90(values)}
    (tmp_path / "a.tif").write_bytes(tiff(values, entries=[(274, 3, 1, orientation)]))
    assert (grey(tmp_path / "a.tif") == upright[orientation]).all()


def png(bits, colour, samples, clear):
    """Returns a PNG of one row of grey or RGB samples of a depth, with a transparent colour."""
    packed = np.array([[int(bit) for bit in f"{sample:0{bits}b}"] for sample in samples]).ravel()
    header = struct.pack(">IIBBBBB", len(samples) // (3 if colour else 1), 1, bits, colour, 0, 0, 0)
    chunks = {b"IHDR": header, b"tRNS": struct.pack(f">{len(clear)}H", *clear)}
    chunks |= {b"IDAT": zlib.compress(b"\0" + np.packbits(packed).tobytes()), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(name, content) for name, content in chunks.items())


@pytest.mark.parametrize(
    ("bits", "samples", "clear", "expected"),
    [
        (1, [0, 1], 0, [255, 255]),
        (2, [0, 1, 2, 3], 1, [0, 255, 170, 255]),
        (4, [0, 7, 8, 15], 7, [0, 255, 136, 255]),
        (8, [0, 7, 8, 15], 7, [0, 255, 8, 15]),
        (16, [0, 7, 65535, 32768], 7, [0, 255, 255, 128]),
        (16, [0, 2048, 4095, 65535], 65535, [0, 128, 255, 255]),  # the rest has 12 bits
    ],
)
def test_a_transparent_grey_is_white(tmp_path, bits, samples, clear, expected):
    (tmp_path / "a.png").write_bytes(png(bits, 0, samples, [clear]))
    assert grey(tmp_path / "a.png").tolist() == [expected]
    with Image.open(tmp_path / "a.png") as image:
        for _ in range(2):
            assert np.asarray(as_rgb(image))[..., 0].tolist() == [expected]


@pytest.mark.parametrize(("bits", "factor"), [(8, 1), (16, 256)])
def test_a_transparent_colour_is_white(tmp_path, bits, factor):
    colours = np.array([[1, 2, 3], [4, 5, 6]])
    (tmp_path / "a.png").write_bytes(png(bits, 2, (colours * factor).ravel(), colours[1] * factor))
    for _ in range(2):
        image = LoadRGB()({"img_path": str(tmp_path / "a.png")})["img"]
        assert np.asarray(image).tolist() == [[[1, 2, 3], [255, 255, 255]]]


def test_dark_floating_point_is_told(tmp_path, caplog):
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        with caplog.at_level(logging.WARNING):
            for name, factor, told in (("bright", 1, False), ("dark", 1e-3, True)):
                Image.fromarray((RAMP / 255 * factor).astype(np.float32)).save(tmp_path / f"{name}.tif")
                open_rgb(str(tmp_path / f"{name}.tif"))
                assert ("nearly black: its values go up to 0.001, and 1 is white" in caplog.text) == told
            caplog.clear()
            given = open_rgb(str(tmp_path / "dark.tif"), grey_range=(0, 1e-3))
            assert not caplog.records
            assert np.asarray(given).max() == 255
    finally:
        logger.removeHandler(caplog.handler)


def test_an_image_of_zeros_is_black():
    for kind in (np.uint16, np.int32, np.float32):
        assert as_eight_bits(np.zeros((2, 2), kind)).tolist() == [[0, 0], [0, 0]]


def test_dark_colours_of_16_bits_are_told(tmp_path, caplog):
    cv2 = pytest.importorskip("cv2")
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        for name, factor in (("bright", 257), ("dark", 16)):
            cv2.imwrite(str(tmp_path / f"{name}.png"), np.stack([RAMP * factor] * 3, 2).astype(np.uint16))
        with caplog.at_level(logging.WARNING):
            assert (grey(tmp_path / "bright.png") == RAMP).all()
            assert not caplog.records
            assert grey(tmp_path / "dark.png").max() == 15
        assert "dark.png is nearly black: of its 16 bits" in caplog.text
    finally:
        logger.removeHandler(caplog.handler)
