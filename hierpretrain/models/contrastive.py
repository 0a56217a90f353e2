"""The algorithm: images -> preprocessor -> backbone -> pooling -> projection -> loss; the last two may be left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import DefaultScope
from mmpretrain.models.necks import GlobalAveragePooling
from mmpretrain.structures import DataSample
from torch import Tensor, nn

from hierpretrain.checks import check_flag, check_one_of, check_whole
from hierpretrain.functional.power import check_power, power_normalize
from hierpretrain.functional.unit_length import unit_length
from hierpretrain.models.frozen_part import FrozenPart
from hierpretrain.models.grad_cache import encode_in_chunks
from hierpretrain.models.loss_levels import parts_of_loss, takes_stand_ins, tell_parts
from hierpretrain.models.narrow_convolutions import step_before_narrow_convolutions
from hierpretrain.models.preprocessor import MultiViewPreprocessor
from hierpretrain.models.pretrained_copy import PretrainedCopy, with_copy
from hierpretrain.models.stages import layer_depths, stages
from hierpretrain.models.width import dummy_images, projected_width, width_of, with_width
from hierpretrain.registry import MODELS
from hierpretrain.taxonomy import Taxonomy

_OPTIONAL_PARTS = ("projection", "loss_module", "pretrained")


@MODELS.register_module()
class HierarchicalContrastive(BaseModel):
    """Trains an encoder with a loss on labelled views, and embeds images with it.

    Args:
        backbone: Config of any mmpretrain backbone whose last output is a feature map or a vector, or of an encoder of
            another library: :mod:`hierpretrain.models.encoders`. Its own ``frozen_stages`` freeze it in part or whole;
            frozen parts run without gradient and keep their statistics.
        projection: Config of the projection head, as :class:`ProjectionHead`. ``None`` hands the encoder's vectors to
            the loss. Its ``in_channels``, and the loss's, may be left out: the encoder is run once on an empty image.
        loss: Config of a loss called as ``loss(features, labels, instances)``: see :mod:`hierpretrain.models.losses`,
            :mod:`~hierpretrain.models.baselines` and :mod:`~hierpretrain.models.classifiers`. One with the attribute
            ``takes_stand_ins`` is also told, as ``stand_ins``, which images stand in for ones that could not be read;
            if a part of it has the attribute, it must have it, too. ``None`` makes an encoder that embeds and cannot be
            trained.
        neck: Config of what turns the backbone's outputs into one vector per image. ``None`` takes the last output
            and averages a feature map over its positions; where the last output is several vectors, as the two tokens
            of a distilled transformer, they are joined.
        data_preprocessor: Config of the preprocessor, as :class:`MultiViewPreprocessor`.
        embedding: What :meth:`predict` returns: ``'backbone'``, the vectors before the projection, as paper A, or
            ``'projection'``.
        power: The power that every value of an embedding is raised to before it gets unit length, above 0 and up to 1:
            see :func:`hierpretrain.functional.power_normalize`. 1 changes nothing. The loss never sees it.
        pretrained_share: How much of an embedding is what the encoder gave before training, a number from 0 to below 1.
            Above 0 the model keeps a copy of the encoder as training finds it; a training that begins with a
            checkpoint that has a copy keeps that one. An embedding is then ``(sqrt(1 - share) a, sqrt(share) b)`` of
            the unit vectors ``a`` of the trained encoder and ``b`` of the copy, so that a similarity is ``(1 - share)``
            times that of the one and ``share`` times that of the other. It is for classes that training does not see,
            where those that it sees are few. The loss knows nothing of it.
        normalize: Whether the loss gets features of unit length. ``None``: what the loss asks for by its attribute
            ``unit_features``: contrastive losses, and those without the attribute, want unit length, classifiers and
            prototypes features as they are. Embeddings have unit length either way.
        channels_last: Whether the weights are laid out for ``channels_last`` images; goes with the preprocessor's.
        grad_cache: Images (times views) that are encoded at a time while training, each process, or ``None`` for
            the whole batch. The loss is of the whole batch either way: see :mod:`hierpretrain.models.grad_cache`.
        init_cfg: As of every MMEngine module.

    Raises:
        ValueError: If an option is unknown or wants a projection that is left out, ``power``, ``pretrained_share`` or
            ``grad_cache`` is out of range, a pretrained share is asked of a projection, a batch has no labels or is not
            made of whole views, or a model without a loss is asked for one.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        projection: dict[str, Any] | None = None,
        loss: dict[str, Any] | None = None,
        *,
        neck: dict[str, Any] | None = None,
        data_preprocessor: dict[str, Any] | None = None,
        embedding: str = "backbone",
        power: float = 1.0,
        pretrained_share: float = 0.0,
        normalize: bool | None = None,
        channels_last: bool = False,
        grad_cache: int | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(_build(data_preprocessor or dict(type="MultiViewPreprocessor")), init_cfg)
        check_one_of("embedding", embedding, ("backbone", "projection"))
        if embedding == "projection" and projection is None:
            raise ValueError("embedding='projection' needs a projection; give one, or take embedding='backbone'")
        check_power(power)
        check_one_of("normalize", normalize, (None, True, False))
        check_flag(channels_last=channels_last)
        if isinstance(pretrained_share, bool | str | None) or not 0 <= pretrained_share < 1:
            raise ValueError(f"pretrained_share must be a number from 0 to below 1; it is {pretrained_share!r}")
        if pretrained_share and embedding == "projection":
            raise ValueError(
                "pretrained_share is of the encoder's vectors, and embedding='projection' takes those of the "
                "projection, which no encoder had before training; take embedding='backbone'"
            )
        self.embedding, self.power, self.grad_cache = embedding, power, grad_cache
        self.backbone = _build(backbone)
        if isinstance(self.data_preprocessor, MultiViewPreprocessor):
            self.data_preprocessor.take_settings(getattr(self.backbone, "settings", None))
        self.neck = _build(neck) if neck else None
        self.pretrained = PretrainedCopy(pretrained_share, self.backbone, self.neck) if pretrained_share else None
        self.frozen_part: FrozenPart | None = None
        """The backbone's frozen first stages, if it is to go on from kept outputs of theirs."""
        width = cache(partial(self._encoder_width, backbone))
        self.projection = None if projection is None else _build(with_width(projection, width, "projection"))
        if loss is not None:
            loss = with_width(loss, lambda: projected_width(self.projection, width()), "loss")
        self.loss_module = None if loss is None else _build(loss)
        self._depths: tuple[dict[str, int], int] | None = None
        self.normalize = getattr(self.loss_module, "unit_features", True) if normalize is None else normalize
        self.observe: Callable[[Tensor, Tensor], None] | None = None
        """Called while training with the (M, D) features that the loss gets, without gradient, and their labels."""
        self.repeated_images: Tensor | None = None
        """(N,) int64, the image that each ``sample_idx`` of the training data is, if some are repeats of others."""
        self.begins_training = False
        """Whether what is loaded now is what a training begins with, and not what came of one."""
        if channels_last:
            self.to(memory_format=torch.channels_last)
            step_before_narrow_convolutions(self)

    def _encoder_width(self, config: dict[str, Any]) -> int:
        """Returns the number of values of an embedding, before the projection."""
        channels = getattr(self.data_preprocessor, "mean", torch.zeros(3)).numel()
        parts = [part for part in (self.backbone, self.neck) if part is not None]
        return width_of(self.extract_feat, parts, dummy_images(self.backbone, config, channels))

    @property
    def grad_cache(self) -> int | None:
        """Images that are encoded at a time while training, or ``None`` for all at once; may be set at any time."""
        return self._grad_cache

    @grad_cache.setter
    def grad_cache(self, size: int | None) -> None:
        if size is not None:
            check_whole(grad_cache=size)
            if size < 1:
                raise ValueError(f"grad_cache must be at least 1, or None for the whole batch at once; it is {size}")
        self._grad_cache = size
        if isinstance(self.data_preprocessor, MultiViewPreprocessor):
            self.data_preprocessor.deferred = size is not None  # the loss has it prepare a chunk at a time

    @property
    def frozen(self) -> bool:
        """Whether nothing of the backbone is trained."""
        return not any(parameter.requires_grad for parameter in self.backbone.parameters())

    @property
    def encoder_parts(self) -> list[str]:
        """The names of the parts that make an embedding."""
        optional = {"projection": self.embedding == "projection", "pretrained": self.pretrained is not None}
        return ["backbone", "neck", *(name for name, used in optional.items() if used)]

    @property
    def embedding_options(self) -> tuple[Any, ...]:
        """The options of the model itself that an embedding depends on, for the names of files that keep embeddings.

        A power of 1 changes nothing and is left out: files that were kept before there was a power keep their names.
        """
        return (self.embedding,) if self.power == 1 else (self.embedding, self.power)

    def get_layer_depth(self, param_name: str, prefix: str = "") -> tuple[int, int]:
        """Returns how deep a parameter is and how many layers there are, as rates of each layer ask for it.

        Layer 0 is the backbone's stem, and its stages follow: see :func:`hierpretrain.models.stages.layer_depths`. Its
        head, the neck, the projection and the loss are the last layer. Of ``n`` layers, mmpretrain's
        ``LearningRateDecayOptimWrapperConstructor`` gives layer ``i`` the rate ``lr * layer_decay_rate**(n - 1 - i)``.

        Args:
            param_name: As :meth:`named_parameters` gives it, behind the prefix.
            prefix: What precedes the names.

        Example:
            >>> model = HierarchicalContrastive(dict(type="ResNet", depth=18), dict(type="ProjectionHead"))
            >>> model.get_layer_depth("backbone.layer4.0.conv1.weight")
            (4, 6)
            >>> model.get_layer_depth("projection.layers.0.weight")
            (5, 6)
        """
        if self._depths is None:  # asked for parameter by parameter
            self._depths = layer_depths(self.backbone), len(stages(self.backbone)) + 1
        depths, last = self._depths
        part, _, name = param_name.removeprefix(prefix).partition(".")
        return (depths[name] if part == "backbone" else last), last + 1

    def init_weights(self) -> None:
        """Initialises the weights as the parts' ``init_cfg`` say; ``Pretrained`` is :class:`StrictPretrained`."""
        first = not self.is_init
        with DefaultScope.overwrite_default_scope("hierpretrain"):
            super().init_weights()
        if self.pretrained is not None and first:
            self.pretrained.take(self.backbone, self.neck)

    def train(self, mode: bool = True) -> HierarchicalContrastive:
        """Sets the mode; a backbone of which nothing is trained stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.backbone.eval()
        return self

    def set_taxonomy(self, taxonomy: Taxonomy) -> None:
        """Tells the tree of the training data to the loss and to the parts of it that ask for it."""
        tell_parts(self.loss_module, "set_taxonomy", taxonomy)

    def set_training_labels(self, labels: Tensor) -> None:
        """Tells the labels of all training images to the loss and to the parts of it that ask for them.

        Args:
            labels: (N, L) or (N, P, L) labels.
        """
        tell_parts(self.loss_module, "set_training_labels", labels)

    def fitted(self, weights: Mapping[str, Tensor], prefix: str = "") -> dict[str, Tensor]:
        """Returns weights, by name, without those of optional parts that the model leaves out.

        Where a training begins (:attr:`begins_training`), a model with a pretrained share takes weights of one without
        it: their encoder is then the one before training.

        Args:
            weights: As :meth:`state_dict` gives them.
            prefix: What precedes the names.
        """
        if self.pretrained is not None and self.begins_training:
            weights = with_copy(weights, prefix, "pretrained")
        left_out = tuple(f"{prefix}{part}." for part in _OPTIONAL_PARTS if getattr(self, part) is None)
        return {name: tensor for name, tensor in weights.items() if not name.startswith(left_out)}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Takes what :meth:`fitted` gives; of other weights torch would warn."""
        fitted = self.fitted(state_dict, prefix)
        for name in state_dict.keys() - fitted.keys():
            del state_dict[name]
        state_dict.update(fitted)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def forward(
        self, inputs: Tensor, data_samples: list[DataSample] | None = None, mode: str = "tensor"
    ) -> Tensor | dict[str, Tensor] | list[DataSample]:
        """Runs the model as MMEngine asks: ``mode`` is ``'loss'``, ``'predict'`` or ``'tensor'`` (the embeddings)."""
        check_one_of("mode", mode, ("loss", "predict", "tensor"))
        if mode == "tensor":
            return self.embed(inputs)
        return self.loss(inputs, data_samples) if mode == "loss" else self.predict(inputs, data_samples)

    def frozen_features(self, inputs: Tensor) -> Tensor:
        """Returns all that a frozen backbone tells of images, for ``extract_feat((features,))`` to go on with.

        With :attr:`frozen_part`, it is the output of the last frozen stage.

        Args:
            inputs: (N, C, H, W), preprocessed.

        Returns:
            The backbone's output, (N, D) or (N, D, H, W); without a neck the (N, D) vectors of the encoder.

        Raises:
            ValueError: If the neck takes several outputs.
        """
        if self.frozen_part is not None:
            return self.frozen_part.features(inputs)
        if self.neck is None:
            return self.extract_feat(inputs)
        outputs = self._run_backbone(inputs)
        outputs = outputs if isinstance(outputs, tuple | list) else (outputs,)
        if len(outputs) != 1:
            raise ValueError(
                f"the backbone hands {len(outputs)} outputs to the neck, and only one can be kept; choose one by its "
                "`out_indices`, or train without FrozenFeaturesHook"
            )
        return outputs[0]

    def _run_backbone(self, inputs: Tensor) -> Any:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            return self.backbone(inputs)

    def extract_feat(self, inputs: Tensor | tuple[Tensor]) -> Tensor:
        """Returns the (N, D) vectors of the encoder, before the projection and not normalised.

        Args:
            inputs: (N, C, H, W) images, or a tuple with what :meth:`frozen_features` gave of them.
        """
        return self._vectors(inputs, self._run_backbone, self.neck, self.frozen_part)

    def _pretrained_feat(self, inputs: Tensor | tuple[Tensor]) -> Tensor:
        """Returns the vectors of the encoder before training, as :meth:`extract_feat`."""
        before: PretrainedCopy = self.pretrained
        frozen_part = None if self.frozen_part is None else self.frozen_part.of(before.backbone)
        return self._vectors(inputs, before.backbone, before.neck, frozen_part)

    def _vectors(
        self,
        inputs: Tensor | tuple[Tensor],
        backbone: Callable[[Tensor], Any],
        neck: nn.Module | None,
        frozen_part: FrozenPart | None,
    ) -> Tensor:
        """Returns one vector for each image, of an encoder's parts."""
        if not isinstance(inputs, tuple):
            outputs = backbone(inputs)
        else:
            outputs = inputs if frozen_part is None else frozen_part.go_on(inputs[0])
        if neck is not None:
            self._check_averaged(outputs)
            outputs = neck(outputs)
        last = outputs[-1] if isinstance(outputs, tuple | list) else outputs
        vectors = []
        for part in last if isinstance(last, tuple | list) else (last,):  # two of a DeiT (tokens) or a Conformer
            if part.ndim not in (2, 4):
                raise ValueError(
                    f"the backbone's last output must be (N, D) or (N, D, H, W); it is {tuple(part.shape)}. Choose an "
                    "`out_type` that gives one vector per image; of timm, dict(type='TimmEncoder', model_name=...); "
                    "or, only where it is (N, D, positions), neck=dict(type='GlobalAveragePooling', dim=1)"
                )
            vectors.append(part.mean((2, 3)) if part.ndim == 4 else part)
        return torch.cat(vectors, 1)

    def _check_averaged(self, outputs: Any) -> None:
        """Checks that a neck does not average the values of each token where it means to average the tokens.

        Raises:
            ValueError: If it would: there would be one number per token, and no error.
        """
        last = outputs[-1] if isinstance(outputs, tuple | list) else outputs
        if not (isinstance(last, Tensor) and last.ndim == 3 and isinstance(self.neck, GlobalAveragePooling)):
            return
        of_timm = getattr(getattr(self.backbone, "timm_model", None), "num_features", None)
        width = of_timm or getattr(self.backbone, "embed_dims", None)
        if last.shape[2] == width and (of_timm or last.shape[1] != width):
            raise ValueError(
                f"the backbone gives {last.shape[1]} tokens of {width} values, (N, tokens, D), and the neck "
                f"GlobalAveragePooling would average the values and not the tokens: {last.shape[1]} wrong numbers. "
                "Leave the neck out, and take dict(type='TimmEncoder', model_name=...) for a model of timm, or an "
                "`out_type` such as 'cls_token' or 'avg_featmap'"
            )

    def embed(self, inputs: Tensor) -> Tensor:
        """Returns the (N, D) float32 unit embeddings of preprocessed images.

        They are the encoder's or the projection's; with a pretrained share, twice as many numbers: both encoders'.
        """
        share = 0.0 if self.pretrained is None else self.pretrained.share
        if share:
            with self.pretrained.sharing_stages(self.backbone):
                own, before = self._unit(self.extract_feat(inputs)), self._unit(self._pretrained_feat(inputs))
            return torch.cat(((1 - share) ** 0.5 * own, share**0.5 * before), dim=1)
        features = self.extract_feat(inputs)
        return self._unit(self.projection(features) if self.embedding == "projection" else features)

    def _unit(self, features: Tensor) -> Tensor:
        # in half precision, unit length is off by thousandths
        return unit_length(power_normalize(features.float(), self.power))

    def loss(self, inputs: Tensor | tuple[Tensor], data_samples: list[DataSample]) -> dict[str, Tensor]:
        """Returns the loss of a batch, and logs the components that the loss leaves of it.

        Args:
            inputs: (views x B, C, H, W), view by view, as :class:`MultiViewPreprocessor` gives them, or a tuple with
                what :meth:`frozen_features` gave of them. With ``grad_cache``, images may be bytes still.
            data_samples: B samples with ``gt_label``, the (L,) labels or (P, L) labels of several paths, and the meta
                item ``sample_idx``.
        """
        if self.loss_module is None:
            raise ValueError(
                "this model has no loss: it evaluates a checkpoint (tools/test.py); train with a config that has "
                "model.loss"
            )
        images = inputs[0] if isinstance(inputs, tuple) else inputs
        views, rest = divmod(len(images), len(data_samples))
        if rest or not views:
            raise ValueError(f"{len(images)} images are no whole number of views of {len(data_samples)} samples")
        for _, part in parts_of_loss(self.loss_module):
            if hasattr(part, "check_views"):
                part.check_views(views)
        if "gt_label" not in data_samples[0] or "sample_idx" not in data_samples[0]:
            raise ValueError(
                "training needs `gt_label`, the labels, and `sample_idx` of every sample: "
                "end the pipeline with PackInputs, with 'sample_idx' among its meta_keys"
            )
        labels = torch.stack([sample.gt_label for sample in data_samples]).to(images.device)  # (B, L) or (B, P, L)
        instances = torch.tensor([sample.sample_idx for sample in data_samples])  # (B,)
        instances = (instances if self.repeated_images is None else self.repeated_images[instances]).to(images.device)
        features = self._project(inputs) if self.grad_cache is None else self._project_in_chunks(inputs)
        features = unit_length(features.float()) if self.normalize else features.float()
        labels, instances = torch.cat([labels] * views), instances.repeat(views)
        if self.observe is not None:
            self._show(features.detach(), labels)
        options = {}
        stand_ins = [sample.get("stand_in", False) for sample in data_samples]
        if any(stand_ins) and takes_stand_ins(self.loss_module):
            options["stand_ins"] = torch.tensor(stand_ins * views, device=images.device)
        loss = self.loss_module(features, labels, instances, **options)
        self._log(getattr(self.loss_module, "loss_components", {}))
        return {"loss": loss}

    @torch.compiler.disable
    def _log(self, components: dict[str, Tensor]) -> None:
        """Hands components of the loss to MMEngine's log; all that is returned with the loss would be added to it."""
        for name, value in components.items():
            MessageHub.get_current_instance().update_scalar(f"train/loss/{name}", value)

    @torch.compiler.disable
    def _show(self, features: Tensor, labels: Tensor) -> None:
        """Calls ``observe``, in full precision and apart from what is compiled."""
        with torch.autocast(features.device.type, enabled=False):
            self.observe(features, labels)

    def _project(self, inputs: Tensor | tuple[Tensor]) -> Tensor:
        features = self.extract_feat(inputs)
        return features if self.projection is None else self.projection(features)

    def _project_in_chunks(self, inputs: Tensor | tuple[Tensor]) -> Tensor:
        def project(images: Tensor) -> Tensor:
            if isinstance(inputs, tuple):
                return self._project((images,))
            return self._project(self.data_preprocessor.prepare(images) if images.dtype == torch.uint8 else images)

        images = inputs[0] if isinstance(inputs, tuple) else inputs
        parts = [part for part in (self.backbone, self.neck, self.projection) if part is not None]
        return encode_in_chunks(project, images, self.grad_cache, parts)

    def predict(self, inputs: Tensor, data_samples: list[DataSample] | None = None) -> list[DataSample]:
        """Returns the samples, each with its ``embedding``, a (D,) unit vector in float32 on the CPU."""
        embeddings = self.embed(inputs).cpu()  # in one go, not by every metric
        samples = data_samples or [DataSample() for _ in embeddings]
        if len(samples) != len(embeddings):
            raise ValueError(f"{len(embeddings)} images of {len(samples)} samples: embed one view of each image")
        for sample, embedding in zip(samples, embeddings, strict=True):
            sample.set_field(embedding.clone(), "embedding")  # of its own, for all metrics to share
        return samples


def _build(config: dict[str, Any]) -> torch.nn.Module:
    """Builds a part in our scope, so that short type names hold whatever project's config names the model."""
    return MODELS.build({"_scope_": "hierpretrain", **config})
