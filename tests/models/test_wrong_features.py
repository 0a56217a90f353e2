"""What no loss takes for features: each wrong kind is an error that says the rule, and none a number."""

import pytest
import torch

from hierpretrain.registry import MODELS
from hierpretrain.taxonomy import Taxonomy
from tests.models.every_loss import every_loss

TREE = Taxonomy([("a", "p"), ("a", "q"), ("b", "r"), ("b", "s")], ["kind", "breed"])
LABELS = TREE.node_labels(2).repeat_interleave(2, 0)
FEATURES = torch.nn.functional.normalize(torch.randn(8, 16, generator=torch.Generator().manual_seed(0)), dim=1)
WRONG = {
    "integers": (FEATURES.long(), r"features must be \(M, D\) floating point; they are \(8, 16\) of torch.int64"),
    "complex": (FEATURES.to(torch.complex64), r"features must be \(M, D\) floating point; .* of torch.complex64"),
    "three axes": (FEATURES[..., None], r"features must be \(M, D\) floating point; they are \(8, 16, 1\)"),
    "too few": (FEATURES[:6], r"labels must have one (row|entry) per row of features \(6\); they have 8"),
    "NaN": (FEATURES.clone().fill_(torch.nan), "must be finite"),
    "one NaN": (FEATURES.index_fill(0, torch.tensor([3]), torch.nan), "must be finite; row 3 is not"),
    "infinite": (FEATURES.index_fill(0, torch.tensor([3]), torch.inf), "must be finite"),
}
BUT = ("LevelTripletLoss", "ReleasedHMLCLoss", "NTXentLoss")  # batches of another form, and no labels


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize(
    "config", every_loss(but=BUT, levels=2, num_classes=4, in_channels=16), ids=lambda config: config["type"]
)
def test_wrong_features_are_refused(config, wrong):
    if isinstance(config.get("num_classes"), list):
        config = {**config, "num_classes": [2, 4]}
    loss = MODELS.build(dict(config))
    for name, value in (("set_taxonomy", TREE), ("set_training_labels", LABELS)):
        getattr(loss, name, lambda value: None)(value)
    assert loss(FEATURES, LABELS, torch.arange(8)).isfinite()
    features, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message):
        loss(features, LABELS, torch.arange(8))
