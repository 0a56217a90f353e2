import os
import pickle
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.hooks import ParamSchedulerHook
from mmengine.logging import HistoryBuffer
from mmengine.optim import (
    CosineAnnealingLR,
    LinearLR,
    MultiStepLR,
    OneCycleLR,
    OptimWrapper,
    OptimWrapperDict,
    ReduceOnPlateauLR,
)
from mmengine.runner import EpochBasedTrainLoop, Runner, checkpoint
from torch.utils.data import Subset

from hierpretrain import _compat
from hierpretrain.engine import BF16OptimWrapper, ExactResumeHook, newest_checkpoint
from hierpretrain.engine.work_dir_lock import WorkDirLockHook
from hierpretrain.registry import MODELS, OPTIM_WRAPPERS
from tests.datasets.trees import write_image


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


def test_checkpoints_of_an_older_training_are_not_the_newest(tmp_path):
    """Not even of more epochs; unless the new training resumes from it."""
    start = WorkDirLockHook(None).before_train
    (tmp_path / "epoch_10.pth").touch()
    start(SimpleNamespace(_resume=True, work_dir=str(tmp_path)))
    assert newest_checkpoint(tmp_path) == str(tmp_path / "epoch_10.pth")
    start(SimpleNamespace(_resume=False, work_dir=str(tmp_path)))
    assert newest_checkpoint(tmp_path) is None
    (tmp_path / "epoch_1.pth").touch()
    assert newest_checkpoint(tmp_path) == str(tmp_path / "epoch_1.pth")
    for damaged in ("", "{", "[]", '{"nanoseconds": "1"}'):
        (tmp_path / "started.json").write_text(damaged)
        with pytest.raises(ValueError, match=r"started.json.*delete it"):
            newest_checkpoint(tmp_path)


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


def test_what_is_downloaded_is_loaded_as_weights_only(tmp_path):
    class Attack:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"state_dict": Attack()}, tmp_path / "x.pth")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        checkpoint.load_url(f"file://{tmp_path}/x.pth", model_dir=str(tmp_path / "cache"), progress=False)
    assert not (tmp_path / "ran").exists()


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
def runner(sampler=None, dataset=None, batches=10, **state):
    loader = type("Loader", (), dict(dataset=dataset, batch_sampler=sampler, __len__=lambda self: batches))()
    defaults = dict(
        seed=7,
        epoch=2,
        iter=23,
        train_loop=EpochBasedTrainLoop.__new__(EpochBasedTrainLoop),
        train_dataloader=loader,
        _resume=True,
        logger=SimpleNamespace(warning=print, info=print),
    )
    return SimpleNamespace(**{**defaults, **state})


def test_generators_start_from_seed_and_iteration():
    def draws(seed, iteration):
        ExactResumeHook().before_train_iter(runner(seed=seed, iter=iteration), 0)
        return torch.rand(1).item(), np.random.rand()  # noqa: NPY002

    assert draws(7, 23) == draws(7, 23)
    assert len({draws(7, 23), draws(7, 24), draws(8, 23)}) == 3


def test_what_is_drawn_for_the_first_batch_does_not_depend_on_what_came_before():
    def draws():
        ExactResumeHook().before_train_epoch(runner())
        return torch.rand(1).item(), np.random.rand(), random.random()  # noqa: NPY002

    first = draws()
    assert draws() == first


class Sampler:
    loaded, batch_size = None, 8
    sampler = SimpleNamespace(seed=0)

    def load_state_dict(self, state):
        self.loaded = state


def test_the_place_in_an_epoch_goes_into_the_checkpoint_and_back():
    sampler, saved = Sampler(), {"meta": {"epoch": 2, "iter": 23}}
    dataset = SimpleNamespace(set_epoch=lambda epoch: None)
    hook = ExactResumeHook()
    for batch in range(3):
        hook.after_train_iter(runner(), batch)
    hook.before_save_checkpoint(runner(sampler), saved)
    place = {"epoch": 2, "position": 3, "batches": 10, "batch_size": 8, "processes": 1}
    assert saved["batch_sampler"] == place
    fresh = ExactResumeHook()
    fresh.after_load_checkpoint(runner(), saved)
    fresh.before_train(runner(sampler, dataset))
    assert sampler.loaded == saved["batch_sampler"]
    assert dataset.seed == sampler.sampler.seed == 7
    finetuned = Sampler()
    hook.after_load_checkpoint(runner(_resume=False), saved)
    hook.before_train(runner(finetuned, dataset))
    assert finetuned.loaded is None


