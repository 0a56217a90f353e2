"""``skipped.json`` in the work directory, of a training whose data set skips what cannot be read."""

import json

import pytest

from hierpretrain.commands import train as train_command
from tests.commands.test_train import run  # noqa: F401  a folder of eight photos and a config
from tests.test_configs import _own_globals  # noqa: F401

SKIP = "train_dataloader.dataset.on_error=skip"


@pytest.mark.parametrize("workers", [0, 2])
def test_a_training_lists_what_it_skipped(run, tmp_path, workers):  # noqa: F811
    (tmp_path / "photos/red/1.png").write_bytes(b"")
    (tmp_path / "photos/red/gone.png").symlink_to("nowhere.png")
    options = [SKIP, f"train_dataloader.num_workers={workers}", f"train_dataloader.persistent_workers={workers > 0}"]
    run(train_command, "--cfg-options", *options)
    listed = json.loads((tmp_path / "work_dirs/mine/skipped.json").read_text())
    assert sorted(listed) == ["photos/red/1.png", "photos/red/gone.png"]
    assert "it is empty" in listed["photos/red/1.png"]
    assert "is a broken link" in listed["photos/red/gone.png"]


@pytest.mark.parametrize("kind", ["ClassBalancedDataset", "mmengine.ClassBalancedDataset", "RepeatDataset"])
def test_what_a_data_set_within_another_skipped_is_listed_too(run, tmp_path, kind):  # noqa: F811
    (tmp_path / "photos/red/1.png").write_bytes(b"")
    options = "times=1" if kind == "RepeatDataset" else "oversample_thr=0.6"
    inner = "{k: v for k, v in train_dataloader['dataset'].items() if k != '_delete_'} | dict(on_error='skip')"
    with open(tmp_path / "mine.py", "a") as file:
        file.write(f"train_dataloader['dataset'] = dict(_delete_=True, type={kind!r}, {options}, dataset={inner})\n")
    run(train_command)
    assert list(json.loads((tmp_path / "work_dirs/mine/skipped.json").read_text())) == ["photos/red/1.png"]


def test_a_new_run_begins_a_new_list_and_a_resumed_one_adds_to_it(run, tmp_path):  # noqa: F811
    (tmp_path / "photos/red/1.png").write_bytes(b"")
    run(train_command, "--cfg-options", SKIP)
    (tmp_path / "photos/red/1.png").unlink()
    (tmp_path / "photos/red/gone.png").symlink_to("nowhere.png")
    file = tmp_path / "work_dirs/mine/skipped.json"
    run(train_command, "--resume", "--cfg-options", SKIP, "train_cfg.max_epochs=2")
    assert sorted(json.loads(file.read_text())) == ["photos/red/1.png", "photos/red/gone.png"]
    run(train_command, "--cfg-options", SKIP)
    assert sorted(json.loads(file.read_text())) == ["photos/red/gone.png"]
    (tmp_path / "photos/red/gone.png").unlink()
    run(train_command, "--cfg-options", SKIP)
    assert not file.exists()


def test_a_bad_value_ends_the_command(run, capsys):  # noqa: F811
    with pytest.raises(SystemExit, match="2"):
        run(train_command, "--cfg-options", "train_dataloader.dataset.on_error=ignore")
    assert "on_error must be 'error' or 'skip'; it is 'ignore'" in capsys.readouterr().err
