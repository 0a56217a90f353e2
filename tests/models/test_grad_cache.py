import numpy as np
import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from mmpretrain.structures import DataSample
from torch import nn

from hierpretrain.engine import BF16OptimWrapper
from hierpretrain.models import HierarchicalContrastive
from hierpretrain.models.gather import gather_rows
from hierpretrain.models.grad_cache import encode_in_chunks
from hierpretrain.taxonomy import Taxonomy
from tests import distributed
from tests.memory import LiveBytes
from tests.models.every_loss import every_loss

BATCH = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
GROUP = dict(BATCH, norm_cfg=dict(type="GN", num_groups=4))
HEAD = dict(type="ProjectionHead", in_channels=64, out_channels=16)
TREE = Taxonomy([("a", "x"), ("a", "y"), ("b",)], ("kind", "thing"))
LABELS = [[0, 0], [0, 1], [1, -1], [0, 0], [0, 1]]


def make(grad_cache, backbone=GROUP, **options):
    torch.manual_seed(0)
    options = dict(projection=HEAD, loss=dict(type="HiMulConELoss")) | options
    model = HierarchicalContrastive(dict(backbone), grad_cache=grad_cache, **options).train()
    model.set_taxonomy(TREE)
    return model


def batch(images=5, views=2, size=32):
    generator = torch.Generator().manual_seed(images)
    inputs = [torch.randint(256, (images, 3, size, size), dtype=torch.uint8, generator=generator) for _ in range(views)]
    made = [DataSample(metainfo=dict(sample_idx=i)).set_gt_label(np.array(LABELS[i % 5])) for i in range(images)]
    return dict(inputs=inputs, data_samples=made)


def step(model, data):
    """Returns the loss and the gradients by name."""
    torch.manual_seed(1)
    value = model(**model.data_preprocessor(data, True), mode="loss")["loss"]
    value.backward()
    return {"loss": value.detach(), **{name: parameter.grad for name, parameter in model.named_parameters()}}


def assert_same(ours, theirs, tolerance=1e-5):
    """Differences are measured by the largest entry of each tensor."""
    assert ours.keys() == theirs.keys()
    for name, tensor in theirs.items():
        if tensor is None:
            assert ours[name] is None, name
        else:
            most = tolerance * (1 + float(tensor.abs().max()))
            torch.testing.assert_close(ours[name], tensor, rtol=0, atol=most, msg=lambda m, n=name: f"{n}: {m}")


# ------------------------------------------------------------------ exact without batch statistics
@pytest.mark.parametrize("grad_cache", [1, 3, 4, 10, 64])
def test_loss_and_gradients_are_those_of_the_whole_batch(grad_cache):
    assert_same(step(make(grad_cache), batch()), step(make(None), batch()))


@pytest.mark.filterwarnings("ignore:torch.utils.checkpoint")  # of mmpretrain's with_cp
@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        (dict(BATCH, norm_eval=True), {}),
        (dict(BATCH, norm_eval=True, frozen_stages=2), {}),
        (dict(BATCH, norm_eval=True, frozen_stages=4), {}),
        (dict(GROUP, with_cp=True), {}),
        (dict(type="VisionTransformer", arch="deit-tiny", img_size=32, patch_size=16), dict(projection=None)),
        (dict(type="ConvNeXt", arch="atto"), dict(projection=None)),
        (GROUP, dict(neck=dict(type="GeneralizedMeanPooling"))),
        (GROUP, dict(normalize=False)),
        (GROUP, dict(data_preprocessor=dict(type="MultiViewPreprocessor", channels_last=True), channels_last=True)),
    ],
    ids=["fixed BN", "frozen stages", "frozen", "with_cp", "ViT", "ConvNeXt", "neck", "not unit", "channels last"],
)
def test_encoders_without_batch_statistics_are_exact(backbone, options):
    assert_same(step(make(3, backbone, **options), batch()), step(make(None, backbone, **options), batch()))


