import os
import time

import numpy as np
import pytest
import timm
import torch
from mmengine.model import BaseModule
from PIL import Image

from hierpretrain.engine import FrozenFeaturesHook
from hierpretrain.models import HierarchicalContrastive
from hierpretrain.models.frozen_part import FrozenPart
from hierpretrain.models.stages import freeze_stages, keep_frozen_parts_in_evaluation
from hierpretrain.registry import HOOKS, MODELS
from tests import distributed
from tests.engine.test_frozen_features import NUM, PACK, RESIZE, RESNET, assert_same, kept, losses, make, train
from tests.processes import CONTEXT, PATIENCE


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Pictures whose parts differ, so that their views do."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(NUM):
        path = root / f"kind{i % 2}/thing{i % 4}/{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        coarse = Image.fromarray(rng.integers(0, 256, (5, 6, 3), np.uint8))
        coarse.resize((60, 50), Image.Resampling.BILINEAR).save(path)
    return root


class OfTimm(BaseModule):
    """A timm encoder whose first stages are frozen."""

    def __init__(self, build, frozen):
        super().__init__()
        self.encoder = build()
        freeze_stages(self.encoder, frozen)

    def train(self, mode=True):
        super().train(mode)
        keep_frozen_parts_in_evaluation(self.encoder)
        return self

    def forward(self, x):
        return (self.encoder(x),)


@MODELS.register_module()
class FrozenTestEfficientNet(OfTimm):
    def __init__(self, frozen=6):
        build = timm.models.efficientnet._gen_efficientnet_lite
        super().__init__(lambda: build("efficientnet_lite0", channel_multiplier=0.25, num_classes=0), frozen)


@MODELS.register_module()
class FrozenTestTransformer(OfTimm):
    def __init__(self, frozen=2):
        options = dict(img_size=32, patch_size=8, embed_dim=16, depth=4, num_heads=2, num_classes=0)
        super().__init__(lambda: timm.models.VisionTransformer(drop_path_rate=0.3, **options), frozen)


ENCODERS = {
    "resnet": dict(
        backbone=dict(RESNET, frozen_stages=3),
        projection=dict(type="ProjectionHead", in_channels=64, out_channels=8),
        neck=None,
    ),
    "efficientnet": dict(backbone=dict(type="FrozenTestEfficientNet"), neck=None),
    "transformer": dict(backbone=dict(type="FrozenTestTransformer"), neck=None),
}
VIEWS = dict(
    type="Views",
    transforms=[
        dict(type="torchvision/RandomResizedCrop", size=32, scale=(0.3, 1.0)),
        dict(type="torchvision/RandomHorizontalFlip"),
    ],
)
PIPELINE = [dict(type="LoadRGB"), VIEWS, PACK]
TURNED = [
    PIPELINE[0],
    dict(VIEWS, transforms=[*VIEWS["transforms"], dict(type="torchvision/RandomVerticalFlip")]),
    PACK,
]
RANDOM = dict(loader={"dataset.pipeline": PIPELINE}, hook=dict(num_views=6))


# Adam would divide gradients near 0, and their rounding, by themselves
SGD = {"optim_wrapper.optimizer": dict(_delete_=True, type="SGD", lr=1e-3)}


def options(encoder, **more):
    return dict(model=ENCODERS[encoder], **SGD, **more)


def with_hook(**hook):
    return {**RANDOM, "hook": {**RANDOM["hook"], **hook}}


# ------------------------------------------------------------------ a frozen part
@pytest.mark.parametrize("encoder", ENCODERS)
def test_training_behind_frozen_stages_is_training_from_images(images, tmp_path, encoder):
    plain = train(images, tmp_path / "plain", cached=False, **options(encoder))
    cached = train(images, tmp_path / "cached", **options(encoder))
    assert_same(cached, plain, rtol=1e-4, atol=1e-5)
    assert len(losses(cached)) == 6


def test_only_the_stages_behind_the_frozen_ones_run_on_the_batch(images, tmp_path):
    runner = make(images, tmp_path, epochs=1, **options("resnet"))
    seen = {name: [] for name in ("conv1", "layer1", "layer3", "layer4")}
    hook = HOOKS.build(dict(type="EmptyCacheHook", _scope_="mmengine"))
    runner.register_hook(hook, "LOWEST")

    def watch(*_):
        for name, sizes in seen.items():
            module = getattr(runner.model.backbone, name)
            module.register_forward_pre_hook(lambda m, inputs, sizes=sizes: sizes.append(len(inputs[0])))

    hook.before_train = watch
    runner.train()
    assert seen["layer4"] == [4, 4, 2]
    assert seen["conv1"] == [1, 1, 1]
    (file,) = kept(tmp_path)
    assert np.load(file).shape == (NUM, 32, 2, 2)


