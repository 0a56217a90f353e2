"""The registered classifiers on frozen embeddings: a linear layer, and a vote of the nearest neighbours."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from mmengine.device import get_device
from torch import Tensor

from hierpretrain.evaluation.embeddings import Embeddings, Splits, as_tags
from hierpretrain.evaluation.metrics import EmbeddingMetric
from hierpretrain.functional import accuracy, class_distances, knn_classify, linear_probe, mistake_metrics
from hierpretrain.registry import METRICS


class _Classifier(EmbeddingMetric):
    """Learns classes from the embeddings of some splits and names them for others."""

    name = ""
    max_ranked: int | None = None  # how many of its predictions are always there

    def __init__(
        self,
        levels: Sequence[int | str],
        *,
        train: Splits,
        test: Splits,
        ks: Sequence[int],
        mistakes: bool,
        prefix: str | None,
        collect_device: str,
    ) -> None:
        if both := set(as_tags(train)) & set(as_tags(test)):
            raise ValueError(f"a classifier must not be tested on what it learned; {sorted(both)} are in both")
        splits = [*as_tags(train), *as_tags(test)]
        super().__init__(levels=levels, splits=splits, prefix=prefix, collect_device=collect_device)
        self.levels, self.train, self.test, self.ks, self.mistakes = levels, train, test, tuple(ks), mistakes

    @abstractmethod
    def predict(self, train: Tensor, classes: Tensor, test: Tensor) -> Tensor:
        """Returns (Q, k) classes of (Q, D) embeddings, the best first, after a look at (N, D) of (N,) classes."""

    def measure(self, embedded: Embeddings) -> dict[str, float]:
        """Returns the metrics of all collected images."""
        train, test = embedded.of(self.train), embedded.of(self.test)
        metrics = {}
        for level in self.levels:
            predicted = self.predict(train.features, train.classes(level), test.features)
            found = accuracy(predicted, test.classes(level), ks=self.ks)
            if self.mistakes and level not in embedded.flat_names:
                ranked = predicted[:, : self.max_ranked]
                distances = class_distances(embedded.taxonomy, level)
                ks = [k for k in self.ks if k <= ranked.shape[1]]
                found |= mistake_metrics(ranked, test.classes(level), distances, ks=ks)
            metrics.update({f"{level}/{self.name}_{name}": value for name, value in found.items()})
        return metrics


@METRICS.register_module()
class LinearProbeMetric(_Classifier):
    """Accuracy of one linear softmax layer on frozen embeddings; see :func:`hierpretrain.functional.linear_probe`.

    Results are named ``<level>/linear_top1`` and so on.

    Args:
        levels: Levels, by name or number, and flat label columns, by name, each with a classifier of its own.
        train: Splits that the layer learns from.
        test: Splits that it is tested on.
        ks: The k of top-k accuracy.
        epochs: As in paper A.
        seed: Of its batches.
        device: Where the layer is trained; by default on a GPU if there is one.
        mistakes: Whether the distance of mistakes in the tree is measured as well, see
            :func:`hierpretrain.functional.mistake_metrics`; this takes memory of the square of the number of classes.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: Where processes exchange results.
    """

    name = "linear"

    def __init__(
        self,
        levels: Sequence[int | str],
        *,
        train: Splits = "train",
        test: Splits = "test",
        ks: Sequence[int] = (1, 5),
        epochs: int = 40,
        seed: int = 0,
        device: str | None = None,
        mistakes: bool = False,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        options = dict(train=train, test=test, ks=ks, mistakes=mistakes, prefix=prefix, collect_device=collect_device)
        super().__init__(levels, **options)
        self.epochs, self.seed, self.device = epochs, seed, device or get_device()

    def predict(self, train: Tensor, classes: Tensor, test: Tensor) -> Tensor:
        """Trains the layer and applies it."""
        train = train.to(self.device)
        return linear_probe(train, classes, test, epochs=self.epochs, seed=self.seed, k=max(self.ks))


@METRICS.register_module()
class KNNMetric(_Classifier):
    """Accuracy of a vote of the nearest neighbours; see :func:`hierpretrain.functional.knn_classify`.

    Results are named ``<level>/knn_top1`` and so on.

    Args:
        levels: Levels, by name or number, and flat label columns, by name.
        train: Splits whose images vote.
        test: Splits that it is tested on.
        ks: The k of top-k accuracy.
        neighbours: How many vote.
        temperature: Of the weights of their votes.
        mistakes: As for :class:`LinearProbeMetric`, of the first prediction alone.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: Where processes exchange results.
    """

    name = "knn"
    max_ranked = 1  # it names no class that none of the neighbours is of

    def __init__(
        self,
        levels: Sequence[int | str],
        *,
        train: Splits = "train",
        test: Splits = "test",
        ks: Sequence[int] = (1, 5),
        neighbours: int = 20,
        temperature: float = 0.07,
        mistakes: bool = False,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        options = dict(train=train, test=test, ks=ks, mistakes=mistakes, prefix=prefix, collect_device=collect_device)
        super().__init__(levels, **options)
        self.neighbours, self.temperature = neighbours, temperature

    def predict(self, train: Tensor, classes: Tensor, test: Tensor) -> Tensor:
        """Has the neighbours vote."""
        options = dict(neighbours=self.neighbours, temperature=self.temperature)
        return knn_classify(train, classes, test, k=max(self.ks), **options)