@pytest.mark.parametrize(
    "loss",
    # the released loss knows no ragged labels
    every_loss(but=("ReleasedHMLCLoss",), levels=2, chunk_size=2, num_classes=2, in_channels=16),
    ids=lambda loss: loss["type"],
)
def test_every_loss(loss):
    data = batch(3, 1) if loss["type"] == "LevelTripletLoss" else batch()  # an anchor, a positive and a negative
    assert_same(step(make(4, loss=loss), data), step(make(None, loss=loss), data))


def test_weights_after_some_steps():
    models = make(4), make(None)
    for model in models:
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for images in (5, 3, 4):
            optimizer.zero_grad()
            step(model, batch(images))
            optimizer.step()
    ours, theirs = (model.state_dict() for model in models)
    assert not torch.equal(theirs["backbone.conv1.weight"], make(None).backbone.conv1.weight)
    assert_same(ours, theirs, 2e-4)  # Adam divides gradients near 0 by themselves


def test_a_compiled_model_has_the_same_gradients():
    model, data = make(3), batch()
    compiled = torch.compile(model, backend="eager")
    torch.manual_seed(1)
    value = compiled(**model.data_preprocessor(data, True), mode="loss")["loss"]
    value.backward()
    ours = {"loss": value.detach(), **{name: parameter.grad for name, parameter in model.named_parameters()}}
    assert_same(ours, step(make(3), data))


def test_frozen_features_are_projected_in_chunks():
    features, data = torch.randn(10, 1, 64), batch()
    plain, ours = (
        make(number)(
            **make(number).data_preprocessor(dict(features=features, data_samples=data["data_samples"]), True),
            mode="loss",
        )
        for number in (None, 3)
    )
    torch.testing.assert_close(ours["loss"], plain["loss"])


