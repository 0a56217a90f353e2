"""The evaluator that collects embeddings once, for all metrics, pictures and files that look at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.dist import get_dist_info
from mmengine.evaluator import BaseMetric, Evaluator

from hierpretrain.checks import check_flag
from hierpretrain.evaluation.embeddings import Embeddings, collect, columns
from hierpretrain.evaluation.exchange import gather, on_all
from hierpretrain.evaluation.metrics import EmbeddingMetric, SearchMetric, map_together
from hierpretrain.evaluation.search_sets import measured_searches
from hierpretrain.registry import EVALUATORS


@EVALUATORS.register_module()
class EmbeddingEvaluator(Evaluator):
    """Collects embeddings, exchanges them once between processes, and has every :class:`EmbeddingMetric` measure them.

    The tools build it from every ``val_evaluator`` and ``test_evaluator`` that is a metric or a list of metrics. All
    processes share the work of a metric, and an error on one is an error on all. Metrics of MMEngine and of others may
    stand beside ours; they get batches as MMEngine's ``Evaluator`` hands them out.

    Args:
        metrics: A metric or its config, or a list of them.
        measure: ``False`` measures nothing: pictures then know what the metrics would look at, and cost no more than
            themselves.

    Attributes:
        keep: Whether the embeddings are collected even if no metric looks at them, and kept after :meth:`evaluate`
            until :meth:`release`.
        searches: The searches that the metrics measure, see :func:`measured_searches`.
    """

    def __init__(
        self, metrics: dict[str, Any] | BaseMetric | Sequence[dict[str, Any] | BaseMetric], measure: bool = True
    ) -> None:
        super().__init__(metrics)
        check_flag(measure=measure)
        self.measure, self.keep = measure, False
        self.searches = measured_searches(self.metrics)
        self.metrics = self.metrics if measure else []
        self._others = [metric for metric in self.metrics if not isinstance(metric, EmbeddingMetric)]
        self._samples: list[dict[str, Any]] = []
        self._embeddings: Embeddings | None = None

    @property
    def collects(self) -> bool:
        """Whether embeddings are collected, since a metric looks at them or they are kept for something else."""
        return self.keep or len(self._others) < len(self.metrics)

    def process(self, data_samples: Sequence[Any], data_batch: Any = None) -> None:
        """Collects a batch of predictions.

        Args:
            data_samples: ``DataSample`` objects, or their dicts.
            data_batch: What the model was given, for metrics of others.

        Raises:
            ValueError: If a sample lacks what :class:`Embeddings` is made of.
        """
        if self.collects:
            self._samples.extend(map(collect, data_samples))
            self._embeddings = None
        if self._others:
            samples = [sample if isinstance(sample, dict) else sample.to_dict() for sample in data_samples]
            for metric in self._others:
                metric.process(data_batch, samples)

    def embeddings(self) -> Embeddings:
        """Returns all that all processes have collected, the same on each; all of them must ask for it.

        It is one object until the next batch is collected, or until :meth:`release`.

        Raises:
            ValueError: If nothing was collected, or what processes have collected does not fit together.
        """
        if self._embeddings is None:
            samples, self._samples = self._samples, []
            self._embeddings = Embeddings.from_columns(gather(lambda: columns(samples)), self.dataset_meta)
        return self._embeddings

    def evaluate(self, size: int) -> dict[str, float]:
        """Returns the results of all metrics, the same on every process.

        Args:
            size: The number of images of the data set, for metrics of others.

        Raises:
            ValueError: If a metric cannot be measured, or two metrics have a result of the same name.
        """
        results: dict[str, float] = {}
        # a subclass may have a `map` of its own
        together = [metric for metric in self.metrics if getattr(type(metric), "map", None) is SearchMetric.map]
        try:
            if len(self._others) < len(self.metrics):
                self.embeddings().check()
            ranked = on_all(map_together, together, self.embeddings(), get_dist_info()) if together else []
            for metric in self.metrics:
                if isinstance(metric, EmbeddingMetric):
                    if metric in together:
                        parts = [of_process[together.index(metric)] for of_process in ranked]
                    else:
                        parts = on_all(metric.map, self.embeddings(), get_dist_info())
                    found = on_all(metric.reduce, parts)[0]
                    found = {f"{metric.prefix}/{name}" if metric.prefix else name: of for name, of in found.items()}
                else:
                    found = metric.evaluate(size)
                if twice := sorted(results.keys() & found.keys()):
                    raise ValueError(f"two metrics have a result {twice[0]!r}; give one of them a prefix='...'")
                results |= found
        finally:
            if not self.keep:
                self._samples, self._embeddings = [], None
        return results

    def release(self) -> None:
        """Frees the embeddings and sets ``keep`` to False."""
        self.keep, self._samples, self._embeddings = False, [], None


def collecting(evaluator: Evaluator) -> Evaluator:
    """Returns an evaluator of the same metrics that collects embeddings once; one of another class as it is.

    Example:
        >>> collecting(Evaluator([])).metrics
        []
    """
    if type(evaluator) is not Evaluator:
        return evaluator
    made = EmbeddingEvaluator(evaluator.metrics)
    if evaluator.dataset_meta is not None:
        made.dataset_meta = evaluator.dataset_meta
    return made
