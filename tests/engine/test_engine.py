import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.logging import HistoryBuffer
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop

from hierpretrain import _compat
from hierpretrain.engine import BF16OptimWrapper, ExactResumeHook, newest_checkpoint
from hierpretrain.registry import MODELS, OPTIM_WRAPPERS


# ------------------------------------------------------------------ checkpoints
def test_a_failing_write_leaves_the_old_file_whole_and_nothing_else(tmp_path, monkeypatch):
    backend = get_file_backend(str(tmp_path), backend_args=dict(backend="AtomicLocalBackend"))
    backend.put(b"old", tmp_path / "epoch_1.pth")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        backend.put(b"new and longer", tmp_path / "epoch_1.pth")
    assert (tmp_path / "epoch_1.pth").read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_newest_checkpoint_is_found_by_the_files_themselves(tmp_path):
    assert newest_checkpoint(tmp_path) is None
    for time, name in enumerate(
        ["epoch_9.pth", "epoch_10.pth", "iter_5.pth", "best_map_epoch_99.pth", ".epoch_11.pth.77"]
    ):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, ns=(time, time))
    (tmp_path / "last_checkpoint").write_text("")  # as a kill may leave it
    assert newest_checkpoint(tmp_path) == str(tmp_path / "iter_5.pth")
    os.utime(tmp_path / "epoch_9.pth", ns=(9, 9))
    assert newest_checkpoint(tmp_path) == str(tmp_path / "iter_5.pth")  # of the epochs, the highest counts
    os.utime(tmp_path / "epoch_10.pth", ns=(9, 9))
    assert newest_checkpoint(tmp_path) == str(tmp_path / "epoch_10.pth")


def test_checkpoints_with_a_log_history_load_as_weights_only(tmp_path):
    history = HistoryBuffer([1.0, 2.0], [1, 1])
    torch.save({"message_hub": {"loss": history}, "scalar": np.float64(3.0)}, tmp_path / "x.pth")
    loaded = torch.load(tmp_path / "x.pth", weights_only=True)
    assert loaded["message_hub"]["loss"].mean() == 1.5
    assert loaded["scalar"] == 3.0


class Malicious:
    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


@pytest.mark.parametrize(
    "attack",
    [
        Malicious(os.system, "touch pwned"),
        Malicious(getattr, HistoryBuffer, "__init__"),
        Malicious(getattr, np.ndarray, "tofile"),
    ],
    ids=["system", "history", "array"],
)
def test_a_crafted_checkpoint_runs_nothing(tmp_path, monkeypatch, attack):
    monkeypatch.chdir(tmp_path)
    torch.save({"x": attack}, "x.pth")
    with pytest.raises(Exception, match=r"Weights only load failed|do not trust it"):
        torch.load("x.pth", weights_only=True)
    assert not os.path.exists("pwned")


def test_only_the_statistics_of_a_history_are_looked_up():
    assert _compat._statistic_of_history(HistoryBuffer, "mean") is HistoryBuffer.mean
    with pytest.raises(ValueError, match="which no checkpoint of ours does"):
        _compat._statistic_of_history(HistoryBuffer, "__init__")


# ------------------------------------------------------------------ registries
def test_names_of_mmpretrain_mean_mmpretrain_s():
    from mmpretrain.models import ResNet

    assert MODELS.get("ResNet") is ResNet
    assert MODELS.get("HierarchicalContrastive").__module__ == "hierpretrain.models.contrastive"


# ------------------------------------------------------------------ precision
def test_bfloat16_autocast_on_a_cpu_and_float32_weights():
    model = torch.nn.Linear(2, 2)
    wrapper = OPTIM_WRAPPERS.build(dict(type="BF16OptimWrapper", optimizer=torch.optim.SGD(model.parameters(), lr=1.0)))
    assert isinstance(wrapper, BF16OptimWrapper)
    before = model.weight.detach().clone()
    with wrapper.optim_context(model):
        output = model(torch.ones(1, 2))
    assert output.dtype == torch.bfloat16
    wrapper.update_params(output.float().sum())
    torch.testing.assert_close(model.weight, before - 1)
    assert isinstance(wrapper, OptimWrapper)


# ------------------------------------------------------------------ exact resume
def runner(sampler=None, dataset=None, **state):
    loader = type("Loader", (), dict(dataset=dataset, batch_sampler=sampler, __len__=lambda self: 10))()
    defaults = dict(
        seed=7,
        epoch=2,
        iter=23,
        train_loop=EpochBasedTrainLoop.__new__(EpochBasedTrainLoop),
        train_dataloader=loader,
        _resume=True,
        logger=SimpleNamespace(warning=print),
    )
    return SimpleNamespace(**{**defaults, **state})


def test_generators_start_from_seed_and_iteration():
    def draws(seed, iteration):
        ExactResumeHook().before_train_iter(runner(seed=seed, iter=iteration), 0)
        return torch.rand(1).item(), np.random.rand()  # noqa: NPY002

    assert draws(7, 23) == draws(7, 23)
    assert len({draws(7, 23), draws(7, 24), draws(8, 23)}) == 3


def test_the_place_in_an_epoch_goes_into_the_checkpoint_and_back():
    class Sampler:
        loaded = None
        sampler = SimpleNamespace(seed=0)

        def load_state_dict(self, state):
            self.loaded = state

    sampler, saved = Sampler(), {"meta": {"epoch": 2, "iter": 23}}
    dataset = SimpleNamespace(set_epoch=lambda epoch: None)
    hook = ExactResumeHook()
    for batch in range(3):
        hook.after_train_iter(runner(), batch)
    hook.before_save_checkpoint(runner(), saved)
    assert saved["batch_sampler"] == {"epoch": 2, "position": 3, "batches": 10}
    fresh = ExactResumeHook()
    fresh.after_load_checkpoint(runner(), saved)
    fresh.before_train(runner(sampler, dataset))
    assert sampler.loaded == saved["batch_sampler"]
    assert dataset.seed == sampler.sampler.seed == 7
    finetuned = Sampler()
    hook.after_load_checkpoint(runner(_resume=False), saved)
    hook.before_train(runner(finetuned, dataset))
    assert finetuned.loaded is None


def test_a_sampler_without_state_cannot_go_on_in_the_middle():
    hook = ExactResumeHook()
    hook.after_load_checkpoint(runner(), {"batch_sampler": {"epoch": 2, "position": 3, "batches": 10}})
    with pytest.raises(ValueError, match="lies in the middle of an epoch, where object cannot go on"):
        hook.before_train(runner(object(), SimpleNamespace(set_epoch=None)))
