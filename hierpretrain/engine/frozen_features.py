"""A hook that runs the frozen part of a backbone once per image or view, instead of once per image and epoch."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import barrier, broadcast_object_list, get_dist_info, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import Runner, autocast
from mmpretrain.datasets.transforms import PackInputs
from mmpretrain.datasets.transforms.processing import TorchVisonTransformWrapper
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from hierpretrain.arrays import read_array
from hierpretrain.checks import check_at_least_1, check_flag, check_from_0, check_one_of
from hierpretrain.datasets import HierarchicalDataset, UnreadableImage
from hierpretrain.datasets.joined import JoinedDataset, check_counts_through, parts_of
from hierpretrain.engine.fingerprint import encoder_fingerprint, kept_file
from hierpretrain.engine.training_batches import begin_anew
from hierpretrain.files import in_turn, whole_file
from hierpretrain.models import HierarchicalContrastive
from hierpretrain.models.frozen_part import FrozenPart
from hierpretrain.models.gather import unwrapped
from hierpretrain.registry import HOOKS

WITHOUT_RANDOMNESS = (
    "CenterCrop",
    "CropBottom",
    "LoadImageFromFile",
    "LoadRGB",
    "Normalize",
    "NumpyToPIL",
    "PILToNumpy",
    "PackInputs",
    "Pad",
    "Resize",
    "ResizeEdge",
    "torchvision/CenterCrop",
    "torchvision/ConvertImageDtype",
    "torchvision/Grayscale",
    "torchvision/Normalize",
    "torchvision/PILToTensor",
    "torchvision/Pad",
    "torchvision/Resize",
    "torchvision/ToTensor",
)
"""The transforms that make the same of an image whenever they see it, by their names in a config."""

NUM_CHECKED = 4
"""How many images show whether a backbone can go on from what is kept."""

Context = Callable[[], AbstractContextManager[Any]]

_THEIR_PACKAGES = ("hierpretrain", "mmcv", "mmpretrain")


@HOOKS.register_module()
class FrozenFeaturesHook(Hook):
    """Runs the frozen part of the backbone once per image or augmented view, keeps its output, and trains from that.

    The frozen part is all of the backbone, or its stem and first stages (``frozen_stages``), whose parameters need no
    gradient: see ``hierpretrain/models/frozen_part.py``. Of a backbone that is frozen whole, what it hands
    to the neck is kept or, if there is no neck, the vectors of the encoder, which are smaller. Otherwise the output of
    the last frozen stage is kept, and a step runs the stages behind it. On some images it is checked first that they
    give the same from what is kept. Losses and weights equal a training without the hook on the same views, but for the
    rounding of half precision, if that is chosen, and of convolutions that a library computes differently for batches
    of another size.

    Where the training pipeline has something random in it, ``num_views`` says how many views of each image are kept.
    They are those that the data set gives with ``view_seed`` in its first epochs. In each epoch an item takes as many
    of them as the pipeline makes (``Views``), each at most once, at random by (seed, epoch, image), so that a resumed
    run goes on exactly.

    What is kept is one memory-mapped array, ``<fingerprint>.npy``, of (images, ...) or (views, images, ...). The
    fingerprint covers the backbone's options, the weights of its frozen part, the pipeline, ``num_views`` and
    ``view_seed``, and the images' absolute paths, sizes and times; not what is trained, nor the run's seed. So a
    resumed run uses the file again, and so does every run in the same folder that has the same frozen part, images and
    pipeline: with another loss, learning rate or seed. A file is there whole or not at all; what a killed run leaves
    behind begins with a dot. Of several runs that want the same file, one writes it and the others wait. Several
    processes share the work and the file, so all of them must see its folder.

    Args:
        folder: Where the files lie; a relative path is below the work directory. Runs that shall share files have the
            same absolute one.
        dtype: ``'float32'``, or ``'float16'`` for half the size.
        batch_size: Images that the backbone embeds at a time, on each process.
        deterministic: Names of transforms of your own, classes or functions, that are free of randomness.
        num_views: Views of each training image that are kept, a multiple of what the pipeline makes of an image at a
            time. ``None`` keeps one, and the training pipeline must be free of randomness.
        view_seed: Seeds the views that are kept, from 0.
        evaluation: Whether the outputs of the frozen part are kept for validation and test images, too. Their
            pipelines must be free of randomness. Otherwise they are embedded from images.

    Raises:
        ValueError: If no first stages of the backbone are frozen, or the backbone cannot go on behind them; a transform
            is not known to be free of randomness; ``num_views`` is no multiple of the pipeline's views; the disk has
            not enough room; features are not finite; or a file is damaged.
    """

    def __init__(
        self,
        *,
        folder: str = "features",
        dtype: str = "float32",
        batch_size: int = 64,
        deterministic: Sequence[str] = (),
        num_views: int | None = None,
        view_seed: int = 0,
        evaluation: bool = False,
    ) -> None:
        check_one_of("dtype", dtype, ("float32", "float16"))
        check_at_least_1(batch_size=batch_size)
        if num_views is not None:
            check_at_least_1(num_views=num_views)
        check_from_0(view_seed=view_seed)
        check_flag(evaluation=evaluation)
        self.folder, self.dtype, self.batch_size = folder, np.dtype(dtype), batch_size
        self.deterministic = tuple(deterministic)
        self.num_views, self.view_seed, self.evaluation = num_views, view_seed, evaluation
        # loaders, the parts of their data sets, and the pipelines that these had before
        self._images: list[tuple[DataLoader, HierarchicalDataset, Any]] = []

    def before_train(self, runner: Runner) -> None:
        """Embeds what is not kept, and has the data set give features instead of images."""
        self._use(runner, runner.train_dataloader, lambda: runner.optim_wrapper.optim_context(runner.model), "training")
        begin_anew(runner)

    def before_val(self, runner: Runner) -> None:
        """Does so for validation images, once, if ``evaluation`` says so."""
        if self.evaluation:
            self._use(runner, runner.val_dataloader, lambda: autocast(enabled=runner.val_loop.fp16), "validation")

    def before_test(self, runner: Runner) -> None:
        """Does so for test images, if ``evaluation`` says so."""
        if self.evaluation:
            self._use(runner, runner.test_dataloader, lambda: autocast(enabled=runner.test_loop.fp16), "test")

    def after_run(self, runner: Runner) -> None:
        """Gives the data sets their images back."""
        for loader, part, pipeline in self._images:
            part._pipeline, loader._iterator = pipeline, None
        self._images.clear()
        unwrapped(runner.model).frozen_part = None

    def _use(self, runner: Runner, loader: DataLoader, context: Context, which: str) -> None:
        """Has the data set of a loader give features instead of images; embeds first what is not kept."""
        if isinstance(getattr(parts_of(loader.dataset)[0], "_pipeline", None), _FeaturePipeline):
            return
        model, num_views = unwrapped(runner.model), self.num_views if which == "training" else None
        _check_model(model)
        _check_dataset(loader.dataset)
        job = _Job(runner, model, loader, loader.dataset, context, num_views)
        packs = [self._check_pipeline(part, which, num_views) for part in parts_of(job.dataset)]
        mode = model.training
        if not model.frozen:
            with job.seeded(self.view_seed), torch.no_grad(), context():
                model.frozen_part = model.frozen_part or FrozenPart(model.backbone)
                some = job.collate([job.dataset[i] for i in range(min(NUM_CHECKED, len(job.dataset)))])
                model.frozen_part.prepare(model.data_preprocessor(some)["inputs"])
        if which != "training":
            _check_copy(model)
        path, kept = self._file(job)
        if not kept:
            with in_turn(path) if is_main_process() else nullcontext():
                path, kept = kept_file(lambda: path)  # another run may have written it by now
                if not kept:
                    with job.seeded(self.view_seed):
                        self._write(path, job)
        if kept:
            runner.logger.info(f"the frozen features of {path} are used again")
        model.train(mode)
        shape = (len(job.dataset),) if num_views is None else (num_views, len(job.dataset))
        take = 1 if num_views is None else job.views
        for part, pack in zip(parts_of(job.dataset), packs, strict=True):
            self._images.append((loader, part, part._pipeline))
            part._pipeline = _FeaturePipeline(path, shape, self.dtype, pack, take)

    def _check_pipeline(
        self, dataset: HierarchicalDataset, which: str = "training", num_views: int | None = None
    ) -> PackInputs:
        """Returns the packing at the end of a pipeline in which nothing is random, or of which views are kept."""
        transforms = dataset._pipeline.transforms
        for transform in transforms:
            if num_views is None and not self._is_deterministic(transform):
                views = "keep several views of each image by the hook's `num_views`, " if which == "training" else ""
                raise ValueError(
                    f"{_name(transform)} in the {which} pipeline is not known to be free of randomness, and features "
                    f"are kept once: {views}take it out (the test pipeline will do), name it in the hook's "
                    "`deterministic` if it makes the same of an image every time, or remove FrozenFeaturesHook"
                )
        if not transforms or not isinstance(transforms[-1], PackInputs):
            raise ValueError(f"the {which} pipeline must end with PackInputs for FrozenFeaturesHook to go on from it")
        return transforms[-1]

    def _is_deterministic(self, transform: Any) -> bool:
        name = _name(transform)
        if name in self.deterministic:
            return True
        # a transform of one's own may have the name of a known one
        return name in WITHOUT_RANDOMNESS and type(transform).__module__.split(".")[0] in _THEIR_PACKAGES

    def _file(self, job: _Job) -> tuple[Path, bool]:
        """Returns the file of the features and whether it is there, the same on all processes."""
        model = job.model
        with job.context():
            precision = _precision(model)

        def name() -> Path:
            about: list[Any] = [str(self.dtype), precision]
            about += [model.neck is None] if model.frozen_part is None else [model.frozen_part.name]
            about += [] if job.num_views is None else [job.num_views, self.view_seed]
            fingerprint = encoder_fingerprint(
                model,
                ["backbone"],
                job.runner.cfg.get("model"),
                job.dataset._pipeline,
                *about,
                images=job.dataset.image_paths,
                weights=None if model.frozen_part is None else model.frozen_part.state(),
            )
            return Path(job.runner.work_dir).resolve() / Path(self.folder).expanduser() / f"{fingerprint}.npy"

        return kept_file(name)

    def _write(self, path: Path, job: _Job) -> None:
        """Embeds the images, each process its part of them, and writes the file."""
        rank, world_size = get_dist_info()
        number = len(job.dataset)
        start, end = (number * part // world_size for part in (rank, rank + 1))
        passes = 1 if job.num_views is None else job.num_views // job.views
        layout: list[Any] = [None, None, None]
        job.model.backbone.eval()
        with ExitStack() as stack:
            if is_main_process():
                (_, example) = next(self._embedded(job, Subset(job.dataset, [0])))
                part = stack.enter_context(whole_file(path))
                shape = (number,) if job.num_views is None else (job.num_views, number)
                layout = self._lay_out(part, (*shape, *example.shape[2:]), len(shape), job.runner, path)
            broadcast_object_list(layout)
            part, header, shape = layout
            image_bytes = int(np.prod(shape)) * self.dtype.itemsize
            begin, told, total = time.monotonic(), 0, passes * (end - start)
            with _open_shared(part) as file:
                for epoch in range(passes):
                    job.dataset.set_epoch(epoch)
                    done = start
                    for indices, views in self._embedded(job, Subset(job.dataset, range(start, end))):
                        wanted = range(done, done + len(indices))
                        for view, features in enumerate(views, start=epoch * job.views):
                            file.seek(header + (view * number + done) * image_bytes)
                            file.write(self._checked(indices, wanted, features, job.dataset, shape).tobytes())
                        done += len(indices)
                        seen = epoch * (end - start) + done - start
                        if (tenth := 10 * seen // total) > told:
                            told = tenth
                            job.runner.logger.info(f"{seen} of {total} images embedded")
                file.flush()
                os.fsync(file.fileno())
            barrier()  # before the main process renames the file
        barrier()
        job.runner.logger.info(f"the frozen features took {time.monotonic() - begin:.0f} s")

    def _embedded(self, job: _Job, images: Subset) -> Iterator[tuple[list[int], Tensor]]:
        """Yields indices of B images and the (views, B, ...) features of them, in the precision of the training."""
        model, batch_size = job.model, max(1, self.batch_size // job.views)
        loader = DataLoader(
            images,
            batch_size,
            num_workers=job.loader.num_workers if len(images) > batch_size else 0,
            collate_fn=job.collate,
            pin_memory=job.loader.pin_memory,
            generator=torch.Generator(),  # of its own: the global one is where it was when training starts
        )
        for batch in loader:
            if any("sample_idx" not in sample for sample in batch["data_samples"]):
                raise ValueError(
                    "the training pipeline must pack `sample_idx`: name it among the meta_keys of PackInputs"
                )
            indices = [sample.sample_idx for sample in batch["data_samples"]]
            with torch.no_grad(), job.context():
                features = model.frozen_features(model.data_preprocessor(batch)["inputs"])
                yield indices, features.unflatten(0, (-1, len(indices)))

    def _lay_out(self, part: Path, shape: tuple[int, ...], axes: int, runner: Runner, path: Path) -> list[Any]:
        """Says how large the file will be and begins it; returns it, the bytes of its header and the shape of a view.

        The first one or two ``axes`` of the shape are views and images.
        """
        image_bytes = int(np.prod(shape[axes:])) * self.dtype.itemsize
        size, free = int(np.prod(shape[:axes])) * image_bytes, shutil.disk_usage(path.parent).free
        views = f"{shape[0]} views x " if axes == 2 else ""
        needed = f"{views}{shape[axes - 1]} images x {image_bytes} bytes = {size / 2**30:.2f} GiB of frozen features"
        runner.logger.info(f"{needed}, {'x'.join(map(str, shape[axes:]))} {self.dtype} each, go to {path}")
        if size > free:
            raise ValueError(
                f"{needed} do not fit: {path.parent} has {free / 2**30:.2f} GiB left. Set dtype='float16' or another "
                f"folder, {'lower num_views, ' if views else ''}make room, or remove FrozenFeaturesHook"
            )
        with open(part, "wb") as file:
            form = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, form)
            return [part, file.tell(), shape[axes:]]

    def _checked(
        self,
        indices: list[int],
        wanted: range,
        features: Tensor,
        dataset: HierarchicalDataset | JoinedDataset,
        shape: tuple[int, ...],
    ) -> NDArray:
        """Returns features as they are kept; NaN for an image that could not be read, so that another stood in."""
        array = features.cpu().to(getattr(torch, self.dtype.name)).numpy()
        if array.shape[1:] != shape:  # not their bytes: a wide image has as many as a tall one
            raise ValueError(
                f"the features of {dataset.get_data_info(indices[0])['img_path']} have the size "
                f"{'x'.join(map(str, array.shape[1:]))}, and those of the first image {'x'.join(map(str, shape))}; "
                "have the pipeline make all images equally large"
            )
        finite = np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
        if not finite.all():
            index = indices[int(finite.argmin())]
            remedy = "set dtype='float32'" if features.isfinite().all() else "mend the backbone's weights"
            raise ValueError(
                f"the features of {dataset.get_data_info(index)['img_path']} are not finite in {self.dtype}; {remedy}"
            )
        array[[index != its for index, its in zip(wanted, indices, strict=True)]] = np.nan
        return array


class _Job:
    """The images of a loader whose features are kept, and what they are embedded with."""

    def __init__(
        self,
        runner: Runner,
        model: HierarchicalContrastive,
        loader: DataLoader,
        dataset: HierarchicalDataset | JoinedDataset,
        context: Context,
        num_views: int | None,
    ) -> None:
        self.runner, self.model, self.loader, self.dataset = runner, model, loader, dataset
        self.context, self.num_views = context, num_views
        self.collate = loader.collate_fn

    @cached_property
    def views(self) -> int:
        """How many views the pipeline makes of an image at a time.

        Raises:
            ValueError: If ``num_views`` is no multiple of it.
        """
        views, *others = [
            len(inputs) if isinstance(inputs := part[0]["inputs"], list | tuple) else 1
            for part in parts_of(self.dataset)
        ]
        if others.count(views) < len(others):
            raise ValueError(
                f"the pipelines of joined data sets must make equally many views of an image for FrozenFeaturesHook; "
                f"they make {[views, *others]}"
            )
        if self.num_views is None and views > 1:
            raise ValueError(
                f"the pipeline makes {views} views of an image: say how many are kept by FrozenFeaturesHook's num_views"
            )
        if self.num_views is not None and self.num_views % views:
            raise ValueError(
                f"num_views must be a multiple of {views}, the views that the pipeline makes of an image at a time; it "
                f"is {self.num_views}"
            )
        return views

    @contextmanager
    def seeded(self, seed: int) -> Iterator[None]:
        """Has the data set give its first epoch, by a seed, and puts it back afterwards."""
        before = [(part, part.seed, int(part._epoch.tensor)) for part in parts_of(self.dataset)]
        self.dataset.seed = seed
        self.dataset.set_epoch(0)
        try:
            yield
        finally:
            for part, own, epoch in before:
                part.seed = own
                part.set_epoch(epoch)


class _FeaturePipeline:
    """Stands in for the transforms of a data set: packs an item with the features of its image.

    Args:
        path: The array.
        shape: The first axes of it: ``(images,)`` or ``(views, images)``.
        dtype: The type of it.
        pack: The packing.
        take: How many of the views an item gets.
    """

    def __init__(
        self,
        path: Path,
        shape: tuple[int, ...],
        dtype: np.dtype,
        pack: Callable[[dict[str, Any]], dict[str, Any]],
        take: int = 1,
    ) -> None:
        self.path, self.pack, self.take = path, pack, take
        self.num_views = shape[0] if len(shape) == 2 else None
        self._features: NDArray | None = None
        found = self.features.shape[: len(shape)]
        if found != shape or self.features.dtype != dtype or not self.features.size:
            raise ValueError(
                f"the frozen features {path} are damaged: they are {' x '.join(map(str, found))} of "
                f"{self.features.dtype}, not {' x '.join(map(str, shape))} of {dtype}; delete the file"
            )

    @property
    def features(self) -> NDArray:
        """The features of all images; opened where they are first asked for, in each worker by itself."""
        if self._features is None:
            try:
                self._features = read_array(self.path, "it holds frozen features: delete it", mapped=True)
            except FileNotFoundError as error:
                raise ValueError(_unseen(self.path)) from error
        return self._features

    def __call__(self, info: dict[str, Any]) -> dict[str, Any]:
        index = info["sample_idx"]
        if self.num_views is None:
            features = np.array(self.features[index])[None]
        else:  # the data set has seeded the generator by (seed, epoch, index)
            chosen = np.random.permutation(self.num_views)[: self.take]  # noqa: NPY002
            features = np.stack([self.features[view, index] for view in chosen])
        if np.isnan(features.flat[0]):
            raise UnreadableImage(
                f"cannot read the image {info['img_path']}, when its features were to be kept in {self.path}"
            )
        return {**self.pack(info), "features": torch.from_numpy(features)}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_features": None}  # a spawned worker gets the path, not a copy of the array

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {self.pack!r}, take={self.take})"


def _check_copy(model: HierarchicalContrastive) -> None:
    """Raises unless a copy of the encoder before training goes on from the same features."""
    if model.pretrained is None:
        return
    copy = model.pretrained.backbone
    if model.frozen_part is None:
        own, its = model.backbone.state_dict(), copy.state_dict()
    else:
        own, its = dict(model.frozen_part.state()), dict(model.frozen_part.of(copy).state())
    if any(not torch.equal(its[name], weight) for name, weight in own.items()):
        raise ValueError(
            "the frozen part of the backbone is not that of its copy before training (model.pretrained_share), so that "
            "features cannot be kept for both: the checkpoint is of a training that froze less. Freeze as much as that "
            "did, or set evaluation=False of FrozenFeaturesHook"
        )


def _check_model(model: Any) -> None:
    if not isinstance(model, HierarchicalContrastive):
        raise ValueError(
            f"FrozenFeaturesHook trains HierarchicalContrastive, not {type(model).__name__}; remove the hook"
        )


def _check_dataset(dataset: Any) -> None:
    check_counts_through(dataset, "FrozenFeaturesHook")
    if not isinstance(dataset, HierarchicalDataset | JoinedDataset):
        raise ValueError(
            f"FrozenFeaturesHook reads the data sets of hierpretrain.datasets, not {type(dataset).__name__}; "
            "use one of them, or remove the hook"
        )


def _name(transform: Any) -> str:
    """Returns the name by which a config has a transform."""
    if isinstance(transform, TorchVisonTransformWrapper):
        return f"torchvision/{type(transform.t).__name__}"
    return getattr(transform, "__name__", type(transform).__name__)


def _precision(model: HierarchicalContrastive) -> str:
    """Returns the type in which convolutions are computed in the present context."""
    device = next(model.parameters()).device.type
    return str(torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32)


def _open_shared(path: Path) -> Any:
    try:
        return open(path, "r+b")
    except FileNotFoundError as error:
        raise ValueError(_unseen(path)) from error


def _unseen(path: Path) -> str:
    return f"this process does not see {path}; set FrozenFeaturesHook's folder to one that all processes share"
