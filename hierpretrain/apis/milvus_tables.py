"""The two collections of an index in Milvus: its images, and what is known of all of them."""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from hierpretrain._extras import needed
from hierpretrain.apis.addresses import MilvusAddress
from hierpretrain.engine.log_files import open_log_files_again

LONGEST = 65_535  # bytes of a text, the most that Milvus has
_CHUNK = 45_000  # bytes of a part in a row, as base64 below LONGEST
_ROWS = 1000  # that are written at a time
_TEXTS = 200  # that are looked up at a time
_KINDS = {
    "flat": ("FLAT", {}),
    "hnsw": ("HNSW", {"M": 32, "efConstruction": 200}),
    "ivf": ("IVF_FLAT", {"nlist": 1024}),
    "auto": ("AUTOINDEX", {}),
}


class Tables:
    """The collections of an index, and the client that reads and writes them.

    Args:
        address: Where they are. A token for the server is read from the environment: ``MILVUS_TOKEN``.

    Raises:
        ImportError: If pymilvus is missing.
        OSError: If there is no such server, or the file cannot be opened.
    """

    def __init__(self, address: MilvusAddress) -> None:
        os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # or it tells of each process that reads images
        pymilvus = needed("pymilvus", "an index in Milvus")
        self.address = address
        self.images, self.about = address.collection, f"{address.collection}_about"
        self._types = pymilvus.DataType
        for name in ("pymilvus", "milvus_lite", "grpc._server"):  # whose lines are about their own protocol
            logging.getLogger(name).setLevel(logging.CRITICAL)
        with self.told():
            self.client = pymilvus.MilvusClient(address.uri, token=os.environ.get("MILVUS_TOKEN", ""))
        open_log_files_again()

    @contextmanager
    def told(self) -> Iterator[None]:
        """Makes an error of Milvus one of the system that names the server."""
        from pymilvus.exceptions import MilvusException

        try:
            yield
        except MilvusException as error:
            local = self.address.is_file
            hint = "; milvus-lite is for one process at a time, a server for many" if local else ""
            raise OSError(f"Milvus at {self.address.uri} cannot do it: {error.message or error}{hint}") from error

    def exist(self) -> bool:
        """Returns whether there is such an index."""
        with self.told():
            return bool(self.client.has_collection(self.about)) and bool(self.client.has_collection(self.images))

    def create(self, width: int, kind: str) -> None:
        """Makes empty collections; older ones of the names are dropped.

        Raises:
            ValueError: If a collection of one of the names is no part of an index.
        """
        self._check_own()
        self.drop()
        kind = "flat" if kind == "auto" and self.address.is_file else kind
        index_type, options = _KINDS[kind]
        t = self._types
        with self.told():
            schema = self.client.create_schema(auto_id=False, enable_dynamic_field=True)
            schema.add_field("id", t.INT64, is_primary=True)
            schema.add_field("vector", t.FLOAT_VECTOR, dim=width)
            for name in ("key", "path", "digest"):
                schema.add_field(name, t.VARCHAR, max_length=LONGEST)
            schema.add_field("depth", t.INT64)
            schema.add_field("labels", t.JSON)
            schema.add_field("metadata", t.JSON)
            self._create(self.images, schema, index_type, "IP", options)
            schema = self.client.create_schema(auto_id=False)
            schema.add_field("id", t.VARCHAR, is_primary=True, max_length=64)
            schema.add_field("what", t.VARCHAR, max_length=255)
            schema.add_field("name", t.VARCHAR, max_length=LONGEST)
            schema.add_field("text", t.VARCHAR, max_length=LONGEST)
            schema.add_field("unused", t.FLOAT_VECTOR, dim=2)  # a collection without a vector is none
            self._create(self.about, schema, "FLAT", "L2", {})

    def _create(self, name: str, schema: Any, index_type: str, metric: str, options: Mapping[str, Any]) -> None:
        parameters = self.client.prepare_index_params()
        field = "vector" if name == self.images else "unused"
        parameters.add_index(field, index_type=index_type, metric_type=metric, params=dict(options))
        self.client.create_collection(name, schema=schema, index_params=parameters, consistency_level="Strong")

    def _check_own(self) -> None:
        """Raises if a collection of the names is somebody else's, which would be lost; half an index is ours."""
        for name, own in ((self.images, {"key", "path", "digest", "labels"}), (self.about, {"what", "name", "text"})):
            with self.told():
                there = self.client.describe_collection(name)["fields"] if self.client.has_collection(name) else None
            if there is not None and not own <= {field["name"] for field in there}:
                raise ValueError(
                    f"{self.address.uri} has a collection {name!r} that is no index of HierPretrain's, and would be "
                    "lost; give the index another name"
                )

    def drop(self) -> None:
        """Removes the collections, if they are there."""
        with self.told():
            for name in (self.images, self.about):
                if self.client.has_collection(name):
                    self.client.drop_collection(name)

    def open(self) -> None:
        """Loads the collections into the server's memory, so that they can be searched."""
        with self.told():
            for name in (self.images, self.about):
                self.client.load_collection(name)

    # ---------------------------------------------------------------- rows
    def count(self, table: str, where: str = "") -> int:
        """Returns the number of rows."""
        with self.told():
            return int(self.client.query(table, filter=where, output_fields=["count(*)"])[0]["count(*)"])

    def rows(self, table: str, where: str, fields: Sequence[str]) -> list[dict[str, Any]]:
        """Returns some fields of all rows that fulfil a condition, in the order of their ids."""
        found: list[dict[str, Any]] = []
        with self.told():
            pages = self.client.query_iterator(table, batch_size=_ROWS, filter=where, output_fields=["id", *fields])
            try:
                while page := pages.next():
                    found += page
            finally:
                pages.close()
        return sorted(found, key=lambda row: row["id"])

    def images_of(self, texts: Collection[str], digests: Collection[str], fields: Sequence[str]) -> dict[int, Any]:
        """Returns the images whose key or file is one of some texts, or whose digest is one of some."""
        found: dict[int, Any] = {}
        texts = {text for text in texts if _is_text(text)}  # Milvus has no others
        for condition, values in (("key in {0} or path in {0}", sorted(texts)), ("digest in {0}", sorted(digests))):
            for start in range(0, len(values), _TEXTS):
                where = condition.format(literal(values[start : start + _TEXTS]))
                found |= {row["id"]: row for row in self.rows(self.images, where, fields)}
        return dict(sorted(found.items()))

    def insert(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Writes new rows."""
        with self.told():
            for start in range(0, len(rows), _ROWS):
                self.client.upsert(table, list(rows[start : start + _ROWS]))

    def delete(self, table: str, ids: Collection[Any]) -> None:
        """Removes rows."""
        ids = list(ids)
        with self.told():
            for start in range(0, len(ids), _ROWS):
                self.client.delete(table, ids=ids[start : start + _ROWS])

    # ---------------------------------------------------------------- what is known of all images
    def facts(self, what: str) -> dict[str, str]:
        """Returns the texts of one sort, by their names."""
        rows = self.rows(self.about, f"what == {literal(what)}", ["name", "text"])
        return {row["name"]: row["text"] for row in rows}

    def tell(self, what: str, facts: Mapping[str, str]) -> None:
        """Writes texts of one sort, each at once; others of the sort stay."""
        rows = [
            {"id": _id(what, name), "what": what, "name": checked(name), "text": checked(text), "unused": [0.0, 0.0]}
            for name, text in facts.items()
        ]
        self.insert(self.about, rows)

    def forget(self, what: str, names: Collection[str]) -> None:
        """Removes texts of one sort."""
        self.delete(self.about, [_id(what, name) for name in names])

    def write_part(self, name: str, data: bytes) -> None:
        """Writes a part; an older one is replaced at once, by the text that names its pieces."""
        older = self.facts("part").get(name)
        version = secrets.token_hex(8)
        pieces = [data[start : start + _CHUNK] for start in range(0, len(data), _CHUNK)]
        names = _piece_names(version, len(pieces))
        texts = {one: base64.b64encode(piece).decode() for one, piece in zip(names, pieces, strict=True)}
        for start in range(0, len(texts), 50):  # messages of some megabytes
            self.tell(f"piece_{name}", dict(list(texts.items())[start : start + 50]))
        told = {"version": version, "pieces": len(pieces), "sha256": hashlib.sha256(data).hexdigest()}
        self.tell("part", {name: json.dumps(told)})
        self._forget_pieces(name, older)

    def read_part(self, name: str) -> bytes:
        """Returns a part.

        Raises:
            KeyError: If there is none of the name.
            ValueError: If it is damaged.
        """
        while True:
            told = json.loads(self.facts("part")[name])
            pieces = self.facts(f"piece_{name}")
            ours = [text for key, text in sorted(pieces.items()) if key.startswith(told["version"])]
            data = b"".join(map(base64.b64decode, ours))
            if len(ours) == told["pieces"] and hashlib.sha256(data).hexdigest() == told["sha256"]:
                return data
            if json.loads(self.facts("part")[name]) == told:  # otherwise another process has replaced it
                raise ValueError(f"the part {name!r} of the index in Milvus is damaged; write it anew")

    def remove_part(self, name: str) -> None:
        """Removes a part."""
        older = self.facts("part").get(name)
        self.forget("part", [name])
        self._forget_pieces(name, older)

    def _forget_pieces(self, name: str, told: str | None) -> None:
        """Removes the pieces of a version that was told of; others may be of a writer who is about to tell of them."""
        if told is not None:
            about = json.loads(told)
            self.forget(f"piece_{name}", _piece_names(about["version"], about["pieces"]))


def literal(value: Any) -> str:
    r"""Returns a text or a list of texts as a filter of Milvus has it.

    Example:
        >>> print(literal(['a "b"', "é"]))
        ["a \"b\"", "é"]
    """
    return json.dumps(value, ensure_ascii=False)


def _piece_names(version: str, count: int) -> list[str]:
    return [f"{version}/{number:08}" for number in range(count)]


def _id(what: str, name: str) -> str:
    """Returns the id of a text: plain letters, for the client's pages of rows put them into filters as they are."""
    return hashlib.sha256(json.dumps([what, name]).encode()).hexdigest()


def _is_text(text: str) -> bool:
    return text.encode(errors="ignore").decode() == text


def checked(text: str) -> str:
    """Returns a text that Milvus can store.

    Raises:
        ValueError: If it is too long or, as the name of a file may be, no text.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise ValueError(f"Milvus stores texts alone, and {text!r} is none: rename the file") from error
    if size > LONGEST:
        raise ValueError(f"Milvus stores texts of up to {LONGEST:,} bytes; {text[:40]!r}... has {size:,}")
    return text
