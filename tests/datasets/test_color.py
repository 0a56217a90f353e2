import colorsys

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import ColorJitter
from torchvision.transforms.functional import adjust_hue

from hierpretrain.datasets import PILColorJitter
from hierpretrain.datasets.color import shift_hue
from hierpretrain.registry import TRANSFORMS


def picture(size=48, seed=0):
    """Smooth and saturated at once: small random colours, enlarged."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size // 8, size // 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((size, size), Image.BICUBIC)


def exactly_shifted(image, shift):
    """Every pixel by itself, in floating point."""
    shifted = []
    for red, green, blue in np.asarray(image).reshape(-1, 3) / 255:
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        shifted.append(colorsys.hsv_to_rgb((hue + int(shift * 255) / 256) % 1, saturation, value))
    return 255 * np.array(shifted).reshape(image.height, image.width, 3)


@pytest.mark.parametrize("shift", [-0.5, -0.1, 0.03, 0.1, 0.5])
def test_hue_is_closer_to_exact_arithmetic_than_torchvisions(shift):
    image = picture()
    exact = exactly_shifted(image, shift)
    ours = np.abs(np.asarray(shift_hue(image, shift)) - exact)
    theirs = np.abs(np.asarray(adjust_hue(image, shift)) - exact)
    assert ours.mean() < min(1.0, theirs.mean())
    assert ours.max() < 8


def test_grey_has_no_hue():
    image = Image.fromarray(np.arange(256, dtype=np.uint8).reshape(16, 16)).convert("RGB")
    assert shift_hue(image, 0.3).tobytes() == image.tobytes()


@pytest.mark.parametrize("shift", [-0.51, 0.6, float("nan")])
def test_the_range_of_a_shift(shift):
    with pytest.raises(ValueError, match=f"a fraction of the colour wheel from -0.5 to 0.5; it is {shift}"):
        shift_hue(picture(), shift)


@pytest.mark.parametrize("mode", ["L", "RGBA"])
def test_only_rgb_has_its_hue_shifted(mode):
    with pytest.raises(ValueError, match=f"must be of mode RGB, as LoadRGB opens it; its mode is {mode}$"):
        shift_hue(picture().convert(mode), 0.1)


def test_the_picture_itself_is_left_alone():
    image, item = picture(), {"img": picture(), "sample_idx": 3}
    torch.manual_seed(0)
    changed = PILColorJitter(0.4, 0.4, 0.4, 0.1)(item)
    assert item["img"].tobytes() == image.tobytes() != changed["img"].tobytes()
    assert changed["sample_idx"] == 3


def test_without_hue_it_is_torchvisions_bit_for_bit():
    ours, theirs = PILColorJitter(0.4, (0.5, 1.5), 0.4), ColorJitter(0.4, (0.5, 1.5), 0.4)
    for seed in range(8):
        torch.manual_seed(seed)
        changed = ours({"img": picture()})["img"]
        torch.manual_seed(seed)
        assert changed.tobytes() == theirs(picture()).tobytes()


def test_with_hue_it_makes_the_same_draws():
    options = dict(brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1)
    ours, theirs = TRANSFORMS.build(dict(type="PILColorJitter", **options)), ColorJitter(**options)
    for seed in range(8):
        torch.manual_seed(seed)
        changed = np.asarray(ours({"img": picture()})["img"]).astype(int)
        after = torch.rand(())
        torch.manual_seed(seed)
        assert np.abs(changed - np.asarray(theirs(picture()))).mean() < 2
        assert torch.rand(()) == after


def test_what_is_wrong_with_a_range_is_said_by_torchvision():
    with pytest.raises(ValueError, match="hue"):
        PILColorJitter(hue=0.6)
