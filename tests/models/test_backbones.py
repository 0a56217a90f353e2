"""Every backbone of mmpretrain embeds and trains, and docs/encoders.md says how each is written."""

import ast
import inspect
import logging
import re
from pathlib import Path

import mmpretrain.models.backbones
import mmpretrain.models.selfsup  # noqa: F401  # registers its variants
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS as THEIRS
from mmpretrain.structures import DataSample

from hierpretrain.models import HierarchicalContrastive

DOCS = Path(__file__).parents[2] / "docs/encoders.md"

_VIT = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)
_VIT_32 = dict(arch=_VIT, img_size=32)
_STAGES = dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2])
_TWINS = dict(
    embed_dims=[8, 8, 16, 16],
    depths=[1, 1, 1, 1],
    num_heads=[1, 1, 2, 2],
    patch_sizes=[4, 2, 2, 2],
    strides=[4, 2, 2, 2],
    mlp_ratios=[2, 2, 2, 2],
    sr_ratios=[8, 4, 2, 1],
)
_HRNET = {
    f"stage{stage}": dict(
        num_modules=1,
        num_branches=stage,
        block="BOTTLENECK" if stage == 1 else "BASIC",
        num_blocks=(1,) * stage,
        num_channels=(8,) if stage == 1 else (4, 8, 16, 32)[:stage],
    )
    for stage in (1, 2, 3, 4)
}
_FAN_IN = dict(type="Kaiming", layer="Conv2d", mode="fan_in")  # by its own, an untrained one's values vanish
_POOL = dict(type="GlobalAveragePooling", dim=1)

