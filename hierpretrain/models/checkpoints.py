"""Pretrained weights from the checkpoints of others; a module that would not get all of its weights is an error."""

from __future__ import annotations

import os
import pickle
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.logging import print_log
from mmengine.model import PretrainedInit, update_init_info
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

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
    weights = checkpoint.get("state_dict", checkpoint)
    if weights and all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): tensor for name, tensor in weights.items()}
    prefixes = _PREFIXES if prefix is None else (f"{prefix.removesuffix('.')}.",)
    found = [{name: weights[before + name] for name in names if before + name in weights} for before in prefixes]
    return max(found, key=len)  # the first of the longest


@dataclass(frozen=True)
class Differences:
    """Where the weights of a file and of a network differ; false if they do not, and a sentence if printed.

    Args:
        missing: Names that the network alone has.
        unexpected: Names that the file alone has.
        reshaped: Names of both, with what differs: ``'name is (4,) in the file and (5,) in the model'``.
    """

    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    reshaped: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        lists = [(self.missing, "missing in the file"), (self.unexpected, "in the file alone")]
        lists.append((self.reshaped, "of another shape"))
        return "; ".join(f"{len(names)} weights are {what}: {first_of(names)}" for names, what in lists if names)


def differences(wanted: Mapping[str, Sequence[int]], found: Mapping[str, Sequence[int]]) -> Differences:
    """Compares the shapes of the weights that a network wants with those that were found in a file.

    Example:
        >>> print(differences({"a": (2,), "b": (3,)}, {"a": (2,), "c": (4,)}))
        1 weights are missing in the file: b; 1 weights are in the file alone: c
    """
    wanted, found = ({name: tuple(shape) for name, shape in shapes.items()} for shapes in (wanted, found))
    return Differences(
        tuple(name for name in wanted if name not in found),
        tuple(name for name in found if name not in wanted),
        tuple(
            f"{name} is {found[name]} in the file and {shape} in the model"
            for name, shape in wanted.items()
            if found.get(name, shape) != shape
        ),
    )


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
        ValueError: If the file is missing or damaged, or a weight of the module is missing in it or has another shape.
    """

    def __call__(self, module: nn.Module) -> None:
        """Loads the weights into a module."""
        weights = _load(self.checkpoint, self.map_location)
        names = module.state_dict().keys()
        found = select_weights(weights, names, self.prefix)
        try:
            missing = module.load_state_dict(found, strict=False).missing_keys
        except RuntimeError as error:  # torch names the weight and both shapes
            raise ValueError(f"{self.checkpoint} is no checkpoint of this {type(module).__name__}: {error}") from error
        if missing := [name for name in missing if not name.endswith("num_batches_tracked")]:  # which old files lack
            under = "" if self.prefix is None else f" under {self.prefix!r}"
            raise ValueError(
                f"{self.checkpoint} lacks {len(missing)} of the {len(names)} weights of this "
                f"{type(module).__name__}{under}, the first of them {missing[0]}; the file has "
                f"{', '.join(list(weights.get('state_dict', weights))[:3])}, ... Give the options of the network that "
                "was saved, or the prefix of its names"
            )
        print_log(
            f"{len(found)} weights of {type(module).__name__} are from {self.checkpoint}, which has "
            f"{len(weights.get('state_dict', weights)) - len(found)} others",
            logger="current",
        )
        if hasattr(module, "_params_init_info"):
            update_init_info(module, init_info=self._get_init_info())


def _load(checkpoint: str, map_location: Any) -> Mapping[str, Any]:
    if "://" not in checkpoint and not os.path.isfile(checkpoint):
        raise ValueError(f"there is no checkpoint {checkpoint}; init_cfg.checkpoint must be a file or an address")
    try:
        loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location=map_location)
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise ValueError(f"{checkpoint} is damaged or holds more than weights: {error}") from error
    weights = loaded.get("state_dict", loaded) if isinstance(loaded, Mapping) else None
    if not isinstance(weights, Mapping) or not any(isinstance(tensor, Tensor) for tensor in weights.values()):
        raise ValueError(f"{checkpoint} holds no weights by name, neither at its top nor under 'state_dict'")
    return loaded
