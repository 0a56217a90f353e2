"""An index in Milvus, a data base of vectors on as many machines as it takes, or in a file of milvus-lite."""

from __future__ import annotations

import json
import os
import re
import secrets
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from hierpretrain._names import LabelNames
from hierpretrain.apis.addresses import milvus_address
from hierpretrain.apis.answering import AnsweringIndex
from hierpretrain.apis.branches import find_branch, nodes_of
from hierpretrain.apis.images import Images
from hierpretrain.apis.index_changes import ImageRecord, conditions, lies_in, nothing_fits, records_of
from hierpretrain.apis.index_format import CONFIG, MODEL_PARTS, WEIGHTS
from hierpretrain.apis.index_model import NoModel, load_model
from hierpretrain.apis.living import part_bytes
from hierpretrain.apis.milvus_tables import Tables, checked, literal
from hierpretrain.apis.neighbours import Neighbour, SearchResult
from hierpretrain.checks import check_at_least_1, check_one_of, check_one_width
from hierpretrain.datasets.annotations import NO_SPLIT
from hierpretrain.datasets.joined import joint_levels
from hierpretrain.evaluation import Embeddings
from hierpretrain.functional.approximate import KINDS
from hierpretrain.functional.search import unit_rows
from hierpretrain.taxonomy import Taxonomy

if TYPE_CHECKING:
    from hierpretrain.apis.inferencer import EmbeddingInferencer

_FORMAT = "hierpretrain.milvus.v1"
_FIELDS = ["path", "key", "digest", "labels", "metadata"]
_MOST = 16_384  # neighbours of a query, Milvus's own limit
_SPARE = 16  # neighbours beyond the k-th that show, if they are farther, that no other is as near as it
_ROUNDING = 2e-6  # single-precision cosines of one pair, summed in different orders, differ by less
_QUERIES = 64  # at a time


