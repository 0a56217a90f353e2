"""The registries: each a child of mmpretrain's of the same name, so ``type='ResNet'`` means mmpretrain's ResNet.

All of mmpretrain's registries are mirrored, with the locations of their parents: a name is looked up from the scope
``hierpretrain`` upwards, and a registry imports only its own locations.
"""

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.registry import Registry
from mmpretrain import registry as mmpretrain_registry

from hierpretrain import _compat

_compat.apply()


def _child(name: str, *locations: str) -> Registry:
    parent = getattr(mmpretrain_registry, name)
    return Registry(parent.name, parent=parent, scope="hierpretrain", locations=[*parent._locations, *locations])


RUNNERS = _child("RUNNERS")
RUNNER_CONSTRUCTORS = _child("RUNNER_CONSTRUCTORS")
LOOPS = _child("LOOPS", "hierpretrain.engine.registered")
HOOKS = _child("HOOKS", "hierpretrain.engine.registered")
LOG_PROCESSORS = _child("LOG_PROCESSORS", "hierpretrain.engine.registered")
OPTIMIZERS = _child("OPTIMIZERS")
OPTIM_WRAPPERS = _child("OPTIM_WRAPPERS", "hierpretrain.engine.registered")
OPTIM_WRAPPER_CONSTRUCTORS = _child("OPTIM_WRAPPER_CONSTRUCTORS")
PARAM_SCHEDULERS = _child("PARAM_SCHEDULERS")
DATASETS = _child("DATASETS", "hierpretrain.datasets.registered")
DATA_SAMPLERS = _child("DATA_SAMPLERS", "hierpretrain.datasets.registered")
TRANSFORMS = _child("TRANSFORMS", "hierpretrain.datasets.registered")
MODELS = _child("MODELS", "hierpretrain.models.registered")
MODEL_WRAPPERS = _child("MODEL_WRAPPERS")
WEIGHT_INITIALIZERS = _child("WEIGHT_INITIALIZERS", "hierpretrain.models.registered")
BATCH_AUGMENTS = _child("BATCH_AUGMENTS")
TASK_UTILS = _child("TASK_UTILS")
METRICS = _child("METRICS", "hierpretrain.evaluation.registered")
EVALUATORS = _child("EVALUATORS", "hierpretrain.evaluation.registered")
VISUALIZERS = _child("VISUALIZERS")
VISBACKENDS = _child("VISBACKENDS", "hierpretrain.engine.registered")

# registries without a parent: functions that configs name
LEVEL_MARGINS = Registry("level margin", scope="hierpretrain", locations=["hierpretrain.models.registered"])
"""Margins ``(level, max_level, min_margin) -> margin`` of triplets: :mod:`hierpretrain.functional.level_triplet`."""
LEVEL_SCHEDULES = Registry("level schedule", scope="hierpretrain", locations=["hierpretrain.engine.registered"])
"""Schedules ``(num_epochs, num_levels, **options) -> stages`` of a training: :mod:`hierpretrain.engine.curriculum`."""


def class_of(registry: Registry, config: Mapping[str, Any]) -> Any:
    """Returns the class or function that the ``type`` of a config names, or is; ``None`` if none has the name.

    Example:
        >>> class_of(MODELS, dict(type="HiMulConLoss")).__name__, class_of(MODELS, dict(type="NoLoss"))
        ('HiMulConLoss', None)
    """
    kind = config.get("type")
    return registry.get(kind) if isinstance(kind, str) else kind


def arguments_of(kind: Any) -> Iterator[str]:
    """Yields the arguments of a class or function, and those that a class hands on to the ones above it.

    Example:
        >>> class Loss:
        ...     def __init__(self, weight=1.0): ...
        >>> class Mine(Loss):
        ...     def __init__(self, extra=0.0, **options): ...
        >>> list(arguments_of(Mine))
        ['extra', 'weight']
    """
    if not inspect.isclass(kind):
        yield from inspect.signature(kind).parameters
        return
    for part in kind.__mro__:
        if "__init__" in vars(part) and part is not object:
            parameters = inspect.signature(part.__init__).parameters.values()
            yield from (p.name for p in list(parameters)[1:] if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD))
            if all(p.kind is not p.VAR_KEYWORD for p in parameters):
                return
