"""What changes an index, wherever its images lie: adding, removing, updating and merging, and the model that embeds."""

from __future__ import annotations

import json
import os
import re
import threading
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar
from unicodedata import normalize

import numpy as np
import torch
from torch import Tensor

from hierpretrain._json import parse_json
from hierpretrain._names import nfc
from hierpretrain._texts import are_texts, as_text, short
from hierpretrain.apis.image_digests import image_digest
from hierpretrain.apis.images import Images, ImageSet, gather_images, in_levels
from hierpretrain.apis.index_changes import (
    Change,
    ImageRecord,
    UpdatePlan,
    check_known,
    check_new,
    check_once,
    completed,
    count_relabelled,
    in_twice,
    plan_update,
    records_of,
)
from hierpretrain.apis.index_format import MODEL_PARTS, plain_path
from hierpretrain.checks import as_tensor
from hierpretrain.datasets.annotations import NO_SPLIT
from hierpretrain.datasets.folders import numbered_levels
from hierpretrain.datasets.joined import joint_levels
from hierpretrain.datasets.messages import some, warn
from hierpretrain.evaluation import Embeddings
from hierpretrain.taxonomy import Taxonomy

if TYPE_CHECKING:
    from hierpretrain.apis.inferencer import EmbeddingInferencer

_Labelled = TypeVar("_Labelled", ImageSet, Embeddings)


