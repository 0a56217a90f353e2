import pytest
import torch
import torchvision
from torch import nn

from hierpretrain.models import TorchvisionEncoder
from tests.models.encoders.images import assert_gives, assert_trains, random_images

WIDTHS = {  # of one small network of each family
    "alexnet": 4096,
    "convnext_tiny": 768,
    "densenet121": 1024,
    "efficientnet_b0": 1280,
    "googlenet": 1024,
    "inception_v3": 2048,
    "maxvit_t": 512,
    "mnasnet0_5": 1280,
    "mobilenet_v2": 1280,
    "mobilenet_v3_small": 1024,
    "regnet_y_400mf": 440,
    "resnet18": 512,
    "shufflenet_v2_x0_5": 1024,
    "squeezenet1_1": 512,
    "swin_t": 768,
    "vgg11": 4096,
    "vit_b_32": 768,
}
FAST = {"resnet18", "mobilenet_v3_small", "squeezenet1_1", "swin_t", "shufflenet_v2_x0_5"}


def each(names):
    return [pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", each(WIDTHS))
def test_the_last_layer_on_the_vector_gives_the_classes(name):
    encoder = TorchvisionEncoder(name, weights=None).eval()
    options = dict(init_weights=False, aux_logits=False) if name in ("googlenet", "inception_v3") else {}
    classifier = torchvision.models.get_model(name, weights=None, **options).eval()
    classifier.load_state_dict(encoder.network.state_dict(), strict=False)
    size = encoder.settings.size if encoder.settings.fixed_size else 96
    read = []
    last = [m for m in classifier.modules() if isinstance(m, nn.Linear | nn.Conv2d)][-1]
    if name == "densenet121":
        last = classifier.classifier
    elif name in ("alexnet", "vgg11", "vit_b_32", "swin_t"):
        last = next(m for m in reversed(list(classifier.modules())) if isinstance(m, nn.Linear))
    last.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    images = random_images(size)
    if name in ("googlenet", "inception_v3"):
        classifier.transform_input = True

    def by_hand(images):
        read.clear()
        classifier(images)
        return read[-1].mean((2, 3)) if read[-1].ndim == 4 else read[-1]

    assert_gives(encoder, by_hand, images)
    assert encoder(images).shape == (2, WIDTHS[name])
    assert_trains(encoder, images)


def test_every_classifier_of_torchvision_has_a_family_here():
    families = {"wide_resnet50_2": "resnet18", "resnext50_32x4d": "resnet18"}
    known = {family.rstrip("0123456789").split("_")[0].rstrip("0123456789") for family in [*WIDTHS, *families]}
    known |= {"wide"}
    names = torchvision.models.list_models(torchvision.models)
    assert {name for name in names if name.split("_")[0].rstrip("0123456789") not in known} == set()


def test_settings_are_those_of_the_weights():
    settings = TorchvisionEncoder.data_settings("resnet50", "IMAGENET1K_V1")
    assert (settings.size, settings.resize, settings.interpolation) == (224, 256, "bilinear")
    assert TorchvisionEncoder.data_settings("resnet50").resize == 232  # of its second weights
    assert settings.mean == pytest.approx((123.675, 116.28, 103.53))
    vit = TorchvisionEncoder.data_settings("vit_b_16", "IMAGENET1K_SWAG_E2E_V1")
    assert (vit.size, vit.interpolation, vit.fixed_size) == (384, "bicubic", True)
    assert TorchvisionEncoder.data_settings("vit_b_16", None, image_size=64).size == 64


def test_weights_of_a_file_and_by_name(tmp_path, monkeypatch):
    torch.manual_seed(1)
    saved = torchvision.models.resnet18()
    torch.save(saved.state_dict(), tmp_path / "mine.pth")
    encoder = TorchvisionEncoder("resnet18", weights=str(tmp_path / "mine.pth"))
    encoder.init_weights()
    saved.fc = nn.Identity()
    assert_gives(encoder, saved.eval(), random_images(32))
    enum = torchvision.models.ResNet18_Weights.DEFAULT
    monkeypatch.setattr(type(enum), "get_state_dict", lambda *_, **__: torchvision.models.resnet18().state_dict())
    by_name = TorchvisionEncoder("resnet18")
    before = by_name.network.conv1.weight.clone()
    by_name.init_weights()
    assert not torch.equal(by_name.network.conv1.weight, before)


def test_errors_say_what_to_do():
    with pytest.raises(ValueError, match="torchvision has no classifier 'resnet19'; did you mean 'resnet1"):
        TorchvisionEncoder("resnet19")
    with pytest.raises(
        ValueError, match=r"weights of resnet18 must be 'IMAGENET1K_V1', .*None or a file; there is no 'V9'"
    ):
        TorchvisionEncoder("resnet18", weights="V9")
