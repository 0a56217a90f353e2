"""Hooks, checkpoints and precision: what plugs into MMEngine's training loop."""

from typing import TYPE_CHECKING

from hierpretrain._lazy import imported_on_demand

if TYPE_CHECKING:
    from hierpretrain.engine.amp import BF16OptimWrapper
    from hierpretrain.engine.checkpoint import AtomicLocalBackend, newest_checkpoint
    from hierpretrain.engine.curriculum import LevelCurriculumHook
    from hierpretrain.engine.diagnostics import BatchViolationsHook
    from hierpretrain.engine.embedding_loop import EmbeddingTestLoop
    from hierpretrain.engine.frozen_features import FrozenFeaturesHook
    from hierpretrain.engine.log_lines import ShortLogProcessor, shorten_terminal
    from hierpretrain.engine.mlflow_backend import MLflowVisBackend
    from hierpretrain.engine.patience import TrainingPatienceHook
    from hierpretrain.engine.pictures import RecallCurveHook, RetrievalSheetHook, TSNEHook
    from hierpretrain.engine.precise_bn import PreciseBNHook
    from hierpretrain.engine.results import MetricsFileHook
    from hierpretrain.engine.resume import ExactResumeHook
    from hierpretrain.engine.skipped_files import SkippedFilesHook
    from hierpretrain.engine.taxonomy import TaxonomyHook

__all__ = [
    "AtomicLocalBackend",
    "BF16OptimWrapper",
    "BatchViolationsHook",
    "EmbeddingTestLoop",
    "ExactResumeHook",
    "FrozenFeaturesHook",
    "LevelCurriculumHook",
    "MLflowVisBackend",
    "MetricsFileHook",
    "PreciseBNHook",
    "RecallCurveHook",
    "RetrievalSheetHook",
    "ShortLogProcessor",
    "SkippedFilesHook",
    "TSNEHook",
    "TaxonomyHook",
    "TrainingPatienceHook",
    "newest_checkpoint",
    "shorten_terminal",
]

__getattr__ = imported_on_demand(__name__)
