from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from torch import nn

from hierpretrain.datasets import HierarchicalBatchSampler, LevelTripletSampler
from hierpretrain.engine import LevelCurriculumHook
from hierpretrain.engine.curriculum import all_levels, equal_stages, fine_to_coarse, given_stages, halving_stages
from hierpretrain.models import LevelTripletLoss
from hierpretrain.registry import HOOKS, LEVEL_SCHEDULES
from hierpretrain.taxonomy import paired_depth
from tests.conftest import random_labels

LABELS = random_labels(1, rows=60, levels=4, branching=2)


# ------------------------------------------------------------------ schedules
@pytest.mark.parametrize("levels", range(1, 7))
@pytest.mark.parametrize("epochs", [6, 7, 20, 100])
def test_schedules_go_through_all_levels_in_order(epochs, levels):
    for schedule in (equal_stages, halving_stages):
        stages = schedule(epochs, levels)
        assert len(stages) == epochs
        assert sorted(stages) == stages
        assert set(stages) == set(range(1, levels + 1))
    lengths = [equal_stages(epochs, levels).count(stage) for stage in range(1, levels + 1)]
    assert max(lengths) - min(lengths) <= 1
    assert fine_to_coarse(epochs, levels) == equal_stages(epochs, levels)[::-1]
    assert set(all_levels(epochs, levels)) == {levels}


def test_halving_stages_halve():
    lengths = [halving_stages(60, 4).count(stage) for stage in (1, 2, 3, 4)]
    assert lengths == [32, 16, 8, 4]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: equal_stages(2, 3), "3 levels need an epoch each at least; there are 2"),
        (lambda: halving_stages(2, 3), "3 levels need an epoch each at least; there are 2"),
        (lambda: given_stages(4, 2, epochs=[4]), "epochs must be one number for each of the 2 levels, with the sum 4"),
        (lambda: given_stages(4, 2, epochs=[1, 2]), r"with the sum 4 of train_cfg.max_epochs; they are \[1, 2\]"),
    ],
)
def test_what_does_not_fit(call, message):
    with pytest.raises(ValueError, match=message):
        call()


# ------------------------------------------------------------------ the hook
class Hub(dict):
    def update_scalar(self, name, value):
        self[name] = value


def runner(sampler, max_epochs=8, loop=EpochBasedTrainLoop, max_level=None, joint=False):
    log = []
    loss = LevelTripletLoss(max_level=max_level)
    return SimpleNamespace(
        train_dataloader=SimpleNamespace(batch_sampler=sampler),
        train_loop=object.__new__(loop),
        max_epochs=max_epochs,
        epoch=0,
        message_hub=Hub(),
        model=SimpleNamespace(loss_module=nn.ModuleDict({"contrastive": loss}) if joint else loss),
        logger=SimpleNamespace(info=log.append, messages=log),
    )


def trained_levels(hook, run):
    """The level of every epoch's batches, and what the log says of each step."""
    stages, told = [], []
    hook.before_train(run)
    sampler = run.train_dataloader.batch_sampler
    for epoch in range(run.max_epochs):
        run.epoch = epoch
        hook.before_train_epoch(run)
        stages.append(sampler.level)
        for batch_idx, batch in enumerate(sampler):
            hook.before_train_iter(run, batch_idx)
            a, _, n = (LABELS[rows] for rows in torch.tensor(batch).chunk(3))
            assert run.message_hub == {
                "train/stage_level": sampler.level,
                "train/level": int(paired_depth(a, n)[0]) + 1,
            }
            told.append(run.message_hub["train/level"])
    return stages, told


def test_levels_come_one_after_the_other_and_earlier_ones_among_them():
    sampler = LevelTripletSampler(LABELS, 2, replay=0.5, triplets_per_epoch=40)
    stages, told = trained_levels(LevelCurriculumHook(), runner(sampler))
    assert stages == [1, 1, 2, 2, 3, 3, 4, 4]
    assert set(told[:40]) == {1}
    assert set(told[-40:]) == {1, 2, 3, 4}


@pytest.mark.parametrize(
    ("levels", "schedule", "expected"),
    [
        (1, "equal_stages", [1] * 8),
        (2, "equal_stages", [1] * 4 + [2] * 4),
        ([2, 4], "equal_stages", [2] * 4 + [4] * 4),
        ([4], "all_levels", [4] * 8),
        (None, "all_levels", [4] * 8),
        (3, {"type": "given_stages", "epochs": [5, 2, 1]}, [1] * 5 + [2] * 2 + [3]),
        (2, "fine_to_coarse", [2] * 4 + [1] * 4),
        (2, "hierpretrain.engine.curriculum.fine_to_coarse", [2] * 4 + [1] * 4),
        (2, lambda epochs, levels: [1 + e % levels for e in range(epochs)], [1, 2] * 4),
        (3, {"type": given_stages, "epochs": [5, 2, 1]}, [1] * 5 + [2] * 2 + [3]),
    ],
)
def test_levels_and_schedules_are_configured(levels, schedule, expected):
    sampler = LevelTripletSampler(LABELS, 2, replay=0.0, triplets_per_epoch=4)
    hook = HOOKS.build(dict(type="LevelCurriculumHook", levels=levels, schedule=schedule))
    stages, told = trained_levels(hook, runner(sampler))
    assert stages == expected
    assert told == [level for level in expected for _ in range(2)]


