"""The common parts of pictures: text that fits a width, and PNG files that are written whole or not at all.

Figures are plain ``matplotlib.figure.Figure`` objects that Agg draws: no pyplot, no window, no state between calls.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from functools import lru_cache

from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.text import Text

from hierpretrain.files import write_whole
from hierpretrain.visualization.fonts import families


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Writes a figure as PNG whatever the suffix, replacing a file whole; dpi and size give the pixels.

    Text gets a font of every script that is installed, see :func:`~hierpretrain.visualization.fonts.families`.
    """
    for text in figure.findobj(Text):
        if (fonts := families(text.get_text())) != families(""):
            text.set_fontfamily(fonts)
    png = io.BytesIO()
    FigureCanvasAgg(figure).print_png(png)  # not figure.savefig: rcParams such as savefig.bbox would change the size
    write_whole(path, png.getvalue())


TEXT = "#222222"  # the colour of titles and labels


def add_title(figure: Figure, text: str, width: float, size: float = 15) -> None:
    """Writes a line above a picture, cut to a width in pixels; none for an empty text."""
    if text:
        line = fit_text(figure, text, width, size)
        figure.suptitle(line, x=0.012, ha="left", fontsize=size, color=TEXT, parse_math=False)


def plain_label(text: str) -> str:
    """Returns a label that a legend neither typesets nor drops."""
    return f" {text}".replace("$", r"\$")


def text_measure(figure: Figure, text: str, size: float) -> Callable[[str], float]:
    """Returns a function that measures parts of a text in pixels, in the fonts that the text is drawn with.

    Args:
        figure: The figure the text is for: its dpi turns points into pixels.
        text: The whole text.
        size: Font size in points.
    """
    fonts = tuple(families(f"{text}…"))
    return lambda part: _text_width(part, fonts, size, figure.dpi)


@lru_cache(maxsize=1 << 14)  # neighbours of one query share most of their names
def _text_width(text: str, fonts: tuple[str, ...], size: float, dpi: float) -> float:
    font = FontProperties(family=fonts, size=size)
    return RendererAgg(1, 1, dpi).get_text_width_height_descent(text, font, ismath=False)[0]


def fit_path(figure: Figure, names: Sequence[str], width: float, size: float, lines: int = 1) -> str:
    """Fits a path of names, joined by slashes, into lines: where there is no room, its first names become an ellipsis.

    Args:
        figure: As for :func:`fit_text`, and so are the other three.
        names: The names from below the root to the node; the last stays longest.
        width: In pixels.
        size: In points.
        lines: The most lines.

    Example:
        >>> print(fit_path(Figure(dpi=100), ["animals-nature", "animal-mammal", "cat-face"], 140, 9, lines=2))
        … / animal-mammal
        / cat-face
    """
    for start in range(len(names)):
        joined = " / ".join([*(["…"] if start else []), *names[start:]])
        fitted = fit_text(figure, joined, width, size, lines)
        if not fitted.endswith("…") or start == len(names) - 1:
            return fitted
    return ""


def fit_text(figure: Figure, text: str, width: float, size: float, lines: int = 1) -> str:
    """Breaks and shortens a text so that it is no wider than a width; what is cut off becomes an ellipsis.

    Lines break at a blank if the rest then fits a line, else after the last blank, ``-``, ``/`` or ``_``, else within
    a word. Runs of white space (line breaks too) become one blank.

    Args:
        figure: The figure the text is for: its dpi turns points into pixels.
        text: Any text; draw the result with ``parse_math=False``, for ``$`` is measured as a plain character.
        width: The width in pixels.
        size: Font size in points.
        lines: The most lines.

    Returns:
        At most ``lines`` lines, joined by line breaks; empty where not even the ellipsis fits.

    Example:
        >>> print(fit_text(Figure(dpi=100), "cat-face-with-tears-of-joy noto", 100, 9, lines=2))
        cat-face-with-
        tears-of-joy…
        >>> fit_text(Figure(dpi=100), "short", 100, 9)
        'short'
    """
    measure = text_measure(figure, text, size)

    def fits(line: str) -> bool:
        return measure(line) <= width

    def longest(line: str) -> int:
        """The number of leading characters that fit."""
        low, high = 0, len(line)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if fits(line[:middle].rstrip()) else (low, middle - 1)
        return low

    rest, done = " ".join(text.split()), []
    while rest and len(done) < lines - 1 and not fits(rest):
        room = longest(rest)
        # a blank just past the room may end the line too, for it is not drawn
        blanks = [i + 1 for i in range(1, min(room + 1, len(rest))) if rest[i] == " "]
        inner = [i + 1 for i in range(1, room) if rest[i] in "-/_"]
        if blanks and fits(rest[blanks[-1] :]):
            end = blanks[-1]
        else:
            end = max([*blanks, *inner], default=room)
        if not end:
            break
        done.append(rest[:end].rstrip())
        rest = rest[end:]
    if not fits(rest):
        end = len(rest)
        while end and not fits(rest[:end].rstrip() + "…"):
            end = min(end - 1, longest(rest))
        rest = rest[:end].rstrip() + "…" if end else ("…" if fits("…") else "")
    return "\n".join([*done, rest] if rest else done)
