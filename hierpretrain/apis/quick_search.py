"""A plain search of a few image files in a folder that carries its encoder in ONNX: without torch, in half a second.

Its answers are those of :class:`~hierpretrain.apis.EmbeddingIndex`, which does all else: where this way cannot be gone,
or anything is wrong, there is no answer, and the index itself gives it or says what is wrong.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hierpretrain._names import LabelNames
from hierpretrain.apis.index_format import ENCODER, FORMAT, MANIFEST, image_path, plain_path
from hierpretrain.apis.neighbours import Neighbour, SearchResult
from hierpretrain.apis.part_files import check_part, parse_manifest, read_whole
from hierpretrain.datasets.image_files import kind_of_file

_MOST_IMAGES, _MOST_VECTORS = 64, 200_000  # beyond these the start is a small part of a search
_ROUNDING = 2e-6  # single-precision cosines of one pair, summed in different orders, differ by less


@dataclass(frozen=True)
class Found:
    """The answer of a quick search.

    Attributes:
        model: The name of the model.
        results: What was found for each file.
    """

    model: str
    results: list[SearchResult]


def quick_search(folder: str | os.PathLike[str], files: Sequence[str], k: int) -> Found | None:
    """Finds the images of an index that are most like those of some files.

    Args:
        folder: The index.
        files: Image files.
        k: How many neighbours, from 1.

    Returns:
        The same as :meth:`EmbeddingIndex.search <hierpretrain.apis.EmbeddingIndex.search>`, with cosines that may
        differ by as much as an exported encoder may; ``None`` where the index has no encoder in ONNX, is not flat or
        large, or anything is wrong.
    """
    if k < 1 or not 1 <= len(files) <= _MOST_IMAGES:
        return None
    try:
        if not all(os.path.isfile(file) and kind_of_file(file) for file in files):
            return None
        manifest = Path(folder, MANIFEST)
        return read_whole(manifest, lambda data: _answer(manifest, data, files, k))
    except Exception:  # whatever it is, the index itself says it better
        return None


def _answer(manifest: Path, data: bytes, files: Sequence[str], k: int) -> Found | None:
    about = parse_manifest(data, manifest, FORMAT, "")
    segments = about["segments"]
    if (
        ENCODER not in about["parts"]
        or not 1 <= about["count"] <= _MOST_VECTORS
        or any(segment["kind"] != "flat" for segment in segments)
    ):
        return None
    from hierpretrain.apis.onnx_encoder import OnnxEncoder

    encoder = OnnxEncoder(check_part(manifest, about["parts"][ENCODER], "").read_bytes())
    if encoder.about["fingerprint"] != about["fingerprint"]:
        return None
    parts = [_Segment.read(manifest, segment) for segment in segments]
    vectors = parts[0].vectors if len(parts) == 1 else np.concatenate([part.vectors for part in parts])
    starts = np.cumsum([0, *(len(part.rows) for part in parts)])
    if len(vectors) != about["count"]:
        return None
    results = []
    for file, embedding in zip(files, encoder(files), strict=True):
        neighbours = []
        for number, score in _nearest(vectors, embedding, k):
            part = int(np.searchsorted(starts, number, side="right")) - 1
            neighbours.append(parts[part].neighbour(number - int(starts[part]), score))
        results.append(SearchResult(plain_path(os.path.expanduser(file)), tuple(neighbours)))
    return Found(about["model"], results)


def _nearest(vectors: NDArray[np.float32], query: NDArray[np.float32], k: int) -> list[tuple[int, float]]:
    """Returns the numbers and the cosines of the k nearest vectors, equal ones in their order."""
    query = query / np.abs(query).max()
    query = (query / np.linalg.norm(query)).astype(np.float32)
    if not np.isfinite(query).all():
        raise ValueError("the embedding of an image is not finite")
    similarities = vectors @ query
    k = min(k, len(vectors))
    near = np.flatnonzero(similarities >= np.partition(similarities, -k)[-k] - _ROUNDING)
    exact = (vectors[near].astype(np.float64) * query.astype(np.float64)).sum(1)
    order = np.lexsort((near, -exact))[:k]
    return list(zip(near[order].tolist(), exact[order].clip(-1, 1).tolist(), strict=True))


@dataclass(frozen=True)
class _Segment:
    """Images that came into an index together, as far as they are still in it.

    Attributes:
        vectors: (n, D), of the images that are.
        rows: (n,), which of all the segment's images they are.
        labels: (m, L) or (m, P, L) labels of all.
        tree: The names and the parents of the nodes of each level, by their numbers.
        images: What is known of all.
        root: What all paths begin with.
    """

    vectors: NDArray[np.float32]
    rows: NDArray[np.int64]
    labels: NDArray[np.int64]
    tree: Mapping[str, Any]
    images: Mapping[str, Any]
    root: str

    @classmethod
    def read(cls, manifest: Path, entry: Mapping[str, Any]) -> _Segment:
        """Reads the parts of a segment, after checking their digests."""
        import faiss

        paths = {name: check_part(manifest, part, "") for name, part in entry["parts"].items()}
        index = faiss.read_index(str(paths["vectors"]))
        vectors = np.empty((index.ntotal, index.d), np.float32)
        index.reconstruct_n(0, index.ntotal, vectors)  # into an array: faiss.contrib.torch_utils would make a tensor
        removed = np.load(paths["removed"], allow_pickle=False) if "removed" in paths else np.zeros(len(vectors), bool)
        labels = np.load(paths["labels"], allow_pickle=False)
        images, tree = (json.loads(paths[name].read_bytes()) for name in ("images", "taxonomy"))
        if not entry["count"] == len(vectors) == len(removed) == len(labels) == len(images["paths"]):
            raise ValueError("parts of a segment are of different numbers of images")
        rows = np.flatnonzero(~removed)
        return cls(vectors if len(rows) == len(vectors) else vectors[rows], rows, labels, tree, images, entry["root"])

    def neighbour(self, number: int, score: float) -> Neighbour:
        """Returns what is known of an image that was found."""
        row = int(self.rows[number])
        width = self.labels.shape[-1]
        paths = [self._names(label) for label in self.labels[row].reshape(-1, width).tolist()] if width else []
        keys, metadata = self.images["keys"], self.images["metadata"]
        return Neighbour(
            image_path(self.root, self.images["paths"][row]),
            score,
            tuple(path for path in paths if path),
            (),
            keys[row] if keys else "",
            {name: column[row] for name, column in metadata.items() if column[row]},
        )

    def _names(self, label: Sequence[int]) -> LabelNames:
        """Returns the names on a path, of which a number of -1 is the end."""
        return tuple(self.tree["names"][level][node] for level, node in enumerate(label) if node >= 0)
