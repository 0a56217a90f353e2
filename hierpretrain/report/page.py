"""Puts a report together: every section measured once, all of them in one file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.checks import check_at_least_1
from hierpretrain.evaluation import EmbeddingMetric, Embeddings
from hierpretrain.evaluation.embeddings import Splits
from hierpretrain.files import write_whole
from hierpretrain.functional.sampling import sample_indices
from hierpretrain.report import markup, page_data
from hierpretrain.report.embed_data import as_json, sheet_elements
from hierpretrain.report.history import panels, read_history
from hierpretrain.report.layout import positions
from hierpretrain.report.nearest_images import nearest_others
from hierpretrain.report.search import Searched
from hierpretrain.report.sections import NEIGHBOURS, measured_sections
from hierpretrain.report.thumbnails import thumbnails

MOST_BYTES = 29_000_000
"""The size that thumbnails are made to fit."""

_LARGE = 112  # side of the thumbnails of queries
_FOLDER = Path(__file__).parent


def write_report(
    images: Embeddings,
    path: str | os.PathLike[str],
    *,
    title: str,
    model: str = "",
    query: Splits | None = None,
    gallery: Splits | None = None,
    metrics: Sequence[EmbeddingMetric] = (),
    trained: Collection[str] | None = None,
    history: str | os.PathLike[str] | None = None,
    max_points: int = 50_000,
    thumbnail: int = 64,
    max_bytes: int = MOST_BYTES,
    seed: int = 0,
    log: Callable[[str], object] = print,
) -> None:
    """Writes all that is worth knowing of embedded images as one HTML file, which opens offline in any browser.

    It has the numbers of each level, curves of recall, a map with thumbnails, the quality of every node of the tree,
    the confusion of siblings, the best and worst queries, and the curves of the training. All of them are of the
    searches that the metrics measure, each query in its gallery; numbers that the metrics have are theirs. What they do
    not measure is measured here, of a sample where it takes long; its size stands beside it.

    Args:
        images: N images, one at least. Of images without labels (a tree of no level) there are the map and neighbours.
        path: The file to write; it is replaced whole or not at all.
        title: The heading.
        model: What embedded them, for people.
        query: Splits of the queries, as for :meth:`Embeddings.search`; ``None`` beside ``gallery=None``: those of the
            metrics. The page says whether others are what the metrics measure.
        gallery: Splits of the gallery.
        metrics: What is measured of these images, such as the metrics of a config's evaluator.
        trained: The files that the model was trained on, as :func:`~hierpretrain.files.true_path` writes them: the page
            says how many of the queries are among them. ``None``: not known, which it says, too.
        history: The work directory of the training, for its curves.
        max_points: The most images on the map, 1 at least; of more, a uniform sample.
        thumbnail: The largest side of a thumbnail in pixels, 16 to 256; of many images they are smaller.
        max_bytes: The size that the thumbnails are made to fit, the smaller the more images there are.
        seed: Of samples, of the map and of clusterings.
        log: Told each step and the size of the file.

    Raises:
        ValueError: If there is no image, an embedding has no direction, a split has no image, ``max_points`` or
            ``thumbnail`` is out of range, or the history is malformed.

    Example:
        >>> import tempfile, torch
        >>> from hierpretrain.taxonomy import Taxonomy
        >>> tree = Taxonomy([("cat",), ("dog",)], ("kind",))
        >>> labels = tree.encode([("cat",), ("cat",), ("dog",)])
        >>> pets = Embeddings(torch.eye(3), labels, labels[:, :0], ["all"] * 3, ["a", "b", "c"], tree, ())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_report(pets, f"{folder}/report.html", title="Pets", log=str)
        ...     "<h1>Pets</h1>" in Path(folder, "report.html").read_text(encoding="utf-8")
        True
    """
    _check(images, max_points, thumbnail)
    curves = panels(read_history(history)) if history is not None else {}
    started = time.monotonic()

    def step(text: str) -> None:
        log(f"[{time.monotonic() - started:6.1f} s] {text}")

    sections = measured_sections(images, metrics, query, gallery, trained, seed, step)
    points = _points(images, max_points, [section.found for section in sections], seed, step)

    # the page numbers the images on the map first, then others that are examples
    of_examples = [i for section in sections for level in section.examples for i in level.indices()]
    indices = list(dict.fromkeys([*points.shown.tolist(), *of_examples]))
    numbers = {index: i for i, index in enumerate(indices)}
    in_examples = sorted({numbers[i] for i in of_examples})
    step("reading the images for their thumbnails")
    paths = [images.paths[index] for index in indices]
    large = thumbnails([paths[i] for i in in_examples], largest=_LARGE, budget=max_bytes // 10)
    data = {
        "images": page_data.of_images(images, indices),
        "map": page_data.of_map(points.coordinates),
        "neighbours": page_data.of_neighbours(points.similarities, points.neighbours),
        "flat": page_data.of_extra_labels(images, indices),
        "tree": page_data.of_tree(images.taxonomy),
        "searches": [section.data(numbers) for section in sections],
        "history": curves,
        "palette": page_data.PALETTE_OF_PAGE,
    }
    parts = {
        "style": (_FOLDER / "report.css").read_text(encoding="utf-8"),
        "script": "".join((_FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in ("common", "report")),
        "plotly": plotly_source(),
        "sheets": sheet_elements("large", large.sheets),
    }
    used = len(_bytes(as_json(data))) + sum(len(_bytes(part)) for part in parts.values())
    # base64 takes four bytes for three; the rest is for the words of the page
    budget = (max_bytes - used - 200_000) * 3 // 4
    small = thumbnails(paths[: len(points.shown)], largest=thumbnail, budget=budget, log=step)
    data["pictures"] = {
        "small": {"side": small.side, "columns": small.columns},
        "large": {"side": large.side, "columns": large.columns, "images": in_examples},
    }
    parts["sheets"] += sheet_elements("small", small.sheets)
    parts |= {
        "title": markup.text(title),
        "subtitle": markup.subtitle(model),
        "facts": markup.facts(images),
        "headline": markup.headline([section.headline for section in sections]),
        "map_note": markup.map_note(points.how, len(images.features), len(points.shown), small),
        "footer": markup.footer(),
        **markup.missing(
            images.taxonomy,
            len(images.features),
            [section.found for section in sections],
            [one for section in sections for one in section.confusion],
            curves,
            history,
        ),
    }
    template = Template((_FOLDER / "report.html").read_text(encoding="utf-8"))
    page = _bytes(template.substitute(parts, data=as_json(data)))
    write_whole(path, page)
    if small.unread:
        step(f"could not be read for a thumbnail, which is grey: {len(small.unread):,} of {len(points.shown):,}")
    step(f"wrote {os.fspath(path)}: {len(page) / 1e6:.1f} MB, with thumbnails of {small.side} pixels")


@dataclass(frozen=True)
class _Points:
    """The images on the map: which, their nearest others among them, where they lie and how that was found."""

    shown: Tensor
    similarities: Tensor
    neighbours: Tensor
    coordinates: NDArray[np.float32]
    how: str


def _points(
    images: Embeddings, most: int, searched: Sequence[Searched], seed: int, step: Callable[[str], object]
) -> _Points:
    shown = sample_indices(len(images.features), most, seed=seed)
    step(f"laying {len(shown):,} images out on a map")
    return _Points(shown, *_on_map(images, shown, searched), *positions(images.features[shown], seed=seed))


def _on_map(images: Embeddings, shown: Tensor, searched: Sequence[Searched]) -> tuple[Tensor, Tensor]:
    """Returns the nearest others, on the map, of each image on the map; those that a search has found, if it has."""
    number = len(images.features)
    for found in searched:
        if found.same_set and len(found.query.features) == number == len(shown):
            return found.similarities[:, :NEIGHBOURS], found.neighbours[:, :NEIGHBOURS]
    return nearest_others(images.features[shown], NEIGHBOURS)


def _bytes(text: str) -> bytes:
    """Encodes text, with a question mark for what is no character, as in the name of a file that is not in UTF-8."""
    return text.encode(errors="replace")


def _check(images: Embeddings, max_points: int, thumbnail: int) -> None:
    if not len(images.features):
        raise ValueError("a report needs one embedded image at least; there is none")
    check_at_least_1(max_points=max_points)
    if not 16 <= thumbnail <= 256:
        raise ValueError(f"thumbnail, a side in pixels, must be 16 to 256; it is {thumbnail}")


@cache
def plotly_source() -> str:
    """Returns the source of plotly.js, which the package plotly carries, safe inside a script element."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ImportError("a report is drawn by plotly.js; install it with: pip install plotly") from error
    # what would end the element, or open a comment in it, is only ever part of a string or pattern in the source
    return get_plotlyjs().replace("</script", "<\\/script").replace("<!--", "<\\!--")
