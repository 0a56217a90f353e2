import itertools
import os
from datetime import timedelta

import pytest
import torch
from mmengine.config import Config
from mmengine.model import is_model_wrapper
from mmengine.runner import EpochBasedTrainLoop

from hierpretrain.apis import build_runner, check_checkpoint, check_start, load_config
from hierpretrain.apis.launch import check_num_batches, check_save_best
from hierpretrain.models import HierarchicalContrastive
from hierpretrain.registry import DATASETS
from hierpretrain.taxonomy import Taxonomy
from tests import distributed

HEAD = dict(type="ProjectionHead", in_channels=64, out_channels=4)
NUMBERS = itertools.count()  # of runs: each needs a name of its own
LOSS = dict(type="LevelCrossEntropyLoss", num_classes=3)


@DATASETS.register_module()
class Ten:
    """A data set of ten images, whose loader is never asked for one."""

    def __len__(self):
        return 10


def make(projection=None, loss=None, depth=18, **options):
    backbone = dict(type="ResNet", depth=depth, base_channels=8, stem_channels=8)
    return HierarchicalContrastive(backbone, projection, loss, **options)


@pytest.fixture
def checkpoint(tmp_path):
    def save(model):
        torch.save({"state_dict": model.state_dict()}, tmp_path / "model.pth")
        return str(tmp_path / "model.pth")

    return save


def test_a_file_may_have_the_weights_of_parts_that_the_model_leaves_out(checkpoint):
    file = checkpoint(make(HEAD, LOSS))
    for parts in ((None, None), (HEAD, None), (HEAD, LOSS)):
        check_checkpoint(make(*parts), file)


@pytest.mark.parametrize(
    ("saved", "model", "told"),
    [
        (
            (None, LOSS),
            (HEAD, LOSS),
            r"4 weights are missing in the file: projection.layers.0.weight, .*; 1 weights are",
        ),
        (
            (None, LOSS),
            (HEAD, LOSS),
            r"4 .* loss_module.classifier.weight is \(3, 64\) in the file and \(3, 4\) in the m",
        ),
        ((HEAD, None), (HEAD, LOSS), "2 weights are missing in the file: loss_module.classifier.weight, loss_module.c"),
        ((HEAD, LOSS), (dict(HEAD, out_channels=5), None), r"2 weights .* shape: projection.layers.2.weight is"),
        ((None, None), (None, None, 34), r"96 weights are missing in the file: backbone.layer1.2.\S+, .* and 86 more"),
        ((None, None, 34), (None, None), r"96 weights are in the file alone: backbone.layer1.2.\S+, .* and 86 more"),
    ],
)
def test_every_other_difference_is_an_error_that_lists_it(checkpoint, saved, model, told):
    with pytest.raises(ValueError, match=f"no checkpoint of the config's model: {told}"):
        check_checkpoint(make(*model), checkpoint(make(*saved)))


def test_a_training_starts_from_a_file_that_fits_or_is_told_to_take_what_fits(checkpoint):
    saved, model = make(HEAD, LOSS), make(HEAD, dict(LOSS, num_classes=7))
    file = checkpoint(saved)
    assert check_start(dict(load_from=file), make(HEAD, LOSS)) is None
    assert check_start(dict(load_from=file), make()) is None  # parts that the model leaves out
    assert check_start({}, model) is None
    told = r"load_from=\S+ does not fit the config's model: 2 weights are of another shape: loss_module.cla"
    with pytest.raises(
        ValueError, match=rf"{told}.* load_from_partly=True, which starts from the 124 weights that fit"
    ):
        check_start(dict(load_from=file), model)
    told = check_start(dict(load_from=file, load_from_partly=True), model)
    assert told.startswith("load_from_partly: 124 weights are from")
    with pytest.raises(ValueError, match="no checkpoint of the config's model: 2 weights are of another shape"):
        check_start(dict(load_from=file, load_from_partly=True, resume=True), model)
    with pytest.raises(ValueError, match=r"nothing of load_from=.* fits the config's model"):
        check_start(dict(load_from=checkpoint(torch.nn.Linear(2, 2)), load_from_partly=True), model)