@pytest.mark.parametrize(
    ("levels", "schedule", "expected"),
    [
        ([1, 3], "equal_stages", [{1}] * 4 + [{1, 3}] * 4),
        ([3], "equal_stages", [{3}] * 8),
        (None, "equal_stages", [{1}] * 2 + [{1, 2}] * 2 + [{1, 2, 3}] * 2 + [{1, 2, 3, 4}] * 2),
        (2, "fine_to_coarse", [{2}] * 4 + [{1, 2}] * 4),
        (3, "all_levels", [{1, 2, 3}] * 8),
        ([2, 4], "all_levels", [{2, 4}] * 8),
    ],
)
def test_what_is_replayed_is_trained_and_not_still_to_come(levels, schedule, expected):
    sampler = LevelTripletSampler(LABELS, 2, replay=1.0, triplets_per_epoch=80)
    _, told = trained_levels(LevelCurriculumHook(levels, schedule), runner(sampler))
    assert [set(told[40 * epoch : 40 * epoch + 40]) for epoch in range(8)] == expected


def test_a_run_that_resumes_at_an_epoch_s_end_may_have_another_length():
    hook, run = LevelCurriculumHook(), runner(LevelTripletSampler(LABELS, 4, triplets_per_epoch=40))
    hook.before_train(run)
    run.epoch, run.iter = 5, 5 * 77  # of 77 steps each
    hook.before_train_epoch(run)
    for batch_idx, batch in enumerate(run.train_dataloader.batch_sampler):
        hook.before_train_iter(run, batch_idx)
        a, _, n = (LABELS[rows] for rows in torch.tensor(batch).chunk(3))
        assert run.message_hub["train/level"] == int(paired_depth(a, n)[0]) + 1


def test_a_schedule_of_one_s_own():
    LEVEL_SCHEDULES.register_module(
        name="back_and_forth", module=lambda epochs, levels: [1 + e % levels for e in range(epochs)]
    )
    try:
        sampler = LevelTripletSampler(LABELS, 2, triplets_per_epoch=4)
        stages, _ = trained_levels(LevelCurriculumHook(2, "back_and_forth"), runner(sampler))
        assert stages == [1, 2] * 4
    finally:
        LEVEL_SCHEDULES.module_dict.pop("back_and_forth")


def test_a_stage_that_was_left_half_done_goes_on():
    def start():
        hook, run = LevelCurriculumHook(), runner(LevelTripletSampler(LABELS, 2, triplets_per_epoch=40))
        hook.before_train(run)
        return hook, run, run.train_dataloader.batch_sampler

    hook, run, sampler = start()
    run.epoch = 3
    hook.before_train_epoch(run)
    whole = list(sampler)
    hook, run, sampler = start()
    sampler.load_state_dict({"epoch": 3, "position": 13, "batches": 20})
    run.epoch = 3
    hook.before_train_epoch(run)
    told = []
    for batch_idx, batch in enumerate(sampler):
        hook.before_train_iter(run, batch_idx)
        a, _, n = (LABELS[rows] for rows in torch.tensor(batch).chunk(3))
        assert run.message_hub["train/level"] == int(paired_depth(a, n)[0]) + 1
        told.append(batch)
    assert told == whole[13:]


def test_the_plan_is_logged():
    labels = torch.tensor([[0, 0, 0]] * 2 + [[0, 0, 0]] + [[1, 1, 1]] * 2)  # only the first level has siblings
    run = runner(LevelTripletSampler(labels, 2, replay=0.25))
    LevelCurriculumHook().before_train(run)
    assert run.logger.messages == [
        "levels without a triplet, which are passed over: [2, 3]",
        "curriculum: level 1: 8 epochs (2 nodes); replay 0.25",
    ]


@pytest.mark.parametrize(
    ("hook", "run", "message"),
    [
        (
            {},
            runner(HierarchicalBatchSampler(LABELS, 2)),
            "needs .*'LevelTripletSampler'.*it is HierarchicalBatchSampler",
        ),
        ({}, runner(LevelTripletSampler(LABELS, 2), loop=IterBasedTrainLoop), "the curriculum counts epochs"),
        ({}, runner(LevelTripletSampler(LABELS, 2), max_epochs=3), "4 levels need an epoch each at least; there are 3"),
        (dict(levels=5), runner(LevelTripletSampler(LABELS, 2)), r"levels must be 1 to 4, .* it is 5"),
        (dict(levels=[1, 7]), runner(LevelTripletSampler(LABELS, 2)), r"levels must be some of .* they are \[1, 7\]"),
        (dict(levels=[]), runner(LevelTripletSampler(LABELS, 2)), "levels must be some of"),
        (dict(schedule=dict(epochs=[8])), runner(LevelTripletSampler(LABELS, 2)), "schedule must be one of .*not None"),
        (dict(schedule="given_stages"), runner(LevelTripletSampler(LABELS, 2)), "'given_stages' has not these options"),
        ({}, runner(LevelTripletSampler(LABELS, 2), max_level=3), "level 4 is trained, but model.loss.max_level is 3"),
        (
            {},
            runner(LevelTripletSampler(LABELS, 2), max_level=3, joint=True),
            "level 4 is trained, but model.loss.contrastive.max_level is 3",
        ),
        (
            dict(schedule="equals"),
            runner(LevelTripletSampler(LABELS, 2)),
            "schedule must be one of 'equal_stages', .*'equals'",
        ),
    ],
)
def test_bad_input(hook, run, message):
    with pytest.raises(ValueError, match=message):
        LevelCurriculumHook(**hook).before_train(run)


def test_a_schedule_that_gives_no_stage_is_said():
    LEVEL_SCHEDULES.register_module(name="wrong", module=lambda epochs, levels: [0] * epochs)
    try:
        with pytest.raises(ValueError, match=r"the schedule 'wrong' must give each of 8 epochs a stage from 1 to 4"):
            LevelCurriculumHook(schedule="wrong").before_train(runner(LevelTripletSampler(LABELS, 2)))
    finally:
        LEVEL_SCHEDULES.module_dict.pop("wrong")
