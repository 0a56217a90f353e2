"""A name for what an encoder makes of images, for files that keep it."""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from enum import Enum
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_reduce, broadcast_object_list, is_main_process
from torch import Tensor, nn

from hierpretrain.models import HierarchicalContrastive

_OF_ALL_MODULES = frozenset(vars(nn.Module()))


def encoder_fingerprint(
    model: HierarchicalContrastive,
    parts: Sequence[str],
    config: Mapping[str, Any] | None,
    pipeline: Any,
    *about: Any,
    images: Iterable[str] = (),
    weights: Iterable[tuple[str, Tensor]] | None = None,
) -> str:
    """Returns 16 hex digits that stand for all that the outputs of a model's parts on images depend on.

    These are the parts' options and weights, the preprocessor, the pipeline and, if they are given, the images: their
    absolute paths, and the sizes and times of their files. What is in the files is not read.

    Args:
        model: The model, not wrapped.
        parts: Names of its parts that are run, such as ``'backbone'``.
        config: The model's config: some options show there alone, others in the built parts alone.
        pipeline: The transforms. Their ``repr`` and their attributes must say all of their options.
        about: What else matters; its ``repr`` must say all of it.
        images: Paths of the images, which may lie in archives.
        weights: Names and tensors on which the outputs depend; ``None`` for all parameters and buffers of the parts.

    Raises:
        ValueError: If a transform, or another part, prints as an address in memory.
    """
    names = (*parts, "data_preprocessor")
    preprocessor = model.data_preprocessor
    told = (
        {name: _canonical((config or {}).get(name)) for name in names},
        [getattr(model, name) for name in names],
        tuple(getattr(preprocessor, name, torch.empty(0)).tolist() for name in ("mean", "std")),  # others have none
        pipeline,
        _settings(pipeline),
        about,
    )
    if address := re.search(r"<[\w.<> ]+ at 0x[0-9a-f]+>", text := repr(told)):
        raise ValueError(
            f"{address[0]} does not say its options, so files that are kept for it would never be found again: give "
            "its class a __repr__ that does, or keep nothing (EmbeddingTestLoop's cache=None, no FrozenFeaturesHook)"
        )
    digest = hashlib.sha256(text.encode())
    if weights is None:
        own = [getattr(model, name) for name in parts]
        weights = [entry for part in own if part is not None for entry in part.state_dict().items()]
    for _, tensor in weights:
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    archives: dict[str, str] = {}
    for image in images:
        digest.update(f"{_identity(image, archives)}\0".encode(errors="surrogateescape"))
    return digest.hexdigest()[:16]


def kept_file(name: Callable[[], Path]) -> tuple[Path, bool]:
    """Returns the file that a function names on the main process, and whether all processes see it."""
    paths: list[Any] = [name() if is_main_process() else None]
    broadcast_object_list(paths)
    seen = torch.tensor(int(paths[0].exists()))  # by all, or they would wait for each other
    all_reduce(seen, "min")
    return paths[0], bool(seen)


def _identity(image: str, archives: dict[str, str]) -> str:
    """Returns the state of an image's file; or its name, and the state of the archive that it is stored in.

    Of what is stored elsewhere, as in a table, the name alone says of what it is.

    Args:
        image: The path of the image.
        archives: The states so far, by the folder of what has no file of its own, which is added to.
    """
    if own := _state(image):
        return f"\0{own}"
    home = os.path.dirname(image)
    if home not in archives:
        archives[home] = next(filter(None, map(_state, (home, *map(str, Path(home).parents)))), "")
    return f"{image}\0{archives[home]}"


def _state(path: str) -> str:
    """Returns the absolute path, the size and the time of a file; an empty text for anything else."""
    try:
        found = os.stat(path)
    except OSError:
        return ""
    return "" if stat.S_ISDIR(found.st_mode) else f"{os.path.abspath(path)} {found.st_size} {found.st_mtime_ns}"


def _canonical(options: Any) -> Any:
    """Returns options in one form: a config may say them in any order, and types as names or as import paths."""
    if isinstance(options, Mapping):
        told = {key: _canonical(options[key]) for key in sorted(options) if key != "_scope_"}
        return told | ({"type": str(options["type"]).rpartition(".")[2]} if "type" in options else {})
    return [_canonical(option) for option in options] if isinstance(options, list | tuple) else options


def _settings(part: Any, inside: tuple[int, ...] = ()) -> Any:
    """Returns the values among the attributes of a transform and of what it holds: many a ``repr`` leaves some out.

    Args:
        part: The transform, or one of its attributes.
        inside: The ids of all that it is an attribute of, lest a circle has no end.
    """
    if id(part) in inside:
        return None
    inside = (*inside, id(part))
    if isinstance(part, Tensor | np.ndarray):  # whose own repr leaves out the middle of a long one
        return hashlib.sha256(np.ascontiguousarray(part).tobytes()).hexdigest()
    if isinstance(part, str | bytes | bool | int | float | Enum | torch.dtype | None):
        return part
    if isinstance(part, Mapping):
        return [(str(key), _settings(part[key], inside)) for key in sorted(part, key=str)]
    if isinstance(part, Sequence | Set):
        return [_settings(value, inside) for value in (sorted(part, key=repr) if isinstance(part, Set) else part)]
    own = {key: value for key, value in _attributes(part).items() if key not in _OF_ALL_MODULES}
    return [] if isinstance(part, type | FunctionType | ModuleType) else [type(part).__name__, _settings(own, inside)]


def _attributes(part: Any) -> Mapping[str, Any]:
    """Returns what an object is made of: its attributes, or what it says itself that is to be kept of them.

    An object that defines ``__getstate__`` leaves out what it can make again, as :class:`_FeaturePipeline` of the
    frozen features does its mapped array, which may be as large as a disk, and which its path names.
    """
    attributes = getattr(part, "__dict__", {})
    own = getattr(type(part), "__getstate__", None)
    if not attributes or own is getattr(object, "__getstate__", None):  # all objects have one since Python 3.11
        return attributes
    state = part.__getstate__()
    return state if isinstance(state, Mapping) else attributes
