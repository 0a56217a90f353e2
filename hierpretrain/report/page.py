"""Puts a report together: every section measured once, all of them in one file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from string import Template

from hierpretrain.checks import check_at_least_1
from hierpretrain.evaluation import Embeddings
from hierpretrain.evaluation.embeddings import Splits
from hierpretrain.files import write_whole
from hierpretrain.functional.sampling import sample_indices
from hierpretrain.report import markup, page_data
from hierpretrain.report.embed_data import as_json, sheet_elements
from hierpretrain.report.examples import level_examples
from hierpretrain.report.headline import level_numbers, tree_numbers
from hierpretrain.report.history import panels, read_history
from hierpretrain.report.layout import positions
from hierpretrain.report.nearest_images import nearest_others
from hierpretrain.report.search import search
from hierpretrain.report.siblings import sibling_confusion
from hierpretrain.report.thumbnails import thumbnails
from hierpretrain.report.tree_quality import tree_quality

MOST_BYTES = 29_000_000
"""The size that thumbnails are made to fit."""

_NEIGHBOURS = 8
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
    history: str | os.PathLike[str] | None = None,
    max_points: int = 50_000,
    thumbnail: int = 64,
    max_bytes: int = MOST_BYTES,
    seed: int = 0,
    log: Callable[[str], object] = print,
) -> None:
    """Writes all that is worth knowing of embedded images as one HTML file, which opens offline in any browser.

    It has the numbers of each level, curves of recall, a map with thumbnails, the quality of every node of the tree,
    the confusion of siblings, the best and worst queries, and the curves of the training. Numbers are of all images,
    those that take long of a sample, whose size stands beside them.

    Args:
        images: N images, one at least. Of images without labels (a tree of no level) there are the map and neighbours.
        path: The file to write; it is replaced whole or not at all.
        title: The heading.
        model: What embedded them, for people.
        query: Splits of the queries, as for :meth:`Embeddings.search`.
        gallery: Splits of the gallery.
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

    tree, number = images.taxonomy, len(images.features)
    step("searching for what is of the queries' nodes")  # first, for it finds wrong splits at once
    searched = search(images, query, gallery, k=_NEIGHBOURS, seed=seed)
    step(f"searching for the nearest neighbours of {number:,} images")
    similarities, neighbours = nearest_others(images.features, _NEIGHBOURS)
    levels = range(1, tree.num_levels + 1)
    cards = []
    for level in levels:
        step(f"measuring the level {tree.level_names[level - 1]}")
        cards.append(level_numbers(images, level, searched, seed=seed))
    step("measuring the tree and each of its nodes")
    overall = tree_numbers(images, searched, seed=seed)
    quality = tree_quality(images, neighbours[:, 0]) if levels and number > 1 else None
    confusion = sibling_confusion(images, neighbours)
    examples = [level_examples(searched, level) for level in levels] if searched else []

    shown = sample_indices(number, max_points, seed=seed)
    step(f"laying {len(shown):,} images out on a map")
    if len(shown) < number:
        similarities, neighbours = nearest_others(images.features[shown], _NEIGHBOURS)
    coordinates, how = positions(images.features[shown], seed=seed)

    # the page numbers the images on the map first, then others that are examples
    indices = list(dict.fromkeys([*shown.tolist(), *(i for level in examples for i in level.indices())]))
    numbers = {index: i for i, index in enumerate(indices)}
    in_examples = sorted({numbers[i] for level in examples for i in level.indices()})
    step("reading the images for their thumbnails")
    paths = [images.paths[index] for index in indices]
    large = thumbnails([paths[i] for i in in_examples], largest=_LARGE, budget=max_bytes // 10)
    data = {
        "images": page_data.of_images(images, indices),
        "map": page_data.of_map(coordinates),
        "neighbours": page_data.of_neighbours(similarities, neighbours),
        "flat": page_data.of_extra_labels(images, indices),
        "tree": page_data.of_tree(tree, quality),
        "confusion": page_data.of_confusion(tree, confusion),
        "recall": page_data.of_recall(tree, searched),
        "examples": page_data.of_examples(tree, examples, numbers),
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
    small = thumbnails(paths[: len(shown)], largest=thumbnail, budget=(max_bytes - used - 200_000) * 3 // 4, log=step)
    data["pictures"] = {
        "small": {"side": small.side, "columns": small.columns},
        "large": {"side": large.side, "columns": large.columns, "images": in_examples},
    }
    parts["sheets"] += sheet_elements("small", small.sheets)
    parts |= {
        "title": markup.text(title),
        "subtitle": markup.subtitle(model),
        "facts": markup.facts(images),
        "headline": markup.headline(tree, cards, overall),
        "map_note": markup.map_note(how, number, len(shown), small),
        "footer": markup.footer(),
        **markup.missing(tree, number, searched, confusion, curves, history),
    }
    template = Template((_FOLDER / "report.html").read_text(encoding="utf-8"))
    page = _bytes(template.substitute(parts, data=as_json(data)))
    write_whole(path, page)
    if small.unread:
        step(f"could not be read for a thumbnail, which is grey: {len(small.unread):,} of {len(shown):,}")
    step(f"wrote {os.fspath(path)}: {len(page) / 1e6:.1f} MB, with thumbnails of {small.side} pixels")


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
