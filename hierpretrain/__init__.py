"""HierPretrain: image embeddings that respect a label tree, for the OpenMMLab stack."""

from contextlib import suppress

__version__ = "0.1.0"

with suppress(ModuleNotFoundError):  # without MMEngine, the taxonomy and the equations work all the same
    from hierpretrain import _inheritance

    _inheritance.apply()  # MMEngine can read `_base_ = "hierpretrain::..."`; nothing else happens on import
