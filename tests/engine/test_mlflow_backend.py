"""MLflow gets all that is logged, under names that its stores take; ClearML gets ours."""

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from hierpretrain.apis import watch_with
from hierpretrain.engine.log_files import open_log_files_again
from hierpretrain.engine.mlflow_backend import mlflow_name
from hierpretrain.registry import VISBACKENDS

SCALARS = {
    "loss": 2.0,
    "loss/kind": 1.0,
    "loss/contrastive": 0.5,
    "loss/contrastive/kind": 0.25,
    "kind/recall@1": 0.75,
    "日本/a*b": 0.125,
}


@pytest.fixture
def mlflow(monkeypatch):
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")  # newer versions take a folder only with it
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    mlflow = pytest.importorskip("mlflow")
    yield mlflow
    while mlflow.active_run() is not None:
        mlflow.end_run("FAILED")
    mlflow.set_tracking_uri(None)
    open_log_files_again()  # which reading a store has closed, for the tests that follow


def watched(folder, **options):
    """Returns the backend of a run in ``folder``, with a config and a log beside."""
    start = folder / "20260101_000000"
    (start / "vis_data").mkdir(parents=True)
    (start / "run.log").write_text("told")
    (folder / "mine.py").write_text("a = 1")
    (folder / "epoch_1.pth").write_bytes(b"weights")
    built = dict(type="MLflowVisBackend", save_dir=str(start / "vis_data"), **options)
    return VISBACKENDS.build({**built, "_scope_": "hierpretrain"})


def log(backend, folder):
    backend.add_config(Config(dict(work_dir=str(folder), model=dict(layers=[dict(width=3)], sizes=(1, 2)), lr=0.5)))
    backend.add_scalars({name: torch.tensor(value) for name, value in SCALARS.items()}, 3)
    backend.add_scalar("loss", np.float32(1.5), 4)
    backend.add_image("map@2", np.full((4, 6, 3), 255, np.uint8), 7)
    backend.close()


def artifacts(client, run_id, path=None):
    """Returns the paths of all artifacts."""
    found = []
    for entry in client.list_artifacts(run_id, path):
        found += artifacts(client, run_id, entry.path) if entry.is_dir else [entry.path]
    return sorted(found)


@pytest.mark.parametrize("name", [*SCALARS, "..", "/a//b/", "a%b", "x\n", "über:alles"])
def test_names_are_such_that_mlflow_takes_them_and_stay_apart(name):
    validation = pytest.importorskip("mlflow.utils.validation")
    mapped = mlflow_name(name)
    assert validation.validate_param_and_metric_name(mapped)
    assert not validation.path_not_unique(mapped)
    assert mlflow_name(mapped) == mapped
    assert "/" not in mlflow_name(name, ".")
    assert len({mlflow_name(other) for other in SCALARS}) == len(SCALARS)


@pytest.mark.parametrize("store", ["folder", "file", pytest.param("sqlite", marks=pytest.mark.slow)])
def test_a_store_has_every_scalar_picture_setting_and_file(mlflow, tmp_path, store):
    uri = {"folder": f"{tmp_path}/mlruns", "file": f"file://{tmp_path}/mlruns", "sqlite": f"sqlite:///{tmp_path}/m.db"}
    folder = tmp_path / "work"
    log(watched(folder, tracking_uri=uri[store], exp_name="ours", run_name="mine", tags=dict(kind="test")), folder)
    client = mlflow.MlflowClient(uri[store])
    (run,) = client.search_runs([client.get_experiment_by_name("ours").experiment_id])
    assert (run.info.run_name, run.info.status, run.data.tags["kind"]) == ("mine", "FINISHED", "test")
    separator = "/" if store == "sqlite" else "."
    assert run.data.metrics == {mlflow_name(name, separator): v for name, v in {**SCALARS, "loss": 1.5}.items()}
    assert f"loss{separator}contrastive{separator}kind" in run.data.metrics
    assert [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, "loss")] == [(3, 2.0), (4, 1.5)]
    assert run.data.params == {
        "work_dir": str(folder),
        "model.layers.0.width": "3",
        "model.sizes": "(1, 2)",
        "lr": "0.5",
    }
    found = artifacts(client, run.info.run_id)
    assert found == ["20260101_000000/run.log", "config.py", "map_at_2_7.png", "mine.py"]
    assert Path.cwd() not in Path(run.info.artifact_uri.removeprefix("file://")).parents


