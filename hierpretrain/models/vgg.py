"""VGG-16 in the two parts that paper B makes of it: frozen convolutions and trained fully connected layers."""

from __future__ import annotations

from typing import Any

from mmengine.model import Sequential
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.models.vgg import cfgs, make_layers

from hierpretrain.checks import check_at_least_1, check_flag, check_fraction
from hierpretrain.registry import MODELS

_MAP_SIZE = 7  # height and width of the map that the fully connected layers read; what images of 224 px give


@MODELS.register_module()
class VGG16Convolutions(Sequential):
    """The thirteen convolutions of VGG-16 with their ReLU and pooling, torchvision's ``vgg16().features``.

    Its weights have torchvision's names, so that ``init_cfg=dict(type='Pretrained', checkpoint='torchvision://vgg16',
    prefix='features.')`` loads the weights of ImageNet.

    Args:
        base_channels: Channels of the first two layers, at least 1; the last layers have eight times as many. The
            original has 64.
        frozen: Whether the weights get no gradient, as in paper B (Bhalla et al., 2022, section 4).
        init_cfg: How the weights are initialised, as for every MMEngine module.

    Raises:
        ValueError: If ``base_channels`` is below 1.

    Example:
        >>> import torch
        >>> (features,) = VGG16Convolutions(base_channels=4)(torch.zeros(1, 3, 64, 64))
        >>> features.shape
        torch.Size([1, 32, 2, 2])
    """

    def __init__(self, *, base_channels: int = 64, frozen: bool = True, init_cfg: dict[str, Any] | None = None) -> None:
        check_at_least_1(base_channels=base_channels)
        check_flag(frozen=frozen)
        widths = [entry if entry == "M" else entry * base_channels // 64 for entry in cfgs["D"]]
        super().__init__(*make_layers(widths), init_cfg=init_cfg)
        self.frozen, self.feat_dim = frozen, 8 * base_channels
        self.requires_grad_(not frozen)

    def train(self, mode: bool = True) -> VGG16Convolutions:
        """Sets the mode; frozen layers stay in evaluation mode."""
        return super().train(mode and not self.frozen)

    def forward(self, inputs: Tensor) -> tuple[Tensor]:
        """Returns, as the only entry of a tuple, the (N, feat_dim, H / 32, W / 32) map of (N, 3, H, W) images."""
        return (super().forward(inputs),)


@MODELS.register_module()
class VGG16FullyConnected(Sequential):
    """The first two fully connected layers of VGG-16, from a feature map to one vector per image.

    A neck for :class:`VGG16Convolutions`. The map is first averaged or repeated to a size of 7 x 7, as torchvision
    does; for images of 224 px that changes nothing. The weights have the names of torchvision's ``vgg16().classifier``,
    whose last layer is left out, so that ``init_cfg=dict(type='Pretrained', checkpoint='torchvision://vgg16',
    prefix='classifier.')`` loads the weights of ImageNet.

    Args:
        in_channels: Channels of the feature map.
        out_channels: Width of both layers, which is the size of the embedding.
        relu: Whether a ReLU follows the second layer too. With it the embedding is what the ImageNet classifier reads,
            and no entry is negative. Paper B does not say which of the two it takes.
        dropout: Fraction of the values that are dropped between the layers while training.
        init_cfg: How the weights are initialised, as for every MMEngine module.

    Raises:
        ValueError: If a feature map has another number of channels.

    Example:
        >>> import torch
        >>> VGG16FullyConnected(in_channels=8, out_channels=16)(torch.zeros(2, 8, 3, 3)).shape
        torch.Size([2, 16])
    """

    def __init__(
        self,
        *,
        in_channels: int = 512,
        out_channels: int = 4096,
        relu: bool = True,
        dropout: float = 0.5,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        check_at_least_1(in_channels=in_channels, out_channels=out_channels)
        check_flag(relu=relu)
        check_fraction(dropout=dropout)
        layers = [
            nn.Linear(in_channels * _MAP_SIZE**2, out_channels),
            nn.ReLU(inplace=True),
            nn.Dropout(dropout),
            nn.Linear(out_channels, out_channels),
        ]
        super().__init__(*layers, *([nn.ReLU(inplace=True)] if relu else []), init_cfg=init_cfg)
        self.in_channels = in_channels

    def forward(self, inputs: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Returns the (N, out_channels) embeddings of an (N, in_channels, H, W) map, or of the last one of several."""
        features = inputs[-1] if isinstance(inputs, tuple | list) else inputs
        if features.ndim != 4 or features.shape[1] != self.in_channels:
            raise ValueError(
                f"VGG16FullyConnected reads an (N, {self.in_channels}, H, W) feature map, not {tuple(features.shape)}; "
                "set its in_channels to the channels of the backbone's last map"
            )
        return super().forward(adaptive_avg_pool2d(features, _MAP_SIZE).flatten(1))
