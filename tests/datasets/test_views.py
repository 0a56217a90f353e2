import pytest

from hierpretrain.datasets import Views


def test_every_view_starts_from_the_image_and_the_rest_is_kept():
    drawn = iter(range(100))
    views = Views([lambda results: {**results, "img": results["img"] + [next(drawn)]}], num_views=3)
    item = {"img": ["pixels"], "gt_label": 7}
    assert views(item) == {"img": [["pixels", 0], ["pixels", 1], ["pixels", 2]], "gt_label": 7}
    assert item["img"] == ["pixels"]


def test_at_least_one():
    with pytest.raises(ValueError, match="num_views must be at least 1; it is 0"):
        Views([], num_views=0)


def test_it_prints_its_options():
    flip = dict(type="torchvision/RandomHorizontalFlip")
    assert repr(Views([flip], num_views=3)) == (
        "Views(num_views=3, transforms=[TorchVisionRandomHorizontalFlip(p=0.5)])"
    )
