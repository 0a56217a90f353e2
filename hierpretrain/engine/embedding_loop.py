"""A test loop that embeds every image once, also over several runs: the downstream tasks on a frozen encoder."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.runner import BaseLoop, TestLoop
from mmpretrain.structures import DataSample
from torch import Tensor

from hierpretrain.checks import check_flag
from hierpretrain.datasets.joined import check_counts_through
from hierpretrain.engine.fingerprint import encoder_fingerprint, kept_file
from hierpretrain.evaluation import EmbeddingEvaluator, Embeddings
from hierpretrain.evaluation.evaluator import collecting
from hierpretrain.files import write_whole
from hierpretrain.models.checkpoints import check_values
from hierpretrain.models.gather import unwrapped
from hierpretrain.pickled import load_pickled
from hierpretrain.registry import LOOPS


@LOOPS.register_module()
class EmbeddingTestLoop(TestLoop):
    """Evaluates like MMEngine's ``TestLoop``, but keeps the embeddings in the work directory and reuses them.

    They are written to ``embeddings/<fingerprint>.pt``, before any metric is computed. The fingerprint covers the
    encoder's config and weights, the pipeline, and the images' absolute paths, sizes and times, so another checkpoint,
    split, crop or version of a file is embedded anew. Labels are not kept; they are taken from the data set. Several
    processes use a file only if all of them see it.

    Args:
        runner: The runner.
        dataloader: Loads the images, in any order and on any number of processes.
        evaluator: The metrics.
        fp16: Whether to embed in mixed precision.
        cache: The folder of the files, below the work directory; ``None`` keeps nothing.

    Raises:
        ValueError: If the data set is a ``ConcatDataset`` or ``RepeatDataset`` of MMEngine's own, not of this toolbox;
            or another that does not name its images, unless ``cache`` is ``None``.
    """

    def __init__(
        self, runner: Any, dataloader: Any, evaluator: Any, fp16: bool = False, cache: str | None = "embeddings"
    ) -> None:
        check_flag(fp16=fp16)
        super().__init__(runner, dataloader, evaluator, fp16)
        dataset = self.dataloader.dataset
        check_counts_through(dataset, "EmbeddingTestLoop")
        if cache and not (hasattr(dataset, "_pipeline") and hasattr(dataset, "image_paths")):
            raise ValueError(
                f"EmbeddingTestLoop keeps embeddings by the paths and the pipeline of a data set, and a "
                f"{type(dataset).__name__} does not say them; take one of hierpretrain.datasets, or "
                "test_cfg.cache=None, which keeps nothing"
            )
        self.cache = cache

    def run(self) -> dict[str, float]:
        """Embeds what is not kept, and evaluates."""
        self.runner.call_hook("before_test")
        self.runner.call_hook("before_test_epoch")
        self.runner.model.eval()
        path, kept = self._kept()
        if kept is None:
            if path:
                evaluator_of(self).keep = True
            for index, batch in enumerate(self.dataloader):
                self.run_iter(index, batch)
            if path:
                _save(path, self.evaluator.embeddings())
        else:
            self.runner.logger.info(f"the {len(kept)} embeddings of {path} are used again")
            self._replay(kept)
        metrics = self.evaluator.evaluate(len(self.dataloader.dataset))
        self.runner.call_hook("after_test_epoch", metrics=metrics)
        self.runner.call_hook("after_test")
        if path:
            evaluator_of(self).release()
        return metrics

    def _replay(self, embedded: dict[int, Tensor]) -> None:
        """Hands out the kept embeddings as if the model had just made them."""
        dataset = self.dataloader.dataset
        for idx, indices in enumerate(self.dataloader.batch_sampler):
            self.runner.call_hook("before_test_iter", batch_idx=idx, data_batch=None)
            outputs = []
            for index in indices:
                if index in embedded:  # otherwise it could not be read, and another image stood in for it
                    info = dataset.get_data_info(index)
                    meta = {name: info[name] for name in ("sample_idx", "img_path", "split")}
                    sample = DataSample(metainfo=meta)
                    sample.set_field(torch.from_numpy(info["gt_label"]), "gt_label")
                    sample.set_field(info["extra_labels"], "extra_labels")
                    sample.set_field(embedded[index].clone(), "embedding")
                    outputs.append(sample)
            self.evaluator.process(data_samples=outputs, data_batch=None)
            self.runner.call_hook("after_test_iter", batch_idx=idx, data_batch=None, outputs=outputs)

    def _kept(self) -> tuple[Path | None, dict[int, Tensor] | None]:
        """Returns the file for the embeddings, and the embeddings in it, by index; the same on all processes."""
        if not self.cache:
            return None, None
        path, seen = kept_file(self._file)
        if not seen:
            return path, None
        kept, dataset = _load(path), self.dataloader.dataset
        # An image that could not be read is asked for again: by now it may be whole, or it is an error now.
        again = any(
            dataset[index]["data_samples"].sample_idx == index for index in range(len(dataset)) if index not in kept
        )
        return path, None if again else kept

    def _file(self) -> Path:
        model, dataset = unwrapped(self.runner.model), self.dataloader.dataset
        about = (self.runner.cfg.get("model"), dataset._pipeline, *model.embedding_options, self.fp16)
        fingerprint = encoder_fingerprint(model, model.encoder_parts, *about, images=dataset.image_paths)
        return Path(self.runner.work_dir).resolve() / self.cache / f"{fingerprint}.pt"


def evaluator_of(loop: BaseLoop) -> EmbeddingEvaluator:
    """Returns the evaluator of a loop, from which pictures and files take the embeddings.

    Args:
        loop: Of validation or test. MMEngine's ``Evaluator`` is replaced by one that collects embeddings.

    Raises:
        ValueError: If the loop has an evaluator of another class.
    """
    loop.evaluator = collecting(loop.evaluator)
    if not isinstance(loop.evaluator, EmbeddingEvaluator):
        raise ValueError(
            f"pictures and kept embeddings need an EmbeddingEvaluator, not {type(loop.evaluator).__name__}: write "
            "val_evaluator and test_evaluator as dict(type='EmbeddingEvaluator', metrics=[...]), or do without "
            "EmbeddingTestLoop and the hooks that draw"
        )
    return loop.evaluator


def _save(path: Path, embedded: Embeddings) -> None:
    if is_main_process():
        data = io.BytesIO()
        torch.save({"rows": embedded.indices, "embeddings": embedded.features}, data)
        write_whole(path, data.getvalue())


def _load(path: Path) -> dict[int, Tensor]:
    try:
        kept = load_pickled(path)
        check_values(kept, "what was kept")
        return dict(zip(kept["rows"].tolist(), kept["embeddings"], strict=True))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"the kept embeddings {path} are damaged: {error}; delete the file") from error