class LivingIndex(ABC):
    """An index that can be changed; its images are known by numbers, which hold for the time of one change.

    Args:
        model_options: Options of the inferencer that the index carries.

    Attributes:
        log: What lines about building parts of an index go to.
    """

    def __init__(self, **model_options: Any) -> None:
        self._lock = threading.RLock()  # of whoever changes the index; who searches needs none
        self._model_options = model_options
        self._inferencer: EmbeddingInferencer | None = None
        self.log: Callable[[str], None] = lambda line: None

    # ---------------------------------------------------------------- what an engine has to do
    @property
    @abstractmethod
    def model(self) -> str:
        """The name of the model that made the embeddings, for people."""

    @property
    @abstractmethod
    def fingerprint(self) -> str:
        """What tells that model from all others."""

    @property
    @abstractmethod
    def width(self) -> int:
        """The length D of an embedding."""

    @property
    @abstractmethod
    def taxonomy(self) -> Taxonomy:
        """The tree of the labels; of no level for images without labels."""

    @abstractmethod
    def has_file(self, path: str) -> bool:
        """Returns whether an image of the index is a file."""

    def has_key(self, key: str) -> bool:
        """Returns whether an image of the index has a key."""
        forms = {key, nfc(key)}  # a list's keys are in one Unicode form
        return any(record.key in forms for record in self._records(forms, set()).values())

    @abstractmethod
    def embeddings(self) -> Embeddings:
        """Returns all images with their embeddings and what is known of them."""

    @abstractmethod
    def _load_model(self) -> EmbeddingInferencer:
        """Builds the model that the index carries, or raises a ValueError."""

    @abstractmethod
    def _changing(self) -> AbstractContextManager[Any]:
        """Keeps other writers waiting, as far as the engine can, and looks at what they have changed."""

    @abstractmethod
    def _records(self, texts: Collection[str], digests: Collection[str]) -> dict[int, ImageRecord]:
        """Returns the images whose key or file is one of the texts, or whose digest is one of the digests."""

    @abstractmethod
    def _ids_but(self, names: Collection[str], files: Collection[str]) -> set[int]:
        """Returns all images but those of some names, and those that are some files, named in NFC, or lie in them."""

    @abstractmethod
    def _vectors(self, ids: Sequence[int]) -> Tensor:
        """Returns the (n, D) embeddings of images."""

    @abstractmethod
    def _change(self, gone: Collection[int], new: Embeddings, read: Collection[str] = ()) -> None:
        """Takes images away and brings others; ``read`` are other files that can be read, and are skipped no more."""

    @property
    @abstractmethod
    def skipped(self) -> dict[str, str]:
        """Files that could not be read when they were given last, each with why; older versions may be in the index."""

    # ---------------------------------------------------------------- the model
    @property
    def inferencer(self) -> EmbeddingInferencer:
        """The model that embeds images for the index, the one that it carries or that :meth:`use_model` set.

        Raises:
            ValueError: If there is none.
        """
        if self._inferencer is None:
            with self._lock:
                if self._inferencer is None:
                    self._inferencer = self._load_model()
        return self._inferencer

    def use_model(self, inferencer: EmbeddingInferencer) -> None:
        """Lets a model embed the images that are given to the index.

        Raises:
            ValueError: If it is not the model that made the index.
        """
        self.check_model(inferencer.fingerprint, inferencer.name, inferencer.width)
        self._inferencer = inferencer

    def check_model(self, fingerprint: str, model: str, width: int) -> None:
        """Raises unless embeddings of a model can be compared with the index's embeddings.

        Args:
            fingerprint: The model's.
            model: Its name.
            width: The length of its embeddings.

        Raises:
            ValueError: If it is not the model that made the index.
        """
        remedy = "use the model that made it, or make the index anew (hierpretrain index)"
        if width != self.width:
            raise ValueError(
                f"the index was made by {self.model!r} with embeddings of {self.width} numbers; {model!r} gives "
                f"{width}: {remedy}"
            )
        if fingerprint != self.fingerprint:
            raise ValueError(
                f"the index was made by {self.model!r} (fingerprint {self.fingerprint}), not by {model!r} "
                f"({fingerprint}): weights or preprocessing differ, and embeddings cannot be compared; {remedy}"
            )

    def _check_embedded(self, images: Embeddings) -> None:
        """Raises a ValueError if embedded images say that another model than the index's embedded them."""
        if images.fingerprint and self.fingerprint:  # those of other programs have none
            self.check_model(images.fingerprint, images.model, images.features.shape[-1])

    def _embedded(self, query: Embeddings | Images) -> Embeddings:
        if isinstance(query, np.ndarray | Tensor) and query.ndim == 2 and as_tensor(query[:0]).is_floating_point():
            names = [f"<image {number}>" for number in range(len(query))]
            return self._from_columns(query, None, None, names, None)
        embedded = query if isinstance(query, Embeddings) else self.inferencer.embed(query)
        self._check_embedded(embedded)
        return embedded

    # ---------------------------------------------------------------- changing
    def add(
        self,
        images: Images | Embeddings | None = None,
        *,
        embeddings: Any = None,
        keys: Sequence[str] | None = None,
        paths: Sequence[Any] | None = None,
        files: Sequence[str] | None = None,
        metadata: Mapping[str, Sequence[str]] | None = None,
        **list_options: Any,
    ) -> Change:
        """Adds images behind the others. It costs little beyond embedding them, however large the index is.

        Args:
            images: What :meth:`~hierpretrain.apis.EmbeddingInferencer.embed` takes, a folder or a list for example; or
                what it returned. The tree grows by the nodes of their labels that are new.
            embeddings: Instead of images: (N, D) embeddings by the index's model, of any length but 0.
            keys: With ``embeddings``: N texts by which people know the images.
            paths: With ``embeddings``: N paths in the tree, each the names from below the root; ``()`` for none, and a
                sequence of paths for an image of several.
            files: With ``embeddings``: their N files; by default the keys.
            metadata: With ``embeddings``: what else is known of them, name -> N texts.
            list_options: How a list is read; see :func:`~hierpretrain.apis.images.gather_images`.

        Raises:
            ValueError: If an image of the same file is in the index, whether or not it can be read now, and not each of
                the two has a key of its own, another model embedded the images, what is given does not fit, as
                :meth:`~hierpretrain.apis.EmbeddingInferencer.embed`, and as :meth:`inferencer`.
        """
        if (images is None) == (embeddings is None):
            raise ValueError("give images, or embeddings of them: one of the two")
        if embeddings is not None:
            new = self._from_columns(embeddings, keys, paths, files, metadata)
            embedded = 0
        elif keys is not None or paths is not None or files is not None or metadata is not None:
            raise ValueError(
                "keys, paths, files and metadata go with embeddings; of images, a list says them (levels=, key_column=)"
            )
        elif isinstance(images, Embeddings):
            new, embedded = images, 0
        else:
            found = gather_images(images, on_error=self.inferencer.on_error, **list_options)
            found = self._checked_new(found)  # not after hours of embedding
            new = self.inferencer.embed_set(found)
            embedded = len(new.paths)
        new = checked_columns(new)
        self._check_embedded(new)
        with self._changing():
            new = self._checked_new(new)
            self._change((), new)
        return Change(added=len(new.paths), embedded=embedded)

    def _checked_new(self, images: _Labelled) -> _Labelled:
        """Returns images in the index's levels; raises a ValueError if the index has one of them, or other levels."""
        images, there = self._in_names(self._in_levels(images))
        check_new({(record.key, record.path) for record in there}, images.keys, images.paths)
        return images

    def _in_names(self, images: _Labelled) -> tuple[_Labelled, list[ImageRecord]]:
        """Returns images whose files are called as the index calls them, relative or absolute, and its own of them.

        A link is a file of its own. A relative name of the index is taken for a file of the working directory if one of
        the given files shows by its content that the index was made here.
        """
        images = replace(images, paths=check_once(images.keys, images.paths))
        given = set(images.paths)
        there = [record for record in self._records(given, set()).values() if record.path in given]
        new = given.difference(record.path for record in there)
        absolute = {os.path.abspath(path): path for path in sorted(new) if os.path.exists(path)}
        real = os.path.realpath  # '..' behind a link leads elsewhere
        absolute = {name: path for name, path in absolute.items() if real(name) == real(path)}
        relative = {os.path.relpath(name): path for name, path in absolute.items()}
        forms = {*absolute, *relative} - given
        others = self._records(forms, set()).values() if forms else ()
        others = [record for record in others if record.path in forms]
        known = {record.path: record for record in others}
        here = any(
            record.digest and record.digest == image_digest(relative[name])
            for name, record in known.items()
            if name in relative
        )
        called = {path: name for name, path in ((relative if here else {}) | absolute).items() if name in known}
        paths = [called.get(path, path) for path in images.paths]
        return replace(images, paths=paths), [*there, *others]

    def _in_keys(self, images: ImageSet, there: Iterable[ImageRecord]) -> ImageSet:
        """Returns images that have the keys by which the index knows their files, where they are given without one."""
        known = defaultdict(list)
        for record in there:
            known[record.path].append(record.key)
        given = list(zip(images.keys or [""] * len(images.paths), images.paths, strict=True))
        taken = set(given)
        rows, keys = [], []
        for i, (key, path) in enumerate(given):
            ours = known.get(path, [""])
            named = [key] if key or "" in ours else [our for our in ours if (our, path) not in taken]
            rows += [i] * len(named)
            keys += named
        return replace(images.subset(rows), keys=keys if any(keys) else ())

    def _in_levels(self, images: _Labelled) -> _Labelled:
        """Returns images with the index's names for levels that have none but the default ones, as a folder's have.

        Raises:
            ValueError: If the levels have other names than the index's.
        """
        ours = self.taxonomy.level_names
        tree = in_levels(images.taxonomy, ours, "the index's")
        columns = "name the columns of a list so in its header, and choose them by --levels (levels=...)"
        joint_levels([self.taxonomy, tree], "index and images", f"the index's are {ours}; {columns}")
        return replace(images, taxonomy=tree)

    def remove(self, keys: str | Iterable[str]) -> Change:
        """Removes images: all that have one of some keys, or are one of some files.

        A name that no image has is looked for again without spaces around it, ``./`` and doubled slashes. If no image
        has that name either, Unicode's other form of it counts, composed or decomposed.

        Raises:
            ValueError: If there is no image of a key; then none is removed.
        """
        wanted = set(_texts([keys] if isinstance(keys, str) else list(keys), "keys"))
        with self._changing():
            found = self._records(wanted, set())
            if others := wanted - _names(found):
                plain = {plain_path(name.strip() or name) for name in others}
                wanted = (wanted - others) | plain
                found |= self._records(plain, set())  # before other forms, which may be names of other files
                others = plain - _names(found)
                found |= self._records({normalize(form, name) for form in ("NFC", "NFD") for name in others}, set())
            check_known(wanted, _names(found))
            self._change(found, self._none())
        return Change(removed=len(found))

    def update(self, images: Images, *, prune: bool = False, **list_options: Any) -> Change:
        """Makes the index agree with images: what is new is added, and what has changed replaced.

        Images are found again by their key, or by their file if they have none: the images of a key become the given
        ones of that key. A file whose bytes are the same as those of an image of the index is not embedded again, also
        where it has moved; only its path, labels and metadata are renewed. What the source of an image says nothing of
        stays as it is: of single files and patterns the key, the labels and the metadata, of a folder the key and the
        metadata; and a folder below the one that the index was made of is placed where it lies, if the index has images
        of it. Of a file or a folder that cannot be read now, the index keeps what it has, also with ``prune``. All
        changes come at once.

        Args:
            images: Files, folders, lists and so on, as for :meth:`add`.
            prune: Whether images of the index that are not given are removed, so that it is a mirror of them.
            list_options: How a list is read.

        Raises:
            ValueError: As :meth:`add`; with ``prune`` also if no image is given.
        """
        own = self._inferencer
        on_error = self._model_options.get("on_error", "error") if own is None else own.on_error
        found = gather_images(images, on_error=on_error, **list_options)
        found = self._in_keys(*self._in_names(self._in_levels(found)))
        digests = [image_digest(source) for source in found.sources]
        columns = (found.paths, found.keys, digests, found.taxonomy, found.labels, found.metadata)
        said = list(records_of(*columns))
        names, contents = {record.name for record in said} | set(found.missing_keys), set(digests) - {""}
        vectors: dict[int, Tensor] = {}  # of the given images that were embedded
        failed = dict(found.skipped)

        def plan() -> tuple[UpdatePlan, list[ImageRecord], dict[int, ImageRecord]]:
            """Plans, and embeds what no image of the index has a vector for."""
            there = self._records(names.union(found.paths), contents)
            given = completed(said, there.values(), found.silent, found.folders)
            while True:
                planned = plan_update(there, given, failed)
                missing = [i for i, like in planned.coming if like is None and i not in vectors]
                if not missing:
                    return planned, given, there
                embedded = self.inferencer.embed_set(found.subset(missing), need_one=False)
                self._check_embedded(embedded)
                failed.update(embedded.skipped)
                read = [i for i in missing if found.paths[i] not in embedded.skipped]
                vectors.update(zip(read, embedded.features, strict=True))
                for i, digest in zip(read, embedded.digests, strict=True):
                    digests[i] = digest  # the file may have changed since

        plan()  # the long work, while others may write
        with self._changing():
            planned, given, there = plan()
            gone, coming = planned.gone, planned.coming
            if prune:
                gone |= self._ids_but(names, set(map(nfc, failed)))
            alike = [like for _, like in coming if like is not None]
            known = dict(zip(alike, self._vectors(alike), strict=True))
            features = [vectors[i] if like is None else known[like] for i, like in coming]
            chosen = [replace(given[i], digest=digests[i]) for i, _ in coming]
            levels = max(self.taxonomy.level_names, found.taxonomy.level_names, key=len)
            new = replace(
                _of_records(chosen, levels, found.metadata),
                features=torch.stack(features) if features else torch.empty(0, self.width),
                skipped=failed,
            )
            new = self._in_levels(checked_columns(new))  # the index may have got levels meanwhile
            given_now = set(map(nfc, set(found.paths) - failed.keys()))
            read = {path for path in self.skipped if prune or nfc(path) in given_now} - failed.keys()
            if gone or new.paths or failed or read:
                self._change(gone, new, read)
        if twice := in_twice(there, there.keys() - gone - planned.kept, chosen):
            older, newer = zip(*twice, strict=True)
            warn(
                f"{len(twice):,} images are in the index twice now, under {some(older)} and {some(newer)}: remove the "
                "older ones (hierpretrain index remove), or update with --prune (prune=True), unless both shall stay"
            )
        embedded = sum(like is None for _, like in coming)
        relabelled = count_relabelled((there[i] for i in gone & there.keys()), chosen)
        return Change(len(new.paths), len(gone), len(planned.kept), embedded, relabelled)

    def merge(self, other: LivingIndex | str | os.PathLike[str]) -> Change:
        """Adds the images of another index of the same model; nothing is embedded.

        Raises:
            ValueError: If another model made it, or an image of the same file and key is in both.
        """
        if not isinstance(other, LivingIndex):
            from hierpretrain.apis.index import EmbeddingIndex  # which is one of this class

            other = EmbeddingIndex.open(other)
        self.check_model(other.fingerprint, other.model, other.width)
        new = other.embeddings()
        ours = {record.path for record in self._records(new.skipped.keys(), set()).values()}
        return self.add(replace(new, skipped={path: why for path, why in new.skipped.items() if path not in ours}))

    def _from_columns(self, embeddings: Any, keys: Any, paths: Any, files: Any, metadata: Any) -> Embeddings:
        """Returns embedded images that are given column by column."""
        features = torch.as_tensor(embeddings, dtype=torch.float32)
        if features.ndim != 2:
            raise ValueError(f"embeddings must be (N, D), a row an image; their shape is {tuple(features.shape)}")
        names = None if keys is None else list(map(nfc, _texts(keys, "keys")))
        known_by = names if files is None else _texts(files, "files")
        if known_by is None:
            raise ValueError("embeddings need keys or files, by which they are known and can be removed")
        places = [()] * len(features) if paths is None else list(paths)
        places = [place.tolist() if isinstance(place, np.ndarray) else place for place in places]
        if wrong := [place for place in places if not _is_place(place)]:
            remedy = (
                "is a text: give files as files="
                if isinstance(wrong[0], str)
                else "is no such one: give () for no label"
            )
            raise ValueError(
                f"paths are places in the tree, each a sequence of names from below the root; {wrong[0]!r} {remedy}"
            )
        deepest = max((len(names) for place in places for names in _known_by(place)), default=0)
        tree = Taxonomy(places, numbered_levels(deepest))
        return Embeddings(
            features=features,
            labels=tree.encode(places),
            extra_labels=torch.empty(len(features), 0, dtype=torch.int64),
            splits=[NO_SPLIT] * len(features),
            paths=known_by,
            taxonomy=tree,
            extra_names=(),
            keys=names or [],
            metadata={
                name: list(map(nfc, _texts(column, f"metadata {name!r}", may_lack=True)))
                for name, column in _composed(metadata or {}).items()
            },
        )

    def _none(self) -> Embeddings:
        """Returns no images."""
        empty = torch.empty(0, 0, dtype=torch.int64)
        return Embeddings(torch.empty(0, self.width), empty, empty, [], [], Taxonomy((), ()), ())


