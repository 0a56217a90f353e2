"""A trained model put to use: images in, embeddings, neighbours and classes out."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.device import get_device
from mmengine.logging import MMLogger
from mmengine.runner import load_checkpoint
from mmpretrain.models import BaseSelfSupervisor
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from hierpretrain import registry
from hierpretrain.apis.addresses import is_address
from hierpretrain.apis.config import nearest_names, override
from hierpretrain.apis.dataset_configs import evaluation_pipeline
from hierpretrain.apis.encoder_settings import apply_encoder_settings, preprocessor_options, told
from hierpretrain.apis.image_batches import Batch, default_workers, read_batches
from hierpretrain.apis.images import Images, ImageSet, gather_images
from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.apis.index_changes import check_once
from hierpretrain.apis.index_files import check_target
from hierpretrain.apis.index_model import model_parts
from hierpretrain.apis.living import check_embedded_by, checked_columns
from hierpretrain.apis.neighbours import Classification, SearchResult
from hierpretrain.apis.pure_python import named_copy, type_name
from hierpretrain.apis.starts import check_checkpoint
from hierpretrain.apis.zoo import find_model
from hierpretrain.checks import check_at_least_1, check_from_0, check_one_of
from hierpretrain.datasets import UnreadableImage
from hierpretrain.datasets.loading_transforms import PackInputs
from hierpretrain.datasets.on_error import check_on_error
from hierpretrain.engine.fingerprint import encoder_fingerprint
from hierpretrain.evaluation import Embeddings
from hierpretrain.functional.approximate import KINDS
from hierpretrain.models import HierarchicalContrastive, MultiViewPreprocessor

# options of encoders that only training heeds, and what MMEngine notes of where a config was read from
_WITHOUT_EFFECT = {"_scope_", "frozen", "frozen_stages", "init_cfg", "norm_eval", "pretrained", "weights", "with_cp"}


class EmbeddingInferencer:
    """Embeds images with a trained model, searches among them and classifies by them.

    Args:
        model: A config file; a config; or a name of the model zoo, ours (``'himulcone_emoji'``) or mmpretrain's
            (``'resnet50_8xb32_in1k'``), of whose models the backbone, and a classifier's neck, are taken.
        checkpoint: The file of the weights. It may be left out for a model of the zoo that comes with weights. ``''``
            takes the weights that training would start with: those of ``load_from``, pretrained, or random.
        options: Overrides of the config, dotted keys and their values, as ``--cfg-options`` gives them.
        device: Such as ``'cpu'`` or ``'cuda:1'``; a GPU if there is one.
        batch_size: Images that are embedded at a time, by all processes together.
        num_workers: Processes that read images, and on a CPU embed them, each on one thread; 0 does all in this one.
            ``None``: on a CPU as many as torch has threads, otherwise two. A few images need no other process.
        amp: Whether the encoder computes in bfloat16 where it can, which is quick on processors and GPUs that have it.
            Embeddings are less exact by that, and so are cosines, by some thousandths.
        on_error: What a file or a link that cannot be read does: ``'error'`` raises, ``'skip'`` goes on without it and
            says so in ``Embeddings.skipped``.
        progress: Whether a bar on the terminal shows how far it is.

    Attributes:
        name: The model for people: ``'himulcone_emoji, epoch_5.pth'``.
        config: The config, with its overrides.
        module: The encoder, a :class:`~hierpretrain.models.HierarchicalContrastive` without its loss.
        pipeline: The config's test transforms from an opened picture on.
        index: What :meth:`search` and :meth:`classify` look into.

    Raises:
        ValueError: If the model is unknown or cannot be built, the checkpoint is missing, damaged or another model's,
            the config has no test pipeline that begins with opening a file, or there is no such device.

    Example:
        >>> import tempfile
        >>> from mmengine.config import Config
        >>> backbone = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
        >>> pipeline = [dict(type="LoadRGB"), dict(type="torchvision/Resize", size=(32, 32))]
        >>> config = Config(dict(model=dict(type="HierarchicalContrastive", backbone=backbone),
        ...                      test_dataloader=dict(dataset=dict(pipeline=pipeline))))
        >>> _ = torch.manual_seed(0)
        >>> inferencer = EmbeddingInferencer(config, checkpoint="", device="cpu", progress=False)
        >>> images = [np.full((40, 50, 3), value, np.uint8) for value in (0, 90, 250)]
        >>> inferencer(images).shape
        (3, 64)
        >>> index = inferencer.build_index(images)
        >>> inferencer.search(images[1], k=2)[0].neighbours[0].path
        '<image 1>'
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | Config,
        checkpoint: str | os.PathLike[str] | None = None,
        *,
        options: Mapping[str, Any] | None = None,
        device: str | torch.device | None = None,
        batch_size: int = 64,
        num_workers: int | None = 0,
        amp: bool = False,
        on_error: str = "error",
        progress: bool = True,
    ) -> None:
        check_on_error(on_error)
        check_at_least_1(batch_size=batch_size)
        if num_workers is not None:
            check_from_0(num_workers=num_workers)
        self.config, weights, name = _find(model, options)
        checkpoint = weights if checkpoint is None else os.fspath(checkpoint) or self.config.get("load_from") or ""
        if checkpoint is None:
            raise ValueError(
                f"{name} comes without weights: give the checkpoint of a training, such as "
                f"work_dirs/{name}/epoch_5.pth, or '' for the weights that training would start with"
            )
        self.device = _device(device)
        self.batch_size, self.amp, self.on_error, self.progress = batch_size, amp, on_error, progress
        self.num_workers = default_workers(self.device) if num_workers is None else num_workers
        if contradictions := _of_the_test(apply_encoder_settings(self.config)):
            MMLogger.get_current_instance().warning(told(contradictions))
        options, flip = _encoder_options(self.config)
        self.opening, self.pipeline = _pipeline(self.config, flip)
        self.min_side = self.opening.get("min_side")
        self.module = _encoder(options, checkpoint, whole=_is_ours(self.config)).to(self.device).eval()
        self.name = f"{name}, {os.path.basename(checkpoint) or 'untrained'}"
        if self.device.type == "cpu":
            _lay_channels_last(self.module)
        self.index: EmbeddingIndex | None = None
        self._known = self._weights_state(), self._fingerprint()

    @property
    def fingerprint(self) -> str:
        """16 hex digits of all that an embedding depends on beside the image; others once the weights are changed.

        A change of a weight's ``.data`` in place is not noticed: torch does not count it.
        """
        if (state := self._weights_state()) != self._known[0]:
            self._known = state, self._fingerprint()
        return self._known[1]

    def _weights_state(self) -> list[tuple[int, int]]:
        """Returns what changes with the weights and is quick: where each lies, and torch's count of its changes."""
        weights = [*self.module.parameters(), *self.module.buffers()]
        return [(weight.data_ptr(), 0 if weight.is_inference() else weight._version) for weight in weights]

    def _fingerprint(self) -> str:
        about = (self.pipeline, self.min_side, *self.module.embedding_options)
        if "grey_range" in self.opening:
            about += (self.opening["grey_range"],)
        model = self.config.model
        if not isinstance(self.module.data_preprocessor, MultiViewPreprocessor):  # whose mean and std are all
            model = {**model, "data_preprocessor": preprocessor_options(self.config)}
        return encoder_fingerprint(self.module, self.module.encoder_parts, _effective(model), *about)

    def __call__(self, images: Images) -> NDArray[np.float32]:
        """Returns the (N, D) float32 unit embeddings of images; an image that :attr:`on_error` skips has none.

        Args:
            images: See :meth:`embed`.
        """
        return self.embed(images).features.numpy()

    def embed(self, images: Images, **list_options: Any) -> Embeddings:
        """Embeds images and says what is known of them.

        Args:
            images: A file, a folder, a pattern such as ``'photos/**/*.jpg'``, a list (CSV, JSON, JSON Lines, Excel
                or Parquet), an (H, W, 3) uint8 RGB array, a picture of Pillow's, a data set, or a sequence of these;
                see :func:`~hierpretrain.apis.images.gather_images`.
            list_options: How lists are read: ``levels``, ``image_column``, ``key_column`` and so on; see there too.

        Returns:
            The embeddings with labels (of a folder, a list or a data set), paths and tree, in the order of the images,
            and with the keys and the metadata of a list.

        Raises:
            ValueError: If there is no image, one cannot be read (with ``on_error='error'``) or none can, images come
                out of the pipeline in different sizes, a batch does not fit into the GPU, or an embedding is not
                finite.
        """
        return self.embed_set(gather_images(images, on_error=self.on_error, **list_options))

    def embed_set(self, found: ImageSet, *, need_one: bool = True) -> Embeddings:
        """Embeds images that are gathered already; as :meth:`embed`.

        Args:
            found: The images.
            need_one: Whether it is an error if none can be read, with ``on_error='skip'`` too.
        """
        features, indices, skipped = [], [], dict(found.skipped)
        digests: dict[int, str] = {}
        for batch, embedded in self._batches(found):
            skipped.update({found.paths[index]: reason for index, reason in batch.unread.items()})
            digests.update(batch.digests)
            if batch.unread and self.on_error == "error":
                reason = next(iter(batch.unread.values()))
                raise UnreadableImage(
                    f"{reason}; replace the file, or have such files skipped: on_error='skip' (--on-error skip)"
                )
            if batch.indices:
                features.append(embedded)
                indices += batch.indices
        if not indices and need_one:
            raise UnreadableImage(
                f"none of the {len(found.paths)} images can be read; the first: {next(iter(skipped.values()))}"
            )
        embedded = torch.cat(features) if features else torch.empty(0, self.width)
        if not (finite := embedded.isfinite().all(1)).all():
            raise ValueError(
                f"the embedding of {found.paths[indices[int((~finite).nonzero()[0])]]} is not finite: the weights of "
                f"{self.name} come from a training that diverged, or the image is not finite"
            )
        return Embeddings(
            features=embedded,
            labels=found.labels[indices],
            extra_labels=found.extra_labels[indices],
            splits=[found.splits[index] for index in indices],
            paths=[found.paths[index] for index in indices],
            taxonomy=found.taxonomy,
            extra_names=tuple(found.extra_names),
            extra_values=found.extra_values,
            skipped=skipped,
            keys=[found.keys[index] for index in indices] if found.keys else (),
            metadata={name: [column[index] for index in indices] for name, column in found.metadata.items()},
            digests=[digests[index] for index in indices],
            model=self.name,
            fingerprint=self.fingerprint,
        )

    def build_index(
        self,
        images: Images | Embeddings,
        folder: str | os.PathLike[str] | None = None,
        *,
        carry_model: bool = True,
        kind: str = "auto",
        half: bool = False,
        seed: int = 0,
        log: Callable[[str], None] | None = None,
    ) -> EmbeddingIndex:
        """Embeds images and builds the index that :meth:`search` and :meth:`classify` use.

        Args:
            images: See :meth:`embed`; or what it returned.
            folder: Where to save the index, a folder or an address of Milvus; nowhere by default.
            carry_model: Whether the folder also gets the config and the weights of the encoder, so that the index can
                be searched and added to without them.
            kind: As for :meth:`EmbeddingIndex.build`.
            half: As there; not in Milvus.
            seed: As there; not in Milvus.
            log: As there; ``None`` prints the lines if there is a progress bar.

        Raises:
            ValueError: As :meth:`embed` and :meth:`EmbeddingIndex.build`, if another model embedded the images; or if
                the config holds what is no data, such as a function, and cannot be carried.
        """
        check_one_of("kind", kind, ("auto", *KINDS))
        parts: dict[str, bytes] = {}
        if isinstance(images, Embeddings):
            check_embedded_by(images, self.name, self.fingerprint)
        if log is None:
            log = print if self.progress else lambda line: None
        if folder is not None:
            check_target(folder, half=half, seed=seed)  # before the work, not after it
            parts = model_parts(self) if carry_model else {}
            if is_address(folder):
                return self._build_in_milvus(images, os.fspath(folder), parts, kind, log)
        embedded = images if isinstance(images, Embeddings) else self.embed(images)
        about = dict(model=self.name, fingerprint=self.fingerprint)
        index = EmbeddingIndex.build(embedded, **about, kind=kind, half=half, seed=seed, log=log)
        index.use_model(self)
        if folder is not None:
            index.carry(parts)
            index.save(folder)
        self.index = index
        return index

    def _build_in_milvus(
        self,
        images: Images | Embeddings,
        address: str,
        parts: Mapping[str, bytes],
        kind: str,
        log: Callable[[str], None],
    ) -> EmbeddingIndex:
        from hierpretrain.apis.milvus import MilvusIndex  # which needs pymilvus

        embedded = images if isinstance(images, Embeddings) else self.embed(images)
        embedded = checked_columns(embedded)  # not after an older index has made room
        check_once(embedded.keys, embedded.paths)
        about = dict(model=self.name, fingerprint=self.fingerprint, width=self.width, kind=kind)
        index = MilvusIndex.create(address, **about, replace=True)
        index.use_model(self)
        index.log = log
        index.add(embedded)
        index.carry(parts)
        self.index = index  # type: ignore[assignment]
        return index  # type: ignore[return-value]

    def load_index(self, folder: str | os.PathLike[str]) -> EmbeddingIndex:
        """Loads an index that this model made.

        Raises:
            ValueError: If the folder holds no index, a damaged one, or one that another model made.
        """
        index = EmbeddingIndex.open(folder)
        index.use_model(self)
        self.index = index
        return index

    def search(
        self,
        images: Images,
        k: int = 10,
        level: int | str | None = None,
        within: str | Sequence[str] | None = None,
    ) -> list[SearchResult]:
        """Finds the images of the index that are most like given ones.

        Args:
            images: See :meth:`embed`.
            k: How many neighbours, from 1.
            level: A level, by name or number, of which neighbours are to be different nodes: k products, say, each by
                its nearest image.
            within: A branch of the tree to search in, by names from below the root: ``'animal/cat'``.

        Returns:
            One result an image, with its neighbours, the nearest first.

        Raises:
            ValueError: If there is no index, as :meth:`embed`, and as :meth:`EmbeddingIndex.search`.
        """
        index = self._index()
        index.check_search(k, level=level, within=within)  # not after embedding many images
        return index.search(self.embed(images), k, level=level, within=within)

    def classify(self, images: Images, **options: Any) -> list[Classification]:
        """Says where in the index's tree images belong, level by level, as far as their neighbours agree.

        Args:
            images: See :meth:`embed`.
            options: The options of :meth:`EmbeddingIndex.classify`: ``k``, ``temperature``, ``threshold``.

        Raises:
            ValueError: If there is no index or its images have no labels, as :meth:`embed`, and as
                :meth:`EmbeddingIndex.classify`.
        """
        return self._index().classify(self.embed(images), **options)

    def _index(self) -> EmbeddingIndex:
        if self.index is None:
            raise ValueError("there is no index to look into; call build_index(images) or load_index(folder) first")
        return self.index

    @functools.cached_property
    def width(self) -> int:
        """The length D of an embedding, found by embedding a black picture."""
        return self._encode([self.pipeline(Image.new("RGB", (64, 64)))]).shape[1]

    @property
    def _encode(self) -> Encode:
        return Encode(self.module, self.device, self.amp)

    def _batches(self, images: ImageSet) -> Iterator[tuple[Batch, Tensor]]:
        """Yields batches with the (n, D) embeddings of the images that could be read."""
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        console = Console(stderr=True)
        in_workers = self.device.type == "cpu"
        batches = read_batches(
            images,
            self.opening,
            self.pipeline,
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            encode=self._encode if in_workers else None,
        )
        with Progress(*columns, console=console, disable=not (self.progress and console.is_terminal)) as progress:
            task = progress.add_task("embedding", total=len(images.paths))
            for batch in batches:
                features = batch.images if in_workers or not batch.indices else self._encode(batch.images)
                yield batch, features
                progress.advance(task, len(batch))


