"""The best checkpoint by a result that the validation does not have: an error that names the nearest."""

from types import SimpleNamespace

import pytest
from mmengine.hooks import CheckpointHook, ParamSchedulerHook

from hierpretrain.engine.known_best import KnownBestHook


def validated(metrics, **best):
    runner = SimpleNamespace(hooks=[ParamSchedulerHook(), CheckpointHook(**best)])
    KnownBestHook().after_val_epoch(runner, metrics)


def test_a_result_that_there_is_not_is_told_the_nearest():
    found = {"1/map": 0.1, "2/recall@1": 0.2}
    with pytest.raises(
        ValueError,
        match=r"save_best must name a result of the validation; 'level2/recall@1' is none: did you mean '2/recall@1'\? "
        r"Correct it and go on from the last checkpoint \(--resume\)",
    ):
        validated(found, save_best="level2/recall@1", rule="greater")
    with pytest.raises(ValueError, match=r"'x' is none: there are 1/map, 2/recall@1\. Correct it"):
        validated(found, save_best=["1/map", "x"], rule="greater")


def test_a_result_that_there_is_and_no_best_are_fine():
    validated({"1/map": 0.1}, save_best="1/map", rule="greater")
    validated({"1/map": 0.1}, save_best="auto")
    validated({"1/map": 0.1})
    validated({}, save_best="1/map", rule="greater")  # nothing was measured, which MMEngine warns of
