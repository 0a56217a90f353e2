import logging

import numpy as np
import pytest
from mmengine.logging import MMLogger
from PIL import Image

from hierpretrain.datasets import LoadRGB, UnreadableImage
from hierpretrain.datasets.grey import as_eight_bits

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


def test_zero_may_be_white(tmp_path):
    Image.fromarray((RAMP * 257).astype(np.uint16)).save(tmp_path / "a.tif", tiffinfo={262: 0})
    assert (grey(tmp_path / "a.tif") == 255 - RAMP).all()


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