def test_a_training_that_keeps_the_encoder_before_it_starts_from_a_file_of_one_that_does_not(checkpoint, tmp_path):
    saved, model = make(HEAD, LOSS), make(HEAD, LOSS, pretrained_share=0.5)
    file = checkpoint(saved)
    _, runner = launch(4, tmp_path, "none", load_from=file)
    runner.model = model
    runner._train_loop = object.__new__(EpochBasedTrainLoop)  # which a training has built by now
    runner.load_or_resume()
    for name, tensor in saved.backbone.state_dict().items():
        assert torch.equal(model.state_dict()[f"pretrained.backbone.{name}"], tensor), name
    check_checkpoint(make(HEAD, LOSS), checkpoint(model))  # and the other way round
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "pretrained.backbone.bn1.weight"}
    torch.save({"state_dict": weights}, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=r"1 weights are missing in the file: pretrained\.backbone\.bn1\.weight"):
        check_checkpoint(model, str(tmp_path / "cut.pth"))


@pytest.mark.parametrize("resume", [False, True])
def test_a_file_without_the_encoder_before_training_is_neither_tested_nor_resumed_with_a_share(
    checkpoint, tmp_path, resume
):
    file = checkpoint(make(HEAD, LOSS))
    _, runner = launch(4, tmp_path, "none", load_from=file, resume=resume)
    runner.model = make(HEAD, LOSS, pretrained_share=0.5)
    if resume:
        runner._train_loop = object.__new__(EpochBasedTrainLoop)
    message = "model.pth has no copy of the encoder before training, and model.pretrained_share is 0.5: set it to 0, or"
    with pytest.raises(ValueError, match=message):
        runner.load_or_resume()
    with pytest.raises(ValueError, match=message):
        check_checkpoint(runner.model, file)


@pytest.mark.parametrize("partly", [False, True])
def test_a_runner_checks_what_it_loads(checkpoint, tmp_path, partly):
    file = checkpoint(make(HEAD, LOSS))
    _, runner = launch(4, tmp_path, "none", load_from=file, load_from_partly=partly)
    runner.model = make(HEAD, dict(LOSS, num_classes=7))
    before = {name: tensor.clone() for name, tensor in runner.model.state_dict().items()}
    if not partly:
        with pytest.raises(ValueError, match="load_from_partly=True"):
            runner.load_or_resume()
        return
    lines = []
    runner.logger.warning = lines.append
    runner.load_or_resume()
    saved = torch.load(file)["state_dict"]
    for name, tensor in runner.model.state_dict().items():
        assert torch.equal(tensor, before[name] if "loss_module" in name else saved[name])
    assert [line.partition(" weights")[0] for line in lines] == ["load_from_partly: 124"]


def test_another_model_s_projection_is_not_passed_over(checkpoint):
    class Plain(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 2)

    model = Plain()
    file = checkpoint(model)
    check_checkpoint(model, file)
    model.projection = torch.nn.Linear(2, 2)
    file = checkpoint(model)
    with pytest.raises(ValueError, match=r"2 weights are in the file alone: projection\.weight"):
        check_checkpoint(Plain(), file)


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no checkpoint .*none\.pth"):
        check_checkpoint(make(), str(tmp_path / "none.pth"))
    (tmp_path / "broken.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match=r"broken\.pth is damaged or no checkpoint"):
        check_checkpoint(make(), str(tmp_path / "broken.pth"))


# ------------------------------------------------------------------ several processes without a GPU
def launch(frozen_stages, work_dir, launcher="pytorch", **options):
    backbone = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8, frozen_stages=frozen_stages)
    config = Config(
        dict(
            default_scope="hierpretrain",
            model=options.pop("model", dict(type="HierarchicalContrastive", backbone=backbone)),
            launcher=launcher,
            work_dir=str(work_dir),
            experiment_name=f"launch_{next(NUMBERS)}",
            log_level="ERROR",
            **options,
        )
    )
    return config, build_runner(config)