def _of_records(records: Sequence[ImageRecord], levels: Sequence[str], columns: Iterable[str]) -> Embeddings:
    """Returns images, whose embeddings are still to come, in a tree of the nodes that they hang on.

    Args:
        records: What is known of them.
        levels: Names of the levels; deeper ones are numbered.
        columns: Columns of metadata, beside those that they have.
    """
    paths = [path for record in records for path in record.labels]
    deepest = max(map(len, paths), default=0)
    tree = Taxonomy(paths, [*levels, *numbered_levels(deepest)[len(levels) :]][:deepest])
    columns = dict.fromkeys([*columns, *(name for record in records for name in record.metadata)])
    return Embeddings(
        features=torch.empty(len(records), 0),
        labels=tree.encode(record.labels for record in records),
        extra_labels=torch.empty(len(records), 0, dtype=torch.int64),
        splits=[NO_SPLIT] * len(records),
        paths=[record.path for record in records],
        taxonomy=tree,
        extra_names=(),
        keys=[record.key for record in records],
        metadata={name: [record.metadata.get(name, "") for record in records] for name in columns},
        digests=[record.digest for record in records],
    )


def check_embedded_by(images: Embeddings, model: str, fingerprint: str) -> None:
    """Raises unless embedded images are of the model that an index of them shall be of, if both are known.

    Raises:
        ValueError: If their fingerprints differ.
    """
    if images.fingerprint and fingerprint and images.fingerprint != fingerprint:
        raise ValueError(
            f"the embeddings are of {images.model!r} (fingerprint {images.fingerprint}), and the index would be of "
            f"{model!r} ({fingerprint}): embed the images with this model, or give the name and the fingerprint of "
            "theirs"
        )


