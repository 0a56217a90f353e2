"""What the config's pipelines and preprocessor take from the encoder's data settings, and where they contradict it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from mmengine.config import Config

from hierpretrain import registry
from hierpretrain.apis.config import DATALOADERS
from hierpretrain.apis.pure_python import type_name
from hierpretrain.models.encoders.settings import DataSettings

ENCODER = "encoder"
"""The value of a transform's option that the encoder's data settings replace."""

_SIZES = ("size", "scale", "crop_size", "interpolation")  # the options of transforms that may be left to the encoder
_RESIZES = ("Resize", "ResizeEdge")  # before a crop: to what the encoder's test images are resized to


def encoder_settings(config: Config) -> DataSettings | None:
    """Returns the data settings of the encoder that a config describes, without building it.

    Args:
        config: A config with a ``model``.

    Returns:
        The settings; ``None`` of a backbone that says none, such as mmpretrain's.

    Raises:
        ValueError: If the encoder's options are wrong.
        ImportError: If the package of the encoder is missing.
    """
    model = config.get("model")
    backbone = model.get("backbone") if isinstance(model, Mapping) else None
    if not isinstance(backbone, Mapping) or not isinstance(backbone.get("type"), str | type):
        return None
    kind = registry.class_of(registry.MODELS, backbone)
    if not hasattr(kind, "data_settings"):
        return None
    try:
        return kind.data_settings(**{key: value for key, value in backbone.items() if key not in ("type", "_scope_")})
    except TypeError as error:
        raise ValueError(f"the config has an option of {kind.__name__} that does not fit: {error}") from error


def preprocessor_options(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the options of the preprocessor of a config's model; MMEngine gives it the one beside it, if it has none.

    Args:
        config: A config with a ``model``.

    Example:
        >>> preprocessor_options(dict(model=dict(type="ImageClassifier"), data_preprocessor=dict(to_rgb=True)))
        {'to_rgb': True}
    """
    return config["model"].get("data_preprocessor", config.get("data_preprocessor")) or {}


def apply_encoder_settings(config: Config) -> list[str]:
    """Replaces every ``"encoder"`` in the pipelines of a config by the encoder's size or interpolation, in place.

    The value ``"encoder"`` of ``size``, ``crop_size`` or ``scale`` becomes the size of the encoder's images; of
    ``Resize`` and ``ResizeEdge``, the size to which its test images are resized before their middle is cropped. Of
    ``interpolation`` it becomes the encoder's.

    Args:
        config: The config, before its data sets are built.

    Returns:
        What of the preprocessor and the pipelines contradicts the settings, for a warning.

    Raises:
        ValueError: If ``"encoder"`` stands where the backbone has no settings, or an encoder that reads images of one
            size alone is given another.
    """
    settings = encoder_settings(config)
    contradictions = [] if settings is None else _of_preprocessor(config, settings)
    for loader in DATALOADERS:
        dataset = (config.get(loader) or {}).get("dataset")
        for pipeline in _pipelines(dataset):
            contradictions += _settle(pipeline, settings, loader)
    return list(dict.fromkeys(contradictions))


def told(contradictions: list[str]) -> str:
    """Returns the one warning about contradictions.

    Example:
        >>> told(["train_dataloader resizes by bilinear, and the encoder was trained with bicubic"])
        "not as the encoder's weights were trained: train_dataloader resizes by bilinear, and the encoder was ..."
    """
    return (
        f"not as the encoder's weights were trained: {'; '.join(contradictions)}. Embeddings may be worse; "
        "mean=None and std=None of the preprocessor, and 'encoder' as a size or an interpolation of a transform, take "
        "the encoder's own"
    )


def _pipelines(dataset: Any) -> Iterator[list[Any]]:
    """Yields the pipelines of a data set, and of the data sets that it wraps."""
    if isinstance(dataset, Mapping):
        if isinstance(dataset.get("pipeline"), list):
            yield dataset["pipeline"]
        yield from _pipelines(dataset.get("dataset"))
        yield from _pipelines(dataset.get("datasets"))
    elif isinstance(dataset, list | tuple):
        for part in dataset:
            yield from _pipelines(part)


def _transforms(pipeline: Any) -> Iterator[MutableMapping[str, Any]]:
    """Yields the transforms of a pipeline, those within others included."""
    for part in pipeline if isinstance(pipeline, list | tuple) else ():
        if isinstance(part, MutableMapping):
            yield part
            yield from _transforms(part.get("transforms"))
        else:
            yield from _transforms(part)


def _settle(pipeline: list[Any], settings: DataSettings | None, loader: str) -> list[str]:
    """Replaces ``"encoder"`` in a pipeline and returns the contradictions of its other values."""
    found, size = [], None
    for transform in _transforms(pipeline):
        name = type_name(transform.get("type")).rpartition("/")[2]
        for option in _SIZES:
            if transform.get(option) == ENCODER:
                if settings is None:
                    raise ValueError(
                        f"{loader}: {name} takes its {option} from the encoder, but the backbone says none; give a "
                        f"number (an interpolation's name), or a backbone with data settings, such as TimmEncoder"
                    )
                transform[option] = _value(settings, name, option)
        if settings is None:
            continue
        given = next((transform[option] for option in _SIZES[:3] if option in transform), None)
        if given is None or not ("Resize" in name or "Crop" in name):
            continue
        size = given  # the last one is what the encoder gets
        how = transform.get("interpolation", "bilinear")  # what torchvision and mmpretrain resize by if told nothing
        if "Resize" in name and how != settings.interpolation:
            found.append(f"{loader} resizes by {how}, and the encoder was trained with {settings.interpolation}")
    if settings is not None and size is not None and (sides := _sides(size)) and set(sides) != {settings.size}:
        text = f"{loader} makes images of {size} px, and the encoder was trained with {settings.size} px"
        if settings.fixed_size:
            raise ValueError(
                f"{text} and reads no others; set the size to {settings.size} or 'encoder', or build the encoder for "
                "another size (img_size, image_size)"
            )
        found.append(text)
    return found


def _value(settings: DataSettings, transform: str, option: str) -> Any:
    if option == "interpolation":
        return settings.interpolation
    if transform not in _RESIZES:
        return settings.size
    if isinstance(settings.resize, int):
        return (settings.resize, settings.resize) if (transform, option) == ("Resize", "scale") else settings.resize
    height, width = settings.resize
    if transform == "ResizeEdge":
        raise ValueError(
            f"the encoder's images are squeezed to {height} x {width} px, and ResizeEdge keeps their shape; take "
            "dict(type='torchvision/Resize', size='encoder')"
        )
    return (width, height) if option == "scale" else (height, width)


def _sides(size: Any) -> tuple[int, ...]:
    sides = tuple(size) if isinstance(size, list | tuple) else (size,)
    return sides if all(isinstance(side, int) for side in sides) else ()


def _of_preprocessor(config: Config, settings: DataSettings) -> list[str]:
    preprocessor = preprocessor_options(config)
    return [
        f"the preprocessor's {name} is {tuple(given)}, and the encoder's is {wanted}"
        for name, wanted in (("mean", settings.mean), ("std", settings.std))
        if (given := preprocessor.get(name)) is not None
        and (len(given) != len(wanted) or any(abs(a - b) > 0.01 for a, b in zip(given, wanted, strict=True)))
    ]
