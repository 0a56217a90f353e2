"""A name for what an encoder makes of images, for files that keep it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_reduce, broadcast_object_list, is_main_process
from torch import Tensor

from hierpretrain.models import HierarchicalContrastive


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

    These are the parts' options and weights, the preprocessor, the pipeline and, if they are given, the images' paths;
    not what is in the image files.

    Args:
        model: The model, not wrapped.
        parts: Names of its parts that are run, such as ``'backbone'``.
        config: The model's config: some options show there alone, others in the built parts alone.
        pipeline: The transforms; their ``repr`` must say all of their options.
        about: What else matters; its ``repr`` must say all of it.
        images: Paths of the images.
        weights: Names and tensors on which the outputs depend; ``None`` for all parameters and buffers of the parts.

    Raises:
        ValueError: If a transform, or another part, prints as an address in memory.
    """
    names = (*parts, "data_preprocessor")
    preprocessor = model.data_preprocessor
    told = (
        {name: _canonical((config or {}).get(name)) for name in names},
        [getattr(model, name) for name in names],
        (preprocessor.mean.tolist(), preprocessor.std.tolist()),
        pipeline,
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
    for image in images:
        digest.update(image.encode(errors="surrogateescape") + b"\0")
    return digest.hexdigest()[:16]


def kept_file(name: Callable[[], Path]) -> tuple[Path, bool]:
    """Returns the file that a function names on the main process, and whether all processes see it."""
    paths: list[Any] = [name() if is_main_process() else None]
    broadcast_object_list(paths)
    seen = torch.tensor(int(paths[0].exists()))  # by all, or they would wait for each other
    all_reduce(seen, "min")
    return paths[0], bool(seen)


def _canonical(options: Any) -> Any:
    """Returns options in one form: a config may say them in any order, and types as names or as import paths."""
    if isinstance(options, Mapping):
        told = {key: _canonical(options[key]) for key in sorted(options) if key != "_scope_"}
        return told | ({"type": str(options["type"]).rpartition(".")[2]} if "type" in options else {})
    return [_canonical(option) for option in options] if isinstance(options, list | tuple) else options