def test_gradient_caching_goes_on_from_kept_features(images, tmp_path):
    fixed = dict(RESNET, frozen_stages=3, norm_eval=True)
    model = {**ENCODERS["resnet"], "backbone": fixed}
    plain, cached = (
        train(images, tmp_path, model={**model, "grad_cache": size}, **SGD, **RANDOM) for size in (None, 3)
    )
    assert_same(cached, plain, rtol=1e-3, atol=1e-4)


# ------------------------------------------------------------------ views
class Kept:
    """Gives the views that the hook says it gives, as images."""

    def __init__(self, dataset, num_views, view_seed, draw):
        self.draw, passes = draw, num_views // 2
        own, dataset.seed = dataset.seed, view_seed
        self.items = []
        for epoch in range(passes):
            dataset.set_epoch(epoch)
            self.items.append([dataset[i] for i in range(len(dataset))])
        dataset.seed = own
        dataset.set_epoch(0)

    def __call__(self, info):
        index = info["sample_idx"]
        views = [view for items in self.items for view in items[index]["inputs"]]
        chosen = np.random.permutation(len(views))[:2]  # noqa: NPY002  as the hook
        self.draw.append((index, tuple(chosen.tolist())))
        return {**self.items[0][index], "inputs": [views[i] for i in chosen]}


@pytest.mark.parametrize("encoder", ENCODERS)
def test_training_from_kept_views_is_training_from_these_views(images, tmp_path, encoder):
    plain = make(images, tmp_path / "plain", cached=False, loader=RANDOM["loader"], epochs=3, **options(encoder))
    dataset, drawn = plain.train_dataloader.dataset, []
    dataset._pipeline = Kept(dataset, 6, 7, drawn)
    plain.train()
    cached = train(images, tmp_path / "cached", epochs=3, **with_hook(view_seed=7), **options(encoder))
    assert_same(cached, plain, rtol=1e-4, atol=1e-5)
    pairs = [pair for _, pair in drawn]
    assert len(pairs) == 3 * NUM
    assert all(a != b for a, b in pairs)
    assert {view for pair in pairs for view in pair} == set(range(6))


def joined(images, *pipelines):
    """The images once with the first pipeline, and twice with the second."""
    first, second = (dict(type="FolderDataset", data_root=str(images), pipeline=list(steps)) for steps in pipelines)
    again = dict(type="RepeatDataset", dataset=second, times=2)
    return {"dataset": dict(_delete_=True, type="ConcatDataset", datasets=[first, again])}


def test_the_views_of_joined_data_sets_are_kept_as_of_one(images, tmp_path):
    loader = joined(images, PIPELINE, TURNED)
    plain = make(images, tmp_path / "plain", cached=False, loader=loader, epochs=1, **options("resnet"))
    dataset = plain.train_dataloader.dataset
    first, second = dict.fromkeys(dataset.datasets)
    first._pipeline = second._pipeline = Kept(dataset, 4, 0, [])
    plain.train()
    cached = make(images, tmp_path / "cached", loader=loader, epochs=1, hook=dict(num_views=4), **options("resnet"))
    first, second = dict.fromkeys(cached.train_dataloader.dataset.datasets)
    before = [first._pipeline, second._pipeline]
    cached.train()
    assert_same(cached, plain, rtol=1e-4, atol=1e-5)
    assert (first.seed, second.seed) == (3, 3)  # the run's
    assert [first._pipeline, second._pipeline] == before
    (file,) = kept(tmp_path / "cached")
    array = np.load(file)
    assert array.shape[:2] == (4, 3 * NUM)
    assert not np.allclose(array[:, NUM : 2 * NUM], array[:, 2 * NUM :])  # each time with other random transforms


