"""What can be watched while a model trains: losses of levels, violations, pictures, and where they arrive."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmpretrain.structures import DataSample
from PIL import Image

from hierpretrain.apis import build_runner, watch_with
from hierpretrain.engine import BatchViolationsHook, TSNEHook
from hierpretrain.engine.diagnostics import batch_violations
from hierpretrain.engine.mlflow_backend import mlflow_name
from hierpretrain.functional import hierarchy_violations
from hierpretrain.taxonomy import Taxonomy
from tests.datasets.trees import write_image

RESIZE = dict(type="torchvision/Resize", size=(32, 32), interpolation="bilinear")
PACK = dict(type="PackInputs", algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split"))
LEVELS = ("kind", "gloss")  # what MMEngine adds up as losses has the word in its name
STEPS = 4  # an epoch
VIOLATIONS, NEVER = (dict(type="BatchViolationsHook", interval=interval) for interval in (2, None))


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(32):
        colour = tuple(rng.integers(0, 256, 3).tolist())
        write_image(root / f"kind{i % 2}/thing{i % 4}/{i}.png", colour, (20 + i, 40))
    return root


def loader(images, **options):
    pipeline = [dict(type="LoadRGB"), RESIZE, PACK]
    dataset = dict(type="FolderDataset", data_root=str(images), level_names=LEVELS, pipeline=pipeline)
    return dict(num_workers=0, dataset=dataset, sampler=dict(type="DefaultSampler", shuffle=False)) | options


def make(images, work_dir, *, watchers=(), epochs=2, hooks=(), violations=NEVER, **options):
    config = Config(
        dict(
            default_scope="hierpretrain",
            model=dict(
                type="HierarchicalContrastive",
                backbone=dict(type="ResNet", depth=18, base_channels=8, stem_channels=8),
                projection=dict(type="ProjectionHead", in_channels=64, out_channels=8),
                loss=dict(type="HiMulConELoss"),
            ),
            train_dataloader=loader(images, batch_size=8, sampler=dict(type="DefaultSampler", shuffle=True)),
            val_dataloader=loader(images, batch_size=8),
            val_evaluator=[dict(type="ViolationMetric"), dict(type="RetrievalMetric", levels=[LEVELS[0]])],
            train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=1),
            val_cfg=dict(),
            optim_wrapper=dict(optimizer=dict(type="AdamW", lr=1e-3)),
            custom_hooks=[dict(type="ExactResumeHook"), dict(type="TaxonomyHook"), *hooks],
            default_hooks=dict(logger=dict(type="LoggerHook", interval=1), violations=violations),
            log_processor=dict(type="ShortLogProcessor", window_size=1),
            visualizer=dict(type="UniversalVisualizer", vis_backends=[dict(type="LocalVisBackend")]),
            env_cfg=dict(dist_cfg=dict(backend="gloo")),
            randomness=dict(seed=3),
            work_dir=str(work_dir),
            experiment_name=f"{Path(work_dir).name}_{time.monotonic_ns()}",
        )
    )
    config.merge_from_dict(options)
    watch_with(config, watchers)
    return build_runner(config)


def train(*arguments, **options):
    runner = make(*arguments, **options)
    runner.train()
    return runner


def logged(runner, name):
    return runner.message_hub.get_scalar(f"train/{name}").data[0].tolist()


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """A run that is watched with TensorBoard."""
    hooks = [dict(type="TSNEHook", level=1, interval=1), dict(type="RetrievalSheetHook", num_queries=2)]
    work_dir = tmp_path_factory.mktemp("watched")
    return train(images, work_dir, watchers=["tensorboard"], hooks=hooks, violations=VIOLATIONS)


def test_the_losses_of_the_levels_stand_beside_the_total_and_are_what_it_is_made_of(trained):
    parts = [logged(trained, f"loss/{level}") for level in LEVELS]
    lambdas = [np.e ** (1 / 2), np.e]
    expected = (np.array(parts) * np.array(lambdas)[:, None]).mean(0)
    np.testing.assert_allclose(logged(trained, "loss"), expected, rtol=1e-4)
    assert len(expected) == 2 * STEPS


def test_violations_are_measured_when_it_is_time(trained):
    assert len(logged(trained, f"batch_violations/{LEVELS[0]}")) == 2 * STEPS / 2
    assert trained.model.observe is None


def test_scalars_and_pictures_arrive_in_tensorboard(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (folder,) = {path.parent for path in Path(trained.work_dir).glob("*/vis_data/events.out.tfevents*")}
    events = EventAccumulator(str(folder), size_guidance=dict(images=0))
    events.Reload()
    for name in ("loss", *[f"loss/{level}" for level in LEVELS]):
        found = events.Scalars(name)
        assert [scalar.step for scalar in found] == list(range(1, 2 * STEPS + 1))
        np.testing.assert_allclose([scalar.value for scalar in found], logged(trained, name), rtol=1e-6)
    assert [scalar.value for scalar in events.Scalars("lr")] == pytest.approx([1e-3] * 2 * STEPS)
    last = json.loads(next(Path(trained.work_dir).glob("*/vis_data/scalars.json")).read_text().splitlines()[-1])
    for name in ("violations", "violations@2", f"{LEVELS[0]}/recall@1"):  # of the validations
        assert [scalar.step for scalar in events.Scalars(name)] == [1, 2]
        assert events.Scalars(name)[1].value == pytest.approx(last[name])
    assert events.Scalars(f"batch_violations/{LEVELS[0]}")[-1].value == pytest.approx(
        logged(trained, f"batch_violations/{LEVELS[0]}")[-1]
    )
    assert len(events.Scalars("time")) == 2 * STEPS  # those of the validations are not among them
    assert [image.step for image in events.Images("tsne")] == [1, 2]
    assert [image.step for image in events.Images("retrieval")] == [2]  # by default the last alone


def test_the_newest_picture_is_in_the_work_directory_and_all_are_kept(trained):
    work_dir = Path(trained.work_dir)
    kept = sorted(work_dir.glob("*/vis_data/vis_image/*.png"))
    assert [path.name for path in kept] == ["retrieval_2.png", "tsne_1.png", "tsne_2.png"]
    newest, first, second = (np.asarray(Image.open(path).convert("RGB")) for path in [work_dir / "tsne.png", *kept[1:]])
    assert (newest == second).all()
    assert (newest != first).any()


def test_neither_violations_nor_resuming_change_a_bit(trained, images, tmp_path):
    plain = train(images, tmp_path / "plain")
    stopped = train(images, tmp_path / "stopped", epochs=1, violations=VIOLATIONS)
    again = train(
        images,
        tmp_path / "stopped",
        violations=dict(type="BatchViolationsHook", interval=1),
        **{"resume": True, "load_from": str(tmp_path / "stopped" / "epoch_1.pth")},
    )
    assert stopped.iter == STEPS
    weights = trained.model.state_dict()
    for runner in (plain, again):
        for name, tensor in runner.model.state_dict().items():
            assert torch.equal(tensor, weights[name]), name
    assert logged(again, f"loss/{LEVELS[1]}") == logged(trained, f"loss/{LEVELS[1]}")  # the log goes on, too


def test_a_joint_loss_learns_from_its_data_what_it_needs_and_resumes_to_the_same_bits(images, tmp_path):
    joint = {"model.loss": dict(_delete_=True, type="HierarchicalJointLoss", balance=1.0), "model.projection": None}
    whole = train(images, tmp_path / "whole", **joint)
    assert whole.model.loss_module.num_classes == [2, 4]
    assert not whole.model.normalize
    train(images, tmp_path / "stopped", epochs=1, **joint)
    checkpoint = tmp_path / "stopped" / "epoch_1.pth"
    again = train(images, tmp_path / "stopped", **joint, **{"resume": True, "load_from": str(checkpoint)})
    for name, tensor in again.model.state_dict().items():
        assert torch.equal(tensor, whole.model.state_dict()[name]), name
    parts = [logged(again, f"loss/cross_entropy/{level}") for level in LEVELS]
    weights = range(1, 1 + len(parts))  # the finer, the more
    expected = np.average(parts, 0, weights)
    np.testing.assert_allclose(logged(again, "loss/cross_entropy"), expected, rtol=1e-5)
    config = Config.fromstring(torch.load(checkpoint, weights_only=False)["meta"]["cfg"], ".py")
    assert config.model.loss.num_classes == [2, 4]  # which stands alone


def test_what_a_clamp_hides_is_logged_beside_it(trained):
    for level, least in ((LEVELS[0], 0.0), (LEVELS[1], 1.0)):
        clamped, plain = (np.array(logged(trained, f"loss/{kind}{level}")) for kind in ("", "unclamped/"))
        assert (clamped >= plain).all()
        assert (clamped == plain).mean() >= least  # nothing bounds the finest level


def test_a_batch_in_chunks_has_the_same_log(images, tmp_path):
    whole, chunks = (
        train(images, tmp_path / f"{rows}", epochs=1, violations=VIOLATIONS, **{"model.grad_cache": rows, **norm})
        for norm in [{"model.backbone.norm_eval": True}]  # statistics of a batch would be those of a chunk
        for rows in (None, 2)
    )
    for name in ("loss", *[f"loss/{level}" for level in LEVELS], f"batch_violations/{LEVELS[0]}"):
        np.testing.assert_allclose(logged(chunks, name), logged(whole, name), rtol=2e-3)


# ------------------------------------------------------------------ violations
def test_batch_violations_are_the_shares_of_the_metric_by_the_names_of_the_levels():
    features = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 0], [0, 1], [1, 2], [1, 3]]).repeat(3, 1)
    shares = hierarchy_violations(features, labels)
    expected = {
        "batch_violations": shares["violations"],
        "batch_violations/kind": shares["violations@1"],
        "batch_violations/thing": shares["violations@2"],
    }
    assert batch_violations(features, labels, ["kind", "thing"]) == expected
    assert batch_violations(features, labels).keys() == {
        "batch_violations",
        "batch_violations/level1",
        "batch_violations/level2",
    }
    few = batch_violations(features, labels, max_anchors=3)
    assert few == batch_violations(features, labels, max_anchors=3) != batch_violations(features, labels)


def test_a_batch_without_triples_is_passed_over_with_a_warning(images, tmp_path):
    runner = make(images, tmp_path, violations=dict(type="BatchViolationsHook", interval=1))
    hook = next(hook for hook in runner.hooks if isinstance(hook, BatchViolationsHook))
    hook.before_train(runner)
    hook.before_train_iter(runner, 0)
    runner.model.observe(torch.eye(3), torch.zeros(3, 2, dtype=torch.int64))
    runner.model.observe(torch.zeros(3, 2), torch.arange(6).reshape(3, 2))
    assert not any("batch_violations" in name for name in runner.message_hub.log_scalars)
    log = Path(runner.logger.log_file).read_text()
    assert "batch_violations is left out where it cannot be measured: violations need an anchor" in log
    assert "must have a direction; row 0 is all zero" in log
    hook.after_train_iter(runner, 0)
    assert runner.model.observe is None


def test_violations_are_those_of_full_precision_where_the_model_runs_in_half(images, tmp_path):
    seen, plain = {}, make(images, tmp_path)
    batch = plain.model.data_preprocessor(next(iter(plain.build_dataloader(plain.cfg.train_dataloader))), True)
    plain.model.observe = lambda features, labels: seen.update(
        shares=batch_violations(features, labels), expected=(features, labels)
    )
    with torch.autocast("cpu", torch.bfloat16):
        plain.model(**batch, mode="loss")
    assert seen["shares"] == batch_violations(*seen["expected"])


def test_an_epoch_that_is_shorter_than_the_interval_is_measured_at_its_end(images, tmp_path):
    runner = train(images, tmp_path, violations=dict(type="BatchViolationsHook", interval=STEPS + 1))
    assert len(logged(runner, f"batch_violations/{LEVELS[0]}")) == 2


def test_the_violations_can_be_left_out_as_the_hooks_of_mmengine(images, tmp_path):
    runner = make(images, tmp_path, violations=None)
    assert not any(isinstance(hook, BatchViolationsHook) for hook in runner.hooks)


def test_a_training_that_counts_iterations_is_logged_by_iterations(images, tmp_path):
    loop = dict(by_epoch=False, max_iters=6, val_interval=3)
    runner = make(images, tmp_path, train_cfg=dict(_delete_=True, **loop))
    runner.train()
    (scalars,) = tmp_path.glob("*/vis_data/scalars.json")
    validated = [line for line in map(json.loads, scalars.read_text().splitlines()) if "loss" not in line]
    assert [line["step"] for line in validated] == [3, 6]
    assert "Iter(train) [6/6]" in Path(runner.logger.log_file).read_text()


@pytest.mark.parametrize("option", ["interval", "max_anchors"])
def test_options_of_the_violations_are_checked(option):
    with pytest.raises(ValueError, match=f"{option} must be at least 1; it is 0"):
        BatchViolationsHook(**{option: 0})


# ------------------------------------------------------------------ where it arrives
def test_an_interval_below_1_is_an_error():
    with pytest.raises(ValueError, match="interval of TSNEHook must be at least 1 validation, or None"):
        TSNEHook(interval=0)


def test_unknown_and_missing_backends_are_errors_before_anything_begins(monkeypatch):
    config = Config(dict(work_dir="work_dirs/mine"))
    with pytest.raises(
        ValueError, match="watched with 'tensorboard', 'wandb', 'mlflow' or 'clearml', not 'tensorbord'"
    ):
        watch_with(config, ["tensorbord"])
    monkeypatch.setattr("hierpretrain.apis.watching.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"install it: pip install 'hierpretrain\[wandb\]'"):
        watch_with(config, ["wandb"])
    assert "visualizer" not in config


def test_a_backend_is_added_once():
    config = Config(dict(work_dir="work_dirs/mine", visualizer=dict(vis_backends=dict(type="TensorboardVisBackend"))))
    watch_with(config, ["tensorboard", "tensorboard"])
    assert [backend.type for backend in config.visualizer.vis_backends] == ["TensorboardVisBackend"]
    for present, kept in (({}, 1), (dict(visualizer=None), 1), (dict(visualizer=dict(vis_backends=None)), 0)):
        config = Config(dict(work_dir="work_dirs/mine", **present))
        watch_with(config, ["tensorboard"])
        found = [backend.type for backend in config.visualizer.vis_backends]
        assert found == ["LocalVisBackend"] * kept + ["TensorboardVisBackend"]


def test_weights_and_biases_get_all_that_is_logged(images, tmp_path, monkeypatch):
    import sys
    from types import SimpleNamespace

    received, called = [], {}
    fake = SimpleNamespace(
        init=lambda **options: called.update(init=options),
        define_metric=lambda **options: called.update(metric=options),
        log=lambda scalars, commit: received.append(scalars),
        Image=lambda image: image.shape,
        config=SimpleNamespace(update=lambda values, allow_val_change: called.update(config=values)),
        run=SimpleNamespace(log_code=lambda name: None),
        join=lambda: called.update(joined=True),
    )
    monkeypatch.setitem(sys.modules, "wandb", fake)
    monkeypatch.setattr("hierpretrain.apis.watching.find_spec", lambda name: True)
    hooks = [dict(type="TSNEHook", level=1)]
    train(images, tmp_path / "mine", watchers=["wandb"], epochs=1, hooks=hooks, violations=VIOLATIONS)
    assert called["init"]["project"] == "hierpretrain"
    assert called["init"]["name"] == "mine"
    assert Path(called["init"]["dir"]).is_relative_to(tmp_path / "mine")
    assert called["metric"] == dict(name="*", step_metric="iter")
    assert called["config"]["train_cfg"]["max_epochs"] == 1
    assert called["joined"]
    assert [scalars["iter"] for scalars in received if "loss" in scalars] == [1, 2, 3, 4]
    names = set().union(*received)
    assert {f"loss/{LEVELS[0]}", f"batch_violations/{LEVELS[0]}", "lr", f"{LEVELS[0]}/recall@1", "tsne"} <= names
    assert received[-1]["tsne"] == (1000, 1400, 3) or {"tsne": (1000, 1400, 3)} in received


@pytest.mark.slow
@pytest.mark.parametrize("store", ["folder", "database"])
def test_mlflow_gets_all_that_is_logged(images, tmp_path, monkeypatch, store):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    if store == "folder":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlruns")
    else:
        monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    runner = train(images, tmp_path / "mine", watchers=["mlflow"], violations=VIOLATIONS)
    client = mlflow.MlflowClient()
    (run,) = client.search_runs([client.get_experiment_by_name("hierpretrain").experiment_id])
    assert (run.info.run_name, run.info.status) == ("mine", "FINISHED")
    assert run.data.params["train_cfg.max_epochs"] == "2"
    separator = "." if store == "folder" else "/"
    (scalars,) = (tmp_path / "mine").glob("*/vis_data/scalars.json")
    logged = {}
    for line in map(json.loads, scalars.read_text().splitlines()):
        for name, value in line.items():
            logged.setdefault(name, []).append((line["step"], value))
    for name in ("loss", f"loss/{LEVELS[0]}", f"{LEVELS[0]}/recall@1", f"batch_violations/{LEVELS[1]}", "lr"):
        found = client.get_metric_history(run.info.run_id, mlflow_name(name, separator))
        assert [(metric.step, pytest.approx(metric.value)) for metric in found] == logged[name], name
    assert "Epoch(val) [2]" in Path(runner.logger.log_file).read_text()  # the log goes on, too
    mlflow.set_tracking_uri(None)


@pytest.fixture
def small_model():
    """Builds models of a registered loss, with four images of two kinds in two views."""
    from hierpretrain.models import HierarchicalContrastive

    def build(loss, tree=None):
        torch.manual_seed(0)
        backbone = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
        model = HierarchicalContrastive(backbone, loss=loss)
        if tree is not None:
            model.set_taxonomy(tree)
        return model

    samples = [DataSample(metainfo=dict(sample_idx=i)).set_gt_label([i // 2, i]) for i in range(4)]
    return build, torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)), samples


def components():
    hub = MessageHub.get_current_instance()
    return {name: log.current() for name, log in hub.log_scalars.items() if name.startswith("train/loss/")}


def test_a_level_whose_name_looks_like_a_loss_is_not_trained_twice(small_model):
    build, images, samples = small_model
    tree = Taxonomy([("a", "0"), ("a", "1"), ("b", "2"), ("b", "3")], ("gloss", "loss"))
    MessageHub.get_instance("gloss")
    model = build(dict(type="HiMulConLoss", level_weights=[1.0, 3.0]), tree)
    total, log = model.parse_losses(model.loss(images, samples))
    assert log == {"loss": total}
    found = components()
    assert list(found) == ["train/loss/gloss", "train/loss/loss"]
    assert total.item() == pytest.approx((found["train/loss/gloss"] + 3 * found["train/loss/loss"]) / 2, rel=1e-6)


def test_a_loss_that_replaces_the_forward_of_ours_is_what_is_trained(small_model):
    from hierpretrain.models import HiMulConLoss
    from hierpretrain.registry import MODELS

    class Doubled(HiMulConLoss):
        def forward(self, features, labels, instances):
            return 2 * super().forward(features, labels, instances)

    class Alone(HiMulConLoss):
        def forward(self, features, labels, instances):
            return features.sum()

    build, images, samples = small_model
    found = {}
    for loss in (HiMulConLoss, Doubled, Alone):
        MODELS.register_module(name=f"Tried{loss.__name__}", module=loss, force=True)
        MessageHub.get_instance(loss.__name__)
        found[loss] = build(dict(type=f"Tried{loss.__name__}")).loss(images, samples)["loss"].item(), components()
        del MODELS._module_dict[f"Tried{loss.__name__}"]
    assert list(found[HiMulConLoss][1]) == ["train/loss/level1", "train/loss/level2"]
    assert found[Doubled] == (pytest.approx(2 * found[HiMulConLoss][0]), found[HiMulConLoss][1])
    assert found[Alone][1] == {}  # nothing of a batch before
