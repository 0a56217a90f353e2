"""The images of a saved index, whose labels are checked by the embeddings that it holds."""

from __future__ import annotations

import os

from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.data_checks.sources import Source
from hierpretrain.evaluation import Embeddings
from hierpretrain.taxonomy import as_paths


def is_index(folder: str) -> bool:
    """Tells whether a folder holds a saved index."""
    return os.path.isfile(os.path.join(folder, "index.json"))


def index_source(folder: str) -> tuple[Source, Embeddings]:
    """Returns the images of a saved index with their labels, and their embeddings.

    Raises:
        ValueError: If the index is damaged.
    """
    images = EmbeddingIndex.open(folder).embeddings()
    taxonomy, labels, paths = images.taxonomy, images.labels, images.paths
    of_images = as_paths(labels)  # (N, P, L)
    names = [tuple(filter(None, map(taxonomy.decode, rows))) for rows in of_images] if taxonomy.num_levels else []
    source = Source(
        name=folder,
        root="",
        images=list(paths),
        paths=names or [()] * len(paths),
        splits=[""] * len(paths),
        level_names=taxonomy.level_names,
    )
    source.tell_unlabelled()
    return source, images