# type -> (options of a small one, image size in px, width, neck)
BACKBONES = {
    "AlexNet": (dict(), 64, 256, None),
    "BEiTViT": (_VIT_32, 32, 16, None),
    "CSPDarkNet": (dict(depth=53), 32, 1024, None),
    "CSPResNeXt": (dict(depth=50), 32, 2048, None),
    "CSPResNet": (dict(depth=50), 32, 1024, None),
    "Conformer": (
        dict(arch=dict(embed_dims=16, channel_ratio=1, num_heads=2, depths=12), base_channels=8),
        32,
        32 + 16,
        None,
    ),
    "ConvMixer": (dict(arch=dict(embed_dims=16, depth=2, patch_size=4, kernel_size=3)), 32, 16, None),
    "ConvNeXt": (dict(arch=dict(depths=[1, 1, 1, 1], channels=[8, 8, 16, 16])), 32, 16, None),
    "DaViT": (dict(arch=_STAGES, window_size=2), 64, 64, None),
    "DeiT3": (_VIT_32, 32, 16, None),
    "DenseNet": (dict(arch=dict(growth_rate=8, depths=[1, 1, 1, 1], init_channels=16)), 32, 17, None),
    "DistilledVisionTransformer": (_VIT_32, 32, 2 * 16, None),
    "EdgeNeXt": (
        dict(arch=dict(depths=[1, 2, 2, 2], channels=[8, 16, 24, 32], num_heads=[1, 2, 2, 2])),
        64,
        32,
        None,
    ),
    "EfficientFormer": (dict(reshape_last_feat=True), 224, 448, None),
    "EfficientNet": (dict(arch="b0", init_cfg=_FAN_IN), 32, 1280, None),
    "EfficientNetV2": (dict(arch="b0"), 32, 1280, None),
    "HRNet": (dict(extra=_HRNET), 64, 2048, dict(type="HRFuseScales", in_channels=(4, 8, 16, 32))),
    "HiViT": (dict(arch="tiny", img_size=32), 32, 384, None),
    "HorNet": (
        dict(
            arch=dict(
                base_dim=16, depths=[1, 1, 1, 1], orders=[2, 3, 4, 5], dw_cfg=[dict(type="DW", kernel_size=7)] * 4
            )
        ),
        32,
        128,
        None,
    ),
    "InceptionV3": (dict(num_classes=10), 96, 10, None),
    "LeNet5": (dict(), 32, 120, None),
    "LeViT": (dict(arch="128s", img_size=64), 64, 384, None),
    "MViT": (dict(arch=dict(embed_dims=16, num_layers=4, num_heads=1, downscale_indices=[1, 2, 3])), 32, 128, None),
    "MixMIMTransformer": (
        dict(
            arch=dict(embed_dims=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2]), img_size=64, window_size=[4, 4, 4, 2]
        ),
        64,
        64,
        None,
    ),
    "MlpMixer": (
        dict(arch=dict(embed_dims=16, num_layers=2, tokens_mlp_dims=8, channels_mlp_dims=16), img_size=32),
        32,
        16,
        _POOL,
    ),
    "MobileNetV2": (dict(widen_factor=0.25), 32, 1280, None),
    "MobileNetV3": (dict(arch="small_050"), 32, 288, None),
    "MobileOne": (dict(arch="s0"), 32, 1024, None),
    "MobileViT": (dict(arch="xx_small"), 64, 320, None),
    "PCPVT": (dict(arch=_TWINS), 32, 16, None),
    "PoolFormer": (dict(), 32, 512, None),
    "PyramidVig": (dict(arch="tiny"), 224, 384, None),
    "RIFormer": (dict(), 32, 512, None),
    "RegNet": (dict(arch="regnetx_400mf"), 32, 384, None),
    "RepLKNet": (
        dict(
            arch=dict(
                large_kernel_sizes=[7, 7, 5, 5],
                layers=[1, 1, 1, 1],
                channels=[8, 8, 16, 16],
                small_kernel=3,
                dw_ratio=1,
            )
        ),
        32,
        16,
        None,
    ),
    "RepMLPNet": (
        dict(arch=dict(channels=[8, 8, 16, 16], depths=[1, 1, 1, 1], sharesets_nums=[1, 2, 4, 4]), img_size=64),
        64,
        16,
        None,
    ),
    "RepVGG": (dict(arch="A0", base_channels=8), 32, 160, None),
    "Res2Net": (dict(depth=50), 32, 2048, None),
    "ResNeSt": (dict(depth=50), 32, 2048, None),
    "ResNeXt": (dict(depth=50), 32, 2048, None),
    "ResNet": (dict(depth=18), 32, 512, None),
    "ResNetV1c": (dict(depth=18), 32, 512, None),
    "ResNetV1d": (dict(depth=18), 32, 512, None),
    "ResNet_CIFAR": (dict(depth=18), 32, 512, None),
    "RevVisionTransformer": (_VIT_32, 32, 2 * 16, None),
    "SEResNeXt": (dict(depth=50), 32, 2048, None),
    "SEResNet": (dict(depth=50), 32, 2048, None),
    "SVT": (dict(arch=dict(_TWINS, window_sizes=[7, 7, 7, 7])), 32, 16, None),
    "ShuffleNetV1": (dict(widen_factor=0.5), 32, 480, None),
    "ShuffleNetV2": (dict(widen_factor=0.5), 32, 1024, None),
    "SwinTransformer": (dict(arch=_STAGES, img_size=64, window_size=2), 64, 64, None),
    "SwinTransformerV2": (
        dict(arch=dict(_STAGES, extra_norm_every_n_blocks=0), img_size=64, window_size=2),
        64,
        64,
        None,
    ),
    "T2T_ViT": (
        dict(
            img_size=32,
            embed_dims=16,
            num_layers=2,
            t2t_cfg=dict(token_dims=8, use_performer=False),
            layer_cfgs=dict(num_heads=2, feedforward_channels=32),
        ),
        32,
        16,
        None,
    ),
    "TNT": (
        dict(
            arch=dict(embed_dims_outer=16, embed_dims_inner=8, num_layers=2, num_heads_outer=2, num_heads_inner=2),
            img_size=32,
        ),
        32,
        16,
        None,
    ),
    "TinyViT": (dict(arch="5m", img_size=(64, 64), window_size=[4, 4, 4, 2]), 64, 320, None),
    "VAN": (dict(arch=dict(embed_dims=[8, 8, 16, 16], depths=[1, 1, 1, 1], ffn_ratios=[2, 2, 2, 2])), 32, 16, None),
    "VGG": (dict(depth=11), 32, 512, None),
    "ViTEVA02": (_VIT_32, 32, 16, None),
    "ViTSAM": (dict(arch=dict(_VIT, global_attn_indexes=[1]), img_size=32, out_channels=16), 32, 16, None),
    "Vig": (dict(arch="tiny"), 224, 192, None),
    "VisionTransformer": (_VIT_32, 32, 16, None),
    "XCiT": (dict(img_size=32, embed_dims=16, depth=2, num_heads=2), 32, 16, None),
}

