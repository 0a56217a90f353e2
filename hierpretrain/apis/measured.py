"""What a config measures, for reports and pictures that show the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.config import Config

from hierpretrain import registry
from hierpretrain.apis.config import nearest_names
from hierpretrain.apis.dataset_configs import set_data_root, without_pipelines
from hierpretrain.evaluation import EmbeddingMetric
from hierpretrain.files import true_path


def unmeasured(evaluator: Any) -> Any:
    """Returns the config of an evaluator that knows what the given one looks at, and measures nothing.

    Args:
        evaluator: A metric, a list of metrics, or an ``EmbeddingEvaluator``, as configs.

    Example:
        >>> unmeasured([dict(type="ViolationMetric")])
        {'type': 'EmbeddingEvaluator', 'metrics': [{'type': 'ViolationMetric'}], 'measure': False}
    """
    return dict(type="EmbeddingEvaluator", metrics=_metrics(evaluator), measure=False)


def config_metrics(config: Config, splits: Sequence[str] | None = None) -> list[EmbeddingMetric]:
    """Builds the metrics of the evaluation whose images :func:`~hierpretrain.apis.config_dataset` returns.

    Args:
        config: The config.
        splits: The splits that were chosen instead of the config's: then only metrics that name their splits, all of
            them among these, still measure what the config measures.

    Raises:
        ValueError: If a metric is unknown or has an unknown option.
    """
    evaluator = config.get("test_evaluator") if config.get("test_dataloader") else config.get("val_evaluator")
    with nearest_names():
        metrics = [registry.METRICS.build({"_scope_": "hierpretrain", **metric}) for metric in _metrics(evaluator)]
    metrics = [metric for metric in metrics if isinstance(metric, EmbeddingMetric)]
    if splits is None:
        return metrics
    return [metric for metric in metrics if metric.named_splits and set(metric.named_splits) <= set(splits)]


def _metrics(evaluator: Any) -> list[Any]:
    """Returns the configs of metrics; none of an evaluator of another class, whose images nobody knows."""
    if not evaluator:
        return []
    if isinstance(evaluator, dict):
        if "metrics" not in evaluator:
            return [evaluator]
        return _metrics(evaluator["metrics"]) if evaluator.get("type") in (None, "EmbeddingEvaluator") else []
    return list(evaluator)


def trained_images(config: Config, data_root: str | None = None) -> set[str] | None:
    """Returns the files that a config trains on, or ``None`` if they are not known.

    They are not known where the config has no ``train_dataloader``, or its data set is not there. Their paths are as
    :func:`~hierpretrain.files.true_path` writes them.

    Args:
        config: The config.
        data_root: The folder of the data set; by default the config's.
    """
    loader = config.get("train_dataloader")
    if not loader:
        return None
    options = without_pipelines(loader.dataset)
    try:
        if data_root is not None:
            set_data_root(options, data_root)
        with nearest_names():
            dataset = registry.DATASETS.build({"_scope_": "hierpretrain", **options})
    except (ValueError, OSError):
        return None
    paths = getattr(dataset, "image_paths", None)
    return None if paths is None else set(map(true_path, paths))