def _launch_without_a_gpu(rank, world_size, work_dir):
    os.environ["LOCAL_RANK"] = str(rank)  # as torchrun does
    config, runner = launch(-1, work_dir)
    assert config.env_cfg == dict(dist_cfg=dict(backend="gloo", timeout=7200))
    assert is_model_wrapper(runner.model)
    assert not runner.model.find_unused_parameters
    config, runner = launch(
        3,
        work_dir,
        env_cfg=dict(cudnn_benchmark=False, dist_cfg=dict(backend="nccl", timeout=7)),
        model_wrapper_cfg=dict(find_unused_parameters=True),
    )
    assert config.env_cfg == dict(cudnn_benchmark=False, dist_cfg=dict(backend="gloo", timeout=7))
    assert runner.model.find_unused_parameters
    _, runner = launch(4, work_dir)  # nothing is trained, and there is nothing to exchange
    assert not is_model_wrapper(runner.model)


@pytest.mark.ddp
@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_processes_without_a_gpu_need_nothing_of_the_config_and_may_be_frozen(tmp_path):
    distributed.run(_launch_without_a_gpu, 2, tmp_path)


def _start_from_different_files(rank, world_size, work_dir):
    os.environ["LOCAL_RANK"] = str(rank)

    def start(case, contents):
        file = work_dir / f"{case}{rank}" / "epoch_1.pth"
        file.parent.mkdir()
        if contents[rank] is not None:
            file.write_bytes(contents[rank])
        launch(4, work_dir, load_from=str(file))

    start("same", (b"x", b"x"))
    file = r"epoch_1\.pth \(sha256 \w{12}\)"
    with pytest.raises(ValueError, match=f"must start from one checkpoint; rank 0 found {file} and rank 1 {file}"):
        start("other", (b"x", b"y"))
    with pytest.raises(ValueError, match=rf"rank 0 found {file} and rank 1 epoch_1\.pth \(no file\)\. Give a work"):
        start("missing", (b"x", None))


@pytest.mark.ddp
@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_processes_must_start_from_files_of_one_name_and_content(tmp_path):
    distributed.run(_start_from_different_files, 2, tmp_path)


def test_the_newest_checkpoint_is_found_wherever_resume_is_set(tmp_path):
    (tmp_path / "epoch_3.pth").touch()
    config, runner = launch(4, tmp_path, "none", resume=True)
    assert config.load_from == runner._load_from == str(tmp_path / "epoch_3.pth")
    assert config.resume
    assert runner._resume
    config, runner = launch(4, tmp_path, "none", resume="auto", load_from="start.pth")
    assert (config.load_from, config.resume) == (str(tmp_path / "epoch_3.pth"), True)
    config, runner = launch(4, tmp_path / "new", "none", resume="auto", load_from="start.pth")
    assert (config.load_from, runner._load_from, config.resume, runner._resume) == ("start.pth",) * 2 + (False,) * 2
    empty = tmp_path / "empty"
    config, runner = launch(4, empty, "none", resume=True)
    assert config.load_from is runner._load_from is None
    assert not config.resume
    assert not runner._resume


# ------------------------------------------------------------------ hooks and schedules
def hooks_of(name, work_dir, **options):
    """Returns the names of the hooks that a config of ours runs, in their order, and the lines about hooks."""
    config = load_config(name, {"model.backbone.base_channels": 8, "model.projection": None, **options})
    config.update(work_dir=str(work_dir), experiment_name=f"hooks_{next(NUMBERS)}", log_level="WARNING")
    runner = build_runner(config)
    return [type(hook).__name__ for hook in runner.hooks]


