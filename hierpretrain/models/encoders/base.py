"""What the encoders of other libraries share: frozen stages, weights that fit or are an error, and data settings."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from mmengine.logging import print_log
from mmengine.model import BaseModule
from torch import Tensor, nn

from hierpretrain.models.checkpoints import differences, first_of, may_be_missing
from hierpretrain.models.encoders.settings import DataSettings
from hierpretrain.models.stages import freeze_stages, keep_frozen_parts_in_evaluation


class Encoder(BaseModule):
    """A network of another library that turns images into one vector each.

    As with every module of MMEngine, the weights are loaded by :meth:`init_weights`, which training calls, and not when
    the encoder is built: whoever loads a checkpoint needs neither the pretrained weights nor a network.

    Args:
        network: The network, without its classifier.
        settings: Its data settings.
        frozen_stages: How many stages, with the stem before them, are not trained and stay in evaluation mode; see
            :func:`hierpretrain.models.stages.freeze_stages`.
        init_cfg: Only ``None``: the weights are an option of the encoder.

    Raises:
        ValueError: If there are not so many stages, or ``init_cfg`` is given.

    Attributes:
        settings: The :class:`~hierpretrain.models.encoders.settings.DataSettings`.
    """

    def __init__(self, network: nn.Module, settings: DataSettings, frozen_stages: int, init_cfg: None = None) -> None:
        if init_cfg is not None:
            raise ValueError(
                f"{type(self).__name__} takes its weights by weights='path/to/file', not by init_cfg; it is {init_cfg}"
            )
        super().__init__()
        self.network, self.settings, self.frozen_stages = network, settings, frozen_stages
        freeze_stages(network, frozen_stages)

    @classmethod
    @abstractmethod
    def data_settings(cls, **options: Any) -> DataSettings:
        """Returns the data settings of the encoder that these options build, without building it."""

    @abstractmethod
    def load_weights(self) -> str | None:
        """Loads the pretrained weights and returns where they are from; ``None`` if there are none to be loaded."""

    def init_weights(self) -> None:
        """Loads the pretrained weights, once; the network's own way of drawing random ones is not called again."""
        if not self.is_init:
            if source := self.load_weights():
                print_log(f"the weights of {type(self).__name__} are from {source}", logger="current")
            self.is_init = True

    def train(self, mode: bool = True) -> Encoder:
        """Sets the mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        keep_frozen_parts_in_evaluation(self.network)
        return self

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the (N, D) vectors of (N, C, H, W) images."""
        return self.network(inputs)


def load_exactly(network: nn.Module, weights: Mapping[str, Tensor], source: str) -> None:
    """Loads weights that must have all names and shapes of a network; others that the file has are passed over.

    Raises:
        ValueError: If some are missing, have another shape or kind or are not finite; the message lists the first ten.
    """
    wanted = {name: own for name, own in network.state_dict().items() if not may_be_missing(name, weights)}
    if wrong := differences(wanted, {name: weights[name] for name in wanted if name in weights}):
        raise ValueError(
            f"{source} does not fit this network: {wrong}. The file has {first_of(list(weights), 3)}: give the file of "
            "this network, or the network of the file"
        )
    network.load_state_dict({name: weights[name] for name in wanted}, strict=False)


@contextmanager
def downloading(name: str) -> Iterator[None]:
    """Turns what a library raises where it cannot get a file of a name into one error with the remedy.

    Raises:
        ValueError: Instead of the library's error.
    """
    try:
        yield
    except Exception as error:  # of the network, the hub, the cache folder or the name; each library has its own
        raise ValueError(
            f"{name} cannot be downloaded: {type(error).__name__}: {error}. Correct the name, or the connection, or "
            "give a local file or folder; weights=False takes random weights"
        ) from error
