"""The data that the script of the page reads: plain values and packed arrays, ready for JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from hierpretrain.evaluation import Embeddings
from hierpretrain.report.embed_data import packed, short_paths
from hierpretrain.report.examples import Example, LevelExamples
from hierpretrain.report.image_nodes import deepest_nodes, node_numbers
from hierpretrain.report.search import Searched
from hierpretrain.report.siblings import Confusion
from hierpretrain.report.tree_quality import LevelQuality
from hierpretrain.taxonomy import PAD, Taxonomy
from hierpretrain.visualization.grades import grade_colours, grade_mark
from hierpretrain.visualization.tsne import PALETTE

PALETTE_OF_PAGE = {
    "colours": list(PALETTE),
    "symbols": ["circle"] * 7 + ["triangle-up"] * 7 + ["square"] * 6,  # each line of PALETTE is a shape
}

_LAST_K = 1000


def of_images(images: Embeddings, indices: Sequence[int]) -> dict[str, Any]:
    """Returns the paths, the deepest nodes and the splits of some of the images."""
    leaves = deepest_nodes(images.labels[indices], images.taxonomy)
    names = list(dict.fromkeys(images.splits))
    number = {name: i for i, name in enumerate(names)}
    splits = np.array([number[images.splits[index]] for index in indices], np.uint16)
    return {
        "paths": short_paths([images.paths[index] for index in indices]),
        "leaves": _int32(leaves),
        "paths_per_image": leaves.shape[1],
        "splits": packed(splits),
        "split_names": names,
    }


def of_map(positions: NDArray[np.float32]) -> dict[str, Any]:
    """Returns the coordinates of (S, 2) positions."""
    return {"x": packed(positions[:, 0]), "y": packed(positions[:, 1])}


def of_neighbours(similarities: Tensor, neighbours: Tensor) -> dict[str, Any]:
    """Returns (S, k) neighbours; of their cosines, which are -1 to 1, numbers of 16 bits."""
    scaled = ((similarities.clamp(-1, 1) + 1) * 32767).round()
    return {
        "k": neighbours.shape[1],
        "rows": _int32(neighbours),
        "similarities": packed(scaled.numpy().astype(np.uint16)),
    }


def of_extra_labels(images: Embeddings, indices: Sequence[int]) -> list[dict[str, Any]]:
    """Returns the extra label columns of some images: the names of the values, and each image's."""
    found = []
    for name in images.extra_names:
        all_names = images.names(name)
        values, ids = np.unique([all_names[index] for index in indices], return_inverse=True)
        found.append({"name": name, "values": values.tolist(), "ids": packed(ids.astype(np.int32))})
    return found


def of_tree(tree: Taxonomy) -> dict[str, Any]:
    """Returns the nodes of all levels, numbered through."""
    first = node_numbers(tree)
    names: list[str] = []
    parents: list[int] = []
    level_of: list[int] = []
    for level in range(1, tree.num_levels + 1):
        for node in range(tree.num_nodes(level)):
            names.append(tree.name(level, node))
            parents.append(tree.parent(level, node) + first[level - 2] if level > 1 else PAD)
            level_of.append(level)
    return {
        "levels": list(tree.level_names),
        "names": names,
        "parents": packed(np.array(parents, np.int32)),
        "level_of": packed(np.array(level_of, np.int32)),
        "grades": grade_colours(tree.num_levels) if tree.num_levels else [],
    }


def of_quality(tree: Taxonomy, quality: Sequence[LevelQuality]) -> dict[str, Any]:
    """Returns the quality of the nodes of all levels, numbered through."""
    first = node_numbers(tree)
    mixed = [part.mixed_with + start * (part.mixed_with != PAD) for part, start in zip(quality, first, strict=False)]
    return {
        "images": _int32(torch.cat([part.num_images for part in quality])),
        "offered": _int32(torch.cat([part.num_offered for part in quality])),
        "right": _int32(torch.cat([part.num_right for part in quality])),
        "mixed_with": _int32(torch.cat(mixed)),
        "mixed": _int32(torch.cat([part.num_mixed for part in quality])),
    }


def of_confusion(tree: Taxonomy, confusion: Sequence[Confusion]) -> list[dict[str, Any]]:
    """Returns the tables of siblings, with nodes numbered through."""
    first = node_numbers(tree)
    return [
        {
            "parent": found.node + first[found.level - 1] if found.level else PAD,
            "children": [child + first[found.level] for child in found.children],
            "counts": found.counts.tolist(),
            "num_children": found.num_children,
            "num_images": found.num_images,
            "num_wrong": found.num_wrong,
        }
        for found in confusion
    ]


def of_recall(tree: Taxonomy, searched: Searched) -> list[dict[str, Any]]:
    """Returns a curve of recall@k for each level at which a query has something to find."""
    last = min(_LAST_K, len(searched.gallery.features) - searched.same_set)
    # every k up to 100, then forty to a factor of ten
    ks = sorted(
        {*range(1, min(last, 100) + 1), *(k for i in range(41) if (k := round(10 ** (2 + i / 40))) < last), last}
    )
    return [
        {
            "name": name,
            "ks": ks,
            "values": [round(value, 5) for value in searched.recall(level, torch.tensor(ks)).tolist()],
        }
        for level, name in enumerate(tree.level_names, start=1)
        if len(searched.scores(level, "first_rank"))
    ]


def of_examples(tree: Taxonomy, examples: Sequence[LevelExamples], numbers: Mapping[int, int]) -> list[dict[str, Any]]:
    """Returns the best and worst queries of the levels that have any, images by their number on the page."""

    def of(example: Example) -> dict[str, Any]:
        return {
            "image": numbers[example.index],
            "precision": example.precision,
            "num_relevant": example.num_relevant,
            "neighbours": [
                {
                    "image": numbers[found.index],
                    "shared": found.shared,
                    "mark": grade_mark(found.shared, found.whole),
                    "copies": found.copies,
                }
                for found in example.neighbours
            ],
        }

    return [
        {
            "name": tree.level_names[found.level - 1] if found.level else "all levels",
            "score": "AP" if found.level else "H-AP",
            "best": [of(example) for example in found.best],
            "worst": [of(example) for example in found.worst],
        }
        for found in examples
        if found.best
    ]


def _int32(numbers: Tensor) -> dict[str, str]:
    return packed(numbers.numpy().astype(np.int32))
