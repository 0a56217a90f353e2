"""The registered probes: classifiers on frozen embeddings, linear layers and a vote of the nearest neighbours."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from typing import Literal

from mmengine.device import get_device
from torch import Tensor

from hierpretrain.checks import (
    check_above_0,
    check_at_least_1,
    check_flag,
    check_ks,
    check_number,
    check_one_of,
    check_whole,
)
from hierpretrain.evaluation.embeddings import Embeddings, Levels, Splits, as_tags
from hierpretrain.evaluation.metrics import EmbeddingMetric
from hierpretrain.functional import (
    accuracy,
    average_precision_metrics,
    class_distances,
    knn_classify,
    linear_probe,
    linear_scores,
    mistake_metrics,
)
from hierpretrain.registry import METRICS

_MANY_CLASSES = 50  # of more, the precision of each is no result of its own


def _disjoint(train: Splits, test: Splits) -> tuple[str, ...]:
    """Returns all split tags; raises a ValueError if a split is on both sides."""
    if both := set(as_tags(train)) & set(as_tags(test)):
        raise ValueError(f"a classifier must not be tested on what it learned; {sorted(both)} are in both")
    return as_tags(train) + as_tags(test)


class _Classifier(EmbeddingMetric):
    """Learns classes from the embeddings of some splits and predicts them for others."""

    name = ""
    max_ranked: int | None = None  # how many of its predictions every image has; None: all

    def __init__(
        self,
        levels: Levels,
        *,
        train: Splits,
        test: Splits,
        ks: Sequence[int],
        mistakes: bool,
        prefix: str | None,
        collect_device: str,
    ) -> None:
        super().__init__(levels=levels, prefix=prefix, collect_device=collect_device)
        self.named_splits = _disjoint(train, test)
        check_ks(ks)
        check_flag(mistakes=mistakes)
        self.train, self.test, self.ks, self.mistakes = train, test, tuple(ks), mistakes

    @abstractmethod
    def predict(self, train: Tensor, classes: Tensor, test: Tensor) -> Tensor:
        """Predicts (Q, k) classes of (Q, D) embeddings, the best first, from (N, D) embeddings of (N,) classes."""

    def measure(self, embedded: Embeddings) -> dict[str, float]:
        """Returns the metrics of all collected images."""
        train, test = embedded.of(self.train), embedded.of(self.test)
        metrics = {}
        for level in self.levels:
            predicted = self.predict(train.features, train.classes(level), test.features)
            found = accuracy(predicted, test.classes(level), ks=self.ks)
            if self.mistakes and level not in embedded.extra_names:
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
        levels: Levels, by name or number, and extra label columns, by name, each with a classifier of its own.
        train: Splits that the layer learns from.
        test: Splits that it is tested on.
        ks: The k of top-k accuracy.
        epochs: How often the layer sees every training image; 40 in paper A.
        seed: Orders the training images.
        device: Where the layer is trained; by default on a GPU if there is one.
        mistakes: Whether the distance of mistakes in the tree is measured as well, see
            :func:`hierpretrain.functional.mistake_metrics`; this takes memory of the square of the number of classes.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: See :class:`EmbeddingMetric`.
    """

    name = "linear"

    def __init__(
        self,
        levels: Levels,
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
        check_at_least_1(epochs=epochs)
        check_whole(seed=seed)
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
        levels: Levels, by name or number, and extra label columns, by name.
        train: Splits whose images vote.
        test: Splits that it is tested on.
        ks: The k of top-k accuracy.
        neighbours: How many nearest training images vote.
        temperature: A vote has the weight ``exp(cosine / temperature)``.
        mistakes: Whether the distance of mistakes in the tree is measured as well, of the first prediction alone.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: See :class:`EmbeddingMetric`.
    """

    name = "knn"
    max_ranked = 1  # it names no class that none of the neighbours is of

    def __init__(
        self,
        levels: Levels,
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
        check_at_least_1(neighbours=neighbours)
        check_above_0(temperature=temperature)
        self.neighbours, self.temperature = neighbours, temperature

    def predict(self, train: Tensor, classes: Tensor, test: Tensor) -> Tensor:
        """Predicts the classes with the most votes."""
        options = dict(neighbours=self.neighbours, temperature=self.temperature)
        return knn_classify(train, classes, test, k=max(self.ks), **options)


@METRICS.register_module()
class AveragePrecisionMetric(EmbeddingMetric):
    """Average precision of the scores of one linear softmax layer on frozen embeddings, by the recipe of paper B.

    The layer is trained by :func:`hierpretrain.functional.linear_scores`. The numbers come from
    :func:`hierpretrain.functional.average_precision_metrics` and are named ``<level>/map``, ``<level>/map_images``,
    ``<level>/map_micro``, ``<level>/precision`` and so on, its accuracy ``<level>/linear_top1``, and the AP of each
    class that has a test image ``<level>/ap/<class>``. A class is called by its node's name, by the whole path, joined
    by ``/``, where several nodes of the level have that name, or by the extra label column's value; by its number where
    the data set does not tell the values. Where two would be called the same, their numbers follow, as ``a/b (3)``. An
    image without a single class at a level (see :meth:`Embeddings.classes`) is left out there.

    Where :class:`RetrievalMetric` or :class:`LinearProbeMetric` look at one of its levels as well, give one of them a
    prefix: each has a result of the same name.

    Args:
        levels: Levels, by name or number, and extra label columns, by name, each with a layer of its own.
        train: Splits that the layer learns from.
        test: Splits that it is tested on.
        optimizer: ``'adam'``, or ``'sgd'`` with momentum 0.9.
        epochs: How often the layer sees every training image; 4 in paper B.
        batch_size: Images a step; 64 in paper B.
        lr: The learning rate; 1e-3 in paper B.
        weight_decay: The L2 penalty on the weights.
        cosine: Whether the learning rate falls to 0 along half a cosine.
        scaling: How the embeddings are scaled; see :func:`hierpretrain.functional.linear_scores`.
        seed: Orders the training images.
        device: Where the layer is trained; by default on a GPU if there is one.
        per_class: Whether each class's AP is a result; by default where at most 50 classes have a test image.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: See :class:`EmbeddingMetric`.
    """

    def __init__(
        self,
        levels: Levels,
        *,
        train: Splits = "train",
        test: Splits = "test",
        optimizer: Literal["adam", "sgd"] = "adam",
        epochs: int = 4,
        batch_size: int = 64,
        lr: float = 1e-3,
        weight_decay: float = 0.0,
        cosine: bool = False,
        scaling: Literal["deviation", "length", "none"] = "deviation",
        seed: int = 0,
        device: str | None = None,
        per_class: bool | None = None,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        super().__init__(levels=levels, prefix=prefix, collect_device=collect_device)
        self.named_splits = _disjoint(train, test)
        check_at_least_1(epochs=epochs, batch_size=batch_size)
        check_number(lr=lr, weight_decay=weight_decay)
        check_whole(seed=seed)
        check_flag(cosine=cosine)
        check_one_of("per_class", per_class, (None, True, False))
        self.train, self.test, self.per_class = train, test, per_class
        self.device = device or get_device()
        self.recipe = dict(optimizer=optimizer, epochs=epochs, batch_size=batch_size, lr=lr, weight_decay=weight_decay)
        self.recipe |= dict(cosine=cosine, scaling=scaling, seed=seed)

    def measure(self, embedded: Embeddings) -> dict[str, float]:
        """Returns the metrics of all collected images."""
        train, test = embedded.of(self.train), embedded.of(self.test)
        metrics = {}
        for level in self.levels:
            features = train.features.to(self.device)
            scores, classes = linear_scores(features, train.classes(level), test.features, **self.recipe)
            found, by_class = average_precision_metrics(scores, test.classes(level), classes)
            found["linear_top1"] = found.pop("accuracy")
            if self.per_class or (self.per_class is None and len(by_class) <= _MANY_CLASSES):
                names = _class_names(embedded, level)
                found |= {f"ap/{names.get(number, number)}": value for number, value in by_class.items()}
            metrics.update({f"{level}/{name}": value for name, value in found.items()})
        return metrics


def _class_names(embedded: Embeddings, level: int | str) -> dict[int, str]:
    """Returns the name of each class, by its id; nothing if the data set does not tell the names."""
    if level in embedded.extra_names:
        return dict(enumerate(embedded.extra_values.get(str(level), ())))
    paths = embedded.taxonomy.node_paths(level)
    counts = Counter(path[-1] for path in paths)
    names = [path[-1] if counts[path[-1]] == 1 else "/".join(path) for path in paths]
    while len(counts := Counter(names)) < len(names):  # a name may be what another's path looks like
        names = [name if counts[name] == 1 else f"{name} ({node})" for node, name in enumerate(names)]
    return dict(enumerate(names))
