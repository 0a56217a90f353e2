"""A service that keeps a model warm beside an index, and answers over HTTP: what ``hierpretrain serve`` runs."""

from typing import TYPE_CHECKING

from hierpretrain._lazy import imported_on_demand

if TYPE_CHECKING:
    from hierpretrain.serve.app import create_app
    from hierpretrain.serve.image_root import ImageRoot
    from hierpretrain.serve.limits import Limits, Refusal
    from hierpretrain.serve.service import Service

__all__ = ["ImageRoot", "Limits", "Refusal", "Service", "create_app"]

__getattr__ = imported_on_demand(__name__)