def checked_columns(images: Embeddings) -> Embeddings:
    """Returns embedded images as an index can keep them: metadata's names in one Unicode form, and files' names plain.

    Raises:
        ValueError: If columns are not of equally many, or one of texts holds something else.
    """
    if not len(images.labels) == len(images.paths) == len(images.features):
        raise ValueError(
            f"an index needs as many labels and paths as embeddings; there are {len(images.labels)}, "
            f"{len(images.paths)} and {len(images.features)}"
        )
    images = replace(
        images,
        metadata={name: _listed(column) for name, column in _composed(images.metadata).items()},
        **{name: _listed(getattr(images, name)) for name in ("paths", "keys", "digests")},
    )
    count = len(images.paths)
    columns = [("paths", images.paths), *images.metadata.items()]
    columns += [(name, column) for name, column in (("keys", images.keys), ("digests", images.digests)) if column]
    for name, column in columns:
        if len(column) != count:
            raise ValueError(f"an index of {count} images needs as many {name}; there are {len(column)}")
    columns += [("skipped", [*images.skipped, *images.skipped.values()])]
    for name, column in columns:
        if not are_texts(column):
            wrong = next((value for value in column if not isinstance(value, str)), column)
            raise ValueError(f"{name} must be texts, which an index can keep; {short(wrong)} is none: turn it into one")
    skipped = {plain_path(path): reason for path, reason in images.skipped.items()}
    return replace(images, paths=list(map(plain_path, images.paths)), skipped=skipped)