class MilvusIndex(AnsweringIndex):
    """Embedded images in Milvus, with the methods of :class:`~hierpretrain.apis.EmbeddingIndex`.

    ``EmbeddingIndex.open`` opens one whose name is an address, and ``EmbeddingInferencer.build_index`` makes one.
    Images are rows of a collection, with the vector, ``path``, ``key``, ``metadata``, ``labels``, the ``depth`` in the
    tree and, for each level, ``level1``, ``level2`` and so on: the paths to the image's nodes there, joined by ``'/'``.
    What is known of all images, the tree for example, is in a second collection, ``<name>_about``.

    Each row comes and goes whole, and searches see what was written before them. A change of several images is not one
    of all of them at once, as in a folder: an update brings the new rows before it takes away the old ones.

    Attributes:
        address: Where it is.
        parts: As :attr:`EmbeddingIndex.parts <hierpretrain.apis.EmbeddingIndex>`.
    """

    def __init__(self, address: str, tables: Tables, about: Mapping[str, Any], **model_options: Any) -> None:
        super().__init__(**model_options)
        self.address = address
        self._tables = tables
        self._now = _Moment(tables, about, Taxonomy((), ()), 0)
        self._read_nodes: tuple[Any, list[LabelNames]] = (None, [])  # and what the index was like then
        self.parts: MutableMapping[str, Any] = _Parts(tables)
        self.refresh()

    @classmethod
    def create(
        cls, address: str, *, model: str, fingerprint: str, width: int, kind: str = "auto", replace: bool = False
    ) -> MilvusIndex:
        """Makes an index of no images.

        Args:
            address: Such as ``milvus://localhost:19530/shop``, or ``milvus-lite:///data/shop.db#shop`` for a file.
            model: The name of the model that embeds the images.
            fingerprint: What tells it from all other models.
            width: The length D of an embedding.
            kind: ``'flat'`` is exact, ``'hnsw'`` and ``'ivf'`` are quick for many images, and ``'auto'`` leaves it to
                the server; in a file it is flat.
            replace: Whether an index of the name is replaced.

        Raises:
            ValueError: If there is one of the name, or no such kind.
            ImportError: If pymilvus is missing.
            OSError: If Milvus cannot be reached.
        """
        check_one_of("kind", kind, ("auto", *KINDS))
        check_at_least_1(width=width)
        tables = Tables(milvus_address(address))
        if tables.exist() and not replace:
            raise ValueError(f"there is an index at {address} already: open it, or replace it")
        tables.create(width, kind)
        about = {"format": _FORMAT, "model": model, "fingerprint": fingerprint, "width": width, "kind": kind}
        about["token"] = secrets.token_hex(8)  # tells it from one that is made anew at the address
        tables.tell("index", {"about": json.dumps(about)})
        return cls(address, tables, about)

    @classmethod
    def open(cls, address: str, **model_options: Any) -> MilvusIndex:
        """Opens an index.

        Args:
            address: Where it is.
            model_options: As for :meth:`EmbeddingIndex.open <hierpretrain.apis.EmbeddingIndex.open>`.

        Raises:
            ValueError: If there is none at the address.
            ImportError: If pymilvus is missing.
            OSError: If Milvus cannot be reached.
        """
        where = milvus_address(address)
        missing = where.is_file and not os.path.exists(where.uri)  # the client would make an empty one
        if missing or not (tables := Tables(where)).exist():
            raise ValueError(f"there is no index at {address}; make one there (hierpretrain index)")
        tables.open()
        return cls(address, tables, _read_about(address, tables), **model_options)

    def __len__(self) -> int:
        return self._tables.count(self._tables.images)

    def __repr__(self) -> str:
        return f"MilvusIndex({self.address!r}, {len(self):,} images, {self.width} x float32, {self.taxonomy!r})"

    @property
    def model(self) -> str:
        """The name of the model that made the embeddings, for people."""
        return str(self._now.about["model"])

    @property
    def fingerprint(self) -> str:
        """What tells that model from all others."""
        return self._now.fingerprint

    @property
    def width(self) -> int:
        """The length D of an embedding."""
        return int(self._now.about["width"])

    @property
    def taxonomy(self) -> Taxonomy:
        """The tree of the labels; of no level for images without labels."""
        return self._now.taxonomy

    @property
    def paths(self) -> list[str]:
        """All files, which are read from Milvus."""
        return self._now.paths

    @property
    def keys(self) -> list[str]:
        """All keys, which are read from Milvus; nothing at all where there is none."""
        keys = [row["key"] for row in self._tables.rows(self._tables.images, "id >= 0", ["key"])]
        return keys if any(keys) else []

    @property
    def labels(self) -> Tensor:
        """(N, L) or (N, P, L) labels of all images, which are read from Milvus."""
        rows = self._tables.rows(self._tables.images, "id >= 0", ["labels"])
        return self._moment().encode(rows)

    @property
    def skipped(self) -> dict[str, str]:
        """Files that could not be read when they were given last, each with why; older versions may be in the index."""
        return self._tables.facts("skipped")

    def refresh(self) -> bool:
        """Reads the tree, if another process has made it grow, or the index anew; returns whether one has.

        Images need no such call: every search sees them.

        Raises:
            ValueError: If another model made the index anew: open it again.
        """
        now, about = self._now, _read_about(self.address, self._tables)
        if about["fingerprint"] != now.fingerprint:
            raise ValueError(
                f"the index at {self.address} was made anew by {about['model']!r} (fingerprint "
                f"{about['fingerprint']}); {now.about['model']!r} had made it: open it again"
            )
        if about == now.about and self._tables.count(self._tables.about, 'what == "node"') == now.num_nodes:
            return False
        paths = [tuple(json.loads(text)) for text in self._tables.facts("node").values()]
        levels = self._tables.facts("level")  # after the nodes, for writers tell of levels first
        names = [levels[str(number)] for number in range(1, 1 + max(map(len, paths), default=0))]
        self._now = _Moment(self._tables, about, Taxonomy(paths, names), len(paths))  # at once, for other threads
        return True

    def info(self) -> dict[str, Any]:
        """Returns what is to be known of the index, as JSON has it."""
        parts = self._tables.facts("part").keys()
        return {
            "images": len(self),
            "width": self.width,
            "kind": self._now.about["kind"],
            "half": False,
            "model": self.model,
            "fingerprint": self.fingerprint,
            "carries_model": {CONFIG, WEIGHTS} <= parts,
            "levels": self._level_sizes(),
            "labelled": self._tables.count(self._tables.images, "depth > 0"),
            "keys": len(set(self.keys) - {""}),
            "metadata": sorted(self._tables.facts("column")),
            "skipped": len(self.skipped),
            "parts": sorted(parts - MODEL_PARTS),
        }

    # ---------------------------------------------------------------- changing
    def carry(self, parts: Mapping[str, bytes]) -> None:
        """Takes up the model that embeds images, as :func:`~hierpretrain.apis.index_model.model_parts` gives it."""
        for name, data in parts.items():
            self._tables.write_part(name, data)

    def _load_model(self) -> EmbeddingInferencer:
        if not {CONFIG, WEIGHTS} <= self._tables.facts("part").keys():
            raise NoModel(self.model)
        with tempfile.TemporaryDirectory() as folder:
            weights = os.path.join(folder, "weights.pth")
            with open(weights, "wb") as file:
                file.write(self._tables.read_part(WEIGHTS))
            config = self._tables.read_part(CONFIG)
            return load_model(config, weights, self.model, self.fingerprint, **self._model_options)

    def has_file(self, path: str) -> bool:
        """Returns whether an image of the index is a file."""
        rows = self._tables.images_of({path}, set(), ["path"])
        return any(row["path"] == path for row in rows.values())

    def embeddings(self) -> Embeddings:
        """Returns all images with their embeddings, which are read from Milvus."""
        return self._as_embeddings(self._tables.rows(self._tables.images, "id >= 0", [*_FIELDS, "vector"]))

    def _as_embeddings(self, rows: Sequence[Mapping[str, Any]]) -> Embeddings:
        names = sorted({name for row in rows for name in row["metadata"]})
        keys = [row["key"] for row in rows]
        features = np.array([row["vector"] for row in rows], np.float32).reshape(-1, self.width)
        now = self._moment()  # after the rows, whose nodes are told of before them
        return Embeddings(
            features=torch.from_numpy(features),
            labels=now.encode(rows),
            extra_labels=torch.empty(len(rows), 0, dtype=torch.int64),
            splits=[NO_SPLIT] * len(rows),
            paths=[row["path"] for row in rows],
            taxonomy=now.taxonomy,
            extra_names=(),
            skipped=self.skipped,
            keys=keys if any(keys) else (),
            metadata={name: [row["metadata"].get(name, "") for row in rows] for name in names},
            digests=[row["digest"] for row in rows],
            model=self.model,
            fingerprint=self.fingerprint,
        )

    @contextmanager
    def _changing(self) -> Iterator[None]:
        with self._lock:  # of this process: Milvus itself keeps apart the writes of several
            self.refresh()
            yield

    def _records(self, texts: Collection[str], digests: Collection[str]) -> dict[int, ImageRecord]:
        rows = self._tables.images_of(texts, digests, _FIELDS)
        return {
            number: ImageRecord(row["path"], row["key"], row["digest"], tuple(_places(row)), dict(row["metadata"]))
            for number, row in rows.items()
        }

    def _ids_but(self, names: Collection[str], files: Collection[str]) -> set[int]:
        rows = self._tables.rows(self._tables.images, "id >= 0", ["key", "path"])
        return {
            row["id"] for row in rows if (row["key"] or row["path"]) not in names and not lies_in(row["path"], files)
        }

    def _vectors(self, ids: Sequence[int]) -> Tensor:
        found: dict[int, Any] = {}
        for start in range(0, len(ids), 1000):
            where = f"id in {list(ids[start : start + 1000])}"
            found |= {row["id"]: row["vector"] for row in self._tables.rows(self._tables.images, where, ["vector"])}
        return torch.tensor([found[number] for number in ids], dtype=torch.float32).reshape(-1, self.width)

    def _change(self, gone: Collection[int], new: Embeddings, read: Collection[str] = ()) -> None:
        rows = self._rows(new) if new.paths else []
        self._tell_tree(new)
        self._tables.tell("column", dict.fromkeys(new.metadata, ""))
        self._tables.insert(self._tables.images, rows)
        # between the two, which change the number of images: together they tell of each change, also of half a one
        self._tables.tell("index", {"changed": secrets.token_hex(8)})
        self._tables.delete(self._tables.images, gone)
        if skipped := dict(new.skipped):
            self._tables.tell("skipped", skipped)
        self._tables.forget("skipped", self.skipped.keys() & {*new.paths, *read})
        self.refresh()

    def _rows(self, new: Embeddings) -> list[dict[str, Any]]:
        features = unit_rows(new.features)
        check_one_width(features.shape[1], self.width, "images", "index")
        labels = new.taxonomy.check_own(new.labels, several_paths=True)
        records = records_of(new.paths, new.keys, new.digests, new.taxonomy, labels, new.metadata)
        rows = []
        for number, record, vector in zip(_new_ids(len(features)), records, features.tolist(), strict=True):
            row = {"id": number, "vector": vector, "labels": [list(path) for path in record.labels]}
            row |= {"key": checked(record.key), "path": checked(record.path), "digest": record.digest}
            row |= {"metadata": dict(record.metadata), "depth": max(map(len, record.labels), default=0)}
            for level in range(1, row["depth"] + 1):
                places = {_joined(path[:level]) for path in record.labels if len(path) >= level}
                row[f"level{level}"] = sorted(places)
            rows.append(row)
        return rows

    def _tell_tree(self, new: Embeddings) -> None:
        """Adds the nodes of a tree; each is a row, so that writers who add some at once lose none."""
        joint_levels([self.taxonomy, new.taxonomy])
        theirs = new.taxonomy.level_names
        known = set(self.taxonomy.node_paths())
        paths = [path for path in new.taxonomy.node_paths() if path not in known]
        self._tables.tell("level", {str(number): name for number, name in enumerate(theirs, start=1)} if paths else {})
        self._tables.tell("node", {json.dumps(path): json.dumps(path) for path in paths})

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
        """Finds the nearest images; as :meth:`EmbeddingIndex.search <hierpretrain.apis.EmbeddingIndex.search>`.

        Raises:
            ValueError: As there; and if k, or the images that stand before the k-th node of a level, are more than
                Milvus returns, 16,384.
        """
        number, branch, condition = self._checked(k, level, within, where)
        query = self._embedded(query)
        features = self._unit(query)
        if number is None:
            answers = [[(score, row, ()) for score, row in found] for found in self._nearest(features, k, condition)]
        else:
            answers = self._nearest_nodes(features, k, number, branch, condition)
        results = []
        for i, (path, found) in enumerate(zip(query.paths, answers, strict=True)):
            neighbours = [
                Neighbour(
                    row["path"],
                    min(1.0, max(-1.0, score)),
                    tuple(_places(row)),
                    node,
                    row["key"],
                    dict(row["metadata"]),
                )
                for score, row, node in found
            ]
            metadata = {name: text for name, column in query.metadata.items() if (text := column[i])}
            results.append(SearchResult(path, tuple(neighbours), query.keys[i] if query.keys else "", metadata))
        return results

    def check_search(
        self,
        k: int = 10,
        *,
        level: int | str | None = None,
        within: str | Sequence[str] | None = None,
        where: Mapping[str, str] | None = None,
    ) -> None:
        """Raises unless :meth:`search` can answer; to be called before queries are embedded, not after it."""
        self._checked(k, level, within, where)

    def check_fits(self, where: Mapping[str, str], within: str | Sequence[str] | None = None) -> None:
        """Raises if no image has some metadata, in a branch, with the nearest text that there is."""
        condition = self._checked(1, None, within, where)[-1]
        if condition and not self._has_images(condition):
            asked = conditions(where, self._tables.facts("column"))
            rows = self._tables.rows(self._tables.images, "id >= 0", ["metadata"])
            columns = {name: [row["metadata"].get(name, "") for row in rows] for name, _ in asked}
            raise ValueError(nothing_fits(asked, columns, within))

    def _place(self, part: str = "") -> str:
        return f" at {self.address}"

    def _moment(self) -> _Moment:
        self.refresh()
        return self._now

    def _nodes(self, now: _Moment) -> Collection[LabelNames]:
        last = self._tables.facts("index").get("changed")
        state = (now.about, now.num_nodes, last, len(self))  # before the labels: what changes meanwhile is read again
        before, nodes = self._read_nodes
        if state != before:
            nodes = nodes_of(now.taxonomy, now.labels)
            self._read_nodes = (state, nodes)  # at once, for other threads
        return nodes

    def _has_labels(self, now: _Moment) -> bool:
        return self._has_images("depth > 0")

    def _voters(self, now: _Moment, query: Embeddings, k: int) -> tuple[Tensor, Tensor, Tensor]:
        found = self._nearest(self._unit(query), k, "depth > 0")
        rows = {row["id"]: row for answer in found for _, row in answer}
        number = {key: i for i, key in enumerate(rows)}
        scores = torch.tensor([[score for score, _ in answer] for answer in found], dtype=torch.float64)
        indices = torch.tensor([[number[row["id"]] for _, row in answer] for answer in found])
        return scores, indices, now.encode(list(rows.values()))

    def _checked(
        self,
        k: int,
        level: int | str | None,
        within: str | Sequence[str] | None,
        where: Mapping[str, str] | None,
    ) -> tuple[int | None, LabelNames, str]:
        """Returns the number of a level, the names of a branch, and the condition that images must fulfil."""
        check_at_least_1(k=k)
        if k > _MOST:
            raise ValueError(f"k must be at most {_MOST}, Milvus's own limit; it is {k}")
        now = self._moment()
        tree, wanted = now.taxonomy, []
        for name, texts in conditions(where, self._tables.facts("column") if where else {}):
            column = f"metadata[{literal(name)}]"  # which an image without a text has not
            forms = [f"{column} == {literal(text)}" if text else f"not exists {column}" for text in sorted(texts)]
            forms += [f"{column} like {literal(pattern)}" for text in sorted(texts - {""}) for pattern in _arrays(text)]
            wanted.append(f"({' or '.join(forms)})")
        if level is not None and not tree.num_levels:
            raise ValueError(f"there is no level {level!r}: the images of the index have no labels")
        number = None if level is None else tree.level(level)
        branch: LabelNames = ()
        if within is not None:
            found = find_branch(tree, within, lambda path: self._has_images(_below(path)), lambda: self._nodes(now))
            branch = tree.decode(found[0])
            wanted.append(_below(branch))
        if number is not None:
            wanted.append(f"depth >= {number}")
        return number, branch, " and ".join(wanted)

    def _has_images(self, condition: str) -> bool:
        return self._tables.count(self._tables.images, condition) > 0

    def _unit(self, query: Embeddings) -> Tensor:
        features = unit_rows(query.features, "query")
        check_one_width(features.shape[1], self.width, "query", "index")
        return features

    def _found(self, features: Tensor, width: int, condition: str) -> list[list[tuple[float, Mapping[str, Any]]]]:
        """Returns the cosines, in double precision, and the rows of the nearest images; equal ones in their order."""
        answers = []
        for block in torch.split(features, _QUERIES):
            with self._tables.told():
                hits = self._tables.client.search(
                    self._tables.images,
                    data=block.tolist(),
                    anns_field="vector",
                    limit=width,
                    filter=condition,
                    output_fields=[*_FIELDS, "vector"],
                    search_params={"metric_type": "IP", "params": {"ef": max(64, width)}},
                )
            for vector, found in zip(block.double(), hits, strict=True):
                rows = [{"id": hit["id"], **hit["entity"]} for hit in found]
                vectors = torch.tensor([row["vector"] for row in rows], dtype=torch.float32).reshape(-1, self.width)
                scores = (vectors.double() * vector).sum(1).tolist()
                answers.append(sorted(zip(scores, rows, strict=True), key=lambda one: (-one[0], one[1]["id"])))
        return answers

    def _nearest(self, features: Tensor, k: int, condition: str) -> list[list[tuple[float, Mapping[str, Any]]]]:
        """Returns the k nearest images of each query; where more may be as near as the last, more are looked at."""
        answers: list[Any] = [None] * len(features)
        left, width = list(range(len(features))), min(k + _SPARE, _MOST)
        while left:
            unsure = []
            for i, found in zip(left, self._found(features[left], width, condition), strict=True):
                answers[i] = found[:k]
                if len(found) == width < _MOST and found[k - 1][0] - found[-1][0] <= _ROUNDING:
                    unsure.append(i)
            left, width = unsure, min(4 * width, _MOST)
        return answers

    def _nearest_nodes(
        self, features: Tensor, k: int, level: int, branch: LabelNames, condition: str
    ) -> list[list[tuple[float, Mapping[str, Any], LabelNames]]]:
        """Returns the k nearest nodes of a level, each by its nearest image, for each query."""
        answers: list[Any] = [None] * len(features)
        left, width = list(range(len(features))), min(4 * k + _SPARE, _MOST)
        while left:
            few = []
            for i, found in zip(left, self._found(features[left], width, condition), strict=True):
                nodes: dict[LabelNames, tuple[float, Mapping[str, Any]]] = {}
                for score, row in found:
                    inside = [path for path in _places(row) if len(path) >= level and path[: len(branch)] == branch]
                    for node in sorted({path[:level] for path in inside}):
                        nodes.setdefault(node, (score, row))
                answers[i] = [(*best, node) for node, best in nodes.items()][:k]
                worst = answers[i][-1][0] if len(answers[i]) == k else -2.0
                if len(found) == width and worst - found[-1][0] <= _ROUNDING:
                    few.append(i)
            if few and width == _MOST:
                raise ValueError(
                    f"the nearest {_MOST:,} images, Milvus's own limit, are of {len(answers[few[0]])} nodes of level "
                    f"{level}, and not of {k}: ask for fewer, for a coarser level, or within a branch"
                )
            left, width = few, min(4 * width, _MOST)
        return answers


