import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmpretrain.structures import DataSample
from torch.nn.functional import normalize

from hierpretrain.functional import hierarchical_contrastive_loss
from hierpretrain.models import HierarchicalContrastive, MultiViewPreprocessor, ProjectionHead
from hierpretrain.taxonomy import Taxonomy
from tests.models.every_loss import every_loss

SMALL = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)


def make(backbone=SMALL, channels=64, **options):
    torch.manual_seed(0)
    return HierarchicalContrastive(
        backbone=dict(backbone),
        projection=dict(type="ProjectionHead", in_channels=channels, out_channels=16),
        loss=dict(type="HiMulConELoss"),
        **options,
    )


def samples(labels):
    made = []
    for i, row in enumerate(labels):
        sample = DataSample(metainfo=dict(sample_idx=i)).set_gt_label(np.array(row))
        made.append(sample)
    return made


LABELS = [[0, 0], [0, 0], [0, 1], [1, -1]]


def test_loss_is_that_of_the_projections_with_labels_repeated_for_each_view():
    model = make().eval()  # without the coupling of images by batch statistics
    inputs = torch.randn(8, 3, 32, 32)
    loss = model(inputs, samples(LABELS), mode="loss")["loss"]
    features = normalize(model.projection(model.extract_feat(inputs)), dim=1)
    expected = hierarchical_contrastive_loss(features, torch.tensor(LABELS).repeat(2, 1), constraint="pair")
    torch.testing.assert_close(loss, expected)


def test_a_loss_that_asks_for_them_is_told_which_images_stand_in_for_others():
    model = make().eval()
    made = samples(LABELS)
    made[1].set_metainfo(dict(stand_in=True))
    told = []
    model.loss_module.forward = lambda features, labels, instances, **options: told.append(options) or features.sum()
    model(torch.randn(8, 3, 32, 32), made, mode="loss")
    model.loss_module.takes_stand_ins = True
    model(torch.randn(8, 3, 32, 32), made, mode="loss")
    model(torch.randn(8, 3, 32, 32), samples(LABELS), mode="loss")
    assert [{name: mask.tolist() for name, mask in options.items()} for options in told] == [
        {},
        {"stand_ins": [False, True, False, False] * 2},
        {},
    ]


def test_labels_of_several_paths_are_repeated_for_each_view():
    several = [[[0, 0], [1, 2]], [[0, 0], [-1, -1]], [[0, 1], [-1, -1]], [[1, 2], [0, 1]]]
    model = make().eval()
    inputs = torch.randn(12, 3, 32, 32)
    made = samples(LABELS)
    for sample, rows in zip(made, several, strict=True):
        sample.set_field(torch.tensor(rows), "gt_label")  # as our PackInputs
    loss = model(inputs, made, mode="loss")["loss"]
    features = normalize(model.projection(model.extract_feat(inputs)), dim=1)
    expected = hierarchical_contrastive_loss(features, torch.tensor(several * 3), constraint="pair")
    torch.testing.assert_close(loss, expected)


def test_without_a_projection_the_loss_gets_the_embedding():
    torch.manual_seed(0)
    model = HierarchicalContrastive(dict(SMALL), loss=dict(type="HiMulConELoss")).eval()
    inputs = torch.randn(8, 3, 32, 32)
    loss = model(inputs, samples(LABELS), mode="loss")["loss"]
    expected = hierarchical_contrastive_loss(model(inputs), torch.tensor(LABELS).repeat(2, 1), constraint="pair")
    torch.testing.assert_close(loss, expected)


@pytest.mark.parametrize(
    "loss", every_loss(but=("HierarchicalJointLoss",), num_classes=2, in_channels=64), ids=lambda loss: loss["type"]
)
def test_losses_say_whether_they_want_unit_rows(loss):
    as_they_are = ("LevelCrossEntropyLoss", "HAFrameLoss", "HXELoss", "SoftLabelLoss", "GuidedLoss")
    assert HierarchicalContrastive(dict(SMALL), loss=loss).normalize == (loss["type"] not in as_they_are)
    for told in (True, False):
        assert HierarchicalContrastive(dict(SMALL), loss=loss, normalize=told).normalize == told


