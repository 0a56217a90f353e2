"""Weights that cannot be taken: every way into a network names them, and changes nothing."""

import pytest
import torch
from mmengine.config import Config
from torch import nn

from hierpretrain.apis.starts import check_checkpoint, check_start
from hierpretrain.engine import ExactResumeHook
from hierpretrain.models.checkpoints import StrictPretrained, check_values
from hierpretrain.models.encoders.base import load_exactly
from hierpretrain.models.encoders.weight_files import read_weights


def network(dtype=torch.float32):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)).to(dtype)


def with_one(value):
    def damaged(weight):
        weight = weight.clone()
        weight[1, 2] = value
        return weight

    return damaged


WEIGHT = "0.weight"
DAMAGES = {  # what becomes of the (6, 4) weight, and what is said of it
    "meta": (lambda weight: weight.to("meta"), "has no values: it was saved from the device 'meta'"),
    "sparse": (lambda weight: weight.to_sparse(), "is torch.sparse_coo, and dense in the model"),
    "compressed": (lambda weight: weight.to_sparse_csr(), "is torch.sparse_csr, and dense in the model"),
    "quantized": (lambda weight: torch.quantize_per_tensor(weight, 0.1, 0, torch.qint8), "is quantized, and dense in"),
    "int8": (lambda weight: (100 * weight).to(torch.int8), "is of torch.int8, and torch.float32 in the model"),
    "uint8": (lambda weight: (100 * weight).to(torch.uint8), "is of torch.uint8, and torch.float32 in the model"),
    "int64": (lambda weight: (100 * weight).long(), "is of torch.int64, and torch.float32 in the model"),
    "bool": (lambda weight: weight > 0, "is of torch.bool, and torch.float32 in the model"),
    "complex": (lambda weight: weight.to(torch.complex64), "is of torch.complex64, and torch.float32 in the model"),
    "float8": (lambda weight: weight.to(torch.float8_e4m3fn), "is of torch.float8_e4m3fn, and torch.float32 in the"),
    "NaN": (with_one(torch.nan), "is not finite: 1 of 24 values"),
    "infinite": (with_one(-torch.inf), "is not finite: 1 of 24 values"),
    "too large": (lambda weight: 1e300 * weight.double(), "is not finite in torch.float32, the model's type: 24 of 24"),
    "no tensor": (lambda weight: {"weight": weight}, "is no tensor but dict"),
    "another shape": (lambda weight: weight[:5], r"is \(5, 4\) in the file and \(6, 4\) in the model"),
    "transposed": (lambda weight: weight.T, r"is \(4, 6\) in the file and \(6, 4\) in the model"),
}


def initialise(module, path):
    StrictPretrained(checkpoint=str(path))(module)


def load_file(module, path):
    load_exactly(module, read_weights(path), str(path))


def check(module, path):
    check_checkpoint(module, str(path))


def start(module, path):
    check_start(Config(dict(load_from=str(path), resume=False)), module)


def resume(module, path):
    check_start(Config(dict(load_from=str(path), resume=True)), module)


def load_taken(module, path):
    """As the encoders of other libraries, whose weights are in memory."""
    load_exactly(module, torch.load(path, weights_only=True)["state_dict"], str(path))


@pytest.mark.parametrize("way", [initialise, load_file, load_taken, check, start, resume])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_weight_that_cannot_be_taken_is_named(way, damage, tmp_path):
    module, path = network(), tmp_path / "x.pth"
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    change, message = DAMAGES[damage]
    torch.save({"meta": {}, "state_dict": {**before, WEIGHT: change(before[WEIGHT])}}, path)
    own_words = "|missing in the file: 0.weight|is of torch|is not finite|holds weights" if way is load_file else ""
    with pytest.raises(ValueError, match=rf"x\.pth.*(?:0\.weight {message}{own_words})"):
        way(module, path)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("way", [initialise, load_file, load_taken, check, start, resume])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_are_taken(way, dtype, tmp_path):
    module, path = network(), tmp_path / "x.pth"
    weights = {name: tensor + 1 for name, tensor in network(dtype).state_dict().items()}
    torch.save({"meta": {}, "state_dict": weights}, path)
    way(module, path)
    if way in (initialise, load_file, load_taken):
        assert all(torch.equal(tensor, weights[name].to(tensor.dtype)) for name, tensor in module.state_dict().items())