def _listed(column: Any) -> Any:
    """Returns the texts of an array, a tuple or a column of a table as a list; what is no column stays what it is."""
    return column if isinstance(column, str | Mapping) or not isinstance(column, Iterable) else list(column)


def _composed(metadata: Mapping[str, Sequence[Any]]) -> dict[str, Sequence[Any]]:
    """Returns columns by their names in Unicode's composed form."""
    if not are_texts(names := list(metadata)):
        raise ValueError(f"names of metadata must be texts; they are {short(names)}: turn them into texts")
    composed = {nfc(name): column for name, column in metadata.items()}
    if len(composed) < len(names):
        twice = next(name for name in names if name not in composed)
        raise ValueError(f"names of metadata must differ in more than their Unicode form; {twice!r} is there twice")
    return composed


def _names(records: Mapping[int, ImageRecord]) -> set[str]:
    """Returns the keys and the files of images."""
    return {text for record in records.values() for text in (record.key, record.path)}


def _is_place(place: Any) -> bool:
    """Returns whether something is the path of an image in a tree, or its several paths."""
    return isinstance(place, Sequence) and not isinstance(place, str) and all(map(are_texts, _known_by(place)))


def _known_by(place: Sequence[Any]) -> Iterator[Sequence[str]]:
    """Yields the paths of an image: its one, or its several."""
    yield from ((place,) if not place or isinstance(place[0], str) else place)