EVERY_RUN = [
    *(
        "WorkDirLockHook",
        "ImageNumbersHook",
        "RuntimeInfoHook",
        "ExactResumeHook",
        "IterTimerHook",
        "DistSamplerSeedHook",
        "BatchViolationsHook",
    ),
    *("SyncBuffersHook", "TaxonomyHook", "SkippedFilesHook"),
    *("LoggerHook", "ParamSchedulerHook"),
]
LAST = ["CheckpointHook", "TrainingPatienceHook", "MetricsFileHook"]


@pytest.mark.parametrize(
    ("hook", "evaluator", "refused"),
    [
        ({}, dict(type="RetrievalMetric"), "RetrievalMetric"),
        ({}, [dict(type="ViolationMetric"), dict(type="KNNMetric")], "ViolationMetric"),
        ({}, dict(type="EmbeddingEvaluator", metrics=[dict(type="HierarchicalRetrievalMetric")]), "HierarchicalRetr"),
        (dict(rule="greater"), dict(type="RetrievalMetric"), None),
        (dict(greater_keys=["recall"]), dict(type="RetrievalMetric"), None),
        (dict(save_best="kind/recall@1"), dict(type="RetrievalMetric"), None),
        ({}, dict(type="LinearProbeMetric"), None),
        ({}, dict(type="mmpretrain.Accuracy"), None),
        ({}, None, None),
    ],
)
def test_a_best_that_cannot_be_told_is_refused_before_the_training(hook, evaluator, refused):
    hooks = dict(checkpoint=dict(type="CheckpointHook", save_best="auto") | hook)
    config = Config(dict(default_hooks=hooks, val_evaluator=evaluator))
    if refused is None:
        check_save_best(config)
    else:
        with pytest.raises(
            ValueError, match=f"save_best='auto' goes by .* cannot tell of {refused}.*; name one, as in"
        ):
            check_save_best(config)


@pytest.mark.parametrize(
    ("sampler", "remedy"),
    [
        ("HierarchicalBatchSampler", "leave it out, and count iterations instead of epochs: .*by_epoch=False"),
        ("LevelTripletSampler", r"set train_dataloader\.batch_sampler\.triplets_per_epoch, or count iterations"),
        ("hierpretrain.datasets.LeafTripletSampler", "triplets_per_epoch, or count iterations"),
        ("mmpretrain.DefaultSampler", None),
        (None, None),
    ],
)
def test_a_shorter_epoch_that_the_batch_sampler_would_ignore_is_refused_before_the_training(sampler, remedy, tmp_path):
    loader = dict(num_batch_per_epoch=2, batch_sampler=sampler and dict(type=sampler))
    if remedy is None:
        check_num_batches(Config(dict(train_dataloader=loader)))
        return
    check_num_batches(Config(dict(train_dataloader=loader | dict(num_batch_per_epoch=None))))
    name = sampler.split(".")[-1]
    with pytest.raises(ValueError, match=f"num_batch_per_epoch does not shorten the epochs of {name}, .*{remedy}"):
        launch(-1, tmp_path, "none", train_dataloader=loader, train_cfg=dict(by_epoch=True, max_epochs=1))


def test_hooks_run_in_their_order(tmp_path):
    """What others rely on comes first: the tree and the level before the batches, exact resume before all of that."""
    pictures = ["TSNEHook", "RetrievalSheetHook"]
    assert hooks_of("himulcone_emoji", tmp_path) == [*EVERY_RUN, *pictures, *LAST]
    assert hooks_of("himulcone_emoji_seen", tmp_path) == [*EVERY_RUN, *LAST]
    with_level = [*EVERY_RUN[:10], "LevelCurriculumHook", *EVERY_RUN[10:]]
    assert hooks_of("leveltriplet_openclipart", tmp_path) == [*with_level, *pictures, *LAST]
    assert hooks_of("leaftriplet_openclipart", tmp_path) == [*EVERY_RUN, *pictures, *LAST]