@dataclass(frozen=True)
class Encode:
    """Turns inputs of an encoder into embeddings, in any process.

    Args:
        module: The encoder, whose preprocessor takes the inputs.
        device: Where it computes.
        amp: Whether in bfloat16 where it can.
    """

    module: HierarchicalContrastive
    device: torch.device
    amp: bool

    @torch.no_grad()
    def __call__(self, pictures: list[Tensor]) -> Tensor:
        """Returns the (N, D) embeddings of N inputs."""
        try:
            data = self.module.data_preprocessor({"inputs": pictures})
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.amp):
                return self.module.embed(data["inputs"]).cpu()
        except torch.OutOfMemoryError as error:
            raise ValueError(
                f"{len(pictures)} images at a time do not fit into the memory of {self.device}; give a smaller "
                "batch_size"
            ) from error


class _Pipeline:
    """A config's test transforms from an opened picture on.

    Args:
        transforms: The transforms between opening and packing.
        as_array: Whether they take a BGR array, as mmpretrain's do, instead of a picture of Pillow's.
        flip: Whether the channels are turned round at the end, as a preprocessor of mmpretrain's does with ``to_rgb``.
    """

    def __init__(self, transforms: Sequence[Mapping[str, Any]], *, as_array: bool, flip: bool) -> None:
        with _built("test pipeline"):
            self.transforms = Compose(
                [registry.TRANSFORMS.build({"_scope_": "hierpretrain", **part}) for part in transforms]
            )
        self.as_array, self.flip = as_array, flip

    def __call__(self, picture: Image.Image) -> Tensor:
        """Returns the (C, H, W) input of the model, not yet normalised."""
        shape = (picture.height, picture.width)
        image = np.asarray(picture)[..., ::-1].copy() if self.as_array else picture
        results = self.transforms({"img": image, "ori_shape": shape, "img_shape": shape})
        tensor = PackInputs.format_input(results["img"])
        return tensor.flip(0) if self.flip else tensor

    def __repr__(self) -> str:
        return f"{self.transforms!r}, as_array={self.as_array}, flip={self.flip}"


