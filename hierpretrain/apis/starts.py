"""Checks of the checkpoints that trainings and tests start from, before anything is loaded from them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from hierpretrain.engine.taxonomy import check_same_tree
from hierpretrain.models import HierarchicalContrastive
from hierpretrain.models.checkpoints import Differences, check_is_there, check_names, differences
from hierpretrain.models.gather import unwrapped


def check_checkpoint(model: nn.Module, checkpoint: str, *, whole: bool = True) -> None:
    """Checks that a checkpoint has every weight of a model, and no others.

    MMEngine would evaluate or train a model with random weights where a checkpoint lacks some. The file may have the
    weights of a projection or a loss that the model leaves out (``None``).

    Args:
        model: The model, wrapped for several processes or not.
        checkpoint: A file, or an address that MMEngine loads from.
        whole: Whether the model is all that was trained; otherwise the file may have the weights of other parts.

    Raises:
        ValueError: If the file is missing, damaged or of another model; the message lists what does not fit.
    """
    if wrong := _compare(model, checkpoint, whole=whole)[0]:
        raise ValueError(
            f"{checkpoint} is no checkpoint of the config's model: {wrong}. Give the config that it was trained with, "
            "and the same --cfg-options"
        )


def check_start(config: Mapping[str, Any], model: nn.Module) -> str | None:
    """Checks that the checkpoint which a training starts from fits its model.

    With ``resume`` it must fit whole. With ``load_from`` alone it must too, unless ``load_from_partly=True``: then at
    least one weight must, and none may have values that cannot be taken.

    Args:
        config: The config with ``load_from``, ``resume`` and ``load_from_partly``.
        model: The model, wrapped for several processes or not.

    Returns:
        What is loaded and what is not, with ``load_from_partly``; else ``None``.

    Raises:
        ValueError: If the file is missing, damaged or does not fit; the message lists what does not.
    """
    file = config.get("load_from")
    if not file:
        return None
    if config.get("resume"):
        check_checkpoint(model, file)
        return None
    wrong, fitting = _compare(model, file)
    if not wrong:
        return None
    if wrong.unusable:  # which MMEngine would take, or take for loaded
        raise ValueError(f"load_from={file} is damaged: {wrong}. Take another checkpoint, or mend this one")
    if not config.get("load_from_partly"):
        raise ValueError(
            f"load_from={file} does not fit the config's model: {wrong}. Give the config that it was trained with, "
            f"or load_from_partly=True, which starts from the {fitting} weights that fit and from scratch otherwise"
        )
    if not fitting:
        raise ValueError(f"nothing of load_from={file} fits the config's model: {wrong}")
    return f"load_from_partly: {fitting} weights are from {file}, and others are not: {wrong}"


def check_tree(config: Mapping[str, Any], model: nn.Module, dataset: Any) -> None:
    """Checks that the classes whose weights a training starts with are the classes of its data.

    Args:
        config: The config with ``load_from``, ``resume`` and ``load_from_partly``, which starts without such weights.
        model: The model, wrapped for several processes or not.
        dataset: The training data.

    Raises:
        ValueError: If the checkpoint was trained with another tree, and its loss has weights.
    """
    loss = getattr(unwrapped(model), "loss_module", None)
    if loss is None or not any(True for _ in loss.parameters()):
        return  # which most losses have none of, so that the file need not be read again
    if (file := config.get("load_from")) and (config.get("resume") or not config.get("load_from_partly")):
        check_same_tree(_read(file), unwrapped(model), dataset, file)


def _read(checkpoint: str) -> dict[str, Any]:
    """Returns what a checkpoint holds, whose ``state_dict`` is a dict."""
    check_is_there(checkpoint)
    try:
        loaded = CheckpointLoader.load_checkpoint(checkpoint, map_location="cpu")
        loaded = dict(loaded) if isinstance(loaded, Mapping) else {}
        return loaded | {"state_dict": dict(loaded["state_dict"].items())}
    except ValueError as error:
        raise ValueError(f"{checkpoint} is damaged or no checkpoint of MMEngine's: {error}") from error
    except (RuntimeError, LookupError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        reason = "its state_dict is missing" if isinstance(error, LookupError) else error
        raise ValueError(f"{checkpoint} is damaged or no checkpoint of MMEngine's: {reason}") from error


def _compare(model: nn.Module, checkpoint: str, *, whole: bool = True) -> tuple[Differences, int]:
    """Returns where a checkpoint and a model differ, and how many weights fit."""
    found = _read(checkpoint)["state_dict"]
    check_names(found, checkpoint)
    if not any(isinstance(tensor, Tensor) for tensor in found.values()):
        raise ValueError(f"{checkpoint} is damaged or no checkpoint of MMEngine's: its state_dict holds no weights")
    model = unwrapped(model)
    if isinstance(model, HierarchicalContrastive):
        found = model.fitted(found)
        if model.pretrained is not None and not any(name.startswith("pretrained.") for name in found):
            raise ValueError(
                f"{checkpoint} has no copy of the encoder before training, and model.pretrained_share is "
                f"{model.pretrained.share:g}: set it to 0, or train with it"
            )
    wanted = model.state_dict()
    if not whole:
        parts = {name.split(".")[0] for name in wanted}
        found = {name: tensor for name, tensor in found.items() if name.split(".")[0] in parts}
    wrong = differences(wanted, found)
    return wrong, len(wanted) - len(wrong.missing) - len(wrong.reshaped) - len(wrong.unusable)
