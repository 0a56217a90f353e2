from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from PIL import Image

from hierpretrain.visualization import plot_ablations
from hierpretrain.visualization.ablation import _figure
from hierpretrain.visualization.tsne import PALETTE

PANELS = {
    "levels": {"1": {"mAP": [0.5, 0.6], "mAP*": [0.7, 0.7]}, "2": {"mAP": [0.25, 0.35], "mAP*": [0.6, 0.8]}},
    "replay": {"0": {"mAP": [0.1], "mAP*": [0.2]}, "$0.5_1": {"mAP*": [0.4], "mAP": [0.3]}},
}
REFERENCE = {"mAP": [0.1, 0.2], "mAP*": [0.05]}


def figure(panels=PANELS, reference=REFERENCE):
    return _figure(panels, "AP, %", "A title of $1_2", reference, "untrained")


def test_points_are_means_and_bars_deviations():
    drawn = figure()
    levels, replay = drawn.axes
    places = [[-0.03, 0.97], [0.03, 1.03]]  # lines stand a little apart
    means, deviations = [[55, 30], [70, 70]], [[50**0.5, 50**0.5], [0, 200**0.5]]  # by hand
    for i, container in enumerate(levels.containers):
        line, _, (bars,) = container.lines
        np.testing.assert_allclose(line.get_xydata(), np.transpose([places[i], means[i]]))
        half = [(high - low) / 2 for (_, low), (_, high) in bars.get_segments()]
        np.testing.assert_allclose(half, deviations[i], atol=1e-12)
        assert to_hex(line.get_color()).upper() == PALETTE[i]
    np.testing.assert_allclose([c.lines[0].get_ydata() for c in replay.containers], [[10, 30], [20, 40]])
    assert [container.has_yerr for container in replay.containers] == [False, False]  # one run has no deviation
    assert len({container.lines[0].get_marker() for container in levels.containers}) == 2
    assert [axes.get_xlabel() for axes in drawn.axes] == ["levels", "replay"]
    assert [text.get_text() for text in replay.get_xticklabels()] == ["0", "$0.5_1"]
    assert levels.get_ylim() == replay.get_ylim()


def test_a_dashed_line_is_what_nothing_is_varied_of():
    drawn = figure()
    for axes in drawn.axes:
        dashed = [line for line in axes.lines if line.get_linestyle() == "--"]
        np.testing.assert_allclose([line.get_ydata() for line in dashed], [[15, 15], [5, 5]])
        assert [to_hex(line.get_color()).upper() for line in dashed] == list(PALETTE[:2])
        low, high = axes.get_ylim()
        assert low < 5 < 80 < high
    (legend,) = drawn.legends
    names = [text.get_text().strip() for text in legend.get_texts()]
    assert names == ["mAP", "mAP*", "mAP, untrained", "mAP*, untrained"]
    (legend,) = figure(reference={}).legends
    assert [text.get_text().strip() for text in legend.get_texts()] == ["mAP", "mAP*"]


def test_texts_do_not_overlap():
    names = [f"a setting with a long name, number {i}" for i in range(6)]
    drawn = figure(
        {"what is varied, at length, " * 5: {name: {"mAP": [0.5]} for name in names}} | {"b": {"1": {"mAP": [0.1]}}}, {}
    )
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    renderer = canvas.get_renderer()
    for axes in drawn.axes:
        boxes = [text.get_window_extent(renderer) for text in axes.get_xticklabels()]
        assert all(left.x1 < right.x0 for left, right in pairwise(boxes))
    first, second = (axes.xaxis.label.get_window_extent(renderer) for axes in drawn.axes)
    assert 0 <= first.x0
    assert first.x1 < second.x0


def test_a_picture_is_written(tmp_path):
    plot_ablations(PANELS, tmp_path / "new/a.png", reference=REFERENCE)
    with Image.open(tmp_path / "new/a.png") as picture:
        assert picture.size == (880, 500)


@pytest.mark.parametrize(
    ("panels", "reference", "message"),
    [
        ({}, {}, r"there must be a panel, and in each a setting; they are \[\]"),
        ({**PANELS, "data": {}}, {}, r"they are \['levels', 'replay', 'data'\]"),
        ({"a": {"1": {}}}, {}, "a picture holds 1 to 5 metrics; there are 0"),
        ({"a": {"1": {str(i): [0.5] for i in range(6)}}}, {}, "there are 6"),
        (
            {"a": {"1": {"mAP": [0.5]}, "2": {"AP": [0.5]}}},
            {},
            r"all settings must have the same metrics, \['mAP'\]; '2' of 'a' has \['AP'\]",
        ),
        (PANELS, {"AP": [0.5]}, r"the reference's metrics must be of those drawn, .*; it has \['AP'\]"),
        (PANELS, {"mAP": [50.0]}, r"'mAP' must be one fraction in \[0, 1\] or more, of each run one; it is \[50.0\]"),
        ({"a": {"1": {"mAP": []}}}, {}, r"it is \[\]"),
        ({"a": {"1": {"mAP": [float("nan")]}}}, {}, r"it is \[nan\]"),
    ],
)
def test_what_cannot_be_drawn_is_said(panels, reference, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        plot_ablations(panels, tmp_path / "a.png", reference=reference)
