"""The images of a saved index, which are checked by what it holds of them: their files' names, contents, embeddings."""

from __future__ import annotations

import os

from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.data_checks.duplicates import copies
from hierpretrain.data_checks.sources import Source
from hierpretrain.evaluation import Embeddings
from hierpretrain.taxonomy import as_paths


def is_index(folder: str) -> bool:
    """Tells whether a folder holds a saved index."""
    return os.path.isfile(os.path.join(folder, "index.json"))


def index_source(folder: str) -> tuple[Source, Embeddings]:
    """Returns the images of a saved index with their labels, and their embeddings.

    Files that are gone and copies are told by the names and the contents that the index knows; no image is opened. What
    was no file when it was embedded is not missed.

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
    files = [path for path, digest in zip(paths, images.digests, strict=True) if digest and not path.startswith("<")]
    for path in files:
        if not os.path.exists(path):
            source.add("missing file", path, why=f"the index has it; hierpretrain index remove {folder} takes it out")
    source.problems += copies([digest or None for digest in images.digests], source.files, source.paths, source.splits)
    source.notes.append("the images themselves were not opened: check their folder or list for what is wrong in them")
    return source, images