def test_every_epoch_of_a_wrapped_set_is_augmented_anew_with_the_seed_of_the_run():
    calls = []
    inner = SimpleNamespace(seed=0, set_epoch=calls.append)
    state = runner(Sampler(), Subset(inner, [0]))
    state.epoch = 3
    hook = ExactResumeHook()
    hook.before_train(state)
    hook.before_train_epoch(state)
    assert (inner.seed, calls) == (7, [3])


def test_the_seed_and_the_epoch_reach_a_set_behind_a_number_of_batches(tmp_path):
    write_image(tmp_path / "a" / "1.jpg", (200, 30, 40))
    config = dict(type="FolderDataset", data_root=str(tmp_path), _scope_="hierpretrain")
    sampler = dict(type="DefaultSampler", shuffle=True)
    loader = Runner.build_dataloader(dict(dataset=config, batch_size=1, sampler=sampler, num_batch_per_epoch=1))
    hook, state = ExactResumeHook(), runner(loader.batch_sampler, loader.dataset)
    hook.before_train(state)
    hook.before_train_epoch(state)
    inner = loader.dataset._dataset
    assert (inner.seed, int(inner._epoch.tensor), loader.sampler.seed) == (7, 2, 7)


def test_a_sampler_without_state_cannot_go_on_in_the_middle():
    hook = ExactResumeHook()
    hook.after_load_checkpoint(runner(), {"batch_sampler": {"epoch": 2, "position": 3, "batches": 10}})
    with pytest.raises(ValueError, match="lies in the middle of an epoch, where object cannot go on"):
        hook.before_train(runner(object(), SimpleNamespace(set_epoch=None)))


@pytest.mark.parametrize(
    ("saved", "then"),
    [
        (dict(batches=20, batch_size=8, processes=1), "middle of an epoch; its epochs have 20 batches of 8 on 1"),
        (dict(batches=10, batch_size=9, processes=1), "middle of an epoch; its epochs have 10 batches of 9 on 1"),
        (dict(batches=10, batch_size=8, processes=2), "middle of an epoch; its epochs have 10 batches of 8 on 2"),
        (dict(batches=3, batch_size=9, processes=1), "epoch's end was done; its epochs have 3 batches of 9 on 1"),
    ],
    ids=["batches", "batch size", "processes", "last batch"],
)
def test_the_middle_of_an_epoch_goes_on_with_the_same_plan_only(saved, then):
    hook, dataset = ExactResumeHook(), SimpleNamespace(set_epoch=None)
    hook.after_load_checkpoint(runner(), {"batch_sampler": {"epoch": 2, "position": 3, **saved}})
    with pytest.raises(
        ValueError, match=rf"{then} process\(es\), and this run's have 10 of 8 on 1; resume .* an epoch_\*\.pth"
    ):
        hook.before_train(runner(Sampler(), dataset))


# ------------------------------------------------------------------ resume with epochs of another length
def training(batches, work_dir, lr=1.0, **state):
    """A run of six epochs, with two of warm-up, a cosine behind them, both by iteration, and two steps by epoch."""
    weight = torch.nn.Parameter(torch.ones(1))
    wrapper = OptimWrapper(torch.optim.SGD([weight], lr=lr, momentum=0.5))
    schedulers = [
        LinearLR.build_iter_from_epoch(wrapper, start_factor=0.1, begin=0, end=2, epoch_length=batches),
        CosineAnnealingLR.build_iter_from_epoch(wrapper, T_max=4, begin=2, end=6, epoch_length=batches),
        MultiStepLR(wrapper, milestones=[1, 4], gamma=0.5),
    ]
    state = {"optim_wrapper": wrapper, "param_schedulers": schedulers, "work_dir": work_dir, **state}
    return runner(batches=batches, **state)


