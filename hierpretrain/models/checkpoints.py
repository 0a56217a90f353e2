"""Pretrained weights from the checkpoints of others; a module that would not get all of its weights is an error."""

from __future__ import annotations

import os
import pickle
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from hierpretrain._texts import short
from hierpretrain.registry import WEIGHT_INITIALIZERS

# what precedes an encoder's names in the checkpoints of torchvision and of the segmentation networks of Towers of Babel
# (nothing), of this toolbox and mmpretrain, and of the classifiers of Towers of Babel
_PREFIXES = ("", "backbone.", "model_ft.")


def select_weights(checkpoint: Mapping[str, Any], names: Collection[str], prefix: str | None = None) -> dict[str, Any]:
    """Takes the weights of one module out of a checkpoint.

    The weights are at the top of the checkpoint or under its ``state_dict``. The prefix ``module.``, which
    ``DataParallel`` puts before every name, is taken away first.

    Args:
        checkpoint: The object that ``torch.load`` returns.
        names: The module's own names, which are the keys of its ``state_dict()``.
        prefix: What precedes the names in the checkpoint. ``None``: nothing, ``'backbone.'`` and ``'model_ft.'`` are
            tried, and the prefix under which most of the names are found is taken.

    Returns:
        The weights that were found, by the module's own names.

    Example:
        >>> found = select_weights({"model_ft.conv1.weight": 1, "model_ft.fc.weight": 2}, ["conv1.weight", "bn1.bias"])
        >>> found
        {'conv1.weight': 1}
    """
    weights = without_module(checkpoint.get("state_dict", checkpoint))
    prefixes = _PREFIXES if prefix is None else (f"{prefix.removesuffix('.')}.",)
    found = [{name: weights[before + name] for name in names if before + name in weights} for before in prefixes]
    return max(found, key=len)  # the first of the longest


def without_module(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Returns weights by name without the ``module.`` that ``DataParallel`` puts before every name.

    Example:
        >>> without_module({"module.fc.weight": 1}), without_module({"module.fc": 1, "fc": 2})
        ({'fc.weight': 1}, {'module.fc': 1, 'fc': 2})
    """
    every = all(name.startswith("module.") for name in weights)
    return {name.removeprefix("module.") if every else name: tensor for name, tensor in weights.items()}


@dataclass(frozen=True)
class Differences:
    """Where the weights of a file and of a network differ; false if they do not, and a sentence if printed.

    Args:
        missing: Names that the network alone has.
        unexpected: Names that the file alone has.
        reshaped: Names of both, with what differs: ``'name is (4,) in the file and (5,) in the model'``.
        unusable: Names of both whose values cannot be taken, with the reason: ``'name is not finite'``.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()
    unusable: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped or self.unusable)

    def __str__(self) -> str:
        lists = [(self.missing, "missing in the file"), (self.unexpected, "in the file alone")]
        lists += [(self.reshaped, "of another shape"), (self.unusable, "unusable")]
        return "; ".join(f"{len(names)} weights are {what}: {first_of(names)}" for names, what in lists if names)


def differences(wanted: Mapping[str, Tensor], found: Mapping[str, Any]) -> Differences:
    """Compares the weights that a network wants with what was found in a file: names, shapes and usable values.

    Args:
        wanted: The network's ``state_dict()``.
        found: What the file has by name.

    Example:
        >>> a, b = torch.zeros(2), torch.zeros(3)
        >>> print(differences({"a": a, "b": b}, {"a": a, "c": a}))
        1 weights are missing in the file: b; 1 weights are in the file alone: c
        >>> print(differences({"a": a, "b": b}, {"a": torch.zeros(4), "b": b.to("meta")}))  # doctest: +ELLIPSIS
        1 weights are of another shape: a is (4,) in the file and (2,) in the model; 1 weights are unusable: b has ...
    """
    reshaped, unusable = [], []
    for name, own in wanted.items():
        if name not in found:
            continue
        if not isinstance(found[name], Tensor):
            unusable.append(f"{name} is no tensor but {type(found[name]).__name__}")
        elif (shape := tuple(found[name].shape)) != tuple(own.shape):
            reshaped.append(f"{name} is {shape} in the file and {tuple(own.shape)} in the model")
        elif reason := why_unusable(found[name], own):
            unusable.append(f"{name} {reason}")
    return Differences(
        tuple(name for name in wanted if name not in found),
        tuple(name for name in found if name not in wanted),
        tuple(reshaped),
        tuple(unusable),
    )


