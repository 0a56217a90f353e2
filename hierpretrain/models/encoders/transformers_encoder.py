"""Vision encoders of Hugging Face transformers, by name or folder."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

from PIL import Image
from torch import Tensor, nn

from hierpretrain._extras import needed
from hierpretrain.checks import check_one_of
from hierpretrain.models.checkpoints import Differences
from hierpretrain.models.encoders.base import Encoder, downloading, load_exactly
from hierpretrain.models.encoders.settings import DataSettings, in_bytes
from hierpretrain.models.encoders.weight_files import read_weights
from hierpretrain.registry import MODELS

POOLING = {
    # the pooled output that the family trains, or whose mean its classifier reads
    **dict.fromkeys(
        ("clip_vision_model", "siglip_vision_model", "chinese_clip_vision_model", "beit", "data2vec-vision"), "pooler"
    ),
    **dict.fromkeys(("convnext", "convnextv2", "swin", "swinv2", "resnet", "regnet", "dinov3_convnext"), "pooler"),
    **dict.fromkeys(("efficientnet", "mobilenet_v2", "focalnet", "bit", "hiera"), "pooler"),
    # the class token after the last normalisation
    **dict.fromkeys(("dinov2", "dinov2_with_registers", "dinov3_vit", "vit", "vit_msn", "deit"), "cls"),
    # the mean of all tokens: the family has no class token
    "ijepa": "mean",
}
"""How each family makes one vector of an image, by the ``model_type`` of its config."""


@MODELS.register_module()
class TransformersEncoder(Encoder):
    """A vision encoder of Hugging Face transformers; of CLIP and SigLIP, the vision tower.

    The vector is what the family's own head reads (see :data:`POOLING`): the pooled output of CLIP, SigLIP, BEiT and of
    convolutional and Swin networks, and the class token behind the last normalisation of ViT, DeiT and DINOv2 and v3.
    Of CLIP it is the vector before the projection to the space of texts; :class:`OpenCLIPEncoder` gives that.

    Args:
        name: A name of the hub, ``'facebook/dinov2-small'``, or a local folder with ``config.json``.
        weights: ``True``: the weights of that name or folder. A file, ``.safetensors`` or of PyTorch. ``False``: random
            ones.
        frozen_stages: How many stages, with the stem before them, are not trained; see
            :func:`hierpretrain.models.stages.freeze_stages`.
        pooling: ``'pooler'``, ``'cls'`` (the first token), or ``'mean'`` (of all tokens, or of a map). ``None``: as the
            family does.
        settings: The options of :class:`~hierpretrain.models.DataSettings`, where the name or folder has no
            ``preprocessor_config.json`` to say them.
        init_cfg: Only ``None``.
        options: Entries of the network's config to be changed, such as ``drop_path_rate``.

    Raises:
        ImportError: If transformers is missing.
        ValueError: If the family is unknown and ``pooling`` is not given, there is no such name or folder, its weights
            are not all there, or nothing says the data settings.
    """

    def __init__(
        self,
        name: str,
        weights: bool | str = True,
        frozen_stages: int = -1,
        *,
        pooling: str | None = None,
        settings: Mapping[str, Any] | None = None,
        init_cfg: None = None,
        **options: Any,
    ) -> None:
        config = _config(name, options)
        kind = config.model_type
        if pooling is None and kind not in POOLING:
            raise ValueError(
                f"how {name} makes one vector of an image is not known here: it is of the family {kind!r}, and known "
                f"are {', '.join(POOLING)}. Say it: pooling='pooler' (its pooler_output), 'cls' (its first token) or "
                "'mean' (of its tokens or its map)"
            )
        self.pooling = POOLING[kind] if pooling is None else pooling
        check_one_of("pooling", self.pooling, ("pooler", "cls", "mean"))
        told = self.data_settings(name, settings=settings)
        model = _model_class(config)
        self._arguments = {}
        if "add_pooling_layer" in inspect.signature(model.__init__).parameters:
            # one that nothing reads would never get a gradient
            self._arguments["add_pooling_layer"] = self.pooling == "pooler"
        network = model(config, **self._arguments)
        for part, parameter in network.named_parameters():
            if part.endswith(
                "mask_token"
            ):  # of pre-training alone; DistributedDataParallel would wait for its gradient
                parameter.requires_grad_(False)
        super().__init__(network, told, frozen_stages, init_cfg)
        self.name, self.weights = name, weights
        self._resizes = "interpolate_pos_encoding" in inspect.signature(model.forward).parameters

    @classmethod
    def data_settings(cls, name: str, settings: Mapping[str, Any] | None = None, **options: Any) -> DataSettings:
        """Returns the given data settings, or else what the name's ``preprocessor_config.json`` says."""
        if settings is not None:
            return DataSettings(**settings)
        transformers = needed("transformers", "TransformersEncoder")
        try:
            told = transformers.AutoImageProcessor.from_pretrained(name).to_dict()
        except Exception as error:  # of the hub, the cache, or a folder without the file
            raise ValueError(
                f"{name} does not say how images must look, in preprocessor_config.json: {error}. Give settings="
                "dict(size=224, mean=(127.5,) * 3, std=(127.5,) * 3, interpolation='bicubic'), or what its training had"
            ) from error
        return _settings(told, name)

    def load_weights(self) -> str | None:
        """Loads the weights of the name or folder, or of a file."""
        if self.weights is False:
            return None
        if self.weights is True:
            with downloading(self.name):
                network, report = self._pretrained(self.name)
            source = self.name
        else:
            source = str(self.weights)
            try:  # transformers renames the weights of older files
                network, report = self._pretrained(None, state_dict=read_weights(source))
            except RuntimeError as error:  # of another shape
                raise ValueError(f"{source} does not fit this {type(self.network).__name__}: {error}") from error
        if missing := sorted(report["missing_keys"]):
            raise ValueError(
                f"{source} does not fit this {type(network).__name__}: {Differences(tuple(missing))}. Give the weights "
                "of this network, or another pooling if those of its pooler alone are missing"
            )
        load_exactly(self.network, network.state_dict(), source)
        return f"transformers, {source}"

    def _pretrained(self, name: str | None, **options: Any) -> tuple[nn.Module, dict[str, Any]]:
        """Returns a network with pretrained weights, and which are missing, without a log of what it left out."""
        log = needed("transformers", "TransformersEncoder").logging
        verbosity = log.get_verbosity()
        log.set_verbosity_error()
        try:
            return type(self.network).from_pretrained(
                name, config=self.network.config, output_loading_info=True, **self._arguments, **options
            )
        finally:
            log.set_verbosity(verbosity)

    def forward(self, inputs: Tensor) -> Tensor:
        """Returns the (N, D) vectors of (N, C, H, W) images."""
        options = {}
        size = getattr(self.network.config, "image_size", None)
        if self._resizes and size is not None and tuple(inputs.shape[2:]) != _pair(size):
            options["interpolate_pos_encoding"] = True
        outputs = self.network(pixel_values=inputs, **options)
        if self.pooling == "pooler":
            return outputs.pooler_output.flatten(1)
        tokens = outputs.last_hidden_state
        if self.pooling == "cls":
            return tokens[:, 0]
        return tokens.mean((2, 3)) if tokens.ndim == 4 else tokens.mean(1)


