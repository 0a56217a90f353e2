"""Puts a report together: every section measured once, all of them in one file."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from functools import cache
from pathlib import Path
from string import Template

from torch import Tensor

from hierpretrain._texts import count
from hierpretrain.checks import check_at_least_1
from hierpretrain.evaluation import EmbeddingMetric, Embeddings, measured_searches
from hierpretrain.evaluation.embeddings import Splits
from hierpretrain.evaluation.search_sets import chosen_search
from hierpretrain.files import true_path, write_whole
from hierpretrain.functional.sampling import sample_indices
from hierpretrain.report import markup, page_data
from hierpretrain.report.embed_data import as_json, sheet_elements
from hierpretrain.report.examples import level_examples
from hierpretrain.report.headline import Number, extra_numbers, level_numbers, tree_numbers
from hierpretrain.report.history import panels, read_history
from hierpretrain.report.layout import positions
from hierpretrain.report.markup import Headline
from hierpretrain.report.measured import Measured, measure, measured_of
from hierpretrain.report.nearest_images import nearest_others
from hierpretrain.report.search import Searched, search
from hierpretrain.report.siblings import sibling_confusion
from hierpretrain.report.thumbnails import thumbnails
from hierpretrain.report.tree_quality import tree_quality

MOST_BYTES = 29_000_000
"""The size that thumbnails are made to fit."""

_NEIGHBOURS = 8
_SPARE = 3  # so many times the neighbours are searched for, since copies of one image take one place
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

    tree, number = images.taxonomy, len(images.features)
    splits = set(images.splits)
    of_config = searches = measured_searches(metrics)
    if (query, gallery) != (None, None) or not of_config:
        searches = [chosen_search(query, gallery, of_config, splits)]
    step("searching for what is of the queries' nodes")  # first, for it finds wrong splits at once
    searched = [found for sets in searches if (found := search(images, sets, k=_SPARE * _NEIGHBOURS, seed=seed))]
    results = []
    if searched and metrics:
        step("measuring what the config measures")
        results = measure(images, metrics, step)
    parts_of_search, headlines = [], []
    for found in searched:
        step(f"measuring: {found.title}")
        measured = measured_of(images, results, found.sets, of_config)
        headlines.append(Headline(found.title, _warnings(found, trained), _cards(found, measured, seed)))
        sides = found.query, found.gallery
        quality = tree_quality(*sides, found.neighbours[:, 0])
        confusion = sibling_confusion(*sides, found.neighbours[:, :_NEIGHBOURS], same_set=found.same_set)
        examples = [level_examples(found, level) for level in range(tree.num_levels + 1)]
        parts_of_search.append((found, quality, confusion, examples))

    shown = sample_indices(number, max_points, seed=seed)
    step(f"laying {len(shown):,} images out on a map")
    similarities, neighbours = _on_map(images, shown, searched)
    coordinates, how = positions(images.features[shown], seed=seed)

    # the page numbers the images on the map first, then others that are examples
    of_examples = [i for *_, examples in parts_of_search for level in examples for i in level.indices()]
    indices = list(dict.fromkeys([*shown.tolist(), *of_examples]))
    numbers = {index: i for i, index in enumerate(indices)}
    in_examples = sorted({numbers[i] for i in of_examples})
    step("reading the images for their thumbnails")
    paths = [images.paths[index] for index in indices]
    large = thumbnails([paths[i] for i in in_examples], largest=_LARGE, budget=max_bytes // 10)
    data = {
        "images": page_data.of_images(images, indices),
        "map": page_data.of_map(coordinates),
        "neighbours": page_data.of_neighbours(similarities, neighbours),
        "flat": page_data.of_extra_labels(images, indices),
        "tree": page_data.of_tree(tree),
        "searches": [
            {
                "title": found.title,
                "same_set": found.same_set,
                "recall": page_data.of_recall(tree, found),
                "quality": page_data.of_quality(tree, quality),
                "confusion": page_data.of_confusion(tree, confusion),
                "examples": page_data.of_examples(tree, examples, numbers),
            }
            for found, quality, confusion, examples in parts_of_search
        ],
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
        "headline": markup.headline(headlines),
        "map_note": markup.map_note(how, number, len(shown), small),
        "footer": markup.footer(),
        **markup.missing(
            tree,
            number,
            searched,
            [one for _, _, confusion, _ in parts_of_search for one in confusion],
            curves,
            history,
        ),
    }
    template = Template((_FOLDER / "report.html").read_text(encoding="utf-8"))
    page = _bytes(template.substitute(parts, data=as_json(data)))
    write_whole(path, page)
    if small.unread:
        step(f"could not be read for a thumbnail, which is grey: {len(small.unread):,} of {len(shown):,}")
    step(f"wrote {os.fspath(path)}: {len(page) / 1e6:.1f} MB, with thumbnails of {small.side} pixels")


def _cards(found: Searched, measured: Measured, seed: int) -> list[tuple[str, str, list[Number]]]:
    """Returns title, size and numbers of the cards of a search: a level each, extra label columns, the whole tree."""
    tree, images = found.query.taxonomy, found.query
    cards = []
    for level, name in enumerate(tree.level_names, start=1):
        size = count(tree.num_nodes(name), "node", "nodes")
        cards.append((name, size, level_numbers(found, level, measured, seed=seed)))
    for name in images.extra_names:
        if numbers := extra_numbers(found, name, measured, seed=seed):
            cards.append((name, "a label beside the tree", numbers))
    return [*cards, ("The whole tree", "all levels together", tree_numbers(found, measured, seed=seed))]


def _warnings(found: Searched, trained: Collection[str] | None) -> list[str]:
    """Says how many of the queries are training images."""
    if trained is None:
        return ["Whether the model was trained on some of the queries is not known."]
    number, known = len(found.query.paths), sum(true_path(path) in trained for path in found.query.paths)
    if not known:
        return []
    of = "All" if known == number else f"{known:,} of the {number:,}"
    return [f"{of} queries are training images, which a model finds more easily than new ones."]


def _on_map(images: Embeddings, shown: Tensor, searched: Sequence[Searched]) -> tuple[Tensor, Tensor]:
    """Returns the nearest others, on the map, of each image on the map; those that a search has found, if it has."""
    number = len(images.features)
    for found in searched:
        if found.same_set and len(found.query.features) == number == len(shown):
            return found.similarities[:, :_NEIGHBOURS], found.neighbours[:, :_NEIGHBOURS]
    return nearest_others(images.features[shown], _NEIGHBOURS)


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