def why_unusable(found: Tensor, wanted: Tensor) -> str:
    """Returns why the values of a weight cannot be taken for a network's, which has the same shape.

    ``load_state_dict`` copies without a word from a tensor that has no values, and casts whatever can be cast:
    integers, the real parts of complex numbers, numbers too large for the network's type. What a network itself has
    that is not finite, as the mask of an attention, may be so in the file.

    Args:
        found: The tensor in the file.
        wanted: The network's own.

    Returns:
        The reason; an empty string if there is none.

    Example:
        >>> why_unusable(torch.tensor([1, 2]), torch.zeros(2))
        'is of torch.int64, and torch.float32 in the model'
        >>> why_unusable(torch.tensor([1.0, torch.nan]), torch.zeros(2)), why_unusable(torch.ones(2), torch.zeros(2))
        ('is not finite: 1 of 2 values', '')
    """
    if found.is_meta:
        return "has no values: it was saved from the device 'meta'"
    if found.is_quantized or found.layout != torch.strided or found.is_nested:
        kind = "quantized" if found.is_quantized else "nested" if found.is_nested else found.layout
        return f"is {kind}, and dense in the model: convert it before it is saved"
    if _kind_of(found.dtype) != _kind_of(wanted.dtype):
        return f"is of {found.dtype}, and {wanted.dtype} in the model"
    if not found.is_floating_point():
        return ""
    found, wanted = found.detach(), wanted.detach()
    values = found.to(wanted.dtype)  # in which a large one may be infinite
    if float(values.abs().sum()) < torch.inf:  # a first look that takes no time
        return ""
    same = values == wanted.to(values.device) if not wanted.is_meta else torch.zeros_like(values, dtype=torch.bool)
    wrong = int((~values.isfinite() & ~same).sum())
    if not wrong:
        return ""
    cast = f" in {wanted.dtype}, the model's type" if bool(found.isfinite().all()) else ""
    return f"is not finite{cast}: {wrong:,} of {found.numel():,} values"


def check_values(state: Any, source: str) -> None:
    """Raises unless every tensor of a state, however deep in dicts and lists, has finite values that can be copied.

    Args:
        state: What a file has, such as the state of an optimizer.
        source: What a message shall call it.

    Raises:
        ValueError: With the path of each tensor that has not.

    Example:
        >>> check_values({"exp_avg": [torch.zeros(2), torch.full((2,), torch.nan)]}, "the optimizer's state")
        Traceback (most recent call last):
        ValueError: the optimizer's state cannot be used: exp_avg.1 is not finite: 2 of 2 values; take another file
    """
    wrong, stack, seen = [], [("", state)], set()
    while stack:
        path, part = stack.pop()
        if id(part) in seen:  # a part that several share, of which a small file may have millions in effect
            continue
        seen.add(id(part))
        if isinstance(part, Tensor):
            kind = "" if _kind_of(part.dtype) in ("real", "integer", torch.bool) else f"is of {part.dtype}"
            if reason := kind or why_unusable(part, part):
                wrong.append(f"{path or 'it'} {reason}")
        elif isinstance(part, Mapping | list | tuple):
            inner = part.items() if isinstance(part, Mapping) else enumerate(part)
            stack.extend(
                (f"{path}.{key if isinstance(key, str) else short(key)}".lstrip("."), value) for key, value in inner
            )
    if wrong:
        raise ValueError(f"{source} cannot be used: {first_of(wrong[::-1])}; take another file")


def check_names(weights: Mapping[Any, Any], source: str) -> None:
    """Raises a ValueError unless weights are known by names.

    Example:
        >>> check_names({("a", 1): torch.zeros(2)}, "x.pth")
        Traceback (most recent call last):
        ValueError: x.pth is damaged: weights have names, and here is ('a', 1); take another file
    """
    for name in weights:
        if not isinstance(name, str):
            raise ValueError(f"{source} is damaged: weights have names, and here is {short(name)}; take another file")