NOT_ENCODERS = {  # type -> why not
    "SparseConvNeXt": "pre-training: reads a mask with the images; its weights are ConvNeXt's",
    "SparseResNet": "pre-training: reads a mask with the images; its weights are ResNet's",
    "BEiTPretrainViT": "pre-training: reads a mask with the images",
    "CAEPretrainViT": "pre-training: reads a mask with the images",
    "MAEViT": "pre-training: embeds a random part of the patches",
    "MAEHiViT": "pre-training: embeds a random part of the patches",
    "MFFViT": "pre-training: embeds a random part of the patches",
    "MILANViT": "pre-training: embeds a part of the patches, by another model's attention",
    "MaskFeatViT": "pre-training: reads a mask with the images",
    "MixMIMPretrainTransformer": "pre-training: mixes the images of a batch",
    "MoCoV3ViT": "pre-training: VisionTransformer with frozen parts",
    "SimMIMSwinTransformer": "pre-training: reads a mask with the images",
    "iTPNHiViT": "pre-training: reads a mask with the images",
    "TIMMBackbone": "needs the package timm; see its own test",
}


# one of each kind of output that our code tells apart: a map, a vector, maps and vectors, two vectors, maps and tokens
# that a neck makes one of; and one for images of a single size, and of a single channel
KINDS = {
    "ResNet",
    "VisionTransformer",
    "Conformer",
    "DistilledVisionTransformer",
    "HRNet",
    "MlpMixer",
    "SwinTransformer",
    "LeNet5",
}


def each(names):
    """Parameters; those that show no more than others are of the slower tests."""
    return [pytest.param(name, marks=() if name in KINDS else pytest.mark.slow) for name in names]


@pytest.fixture(scope="module", params=each(BACKBONES))
def built(request):
    """A small model of each, in evaluation mode."""
    backbone, _, _, neck = BACKBONES[request.param]
    torch.manual_seed(0)
    model = HierarchicalContrastive(dict(backbone, type=request.param), neck=neck, loss=dict(type="HiMulConLoss"))
    logging.disable(logging.INFO)  # a line for each weight
    try:
        model.init_weights()
    finally:
        logging.disable(logging.NOTSET)
    model.eval()
    return request.param, model


def images(name, number, more=0):
    size = BACKBONES[name][1] + more
    channels = 1 if name == "LeNet5" else 3
    return torch.randn(number, channels, size, size, generator=torch.Generator().manual_seed(1))


def test_every_registered_backbone_is_tried_or_named_as_none():
    homes = ("mmpretrain.models.backbones.", "mmpretrain.models.selfsup.")
    there = {
        name
        for name, kind in THEIRS.module_dict.items()
        if kind.__module__.startswith(homes[0])
        or (kind.__module__.startswith(homes[1]) and any(b.__module__.startswith(homes[0]) for b in kind.__mro__))
    }
    assert not BACKBONES.keys() & NOT_ENCODERS.keys()
    assert there == BACKBONES.keys() | NOT_ENCODERS.keys()


@torch.no_grad()
def test_embeddings_are_the_means_of_the_last_output_in_unit_length(built):
    name, model = built
    inputs = images(name, 2)
    embeddings = model(inputs)
    outputs = model.backbone(inputs)
    if model.neck is not None:
        outputs = model.neck(outputs)
    last = outputs[-1] if isinstance(outputs, tuple | list) else outputs
    parts = last if isinstance(last, tuple | list) else [last]
    rows = []
    for number in range(2):
        row = [float(np.mean(channel)) for part in parts for channel in part[number].numpy()]
        rows.append([value / sum(other**2 for other in row) ** 0.5 for value in row])
    np.testing.assert_allclose(embeddings.numpy(), rows, atol=1e-5)
    assert len(rows[0]) == BACKBONES[name][2]
    assert (embeddings[0] - embeddings[1]).abs().max() > 1e-4  # it looks at the images
    torch.testing.assert_close(model(inputs[1:]), embeddings[1:], atol=1e-5, rtol=0)  # at each by itself