_PARTS = MODEL_PARTS | {"taxonomy", "skipped", "vectors", "labels", "images", "removed"}  # the index's own


def part_bytes(name: str, value: Any) -> bytes:
    """Returns a part that people keep with an index as JSON, once it was seen that it can be read again.

    Raises:
        ValueError: If the name cannot be a part's, or the value has a number that is not finite or a key twice.
    """
    checked_name(name)
    text = json.dumps(value, indent=1)
    parse_json(text, f"index.parts[{name!r}]", "give finite numbers, and keys that differ as texts", any_text=True)
    return text.encode()


def checked_name(name: str) -> str:
    """Returns the name of a part that people keep with an index.

    Raises:
        ValueError: If it is one of the index's own, or has more than small letters and ``'_'``.
    """
    if not re.fullmatch("[a-z][a-z_]*", name) or name in _PARTS:
        raise ValueError(
            f"a part's name must be of small letters and '_', and not one of the index's own; it is {name!r}"
        )
    return name


def _texts(column: Sequence[Any], name: str, *, may_lack: bool = False) -> list[str]:
    """Returns the texts of a column, of which some may be numbers, and where ``may_lack`` some missing: None or NaN."""
    if isinstance(column, str):
        raise ValueError(f"{name} must be texts, one an image; they are one text, {column!r}")
    texts = list(map(as_text, column))
    if not may_lack and "" in texts:
        row = texts.index("")
        raise ValueError(f"{name} must be texts, by which images are known; number {row} is {column[row]!r}")
    return texts