def check_is_there(checkpoint: str) -> None:
    """Raises a ValueError unless a checkpoint is a file or an address.

    Example:
        >>> check_is_there("photos/cat.pth")
        Traceback (most recent call last):
        ValueError: there is no checkpoint photos/cat.pth; give a file or an address
    """
    if os.path.isdir(checkpoint):
        raise ValueError(
            f"{checkpoint} is a folder, and a checkpoint is a file; if processes of a sharded training wrote their "
            "parts there, train with strategy.state_dict_cfg='full'"
        )
    if "://" not in checkpoint and not os.path.isfile(checkpoint):
        raise ValueError(f"there is no checkpoint {checkpoint}; give a file or an address")


def _kind_of(dtype: torch.dtype) -> object:
    """Returns what types that can stand for one another share: the four of weights, and integers."""
    if dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        return "real"
    return dtype if dtype.is_floating_point or dtype.is_complex or dtype == torch.bool else "integer"


def may_be_missing(name: str, found: Collection[str]) -> bool:
    """Returns whether a file may lack a weight: old files lack the counts of batches, which nothing here reads."""
    return name.endswith("num_batches_tracked") and name not in found


def first_of(names: Sequence[str], most: int = 10) -> str:
    """Lists the first names, and says how many others there are.

    Example:
        >>> first_of(["a", "b", "c"], most=2)
        'a, b and 1 more'
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


@WEIGHT_INITIALIZERS.register_module(name="Pretrained")
class StrictPretrained(PretrainedInit):
    """MMEngine's ``Pretrained``, but a module that would keep random weights is an error, not a line in the log.

    Weights that the module lacks are passed over, such as a classifier or the decoder of a segmentation network. In all
    of our models it replaces MMEngine's: ``init_cfg=dict(type='Pretrained', checkpoint=...)``.

    Args:
        checkpoint: A file, or an address such as ``torchvision://resnet50``. Files are loaded with
            ``weights_only=True``.
        prefix: What precedes the module's names in the checkpoint. ``None``: it is found out; see
            :func:`select_weights`.
        map_location: Device to load to, as for ``torch.load``.

    Raises:
        ValueError: If the file is missing or damaged, or a weight of the module is missing in it, has another shape
            or kind, or is not finite.
    """

    def __call__(self, module: nn.Module) -> None:
        """Loads the weights into a module."""
        weights = _load(self.checkpoint, self.map_location)
        wanted = module.state_dict()
        found = select_weights(weights, wanted.keys(), self.prefix)
        wrong = differences({name: own for name, own in wanted.items() if not may_be_missing(name, found)}, found)
        if wrong.missing:
            under = "" if self.prefix is None else f" under {self.prefix!r}"
            raise ValueError(
                f"{self.checkpoint} lacks {len(wrong.missing)} of the {len(wanted)} weights of this "
                f"{type(module).__name__}{under}, the first of them {wrong.missing[0]}; the file has "
                f"{', '.join(list(weights.get('state_dict', weights))[:3])}, ... Give the options of the network that "
                "was saved, or the prefix of its names"
            )
        if wrong:
            raise ValueError(f"{self.checkpoint} is no checkpoint of this {type(module).__name__}: {wrong}")
        module.load_state_dict(found, strict=False)
        print_log(
            f"{len(found)} weights of {type(module).__name__} are from {self.checkpoint}, which has "
            f"{len(weights.get('state_dict', weights)) - len(found)} others",
            logger="current",
        )
        if hasattr(module, "_params_init_info"):
            update_init_info(module, init_info=self._get_init_info())


def _load(checkpoint: str, map_location: Any) -> Mapping[str, Any]:
    check_is_there(checkpoint)
    try:
        loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location=map_location)
    except ValueError:
        raise
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{checkpoint} is damaged or holds more than weights: {error}") from error
    weights = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(weights, Mapping) or not any(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise ValueError(f"{checkpoint} holds no weights by name, neither at its top nor under 'state_dict'")
    check_names(weights, checkpoint)
    return loaded
