"""The algorithm, its parts and the registered losses."""

from hierpretrain.models.contrastive import HierarchicalContrastive
from hierpretrain.models.losses import (
    HiConELoss,
    HiMulConELoss,
    HiMulConLoss,
    NTXentLoss,
    ReleasedHMLCLoss,
    SupConLoss,
)
from hierpretrain.models.preprocessor import MultiViewPreprocessor
from hierpretrain.models.projection import ProjectionHead

__all__ = [
    "HiConELoss",
    "HiMulConELoss",
    "HiMulConLoss",
    "HierarchicalContrastive",
    "MultiViewPreprocessor",
    "NTXentLoss",
    "ProjectionHead",
    "ReleasedHMLCLoss",
    "SupConLoss",
]
