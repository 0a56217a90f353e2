"""A loss of this project's own: what an image's category says of it, and what its product says, in given shares."""

from torch import Tensor, nn

from hierpretrain.models import SupConLoss
from hierpretrain.registry import MODELS


@MODELS.register_module()
class CatalogueLoss(nn.Module):
    """SupCon of the categories and SupCon of the products, weighted.

    Args:
        category_share: The weight of the categories, 0 to 1; the products have the rest.
        temperature: Of both.
    """

    def __init__(self, *, category_share: float = 0.3, temperature: float = 0.1) -> None:
        super().__init__()
        if not 0 <= category_share <= 1:
            raise ValueError(f"category_share must be from 0 to 1; it is {category_share}")
        self.category_share = category_share
        self.of_category = SupConLoss(level=1, temperature=temperature)
        self.of_product = SupConLoss(level=2, temperature=temperature)

    def forward(self, features: Tensor, labels: Tensor, instances: Tensor) -> Tensor:
        """Returns the loss of (M, D) unit rows with (M, 2) labels; ``instances`` tells views of one image."""
        of_category = self.of_category(features, labels, instances)
        of_product = self.of_product(features, labels, instances)
        return self.category_share * of_category + (1 - self.category_share) * of_product