def test_a_best_checkpoint_has_its_name_checked_before_other_hooks_see_the_results(tmp_path):
    best = dict(type="CheckpointHook", save_best="emoji/map", rule="greater")
    found = hooks_of("himulcone_emoji", tmp_path, default_hooks=dict(checkpoint=best))
    assert found.index("KnownBestHook") < found.index("CheckpointHook")


def test_one_s_own_hooks_are_added_and_take_the_place_of_those_of_their_type(tmp_path):
    ours = [*EVERY_RUN, "TSNEHook", "RetrievalSheetHook"]
    added = hooks_of("himulcone_emoji", tmp_path, custom_hooks=[dict(type="EarlyStoppingHook", monitor="loss")])
    assert added == [*ours, *LAST, "EarlyStoppingHook"]
    listed = ["ExactResumeHook", "hierpretrain.engine.MetricsFileHook", "TSNEHook", "TSNEHook"]
    hooks = [dict(type=kind) for kind in listed]
    config = load_config("himulcone_emoji", {"custom_hooks": hooks, "default_hooks.retrieval_sheet": None})
    config.update(work_dir=str(tmp_path / "listed"), experiment_name=f"hooks_{next(NUMBERS)}")
    found = [type(hook).__name__ for hook in build_runner(config).hooks]
    assert sorted(found) == sorted([*EVERY_RUN, "TSNEHook", "TSNEHook", *LAST])
    (log,) = (tmp_path / "listed").glob("*/*.log")
    line = "custom_hooks replace default_hooks.exact_resume, .metrics_file, .tsne"
    assert line in log.read_text()


@pytest.mark.parametrize(
    ("train_cfg", "schedulers", "expected"),
    [
        (dict(by_epoch=True, max_epochs=3), None, [("LinearLR", 0, 10), ("CosineAnnealingLR", 10, 30)]),
        (dict(by_epoch=True, max_epochs=1), None, [("LinearLR", 0, 10)]),
        (dict(by_epoch=False, max_iters=27), None, [("LinearLR", 0, 10), ("CosineAnnealingLR", 10, 27)]),
        (dict(by_epoch=False, max_iters=4), None, [("LinearLR", 0, 10)]),
        (dict(by_epoch=False, max_iters=10), None, [("LinearLR", 0, 10)]),
        (dict(by_epoch=True, max_epochs=3), dict(type="PolyLR", by_epoch=False, begin=2), [("PolyLR", 2, 30)]),
        (dict(by_epoch=True, max_epochs=3), dict(type="PolyLR"), [("PolyLR", 0, 3)]),
        (dict(by_epoch=True, max_epochs=3), dict(type="PolyLR", begin=1, end=2), [("PolyLR", 1, 2)]),
        (dict(by_epoch=True, max_epochs=3), [dict(type="PolyLR", begin=5, end=9)], [("PolyLR", 5, 9)]),
    ],
)
def test_a_schedule_without_an_end_ends_with_the_training(tmp_path, train_cfg, schedulers, expected):
    """Epochs have ten batches, and all but by_epoch=True alone counts batches."""
    loader = dict(dataset=dict(type="Ten"), batch_size=1, num_workers=0)
    options = dict(train_cfg=train_cfg, train_dataloader=dict(**loader, sampler=dict(type="DefaultSampler")))
    _, runner = launch(
        -1,
        tmp_path,
        "none",
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=1.0)),
        param_scheduler=schedulers or load_config("himulcone_emoji").param_scheduler,
        **options,
    )
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    built = runner.build_param_scheduler(runner.param_schedulers)
    assert [(type(part).__name__, part.begin, part.end) for part in built] == expected


# ------------------------------------------------------------------ numbers of classes
TREE = Taxonomy([("a", "x"), ("a", "y"), ("b", "z")], ("kind", "thing"))


