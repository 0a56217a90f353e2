"""The algorithm, its parts and the registered losses."""

from typing import TYPE_CHECKING

from hierpretrain._lazy import imported_on_demand

if TYPE_CHECKING:
    from hierpretrain.models.baselines import HAPPIERLoss, RINCELoss, TripletLoss
    from hierpretrain.models.checkpoints import StrictPretrained, select_weights
    from hierpretrain.models.classifiers import GuidedLoss, HXELoss, LevelCrossEntropyLoss, SoftLabelLoss
    from hierpretrain.models.contrastive import HierarchicalContrastive
    from hierpretrain.models.encoders import (
        DataSettings,
        EfficientNetLite0,
        OpenCLIPEncoder,
        TimmEncoder,
        TorchvisionEncoder,
        TransformersEncoder,
    )
    from hierpretrain.models.frame import HAFrameLoss
    from hierpretrain.models.joint import HierarchicalJointLoss
    from hierpretrain.models.level_triplet import LevelTripletLoss
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
    from hierpretrain.models.proxies import CSLLoss, LevelProxyLoss
    from hierpretrain.models.vgg import VGG16Convolutions, VGG16FullyConnected

__all__ = [
    "CSLLoss",
    "DataSettings",
    "EfficientNetLite0",
    "GuidedLoss",
    "HAFrameLoss",
    "HAPPIERLoss",
    "HXELoss",
    "HiConELoss",
    "HiMulConELoss",
    "HiMulConLoss",
    "HierarchicalContrastive",
    "HierarchicalJointLoss",
    "LevelCrossEntropyLoss",
    "LevelProxyLoss",
    "LevelTripletLoss",
    "MultiViewPreprocessor",
    "NTXentLoss",
    "OpenCLIPEncoder",
    "ProjectionHead",
    "RINCELoss",
    "ReleasedHMLCLoss",
    "SoftLabelLoss",
    "StrictPretrained",
    "SupConLoss",
    "TimmEncoder",
    "TorchvisionEncoder",
    "TransformersEncoder",
    "TripletLoss",
    "VGG16Convolutions",
    "VGG16FullyConnected",
    "select_weights",
]

__getattr__ = imported_on_demand(__name__)