def test_joined_data_sets_that_do_not_go_together(images, tmp_path):
    one = [PIPELINE[0], *VIEWS["transforms"], PACK]
    with pytest.raises(ValueError, match=r"must make equally many views of an image .*; they make \[2, 1\]"):
        train(images, tmp_path, loader=joined(images, PIPELINE, one), hook=dict(num_views=4), **options("resnet"))
    fixed = [PIPELINE[0], dict(type="torchvision/Resize", size=(32, 32)), PACK]
    with pytest.raises(ValueError, match="RandomResizedCrop in the training pipeline is not known to be free of"):
        train(images, tmp_path, loader=joined(images, fixed, one), **options("resnet"))


def test_images_of_several_sizes_are_refused(images, tmp_path):
    small, large = ([PIPELINE[0], dict(type="torchvision/Resize", size=(n, n)), PACK] for n in (32, 64))
    with pytest.raises(ValueError, match=r"0\.png have the size 32x4x4, .*; have the pipeline make all images equally"):
        train(images, tmp_path, loader=joined(images, small, large), hook=dict(batch_size=1), **options("resnet"))
    assert kept(tmp_path) == []


def test_views_are_those_of_the_first_epochs(images, tmp_path):
    runner = train(images, tmp_path, epochs=1, **with_hook(num_views=4, view_seed=5), **options("efficientnet"))
    (file,) = kept(tmp_path)
    array = torch.from_numpy(np.load(file))
    dataset, model = runner.train_dataloader.dataset, runner.model.eval()
    assert dataset.seed == 3  # the run's
    assert model.frozen_part is None
    dataset.seed = 5
    part = FrozenPart(model.backbone)
    for epoch in range(2):
        dataset.set_epoch(epoch)
        items = [dataset[i]["inputs"] for i in range(NUM)]
        for view in range(2):
            inputs = model.data_preprocessor(dict(inputs=[item[view] for item in items]))["inputs"]
            torch.testing.assert_close(array[2 * epoch + view], part.features(inputs), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_run_resumed_in_the_middle_of_an_epoch_goes_on_with_the_same_bits(images, tmp_path, workers):
    settings = dict(
        epochs=3,
        checkpoint=dict(type="CheckpointHook", interval=1, by_epoch=False),
        loader={
            **RANDOM["loader"],
            "num_workers": workers,
            "persistent_workers": workers > 0,
            "batch_sampler": dict(type="HierarchicalBatchSampler"),
        },
        hook=dict(num_views=4, dtype="float16", folder=str(tmp_path / "shared")),
        **options("transformer"),
    )
    whole = train(images, tmp_path / "whole", **settings)
    number = len(losses(whole))
    assert number % 3 == 0
    middle = number // 3 + 1
    checkpoint = str(tmp_path / f"whole/iter_{middle}.pth")
    rest = train(images, tmp_path / "rest", load_from=checkpoint, resume=True, **settings)
    assert losses(rest)[middle:].tolist() == losses(whole)[middle:].tolist()
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, rest.model.state_dict()[name]), name
    (file,) = (tmp_path / "shared").iterdir()
    assert np.load(file).dtype == np.float16


def test_the_file_depends_on_the_frozen_part_and_the_views_alone(images, tmp_path, monkeypatch):
    folder = tmp_path / "shared"

    def files(change=None, seed=3, **hook):
        hook = dict(num_views=4, folder=str(folder)) | hook
        runner = make(
            images,
            tmp_path / str(time.monotonic_ns()),
            loader=RANDOM["loader"],
            hook=hook,
            epochs=1,
            **options("resnet"),
            **{"randomness.seed": seed, "optim_wrapper.optimizer.lr": 1e-4 * seed},
        )
        torch.manual_seed(0)
        for parameter in runner.model.backbone.parameters():
            torch.nn.init.uniform_(parameter, -0.1, 0.12)
        if change:
            with torch.no_grad():
                runner.model.backbone.get_parameter(change).view(-1)[0] += 1
        runner.train()
        return len(list(folder.iterdir()))

    assert files() == 1
    with monkeypatch.context() as patch:
        patch.setattr(FrozenFeaturesHook, "_write", lambda *_: pytest.fail("views were embedded again"))
        assert files(seed=4) == 1
        assert files(change="layer4.0.conv1.weight") == 1
    assert files(change="layer3.0.conv1.weight") == 2
    assert files(change="conv1.weight") == 3
    assert files(view_seed=1) == 4
    assert files(num_views=6) == 5
    assert files(dtype="float16") == 6
    monkeypatch.setitem(RANDOM["loader"], "dataset.pipeline", TURNED)
    assert files() == 7