@dataclass(frozen=True)
class _Moment:
    """What is known of all images at one moment; the images themselves are those of now.

    Attributes:
        tables: Where they are.
        about: What the index is.
        taxonomy: The tree.
        num_nodes: How many nodes it was made of.
    """

    tables: Tables
    about: Mapping[str, Any]
    taxonomy: Taxonomy
    num_nodes: int

    @property
    def fingerprint(self) -> str:
        return str(self.about["fingerprint"])

    @property
    def paths(self) -> list[str]:
        return [row["path"] for row in self.tables.rows(self.tables.images, "id >= 0", ["path"])]

    @property
    def digests(self) -> list[str]:
        return [row["digest"] for row in self.tables.rows(self.tables.images, "id >= 0", ["digest"])]

    @property
    def labels(self) -> Tensor:
        return self.encode(self.tables.rows(self.tables.images, "id >= 0", ["labels"]))

    def encode(self, rows: Sequence[Mapping[str, Any]]) -> Tensor:
        """Returns the labels of images, as far down as the tree goes: one that came later may be of a newer node."""
        return self.taxonomy.encode_known(_places(row) for row in rows)


class _Parts(MutableMapping[str, Any]):
    """What is kept with an index beside its images, by name, as JSON has it."""

    def __init__(self, tables: Tables) -> None:
        self._tables = tables

    def __getitem__(self, name: str) -> Any:
        if name not in list(self):
            raise KeyError(name)
        return json.loads(self._tables.read_part(name))

    def __setitem__(self, name: str, value: Any) -> None:
        self._tables.write_part(name, part_bytes(name, value))

    def __delitem__(self, name: str) -> None:
        if name not in list(self):
            raise KeyError(name)
        self._tables.remove_part(name)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._tables.facts("part").keys() - MODEL_PARTS))

    def __len__(self) -> int:
        return len(list(iter(self)))