@DATASETS.register_module()
class Drawn:
    """A data set with a tree, which counts how often it is made."""

    made = 0

    def __init__(self):
        Drawn.made += 1
        self.labels = TREE.node_labels(2)
        self.metainfo = dict(taxonomy=TREE.to_dict())

    def __len__(self):
        return 3


def run_with(loss, tmp_path, dataset="Drawn"):
    backbone = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
    loader = dict(dataset=dict(type=dataset), sampler=dict(type="DefaultSampler"), batch_size=1, num_workers=0)
    _, runner = launch(
        -1,
        tmp_path,
        "none",
        model=dict(type="HierarchicalContrastive", backbone=backbone, loss=dict(in_channels=64, **loss)),
        train_dataloader=loader if dataset else None,
        train_cfg=dict(by_epoch=True, max_epochs=1) if dataset else None,
        optim_wrapper=dict(optimizer=dict(type="AdamW", lr=1.0)) if dataset else None,
    )
    return runner


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (dict(type="LevelCrossEntropyLoss"), 3),
        (dict(type="hierpretrain.models.HXELoss", level=1, num_classes=None), 2),
        (dict(type="GuidedLoss", level="kind", max_classes=2), 2),
        (dict(type="SoftLabelLoss", level="thing"), 3),
        (dict(type="HAPPIERLoss", level=-2, lam=0.5), 2),
        (dict(type="HierarchicalJointLoss"), [2, 3]),
    ],
    ids=lambda value: value.get("type") if isinstance(value, dict) else None,
)
def test_losses_learn_from_the_training_data_how_many_classes_there_are(tmp_path, loss, expected):
    runner = run_with(loss, tmp_path)
    assert runner.model.loss_module.num_classes == expected
    (dumped,) = tmp_path.glob("*.py")
    assert Config.fromfile(dumped).model.loss.num_classes == expected  # the config of a checkpoint stands alone
    made = Drawn.made
    assert isinstance(runner.train_dataloader.dataset, Drawn)
    assert Drawn.made == made  # it is built once


def test_so_does_the_contrastive_part_of_a_joint_loss(tmp_path):
    contrastive = dict(type="HAPPIERLoss", level="kind")
    loss = run_with(dict(type="HierarchicalJointLoss", contrastive=contrastive), tmp_path).model.loss_module
    assert (loss.num_classes, loss.contrastive.num_classes) == ([2, 3], 2)
    assert loss.contrastive.proxies.shape == (2, 64)


def test_a_number_that_is_given_is_taken(tmp_path):
    made = Drawn.made
    assert run_with(dict(type="LevelCrossEntropyLoss", num_classes=7), tmp_path).model.loss_module.num_classes == 7
    assert Drawn.made == made


@pytest.mark.parametrize(
    ("loss", "dataset", "message"),
    [
        ({}, "Ten", "takes num_classes from the tree of the training data, and Ten has none; set model.loss.num_cla"),
        ({}, None, "the config has no train_dataloader; set model.loss.num_classes, or, .* alone, model.loss=None"),
        (dict(level="knid"), "Drawn", r"no level 'knid' \(did you mean 'kind'\?\): levels are 1"),
    ],
)
def test_where_the_number_of_classes_cannot_be_learnt_the_message_says_what_to_give(tmp_path, loss, dataset, message):
    with pytest.raises(ValueError, match=message):
        run_with(dict(type="LevelCrossEntropyLoss", **loss), tmp_path, dataset)


class _Started(Exception):
    """Processes would now find each other."""


