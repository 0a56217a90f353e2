"""Work directories that are read, and the rows that runs make."""

import shutil

import pytest

from hierpretrain.report.runs import differing_settings, read_run, rows_of
from tests.report.work_dirs import write_run


def rows(folders, **options):
    return rows_of([read_run(folder) for folder in folders], **options)


# ------------------------------------------------------------------ reading
def test_a_run_is_what_its_folder_tells(tmp_path):
    lines = [{"loss": 2.0, "step": 1}, {"loss": 1.0, "step": 2}, {"map": 0.5, "step": 1}]
    metrics = {"map": 0.5, "num_queries": 3, "curve": [1, 2], "exact": True, "note": "x"}
    run = read_run(write_run(tmp_path / "run", 3, metrics, lines))
    assert (run.folder, run.name, run.seed) == (tmp_path / "run", "mine", 3)
    assert run.metrics == {"map": 0.5, "num_queries": 3}
    assert run.curves == {"loss": ([1, 2], [2.0, 1.0]), "map": ([1], [0.5])}
    assert run.settings["default_hooks.frozen_features.folder"] == "<work_dir>/features"
    assert run.settings["model.layers.0.kernel"] == [3, 3]


def test_a_run_that_goes_on_has_no_metrics_yet(tmp_path):
    assert read_run(write_run(tmp_path / "run", lines=[{"loss": 2.0, "step": 1}])).metrics == {}


def test_the_newest_start_says_the_settings_and_the_first_where_it_began(tmp_path):
    folder = tmp_path / "run"
    write_run(folder, 1, {"map": 0.5}, [{"loss": 1.0, "step": 1}], load_from="pretrained.pth")
    options = dict(resume=True, load_from=f"{folder}/epoch_1.pth", train_cfg__max_epochs=3)
    write_run(folder, 1, start="20260102_000000", lines=[{"loss": 1.0, "step": 2}], **options)
    run = read_run(folder)
    assert run.settings["train_cfg.max_epochs"] == 3
    assert run.settings["load_from"] == "pretrained.pth"


@pytest.mark.parametrize("inside", [True, False])
def test_a_test_of_a_checkpoint_has_the_settings_of_its_training(tmp_path, inside):
    trained = write_run(tmp_path / "trained", 4, lines=[{"loss": 1.0, "step": 1}], test_cfg__fp16=False)
    (trained / "epoch_2.pth").write_bytes(b"")
    folder = trained / "test" if inside else tmp_path / "elsewhere"
    options = dict(load_from=f"{trained}/epoch_2.pth", test_cfg__fp16=True, optim_wrapper__optimizer__lr=9.0)
    write_run(folder, 0, {"map": 0.5}, [{"map": 0.5, "step": 0}], config="linear", **options)
    if inside:  # what load_from says is no longer true
        shutil.move(trained, tmp_path / "moved")
        folder = tmp_path / "moved" / "test"
    run = read_run(folder)
    assert (run.seed, run.name, run.folder) == (4, "mine", folder)
    assert run.settings["optim_wrapper.optimizer.lr"] == 0.5
    assert run.settings["test_cfg.fp16"] is True
    assert "load_from" not in run.settings
    assert run.curves.keys() == {"loss", "map"}
    assert run.metrics == {"map": 0.5}


def test_a_test_in_the_work_directory_of_the_training_is_of_the_training(tmp_path):
    folder = write_run(tmp_path / "run", 4, lines=[{"loss": 1.0, "step": 1}])
    (folder / "epoch_2.pth").write_bytes(b"")
    options = dict(load_from="elsewhere/once/epoch_2.pth", test_cfg__fp16=True, model__loss__temperature=9.0)
    write_run(folder, 0, {"map": 0.5}, [{"map": 0.5, "step": 0}], start="20260102_000000", **options)
    run = read_run(folder)
    assert (run.seed, run.metrics, run.settings["model.loss.temperature"]) == (4, {"map": 0.5}, 0.1)
    assert run.settings["test_cfg.fp16"] is True


def test_a_training_from_a_checkpoint_of_another_run_is_its_own(tmp_path):
    first = write_run(tmp_path / "first", 1, lines=[{"loss": 1.0, "step": 1}])
    (first / "epoch_2.pth").write_bytes(b"")
    start = f"{first}/epoch_2.pth"
    second = write_run(tmp_path / "second", 2, {"map": 0.5}, [{"loss": 1.0, "step": 1}], load_from=start)
    run = read_run(second)
    assert (run.seed, run.settings["load_from"]) == (2, start)
    shutil.rmtree(second / "20260101_000000")  # it kept no log
    assert read_run(second).seed == 2


