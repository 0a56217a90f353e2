"""The registered metric of answers that may be "unknown": a shell over :mod:`hierpretrain.functional`."""

from __future__ import annotations

from itertools import combinations

import torch

from hierpretrain.checks import check_at_least_1
from hierpretrain.evaluation.embeddings import Embeddings, Splits, as_tags
from hierpretrain.evaluation.metrics import EmbeddingMetric
from hierpretrain.functional.open_set import answer_metrics, is_known, is_unknown, known_part, unknown_auroc
from hierpretrain.functional.path_calibration import answer_paths, calibrate_paths, check_goal, num_named
from hierpretrain.functional.search import nearest
from hierpretrain.registry import METRICS
from hierpretrain.taxonomy import depth


@METRICS.register_module()
class CalibrationMetric(EmbeddingMetric):
    """Calibrated answers down the tree, by the vote of neighbours, for images of known and of unknown classes.

    A test image is of an unknown class where no image of the gallery is at or below its node. Results are named
    ``<level>/ece``, ``<level>/auroc_unknown`` and so on, as
    :func:`~hierpretrain.functional.open_set.answer_metrics` names them, and ``<level>/auroc_cosine`` beside
    them: the same by the cosine of the nearest image alone. Images without a label are left out.

    Args:
        gallery: Splits of the images that vote.
        test: Splits of the images that are asked for.
        held_out: Splits of the images that confidences and thresholds are fitted on. By default the test images
            themselves, each by confidences that were fitted on the others. No two of the three share a split: an
            image would vote for itself, or be tested by what was fitted on it.
        precision: What fraction of the names that are given shall be right, above 0 and below 1.
        neighbours: How many images vote.
        prefix: Stands, with a slash, before the names of the results.
        collect_device: See :class:`EmbeddingMetric`.
    """

    def __init__(
        self,
        *,
        gallery: Splits = "train",
        test: Splits = "test",
        held_out: Splits | None = None,
        precision: float = 0.95,
        neighbours: int = 50,
        prefix: str | None = None,
        collect_device: str = "cpu",
    ) -> None:
        check_goal(precision, None)
        check_at_least_1(neighbours=neighbours)
        pairs = {"gallery": gallery, "test": test, "held_out": held_out}
        for (one, its), (other, those) in combinations(pairs.items(), 2):
            if both := set(as_tags(its)) & set(as_tags(those)):
                raise ValueError(
                    f"{one} and {other} must be different splits of CalibrationMetric; {sorted(both)} are of both"
                )
        super().__init__(prefix=prefix, collect_device=collect_device)
        self.named_splits = as_tags(gallery) + as_tags(test) + as_tags(held_out)
        self.gallery, self.test, self.held_out = gallery, test, held_out
        self.precision, self.neighbours = precision, neighbours

    def measure(self, embedded: Embeddings) -> dict[str, float]:
        """Returns the metrics of each level."""
        gallery, test = (_labelled(embedded.of(splits)) for splits in (self.gallery, self.test))
        held_out = test if self.held_out is None else _labelled(embedded.of(self.held_out))
        k = min(self.neighbours, len(gallery.features))
        voters = nearest(held_out.features, gallery.features, k)
        truth = known_part(held_out.labels, gallery.labels)
        calibration, nodes, confidences = calibrate_paths(*voters, gallery.labels, truth, precision=self.precision)
        named = num_named(confidences, nodes, calibration.thresholds)
        if self.held_out is not None:
            voters = nearest(test.features, gallery.features, k)
            truth = known_part(test.labels, gallery.labels)
            nodes, confidences, named = answer_paths(*voters, gallery.labels, calibration)
        depths = depth(test.labels)
        known, unknown = is_known(truth), is_unknown(truth, depths)
        found = {}
        for level, metrics in enumerate(answer_metrics(nodes, confidences, named, truth, depths)):
            auroc = unknown_auroc(voters[0][:, 0], known[:, level], unknown[:, level])
            metrics |= {} if auroc is None else {"auroc_cosine": auroc}
            name = embedded.taxonomy.level_names[level]
            found.update({f"{name}/{key}": value for key, value in metrics.items()})
        return found


def _labelled(images: Embeddings) -> Embeddings:
    return images.select(torch.nonzero(depth(images.labels))[:, 0].tolist())