@pytest.mark.parametrize("unit", [True, False])
def test_the_loss_gets_unit_rows_unless_told_otherwise_and_embeddings_are_unit_rows_either_way(unit):
    model = make(normalize=unit).eval()
    given, observed = [], []
    model.loss_module.forward = lambda features, *_: given.append(features) or features.sum()
    model.observe = lambda *rows: observed.extend(rows)
    inputs = torch.randn(8, 3, 32, 32)
    model(inputs, samples(LABELS), mode="loss")
    projected = model.projection(model.extract_feat(inputs))
    torch.testing.assert_close(given[0], normalize(projected, dim=1) if unit else projected)
    assert torch.equal(observed[0], given[0])
    assert not observed[0].requires_grad
    assert observed[1].tolist() == LABELS * 2
    torch.testing.assert_close(model(inputs).norm(dim=1), torch.ones(8))


@pytest.mark.parametrize(
    ("loss", "views", "message"),
    [
        (dict(type="NTXentLoss"), 1, r"NTXentLoss needs at least two views .* set Views\(num_views=2\)"),
        (
            dict(type="HierarchicalJointLoss", num_classes=[2, 2], in_channels=64, contrastive=dict(type="NTXentLoss")),
            1,
            "NTXentLoss needs at least two views",
        ),
        (
            dict(type="ReleasedHMLCLoss"),
            4,
            r"that the pipeline makes of each image, 4; it is 2\. Set model\.loss\.num_views=4",
        ),
        (dict(type="ReleasedHMLCLoss", num_views=4), 2, "views that the pipeline makes of each image, 2; it is 4"),
    ],
)
def test_losses_that_compare_views_want_as_many_as_there_are(loss, views, message):
    model = HierarchicalContrastive(dict(SMALL), loss=loss)
    with pytest.raises(ValueError, match=message):
        model(torch.randn(4 * views, 3, 32, 32), samples(LABELS), mode="loss")


def test_without_a_loss_it_embeds_and_does_not_train():
    torch.manual_seed(0)
    model = HierarchicalContrastive(dict(SMALL)).eval()
    inputs = torch.randn(8, 3, 32, 32)
    torch.testing.assert_close(model(inputs), make().eval()(inputs))
    with pytest.raises(ValueError, match=r"has no loss: it evaluates a checkpoint \(tools/test.py\); train with"):
        model(inputs, samples(LABELS), mode="loss")


@pytest.mark.parametrize(
    "loss",
    # this batch holds no triplets, and its labels are ragged
    every_loss(but=("LevelTripletLoss", "ReleasedHMLCLoss"), levels=2, num_classes=2, in_channels=64),
    ids=lambda loss: loss["type"],
)
def test_every_loss_trains_the_encoder_under_autocast(loss):
    torch.manual_seed(0)
    model = HierarchicalContrastive(dict(SMALL), loss=loss).train()
    model.set_taxonomy(Taxonomy([("a", "x"), ("a", "y"), ("b",)], ("kind", "thing")))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = model(torch.randn(8, 3, 32, 32), samples(LABELS), mode="loss")["loss"]
    assert value.dtype == torch.float32
    assert value.isfinite()
    value.backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_a_training_step_changes_what_is_trained_and_keeps_what_is_frozen():
    model = make(dict(SMALL, frozen_stages=3)).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(torch.randn(8, 3, 32, 32), samples(LABELS), mode="loss")["loss"].backward()
    optimizer.step()
    for name, tensor in model.state_dict().items():
        frozen = name.startswith(
            ("backbone.conv1", "backbone.bn1", "backbone.layer1", "backbone.layer2", "backbone.layer3")
        )
        if frozen:  # the statistics of its normalisation included
            assert torch.equal(tensor, before[name]), name
        elif "weight" in name:
            assert not torch.equal(tensor, before[name]), name