def _find(model: str | os.PathLike[str] | Config, options: Mapping[str, Any] | None) -> tuple[Config, str | None, str]:
    """Returns a model's config, its weights if the zoo has them, and its name."""
    if isinstance(model, Config):
        config, weights = model, None
        name = Path(model.filename).stem if model.filename else "the model"
    else:
        config, weights = find_model(os.fspath(model))
        name = Path(os.fspath(model).rpartition("::")[2]).stem
    config = named_copy(config)
    override(config, options or {}, f"the config of {name}")
    if not isinstance(config.get("model"), Mapping):
        raise ValueError(f"the config must have a model, a dict with its type; it has {config.get('model')!r}")
    return config, weights, name


def _of_the_test(contradictions: list[str]) -> list[str]:
    """Returns the contradictions that matter to whoever embeds images: not the training's."""
    return [text for text in contradictions if not text.startswith("train_dataloader")]


def _device(name: str | torch.device | None) -> torch.device:
    try:
        device = torch.device(name or get_device())
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # torch has both for what it was not compiled for
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"the device {str(name)!r} cannot be used here: {reason}; give 'cpu', or none, which takes a GPU if there "
            "is one"
        ) from error
    return device


@contextmanager
def _built(part: str) -> Iterator[None]:
    """Makes what a library raises at options that it does not take an error that says whose options they are."""
    try:
        with nearest_names():
            yield
    except ValueError:
        raise
    except Exception as error:  # mmpretrain's parts raise nearly anything
        raise ValueError(
            f"the config's {part} cannot be built: {type(error).__name__}: {error}; correct its options"
        ) from error