def _train_once(images, work_dir, folder, ready, results):
    torch.set_num_threads(1)
    runner = make(images, work_dir, epochs=1, **with_hook(folder=str(folder)), **options("resnet"))
    said, write, info = [], FrozenFeaturesHook._write, runner.logger.info

    def slowly(*arguments):
        said.append("written")
        time.sleep(3)  # until the other has come
        write(*arguments)

    FrozenFeaturesHook._write = slowly
    runner.logger.info = lambda text, *rest: said.append("again") if "used again" in text else info(text, *rest)
    ready.wait(PATIENCE)
    runner.train()
    results.put((said, losses(runner).tolist()))


def test_of_two_runs_that_start_at_once_one_writes_the_file(images, tmp_path):
    results, ready = CONTEXT.SimpleQueue(), CONTEXT.Barrier(2)
    processes = [
        CONTEXT.Process(target=_train_once, args=(images, tmp_path / str(i), tmp_path / "shared", ready, results))
        for i in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
        assert process.exitcode == 0
    (a, of_a), (b, of_b) = results.get(), results.get()
    assert sorted([a, b]) == [["again"], ["written"]]
    assert of_a == of_b
    assert len(list((tmp_path / "shared").iterdir())) == 1


def _on_two_processes(rank, world_size, images, work_dir):
    os.environ["LOCAL_RANK"] = str(rank)
    runner = train(images, work_dir, launcher="pytorch", epochs=1, **RANDOM, **options("resnet"))
    torch.save(runner.model.module.state_dict(), work_dir / f"{rank}.pth")


@pytest.mark.ddp
def test_two_processes_share_the_views(images, tmp_path):
    distributed.run(_on_two_processes, 2, images, tmp_path / "two")
    train(images, tmp_path / "one", epochs=1, **RANDOM, **options("resnet"))
    (one,), (two,) = kept(tmp_path / "one"), kept(tmp_path / "two")
    assert one.name == two.name
    np.testing.assert_allclose(np.load(two), np.load(one), rtol=1e-4, atol=1e-5)
    a, b = (torch.load(tmp_path / f"two/{rank}.pth", weights_only=True) for rank in (0, 1))
    assert all(torch.equal(a[name], b[name]) for name in a if "running" not in name)


# ------------------------------------------------------------------ evaluation
def evaluation(images, work_dir, model, pipeline=(dict(type="LoadRGB"), RESIZE, PACK), **hook):
    return make(
        images,
        work_dir,
        model={**model, "loss": None},
        hook=dict(evaluation=True, **hook),
        cached=hook != {"none": True},
        test_dataloader=dict(
            batch_size=5,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=False),
            dataset=dict(type="FolderDataset", data_root=str(images), pipeline=list(pipeline)),
        ),
        test_cfg=dict(type="EmbeddingTestLoop", cache=None),
        test_evaluator=dict(type="EmbeddingEvaluator", metrics=[dict(type="RetrievalMetric", levels=[1])]),
    )


def embedded(runner):
    found = {}
    predict = runner.model.predict

    def watched(inputs, samples=None):
        given = predict(inputs, samples)
        found.update({sample.sample_idx: sample.embedding for sample in given})
        return given

    runner.model.predict = watched
    metrics = runner.test()
    return torch.stack([found[i] for i in range(NUM)]), metrics


@pytest.mark.parametrize(
    ("encoder", "share"), [*((encoder, 0.0) for encoder in (*ENCODERS, "frozen")), ("resnet", 0.5), ("frozen", 0.5)]
)
def test_another_checkpoint_of_the_same_frozen_part_is_embedded_from_kept_features(
    images, tmp_path, encoder, share, monkeypatch
):
    model = dict(backbone=RESNET, neck=None) if encoder == "frozen" else ENCODERS[encoder]
    model = {**model, "pretrained_share": share}
    folder = str(tmp_path / "shared")
    for trained in range(2):
        if trained:
            monkeypatch.setattr(FrozenFeaturesHook, "_write", lambda *_: pytest.fail("images were embedded again"))
        runners = [
            evaluation(images, tmp_path / "plain", model, none=True),
            evaluation(images, tmp_path / "kept", model, folder=folder),
        ]
        for runner in runners:
            for parameter in runner.model.backbone.parameters():
                if parameter.requires_grad:
                    torch.nn.init.normal_(parameter, 0.1 * trained, 0.05, torch.Generator().manual_seed(trained))
        (plain, expected), (ours, metrics) = map(embedded, runners)
        torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
        assert metrics == pytest.approx(expected)
    assert runners[1].test_dataloader.dataset[0].keys() == {"inputs", "data_samples"}