@pytest.mark.parametrize("way", [initialise, load_file, load_taken])
def test_files_without_counts_of_batches_are_taken(way, tmp_path):
    module, path = network(), tmp_path / "x.pth"
    weights = {name: tensor + 1 for name, tensor in module.state_dict().items() if "num_batches" not in name}
    torch.save({"state_dict": weights}, path)
    way(module, path)
    assert all(torch.equal(module.state_dict()[name], tensor) for name, tensor in weights.items())


def test_what_a_network_itself_has_not_finite_may_be_so_in_the_file(tmp_path):
    module = network()
    module.register_buffer("mask", torch.tensor([0.0, -torch.inf]))
    torch.save({"state_dict": module.state_dict()}, tmp_path / "x.pth")
    check(module, tmp_path / "x.pth")
    torch.save({"state_dict": {**module.state_dict(), "mask": torch.tensor([-torch.inf, 0.0])}}, tmp_path / "x.pth")
    with pytest.raises(ValueError, match="mask is not finite: 1 of 2 values"):
        check(module, tmp_path / "x.pth")


def test_a_start_that_is_partial_counts_what_cannot_be_taken(tmp_path):
    module = network()
    torch.save({"state_dict": {**module.state_dict(), WEIGHT: torch.zeros(6, 4, device="meta")}}, tmp_path / "x.pth")
    config = Config(dict(load_from=str(tmp_path / "x.pth"), load_from_partly=True))
    with pytest.raises(ValueError, match=r"1 weights are unusable: 0\.weight has no values"):
        check_start(config, module)


@pytest.mark.parametrize("part", ["optimizer", "ema_state_dict"])
def test_a_run_does_not_resume_from_a_damaged_state(part):
    class Runner:
        _resume = True

    state = {"state": {0: {"exp_avg": torch.tensor([0.0, torch.nan])}}, "param_groups": [{"lr": 0.1}]}
    with pytest.raises(ValueError, match=rf"'{part}' of the checkpoint .* state\.0\.exp_avg is not finite: 1 of 2"):
        ExactResumeHook().after_load_checkpoint(Runner(), {part: state})


def test_values_are_checked_however_deep():
    check_values({"a": [torch.ones(2), {"b": torch.tensor(3)}], "c": "text"}, "it")
    for wrong in (torch.zeros(2, device="meta"), torch.eye(2).to_sparse(), torch.zeros(2, dtype=torch.complex64)):
        with pytest.raises(ValueError, match=r"it cannot be used: a\.1\.b (has|is) "):
            check_values({"a": [torch.ones(2), {"b": wrong}]}, "it")


def test_safetensors_are_checked_alike(tmp_path):
    safetensors = pytest.importorskip("safetensors.torch")
    weights = network().state_dict()
    for damage in ("int8", "NaN", "too large"):
        change, message = DAMAGES[damage]
        safetensors.save_file({**weights, WEIGHT: change(weights[WEIGHT])}, tmp_path / "x.safetensors")
        with pytest.raises(ValueError, match=rf"x\.safetensors.*0\.weight ({message}|is of torch\.int8)"):
            load_file(network(), tmp_path / "x.safetensors")


def test_what_stands_in_place_of_safetensors_is_told(tmp_path):
    pytest.importorskip("safetensors.torch")
    for content, message in [
        ("version https://git-lfs.github.com/spec/v1\n", "it is a pointer of Git LFS"),
        ("", "it is empty"),
    ]:
        (tmp_path / "x.safetensors").write_text(content)
        with pytest.raises(ValueError, match=rf"x\.safetensors is damaged: {message}.*; take another file"):
            load_file(network(), tmp_path / "x.safetensors")
