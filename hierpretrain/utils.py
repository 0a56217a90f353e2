"""The entry by which MMEngine's hub and OpenMMLab's tools make a package known."""

from mmengine import registry as mmengine_registry

from hierpretrain import registry as registry  # its registries import what they hold when a name is looked up


def register_all_modules(init_default_scope: bool = True) -> None:
    """Makes all that HierPretrain registers known to MMEngine, as the function of this name does in every host package.

    ``mmengine.hub.get_model("hierpretrain::himulcone_emoji")`` calls it.

    Args:
        init_default_scope: Whether short names in a config are ours from now on.

    Example:
        >>> register_all_modules(init_default_scope=False)
        >>> with mmengine_registry.DefaultScope.overwrite_default_scope("hierpretrain"):
        ...     type(mmengine_registry.MODELS.build(dict(type="SupConLoss"))).__name__
        'SupConLoss'
    """
    if init_default_scope:
        mmengine_registry.init_default_scope("hierpretrain")