_ids_lock, _last_id = threading.Lock(), 0


def _new_ids(count: int) -> range:
    """Returns ids for images, in the order of coming, of writers that know nothing of each other.

    The bits above the 32nd say the second, about, and those below begin at random, for two writers may begin at once;
    within a process the ids go on from the last ones.
    """
    global _last_id
    with _ids_lock:
        first = max((time.time_ns() // 1000 >> 20 << 32) + secrets.randbits(32), _last_id + 1)
        _last_id = first + count - 1
        return range(first, first + count)


def _read_about(address: str, tables: Tables) -> dict[str, Any]:
    """Returns what an index is, as :meth:`MilvusIndex.create` wrote it."""
    about: dict[str, Any] = json.loads(tables.facts("index").get("about", "{}"))
    if about.get("format") != _FORMAT:
        raise ValueError(
            f"the collection at {address} must have the format {_FORMAT!r}; it has {about.get('format')!r}: it is no "
            "index, or of another version; make the index anew (hierpretrain index)"
        )
    return about


def _places(row: Mapping[str, Any]) -> list[LabelNames]:
    return [tuple(path) for path in row["labels"]]


def _below(path: LabelNames) -> str:
    """Returns the condition that an image is at or below a node."""
    return f"json_contains(level{len(path)}, {literal(_joined(path))})"


def _joined(path: LabelNames) -> str:
    """Returns a path as one text; a slash in a name gets a backslash before it."""
    return "/".join(name.replace("\\", "\\\\").replace("/", "\\/") for name in path)


def _arrays(text: str) -> list[str]:
    """Returns the patterns of the arrays in JSON that have a text, or the number that it is, as an entry.

    A ``%`` or ``_`` of the text stands for any sign, for milvus-lite has no way to write them.
    """
    forms = dict.fromkeys(json.dumps(text, ensure_ascii=ascii_only) for ascii_only in (False, True))  # as lists have it
    entries = [*forms, *([text] if re.fullmatch(r"-?\d+(\.\d+)?", text) else [])]
    plain = [re.sub(r"[\\%_]", "_", entry) for entry in entries]
    return [begin + entry + end for entry in plain for begin in ("[", "[%, ") for end in (",%", "]")]
