"""Options of a wrong kind: each is refused where it is given, and the message has its name and its value."""

import inspect

import pytest

from hierpretrain.models import HierarchicalContrastive
from hierpretrain.registry import DATA_SAMPLERS, DATASETS, EVALUATORS, HOOKS, METRICS, MODELS, TRANSFORMS

ENCODER = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
LABELS = [[0, 0], [0, 0], [0, 1], [1, 2], [1, 2], [1, 3]]
NEEDED = dict(num_classes=2, in_channels=2, levels=[1], backbone=ENCODER, metrics=[], weights=False, sampler=LABELS)
NEEDED |= dict(batch_size=2, oversample_thr=0.1, times=2, transforms=[], hierarchy="wordnet", ann_file="list.csv")
NEEDED |= dict(dataset=None, datasets=[], data_root="nowhere")
OF_OTHERS = ("OpenCLIPEncoder", "TimmEncoder", "TorchvisionEncoder", "TransformersEncoder")  # models to name, or fetch
WRONG = {"bool": ("no",), "int": (True, "3", 2.5), "float": (True, "high"), "level": (True, 2.5)}


def kind_of(parameter):
    """Returns what an option is by its annotation; ``None`` for what is no flag, number or level."""
    # those which the model and the tree of the data tell, and MMEngine's of its data sets, which has no effect
    if parameter.name in ("num_classes", "in_channels", "lazy_init"):
        return None
    annotation = str(parameter.annotation).split(" | None")[0].split(" | Literal")[0]
    return {"int | str": "level"}.get(annotation, annotation if annotation in WRONG else None)


def options():
    """Yields each option of a registered class that is a flag, a number or a level, with values that it is not."""
    for registry in (MODELS, METRICS, EVALUATORS, DATASETS, DATA_SAMPLERS, HOOKS, TRANSFORMS):
        registry.import_from_location()
        for name, made in sorted(registry.module_dict.items()):
            if made.__module__.startswith("hierpretrain.") and name not in OF_OTHERS:
                for option, parameter in inspect.signature(made).parameters.items():
                    for value in WRONG.get(kind_of(parameter), ()):
                        yield pytest.param(made, option, value, id=f"{name} {option}={value!r}")


@pytest.mark.parametrize(("made", "option", "value"), list(options()))
def test_an_option_of_a_wrong_kind_is_named_with_its_value(made, option, value):
    needed = {name: NEEDED[name] for name in NEEDED.keys() & inspect.signature(made).parameters}
    needed |= dict(levels="super") if made.__name__ == "INaturalist" else {}
    if made.__name__ in ("HierarchicalJointLoss", "LevelProxyLoss"):
        needed["num_classes"] = [2, 2]
    with pytest.raises(ValueError, match=f"{option} must be .*{value}"):
        made(**needed | {option: value})


@pytest.mark.parametrize("value", [True, "64", 2.5])
def test_so_it_is_where_an_option_is_set_later(value):
    model = HierarchicalContrastive(ENCODER)
    with pytest.raises(ValueError, match=f"grad_cache must be a whole number; it is {value!r}"):
        model.grad_cache = value