def test_a_loss_has_a_gradient_down_to_the_first_weight(built):
    name, model = built
    model.train()
    labels = ([0, 0], [0, 1])
    samples = [DataSample(metainfo=dict(sample_idx=i)).set_gt_label(np.array(row)) for i, row in enumerate(labels)]
    loss = model(images(name, 4), samples, mode="loss")["loss"]
    loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
    model.eval()
    assert loss.isfinite()
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert trained[0].grad.any()
    assert len(gradients) > 0.8 * len(trained)  # a DeiT3's last layer norms only some of its tokens


def test_several_vectors_are_joined_and_maps_among_them_averaged():
    model = HierarchicalContrastive(dict(type="ResNet", depth=18))
    vector, map_ = torch.tensor([[3.0, 0.0]]), torch.tensor([[[[1.0, 7.0]]]])
    assert model.extract_feat((torch.zeros(1, 9), (map_, vector))).tolist() == [[4.0, 3.0, 0.0]]
    assert model.extract_feat(([vector, vector],)).tolist() == [[3.0, 0.0, 3.0, 0.0]]


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("MlpMixer", BACKBONES["MlpMixer"][0], r"\(2, 16, 4\)"),
        ("VisionTransformer", dict(_VIT_32, out_type="raw"), r"\(2, 5, 16\)"),
    ],
)
def test_tokens_are_no_vector(name, options, shape):
    model = HierarchicalContrastive(dict(options, type=name))
    with pytest.raises(ValueError, match=rf"last output must be \(N, D\) or \(N, D, H, W\); it is {shape}. Choose an"):
        model(images(name, 2))


def test_timm():
    pytest.importorskip("timm")
    for options in (dict(model_name="resnet18"), dict(model_name="vit_tiny_patch16_224", features_only=True)):
        model = HierarchicalContrastive(dict(options, type="TIMMBackbone"))
        model.eval()
        with torch.no_grad():
            embeddings = model(torch.randn(1, 3, 224, 224))
        torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(1))
        assert embeddings.shape[1] == {"resnet18": 512}.get(options["model_name"], 192)


# ---------------------------------------------------------------- the table of docs/encoders.md
def documented():
    """Reads the table: type -> (options, neck, what images, width)."""
    rows = {}
    for line in DOCS.read_text("utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) != 4 or not (name := re.fullmatch(r"`(\w+)`", cells[0])) or name[1] not in THEIRS.module_dict:
            continue
        call = ast.parse(f"dict({cells[1].strip('`')})", mode="eval").body
        options = {keyword.arg: _literal(keyword.value) for keyword in call.keywords}
        rows[name[1]] = options, options.pop("neck", None), cells[2], int(cells[3])
    return rows


def _literal(node):
    """Evaluates literals and ``dict(...)`` of literals."""
    if isinstance(node, ast.Call):
        return {keyword.arg: _literal(keyword.value) for keyword in node.keywords}
    return ast.literal_eval(node)


TABLE = documented()


def test_the_table_has_every_backbone_and_the_text_names_the_others():
    assert TABLE.keys() == BACKBONES.keys()
    text = DOCS.read_text("utf-8")
    assert [name for name in NOT_ENCODERS if f"`{name}`" not in text] == []


@pytest.mark.parametrize("name", each(TABLE))
@torch.no_grad()
def test_widths_of_the_table(name):
    options, neck, sizes, width = TABLE[name]
    with DefaultScope.overwrite_default_scope("mmpretrain"):  # as in any config
        model = HierarchicalContrastive(dict(options, type=name), neck=neck)
    model.eval()
    smallest = int(found[0]) if (found := re.findall(r"\d+", sizes)) else 224
    channels = 1 if name == "LeNet5" else 3
    assert model(torch.randn(1, channels, smallest, smallest)).shape == (1, width)
    if sizes.startswith("any from"):
        with pytest.raises((RuntimeError, AssertionError, ValueError)):
            model(torch.randn(1, channels, smallest - 1, smallest - 1))


@torch.no_grad()
def test_image_sizes_of_the_table(built):
    name, model = built
    sizes = TABLE[name][2]
    if sizes.startswith("any"):
        assert model(images(name, 1, more=32)).isfinite().all()
        return
    with pytest.raises((RuntimeError, AssertionError)):
        model(images(name, 1, more=32))
    has_option = "img_size" in inspect.signature(THEIRS.get(name)).parameters
    assert has_option == ("`img_size`" in sizes)
