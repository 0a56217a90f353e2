import numpy as np
import pytest
import torch
from PIL import Image

from hierpretrain.visualization import plot_recall_curves, write_curves


def test_numbers_are_written_with_a_column_a_curve(tmp_path):
    write_curves({"emoji": torch.tensor([0.25, 0.5, 1.0]), "category, all": [0.125, 0.5]}, tmp_path / "recall.csv")
    assert (tmp_path / "recall.csv").read_text() == 'k,emoji,"category, all"\n1,0.25,0.125\n2,0.5,0.5\n3,1,\n'


def test_a_picture_shows_each_curve_in_its_colour_where_it_runs(tmp_path):
    flat_low, flat_high = np.full(100, 0.2), np.full(100, 0.9)
    plot_recall_curves({"low": flat_low, "high": flat_high}, tmp_path / "recall.png", title="$Recall$ of _two")
    pixels = np.asarray(Image.open(tmp_path / "recall.png").convert("RGB")).astype(int)
    rows = {}
    for name, colour in {"low": (0x00, 0x72, 0xB2), "high": (0xD5, 0x5E, 0x00)}.items():
        found = (np.abs(pixels[:, : pixels.shape[1] // 2] - colour).sum(2) < 12).nonzero()[0]  # left of the legend
        assert len(found) > 300
        rows[name] = np.median(found)
    assert rows["high"] < rows["low"]


def test_a_band_is_drawn_around_its_curve(tmp_path):
    curve = np.full(50, 0.5)
    plot_recall_curves({"a": curve}, tmp_path / "without.png")
    plot_recall_curves({"a": curve}, tmp_path / "with.png", spreads={"a": np.full(50, 0.2)})
    without, with_band = (np.asarray(Image.open(tmp_path / f"{n}.png").convert("L")) for n in ("without", "with"))
    assert (without != with_band).mean() > 0.1


@pytest.mark.parametrize("curve", [[], [[0.5]], [0.5, 1.2], [-0.1], [float("nan")]])
def test_what_is_no_curve_is_refused(tmp_path, curve):
    with pytest.raises(ValueError, match=r"the curve 'a' must be \(K,\) fractions in \[0, 1\]"):
        write_curves({"a": curve}, tmp_path / "recall.csv")
    with pytest.raises(ValueError, match="the curve 'a' must be"):
        plot_recall_curves({"a": curve}, tmp_path / "recall.png")


def test_the_number_of_curves_is_limited(tmp_path):
    with pytest.raises(ValueError, match="a picture holds 1 to 20 curves; there are 0"):
        plot_recall_curves({}, tmp_path / "recall.png")
    with pytest.raises(ValueError, match="there are 21"):
        plot_recall_curves({str(i): [0.5] for i in range(21)}, tmp_path / "recall.png")
