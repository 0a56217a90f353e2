"""An index with its model kept warm, which requests look into and change."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, replace
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.apis.neighbours import Classification, Neighbour
from hierpretrain.apis.thresholds import Calibration
from hierpretrain.datasets.image_files import HEAD, image_kind
from hierpretrain.datasets.loading import decode_rgb
from hierpretrain.datasets.messages import some
from hierpretrain.datasets.on_error import UnreadableImage
from hierpretrain.evaluation import Embeddings
from hierpretrain.files import in_turn, write_whole
from hierpretrain.serve.forms import NewImage
from hierpretrain.serve.image_root import ImageRoot, common_folder
from hierpretrain.serve.limits import Limits, Refusal
from hierpretrain.taxonomy import Taxonomy

_LOG = logging.getLogger("uvicorn.error")
_SHORTEST = 16  # letters of a token
_BRANCHES = 20_000  # that a page is told


class Service:
    """An index with its model kept warm.

    Args:
        index: The folder of an index that carries its model, or its address in Milvus.
        image_root: The folder below which images are shown; by default the deepest that has all images of a folder's
            index, and none for Milvus.
        uploads: A folder in ``image_root``, relative to it, that keeps the images which are added; without it, an index
            gets their embeddings alone.
        token: What a request must know to change the index; without one, nothing is changed.
        limits: How much is taken.
        model_options: Options of :class:`~hierpretrain.apis.EmbeddingInferencer`, such as ``device``.

    Raises:
        ValueError: If there is no such index, it does not carry its model, the token is too short, or ``uploads`` is
            not below the root.
    """

    def __init__(
        self,
        index: str | os.PathLike[str],
        *,
        image_root: str | os.PathLike[str] | None = None,
        uploads: str | None = None,
        token: str | None = None,
        limits: Limits | None = None,
        **model_options: Any,
    ) -> None:
        self.name, self.limits, self.token = os.fspath(index), limits or Limits(), token
        if token is not None and len(token) < _SHORTEST:
            raise ValueError(
                f"a token must have at least {_SHORTEST} letters, so that nobody guesses it; it has {len(token)}: make "
                "one, as python -c 'import secrets; print(secrets.token_hex())' does"
            )
        self.index = EmbeddingIndex.open(self.name, **{"progress": False, **model_options})
        _ = self.index.inferencer.width  # embeds a picture: the first query shall not wait for what is loaded then
        self.stale = self._calibration_error = ""
        with suppress(Refusal):
            self._calibration()  # which says in the log what it refuses
        files = [] if getattr(self.index, "folder", None) is None else self._files()
        self.root = ImageRoot(common_folder(files) if image_root is None else image_root)
        self._warn_of_root(files)
        self.uploads = None if uploads is None else self._checked_uploads(uploads)

    def _checked_uploads(self, uploads: str) -> str:
        if self.root.folder is None:
            raise ValueError(
                "uploads are kept below the image root, and no file of the index tells where that is: give it, "
                "image_root='...' (--image-root ...)"
            )
        folder = self.root.path_of(uploads.rstrip("/"))
        if folder is None or not os.path.realpath(folder).startswith(os.path.realpath(self.root.folder) + "/"):
            raise ValueError(
                f"the folder of uploads must be below the image root, {self.root.folder!r}, and relative to it, as "
                f"'added' is; it is {uploads!r}"
            )
        return folder

    def _files(self) -> list[str]:
        """Returns the paths of images; an embedding that came without a file has its key in place of one."""
        paths = self.index.paths
        keyed = zip(paths, self.index.keys or [""] * len(paths), strict=True)
        return [path for path, key in keyed if path != key or os.path.exists(path)]

    def _warn_of_root(self, files: Sequence[str]) -> None:
        """Says in the log why no picture will be shown, where that is plain from the start."""
        files = [path for path in files if not path.startswith("<")]  # that of a picture in memory is <image 3>
        if not files:
            return
        if self.root.folder is None:
            _LOG.warning(
                "no picture is shown: the images have no folder in common; the first is %r. Give the image root",
                files[0],
            )
        elif not any(map(self.root.name_of, files)):
            _LOG.warning(
                "no picture is shown: no image of the index is below the image root, %r; the first is %r. Give the "
                "root as paths of the index begin",
                self.root.folder,
                files[0],
            )
        elif not os.path.isdir(self.root.folder):
            _LOG.warning(
                "no picture is shown: the folder of the images, %r, is not there; start where the index was made",
                self.root.folder,
            )

    def _calibration(self) -> Calibration | None:
        """Returns what the index learned of its answers.

        Raises:
            Refusal: If answers cannot go by it, since the tree has got other levels, for example.
        """
        try:
            return self.index.calibration
        except ValueError as error:
            if str(error) != self._calibration_error:  # once, and not at every question
                self._calibration_error = str(error)
                _LOG.warning("classes are told only where votes or a threshold are sent: %s", error)
            raise Refusal(
                409,
                "the calibration of the index is damaged or of another tree: calibrate it anew (hierpretrain "
                "calibrate), or send votes or threshold, for a vote that is not calibrated",
            ) from error

    def refresh(self) -> None:
        """Reads what another process has changed in the index; where it cannot, the older state answers on."""
        try:
            self.index.refresh()
            self.stale = ""
        except Exception as error:  # a service that stands still is worse than one that is behind
            if not self.stale:
                _LOG.warning("the index cannot be read again, and its older state answers: %s", error)
            self.stale = "the index cannot be read again, and its older state answers: see the log, and start anew"

    # ---------------------------------------------------------------- asking
    def decode(self, files: Sequence[tuple[str, bytes]]) -> list[Image.Image]:
        """Returns the pictures of files that were sent, each with its name.

        Raises:
            Refusal: If one is no image, or too large.
        """
        pictures = []
        for name, data in files:
            try:
                pictures.append(decode_rgb(data, repr(name), **self.index.inferencer.opening))
            except UnreadableImage as error:
                reason = str(error).partition("; if you trust")[0]  # which whoever sends it cannot tell us
                raise Refusal(400, f"{reason}: send a JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF of usual size") from error
        return pictures

    def queries(self, names: Sequence[str], features: Tensor) -> Embeddings:
        """Returns embedded images without labels."""
        none = torch.empty(len(names), 0, dtype=torch.int64)
        return Embeddings(features, none, none, ["all"] * len(names), list(names), Taxonomy((), ()), ())

    def check_search(self, k: int, **options: Any) -> None:
        """Raises a refusal unless the index can be searched so.

        Args:
            k: How many neighbours.
            options: ``level``, ``within`` and ``where`` of a search.
        """
        self._check_number("k", k)
        try:
            self.index.check_search(k, **options)
        except ValueError as error:
            raise Refusal(400, self.public(error)) from error

    def check_classify(self, options: Mapping[str, float]) -> None:
        """Raises a refusal unless the index can classify with such ``k`` and ``threshold``."""
        if "k" in options:
            self._check_number("votes", int(options["k"]))
        if not options:
            self._calibration()
        try:
            self.index.check_classify(**options)
        except ValueError as error:
            raise Refusal(400, self.public(error)) from error

    def _check_number(self, name: str, number: int) -> None:
        if not 1 <= number <= self.limits.neighbours:
            raise Refusal(400, f"{name} must be from 1 to {self.limits.neighbours}; it is {number}")

    def search(self, queries: Embeddings, k: int, **options: Any) -> list[dict[str, Any]]:
        """Returns what a search finds, as JSON has it, with names in place of paths."""
        try:
            results = self.index.search(queries, k, **options)
        except ValueError as error:
            raise Refusal(400, self.public(error)) from error
        return [
            {"query": result.query, "neighbours": [self._told(found) for found in result.neighbours]}
            for result in results
        ]

    def classify(self, queries: Embeddings, options: Mapping[str, float]) -> list[dict[str, Any]]:
        """Returns where queries belong, as JSON has it."""
        calibrated = not options and self._calibration() is not None
        return [told_class(found, calibrated) for found in self.index.classify(queries, **options)]

    def info(self) -> dict[str, Any]:
        """Returns what is to be known of the index and of the service."""
        calibrated = None  # of a calibration by which it cannot answer
        with suppress(Refusal):
            calibrated = self._calibration() is not None
        about = {**self.index.info(), "calibrated": calibrated}
        limits = {name: value for name, value in asdict(self.limits).items() if name != "workers"}
        return {
            **about,
            "writable": self.token is not None,
            "keeps_uploads": self.uploads is not None,
            "limits": limits,
        }

    def branches(self) -> list[list[str]]:
        """Returns the paths of the nodes that images are at or below, the broadest first."""
        return list(map(list, self.index.branches()[:_BRANCHES]))

    def thumbnail(self, name: str) -> bytes:
        """Returns a small picture of an image of the index.

        Raises:
            Refusal: If the index has no such image, or it cannot be shown.
        """
        path = self.root.path_of(name)
        if path is None or not self.index.has_file(path):
            raise Refusal(404, f"the index has no image {name!r} below its root; give a path as a search answers")
        try:
            return self.root.thumbnail(path)
        except (ValueError, OSError) as error:
            _LOG.warning("no thumbnail: %s", error)
            raise Refusal(404, f"the image {name!r} is gone, cannot be read, or leads out of the root") from error

    def _told(self, found: Neighbour) -> dict[str, Any]:
        name = self.root.name_of(found.path)
        return {**asdict(found), "path": name, "key": found.key or None}

    # ---------------------------------------------------------------- changing
    def knows(self, token: str) -> bool:
        """Returns whether a token is the right one, in a time that tells nothing of it."""
        return self.token is not None and hmac.compare_digest(token.encode(), self.token.encode())

    def add(self, images: Sequence[NewImage], files: Sequence[tuple[str, bytes]], features: Tensor) -> dict[str, int]:
        """Adds images that were embedded.

        Args:
            images: What is known of them.
            files: Their names and bytes.
            features: (n, D) their embeddings.

        Raises:
            Refusal: If the index has one of them, or their labels do not fit its tree.
        """
        keys = [image.key for image in images]
        columns = sorted({name for image in images for name in image.metadata})
        written: list[str] = []
        try:
            # another service of the index must not add an image by a file that is taken back here a moment later
            with nullcontext() if self.uploads is None else in_turn(f"{self.uploads}/images"):
                try:
                    change = self.index.add(
                        embeddings=features,
                        keys=keys,
                        paths=[tuple(image.labels) for image in images],
                        files=self._keep([data for _, data in files], written) if self.uploads else keys,
                        metadata={name: [image.metadata.get(name, "") for image in images] for name in columns},
                    )
                except BaseException:
                    self._take_back(written)
                    raise
        except ValueError as error:
            raise Refusal(409, self.public(error)) from error
        except OSError as error:
            raise _not_written(error) from error
        return asdict(replace(change, embedded=len(images)))

    def remove(self, names: Sequence[str]) -> dict[str, int]:
        """Removes images by their keys, or by their paths below the root; files stay on the disk.

        Raises:
            Refusal: If the index has none of a name; then none is removed.
        """
        unknown, wanted = [], []
        for name in dict.fromkeys(names):
            path = self.root.path_of(name)
            if path is not None and self.index.has_file(path):
                wanted.append(path)
            elif self.index.has_key(name):
                wanted.append(name)
            else:
                unknown.append(name)
        if unknown:
            raise Refusal(
                404,
                f"the index has no image of the key or path {some(unknown)}; nothing was removed: give keys or paths "
                "as a search answers",
            )
        try:
            return asdict(self.index.remove(wanted))
        except ValueError as error:  # another process was faster
            raise Refusal(409, self.public(error)) from error
        except OSError as error:
            raise _not_written(error) from error

    def _keep(self, contents: Sequence[bytes], written: list[str]) -> list[str]:
        """Writes files, named by their content; returns all paths, and appends those that are new to ``written``."""
        paths = []
        for data in contents:
            digest = hashlib.sha256(data).hexdigest()[:32]
            path = f"{self.uploads}/{digest}.{(image_kind(data[:HEAD]) or 'image').lower()}"
            if not os.path.exists(path):
                write_whole(path, data)
                written.append(path)
            paths.append(path)
        return paths

    def _take_back(self, written: Sequence[str]) -> None:
        """Removes the files of a change that failed, but for images that the index has all the same.

        An error may come when the change is made, of the network for example. Where the index cannot be asked, files
        stay: one too many does no harm, and an image of the index without its file does.
        """
        try:
            self.index.refresh()
            for path in written:
                if not self.index.has_file(path):
                    os.unlink(path)
        except (ValueError, OSError) as error:
            _LOG.warning("files of images that were not added stay in %s: %s", self.uploads, error)

    def public(self, error: ValueError) -> str:
        """Returns what an error says, unless it tells where on the disk something is."""
        text = str(error)
        places = [self.root.folder, getattr(self.index, "folder", None), self.name, self.uploads]
        if any(place and str(place) in text for place in places):
            _LOG.warning("refused: %s", text)
            return "the index cannot be changed so; the log of the service says why"
        return text


def told_class(found: Classification, calibrated: bool) -> dict[str, Any]:
    """Returns an answer as JSON has it; of a calibrated index, confidences say how often such an answer is right."""
    return {**asdict(found), "calibrated": calibrated}


def _not_written(error: OSError) -> Refusal:
    """Returns the refusal of a change that the disk did not take; which file it was is for the log alone."""
    _LOG.error("nothing was changed: %s", error)
    why = os.strerror(error.errno) if error.errno else "the disk failed"
    return Refusal(
        507, f"nothing was changed, for the service could not write it: {why}; tell whoever runs the service"
    )
