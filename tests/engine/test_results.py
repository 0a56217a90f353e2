"""The metrics in the work directory."""

import json
from types import SimpleNamespace

import pytest

from hierpretrain.engine import MetricsFileHook


@pytest.mark.parametrize(("epoch", "iteration", "expected"), [(3, 18, (3, 18)), (0, 0, (2, 12))])
def test_a_test_says_how_long_its_weights_were_trained(tmp_path, epoch, iteration, expected):
    """In this run, after whatever checkpoint it resumed from; or, without a training, as the checkpoint says."""
    hook = MetricsFileHook()
    hook.after_load_checkpoint(None, dict(meta=dict(epoch=2, iter=12)))
    runner = SimpleNamespace(epoch=epoch, iter=iteration, work_dir=str(tmp_path))
    hook.after_test_epoch(runner, metrics=dict(nmi=0.5))
    written = json.loads((tmp_path / "metrics.json").read_text())
    assert written == dict(epoch=expected[0], iter=expected[1], metrics=dict(nmi=0.5))
