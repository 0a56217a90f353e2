"""All registered losses of the toolbox, for tests of what every one of them must do."""

import inspect

from hierpretrain.registry import MODELS


def every_loss(*, but=(), levels=3, **options):
    """Returns a config of each registered loss.

    Args:
        but: Names to leave out.
        levels: For how many levels a loss that has classes at every level shall have ``num_classes`` of them.
        **options: Options of those losses that have them, such as ``num_classes``.
    """
    MODELS.import_from_location()
    kinds = {name: kind for name, kind in MODELS.module_dict.items() if kind.__module__.startswith("hierpretrain.")}
    losses = [name for name in kinds if name.endswith("Loss")]
    assert len(losses) >= 13
    assert set(but) <= set(losses)
    configs = [
        dict(type=name, **{key: options[key] for key in options if key in inspect.signature(kinds[name]).parameters})
        for name in losses
        if name not in but
    ]
    for config in configs:
        if config["type"] in ("HierarchicalJointLoss", "LevelProxyLoss") and "num_classes" in config:
            config["num_classes"] = [config["num_classes"]] * levels
    return configs
