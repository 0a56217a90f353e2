"""Names in scripts that matplotlib's own font lacks, with a tiny font that a test installs."""

import warnings

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager, rc_context, rcParams
from matplotlib.figure import Figure
from PIL import Image

from hierpretrain.visualization import fonts, plot_recall_curves, plot_tsne
from hierpretrain.visualization.figure import fit_text, save_figure, text_measure

CAT, DOG = "\u732b", "\u72ac"  # in Chinese and Japanese


def write_font(path, family, letters):
    """A font whose letters are solid squares, a fifth wider than high."""
    pen = TTGlyphPen(None)
    for point, line in zip([(0, 0), (0, 1000), (1200, 1000), (1200, 0)], ["moveTo", *["lineTo"] * 3], strict=True):
        getattr(pen, line)(point)
    pen.closePath()
    builder = FontBuilder(1000, isTTF=True)
    names = [".notdef", *(f"g{i}" for i in range(len(letters)))]
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord(letter): name for letter, name in zip(letters, names[1:], strict=True)})
    builder.setupGlyf(dict.fromkeys(names, pen.glyph()))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1200, 0)))
    builder.setupHorizontalHeader(ascent=1000, descent=0)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    builder.save(path)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Returns a function that installs a font after matplotlib was imported; nothing else is installed."""
    manager = font_manager.FontManager.__new__(font_manager.FontManager)
    manager.__dict__.update(font_manager.fontManager.__dict__)
    own = str(font_manager.cbook._get_data_path("fonts"))
    manager.ttflist = [entry for entry in font_manager.fontManager.ttflist if entry.fname.startswith(own)]
    paths = []
    monkeypatch.setattr(font_manager.fontManager, "ttflist", manager.ttflist)
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: list(paths))
    fonts._others.cache_clear()
    font_manager.fontManager._findfont_cached.cache_clear()

    def add(family, letters):
        paths.append(str(tmp_path / f"{family}.ttf"))
        write_font(paths[-1], family, letters)

    yield add
    fonts._others.cache_clear()
    font_manager.fontManager._findfont_cached.cache_clear()


def ink(path):
    return (np.asarray(Image.open(path).convert("L")) < 128).sum()


def drawn(path, text):
    figure = Figure(figsize=(2, 1), dpi=100, facecolor="white")
    figure.text(0.1, 0.3, text, fontsize=20, parse_math=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # such as "Glyph 29483 missing"
        save_figure(figure, path)
    return ink(path)


def test_a_letter_is_drawn_by_whichever_installed_font_has_it(install, tmp_path):
    install("Some CJK", CAT)
    install("Other", DOG)
    one = drawn(tmp_path / "cat.png", CAT)
    side = 20 / 72 * 100
    assert one == pytest.approx(1.2 * side**2, rel=0.1)
    assert drawn(tmp_path / "both.png", CAT + DOG) == pytest.approx(2 * one, rel=0.1)
    assert fonts.families(f"a cat: {CAT}") == [*rcParams["font.family"], "Some CJK"]
    assert fonts.families(CAT + DOG) == [*rcParams["font.family"], "Some CJK", "Other"]
    assert fonts.families("na\u00efve, \u00e0 la carte") == rcParams["font.family"]


def test_the_fonts_that_are_set_come_first(install):
    install("Mine", CAT + DOG)
    fonts.families(DOG)  # matplotlib knows it from here on
    with rc_context({"font.family": ["Mine"]}):
        assert fonts.families(CAT) == ["Mine"]
    assert fonts.families(CAT) == [*rcParams["font.family"], "Mine"]


def test_what_no_font_has_stays_a_box(install, tmp_path):
    install("Some CJK", CAT)
    assert fonts.families(DOG) == rcParams["font.family"]
    figure = Figure(figsize=(2, 1), dpi=100)
    figure.text(0.1, 0.3, DOG)
    with pytest.warns(UserWarning, match="Glyph 29356"):
        save_figure(figure, tmp_path / "dog.png")


def test_a_font_that_cannot_be_read_is_passed_over(install, tmp_path, monkeypatch):
    broken = tmp_path / "broken.ttf"
    broken.write_bytes(b"no font")
    install("Some CJK", CAT)
    found = font_manager.findSystemFonts()
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(broken), *found])
    assert fonts.families(CAT) == [*rcParams["font.family"], "Some CJK"]


def test_texts_are_measured_as_they_are_drawn(install):
    install("Some CJK", CAT)
    figure = Figure(dpi=100)
    width = text_measure(figure, CAT * 20, 20)(CAT)
    assert width == pytest.approx(1.2 * 20 / 72 * 100, abs=1.1)
    assert fit_text(figure, CAT * 20, 10.5 * width, 20, lines=2).split("\n")[0] == CAT * 10


def test_pictures_have_readable_names(install, tmp_path):
    install("Some CJK", CAT + DOG)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_tsne([[0, 0], [1, 1]], [CAT, DOG], tmp_path / "map.png", title=f"{CAT} and {DOG}")
        plot_recall_curves({CAT: [0.5, 1.0]}, tmp_path / "recall.png")
