"""An index of embedded images that lives: it grows, shrinks, is searched and classifies, in a folder that is whole."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Collection, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from hierpretrain._json import parse_json_bytes
from hierpretrain._names import LabelNames
from hierpretrain.apis.addresses import is_address
from hierpretrain.apis.answering import AnsweringIndex
from hierpretrain.apis.branches import find_branch, label_paths
from hierpretrain.apis.images import Images
from hierpretrain.apis.index_changes import ImageRecord, check_once, conditions, holding, lies_in, nothing_fits
from hierpretrain.apis.index_files import (
    check_target,
    only_writer,
    part_path,
    read_generation,
    write_generation,
)
from hierpretrain.apis.index_format import CONFIG, ENCODER, MODEL_PARTS, WEIGHTS
from hierpretrain.apis.index_model import NoModel, load_model, onnx_part
from hierpretrain.apis.living import check_embedded_by, checked_columns, part_bytes
from hierpretrain.apis.neighbours import Neighbour, SearchResult
from hierpretrain.apis.segments import Generation
from hierpretrain.checks import check_at_least_1, check_one_of
from hierpretrain.evaluation import Embeddings
from hierpretrain.functional.approximate import KINDS, kind_of
from hierpretrain.taxonomy import PAD, Taxonomy, depth, leads_to

if TYPE_CHECKING:
    from hierpretrain.apis.inferencer import EmbeddingInferencer


class EmbeddingIndex(AnsweringIndex):
    """Embedded images that can be searched by cosine similarity, with their files, labels and tree.

    Made by :meth:`build` or :meth:`open`. Where it lies in a folder, every change is in the folder, whole, when the
    method returns, and a process that is killed leaves the index as it was before or after the change. Threads may
    search while another one changes the index: each search sees the images of one moment.

    Attributes:
        folder: Where it lies; ``None`` for an index in memory alone.
        parts: What else is kept with it, by name, as JSON has it, such as ``index.parts["thresholds"]``: a mapping that
            is read from and written to the folder, with the rest of the index whole or not at all.

    Example:
        >>> tree = Taxonomy([("animal", "cat"), ("animal", "dog"), ("tool", "saw")], ("kingdom", "kind"))
        >>> images = Embeddings(
        ...     features=torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.0, 1.0]]), labels=tree.node_labels(2),
        ...     extra_labels=torch.empty(3, 0), splits=["all"] * 3, paths=["cat.jpg", "dog.jpg", "saw.jpg"],
        ...     taxonomy=tree, extra_names=())
        >>> index = EmbeddingIndex.build(images, model="a model", fingerprint="0123", log=lambda line: None)
        >>> for found in index.search(images, k=2, within="animal")[0].neighbours:
        ...     print(found.path, round(found.score, 2), found.labels)
        cat.jpg 1.0 (('animal', 'cat'),)
        dog.jpg 0.8 (('animal', 'dog'),)
        >>> print(index.classify(images, k=2, temperature=0.5)[2])
        tool (0.69) / saw (0.69)
        >>> print(index.add(embeddings=[[0.6, 0.8]], keys=["S7"], paths=[("tool", "axe")]), len(index))
        added 1 (0 embedded), removed 0, kept 0 4
        >>> print(index.remove(["S7", "dog.jpg"]), index.paths)
        added 0, removed 2, kept 0 ['cat.jpg', 'saw.jpg']
    """

    def __init__(
        self, generation: Generation, folder: str | os.PathLike[str] | None = None, **model_options: Any
    ) -> None:
        super().__init__(**model_options)
        self.folder = None if folder is None else Path(folder).absolute()  # wherever the process goes
        self._now = generation
        self._manifest: bytes | None = None
        self.parts: MutableMapping[str, Any] = _Parts(self)

    def __len__(self) -> int:
        return len(self._now)

    def __repr__(self) -> str:
        storage = "float16" if self.half else "float32"
        return f"EmbeddingIndex({len(self):,} images, {self.width} x {storage}, {self.kind!r}, {self.taxonomy!r})"

    @property
    def taxonomy(self) -> Taxonomy:
        """The tree of the labels; of no level for images without labels."""
        return self._now.taxonomy

    @property
    def labels(self) -> Tensor:
        """(N, L) or (N, P, L) label matrix."""
        return self._now.labels

    @property
    def paths(self) -> list[str]:
        """The N files."""
        return self._now.paths

    @property
    def keys(self) -> list[str]:
        """N texts by which people know the images; nothing at all where there is none."""
        return self._now.keys

    @property
    def metadata(self) -> dict[str, list[str]]:
        """What else a list said of the images, N texts by the name of each column."""
        return self._now.metadata

    @property
    def model(self) -> str:
        """The name of the model that made the embeddings, for people."""
        return self._now.model

    @property
    def fingerprint(self) -> str:
        """What tells that model from all others."""
        return self._now.fingerprint

    @property
    def kind(self) -> str:
        """The kind of the index's largest part, ``'flat'``, ``'ivf'`` or ``'hnsw'``."""
        largest = self._now.largest
        return "flat" if largest is None else kind_of(largest.index)[0]

    @property
    def half(self) -> bool:
        """Whether embeddings are stored as float16."""
        return self._now.half

    @property
    def width(self) -> int:
        """The length D of an embedding."""
        return self._now.width

    @property
    def recall(self) -> dict[str, float]:
        """How many of the ten nearest images a search of the largest part finds, if that is not exact."""
        largest = self._now.largest
        return {} if largest is None else dict(largest.recall)

    @property
    def skipped(self) -> dict[str, str]:
        """Files that could not be read when they were given last, each with why; older versions may be in the index."""
        return dict(self._now.skipped)

    # ---------------------------------------------------------------- making and opening
    @classmethod
    def build(
        cls,
        images: Embeddings,
        *,
        model: str,
        fingerprint: str,
        kind: str = "auto",
        half: bool = False,
        seed: int = 0,
        log: Callable[[str], None] = print,
    ) -> EmbeddingIndex:
        """Makes an index of embedded images; equal arguments give equal indexes.

        An index that is not exact is made to look as wide as it must to find 99 % of the ten nearest images, and how
        many it finds is logged: of up to 1,000 images of the set, each searched for among the others.

        Args:
            images: The images; their embeddings need not have length 1.
            model: The name of the model that embedded them.
            fingerprint: What tells it from all other models.
            kind: ``'flat'`` is exact; ``'hnsw'`` and ``'ivf'`` are quick for many images; ``'auto'`` chooses by their
                number: flat up to 200,000, hnsw up to a million, then ivf.
            half: Whether to store float16: half the memory, and scores that are off by up to 1e-3.
            seed: Of the clusters of ``'ivf'``, and of the images that are searched for to measure recall.
            log: What to do with lines of text about it.

        Raises:
            ValueError: If an embedding is not finite or zero, labels do not fit the tree, the images say that another
                model embedded them, or there is no such kind.
        """
        check_one_of("kind", kind, ("auto", *KINDS))
        images.taxonomy.check_own(images.labels, several_paths=True)
        images = checked_columns(images)
        check_once(images.keys, images.paths)
        empty = Generation((), images.taxonomy, model, fingerprint, images.features.shape[-1], kind, half, seed)
        check_embedded_by(images, model, fingerprint)
        index = cls(empty.with_more(images, log))
        index.log = log
        return index

    @classmethod
    def open(cls, folder: str | os.PathLike[str], **model_options: Any) -> EmbeddingIndex:
        """Opens the index in a folder; it answers as the one that was written, bit for bit.

        Args:
            folder: The folder; or the address of an index in Milvus, of which comes a
                :class:`~hierpretrain.apis.milvus.MilvusIndex` that has the same methods.
            model_options: How the model that the index carries is run when images are embedded: options of
                :class:`~hierpretrain.apis.EmbeddingInferencer`, such as ``device`` and ``batch_size``.

        Raises:
            ValueError: If there is none, a part is missing or damaged, or it is of an older version.
        """
        if is_address(folder):
            from hierpretrain.apis.milvus import MilvusIndex  # which needs pymilvus

            return MilvusIndex.open(str(folder), **model_options)  # type: ignore[return-value]
        generation, manifest = read_generation(folder)
        index = cls(generation, folder, **model_options)
        index._manifest = manifest
        return index

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> EmbeddingIndex:
        """Opens the index in a folder: the older name of :meth:`open`."""
        return cls.open(folder)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the index into a folder of its own, in which it lives from then on.

        An index that is there is replaced whole or not at all, and whoever reads it meanwhile gets the older or the new
        one.

        Args:
            folder: ``index.json``, the manifest, says what the index is and names its parts, each a file whose name
                holds its SHA-256. Where images have moved, change each ``root`` in it.

        Raises:
            ValueError: If the folder holds anything but an index, or is an address of Milvus.
            OSError: If it cannot be written.
        """
        if is_address(os.fspath(folder)):
            raise ValueError(
                f"an index is saved to a folder, and {str(folder)!r} is an address: make it there "
                "(EmbeddingInferencer.build_index), or open the index there and merge this one into it"
            )
        check_target(folder)
        with self._lock:
            now = self._now
            if self.folder is not None:  # parts that lie in the other folder alone
                read = {name: part_path(self.folder, file).read_bytes() for name, file in _files(now).items()}
                now = replace(now, parts={**now.parts, **read})
            with only_writer(folder):
                self._now, self._manifest = write_generation(folder, now, stored=False)
            self.folder = Path(folder).absolute()

    def refresh(self) -> bool:
        """Reads what another process has changed in the folder since; returns whether there was anything.

        Raises:
            ValueError: As :meth:`open`; or if another model made the index anew: open it again.
        """
        if self.folder is None:
            return False
        with self._lock:
            now, manifest = read_generation(self.folder, self._now, self._manifest)
            if now is self._now:
                return False
            if now.fingerprint != self._now.fingerprint:
                raise ValueError(
                    f"the index in {self.folder} was made anew by {now.model!r} (fingerprint {now.fingerprint}); "
                    f"{self.model!r} had made it: open it again"
                )
            self._now, self._manifest = now, manifest
            return True

    def info(self) -> dict[str, Any]:
        """Returns what is to be known of the index, as JSON has it."""
        now = self._now
        levels = self._level_sizes()
        told: dict[str, Any] = {
            "images": len(now),
            "width": now.width,
            "kind": self.kind,
            "half": now.half,
            "model": now.model,
            "fingerprint": now.fingerprint,
            "carries_model": {CONFIG, WEIGHTS} <= now.parts.keys(),
            "carries_onnx": ENCODER in now.parts,
            "levels": levels,
            "labelled": int((depth(now.labels) > 0).sum()) if levels and len(now) else 0,
            "keys": len(set(now.keys) - {""}),
            "metadata": sorted(now.metadata),
            "recall": self.recall,
            "skipped": len(now.skipped),
            "segments": [len(segment.rows) for segment in now.segments],
            "parts": sorted(now.parts.keys() - MODEL_PARTS),
        }
        if self.folder is not None:
            told["bytes"] = 0
            for file in self.folder.iterdir():
                with suppress(FileNotFoundError):  # of a part that a writer removes meanwhile
                    told["bytes"] += file.stat().st_size if file.is_file() else 0
        return told

    # ---------------------------------------------------------------- the model
    def carry(self, parts: Mapping[str, bytes]) -> None:
        """Takes up the model that embeds images, as :func:`~hierpretrain.apis.index_model.model_parts` gives it."""
        with self._changing() as now:
            self._put(replace(now, parts={**now.parts, **parts}))

    def carry_onnx(self) -> None:
        """Takes up the encoder in ONNX too, by which ``hierpretrain search`` answers without torch, in half a second.

        Raises:
            ValueError: If the index has no model, and as :func:`~hierpretrain.apis.index_model.onnx_part`.
            ImportError: As there.
        """
        self.carry({ENCODER: onnx_part(self.inferencer)})

    def _load_model(self) -> EmbeddingInferencer:
        now, folder = self._now, self.folder
        if folder is None or not {CONFIG, WEIGHTS} <= now.parts.keys():
            raise NoModel(now.model)
        config, weights = (part_path(folder, str(now.parts[name])) for name in (CONFIG, WEIGHTS))
        return load_model(config.read_bytes(), weights, now.model, now.fingerprint, **self._model_options)

    # ---------------------------------------------------------------- changing
    def has_file(self, path: str) -> bool:
        """Returns whether an image of the index is a file."""
        return path in self._now.files

    def embeddings(self) -> Embeddings:
        """Returns all images with their embeddings and what is known of them."""
        return self._now.embeddings()

    @contextmanager
    def _changing(self) -> Iterator[Generation]:
        """Keeps other writers waiting, threads and processes, and gives the newest generation."""
        with self._lock, nullcontext() if self.folder is None else only_writer(self.folder):
            self.refresh()
            yield self._now

    def _put(self, new: Generation) -> None:
        if self.folder is not None:
            new, self._manifest = write_generation(self.folder, new, stored=True)
        self._now = new

    def _records(self, texts: Collection[str], digests: Collection[str]) -> dict[int, ImageRecord]:
        now = self._now
        known = zip(now.paths, now.keys or now.paths, now.digests, strict=True)
        return now.records(
            [i for i, (path, key, digest) in enumerate(known) if path in texts or key in texts or digest in digests]
        )

    def _ids_but(self, names: Collection[str], files: Collection[str]) -> set[int]:
        known = enumerate(zip(self._now.names, self._now.paths, strict=True))
        return {row for row, (name, path) in known if name not in names and not lies_in(path, files)}

    def _vectors(self, ids: Sequence[int]) -> Tensor:
        return self._now.vectors(torch.tensor(ids, dtype=torch.int64))

    def _change(self, gone: Collection[int], new: Embeddings, read: Collection[str] = ()) -> None:
        rows = torch.zeros(len(self._now), dtype=torch.bool)
        rows[list(gone)] = True
        now = self._now.without(rows, self.log).with_more(new, self.log)
        self._put(replace(now, skipped={path: why for path, why in now.skipped.items() if path not in read}))

    # ---------------------------------------------------------------- asking
    def search(
        self,
        query: Embeddings | Images,
        k: int = 10,
        *,
        level: int | str | None = None,
        within: str | Sequence[str] | None = None,
        where: Mapping[str, str] | None = None,
    ) -> list[SearchResult]:
        """Finds the nearest images, the highest cosine similarity first and equal ones in the order of the index.

        A query that is itself in the index is found too. A search in a branch compares all of its images, whatever the
        kind of the index.

        Args:
            query: The queries, embedded by the index's model, as such or as an (N, D) array; or images, which are
                embedded by it.
            k: How many neighbours, from 1; fewer where there are not as many.
            level: A level of the tree, by its number from 1, the coarsest, or its name: one neighbour for each of the k
                nearest nodes there, the nearest of its images, which ``Neighbour.node`` says; a product once and not
                with each of its photographs. Images that hang above the level are left out; an image of several
                label paths can stand for each of their nodes.
            within: A branch of the tree: the names from below the root, as a sequence or joined by ``'/'``, or the name
                of a node alone if no other has it. An image is in the branch if one of its label paths is.
            where: Texts that the metadata of an image must have: name of the column -> text, each in any Unicode form.
                A number is taken as a text, and an empty text finds images without. Such a search compares all of
                those images too.

        Returns:
            One result a query, in their order.

        Raises:
            ValueError: If k is below 1, there is no such level, branch or column, or embeddings are not as long as the
                index's or say that another model made them.
        """
        now = self._now  # one moment, whatever others change
        number, inside = self._check_search(now, k, level, within, where)
        query = self._embedded(query)
        if number is None:
            scores, indices = now.search(query.features, k, None if inside is None else inside.any(1))
            nodes = indices
        else:
            groups = now.labels[..., number - 1]
            groups = groups[:, None] if groups.ndim == 1 else groups
            groups = groups if inside is None else groups.masked_fill(~inside, PAD)
            scores, indices, nodes = now.search_groups(query.features, k, groups, exact=inside is not None)
        found_once = indices.unique()
        rows = map(tuple, now.labels[found_once].flatten(1).tolist())
        names_of = functools.cache(lambda row: label_paths(now.taxonomy, torch.tensor(row)))  # few classes, many images
        names = dict(zip(found_once.tolist(), map(names_of, rows), strict=True))
        node_names = functools.cache(lambda node: now.taxonomy.node_path(number, node) if number else ())
        results = []
        scores = scores.clamp(-1, 1)  # rounding, of float16 above all, may lead out of it
        rows = zip(query.paths, scores.tolist(), indices.tolist(), nodes.tolist(), strict=True)
        for row, (path, *found) in enumerate(rows):
            neighbours = [
                Neighbour(now.paths[index], score, names[index], node_names(node), *_known(now, index))
                for score, index, node in zip(*found, strict=True)
            ]
            results.append(SearchResult(path, tuple(neighbours), *_known(query, row)))
        return results

    def check_search(
        self,
        k: int = 10,
        *,
        level: int | str | None = None,
        within: str | Sequence[str] | None = None,
        where: Mapping[str, str] | None = None,
    ) -> None:
        """Raises unless :meth:`search` can answer; to be called before queries are embedded, not after it.

        Raises:
            ValueError: As :meth:`search`, but for the embeddings.
        """
        self._check_search(self._now, k, level, within, where)

    def check_fits(self, where: Mapping[str, str], within: str | Sequence[str] | None = None) -> None:
        """Raises if no image has some metadata, in a branch, so that :meth:`search` would find none.

        Args:
            where: As of :meth:`search`.
            within: As of :meth:`search`.

        Raises:
            ValueError: With the nearest text that there is, for one who mistyped it.
        """
        now = self._now
        _, inside = self._check_search(now, 1, None, within, where)
        if inside is not None and not inside.any():
            raise ValueError(nothing_fits(conditions(where, now.metadata), now.metadata, within))

    def _check_search(
        self,
        now: Generation,
        k: int,
        level: int | str | None,
        within: str | Sequence[str] | None,
        where: Mapping[str, str] | None,
    ) -> tuple[int | None, Tensor | None]:
        """Returns the number of the level, and which paths of which images are searched, (N, P) bool; None for all."""
        check_at_least_1(k=k)
        wanted = conditions(where, now.metadata)
        if level is not None and not now.taxonomy.num_levels:
            raise ValueError(f"there is no level {level!r}: the images of the index have no labels")
        number = None if level is None else now.taxonomy.level(level)
        inside = None
        if within is not None:
            branch = find_branch(now.taxonomy, within, now.nodes.__contains__, lambda: now.nodes)
            inside = leads_to(now.labels, branch)
        for name, texts in wanted:
            fits = torch.tensor(holding(now.metadata[name], texts), dtype=torch.bool)[:, None]
            inside = fits if inside is None else inside & fits
        return number, inside

    def _place(self, part: str = "") -> str:
        file = self._now.parts.get(part)
        return "" if self.folder is None else f" in {self.folder}" + (f", {file}," if isinstance(file, str) else "")

    def _moment(self) -> Generation:
        return self._now

    def _nodes(self, now: Generation) -> Collection[LabelNames]:
        return now.nodes

    def _has_labels(self, now: Generation) -> bool:
        return bool((depth(now.labels) > 0).any())

    def _voters(self, now: Generation, query: Embeddings, k: int) -> tuple[Tensor, Tensor, Tensor]:
        labelled = depth(now.labels) > 0
        return *now.search(query.features, k, None if labelled.all() else labelled), now.labels


class _Parts(MutableMapping[str, Any]):
    """What is kept with an index beside its images, by name, as JSON has it."""

    def __init__(self, index: EmbeddingIndex) -> None:
        self._index = index

    def _names(self) -> list[str]:
        return sorted(self._index._now.parts.keys() - MODEL_PARTS)

    def __getitem__(self, name: str) -> Any:
        if name not in self._names():
            raise KeyError(name)
        while True:
            part = self._index._now.parts[name]
            try:
                data = part if isinstance(part, bytes) else part_path(str(self._index.folder), part).read_bytes()
                where = (
                    "a part of the index" if isinstance(part, bytes) else os.path.join(str(self._index.folder), part)
                )
                return parse_json_bytes(data, where, "make the index anew (hierpretrain index)", any_text=True)
            except (ValueError, OSError):
                # another process may have written a newer one, and another thread may have seen that already
                if not self._index.refresh() and self._index._now.parts.get(name) == part:
                    raise

    def __setitem__(self, name: str, value: Any) -> None:
        data = part_bytes(name, value)
        with self._index._changing() as now:
            self._index._put(replace(now, parts={**now.parts, name: data}))

    def __delitem__(self, name: str) -> None:
        with self._index._changing() as now:
            if name not in self._names():
                raise KeyError(name)
            self._index._put(replace(now, parts={key: part for key, part in now.parts.items() if key != name}))

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def __repr__(self) -> str:
        return f"{{{', '.join(f'{name!r}: ...' for name in self._names())}}}"


def _files(now: Generation) -> dict[str, str]:
    return {name: file for name, file in now.parts.items() if isinstance(file, str)}


def _known(images: Generation | Embeddings, row: int) -> tuple[str, dict[str, str]]:
    """Returns the key and the metadata of an image."""
    metadata = {name: text for name, column in images.metadata.items() if (text := column[row])}
    return images.keys[row] if images.keys else "", metadata
