"""The images of a saved index, which are checked by what it holds of them: their files' names, contents, embeddings."""

from __future__ import annotations

import os
import shlex

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
    rows = sorted({path: i for i, path in reversed([*enumerate(paths)])}.values())  # a file may have several keys
    files = [paths[i] for i in rows if images.digests[i] and not paths[i].startswith("<")]
    missing = [path for path in files if not os.path.exists(path)]
    relative = [path for path in files if not os.path.isabs(path)]
    if relative and set(relative) <= set(missing):
        why = (
            f"none of its {len(relative):,} relative names, {relative[0]!r} for one, is a file in {os.getcwd()}: check "
            "it in the folder in which it was made, or make it anew if they are gone there"
        )
        source.add("missing file", folder, why=why)
        missing = [path for path in missing if os.path.isabs(path)]
    for path in missing:
        remedy = f"hierpretrain index remove {shlex.quote(folder)} {shlex.quote(path)}"
        source.add("missing file", path, why=f"the index has it; {remedy} takes it out")
    contents = [images.digests[i] or None for i in rows]
    columns = (source.files, source.paths, source.splits)
    source.problems += copies(contents, *([column[i] for i in rows] for column in columns))
    source.notes.append("the images themselves were not opened: check their folder or list for what is wrong in them")
    return source, images
