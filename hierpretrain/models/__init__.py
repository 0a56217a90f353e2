"""The algorithm, its parts and the registered losses."""

from hierpretrain.models.baselines import HAPPIERLoss, TripletLoss
from hierpretrain.models.classifiers import GuidedLoss, HXELoss, LevelCrossEntropyLoss, SoftLabelLoss
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
    "GuidedLoss",
    "HAPPIERLoss",
    "HXELoss",
    "HiConELoss",
    "HiMulConELoss",
    "HiMulConLoss",
    "HierarchicalContrastive",
    "LevelCrossEntropyLoss",
    "MultiViewPreprocessor",
    "NTXentLoss",
    "ProjectionHead",
    "ReleasedHMLCLoss",
    "SoftLabelLoss",
    "SupConLoss",
    "TripletLoss",
]
