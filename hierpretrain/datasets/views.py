"""Several random views of one image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmcv.transforms import BaseTransform, Compose

from hierpretrain.checks import check_at_least_1
from hierpretrain.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Views(BaseTransform):
    """Replaces ``img`` by a list of views of it, each transformed at random.

    It does what mmpretrain's ``MultiView`` does for one kind of view, but without a deep copy of the item for each
    view. The transforms must therefore replace ``img`` and not write into it; torchvision's replace it.

    Args:
        transforms: The transforms of a view, as configs or callables.
        num_views: The number of views, at least 1.

    Example:
        >>> halve = lambda results: {"img": results["img"] // 2}
        >>> Views([halve], num_views=2)({"img": 8, "sample_idx": 3})
        {'img': [4, 4], 'sample_idx': 3}
    """

    def __init__(self, transforms: Sequence[Any], num_views: int = 2) -> None:
        check_at_least_1(num_views=num_views)
        built = [TRANSFORMS.build({"_scope_": "hierpretrain", **t}) if isinstance(t, dict) else t for t in transforms]
        self.transforms, self.num_views = Compose(built), num_views

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Returns the item with its views."""
        return {**results, "img": [self.transforms(dict(results))["img"] for _ in range(self.num_views)]}

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_views={self.num_views}, transforms={self.transforms.transforms})"
