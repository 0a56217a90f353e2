import numpy as np
import pytest
import torch
import torchvision
from mmpretrain.structures import DataSample
from torch import nn
from torchvision.models.vgg import VGG, cfgs, make_layers

from hierpretrain.models import HierarchicalContrastive, VGG16Convolutions, VGG16FullyConnected

WIDTH, CHANNELS, EMBEDDING = 4, 32, 48  # a sixteenth of the original's


def torchvision_vgg16(seed=0):
    """Returns torchvision's network, with a sixteenth of its channels and random weights."""
    torch.manual_seed(seed)
    with torch.device("meta"):  # its fully connected layers have 120 million weights, which are not wanted
        vgg = VGG(nn.Sequential(), init_weights=False)
    vgg.features = make_layers([v if v == "M" else v * WIDTH // 64 for v in cfgs["D"]])
    vgg.classifier[0] = nn.Linear(CHANNELS * 49, EMBEDDING)
    vgg.classifier[3] = nn.Linear(EMBEDDING, EMBEDDING)
    vgg.classifier[6] = nn.Linear(EMBEDDING, 10)
    return vgg.eval()


def make(checkpoint=None, normalize=False, **neck):
    def weights(prefix):
        return checkpoint and dict(type="Pretrained", checkpoint=str(checkpoint), prefix=prefix)

    model = HierarchicalContrastive(
        dict(type="VGG16Convolutions", base_channels=WIDTH, init_cfg=weights("features.")),
        neck=dict(
            type="VGG16FullyConnected",
            in_channels=CHANNELS,
            out_channels=EMBEDDING,
            init_cfg=weights("classifier."),
            **neck,
        ),
        loss=dict(type="SupConLoss", level=1),
        normalize=normalize,
    )
    model.init_weights()
    return model


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    torch.save(torchvision_vgg16().state_dict(), path)
    return path


@pytest.mark.parametrize("size", [224, 64])
@pytest.mark.parametrize("relu", [True, False])
def test_a_checkpoint_of_torchvision_s_gives_torchvision_s_second_layer_bit_for_bit(checkpoint, size, relu):
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    vgg = torchvision_vgg16()
    with torch.no_grad():
        maps = vgg.avgpool(vgg.features(images)).flatten(1)
        expected = vgg.classifier[: 5 if relu else 4](maps)
        assert torch.equal(make(checkpoint, relu=relu).eval().extract_feat(images), expected)
    assert (expected < 0).any() != relu


def test_the_names_and_shapes_are_those_of_the_whole_vgg16():
    with torch.device("meta"):
        whole = torchvision.models.vgg16().state_dict()
        parts = {"features.": VGG16Convolutions(), "classifier.": VGG16FullyConnected()}
    ours = {prefix + name: w.shape for prefix, part in parts.items() for name, w in part.state_dict().items()}
    last = ("classifier.6.weight", "classifier.6.bias")
    assert ours == {name: tensor.shape for name, tensor in whole.items() if name not in last}
    assert parts["features."].feat_dim == 512
    assert sum(p.numel() for p in parts["classifier."].parameters()) == 25088 * 4096 + 4096 + 4096 * 4096 + 4096


def samples():
    return [DataSample(metainfo=dict(sample_idx=i)).set_gt_label(np.array([i % 2])) for i in range(4)]


def test_training_changes_the_fully_connected_layers_and_never_the_convolutions(checkpoint):
    model = make(checkpoint, normalize=True).train()
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    (maps,) = model.backbone(images)
    # all parameters are handed to the optimizer, as MMEngine does: those without a gradient do not decay either
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.5)
    for _ in range(3):
        optimizer.zero_grad()
        model(images, samples(), mode="loss")["loss"].backward()
        optimizer.step()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name]) == name.startswith("backbone."), name
    assert torch.equal(model.backbone(images)[0], maps)
    assert len(optimizer.state) == 4
    assert not any(module.training for module in model.backbone.modules())
    assert model.neck.training


def test_a_frozen_backbone_makes_no_graph_and_an_unfrozen_one_does():
    images = torch.randn(1, 3, 32, 32, requires_grad=True)  # would give the convolutions a graph
    for frozen in (True, False):
        model = HierarchicalContrastive(dict(type="VGG16Convolutions", base_channels=4, frozen=frozen)).train()
        assert model.frozen == frozen
        assert model.backbone.training != frozen
        assert model.extract_feat(images).requires_grad != frozen


def test_dropout_between_the_layers_only_while_training():
    neck = VGG16FullyConnected(in_channels=2, out_channels=8, dropout=1.0)
    maps = torch.randn(3, 2, 7, 7)
    dropped = neck.train()(maps)
    assert torch.equal(dropped, neck[3].bias.relu().expand(3, 8))  # of the second layer nothing is dropped
    assert not torch.equal(neck.eval()(maps), dropped)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: VGG16Convolutions(base_channels=0), "base_channels must be at least 1; it is 0"),
        (
            lambda: VGG16FullyConnected(in_channels=4, out_channels=8)(torch.zeros(1, 8, 7, 7)),
            r"reads an \(N, 4, H, W\) feature map, not \(1, 8, 7, 7\); set its in_channels",
        ),
        (
            lambda: VGG16FullyConnected(in_channels=4, out_channels=8)((torch.zeros(1, 4),)),
            r"reads an \(N, 4, H, W\) feature map, not \(1, 4\)",
        ),
    ],
)
def test_bad_input_names_the_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call()
