"""The preprocessor: collated uint8 images, of one view or several, become one normalised batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from hierpretrain.checks import check_flag
from hierpretrain.models.encoders.settings import DataSettings
from hierpretrain.registry import MODELS

IMAGENET_MEAN, IMAGENET_STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


@MODELS.register_module()
class MultiViewPreprocessor(BaseDataPreprocessor):
    """Moves a batch to the device, stacks its views one below the other and normalises them.

    Args:
        mean: Mean of each channel, in the order of the images' channels, on the scale 0 to 255. ``None``: the mean that
            the model's encoder was trained with, if it says one (:class:`~hierpretrain.models.DataSettings`), or
            ImageNet's, (123.675, 116.28, 103.53).
        std: Standard deviation of each channel, likewise. ImageNet's is (58.395, 57.12, 57.375).
        channels_last: Whether images are laid out in the memory format ``torch.channels_last``, in which the
            convolutions of a CPU and of tensor cores are fastest.
        non_blocking: Whether copies to the device run beside the computation.

    Attributes:
        deferred: Whether a training batch of bytes is only moved and stacked, so that it stays small. The model then
            calls :meth:`prepare` on some images at a time. A model with ``grad_cache`` sets it.

    Example:
        >>> preprocess = MultiViewPreprocessor(mean=(127.5,), std=(127.5,))
        >>> views = [torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.full((2, 1, 4, 4), 255, dtype=torch.uint8)]
        >>> preprocess(dict(inputs=views, data_samples=None))["inputs"][:, 0, 0, 0].tolist()
        [-1.0, -1.0, 1.0, 1.0]
    """

    def __init__(
        self,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        channels_last: bool = False,
        non_blocking: bool = True,
    ) -> None:
        check_flag(channels_last=channels_last, non_blocking=non_blocking)
        super().__init__(non_blocking=non_blocking)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        self.deferred = False
        # no buffers: averaging those over processes, as SyncBuffersHook does, would round the constants
        self.mean, self.std = _per_channel(mean or IMAGENET_MEAN), _per_channel(std or IMAGENET_STD)
        self._open = mean is None, std is None

    def take_settings(self, settings: DataSettings | None) -> None:
        """Takes the mean and the deviation of an encoder, unless others were given; ``None`` changes nothing."""
        if settings is not None:
            mean_open, std_open = self._open
            self.mean = _per_channel(settings.mean) if mean_open else self.mean
            self.std = _per_channel(settings.std) if std_open else self.std

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any, **kwargs: Any) -> MultiViewPreprocessor:
        self.mean, self.std = fn(self.mean), fn(self.std)
        return super()._apply(fn, *args, **kwargs)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Turns a collated batch into model input.

        Args:
            data: The batch. ``inputs`` is a (B, C, H, W) tensor, a list of one such tensor per view, or (as
                ``pseudo_collate`` leaves them) a list of B images or of B lists of views. ``data_samples`` stay on
                their device, since the loss moves the labels of all samples at once. Instead of ``inputs`` there may
                be ``features``, a (B, views, ...) tensor or a list of B (views, ...) ones: the outputs of a backbone's
                frozen part, which :class:`hierpretrain.engine.FrozenFeaturesHook` keeps.
            training: Whether the batch is for training, which matters only if :attr:`deferred`.

        Returns:
            A dict of ``data_samples`` and ``inputs``: (views x B, C, H, W) float32, view 0 of all images first; still
            uint8 if :attr:`deferred` and ``training``. Of ``features``, ``inputs`` is a tuple whose only entry are the
            (views x B, ...) features in float32.

        Raises:
            ValueError: If the images of a batch differ in size.
        """
        if "features" in data:
            features = self.cast_data(data["features"])
            features = features if isinstance(features, Tensor) else torch.stack(list(features))
            features = features.transpose(0, 1).flatten(0, 1).to(self.mean.dtype)
            return {"inputs": (features,), "data_samples": data.get("data_samples")}
        try:
            inputs = torch.cat(_views(self.cast_data(data["inputs"])))
        except RuntimeError as error:
            raise ValueError(
                f"the images of a batch must have one size; end the pipeline with a crop or a resize to one ({error})"
            ) from error
        if not (training and self.deferred and inputs.dtype == torch.uint8):
            inputs = self.prepare(inputs)
        return {"inputs": inputs, "data_samples": data.get("data_samples")}

    def prepare(self, images: Tensor) -> Tensor:
        """Returns (N, C, H, W) images of 0 to 255 normalised, in float32.

        Images that are float32 already, in the wanted memory format, are changed in place.
        """
        return images.to(self.mean.dtype, memory_format=self.memory_format).sub_(self.mean).div_(self.std)


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1)


def _views(inputs: Tensor | Sequence[Any]) -> Sequence[Tensor]:
    if isinstance(inputs, Tensor):
        return [inputs]
    if isinstance(inputs[0], Tensor):
        return inputs if inputs[0].ndim == 4 else [torch.stack(list(inputs))]
    return [torch.stack(view) for view in zip(*inputs, strict=True)]