def test_of_a_checkpoint_from_nowhere_the_seed_is_unknown(tmp_path):
    lines = [{"map": 0.5, "step": 0}]
    run = read_run(write_run(tmp_path / "run", 7, {"map": 0.5}, lines, load_from="gone/epoch_1.pth"))
    assert run.seed is None
    assert run.settings["load_from"] == "gone/epoch_1.pth"


def test_a_folder_with_its_config_alone_beside_the_metrics(tmp_path):
    folder = write_run(tmp_path / "run", 2, {"map": 0.5})
    shutil.rmtree(folder / "20260101_000000")
    assert read_run(folder).seed == 2
    (folder / "other.py").write_text("x = 1")
    with pytest.raises(ValueError, match=r"run has the configs mine\.py, other\.py, and no <date>/vis_data/config\.py"):
        read_run(folder)


def test_folders_that_are_no_run(tmp_path):
    with pytest.raises(ValueError, match="nowhere is no folder; give the work directory of a run"):
        read_run(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"is no work directory of a run: it has no config of a run"):
        read_run(tmp_path)
    for i in range(4):
        write_run(tmp_path / f"run{i}", metrics={"map": 0.5})
    with pytest.raises(ValueError, match=r"holds some \(run0, run1, run2, \.\.\.\); give these: .*/\*$"):
        read_run(tmp_path)
    empty = write_run(tmp_path / "empty")
    with pytest.raises(ValueError, match=r"empty is no .*: it has no metrics\.json and no <date>/vis_data/scalars\.js"):
        read_run(empty)


@pytest.mark.parametrize("text", ["", "[]", '{"metrics": 3}', '{"metrics": null}', "{}", '{"metrics": {"map": 0.'])
def test_damaged_metrics_are_an_error(tmp_path, text):
    folder = write_run(tmp_path / "run")
    (folder / "metrics.json").write_text(text)
    with pytest.raises(ValueError, match=r"run/metrics\.json is damaged: .*; evaluate the checkpoint again"):
        read_run(folder)


# ------------------------------------------------------------------ rows
def test_runs_that_differ_in_the_seed_alone_are_one_row(tmp_path):
    folders = [write_run(tmp_path / f"a{seed}", seed, {"map": seed / 10}) for seed in (2, 0, 1)]
    folders.append(write_run(tmp_path / "b", 0, {"map": 0.9}, config="warm", model__loss__temperature=0.5))
    first, second = rows(folders)
    assert (first.name, first.seeds, first.values("map")) == ("mine", "0, 1, 2", [0.0, 0.1, 0.2])
    assert (second.name, second.seeds, second.by_seed) == ("warm", "0", {0: {"map": 0.9}})
    assert differing_settings([first, second]) == {"model.loss.temperature": [0.1, 0.5]}
    assert differing_settings([first, second], ["*.temperature"]) == {}


def test_settings_that_are_ignored_do_not_split_a_row(tmp_path):
    folders = [
        write_run(tmp_path / f"run{seed}", seed, {"map": 0.5}, train_dataloader=dict(num_workers=seed))
        for seed in (0, 1)
    ]
    assert [row.name for row in rows(folders)] == ["run0", "run1"]  # of one config
    assert [row.seeds for row in rows(folders, ignore=["*.num_workers"])] == ["0, 1"]
    assert [row.name for row in rows(folders, names=["A", "B"])] == ["A", "B"]


def test_unknown_seeds_come_last(tmp_path):
    folders = [write_run(tmp_path / f"run{i}", seed, {"map": i}) for i, seed in enumerate([None, 5, None])]
    (row,) = rows(folders)
    assert (row.seeds, row.values("map"), row.by_seed) == ("5, ?, ?", [1, 0, 2], {5: {"map": 1}})


def test_rows_that_cannot_be_told_apart(tmp_path):
    one = write_run(tmp_path / "one", 3, {"map": 0.5})
    with pytest.raises(ValueError, match="one is given twice; leave one out"):
        rows([one, tmp_path / "." / "one"])
    other = write_run(tmp_path / "other", 3, {"map": 0.6})
    with pytest.raises(ValueError, match=r"one and .*other have the same settings and the same seed, 3; leave one out"):
        rows([one, other])
    with pytest.raises(ValueError, match=r"names must be 1, all different, .* begin with .*one; they are A, B"):
        rows([one], names=["A", "B"])


def test_names_are_of_folders_where_needed(tmp_path):
    folders = [
        write_run(tmp_path / place / "run", 0, {"map": 0.5}, model__loss__temperature=t)
        for place, t in (("x", 0.1), ("y", 0.2))
    ]
    assert [row.name for row in rows(folders)] == [str(folder) for folder in folders]
