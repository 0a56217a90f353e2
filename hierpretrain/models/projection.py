"""The projection head between an encoder's embedding and a contrastive loss."""

from itertools import pairwise

from mmengine.model import BaseModule
from torch import Tensor, nn

from hierpretrain.checks import check_at_least_1
from hierpretrain.registry import MODELS


@MODELS.register_module()
class ProjectionHead(BaseModule):
    """A perceptron from the embedding to the space in which the loss compares, as in SimCLR and SupCon.

    Args:
        in_channels: Size of the embedding.
        out_channels: Size of the projection.
        hidden_channels: Width of the hidden layers. ``None``: the size of the embedding.
        num_layers: Number of linear layers, at least 1, with a ReLU between any two.

    Example:
        >>> import torch
        >>> ProjectionHead(in_channels=8, out_channels=4)(torch.zeros(2, 8)).shape
        torch.Size([2, 4])
    """

    def __init__(
        self,
        *,
        in_channels: int,
        out_channels: int = 128,
        hidden_channels: int | None = None,
        num_layers: int = 2,
    ) -> None:
        super().__init__()
        hidden_channels = in_channels if hidden_channels is None else hidden_channels
        check_at_least_1(num_layers=num_layers, hidden_channels=hidden_channels, out_channels=out_channels)
        widths = [in_channels, *[hidden_channels] * (num_layers - 1), out_channels]
        layers: list[nn.Module] = []
        for width, next_width in pairwise(widths):
            layers += [nn.Linear(width, next_width), nn.ReLU(inplace=True)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, embeddings: Tensor) -> Tensor:
        """Returns the (N, out_channels) projections of (N, in_channels) embeddings, not normalised."""
        return self.layers(embeddings)