@pytest.mark.parametrize("embedding", ["backbone", "projection"])
def test_a_power_is_for_the_embedding_and_not_for_the_loss(embedding):
    inputs = torch.randn(6, 3, 32, 32)
    model, powered = make(embedding=embedding), make(embedding=embedding, power=0.5)
    powered.load_state_dict(model.state_dict())
    labels = samples(LABELS[:3])
    assert torch.equal(model.loss(inputs, labels)["loss"], powered.loss(inputs, labels)["loss"])
    plain = model.eval()(inputs)  # a factor that a vector is divided by changes nothing
    expected = normalize(plain.sign() * plain.abs().sqrt(), dim=1)
    torch.testing.assert_close(powered.eval()(inputs), expected)
    for power in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match=rf"power must be above 0 and at most 1; it is {power}"):
            make(power=power)


def trained(model):
    """Changes the weights of a model as a training would, and its statistics."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.train()(torch.randn(8, 3, 32, 32), samples(LABELS), mode="loss")["loss"].backward()
    optimizer.step()
    return model.eval()


@pytest.mark.parametrize("power", [1.0, 0.5])
def test_similarities_are_shared_between_the_encoder_and_the_encoder_before_training(power):
    inputs, model = torch.randn(6, 3, 32, 32), make(pretrained_share=0.25, power=power)
    model.init_weights()
    plain = make(power=power)
    plain.load_state_dict(model.state_dict())
    before = plain.eval()(inputs)
    model = trained(model)
    plain.load_state_dict(model.state_dict())
    after, both = plain.eval()(inputs), model(inputs)
    torch.testing.assert_close(both @ both.T, 0.75 * after @ after.T + 0.25 * before @ before.T)
    assert both.shape == (6, 128)
    assert (after - before).abs().max() > 0.01
    torch.testing.assert_close(both.norm(dim=1), torch.ones(6))


def test_the_copy_of_the_encoder_is_in_its_weights_and_has_no_part_in_training():
    model, plain = make(pretrained_share=0.5), make()
    assert not any(parameter.requires_grad for parameter in model.pretrained.parameters())
    assert not any(part.training for part in model.train().pretrained.modules())
    inputs, labels = torch.randn(8, 3, 32, 32), samples(LABELS)
    model.begins_training = True
    model.load_state_dict(plain.state_dict())  # of a model without the copy
    assert torch.equal(model.train().loss(inputs, labels)["loss"], plain.train().loss(inputs, labels)["loss"])
    model = trained(model)
    again = make(pretrained_share=0.5)
    again.load_state_dict(model.state_dict())
    torch.testing.assert_close(again.eval()(inputs), model(inputs))
    weights = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith("pretrained.")}
    with pytest.raises(RuntimeError, match=r"Missing key\(s\) in state_dict: \"pretrained\.backbone"):
        again.load_state_dict(weights)  # of which it cannot know what came before
    model.begins_training = True  # another training, which goes on with the copy
    before = model.state_dict()["pretrained.backbone.conv1.weight"].clone()
    model.load_state_dict(trained(again).state_dict())
    assert torch.equal(model.state_dict()["pretrained.backbone.conv1.weight"], before)


def test_weights_are_copied_once():
    model = make(pretrained_share=0.5)
    with torch.no_grad():
        model.backbone.conv1.weight.zero_()
    model.init_weights()
    before = model.pretrained.backbone.conv1.weight.clone()
    assert torch.equal(before, model.backbone.conv1.weight)
    with torch.no_grad():
        model.backbone.conv1.weight.fill_(1)
    model.init_weights()  # as a second training of one runner has it
    assert torch.equal(model.pretrained.backbone.conv1.weight, before)


def test_a_neck_is_copied_with_the_encoder():
    neck = dict(type="GeneralizedMeanPooling", p=3.0)
    inputs, model = torch.randn(4, 3, 32, 32), make(neck=neck, pretrained_share=0.5).eval()
    assert torch.equal(*model(inputs).chunk(2, dim=1))
    before = model(inputs)
    with torch.no_grad():
        next(model.neck.parameters()).fill_(1.0)
    after = model(inputs)
    assert torch.equal(after[:, 64:], before[:, 64:])
    assert not torch.equal(after[:, :64], before[:, :64])
    model.pretrained.take(model.backbone, model.neck)
    assert torch.equal(*model(inputs).chunk(2, dim=1))


def test_a_share_out_of_range_or_of_a_projection_is_an_error():
    for share in (-0.1, 1, float("nan"), "0.5"):
        with pytest.raises(ValueError, match=rf"pretrained_share must be a number from 0 to below 1; it is {share!r}"):
            make(pretrained_share=share)
    with pytest.raises(ValueError, match="pretrained_share is of the encoder's vectors, and embedding='projection'"):
        make(pretrained_share=0.5, embedding="projection")


def test_embeddings_come_from_the_backbone_and_the_projection_on_request():
    inputs = torch.randn(3, 3, 32, 32)
    model = make().eval()
    backbone = model(inputs)
    torch.testing.assert_close(backbone, normalize(model.extract_feat(inputs), dim=1))
    assert backbone.shape == (3, 64)
    torch.testing.assert_close(backbone.norm(dim=1), torch.ones(3))
    projection = make(embedding="projection").eval()(inputs)
    torch.testing.assert_close(projection, normalize(model.projection(model.extract_feat(inputs)), dim=1))
    predicted = model(inputs, samples(LABELS[:3]), mode="predict")
    torch.testing.assert_close(torch.stack([sample.embedding for sample in predicted]), backbone)
    assert [sample.sample_idx for sample in predicted] == [0, 1, 2]


def test_embeddings_have_unit_length_under_autocast():
    with torch.autocast("cpu", dtype=torch.bfloat16):
        embeddings = make().eval()(torch.randn(3, 3, 32, 32))
    assert embeddings.dtype == torch.float32
    torch.testing.assert_close(embeddings.norm(dim=1), torch.ones(3))


def test_feature_maps_are_averaged_over_places():
    model = make().eval()
    maps = torch.randn(2, 5, 3, 3)
    model.backbone.forward = lambda inputs: (torch.zeros(1), maps)
    torch.testing.assert_close(model.extract_feat(torch.zeros(2)), maps.mean((2, 3)))


@pytest.mark.parametrize(
    ("backbone", "channels", "size"),
    [
        (dict(type="MobileNetV3", arch="small"), 576, 64),
        (dict(type="VisionTransformer", arch="deit-tiny", img_size=32, patch_size=16), 192, 32),
        (dict(type="ConvNeXt", arch="atto"), 320, 64),
        (dict(type="mmpretrain.ResNet", depth=18), 512, 32),
        (dict(type="VGG", depth=11), 512, 32),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_backbones_of_the_zoo(backbone, channels, size):
    model = make(backbone, channels).eval()
    assert model(torch.randn(2, 3, size, size)).shape == (2, channels)


def test_a_neck_of_the_zoo_takes_the_place_of_averaging():
    model = make(neck=dict(type="GeneralizedMeanPooling", p=1.0)).eval()
    inputs = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(model(inputs), make().eval()(inputs), rtol=1e-3, atol=1e-4)  # p = 1 is the mean of relu


@pytest.mark.parametrize("scope", ["mmpretrain", "mmengine", "hierpretrain"])
def test_parts_are_built_in_our_scope_whatever_the_project_s_is(scope):
    with DefaultScope.overwrite_default_scope(scope):
        assert type(make().loss_module).__name__ == "HiMulConELoss"


def test_channels_last_changes_the_layout_and_not_the_values():
    inputs = torch.randint(0, 255, (2, 3, 32, 32), dtype=torch.uint8)
    plain, last = (
        make(),
        make(channels_last=True, data_preprocessor=dict(type="MultiViewPreprocessor", channels_last=True)),
    )
    assert last.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)
    batches = [model.data_preprocessor(dict(inputs=inputs))["inputs"] for model in (plain, last)]
    assert batches[1].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last.eval()(batches[1]), plain.eval()(batches[0]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: make(embedding="head"), "embedding must be 'backbone' or 'projection'; it is 'head'"),
        (
            lambda m: HierarchicalContrastive(dict(SMALL), embedding="projection"),
            "embedding='projection' needs a projection; give one, or take embedding='backbone'",
        ),
        (lambda m: m(torch.zeros(1), mode="train"), "mode must be 'loss', 'predict' or 'tensor'; it is 'train'"),
        (lambda m: m.loss(torch.zeros(5, 3, 32, 32), samples(LABELS)), "5 images are no whole number of views of 4"),
        (lambda m: m.loss(torch.zeros(1, 3, 32, 32), [DataSample()]), "training needs `gt_label`"),
        (lambda m: m.predict(torch.zeros(2, 3, 32, 32), [DataSample()]), "2 images of 1 samples: embed one view"),
        (
            lambda m: make(dict(type="VisionTransformer", arch="deit-tiny", img_size=32, out_type="raw"), 192)(
                torch.zeros(2, 3, 32, 32)
            ),
            r"must be \(N, D\) or \(N, D, H, W\); it is \(2, .*, 192\)",
        ),
    ],
)
def test_bad_input_names_the_rule(call, message):
    with pytest.raises(ValueError, match=message):
        call(make().eval())


def test_projection_heads_have_the_layers_asked_for():
    head = ProjectionHead(in_channels=8, out_channels=4, hidden_channels=6, num_layers=3)
    assert [tuple(p.shape) for p in head.parameters() if p.ndim == 2] == [(6, 8), (6, 6), (4, 6)]
    linear = ProjectionHead(in_channels=8, out_channels=4, num_layers=1)
    inputs = torch.randn(2, 8)
    torch.testing.assert_close(linear(inputs), linear.layers[0](inputs))
    with pytest.raises(ValueError, match="num_layers must be at least 1; it is 0"):
        ProjectionHead(in_channels=8, num_layers=0)


# ------------------------------------------------------------------ preprocessor
VIEW_0 = torch.arange(2 * 3 * 2 * 2, dtype=torch.uint8).reshape(2, 3, 2, 2)
VIEW_1 = VIEW_0 + 100


@pytest.mark.parametrize(
    "inputs",
    [
        [VIEW_0, VIEW_1],  # default_collate of lists of views
        [[VIEW_0[0], VIEW_1[0]], [VIEW_0[1], VIEW_1[1]]],  # pseudo_collate of lists of views
    ],
    ids=["stacked", "listed"],
)
def test_views_are_stacked_one_below_the_other_and_normalised(inputs):
    preprocess = MultiViewPreprocessor(mean=(1.0, 2.0, 3.0), std=(2.0, 4.0, 8.0))
    batch = preprocess(dict(inputs=inputs, data_samples=["a", "b"]))
    expected = torch.cat([VIEW_0, VIEW_1]).float()
    for channel, (mean, std) in enumerate([(1, 2), (2, 4), (3, 8)]):
        torch.testing.assert_close(batch["inputs"][:, channel], (expected[:, channel] - mean) / std)
    assert batch["data_samples"] == ["a", "b"]


@pytest.mark.parametrize("inputs", [VIEW_0, [VIEW_0[0], VIEW_0[1]]], ids=["stacked", "listed"])
def test_one_view(inputs):
    batch = MultiViewPreprocessor(mean=(0.0,) * 3, std=(1.0,) * 3)(dict(inputs=inputs))
    assert torch.equal(batch["inputs"], VIEW_0.float())


def test_images_of_different_sizes():
    with pytest.raises(ValueError, match="the images of a batch must have one size"):
        MultiViewPreprocessor()(dict(inputs=[torch.zeros(3, 2, 2), torch.zeros(3, 4, 4)]))
