"""Imports what registers: the place where MMEngine's registries look for the parts of ``hierpretrain.engine``."""

from hierpretrain._lazy import import_all

import_all("hierpretrain.engine")