@pytest.mark.parametrize("encoder", ["resnet", "frozen"])
def test_a_copy_of_an_encoder_that_froze_less_is_told(images, tmp_path, encoder):
    model = dict(backbone=RESNET, neck=None) if encoder == "frozen" else ENCODERS[encoder]
    runner = evaluation(images, tmp_path, {**model, "pretrained_share": 0.5})
    torch.nn.init.normal_(runner.model.pretrained.backbone.conv1.weight)
    with pytest.raises(ValueError, match=r"the frozen part .* is not that of its copy .* set evaluation=False"):
        runner.test()


def test_validation_goes_on_from_kept_features_while_training(images, tmp_path, monkeypatch):
    def validated(evaluation):
        runner = make(
            images,
            tmp_path / str(evaluation),
            **with_hook(evaluation=evaluation),
            **options("resnet"),
            val_dataloader=dict(
                batch_size=5,
                num_workers=0,
                sampler=dict(type="DefaultSampler", shuffle=False),
                dataset=dict(
                    type="FolderDataset",
                    data_root=str(images),
                    pipeline=[dict(type="LoadRGB"), dict(RESIZE, size=(48, 48)), PACK],
                ),
            ),
            val_cfg=dict(),
            val_evaluator=[dict(type="RetrievalMetric", levels=[1])],
            **{"train_cfg.val_interval": 1},
        )
        given, predict = [], runner.model.predict
        runner.model.predict = lambda inputs, *rest: given.append(predict(inputs, *rest)) or given[-1]
        runner.train()
        return torch.stack([sample.embedding for batch in given for sample in batch]), runner

    (plain, _), (ours, runner) = validated(False), validated(True)
    assert len(ours) == 2 * NUM
    torch.testing.assert_close(ours, plain, rtol=1e-4, atol=1e-5)
    assert {tuple(np.load(file).shape) for file in kept(tmp_path / "True")} == {(6, NUM, 32, 2, 2), (NUM, 32, 3, 3)}
    assert runner.val_dataloader.dataset[0].keys() == {"inputs", "data_samples"}


# ------------------------------------------------------------------ what is said
def test_the_size_of_all_views_is_said_before(images, tmp_path, monkeypatch):
    logged = []
    runner = make(images, tmp_path, epochs=1, **RANDOM, **options("resnet"))
    monkeypatch.setattr(runner.logger, "info", logged.append)
    runner.train()
    assert f"6 views x {NUM} images x 512 bytes = 0.00 GiB of frozen features, 32x2x2 float32" in "\n".join(logged)
    assert f"{3 * NUM} of {3 * NUM} images embedded" in logged


def test_what_it_cannot_do_is_said(images, tmp_path):
    with pytest.raises(ValueError, match=r"num_views must be a multiple of 2, the views that the pipeline .*; it is 3"):
        train(images, tmp_path, **with_hook(num_views=3), **options("resnet"))
    with pytest.raises(ValueError, match=r"Views in the training pipeline is not known .* keep several views of each"):
        train(images, tmp_path, loader=RANDOM["loader"], **options("resnet"))
    with pytest.raises(ValueError, match="makes 2 views of an image: say how many are kept by Frozen"):
        train(images, tmp_path, loader=RANDOM["loader"], hook=dict(deterministic=["Views"]), **options("resnet"))
    with pytest.raises(ValueError, match="Views in the test pipeline is not known to be free of randomness"):
        evaluation(images, tmp_path, ENCODERS["resnet"], PIPELINE).test()
    with pytest.raises(ValueError, match="num_views must be at least 1; it is 0"):
        HOOKS.build(dict(type="FrozenFeaturesHook", num_views=0))
    with pytest.raises(ValueError, match="view_seed must be an integer from 0; it is -1"):
        HOOKS.build(dict(type="FrozenFeaturesHook", view_seed=-1))
    assert isinstance(HierarchicalContrastive(dict(RESNET)).frozen_part, type(None))
