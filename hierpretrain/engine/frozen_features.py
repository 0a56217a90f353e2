"""A hook that runs a frozen backbone once per training image instead of once per image and epoch."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import barrier, broadcast_object_list, get_dist_info, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner
from mmpretrain.datasets.transforms import PackInputs
from mmpretrain.datasets.transforms.processing import TorchVisonTransformWrapper
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from hierpretrain.checks import check_at_least_1, check_one_of
from hierpretrain.datasets import HierarchicalDataset, UnreadableImage
from hierpretrain.engine.fingerprint import encoder_fingerprint, kept_file
from hierpretrain.files import whole_file
from hierpretrain.models import HierarchicalContrastive
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

_THEIR_PACKAGES = ("hierpretrain", "mmcv", "mmpretrain")


@HOOKS.register_module()
class FrozenFeaturesHook(Hook):
    """Embeds every training image once by the frozen backbone, keeps that in a file, and trains from the file.

    Where all of the backbone is frozen and nothing in the training pipeline is random, the backbone's output never
    changes. It is kept in one memory-mapped array, ``<fingerprint>.npy``: what the backbone hands to the
    neck or, if there is no neck, the vectors of the encoder, which are smaller. Losses and weights equal a
    training without the hook, but for the rounding of half precision, if that is chosen, and of convolutions that a
    library computes differently for batches of another size. Validation embeds images as always.

    The fingerprint covers the backbone's options and weights, the images' paths and the pipeline, so a resumed run,
    and every other run on the same backbone and images, uses the file again. (An image that was changed under its old
    name is not noticed: delete the file then.) A file is there whole or not at all; what a killed run leaves behind
    begins with a dot. Several processes share the work and the file, so all of them must see its folder.

    Args:
        folder: Where the files lie; a relative path is below the work directory.
        dtype: ``'float32'``, or ``'float16'`` for half the size.
        batch_size: Images that the backbone embeds at a time, on each process.
        deterministic: Names of transforms of your own, classes or functions, that are free of randomness.

    Raises:
        ValueError: If a parameter of the backbone is trained; a transform is not known to be free of randomness; the
            disk has not enough room; features are not finite; or a file is damaged.
    """

    def __init__(
        self,
        *,
        folder: str = "features",
        dtype: str = "float32",
        batch_size: int = 64,
        deterministic: Sequence[str] = (),
    ) -> None:
        check_one_of("dtype", dtype, ("float32", "float16"))
        check_at_least_1(batch_size=batch_size)
        self.folder, self.dtype, self.batch_size = folder, np.dtype(dtype), batch_size
        self.deterministic = tuple(deterministic)
        self._images: Any = None  # the data set's own pipeline while training goes on without it

    def before_train(self, runner: Runner) -> None:
        """Embeds what is not kept, and has the data set give features instead of images."""
        model = unwrapped(runner.model)
        dataset = runner.train_dataloader.dataset
        _check_model(model)
        pack = self._check_pipeline(dataset)
        path, kept = self._file(runner, model, dataset)
        if not kept:
            self._write(path, runner, model, dataset)
        else:
            runner.logger.info(f"the frozen features of {path} are used again")
        self._images, dataset._pipeline = dataset._pipeline, _FeaturePipeline(path, len(dataset), self.dtype, pack)
        _let_workers_go(runner)

    def after_train(self, runner: Runner) -> None:
        """Gives the data set its images back."""
        runner.train_dataloader.dataset._pipeline, self._images = self._images, None
        runner.train_dataloader._iterator = None

    def _check_pipeline(self, dataset: Any) -> PackInputs:
        """Returns the packing at the end of a pipeline in which nothing is random."""
        if not isinstance(dataset, HierarchicalDataset):
            raise ValueError(
                f"FrozenFeaturesHook reads the data sets of hierpretrain.datasets, not {type(dataset).__name__}; "
                "use one of them, or remove the hook"
            )
        transforms = dataset._pipeline.transforms
        for transform in transforms:
            if not self._is_deterministic(transform):
                raise ValueError(
                    f"{_name(transform)} in the training pipeline is not known to be free of randomness, and features "
                    "are kept once: take it out (the test pipeline will do), name it in the hook's `deterministic` if "
                    "it makes the same of an image every time, or remove FrozenFeaturesHook"
                )
        if not transforms or not isinstance(transforms[-1], PackInputs):
            raise ValueError("the training pipeline must end with PackInputs for FrozenFeaturesHook to go on from it")
        return transforms[-1]

    def _is_deterministic(self, transform: Any) -> bool:
        name = _name(transform)
        if name in self.deterministic:
            return True
        # a transform of one's own may have the name of a known one
        return name in WITHOUT_RANDOMNESS and type(transform).__module__.split(".")[0] in _THEIR_PACKAGES

    def _file(self, runner: Runner, model: HierarchicalContrastive, dataset: HierarchicalDataset) -> tuple[Path, bool]:
        """Returns the file of the features and whether it is there, the same on all processes."""
        with runner.optim_wrapper.optim_context(runner.model):
            precision = _precision(model)

        def name() -> Path:
            about = (runner.cfg.get("model"), dataset._pipeline, str(self.dtype), precision, model.neck is None)
            fingerprint = encoder_fingerprint(model, ["backbone"], *about, images=dataset.image_paths)
            return Path(runner.work_dir).resolve() / Path(self.folder).expanduser() / f"{fingerprint}.npy"

        return kept_file(name)

    def _write(self, path: Path, runner: Runner, model: HierarchicalContrastive, dataset: HierarchicalDataset) -> None:
        """Embeds the images, each process its part of them, and writes the file."""
        rank, world_size = get_dist_info()
        start, end = (len(dataset) * part // world_size for part in (rank, rank + 1))
        layout: list[Any] = [None, None, None]
        model.backbone.eval()
        with ExitStack() as stack:
            if is_main_process():
                (_, example) = next(self._embedded(runner, model, Subset(dataset, [0])))
                part = stack.enter_context(whole_file(path))
                layout = self._lay_out(part, (len(dataset), *example.shape[1:]), runner, path)
            broadcast_object_list(layout)
            part, header, image_bytes = layout
            begin, told = time.monotonic(), 0
            with _open_shared(part) as file:
                file.seek(header + start * image_bytes)
                done = start
                for indices, features in self._embedded(runner, model, Subset(dataset, range(start, end))):
                    file.write(self._checked(indices, range(done, done + len(indices)), features, dataset).tobytes())
                    done += len(indices)
                    if (tenth := 10 * (done - start) // (end - start)) > told:
                        told = tenth
                        runner.logger.info(f"{done - start} of {end - start} images embedded")
                file.flush()
                os.fsync(file.fileno())
            barrier()  # before the main process renames the file
        barrier()
        runner.logger.info(f"the frozen features took {time.monotonic() - begin:.0f} s")

    def _embedded(
        self, runner: Runner, model: HierarchicalContrastive, images: Subset
    ) -> Iterator[tuple[list[int], Tensor]]:
        """Yields indices of images and their features, batch by batch, in the precision of the training."""
        loader = DataLoader(
            images,
            self.batch_size,
            num_workers=runner.train_dataloader.num_workers if len(images) > self.batch_size else 0,
            collate_fn=runner.train_dataloader.collate_fn,
            pin_memory=runner.train_dataloader.pin_memory,
            generator=torch.Generator(),  # of its own: the global one is where it was when training starts
        )
        for batch in loader:
            if any("sample_idx" not in sample for sample in batch["data_samples"]):
                raise ValueError(
                    "the training pipeline must pack `sample_idx`: name it among the meta_keys of PackInputs"
                )
            indices = [sample.sample_idx for sample in batch["data_samples"]]
            with torch.no_grad(), runner.optim_wrapper.optim_context(runner.model):
                yield indices, model.frozen_features(model.data_preprocessor(batch)["inputs"])

    def _lay_out(self, part: Path, shape: tuple[int, ...], runner: Runner, path: Path) -> list[Any]:
        """Says how large the file will be and begins it; returns it and the bytes of its header and of an image."""
        image_bytes = int(np.prod(shape[1:])) * self.dtype.itemsize
        size, free = shape[0] * image_bytes, shutil.disk_usage(path.parent).free
        needed = f"{shape[0]} images x {image_bytes} bytes = {size / 2**30:.2f} GiB of frozen features"
        runner.logger.info(f"{needed}, {'x'.join(map(str, shape[1:]))} {self.dtype} each, go to {path}")
        if size > free:
            raise ValueError(
                f"{needed} do not fit: {path.parent} has {free / 2**30:.2f} GiB left. Set dtype='float16' or another "
                "folder, make room, or remove FrozenFeaturesHook"
            )
        with open(part, "wb") as file:
            form = {"descr": np.lib.format.dtype_to_descr(self.dtype), "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, form)
            return [part, file.tell(), image_bytes]

    def _checked(self, indices: list[int], wanted: range, features: Tensor, dataset: HierarchicalDataset) -> NDArray:
        """Returns features as they are kept; NaN for an image that could not be read, so that another stood in."""
        array = features.cpu().to(getattr(torch, self.dtype.name)).numpy()
        finite = np.isfinite(array).all(axis=tuple(range(1, array.ndim)))
        if not finite.all():
            index = indices[int(finite.argmin())]
            remedy = "set dtype='float32'" if features.isfinite().all() else "mend the backbone's weights"
            raise ValueError(
                f"the features of {dataset.get_data_info(index)['img_path']} are not finite in {self.dtype}; {remedy}"
            )
        array[[index != its for index, its in zip(wanted, indices, strict=True)]] = np.nan
        return array


class _FeaturePipeline:
    """Stands in for the transforms of a data set: packs an item with the features of its image."""

    def __init__(self, path: Path, number: int, dtype: np.dtype, pack: Callable[[dict[str, Any]], dict[str, Any]]):
        self.path, self.pack = path, pack
        self._features: NDArray | None = None
        if (found := self.features.shape[0]) != number or self.features.dtype != dtype:
            raise ValueError(
                f"the frozen features {path} are damaged: they are {found} of {self.features.dtype}, not {number} of "
                f"{dtype}; delete the file"
            )

    @property
    def features(self) -> NDArray:
        """The features of all images; opened where they are first asked for, in each worker by itself."""
        if self._features is None:
            try:
                self._features = np.load(self.path, mmap_mode="r", allow_pickle=False)
            except FileNotFoundError as error:
                raise ValueError(_unseen(self.path)) from error
            except (ValueError, EOFError, OSError) as error:
                raise ValueError(f"the frozen features {self.path} are damaged: {error}; delete the file") from error
        return self._features

    def __call__(self, info: dict[str, Any]) -> dict[str, Any]:
        features = np.array(self.features[info["sample_idx"]])
        if np.isnan(features.flat[0]):
            raise UnreadableImage(f"cannot read the image {info['img_path']}, when its features were to be kept")
        return {**self.pack(info), "features": torch.from_numpy(features)}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_features": None}  # a spawned worker gets the path, not a copy of the array

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.path)!r}, {self.pack!r})"


def _check_model(model: Any) -> None:
    if not isinstance(model, HierarchicalContrastive):
        raise ValueError(
            f"FrozenFeaturesHook trains HierarchicalContrastive, not {type(model).__name__}; remove the hook"
        )
    if trained := [name for name, parameter in model.backbone.named_parameters() if parameter.requires_grad]:
        raise ValueError(
            f"the backbone is not frozen: {len(trained)} of its parameters are trained, the first of them "
            f"{trained[0]}. Freeze all of it (frozen_stages=4 of a ResNet), or remove FrozenFeaturesHook"
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


def _let_workers_go(runner: Runner) -> None:
    """Stops workers that have begun to load images: a run that counts iterations has started them by now."""
    loop, loader = runner.train_loop, runner.train_dataloader
    if loader.num_workers:
        loader._iterator = None
        if isinstance(loop, IterBasedTrainLoop):
            loop.dataloader_iterator = type(loop.dataloader_iterator)(loader)