def test_the_environment_says_where_and_a_separator_can_be_given(mlflow, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    log(watched(tmp_path / "work", separator="-"), tmp_path / "work")
    (run,) = mlflow.MlflowClient().search_runs(["0"])
    assert run.data.metrics["kind-recall_at_1"] == 0.75
    config = Config(dict(work_dir=str(tmp_path / "work")))
    watch_with(config, ["mlflow"])
    added = dict(type="MLflowVisBackend", exp_name="hierpretrain", run_name="work")
    assert config.visualizer.vis_backends[1:] == [added]
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    config = Config(dict(work_dir=str(tmp_path / "work")))
    watch_with(config, ["mlflow"])
    assert config.visualizer.vis_backends[1:] == [added | dict(tracking_uri=f"sqlite:///{tmp_path}/mlflow.db")]


def test_an_outer_run_is_gone_on_with(mlflow, tmp_path):
    mlflow.set_tracking_uri(f"{tmp_path}/mlruns")
    outer = mlflow.start_run(run_name="outer")
    watched(tmp_path / "work", tracking_uri=f"{tmp_path}/mlruns").add_scalar("loss", 1.0, 1)
    assert mlflow.MlflowClient().get_run(outer.info.run_id).data.metrics == {"loss": 1.0}


def test_log_files_that_mlflow_closes_are_opened_again(mlflow, tmp_path):
    logger = MMLogger.get_instance("closed", log_file=str(tmp_path / "x.log"))
    logger.info("before")
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()
    watched(tmp_path / "work", tracking_uri=f"{tmp_path}/mlruns").add_scalar("loss", 1.0, 1)
    logger.info("after")
    text = (tmp_path / "x.log").read_text()
    assert "before" in text
    assert "after" in text


def test_a_log_file_whose_folder_is_gone_is_in_nobodys_way(tmp_path):
    (tmp_path / "work").mkdir()
    logger = MMLogger.get_instance("gone", log_file=str(tmp_path / "work/x.log"))
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.close()
    shutil.rmtree(tmp_path / "work")
    open_log_files_again()
    logger.info("after")
    assert not (tmp_path / "work").exists()


def test_without_mlflow_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(
        ImportError, match=r"that mlflow watches needs the package mlflow \(.*\): pip install 'hierpretrain\[mlflow\]'$"
    ):
        watched(tmp_path).add_scalar("loss", 1.0)


def test_a_backend_that_was_never_used_closes(tmp_path):
    watched(tmp_path).close()
    assert not (tmp_path / "20260101_000000/vis_data/mlflow.db").exists()


@pytest.mark.slow
def test_clearml_gets_our_names(tmp_path):
    """In a process of its own, since ClearML stays in one for good."""
    pytest.importorskip("clearml")
    code = f"""
import os
os.environ.update(CLEARML_OFFLINE_MODE="1", CLEARML_CACHE_DIR={str(tmp_path)!r})
import numpy as np
from mmengine.config import Config
from hierpretrain.apis import watch_with
from hierpretrain.registry import VISBACKENDS
config = Config(dict(work_dir={str(tmp_path / "work")!r}))
watch_with(config, ["clearml"])
made = config.visualizer.vis_backends[1]
made.init_kwargs.update(auto_connect_frameworks=dict(detect_repository=False), auto_resource_monitoring=False)
backend = VISBACKENDS.build(made)
backend.add_config(config)
backend.add_scalars({SCALARS!r}, 3)
backend.add_image("map", np.zeros((4, 4, 3), np.uint8), 7)
backend.close()
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, cwd=Path(__file__).parents[2])
    (events,) = tmp_path.glob("offline/*/metrics.jsonl")
    found = [event for line in events.read_text().splitlines() for event in json.loads(line)]
    scalars = {event["metric"]: (event["iter"], event["value"]) for event in found if "value" in event}
    assert scalars == {name: (3, value) for name, value in SCALARS.items()}
    assert [(event["metric"], event["iter"]) for event in found if "value" not in event] == [("map", 7)]
    task = json.loads((events.parent / "task.json").read_text())
    assert (task["project_name"], task["name"]) == ("hierpretrain", "work")
