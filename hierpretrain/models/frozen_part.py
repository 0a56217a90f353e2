"""The frozen first stages of an encoder, run by themselves, and the rest of the encoder, run on what they gave.

Every encoder whose stages run one after the other can be split so, without a word from the encoder itself. Its frozen
part is run by stopping at the output of the last frozen stage. The rest goes on from kept outputs of that stage: the
encoder is called on a single image, whose frozen stages are passed over, and the last of them hands on what was kept.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from hierpretrain.models.stages import layer_depths, stages
from hierpretrain.models.width import as_it_was


class FrozenPart:
    """The stem and the first stages of an encoder, of which no parameter is trained.

    Args:
        encoder: Any module with numbered stages: see :mod:`hierpretrain.models.stages`.

    Raises:
        ValueError: If a parameter of the stem or of the first stage is trained; or, from the methods, if a stage does
            not give one tensor, depends on what is trained, is not in evaluation mode while the encoder trains, or if
            the encoder cannot go on from what was kept.

    Example:
        >>> from hierpretrain.models.stages import freeze_stages
        >>> encoder = nn.Sequential(*[nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU()) for _ in range(3)])
        >>> freeze_stages(encoder, 2)
        >>> part, images = FrozenPart(encoder), torch.rand(4, 3, 8, 8)
        >>> part.prepare(images)
        >>> kept = part.features(images)
        >>> torch.equal(part.go_on(kept), encoder(images)), kept.requires_grad
        (True, False)
    """

    def __init__(self, encoder: nn.Module) -> None:
        self.encoder = encoder
        self.depths = layer_depths(encoder)
        trained = [name for name, parameter in encoder.named_parameters() if parameter.requires_grad]
        all_stages = stages(encoder)
        number = min((self.depths[name] for name in trained), default=len(all_stages) + 1) - 1
        if number < 1:
            at = f"; its stages are {', '.join(name for name, _ in all_stages)}" if all_stages else " and has no stages"
            raise ValueError(
                f"no first stages of the backbone {type(encoder).__name__} are frozen: {len(trained)} of its "
                f"parameters are trained, the first of them {trained[0]}{at}. Freeze its stem and first stages, or all "
                "of it (frozen_stages of a ResNet), or remove FrozenFeaturesHook"
            )
        self.names, self.stages = map(list, zip(*all_stages[:number], strict=True))
        self._examples: dict[torch.Size, tuple[Tensor, list[Any]]] = {}

    def of(self, encoder: nn.Module) -> FrozenPart:
        """Returns the same part of an encoder that is equal up to there, for images of the sizes that are known."""
        other = copy.copy(self)
        other.encoder, other.stages = encoder, [encoder.get_submodule(name) for name in self.names]
        return other

    @property
    def name(self) -> str:
        """The name of the last frozen stage, whose output is kept."""
        return self.names[-1]

    def state(self) -> Iterator[tuple[str, Tensor]]:
        """Yields the parameters and buffers of the frozen part, with their names."""
        number, every = len(self.stages), [name for name, _ in stages(self.encoder)]
        for name, tensor in self.encoder.state_dict().items():
            inside = next((i for i, stage in enumerate(every, start=1) if name.startswith(f"{stage}.")), None)
            owner = name.rpartition(".")[0]
            siblings = [depth for other, depth in self.depths.items() if other.rpartition(".")[0] == owner]
            if (inside or self.depths.get(name, max(siblings, default=0))) <= number:
                yield name, tensor

    def features(self, images: Tensor) -> Tensor:
        """Returns the output of the last frozen stage on preprocessed images; nothing behind it is run."""

        def stop(module: nn.Module, inputs: Any, output: Any) -> None:
            raise _Reached(output)

        handle = self.stages[-1].register_forward_hook(stop)
        try:
            self.encoder(images)
        except _Reached as reached:
            output = reached.output
        else:
            raise ValueError(f"{self._what()} did not run {self.name}, its last frozen stage{_REMEDY}")
        finally:
            handle.remove()
        if not isinstance(output, Tensor):
            raise ValueError(
                f"{self.name}, the last frozen stage of {self._what()}, gives a {type(output).__name__} and not one "
                f"tensor, which alone can be kept{_REMEDY}"
            )
        if output.requires_grad:
            raise ValueError(
                f"{self.name}, the last frozen stage of {self._what()}, depends on parameters that are trained: its "
                f"frozen stages do not run before all that is trained{_REMEDY}"
            )
        return output

    def go_on(self, features: Tensor) -> Any:
        """Returns the encoder's output of kept features, with gradient for what is trained.

        Args:
            features: (N, ...) outputs of the last frozen stage, of images of a size for which :meth:`prepare` was
                called.
        """
        if features.shape[1:] not in self._examples:
            raise ValueError(
                f"{self._what()} was not prepared for features of {tuple(features.shape[1:])} but for "
                f"{', '.join(str(tuple(shape)) for shape in self._examples) or 'none'}; call prepare with images of "
                "their size"
            )
        image, outputs = self._examples[features.shape[1:]]
        last = outputs[-1]
        features = features.to(last.dtype)
        if last.ndim == 4 and last.is_contiguous(memory_format=torch.channels_last) and not last.is_contiguous():
            features = features.contiguous(memory_format=torch.channels_last)
        with ExitStack() as stack:
            for stage, output in zip(self.stages, [*outputs[:-1], features], strict=True):
                stack.enter_context(running(stage, lambda *args, output=output, **kwargs: output))
            return self.encoder(image)

    def prepare(self, images: Tensor) -> None:
        """Learns the size of images, and checks on them that both halves make the whole.

        Args:
            images: (N, C, H, W) preprocessed images, at least two that differ, or the check sees less.
        """
        with as_it_was([self.encoder]):
            with torch.enable_grad():
                self.features(images[:1].clone())  # an error, if it needs a gradient
            self._check_modes(images)
            self._learn(images[:1])
            whole, halves = self.encoder(images.clone()), self._halves(images)
        whole, halves = _last(whole), _last(halves)
        if not _close(whole, halves):
            raise ValueError(
                f"{self._what()} gives something else from the kept output of {self.name}, its last frozen stage, than "
                f"from images: its later stages take more from the image than that output{_REMEDY}"
            )

    def _halves(self, images: Tensor) -> Any:
        try:
            return self.go_on(self.features(images.clone()))
        except (RuntimeError, IndexError, TypeError) as error:
            raise ValueError(
                f"{self._what()} cannot go on from the kept output of {self.name}, its last frozen stage ({error})"
                f"{_REMEDY}"
            ) from error

    def _learn(self, image: Tensor) -> None:
        """Keeps an image and the frozen stages' outputs of it, which stand in for the outputs of all images."""
        outputs: dict[int, Any] = {}
        handles = [
            stage.register_forward_hook(lambda module, inputs, output, i=i: outputs.update({i: output}))
            for i, stage in enumerate(self.stages)
        ]
        try:
            last = self.features(image.clone())
        finally:
            for handle in handles:
                handle.remove()
        if len(outputs) < len(self.stages):
            missing = next(name for i, name in enumerate(self.names) if i not in outputs)
            raise ValueError(f"{self._what()} does not run its frozen stage {missing} before {self.name}{_REMEDY}")
        self._examples[last.shape[1:]] = image.clone(), [outputs[i] for i in range(len(self.stages))]

    def _check_modes(self, images: Tensor) -> None:
        """Raises where a frozen part would not do the same while the encoder trains as in evaluation.

        The encoder is in evaluation mode afterwards.
        """
        self.encoder.train()
        frozen = {name.rpartition(".")[0] for name, _ in self.state()}
        for name, module in self.encoder.named_modules():
            if name in frozen and module.training and any(True for _ in module.buffers(recurse=False)):
                raise ValueError(
                    f"{name}, a frozen part of {self._what()}, is in training mode while the backbone trains, so that "
                    "its output changes: have the backbone's `train` call "
                    "hierpretrain.models.stages.keep_frozen_parts_in_evaluation, or remove FrozenFeaturesHook"
                )
        training = self.features(images.clone())
        self.encoder.eval()
        if not _close(training, self.features(images.clone())):
            raise ValueError(
                f"the output of {self.name}, the last frozen stage of {self._what()}, differs between training and "
                "evaluation: something before it, such as dropout, is random while training. Turn that off, or remove "
                "FrozenFeaturesHook"
            )

    def _what(self) -> str:
        return f"the backbone {type(self.encoder).__name__}"


class _Reached(Exception):
    """No error, but the way out of a network."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


_REMEDY = ". Freeze fewer stages, or all of the backbone, or remove FrozenFeaturesHook"


@contextmanager
def running(module: nn.Module, forward: Callable[..., Any]) -> Iterator[None]:
    """Has a module run another function than its own ``forward``."""
    before = module.__dict__.get("forward")
    module.forward = forward  # type: ignore[method-assign]
    try:
        yield
    finally:
        del module.forward
        if before is not None:
            module.forward = before


def _last(outputs: Any) -> Tensor:
    """Returns the last of several outputs, of whatever nesting."""
    while isinstance(outputs, tuple | list):
        outputs = outputs[-1]
    return outputs


def _close(a: Tensor, b: Tensor) -> bool:
    """Returns whether tensors are equal but for rounding, in whichever precision they were computed."""
    if a.shape != b.shape:
        return False
    tolerance = 1e-3 if a.dtype == torch.float32 else 3e-2
    scale = max(float(a.float().abs().max()), 1e-12)
    return bool((a.float() - b.float()).abs().max() <= tolerance * scale)