@contextmanager
def _warnings_only() -> Iterator[None]:
    """Keeps MMEngine from telling of every weight that it sets: who embeds images has not asked for it."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


def _effective(value: Any) -> Any:
    """Returns what of a config an embedding depends on."""
    if isinstance(value, Mapping):
        return {key: _effective(item) for key, item in value.items() if key not in _WITHOUT_EFFECT}
    return [_effective(item) for item in value] if isinstance(value, list | tuple) else value


def _kind(transform: Mapping[str, Any]) -> str:
    return type_name(transform.get("type"))


def _pipeline(config: Config, flip: bool) -> tuple[dict[str, Any], _Pipeline]:
    """Returns the options of ``LoadRGB``, as far as they are set, and the transforms from the opened picture on."""
    transforms = evaluation_pipeline(config)
    known = all(isinstance(transform, Mapping) for transform in transforms)
    if not known or not transforms or _kind(transforms[0]) not in ("LoadRGB", "LoadImageFromFile"):
        raise ValueError(
            "the config's test_dataloader.dataset must have a pipeline that begins with LoadRGB (or mmpretrain's "
            f"LoadImageFromFile), so that it tells how images become input; it has {transforms[:1] or 'none'}"
        )
    as_array = _kind(transforms[0]) == "LoadImageFromFile"
    if as_array and transforms[0].get("color_type", "color") != "color":
        raise ValueError(
            "LoadImageFromFile of the test pipeline must have the color_type 'color', as images that are given come in "
            f"colours; it has {transforms[0]['color_type']!r}: turn them grey by a transform after it"
        )
    middle = [transform for transform in transforms[1:] if _kind(transform) != "PackInputs"]
    given = {name: transforms[0].get(name) for name in ("min_side", "grey_range", "max_pixels")}
    opening = {name: value for name, value in given.items() if value is not None}
    return opening, _Pipeline(middle, as_array=as_array, flip=flip)


def _lay_channels_last(module: HierarchicalContrastive) -> None:
    """Lays out weights and images as a CPU's convolutions are fastest with; embeddings differ by their rounding."""
    module.to(memory_format=torch.channels_last)
    if isinstance(module.data_preprocessor, MultiViewPreprocessor):
        module.data_preprocessor.memory_format = torch.channels_last