@pytest.fixture
def environment(monkeypatch):
    """Returns a function that starts a process in an environment and returns the backend, the patience and the rest."""

    def stop(backend, **options):
        raise _Started(backend, options)

    def start(launcher, work_dir, variables, **options):
        for name in ("MASTER_ADDR", "MASTER_PORT", "RANK", "WORLD_SIZE", "LOCAL_RANK", "SLURM_PROCID"):
            monkeypatch.setenv(name, "")  # and what was there before comes back
            monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(_Started) as started:
            launch(-1, work_dir, launcher, **options)
        return started.value.args

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.distributed, "init_process_group", stop)
    return start


TORCHRUN = dict(RANK="0", WORLD_SIZE="2", MASTER_ADDR="127.0.0.1", MASTER_PORT="29500")


@pytest.mark.parametrize("name", TORCHRUN)
def test_a_process_that_torchrun_did_not_start_says_so(environment, tmp_path, name):
    variables = {key: value for key, value in TORCHRUN.items() if key != name}
    with pytest.raises(ValueError, match=f"is for processes that torchrun starts, and {name} is not set; use tools/di"):
        environment("pytorch", tmp_path, variables)


def test_processes_wait_for_each_other_as_long_as_the_config_says(environment, tmp_path):
    two_hours = ("gloo", dict(timeout=timedelta(hours=2)))
    assert environment("pytorch", tmp_path, TORCHRUN) == two_hours
    assert environment("pytorch", tmp_path, TORCHRUN, env_cfg=dict(dist_cfg=dict(backend="nccl"))) == two_hours
    a_minute = dict(dist_cfg=dict(backend="nccl", timeout=60))
    assert environment("pytorch", tmp_path, TORCHRUN, env_cfg=a_minute) == ("gloo", dict(timeout=timedelta(minutes=1)))


def test_processes_that_torchrun_restarts_do_not_meet_the_addresses_of_those_before(environment, tmp_path, monkeypatch):
    store = torch.distributed.HashStore()
    store.set("address", "of a process that was lost")
    monkeypatch.setattr(torch.distributed, "rendezvous", lambda url, timeout: iter([(store, 1, 2)]))
    _, options = environment("pytorch", tmp_path, dict(TORCHRUN, TORCHELASTIC_RESTART_COUNT="1"))
    assert (options["rank"], options["world_size"]) == (1, 2)
    assert not options["store"].check(["address"])
    options["store"].set("address", "anew")
    assert store.get("address") == b"of a process that was lost"


SLURM = dict(SLURM_PROCID="3", SLURM_NTASKS="4", SLURM_LOCALID="1", SLURM_NODELIST="node[1-2]")


def test_a_process_learns_its_place_from_slurm(environment, tmp_path):
    environment("slurm", tmp_path, {**SLURM, "MASTER_ADDR": "node1", "MASTER_PORT": "1234"})
    place = dict(RANK="3", WORLD_SIZE="4", LOCAL_RANK="1", MASTER_ADDR="node1", MASTER_PORT="1234")
    assert {name: os.environ[name] for name in place} == place
    scontrol = tmp_path / "scontrol"
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostname node[1-2]" ] && echo node1 && echo node2\n')
    scontrol.chmod(0o755)
    environment("slurm", tmp_path, {**SLURM, "PATH": f"{tmp_path}:{os.environ['PATH']}"})
    assert {name: os.environ[name] for name in place} == {**place, "MASTER_PORT": "29500"}


def test_what_slurm_does_not_say_is_asked_for(environment, tmp_path):
    with pytest.raises(ValueError, match=r"--launcher slurm is for processes that srun starts; use tools/slurm_"):
        environment("slurm", tmp_path, {})
    with pytest.raises(ValueError, match=r"scontrol does not name the machines of SLURM_NODELIST=node\[1-2\]: "):
        environment("slurm", tmp_path, {**SLURM, "PATH": str(tmp_path)})


def test_launchers_that_need_a_gpu_say_so(environment, tmp_path):
    with pytest.raises(ValueError, match="without a GPU, launcher must be 'none', 'pytorch' or 'slurm'; it is 'mpi'"):
        environment("mpi", tmp_path, {})