def train(run, epochs):
    """Trains for some epochs and returns the learning rates of their iterations."""
    schedule, rates = ParamSchedulerHook(), []
    for _ in range(epochs):
        for batch in range(len(run.train_dataloader)):
            rates += run.optim_wrapper.get_lr()["lr"]
            run.optim_wrapper.update_params((run.optim_wrapper.param_groups[0]["params"][0] ** 2).sum())
            schedule.after_train_iter(run, batch)
        schedule.after_train_epoch(run)
    return rates


def saved(run, epoch):
    return {
        "meta": {"epoch": epoch, "iter": epoch * len(run.train_dataloader)},
        "optimizer": run.optim_wrapper.state_dict(),
        "param_schedulers": [scheduler.state_dict() for scheduler in run.param_schedulers],
        "batch_sampler": {"epoch": epoch, "position": 0, "batches": len(run.train_dataloader)},
    }


def resume(run, checkpoint):
    """Does what MMEngine's runner does with a checkpoint."""
    ExactResumeHook().after_load_checkpoint(run, checkpoint)
    run.optim_wrapper.load_state_dict(checkpoint["optimizer"])
    for scheduler, state in zip(run.param_schedulers, checkpoint.get("param_schedulers", ()), strict=False):
        scheduler.load_state_dict(state)


@pytest.mark.parametrize("epoch", [1, 3, 5])
@pytest.mark.parametrize("batches", [3, 5, 16])
@pytest.mark.parametrize("lr", [1.0, 0.25], ids=["same rate", "scaled rate"])
def test_the_schedule_is_that_of_a_run_that_has_always_had_as_many_batches(tmp_path, epoch, batches, lr):
    expected = train(training(batches, tmp_path, lr), 6)[epoch * batches :]
    before = training(8, tmp_path)
    train(before, epoch)
    checkpoint = saved(before, epoch)
    momentum = checkpoint["optimizer"]["state"][0]["momentum_buffer"].clone()
    after = training(batches, tmp_path, lr)
    resume(after, checkpoint)
    assert checkpoint["meta"] == {"epoch": epoch, "iter": epoch * batches}
    assert torch.equal(after.optim_wrapper.state_dict()["state"][0]["momentum_buffer"], momentum)
    assert train(after, 6 - epoch) == expected


def two_groups(batches, work_dir, mult=0.1):
    """A run whose optimizer has two groups, for which MMEngine keeps a third that only schedulers see."""
    run = training(batches, work_dir)
    weights = [torch.nn.Parameter(torch.ones(1)) for _ in range(2)]
    groups = [dict(params=[weights[0]]), dict(params=[weights[1]], lr=mult)]
    run.optim_wrapper = OptimWrapper(torch.optim.SGD(groups, lr=1.0, momentum=0.5))
    run.param_schedulers = [
        CosineAnnealingLR.build_iter_from_epoch(run.optim_wrapper, T_max=6, end=6, epoch_length=batches)
    ]
    return run


def test_all_groups_of_weights_follow_epochs_of_another_length(tmp_path):
    def rates(run):
        return [group["lr"] for group in run.optim_wrapper.param_groups]

    expected, before, after = (two_groups(batches, tmp_path) for batches in (5, 8, 5))
    train(expected, 3)
    train(before, 3)
    resume(after, saved(before, 3))
    assert rates(after) == rates(expected)
    assert rates(after)[0] == rates(after)[2] == pytest.approx(10 * rates(after)[1])
    assert train(after, 3) == train(expected, 3)


def test_groups_of_weights_are_those_of_the_checkpoint(tmp_path):
    before = two_groups(8, tmp_path)
    train(before, 2)
    with pytest.raises(ValueError, match="optimizer has 2 groups of weights, and this run's 1; resume with the same"):
        resume(training(4, tmp_path), saved(before, 2))


def test_a_checkpoint_without_an_optimizer_gives_the_schedule_its_place(tmp_path):
    expected = train(training(4, tmp_path), 6)[12:]
    before, after = training(8, tmp_path), training(4, tmp_path)
    train(before, 3)
    checkpoint = saved(before, 3)
    del checkpoint["optimizer"]
    ExactResumeHook().after_load_checkpoint(after, checkpoint)
    assert train(after, 3) == expected