def _pair(size: Any) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else tuple(size)


def _config(name: str, options: Mapping[str, Any]) -> Any:
    """Returns the config of a vision encoder, or of the vision tower of a model of images and texts."""
    transformers = needed("transformers", "TransformersEncoder")
    with downloading(name):
        config = transformers.AutoConfig.from_pretrained(name)
    config = getattr(config, "vision_config", config)
    for key, value in options.items():
        if not hasattr(config, key):
            raise ValueError(f"the config of {name} ({config.model_type}) has no {key!r}")
        setattr(config, key, value)
    return config


def _model_class(config: Any) -> type:
    transformers = needed("transformers", "TransformersEncoder")
    return transformers.MODEL_MAPPING[type(config)]


def _settings(told: Mapping[str, Any], name: str) -> DataSettings:
    """Returns the data settings of a Hugging Face image processor."""
    resize, crop = told.get("size") or {}, told.get("crop_size") or {}
    shorter = resize.get("shortest_edge")
    sides = (resize["height"], resize["width"]) if "height" in resize else None
    inner = crop.get("height") if told.get("do_center_crop") else None
    if inner is None and shorter is None and sides is None:
        raise ValueError(f"{name} does not say the size of its images, but {resize}; give settings=dict(size=...)")
    size = inner or (sides[0] if sides else shorter)
    if inner is None and shorter is not None and (share := told.get("crop_pct")) is not None and size < 384:
        resize_to: Any = int(shorter / share)  # as ConvNeXt's processor does
    else:
        resize_to = sides if sides else shorter
    mean, std = (
        in_bytes(told[f"image_{part}"]) if told.get("do_normalize", True) else (other,) * 3
        for part, other in (("mean", 0.0), ("std", 255.0))
    )
    kind = Image.Resampling(int(told.get("resample", 2))).name.lower()
    return DataSettings(size, mean, std, kind, resize=resize_to)
