"""The metrics in the work directory."""

import json
from types import SimpleNamespace

import pytest
from mmengine.hooks import CheckpointHook
from mmengine.runner import get_priority

from hierpretrain.engine import MetricsFileHook, TSNEHook


@pytest.mark.parametrize(("epoch", "iteration", "expected"), [(3, 18, (3, 18)), (0, 0, (2, 12))])
def test_a_test_says_how_long_its_weights_were_trained(tmp_path, epoch, iteration, expected):
    """In this run, after whatever checkpoint it resumed from; or, without a training, as the checkpoint says."""
    hook = MetricsFileHook()
    hook.after_load_checkpoint(None, dict(meta=dict(epoch=2, iter=12)))
    runner = SimpleNamespace(epoch=epoch, iter=iteration, work_dir=str(tmp_path))
    hook.after_test_epoch(runner, metrics=dict(nmi=0.5))
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written == dict(epoch=expected[0], iter=expected[1], metrics=dict(nmi=0.5))


def test_it_is_written_last_of_all_after_an_evaluation():
    """A resumed run makes up for an evaluation that the file does not have: all that others make of one is there."""
    assert get_priority(MetricsFileHook.priority) > max(
        get_priority(hook.priority) for hook in (CheckpointHook, TSNEHook)
    )


@pytest.mark.parametrize("resumed", [False, True])
def test_a_training_that_resumes_none_removes_the_metrics_of_an_older_one(tmp_path, resumed):
    (tmp_path / "metrics.json").write_text('{"epoch": 3, "metrics": {}}')
    runner = SimpleNamespace(_resume=resumed, work_dir=str(tmp_path), train_loop=None, val_loop=None)
    MetricsFileHook().before_train(runner)
    assert (tmp_path / "metrics.json").exists() == resumed
