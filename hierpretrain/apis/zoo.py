"""The model zoo: our models by name, beside mmpretrain's, in our commands and in mmpretrain's functions."""

from __future__ import annotations

import os

from mmengine.config import Config, ConfigDict
from mmpretrain import ModelHub, list_models
from mmpretrain.models.retrievers import ImageToImageRetriever
from modelindex.models.Model import Model
from modelindex.models.Result import Result

from hierpretrain._inheritance import PACKAGE, list_configs
from hierpretrain._names import close_names
from hierpretrain.apis.config import find_config, load_config
from hierpretrain.apis.encoder_settings import preprocessor_options
from hierpretrain.apis.pure_python import named_copy, type_name
from hierpretrain.files import SHIPPED
from hierpretrain.models import HierarchicalContrastive
from hierpretrain.models.num_classes import loss_that_counts

_TASK = "Image Retrieval"  # mmpretrain's name for what ImageRetrievalInferencer does


def find_model(name: str | os.PathLike[str]) -> tuple[Config, str | None]:
    """Returns the config of a model of the zoo, and the address of its weights.

    Args:
        name: A config file, a name of ours (see :func:`~hierpretrain.apis.config.find_config`) or a name of
            mmpretrain's, of ``mmpretrain.list_models()``. Files come first, then ours.

    Returns:
        The config, and the address of its weights, or ``None`` if it has none. Ours have none.

    Raises:
        ValueError: If there is no such model, and the message suggests the nearest names; or if the config cannot be
            read, see :func:`~hierpretrain.apis.load_config`.

    Example:
        >>> config, weights = find_model("himulcone_emoji")
        >>> config.model.loss.type, weights
        ('HiMulConELoss', None)
        >>> config, weights = find_model("resnet18_8xb32_in1k")
        >>> config.model.type, weights.rpartition("/")[2]
        ('ImageClassifier', 'resnet18_8xb32_in1k_20210831-fbbb1da6.pth')
    """
    try:
        path = find_config(name)
    except ValueError as error:
        text = os.fspath(name)
        theirs = [known for known in list_models() if not _is_ours(known)]
        if text.lower() in theirs:
            found = ModelHub.get(text)
            return found.config, found.weights
        stem = os.path.basename(text).removesuffix(".py")
        if nearest := close_names(stem, [*list_configs(), *theirs], 3):
            raise ValueError(
                f"there is no config file {text}, nor is it a name of HierPretrain's or mmpretrain's model zoo; the "
                f"nearest are {', '.join(nearest)}"
            ) from error
        raise
    return load_config(path), None


def register_zoo() -> None:
    """Adds our models to mmpretrain's, for ``list_models('himul*')`` and ``get_model('himulcone_emoji')`` to find.

    A second call does nothing. Importing HierPretrain does not call it.

    Raises:
        ValueError: If a model of another package has one of our names.

    Example:
        >>> register_zoo()
        >>> list_models("himulcone_emoji")
        ['himulcone_emoji', 'himulcone_emoji_seen']
    """
    if any(map(_is_ours, ModelHub._models_dict)):
        return
    ModelHub.register_model_index(SHIPPED / "model-index.yml", config_prefix=SHIPPED)
    for name, model in ModelHub._models_dict.items():
        if model.config and model.config.startswith(f"{SHIPPED}{os.sep}"):
            ModelHub._models_dict[name] = _ZooModel(model)


class _ZooModel(Model):
    """An entry of our model index, whose config is read when it is asked for, as mmpretrain takes it.

    One without results is for image retrieval, too: by the results, mmpretrain's ``list_models(task=...)`` knows it.
    """

    def __init__(self, model: Model) -> None:
        self.__dict__.update(model.__dict__)
        if not self.results:
            self.results = [Result(_TASK, dataset=None, metrics=None)]

    @property
    def config(self) -> Config:
        return mmpretrain_config(self.data["Config"])


def _is_ours(name: str) -> bool:
    return isinstance(ModelHub._models_dict.get(name), _ZooModel)


def mmpretrain_config(name: str | os.PathLike[str] | Config) -> Config:
    """Returns a config of ours as mmpretrain's ``get_model`` and ``FeatureExtractor`` take it.

    They build models and transforms in the scope of mmpretrain, and open images themselves, as arrays in BGR order. So
    types get our scope, and a transform from arrays to pictures replaces
    :class:`~hierpretrain.datasets.LoadRGB`, which alone lays the transparent parts of an image on white. A loss over
    classes that does not say how many, which only a training learns from its data, is left out; an encoder needs none.

    Args:
        name: A config, its file, or its name in the model zoo.

    Raises:
        ValueError: If the config cannot be read; see :func:`~hierpretrain.apis.load_config`.

    Example:
        >>> config = mmpretrain_config("himulcone_emoji")
        >>> config.model["_scope_"], [transform.type for transform in config.test_dataloader.dataset.pipeline][:2]
        ('hierpretrain', ['LoadImageFromFile', 'NumpyToPIL'])
    """
    config = named_copy(name) if isinstance(name, Config) else load_config(name)
    config.model["_scope_"] = PACKAGE
    if loss_that_counts(config.model.get("loss")):
        config.model.loss = None
    if config.get("test_dataloader"):
        dataset = config.test_dataloader.dataset
        if "." not in dataset.type:
            dataset.type = f"{PACKAGE}.{dataset.type}"
        opening = [ConfigDict(type="LoadImageFromFile"), ConfigDict(type="NumpyToPIL", to_rgb=True)]
        rest = [transform for transform in dataset.pipeline if type_name(transform.type) != "LoadRGB"]
        dataset.pipeline = opening + [ConfigDict({**transform, "_scope_": PACKAGE}) for transform in rest]
    return config


def image_retriever(model: HierarchicalContrastive) -> ImageToImageRetriever:
    """Wraps a model for mmpretrain's ``ImageRetrievalInferencer`` and ``inference_model``, which want a retriever.

    ``ImageRetrievalInferencer(image_retriever(get_model("himulcone_emoji", FILE)), prototype="photos")`` then compares
    an image with every image of the folder ``photos``. :class:`~hierpretrain.apis.EmbeddingInferencer` is for more than
    a few thousand images, and for searches that know the tree.

    Args:
        model: A model that mmpretrain's ``get_model`` has built.
    """
    prepare = {"type": "MultiViewPreprocessor", **preprocessor_options(model._config), "_scope_": PACKAGE}
    retriever = ImageToImageRetriever(image_encoder=model, prototype="", data_preprocessor=prepare)
    retriever._config = model._config
    retriever._metainfo = Model("retriever", results=[Result(_TASK, dataset=None, metrics=None)])
    return retriever
