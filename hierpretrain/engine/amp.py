"""Mixed precision in bfloat16, on a CPU as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.device import get_device
from mmengine.optim import OptimWrapper
from torch import nn

from hierpretrain.registry import OPTIM_WRAPPERS


@OPTIM_WRAPPERS.register_module()
class BF16OptimWrapper(OptimWrapper):
    """Runs the forward pass under bfloat16 autocast on any device, a CPU included, without loss scaling.

    MMEngine's ``AmpOptimWrapper`` refuses a CPU. bfloat16 has the range of float32, so nothing needs scaling.
    """

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Returns the context in which a forward pass runs."""
        with super().optim_context(model), torch.autocast(get_device(), dtype=torch.bfloat16):
            yield
