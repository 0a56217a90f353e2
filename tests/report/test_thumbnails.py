import io

import numpy as np
import pytest
from PIL import Image

from hierpretrain.report import thumbnails as thumbnails_module
from hierpretrain.report.thumbnails import SIDES, _encoded, thumbnails


def write(path, colour, size=(64, 64)):
    Image.new("RGB", size, colour).save(path)
    return str(path)


def tile(found, place):
    """Cuts a picture out as the page does."""
    sheet = Image.open(io.BytesIO(found.sheets[place // found.columns**2])).convert("RGB")
    place %= found.columns**2
    columns = min(found.columns, sheet.width // found.side)
    x, y = place % columns * found.side, place // columns * found.side
    return np.asarray(sheet.crop((x, y, x + found.side, y + found.side)), dtype=int)


def test_every_picture_is_at_its_place(tmp_path):
    colours = [(40 * (i % 6), 50 * (i // 6 % 5), 200 - 3 * (i // 30)) for i in range(60)]
    paths = [write(tmp_path / f"{i}.png", colour) for i, colour in enumerate(colours)]
    found = thumbnails(paths, largest=32, log=str)
    assert (found.side, len(found.sheets), found.unread) == (32, 1, [])
    for i, colour in enumerate(colours):
        assert np.abs(tile(found, i)[4:-4, 4:-4] - colour).max() < 24  # the sheet is compressed


def test_a_second_sheet_begins_after_the_first_is_full(tmp_path):
    red, blue = write(tmp_path / "red.png", "red"), write(tmp_path / "blue.png", "blue")
    found = thumbnails([red] * 1024 + [blue], largest=16, log=str)
    assert len(found.sheets) == 2
    assert np.abs(tile(found, 1023)[2:-2, 2:-2] - (255, 0, 0)).max() < 24
    assert np.abs(tile(found, 1024)[2:-2, 2:-2] - (0, 0, 255)).max() < 24


def test_a_picture_keeps_its_shape_on_white(tmp_path):
    found = thumbnails([write(tmp_path / "wide.png", "black", (80, 20))], largest=64, log=str)
    picture = tile(found, 0)
    assert picture[26:38].max() < 30  # 64 x 16, in the middle
    assert picture[:20].min() > 225
    assert picture[44:].min() > 225


def test_what_cannot_be_read_is_grey_and_listed(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no image")
    paths = [write(tmp_path / "a.png", "black"), str(tmp_path / "broken.jpg"), str(tmp_path / "gone.png"), "<image 0>"]
    found = thumbnails(paths, largest=32, log=str)
    assert found.unread == [1, 2, 3]
    for place in (1, 2, 3):
        assert np.abs(tile(found, place)[4:-4, 4:-4] - 190).max() < 12


@pytest.fixture
def noise(tmp_path):
    rng = np.random.default_rng(0)
    paths = []
    for i in range(40):
        paths.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(paths[-1])
    return paths


def test_the_side_gives_way_to_the_budget(noise):
    sizes = {}
    for budget in (1 << 20, 40_000, 12_000):
        found = thumbnails(noise, largest=64, budget=budget, log=str)
        sizes[found.side] = sum(map(len, found.sheets))
        assert sizes[found.side] <= budget
        assert found.side in SIDES
        assert len(found.sheets) == 1
    assert list(sizes) == sorted(sizes, reverse=True)
    assert next(iter(sizes)) == 64
    assert len(sizes) == 3
    next_side = SIDES[SIDES.index(found.side) - 1]  # the larger one would not have fitted
    assert sum(map(len, thumbnails(noise, largest=next_side, budget=1 << 20, log=str).sheets)) > 12_000


@pytest.mark.parametrize("quality", [80, 70, 60])
def test_the_best_quality_that_fits_is_taken(noise, quality):
    tiles = np.stack([np.asarray(Image.open(path)) for path in noise])
    expected = _encoded(tiles, quality)
    found = thumbnails(noise, largest=64, budget=len(expected), log=str)
    assert found.sheets == [expected]


def test_a_sample_that_misleads_does_not_break_the_budget(noise, tmp_path, monkeypatch):
    monkeypatch.setattr(thumbnails_module, "_SAMPLE", 2)
    plain = [write(tmp_path / f"plain{i}.png", "red") for i in range(2)]
    found = thumbnails([plain[0], *noise, plain[1]], largest=64, budget=60_000, log=str)
    assert found.side in (0, 64)
    assert sum(map(len, found.sheets)) <= 60_000


def test_there_are_none_where_none_fits(noise):
    said = []
    found = thumbnails(noise, budget=100, log=said.append)
    assert (found.side, found.sheets) == (0, [])
    assert said == ["no thumbnails of 40 images fit 100 bytes"]
    assert thumbnails([], log=said.append).sheets == []