@pytest.mark.parametrize("several", [False, True], ids=["list", "dict"])
def test_a_schedule_with_a_function_in_its_state_resumes(tmp_path, several):
    def one_cycle():
        run = training(8, tmp_path)
        run.param_schedulers = [OneCycleLR(run.optim_wrapper, eta_max=2.0, total_steps=48, by_epoch=False)]
        return run

    expected = train(one_cycle(), 6)[24:]
    before, after = one_cycle(), one_cycle()
    train(before, 3)
    checkpoint = saved(before, 3)
    if several:
        checkpoint["param_schedulers"] = {"only": checkpoint["param_schedulers"]}
    ExactResumeHook().before_save_checkpoint(before, checkpoint)
    torch.save(checkpoint, tmp_path / "x.pth")
    checkpoint = torch.load(tmp_path / "x.pth", weights_only=True)
    if several:
        checkpoint["param_schedulers"] = checkpoint["param_schedulers"]["only"]
    resume(after, checkpoint)
    assert train(after, 3) == expected


def test_epochs_of_the_same_length_go_on_with_what_was_saved(tmp_path):
    before, after = training(8, tmp_path), training(8, tmp_path, lr=0.25)
    expected = train(before, 6)[24:]
    before = training(8, tmp_path)
    train(before, 3)
    resume(after, saved(before, 3))
    assert train(after, 3) == expected


@pytest.mark.parametrize("done", [0, 3], ids=["end of an epoch", "middle of an epoch"])
@pytest.mark.parametrize("epochs", [5, 9])
def test_a_run_that_becomes_longer_or_shorter_has_the_rates_of_one_that_has_always_been(tmp_path, epochs, done):
    def until(end):
        run = training(8, tmp_path)
        wrapper = run.optim_wrapper
        run.param_schedulers[1] = CosineAnnealingLR.build_iter_from_epoch(wrapper, begin=2, end=end, epoch_length=8)
        return run

    expected = train(until(epochs), epochs)[24 + done :]
    before, after = until(6), until(epochs)
    train(before, 3)
    schedule = ParamSchedulerHook()
    for batch in range(done):
        schedule.after_train_iter(before, batch)
    checkpoint = saved(before, 3)
    checkpoint["meta"]["iter"] += done
    checkpoint["batch_sampler"]["position"] = done
    resume(after, checkpoint)
    after.train_dataloader = [None] * 8
    rates = []
    for batch in range(8 * (epochs - 3) - done):
        rates += after.optim_wrapper.get_lr()["lr"]
        schedule.after_train_iter(after, batch)
        if (batch + done) % 8 == 7:
            schedule.after_train_epoch(after)
    assert rates == expected


def test_what_cannot_follow_epochs_of_another_length_says_so(tmp_path):
    before = training(8, tmp_path)
    changed = "the checkpoint's epochs had 8 batches, and this run's 4"
    after = training(4, tmp_path)
    after.param_schedulers.append(ReduceOnPlateauLR(after.optim_wrapper, monitor="map"))
    with pytest.raises(ValueError, match=f"{changed}, which a schedule that looks at the metrics cannot follow"):
        resume(after, saved(before, 2))
    after = training(8, tmp_path)
    after.param_schedulers[0] = ReduceOnPlateauLR(after.optim_wrapper, monitor="map", end=8)
    checkpoint = saved(before, 2)
    checkpoint["param_schedulers"][0] = ReduceOnPlateauLR(before.optim_wrapper, monitor="map", end=6).state_dict()
    resume(after, checkpoint)
    assert after.param_schedulers[0].end == 8
    after.param_schedulers[1].end = 9
    with pytest.raises(
        ValueError, match="this run's schedule ends elsewhere than the checkpoint's, and one that looks"
    ):
        resume(after, checkpoint)
    after = training(4, tmp_path)
    after.optim_wrapper = OptimWrapperDict(only=after.optim_wrapper)
    with pytest.raises(ValueError, match=f"{changed}, which only a run with a single optimizer can follow"):
        resume(after, saved(before, 2))
    (tmp_path / "iter_8.pth").touch()
    (tmp_path / "iter_of_mine.pth").touch()
    resume(training(4, tmp_path), saved(before, 2))
    (tmp_path / "iter_9.pth").touch()
    with pytest.raises(ValueError, match=f"{changed}: iterations are counted anew, from 8 on, and .*iter_9.pth would"):
        resume(training(4, tmp_path), saved(before, 2))
