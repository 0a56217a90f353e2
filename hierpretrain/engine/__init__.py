"""Hooks, checkpoints and precision: what plugs into MMEngine's training loop."""

from hierpretrain.engine.amp import BF16OptimWrapper
from hierpretrain.engine.checkpoint import AtomicLocalBackend, newest_checkpoint
from hierpretrain.engine.pictures import RetrievalSheetHook, TSNEHook
from hierpretrain.engine.results import MetricsFileHook
from hierpretrain.engine.resume import ExactResumeHook

__all__ = [
    "AtomicLocalBackend",
    "BF16OptimWrapper",
    "ExactResumeHook",
    "MetricsFileHook",
    "RetrievalSheetHook",
    "TSNEHook",
    "newest_checkpoint",
]
