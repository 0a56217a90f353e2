"""The words of the page that are not drawn by its script. All text from outside is escaped here."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from html import escape

from hierpretrain._texts import count
from hierpretrain.evaluation import Embeddings
from hierpretrain.report.headline import Number
from hierpretrain.report.search import Searched
from hierpretrain.report.siblings import Confusion
from hierpretrain.report.thumbnails import Thumbnails
from hierpretrain.taxonomy import Taxonomy

_NO_LABELS = "The images have no labels: give the data set that they are from, or a list with label columns."


def text(words: object) -> str:
    """Returns text that is nothing but text, in an element or between the quotes of an attribute.

    Example:
        >>> text('<script>"')
        '&lt;script&gt;&quot;'
    """
    return escape(str(words), quote=True)


def subtitle(model: str) -> str:
    """Returns the line below the heading: the model and the date."""
    date = datetime.now().astimezone().strftime("%-d %B %Y, %H:%M")
    return text(f"{model} · {date}" if model else date)


def facts(images: Embeddings) -> str:
    """Returns the counts of images, nodes and splits, and the list of files that were skipped."""
    tree = images.taxonomy
    counts = {"images": len(images.features), "dimensions": images.features.shape[1]}
    counts |= {f"nodes of {name}": tree.num_nodes(name) for name in tree.level_names}
    splits = Counter(images.splits)
    if len(splits) > 1:
        counts |= {f"split {name}": count for name, count in splits.items()}
    listed = "".join(f"<div><dt>{text(name)}</dt><dd>{count:,}</dd></div>" for name, count in counts.items())
    skipped = ""
    if images.skipped:
        lines = "".join(f"<li>{text(path)}: {text(why)}</li>" for path, why in images.skipped.items())
        files = count(len(images.skipped), "file", "files")
        skipped = (
            f'<details id="skipped"><summary>{files} could not be read and '
            f"{'is' if len(images.skipped) == 1 else 'are'} not in this report</summary><ul>{lines}</ul></details>"
        )
    return f'<dl class="facts">{listed}</dl>{skipped}'


@dataclass(frozen=True)
class Headline:
    """The numbers of one search.

    Attributes:
        title: What is searched for where.
        warnings: What else must be known before the numbers are believed.
        cards: Title, size and numbers of each card.
    """

    title: str
    warnings: Sequence[str]
    cards: Sequence[tuple[str, str, Sequence[Number]]]


def headline(headlines: Sequence[Headline]) -> str:
    """Returns the cards of every search below what it searches for."""
    if not headlines:
        return _missing(f"There are no numbers. {_NO_LABELS}")
    made = []
    for found in headlines:
        made.append(f'<h3 class="search-title">{text(found.title)}</h3>')
        made += [f'<p class="warning">{text(warning)}</p>' for warning in found.warnings]
        made.append(f'<div class="levels">{"".join(_card(*card) for card in found.cards)}</div>')
    numbers = [number for found in headlines for _, _, of_card in found.cards for number in of_card]
    meanings = {number.name: number.meaning for number in numbers}
    listed = "".join(f"<dt>{text(name)}</dt><dd>{text(meaning)}</dd>" for name, meaning in meanings.items())
    return f'{"".join(made)}<details id="meanings"><summary>What the numbers say</summary><dl>{listed}</dl></details>'


def _card(title: str, size: str, numbers: Sequence[Number]) -> str:
    notes: dict[str, list[str]] = {}
    for number in numbers:
        notes.setdefault(number.note, []).append(number.name)
    lines = "".join(f'<p class="of">{text(", ".join(names))}: {text(note)}</p>' for note, names in notes.items())
    figures = "".join(map(_figure, numbers))
    return f'<div class="card"><h3>{text(title)} <small>{size}</small></h3>{figures}{lines}</div>'


def _figure(number: Number) -> str:
    name = text(number.name) + ("" if number.higher_is_better else " <small>lower is better</small>")
    value, width, exact = "-", 0.0, ""
    if number.value is not None:
        exact = f' data-value="{number.value!r}"'
        value, width = f"{100 * number.value:.1f} %", 100 * min(max(number.value, 0), 1)
    return (
        f'<div class="figure" title="{text(number.meaning)}"><span class="name">{name}</span>'
        f'<span class="value"{exact}>{value}</span><span class="meter"><i style="width:{width:.1f}%"></i></span></div>'
    )


def map_note(how: str, number: int, shown: int, pictures: Thumbnails) -> str:
    """Says how the map was made, of how many images it is, and which pictures lack."""
    words = [how]
    if shown < number:
        words.append(
            f"Shown are {shown:,} of {number:,} images, drawn at random; the neighbours of a pinned image are the "
            "nearest of these."
        )
    if not pictures.side:
        words.append("There are no thumbnails: they would make the file too large.")
    elif pictures.unread:
        unread = count(len(pictures.unread), "image", "images")
        words.append(f"{unread} could not be read for a thumbnail, which is grey.")
    return text(" ".join(words))


def missing(
    tree: Taxonomy,
    number: int,
    searched: Sequence[Searched],
    confusion: Sequence[Confusion],
    curves: Mapping[str, object],
    history: str | os.PathLike[str] | None,
) -> dict[str, str]:
    """Says of each section that is empty why it is."""
    no_labels = _NO_LABELS if not tree.num_levels else ""
    alone = "There is no other image." if number < 2 else ""
    nothing = ""
    of_levels = [scores for found in searched for scores in found.of_levels]
    if of_levels and not any((scores["num_relevant"] > 0).any() for scores in of_levels):
        nothing = "No query shares a node with any image of the gallery."
    no_search = "" if searched else "There is no other image to find."
    siblings = "" if confusion else "No node has two children with images."
    wanted = "Give the work directory of the training, in which MMEngine writes &lt;date&gt;/vis_data/scalars.json."
    if history is not None:
        wanted = (
            f"There is no vis_data/scalars.json, which MMEngine writes when it trains, in {text(os.fspath(history))}."
        )
    return {
        "recall_missing": _missing(no_labels or no_search or nothing),
        "tree_missing": _missing(no_labels or alone or no_search),
        "siblings_missing": _missing(no_labels or alone or no_search or siblings),
        "queries_missing": _missing(no_labels or no_search or nothing),
        "training_missing": (
            '<p class="lead">What was logged: of the training by iteration, of validation by epoch.</p>'
            if curves
            else f'<p class="missing">There are no curves. {wanted}</p>'
        ),
    }


def _missing(why: str) -> str:
    return f'<p class="missing">{text(why)}</p>' if why else ""


def footer() -> str:
    """Returns the last line of the page."""
    from hierpretrain import __version__

    return f"Made by HierPretrain {text(__version__)}. This file loads nothing from anywhere."