# ------------------------------------------------------------------ what is random, and what counts batches
def explicit(model, data, size):
    """The loss of features that are taken chunk by chunk, all of which are kept for backward."""
    inputs = make(None).data_preprocessor(data)["inputs"]
    number = -(-len(inputs) // size)
    extract, parts = model.extract_feat, iter(inputs.tensor_split(number))
    model.extract_feat = lambda _: torch.cat([extract(part) for part in parts])
    torch.manual_seed(1)
    value = model(inputs, data["data_samples"], mode="loss")["loss"]
    value.backward()
    del model.extract_feat
    return {"loss": value.detach(), **{name: parameter.grad for name, parameter in model.named_parameters()}}


def test_dropout_drops_the_same_in_both_runs():
    vgg = dict(type="VGG16Convolutions", base_channels=4, frozen=False)
    neck = dict(type="VGG16FullyConnected", in_channels=32, out_channels=16, dropout=0.5)
    options = dict(backbone=vgg, neck=neck, projection=None)
    ours = step(make(4, **options), batch())
    after = torch.rand(3)
    assert_same(ours, explicit(make(None, **options), batch(), 4))
    assert torch.equal(torch.rand(3), after)  # backward leaves the generator where forward left it
    assert not torch.allclose(ours["loss"], step(make(4, **options).eval(), batch())["loss"])


def test_batch_statistics_are_those_of_a_chunk_and_run_on_once():
    model, chunks = make(4, BATCH), make(None, BATCH)
    assert_same(step(model, batch()), explicit(chunks, batch(), 4))
    assert model.backbone.bn1.num_batches_tracked == 3
    assert_same(dict(model.named_buffers()), dict(chunks.named_buffers()))
    assert not torch.allclose(model.backbone.bn1.running_mean, step_of_plain().backbone.bn1.running_mean)


def step_of_plain():
    model = make(None, BATCH)
    step(model, batch())
    return model


def test_parameters_and_buffers_stay_the_same_objects_also_if_the_encoder_fails():
    layer = nn.BatchNorm1d(2)
    before = dict(layer.named_buffers()) | dict(layer.named_parameters())
    calls = []

    def encode(rows):
        calls.append(rows)
        if len(calls) > 2:
            raise KeyError("second run")
        return layer(rows) ** 2

    encoded = encode_in_chunks(encode, torch.randn(6, 2), 3, [layer])
    with pytest.raises(KeyError, match="second run"):
        encoded.sum().backward()
    after = dict(layer.named_buffers()) | dict(layer.named_parameters())
    assert all(after[name] is tensor for name, tensor in before.items())


def chunked(layer, rows, size):
    return torch.cat([layer(chunk) for chunk in rows.tensor_split(-(-len(rows) // size))])


def in_chunks(layer, rows, size):
    return encode_in_chunks(layer, rows, size, [layer])


class Centred(nn.Module):
    """Takes a running mean away, which two layers share and each moves on."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.first.register_buffer("centre", torch.zeros(4))
        self.second.register_buffer("centre", self.first.centre)

    def forward(self, rows):
        for layer in (self.first, self.second):
            rows = layer(rows)
            layer.centre.mul_(0.5).add_(rows.detach().mean(0))
            rows = (rows - self.first.centre).tanh()
        return rows


@pytest.mark.filterwarnings("ignore::FutureWarning")  # the older of the two spectral norms
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.utils.spectral_norm(nn.Linear(4, 4)),
        lambda: nn.utils.parametrizations.spectral_norm(nn.Linear(4, 4)),
        Centred,
    ],
    ids=["spectral norm", "parametrised", "shared buffer"],
)
def test_the_second_run_starts_from_the_buffers_of_the_first(make):
    found = []
    for run in (in_chunks, chunked):
        torch.manual_seed(0)
        layer, rows = make(), torch.randn(7, 4)
        (run(layer, rows, 3) * torch.randn(7, 4)).square().sum().backward()
        gradients = {name: parameter.grad for name, parameter in layer.named_parameters()}
        found.append(dict(layer.named_buffers()) | gradients)
    assert_same(*found, 1e-6)


@pytest.mark.parametrize(
    "first", [nn.Hardswish(inplace=True), nn.Dropout(0.5, inplace=True)], ids=lambda layer: type(layer).__name__
)
def test_an_encoder_may_change_its_rows(first):
    torch.manual_seed(0)
    encoder, rows = nn.Sequential(first, nn.Linear(4, 4)), torch.randn(3, 4)
    before, gradients = rows.clone(), []
    for run in (in_chunks, lambda layer, rows, _: layer(rows.clone())):
        torch.manual_seed(1)
        gradients += torch.autograd.grad(run(encoder, rows, 3).square().sum(), encoder[1].weight)
        assert torch.equal(rows, before)
    torch.testing.assert_close(*gradients)


def test_the_second_run_is_in_the_modes_of_the_first():
    torch.manual_seed(0)
    encoder, rows = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), torch.randn(5, 4)
    encoder[1].eval()
    for parts_train in (False, True):
        encoder[1].train(parts_train)
        gradients = []
        for run in (in_chunks, chunked):
            torch.manual_seed(1)
            encoded = run(encoder, rows, 2)
            encoder.train(not parts_train)
            gradients += torch.autograd.grad(encoded.square().sum(), encoder[0].weight)
            assert [part.training for part in encoder.modules()] == [not parts_train] * 3
            encoder[1].train(parts_train)
        torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("trained", [False, True])
def test_weights_that_were_changed_before_backward_are_an_error(trained):
    encoder = nn.Sequential(nn.Linear(4, 4).requires_grad_(trained), nn.Linear(4, 4))
    encoded = encode_in_chunks(encoder, torch.randn(5, 4), 2, [encoder])
    with torch.no_grad():
        encoder[0].weight += 1
    with pytest.raises(RuntimeError, match="a parameter was changed between forward and backward of grad_cache"):
        encoded.sum().backward()


def test_the_gradient_of_the_gradient_is_that_of_the_whole_batch():
    torch.manual_seed(0)
    encoder, rows, found = nn.Sequential(nn.Linear(4, 4), nn.Tanh()), torch.randn(5, 4), []
    for run in (in_chunks, lambda layer, rows, _: layer(rows)):
        (gradient,) = torch.autograd.grad(run(encoder, rows, 2).square().sum(), encoder[0].weight, create_graph=True)
        found += torch.autograd.grad(gradient.square().sum(), encoder[0].weight)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("times", [1, 2])
def test_backward_may_run_again_over_a_graph_that_is_retained(times):
    torch.manual_seed(0)
    layer = Centred()
    encoded, buffers = in_chunks(layer, torch.randn(7, 4), 3), {}
    for _ in range(times):
        layer.zero_grad()
        encoded.square().sum().backward(retain_graph=True)
        buffers |= {name: buffer.clone() for name, buffer in layer.named_buffers()}
    torch.manual_seed(0)
    again = Centred()
    chunked(again, torch.randn(7, 4), 3).square().sum().backward()
    assert_same(
        {n: p.grad for n, p in layer.named_parameters()}, {n: p.grad for n, p in again.named_parameters()}, 1e-6
    )
    assert_same(buffers, dict(again.named_buffers()), 0)


def test_shared_weights_get_the_gradient_of_all_uses():
    torch.manual_seed(0)
    first, second, rows = nn.Linear(3, 3), nn.Linear(3, 3), torch.randn(5, 3)
    second.weight = second.again = first.weight

    def encode(rows):
        return second(first(rows).relu()) @ second.again

    calls = []
    first.weight.register_post_accumulate_grad_hook(calls.append)
    encode_in_chunks(encode, rows, 2, [first, second, first]).square().sum().backward()
    ours = first.weight.grad
    first.weight.grad = None
    assert len(calls) == 1
    encode(rows).square().sum().backward()
    torch.testing.assert_close(ours, first.weight.grad)


# ------------------------------------------------------------------ in MMEngine's steps
def train(grad_cache, wrapper, **options):
    model = make(grad_cache)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    wrapped = wrapper(optimizer=optimizer, **options)
    wrapped.initialize_count_status(model, 0, 4)
    for images in (5, 3, 4, 2):
        model.train_step(batch(images), wrapped)
    return model.state_dict()


@pytest.mark.parametrize("accumulate", [1, 2])
def test_training_steps_of_mmengine(accumulate):
    ours, theirs = (train(number, OptimWrapper, accumulative_counts=accumulate) for number in (4, None))
    assert_same(ours, theirs, 1e-4)
    assert not torch.equal(ours["backbone.conv1.weight"], make(None).backbone.conv1.weight)


def test_chunks_do_not_add_up_their_gradients_in_half_precision():
    layer = nn.Linear(1, 1)
    with torch.autocast("cpu", torch.bfloat16):
        encoded = encode_in_chunks(layer, torch.ones(1000, 1), 1, [layer])
    encoded.float().sum().backward()
    assert layer.weight.grad.item() == 1000  # in bfloat16, 256 + 1 = 256


def test_scaled_gradients():
    value = {}
    for number in (None, 3):
        model = make(number)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        loss = model(**model.data_preprocessor(batch(), True), mode="loss")["loss"]
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        value[number] = model.state_dict()
    assert_same(value[3], value[None])


def test_steps_in_half_precision():
    ours, theirs = (train(number, BF16OptimWrapper) for number in (4, None))
    assert_same(ours, theirs, 3e-2)


# ------------------------------------------------------------------ memory
def peak(grad_cache, images):
    model, data = make(grad_cache), batch(images, size=64)
    with LiveBytes() as bytes_:
        model(**model.data_preprocessor(data, True), mode="loss")["loss"].backward()
    return bytes_.peak


def test_memory_is_that_of_a_chunk_whatever_the_batch():
    images = 2 * 3 * 64 * 64  # bytes of both views of an image, which are held for the whole batch
    small, large = (peak(8, number) - images * number for number in (16, 64))
    assert large < 1.4 * small  # the rest is the loss's matrix of all pairs
    assert peak(None, 64) > 4 * peak(8, 64)


def test_images_stay_bytes_until_their_chunk_is_due():
    data = batch()
    deferred, plain = (make(number).data_preprocessor for number in (3, None))
    assert torch.equal(deferred(data, True)["inputs"], torch.cat(data["inputs"]))
    assert torch.equal(deferred(data)["inputs"], plain(data)["inputs"])
    assert torch.equal(deferred.prepare(torch.cat(data["inputs"])), plain(data, True)["inputs"])
    floats = dict(data, inputs=[view.double() for view in data["inputs"]])
    assert torch.equal(deferred(floats, True)["inputs"], plain(data)["inputs"])


def test_prepared_images_are_taken_as_they_are():
    inputs = make(None).data_preprocessor(batch())["inputs"]
    ours, plain = (make(number)(inputs, batch()["data_samples"], mode="loss")["loss"] for number in (3, None))
    torch.testing.assert_close(ours, plain)


def test_the_switch_may_be_changed_at_any_time():
    model = make(3)
    expected = step(make(None), batch())
    for number in (None, 4):
        model.grad_cache = number
        model.zero_grad()
        assert_same(step(model, batch()), expected)
    with pytest.raises(ValueError, match=r"grad_cache must be at least 1, .*; it is 0"):
        model.grad_cache = 0


# ------------------------------------------------------------------ many processes
class Meet(nn.Module):
    """Takes the mean over the rows of all processes away, as synchronised batch normalisation does."""

    def forward(self, rows):
        return rows - gather_rows(rows)[0].mean((0, 2, 3), keepdim=True)


def part_of(rank, images):
    data, first = batch(sum(images)), sum(images[:rank])
    own = slice(first, first + images[rank])
    return dict(inputs=[view[own] for view in data["inputs"]], data_samples=data["data_samples"][own])


def compare_with_one_process(rank, world_size, cases):
    for images, expected, expected_of_meeting in cases:
        check(rank, images, 3, False, expected)
        check(rank, images, 64, True, expected_of_meeting)
        check(rank, images, 3, True, None)  # each chunk has a mean of its own; the processes have not as many rows each
    rows = torch.ones((8, 1)[rank], 2)
    message = r"grad_cache=2 makes 4 chunks of one process's images and views, .* has only 1 of them; give all"
    with pytest.raises(ValueError, match=message):
        encode_in_chunks(nn.Identity(), rows, 2, [])


def check(rank, images, grad_cache, meeting, expected):
    model = make_for_processes(grad_cache, meeting)
    wrapped = MMDistributedDataParallel(model)
    calls = []
    for name, parameter in model.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda _, n=name: calls.append(n))
    value = wrapped(**model.data_preprocessor(part_of(rank, images), True), mode="loss")["loss"]
    value.backward()
    assert sorted(calls) == sorted(name for name, _ in model.named_parameters())
    found = {name: parameter.grad for name, parameter in model.named_parameters()}
    if expected:
        assert_same({"loss": value.detach(), **found}, expected)


def make_for_processes(grad_cache, meeting):
    model = make(grad_cache)
    if meeting:
        model.backbone.bn1 = Meet()
    return model


def test_two_processes_have_the_gradient_of_one_and_stop_together():
    cases = []
    for images in ((3, 3), (5, 2)):
        expected = [step(make_for_processes(None, meeting), batch(sum(images))) for meeting in (False, True)]
        cases.append((images, *expected))
    distributed.run(compare_with_one_process, 2, cases)


# ------------------------------------------------------------------ errors
@pytest.mark.parametrize("value", [0, -64])
def test_a_size_below_1_is_refused(value):
    with pytest.raises(
        ValueError, match=f"grad_cache must be at least 1, or None for the whole batch .*; it is {value}"
    ):
        make(value)
