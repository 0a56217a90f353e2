"""A folder of embeddings for other programs: plain files, which are replaced all at once and can be checked."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from hierpretrain._json import parse_object
from hierpretrain._texts import are_texts, check_texts_in, short
from hierpretrain.apis.part_files import read_whole
from hierpretrain.arrays import read_array
from hierpretrain.datasets.on_error import SKIPPED, write_skipped
from hierpretrain.evaluation import Embeddings
from hierpretrain.files import check_writable, sha256, stand_in, whole_folder, write_json
from hierpretrain.taxonomy import Taxonomy, as_labels

_FEATURES, _LABELS, _IMAGES, _TAXONOMY = "embeddings.npy", "labels.npy", "images.json", "taxonomy.json"
_FILES = (_FEATURES, _LABELS, _IMAGES, _TAXONOMY, SKIPPED)
_MODEL = ("model", "fingerprint")
_MANIFEST, _FORMAT = "manifest.json", "hierpretrain.embeddings.v1"
_REMEDY = "embed the images anew (hierpretrain embed)"


def check_embeddings_target(folder: str | os.PathLike[str]) -> None:
    """Raises unless embeddings may be written to a folder: a new or an empty one, or one that holds embeddings alone.

    Raises:
        ValueError: That names a file that would be lost, or what is in the way.
    """
    folder = Path(folder)
    check_writable(folder / _MANIFEST)
    there = set(os.listdir(folder)) if folder.is_dir() else set()
    if foreign := there - {*_FILES, _MANIFEST}:
        raise ValueError(
            f"{folder} holds {min(foreign)!r}, which would be lost, and is no file of embeddings; give another folder"
        )


def write_embeddings(embedded: Embeddings, folder: str | os.PathLike[str]) -> None:
    """Writes embedded images as plain files; older ones in the folder are replaced whole or not at all.

    Args:
        embedded: The images.
        folder: Where to. It gets ``embeddings.npy``, (N, D) float32; ``labels.npy``, (N, L) or (N, P, L) int64;
            ``images.json`` with paths, splits, skipped files, keys, metadata and the model; ``taxonomy.json``; and
            ``manifest.json`` with the SHA-256 of each.

    Raises:
        ValueError: If they are nothing that :func:`read_embeddings` reads, and as :func:`check_embeddings_target`.
        OSError: If it cannot be written.
    """
    check_embeddings_target(folder)
    _check(embedded, Path(folder), "correct the embeddings that are to be written")
    about = {"paths": list(embedded.paths), "splits": list(embedded.splits), "skipped": dict(embedded.skipped)}
    about |= {name: text for name in _MODEL if (text := getattr(embedded, name))}
    if embedded.keys:
        about["keys"] = list(embedded.keys)
    if embedded.metadata:
        about["metadata"] = {name: list(column) for name, column in embedded.metadata.items()}
    with whole_folder(folder, replace=True) as new:
        for name, array in ((_FEATURES, embedded.features), (_LABELS, as_labels(embedded.labels))):
            np.save(new / name, array.detach().cpu().numpy(), allow_pickle=False)
        write_json(new / _IMAGES, about)
        write_skipped(new / SKIPPED, embedded.skipped)
        embedded.taxonomy.save(new / _TAXONOMY)
        write_json(new / _MANIFEST, {"format": _FORMAT, "sha256": {name: sha256(new / name) for name in _FILES}})
        check_embeddings_target(folder)  # once more: somebody may have put a file there meanwhile


def read_embeddings(folder: str | os.PathLike[str]) -> Embeddings:
    """Reads what :func:`write_embeddings` wrote, after checking that all files are whole and belong together.

    Beside a writer that replaces them, it reads again until all files are of one writing.

    Raises:
        ValueError: If there are no embeddings, or a file is missing, damaged or of others.

    Example:
        >>> import tempfile
        >>> labels = torch.tensor([[0]])
        >>> tree = Taxonomy([("cat",)], ["kind"])
        >>> pets = Embeddings(torch.ones(1, 2), labels, labels[:, :0], ["all"], ["a.jpg"], tree, ())
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_embeddings(pets, folder)
        ...     read_embeddings(folder).paths
        ['a.jpg']
    """
    folder = Path(folder)
    try:
        return read_whole(folder / _MANIFEST, lambda manifest: _read(folder, manifest), parts_change=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"there are no embeddings in {folder}: it has no {_MANIFEST}; {_REMEDY}") from error


def _read(folder: Path, manifest: bytes) -> Embeddings:
    about = parse_object(manifest, folder / _MANIFEST, _REMEDY, any_text=True)
    if about.get("format") != _FORMAT or not isinstance(digests := about.get("sha256"), dict):
        raise ValueError(f"{folder / _MANIFEST} must have the format {_FORMAT!r} and 'sha256'; {_REMEDY}")
    for name in _FILES:
        try:
            digest = sha256(folder / name)
        except FileNotFoundError as error:
            raise ValueError(f"{folder / name} is missing; {_REMEDY}") from error
        except OSError as error:
            raise ValueError(f"{folder / name} cannot be read: {error.strerror}; {_REMEDY}") from error
        if digest != digests.get(name):
            why = stand_in(folder / name) or f"{_MANIFEST} has another SHA-256"
            raise ValueError(f"{folder / name} is damaged or of other embeddings: {why}; {_REMEDY}")
    images = parse_object((folder / _IMAGES).read_bytes(), folder / _IMAGES, _REMEDY, any_text=True)
    tree = Taxonomy.load(folder / _TAXONOMY)
    features = torch.from_numpy(read_array(folder / _FEATURES, _REMEDY, dtype=np.float32))
    labels = torch.from_numpy(read_array(folder / _LABELS, _REMEDY, dtype=np.int64))
    embedded = Embeddings(
        features=features,
        labels=labels,
        extra_labels=torch.empty(len(features), 0, dtype=torch.int64),
        splits=images.get("splits"),
        paths=images.get("paths"),
        taxonomy=tree,
        extra_names=(),
        skipped=images.get("skipped"),
        keys=images.get("keys") or (),
        metadata=images.get("metadata", {}),
        **{name: images.get(name, "") for name in _MODEL},
    )
    _check(embedded, folder, _REMEDY)
    return embedded


def _check(embedded: Embeddings, folder: Path, remedy: str) -> None:
    """Raises unless embedded images are what the files of a folder hold, before writing and after reading them.

    Args:
        embedded: The images.
        folder: The folder, for messages.
        remedy: What to do, for messages.
    """
    features, images = embedded.features, folder / _IMAGES
    if features.ndim != 2 or features.dtype != torch.float32 or not features.isfinite().all():
        raise ValueError(
            f"{folder / _FEATURES} must hold finite numbers of float32, (N, D); they are {features.dtype}, "
            f"{tuple(features.shape)}, {int((~features.isfinite()).sum())} of them not finite; {remedy}"
        )
    try:
        embedded.taxonomy.check_own(embedded.labels, several_paths=True)
    except ValueError as error:
        raise ValueError(f"{folder / _LABELS} cannot be used: {error}; {remedy}") from error
    count = len(features)
    if len(embedded.labels) != count:
        raise ValueError(f"{folder / _LABELS} must be of {count} images; it is of {len(embedded.labels)}; {remedy}")
    if not are_texts(about := [embedded.model, embedded.fingerprint]):
        raise ValueError(f"{images} must hold texts in 'model' and 'fingerprint'; it holds {short(about)}; {remedy}")
    metadata, skipped = embedded.metadata, embedded.skipped
    known = isinstance(metadata, Mapping) and isinstance(skipped, Mapping)
    if not known or not are_texts([*metadata, *skipped, *skipped.values()]):
        raise ValueError(f"{images} must hold objects of texts in 'metadata' and 'skipped'; it does not; {remedy}")
    columns = [("paths", embedded.paths), ("splits", embedded.splits), *metadata.items()]
    columns += [("keys", embedded.keys)] if embedded.keys else []
    for name, column in columns:
        check_texts_in(images, name, column, count, remedy)
