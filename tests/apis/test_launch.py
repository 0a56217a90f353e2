import pytest
import torch

from hierpretrain.apis import check_checkpoint
from hierpretrain.models import HierarchicalContrastive

HEAD = dict(type="ProjectionHead", in_channels=64, out_channels=4)
LOSS = dict(type="LevelCrossEntropyLoss", num_classes=3, in_channels=4)


def make(projection=None, loss=None, depth=18):
    backbone = dict(type="ResNet", depth=depth, base_channels=8, stem_channels=8)
    return HierarchicalContrastive(backbone, projection, loss)


@pytest.fixture
def checkpoint(tmp_path):
    def save(model):
        torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pth")
        return str(tmp_path / "model.pth")

    return save


def test_a_file_may_have_the_weights_of_parts_that_the_model_leaves_out(checkpoint):
    file = checkpoint(make(HEAD, LOSS))
    for projection in (None, HEAD):
        for loss in (None, LOSS):
            check_checkpoint(make(projection, loss), file)


@pytest.mark.parametrize(
    ("saved", "model", "weight", "found", "wanted"),
    [
        ((None, LOSS), (HEAD, LOSS), "projection.layers.0.bias", "missing", r"\(64,\)"),
        ((HEAD, None), (HEAD, LOSS), "loss_module.classifier.bias", "missing", r"\(3,\)"),
        ((HEAD, LOSS), (dict(HEAD, out_channels=5), None), "projection.layers.2.bias", r"\(4,\)", r"\(5,\)"),
        ((None, None), (None, None, 34), "backbone.layer1.2.bn1.bias", "missing", r"\(8,\)"),
        ((None, None, 34), (None, None), "backbone.layer1.2.bn1.bias", r"\(8,\)", "missing"),
    ],
)
def test_every_other_difference_is_an_error(checkpoint, saved, model, weight, found, wanted):
    with pytest.raises(ValueError, match=f"first of them {weight}, which is {found} in the file and {wanted} in the"):
        check_checkpoint(make(*model), checkpoint(make(*saved)))


def test_another_model_s_projection_is_not_passed_over(checkpoint):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

    model = Plain()
    file = checkpoint(model)
    check_checkpoint(model, file)
    model.projection = torch.nn.Linear(2, 2)
    file = checkpoint(model)
    with pytest.raises(ValueError, match=r"first of them projection\.bias"):
        check_checkpoint(Plain(), file)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no checkpoint .*none\.pth"):
        check_checkpoint(make(), str(tmp_path / "none.pth"))
    (tmp_path / "broken.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"broken\.pth is damaged or no checkpoint"):
        check_checkpoint(make(), str(tmp_path / "broken.pth"))
