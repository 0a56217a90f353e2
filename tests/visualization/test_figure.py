import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from PIL import Image

from hierpretrain.visualization.figure import fit_text, save_figure


def width_of(figure, line, size):
    font = FontProperties(size=size)
    return FigureCanvasAgg(figure).get_renderer().get_text_width_height_descent(line, font, ismath=False)[0]


TEXTS = [
    "cat",
    "heavy-heart-exclamation-mark-ornament · twemoji",
    "averyveryverylongwordwithoutanyblank",
    "a b c d e f g h i j k l m n o p q r s t u v w x y z",
    "Größe $x_1$ / _naïve_ \\alpha",
    "-" * 60,
    " two\nlines\t here ",
    "",
]


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("width", [3, 20, 57, 96, 150, 1000])
@pytest.mark.parametrize("lines", [1, 2, 4])
def test_every_line_fits_and_only_the_end_is_lost(text, width, lines):
    figure = Figure(dpi=100)
    fitted = fit_text(figure, text, width, 8, lines)
    parts = fitted.split("\n")
    assert len(parts) <= lines
    assert all(width_of(figure, part, 8) <= width for part in parts)
    whole = "".join(text.split())
    kept = "".join(fitted.split())
    assert kept == whole or (whole.startswith(kept.removesuffix("…")) and (kept.endswith("…") or width == 3))


def test_a_text_that_fits_is_not_changed():
    assert fit_text(Figure(dpi=100), "plain $x$", 200, 8) == "plain $x$"
    assert fit_text(Figure(dpi=100), "clock730 · noto-v1", 100, 8, 2) == "clock730 ·\nnoto-v1"  # blank before hyphen


def test_save_makes_folders_and_ignores_rc_params(tmp_path):
    import matplotlib as mpl

    with mpl.rc_context({"savefig.dpi": 37, "savefig.bbox": "tight", "savefig.facecolor": "red"}):
        save_figure(Figure(figsize=(2, 1), dpi=100, facecolor="white"), tmp_path / "new" / "plot.any")
    picture = Image.open(tmp_path / "new" / "plot.any")
    assert (picture.format, picture.size) == ("PNG", (200, 100))
    assert np.asarray(picture.convert("RGB")).min() == 255


def test_a_failing_save_leaves_the_old_file_alone(tmp_path, monkeypatch):
    path = tmp_path / "plot.png"
    path.write_bytes(b"old")

    def breaks(self, target):  # with the disk full half-way
        target.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(FigureCanvasAgg, "print_png", breaks)
    with pytest.raises(OSError, match="disk full"):
        save_figure(Figure(), path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_good_save_replaces_the_file(tmp_path):
    path = tmp_path / "plot.png"
    path.write_bytes(b"old")
    save_figure(Figure(figsize=(1, 1)), path)
    assert path.read_bytes()[:4] == b"\x89PNG"
    assert list(tmp_path.iterdir()) == [path]
