"""Hooks that draw what the last evaluation embedded."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from hierpretrain.checks import check_at_least_1, check_from_0, check_whole
from hierpretrain.datasets.annotations import NO_SPLIT
from hierpretrain.datasets.joined import check_counts_through
from hierpretrain.engine.embedding_loop import evaluator_of
from hierpretrain.evaluation import Embeddings, SearchSets, check_levels, check_splits
from hierpretrain.evaluation.embeddings import Levels, Splits, as_levels, as_tags
from hierpretrain.evaluation.metrics import scores_at_level
from hierpretrain.evaluation.search_sets import chosen_search
from hierpretrain.functional.retrieval import recall_at
from hierpretrain.registry import HOOKS
from hierpretrain.visualization import (
    choose_rows,
    plot_recall_curves,
    plot_retrieval_sheet,
    plot_tsne,
    tsne_map,
    write_curves,
)


class _PictureHook(Hook):
    """Has a subclass draw the embeddings of an evaluation into the work directory.

    It draws after every so many validations of a training run and after the last one, and after every test. The file is
    the newest picture. While training, the visualizer gets each: MMEngine's ``LocalVisBackend`` keeps them as
    ``vis_data/vis_image/<name>_<epoch>.png``, and the backends of TensorBoard and Weights & Biases show them.
    """

    priority = "LOW"

    def __init__(self, levels: Levels, splits: Sequence[str], filename: str, interval: int | None = None) -> None:
        if interval is not None:
            check_whole(interval=interval)
            if interval < 1:
                raise ValueError(
                    f"interval of {type(self).__name__} must be at least 1 validation, or None for the last alone; it "
                    f"is {interval}"
                )
        self.filename, self.interval = filename, interval
        self._named_levels, self._named_splits = as_levels(levels), list(splits)

    @abstractmethod
    def draw(self, embedded: Embeddings, path: Path, measured: Sequence[SearchSets] = ()) -> None:
        """Writes the picture.

        Args:
            embedded: All images that were evaluated.
            path: The file.
            measured: The searches that the evaluator measures.
        """

    def before_train(self, runner: Runner) -> None:
        """Checks levels, splits and the evaluator, so that a wrong one is no error at the end of training."""
        if runner.val_loop is not None:
            self._check(runner.val_loop)

    def before_test(self, runner: Runner) -> None:
        """Checks levels, splits and the evaluator, before anything is embedded."""
        self._check(runner.test_loop)

    def _check(self, loop: BaseLoop) -> None:
        evaluator_of(loop)
        check_counts_through(loop.dataloader.dataset, type(self).__name__)
        check_levels(self._named_levels, loop.dataloader.dataset.metainfo)
        check_splits(self._named_splits, loop.dataloader.dataset.metainfo)

    def before_val_epoch(self, runner: Runner) -> None:
        """Has the embeddings kept, if it is time."""
        if self._is_due(runner):
            evaluator_of(runner.val_loop).keep = True

    def before_test_epoch(self, runner: Runner) -> None:
        """Has the embeddings kept."""
        evaluator_of(runner.test_loop).keep = True

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draws, if it is time, and shows the picture to the visualizer."""
        if self._is_due(runner) and self._draw(runner, runner.val_loop) and _trains(runner) and is_main_process():
            path = Path(runner.work_dir) / self.filename
            with Image.open(path) as picture:
                runner.visualizer.add_image(path.stem, np.asarray(picture.convert("RGB")), step=_progress(runner))

    def after_test_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Draws.

        Raises:
            ValueError: If there is nothing to draw in a test that measures nothing, as that of ``hierpretrain plot``:
                the picture is all that such a test is for.
        """
        self._draw(runner, runner.test_loop, required=not metrics)

    def after_val(self, runner: Runner) -> None:
        """Frees the embeddings, when all hooks have drawn."""
        evaluator_of(runner.val_loop).release()

    def after_test(self, runner: Runner) -> None:
        """Frees the embeddings, when all hooks have drawn."""
        evaluator_of(runner.test_loop).release()

    def _is_due(self, runner: Runner) -> bool:
        if not _trains(runner) or runner.iter >= runner.max_iters:  # a validation by itself, or the last
            return True
        return self.interval is not None and _progress(runner) // runner.val_interval % self.interval == 0

    def _draw(self, runner: Runner, loop: BaseLoop, required: bool = False) -> bool:
        """Draws on the main process, and returns whether there was something to draw."""
        path = Path(runner.work_dir) / self.filename
        try:
            evaluator = evaluator_of(loop)
            embedded = evaluator.embeddings()
            if is_main_process():
                self.draw(embedded, path, evaluator.searches)
                runner.logger.info(f"drew {path}")
        except ValueError as error:
            if required:
                raise
            # nothing to draw is no reason for a run to fail, and metrics are written after the pictures
            runner.logger.warning(f"{self.filename} was not drawn: {error}")
            return False
        return True


def _trains(runner: Runner) -> bool:
    """Returns whether this is a training run: the loop is built by training alone."""
    return not (isinstance(runner._train_loop, dict) or runner._train_loop is None)


def _progress(runner: Runner) -> int:
    """Returns how many epochs are done, or iterations where the run counts those, as ``val_interval`` does."""
    return runner.epoch if isinstance(runner.train_loop, EpochBasedTrainLoop) else runner.iter


@HOOKS.register_module()
class TSNEHook(_PictureHook):
    """Draws a t-SNE map of the evaluated images, coloured by a level: ``tsne.png`` in the work directory.

    Maps of one run are of the same images, and each starts from the positions of the one before, so that one can follow
    a group from map to map. A run that resumes starts anew. A map of 2,000 images takes 10 s on two cores.

    Args:
        level: The level, by name or number (-1 for the finest), or an extra label column.
        splits: Splits whose images are drawn; by default all that are evaluated.
        max_points: How many images at most are drawn, at random.
        seed: Draws the images, and starts t-SNE.
        interval: Draws after every so many validations; ``None`` after the last alone.
        filename: The name of the picture in the work directory.
    """

    def __init__(
        self,
        level: int | str = 1,
        *,
        splits: Splits | None = None,
        max_points: int = 5000,
        seed: int = 0,
        interval: int | None = None,
        filename: str = "tsne.png",
    ) -> None:
        check_at_least_1(max_points=max_points)
        check_from_0(seed=seed)
        super().__init__([level], as_tags(splits), filename, interval)
        self.level, self.splits, self.max_points, self.seed = level, splits, max_points, seed
        self._last: NDArray[np.float32] | None = None

    def draw(self, embedded: Embeddings, path: Path, measured: Sequence[SearchSets] = ()) -> None:
        """Writes the picture."""
        images = embedded.of(self.splits)
        shown = min(len(images.features), self.max_points)
        start = self._last if self._last is not None and len(self._last) == shown else None
        points, indices = tsne_map(images.features, seed=self.seed, max_points=self.max_points, start=start)
        self._last = points
        names = images.names(self.level)
        shown = list(dict.fromkeys(images.splits[index] for index in indices))
        of = "" if shown == [NO_SPLIT] else f" ({', '.join(shown)})"
        title = f"t-SNE of {len(indices):,} images{of}, by {images.level_name(self.level)}"
        plot_tsne(points, [names[index] for index in indices], path, title=title)


@HOOKS.register_module()
class RetrievalSheetHook(_PictureHook):
    """Draws some queries with their nearest neighbours, coloured by what they have in common: ``retrieval.png``.

    The queries are drawn over the branches of the tree, see :func:`hierpretrain.visualization.choose_rows`. Query and
    gallery are, unless they are given, the ones of the first metric of the evaluator that measures a search; the title
    says which they are, and whether the evaluator measures them.

    Args:
        level: The deepest level that counts, by name or number; -1 for the finest. Or an extra label column, by whose
            values neighbours are then right or wrong. Of images of several paths, the one that shares most counts.
        query: Splits of the queries, see :meth:`Embeddings.search`; ``None`` beside ``gallery=None``: the evaluator's.
        gallery: Splits of the gallery.
        num_queries: How many queries are drawn, of those that share a node with an image of the gallery.
        num_neighbours: How many neighbours of each query are drawn.
        seed: Draws the queries.
        interval: Draws after every so many validations; ``None`` after the last alone.
        filename: The name of the picture in the work directory.
    """

    def __init__(
        self,
        level: int | str = -1,
        *,
        query: Splits | None = None,
        gallery: Splits | None = None,
        num_queries: int = 12,
        num_neighbours: int = 8,
        seed: int = 0,
        interval: int | None = None,
        filename: str = "retrieval.png",
    ) -> None:
        check_at_least_1(num_queries=num_queries, num_neighbours=num_neighbours)
        check_from_0(seed=seed)
        super().__init__([level], [*as_tags(query), *as_tags(gallery)], filename, interval)
        self.level, self.query, self.gallery = level, query, gallery
        self.num_queries, self.num_neighbours, self.seed = num_queries, num_neighbours, seed

    def draw(self, embedded: Embeddings, path: Path, measured: Sequence[SearchSets] = ()) -> None:
        """Writes the picture."""
        sets = chosen_search(self.query, self.gallery, measured, set(embedded.splits))
        query, gallery, same_set = embedded.search(sets.query, sets.gallery)
        graded = [embedded.level_name(self.level)]
        if self.level not in embedded.extra_names:
            graded = list(embedded.taxonomy.level_names[: embedded.taxonomy.level(self.level)])

        def labels(images: Embeddings) -> Tensor:
            if self.level in images.extra_names:
                return images.nodes(self.level)
            return images.labels[..., : len(graded)]

        def captions(images: Embeddings) -> list[tuple[str, ...]]:
            paths = images.labels.reshape(len(images.labels), -1, images.taxonomy.num_levels).tolist()
            names = [[images.taxonomy.decode(path) for path in item] for item in paths]
            return [
                item[0] if len(item) == 1 else ("; ".join(" / ".join(path) for path in item if path),) for item in names
            ]

        rows = choose_rows(
            query.features,
            labels(query),
            gallery.features,
            labels(gallery),
            query_paths=query.paths,
            gallery_paths=gallery.paths,
            query_captions=captions(query),
            gallery_captions=captions(gallery),
            num_queries=self.num_queries,
            num_neighbours=self.num_neighbours,
            seed=self.seed,
            same_set=same_set,
        )
        title = f"Nearest neighbours. {sets.title(query, gallery, same_set)}"
        plot_retrieval_sheet(rows, path, title=title, levels=graded)


@HOOKS.register_module()
class RecallCurveHook(_PictureHook):
    """Draws recall@k against k, one curve a level, and writes the numbers beside it: ``recall.png``, ``recall.csv``.

    The CSV file has the column ``k`` and one column a level, as fractions. As for :class:`RetrievalMetric`, images that
    hang at several nodes of a level are left out there. Query and gallery are, unless they are given, the ones of the
    first metric of the evaluator that measures a search; the title says which they are, and whether the evaluator
    measures them.

    Args:
        levels: Levels, by name or number, and extra label columns, by name.
        query: Splits of the queries, see :meth:`Embeddings.search`; ``None`` beside ``gallery=None``: the evaluator's.
        gallery: Splits of the gallery.
        max_k: The largest k; a gallery that is smaller ends the curve.
        interval: Draws after every so many validations; ``None`` after the last alone.
        filename: The name of the picture in the work directory.
    """

    def __init__(
        self,
        levels: Levels = (-1,),
        *,
        query: Splits | None = None,
        gallery: Splits | None = None,
        max_k: int = 1000,
        interval: int | None = None,
        filename: str = "recall.png",
    ) -> None:
        check_at_least_1(max_k=max_k)
        super().__init__(levels, [*as_tags(query), *as_tags(gallery)], filename, interval)
        self.levels, self.query, self.gallery, self.max_k = as_levels(levels), query, gallery, max_k

    def draw(self, embedded: Embeddings, path: Path, measured: Sequence[SearchSets] = ()) -> None:
        """Writes the picture and the numbers."""
        sets = chosen_search(self.query, self.gallery, measured, set(embedded.splits))
        query, gallery, same_set = embedded.search(sets.query, sets.gallery)
        most = min(self.max_k, len(gallery.paths) - same_set)
        ks, curves = torch.arange(1, most + 1), {}
        for level in self.levels:
            options = dict(ks=[most], same_set=same_set, average_precision=False)
            scores = scores_at_level(query, gallery, level, **options)
            curves[embedded.level_name(level)] = recall_at(scores["first_rank"], ks)
        write_curves(curves, path.with_suffix(".csv"))
        plot_recall_curves(curves, path, title=f"Recall. {sets.title(query, gallery, same_set)}")