def _is_ours(config: Config) -> bool:
    kind = registry.class_of(registry.MODELS, config.model)
    return isinstance(kind, type) and issubclass(kind, HierarchicalContrastive)


def _encoder_options(config: Config) -> tuple[dict[str, Any], bool]:
    """Returns the options of a config's encoder, and whether its preprocessor turns the channels of images round."""
    options = dict(config.model)
    if _is_ours(config):
        options |= {"loss": None, "data_preprocessor": preprocessor_options(config)}
        if options.get("embedding", "backbone") == "backbone":
            options["projection"] = None
        return options, False
    if "backbone" not in options:
        raise ValueError(f"a model must have a backbone to embed images; {_kind(options)} has none")
    theirs = _their_preprocessor(config)
    mean, std = (getattr(theirs, name, torch.tensor([rest])) for name, rest in (("mean", 0.0), ("std", 1.0)))
    options = dict(
        type="HierarchicalContrastive",
        backbone=options["backbone"],
        neck=options.get("neck") if _kind(options) == "ImageClassifier" else None,
        data_preprocessor=dict(type="MultiViewPreprocessor", mean=mean.flatten().tolist(), std=std.flatten().tolist()),
    )
    return options, any(getattr(theirs, name, False) for name in ("to_rgb", "_channel_conversion"))


def _their_preprocessor(config: Config) -> Any:
    """Builds the preprocessor of a model of mmpretrain's, with the type and the defaults that it has there."""
    kind = registry.class_of(registry.MODELS, config.model)
    self_supervised = isinstance(kind, type) and issubclass(kind, BaseSelfSupervisor)
    default = "SelfSupDataPreprocessor" if self_supervised else "ClsDataPreprocessor"
    with _built("data_preprocessor"), _warnings_only():
        return registry.MODELS.build({"_scope_": "hierpretrain", "type": default, **preprocessor_options(config)})


def _encoder(options: Mapping[str, Any], checkpoint: str, *, whole: bool) -> HierarchicalContrastive:
    """Builds an encoder and loads its weights, of which the checkpoint must have no others if it is ``whole``."""
    with _built("model"):
        module = registry.MODELS.build({"_scope_": "hierpretrain", **options})
    with _warnings_only():
        if checkpoint:
            check_checkpoint(module, checkpoint, whole=whole)
            load_checkpoint(module, checkpoint, map_location="cpu", logger="silent")
        else:
            module.init_weights()
    for part in module.modules():
        if hasattr(part, "init_cfg"):
            part.init_cfg = None  # its weights are made, and where from is no option of it
    return module
