import os
import pickle
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import RepeatDataset

from hierpretrain.apis import build_runner
from hierpretrain.engine import ExactResumeHook, fingerprint, frozen_features
from hierpretrain.models import HierarchicalContrastive
from hierpretrain.registry import HOOKS
from tests import distributed
from tests.datasets.trees import write_image

NUM = 10
RESNET = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8, frozen_stages=4)
VGG = dict(type="VGG16Convolutions", base_channels=4)
FULLY_CONNECTED = dict(type="VGG16FullyConnected", in_channels=32, out_channels=16, dropout=0.5)
RESIZE = dict(type="torchvision/Resize", size=(32, 32), interpolation="bilinear")
PACK = dict(type="PackInputs", algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split"))
ENCODERS = {
    "resnet": dict(backbone=RESNET, projection=dict(type="ProjectionHead", in_channels=64, out_channels=8)),
    "vgg": dict(backbone=VGG, neck=FULLY_CONNECTED),
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for i in range(NUM):
        colour = tuple(rng.integers(0, 256, 3).tolist())
        write_image(root / f"kind{i % 2}/thing{i % 4}/{i}.png", colour, (20 + i, 40))
    return root


def make(
    images, work_dir, *, encoder="vgg", cached=True, loader=(), model=(), epochs=2, hook=(), checkpoint=None, **options
):
    config = Config(
        dict(
            default_scope="hierpretrain",
            model={
                **dict(type="HierarchicalContrastive", loss=dict(type="SupConLoss", level=1)),
                **ENCODERS[encoder],
                **dict(model),
            },
            train_dataloader=dict(
                batch_size=4,
                num_workers=0,
                sampler=dict(type="DefaultSampler", shuffle=True),
                dataset=dict(
                    type="FolderDataset", data_root=str(images), pipeline=[dict(type="LoadRGB"), RESIZE, PACK]
                ),
            ),
            train_cfg=dict(by_epoch=True, max_epochs=epochs, val_interval=100),
            optim_wrapper=dict(optimizer=dict(type="AdamW", lr=1e-3)),
            custom_hooks=[dict(type="ExactResumeHook")] + [dict(type="FrozenFeaturesHook", **dict(hook))] * cached,
            default_hooks=dict(checkpoint=checkpoint, logger=dict(type="LoggerHook", interval=1)),
            env_cfg=dict(dist_cfg=dict(backend="gloo")),
            randomness=dict(seed=3),
            log_level="WARNING",
            work_dir=str(work_dir),
            experiment_name=f"{Path(work_dir).name}_{time.monotonic_ns()}",
        )
    )
    config.merge_from_dict({f"train_dataloader.{key}": value for key, value in dict(loader).items()})
    config.merge_from_dict(options)
    torch.manual_seed(0)
    runner = build_runner(config)
    torch.manual_seed(0)
    for name, parameter in runner.model.named_parameters():  # else the residual branches are off
        if name.endswith(("bn1.weight", "bn2.weight")):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
    model = getattr(runner.model, "module", runner.model)
    if model.pretrained is not None:
        model.pretrained.take(model.backbone, model.neck)
    model._is_init = True  # the weights stay as they are
    return runner


def train(*arguments, **options):
    runner = make(*arguments, **options)
    runner.train()
    return runner


def losses(runner):
    return runner.message_hub.get_scalar("train/loss").data[0]


def assert_same(a, b, **tolerance):
    np.testing.assert_allclose(losses(a), losses(b), **tolerance)
    others = b.model.state_dict()
    for name, tensor in a.model.state_dict().items():
        torch.testing.assert_close(tensor, others[name], **tolerance, msg=name)


def truncate(path):
    """Leaves of an image so much that it is still told for one."""
    os.truncate(path, 40)


def kept(work_dir):
    return sorted((work_dir / "features").iterdir())


# ------------------------------------------------------------------ equality
@pytest.mark.parametrize("encoder", ENCODERS)
@pytest.mark.parametrize("batch_size", [4, 64])
def test_training_from_features_is_training_from_images(images, tmp_path, encoder, batch_size):
    plain = train(images, tmp_path / "plain", encoder=encoder, cached=False)
    cached = train(images, tmp_path / "cached", encoder=encoder, hook=dict(batch_size=batch_size))
    assert_same(cached, plain, rtol=1e-5, atol=1e-6)
    assert len(losses(cached)) == 6
    assert len(set(losses(cached))) >= 5  # an epoch's last batch may be two images of one class, whose loss is 0


def test_of_one_batch_composition_every_bit_is_the_same(images, tmp_path):
    options = dict(encoder="vgg", loader=dict(batch_size=1), epochs=1, model=dict(normalize=False))
    plain = train(images, tmp_path / "plain", cached=False, **options)
    cached = train(images, tmp_path / "cached", hook=dict(batch_size=1), **options)
    assert_same(cached, plain, rtol=0, atol=0)


def test_in_mixed_precision_it_is_the_same_and_another_file(images, tmp_path):
    options = {"optim_wrapper.type": "BF16OptimWrapper"}
    plain = train(images, tmp_path / "plain", cached=False, **options)
    cached = train(images, tmp_path / "cached", hook=dict(batch_size=4), **options)
    assert_same(cached, plain, rtol=2e-2, atol=1e-3)
    train(images, tmp_path / "cached")
    assert len(kept(tmp_path / "cached")) == 2


def test_what_is_kept_is_what_the_backbone_hands_on(images, tmp_path):
    for encoder, shape in (("vgg", (NUM, 32, 1, 1)), ("resnet", (NUM, 64))):
        runner = train(images, tmp_path / encoder, encoder=encoder)
        (file,) = kept(tmp_path / encoder)
        rows = torch.from_numpy(np.load(file))
        assert rows.shape == shape
        dataset = runner.train_dataloader.dataset
        inputs = runner.model.data_preprocessor(dict(inputs=[dataset[i]["inputs"] for i in range(NUM)]))["inputs"]
        expected = runner.model.backbone(inputs)[0]
        torch.testing.assert_close(rows, expected if encoder == "vgg" else expected.mean((2, 3)), rtol=1e-5, atol=1e-6)


def test_half_precision_halves_the_file_and_rounds(images, tmp_path):
    train(images, tmp_path / "whole")
    train(images, tmp_path / "half", hook=dict(dtype="float16"))
    (whole,), (half,) = kept(tmp_path / "whole"), kept(tmp_path / "half")
    assert whole.stem != half.stem
    assert np.load(half).dtype == np.float16
    assert np.array_equal(np.load(half), np.load(whole).astype(np.float16))


# ------------------------------------------------------------------ the file
def test_the_file_is_used_again_and_images_are_not_read(images, tmp_path, monkeypatch):
    first = train(images, tmp_path)
    (file,) = kept(tmp_path)
    written = file.stat().st_mtime_ns
    with monkeypatch.context() as patch:
        patch.setattr(HierarchicalContrastive, "frozen_features", lambda *_: pytest.fail("images were embedded again"))
        assert_same(train(images, tmp_path), first, rtol=0, atol=0)
    assert file.stat().st_mtime_ns == written
    other = make(images, tmp_path)
    with torch.no_grad():
        other.model.backbone[0].weight[0, 0, 0, 0] += 1
    other.train()
    train(images, tmp_path, loader={"dataset.pipeline.1.size": (40, 40)})
    assert len(kept(tmp_path)) == 3


def test_a_relative_folder_is_below_the_work_directory_and_an_absolute_one_is_itself(images, tmp_path):
    train(images, tmp_path / "a", hook=dict(folder="kept/here"))
    train(images, tmp_path / "b", hook=dict(folder=str(tmp_path / "shared")))
    assert [path.name for path in (tmp_path / "a/kept/here").iterdir()] == [
        path.name for path in (tmp_path / "shared").iterdir()
    ]


@pytest.mark.parametrize("size", [50, 500])
def test_a_damaged_file_is_named(images, tmp_path, size):
    train(images, tmp_path)
    (file,) = kept(tmp_path)
    os.truncate(file, size)
    with pytest.raises(ValueError, match=rf"{file.name} is damaged: .*; it holds frozen features: delete it"):
        train(images, tmp_path)
    np.save(file, np.zeros((3, 32, 1, 1), np.float32))
    with pytest.raises(ValueError, match=rf"are damaged: they are 3 of float32, not {NUM} of float32; delete"):
        train(images, tmp_path)


def test_an_error_on_the_way_leaves_no_file(images, tmp_path):
    root = tmp_path / "images"
    shutil.copytree(images, root)
    truncate(make(root, tmp_path).train_dataloader.dataset.image_paths[-1])
    with pytest.raises(ValueError, match="cannot read the image"):
        train(root, tmp_path, hook=dict(batch_size=4))
    assert kept(tmp_path) == []


def test_features_that_are_not_finite_name_the_image(images, tmp_path):
    runner = make(images, tmp_path, hook=dict(dtype="float16"))
    with torch.no_grad():
        runner.model.backbone[28].bias.fill_(1e6)
    with pytest.raises(ValueError, match=r"kind0/thing0/0\.png are not finite in float16; set dtype='float32'"):
        runner.train()
    runner = make(images, tmp_path)
    with torch.no_grad():
        runner.model.backbone[28].bias.fill_(torch.nan)
    with pytest.raises(ValueError, match=r"0\.png are not finite in float32; mend the backbone's weights"):
        runner.train()


def test_the_size_is_said_before_and_must_fit(images, tmp_path, monkeypatch):
    logged = []
    runner = make(images, tmp_path)
    monkeypatch.setattr(runner.logger, "info", logged.append)
    runner.train()
    assert f"{NUM} images x 128 bytes = 0.00 GiB of frozen features, 32x1x1 float32 each, go to " in "\n".join(logged)
    usage = shutil.disk_usage(tmp_path)._replace(free=NUM * 128 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(ValueError, match=r"do not fit: .*features has 0\.00 GiB left\. Set dtype='float16' or another"):
        train(images, tmp_path / "full")
    assert kept(tmp_path / "full") == []


# ------------------------------------------------------------------ training around it
def test_validation_embeds_images_and_afterwards_so_does_the_data_set(images, tmp_path):
    def validated(cached):
        runner = make(
            images,
            tmp_path / str(cached),
            cached=cached,
            hook=dict(batch_size=4) if cached else {},
            val_dataloader=dict(
                batch_size=5,
                num_workers=0,
                sampler=dict(type="DefaultSampler", shuffle=False),
                dataset=dict(
                    type="FolderDataset",
                    data_root=str(images),
                    pipeline=[dict(type="LoadRGB"), RESIZE, PACK],
                ),
            ),
            val_cfg=dict(),
            val_evaluator=[dict(type="RetrievalMetric", levels=[1])],
            **{"train_cfg.val_interval": 1},
        )
        embedded = []
        predict = runner.model.predict
        runner.model.predict = lambda inputs, *rest: embedded.append(inputs) or predict(inputs, *rest)
        runner.train()
        return runner, embedded

    plain, seen_plain = validated(False)
    cached, seen = validated(True)
    assert [tuple(batch.shape) for batch in seen] == [(5, 3, 32, 32)] * 4
    assert all(torch.equal(a, b) for a, b in zip(seen, seen_plain, strict=True))
    hub, other = cached.message_hub.log_scalars, plain.message_hub.log_scalars
    names = [name for name in hub if name.startswith("val/") and "time" not in name]
    assert names
    assert all(hub[name].current() == pytest.approx(other[name].current()) for name in names)
    assert cached.train_dataloader.dataset[0].keys() == {"inputs", "data_samples"}


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("by_epoch", [True, False])
def test_it_trains_from_features_with_workers_and_by_iterations(images, tmp_path, workers, by_epoch, monkeypatch):
    train(images, tmp_path)
    monkeypatch.delattr("hierpretrain.datasets.loading.open_rgb")  # an error, should an image be loaded
    options = {} if by_epoch else dict(train_cfg=dict(_delete_=True, by_epoch=False, max_iters=3, val_interval=9))
    loader = dict(num_workers=workers, persistent_workers=workers > 0)
    runner = make(images, tmp_path, loader=loader, epochs=1, **options)
    given = []
    loss = runner.model.loss
    runner.model.loss = lambda inputs, samples: given.append((inputs, samples)) or loss(inputs, samples)
    runner.train()
    (rows,) = kept(tmp_path)
    rows = np.load(rows)
    assert len(given) == 3
    for (features,), samples in given:
        assert np.array_equal(features.numpy(), rows[[sample.sample_idx for sample in samples]])
        assert [sample.gt_label.tolist() for sample in samples] == [
            runner.train_dataloader.dataset.labels[sample.sample_idx].tolist() for sample in samples
        ]


def test_a_resumed_run_is_the_run_that_was_not_stopped(images, tmp_path):
    keep = dict(checkpoint=dict(type="CheckpointHook", interval=1))
    whole = train(images, tmp_path / "whole", **keep)
    train(images, tmp_path / "half", epochs=1, **keep)
    rest = train(images, tmp_path / "half", load_from=str(tmp_path / "half/epoch_1.pth"), resume=True)
    assert losses(rest)[-3:] == pytest.approx(losses(whole)[-3:], abs=0)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, rest.model.state_dict()[name]), name
    assert len(kept(tmp_path / "half")) == 1


def test_the_generators_are_where_they_were(images, tmp_path, monkeypatch):
    monkeypatch.setattr(ExactResumeHook, "before_train_iter", lambda *_, **__: None)
    writing, reading = (train(images, tmp_path, epochs=1) for _ in range(2))
    assert_same(reading, writing, rtol=0, atol=0)


@pytest.mark.parametrize("place", [3, NUM - 1])
def test_an_unreadable_image_is_skipped_as_it_is_without_the_hook(images, tmp_path, place):
    root = tmp_path / "images"
    shutil.copytree(images, root)
    options = dict(loader={"dataset.on_error": "skip"}, epochs=1)
    dataset = make(root, tmp_path / "x", **options).train_dataloader.dataset
    truncate(dataset.image_paths[place])
    plain = train(root, tmp_path / "plain", cached=False, **options)
    cached = train(root, tmp_path / "cached", hook=dict(batch_size=4), **options)
    assert_same(cached, plain, rtol=1e-5, atol=1e-6)
    (file,) = kept(tmp_path / "cached")
    assert np.isnan(np.load(file)).any(axis=(1, 2, 3)).nonzero()[0].tolist() == [place]
    with pytest.raises(ValueError, match="cannot read the image"):
        train(root, tmp_path / "strict")


# ------------------------------------------------------------------ what is refused
def twice(results):
    return results


class Resize:
    """Has the name of a transform that is known."""

    def __call__(self, results):
        return results


@pytest.mark.parametrize(
    ("transform", "name"),
    [
        (dict(type="torchvision/RandomHorizontalFlip"), "torchvision/RandomHorizontalFlip"),
        (dict(type="RandomCrop", crop_size=8), "RandomCrop"),
        (dict(type="Views", transforms=[], num_views=2), "Views"),
        (Resize(), "Resize"),
        (twice, "twice"),
    ],
)
def test_a_transform_that_may_be_random_is_named(images, tmp_path, transform, name):
    pipeline = [dict(type="LoadRGB"), RESIZE, transform, PACK]
    runner = make(images, tmp_path)
    dataset = runner.train_dataloader.dataset
    dataset._pipeline = type(dataset)(data_root=str(images), pipeline=pipeline)._pipeline
    with pytest.raises(ValueError, match=rf"{name} in the training pipeline is not known to be free of randomness"):
        runner.train()
    HOOKS.build(dict(type="FrozenFeaturesHook", deterministic=[name]))._check_pipeline(dataset)


def test_what_it_cannot_do_is_said(images, tmp_path):
    unfrozen = dict(RESNET, frozen_stages=0)
    said = r"no first stages of the backbone ResNet are frozen: 57 of its parameters are trained, the first of them lay"
    with pytest.raises(ValueError, match=said):
        train(images, tmp_path, encoder="resnet", model=dict(backbone=unfrozen))
    both = dict(backbone=dict(RESNET, out_indices=(2, 3)), neck=dict(type="GlobalAveragePooling"))
    with pytest.raises(ValueError, match="hands 2 outputs to the neck, and only one can be kept; choose one by its"):
        train(images, tmp_path, encoder="resnet", model=both)
    with pytest.raises(ValueError, match="the training pipeline must end with PackInputs"):
        train(images, tmp_path, loader={"dataset.pipeline": [dict(type="LoadRGB")]})
    with pytest.raises(ValueError, match=r"must pack `sample_idx`: name it among the meta_keys"):
        train(images, tmp_path, loader={"dataset.pipeline.2.meta_keys": ("img_path",)})
    with pytest.raises(ValueError, match=r"reads the data sets of hierpretrain\.datasets, not list"):
        frozen_features._check_dataset([])
    with pytest.raises(ValueError, match=r"FrozenFeaturesHook tells images apart by sample_idx, .* RepeatDataset"):
        frozen_features._check_dataset(object.__new__(RepeatDataset))
    with pytest.raises(ValueError, match="trains HierarchicalContrastive, not Linear"):
        frozen_features._check_model(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="dtype must be 'float32' or 'float16'; it is 'bfloat16'"):
        HOOKS.build(dict(type="FrozenFeaturesHook", dtype="bfloat16"))
    with pytest.raises(ValueError, match="batch_size must be at least 1; it is 0"):
        HOOKS.build(dict(type="FrozenFeaturesHook", batch_size=0))


def test_a_wide_image_among_tall_ones_is_an_error(tmp_path):
    """Their features have equally many bytes."""
    for i, size in enumerate(((64, 32), (64, 32), (32, 64), (32, 64))):
        write_image(tmp_path / f"images/kind{i % 2}/thing{i}/{i}.png", (40 * i, 9, 0), size)
    loader = {"batch_size": 1, "dataset.pipeline": [dict(type="LoadRGB"), PACK]}
    said = r"2\.png have the size 32x2x1, and those of the first image 32x1x2; have the pipeline make all images equal"
    with pytest.raises(ValueError, match=said):
        train(tmp_path / "images", tmp_path, loader=loader, hook=dict(batch_size=1))


def test_a_test_names_its_embeddings_without_reading_the_features(images, tmp_path, monkeypatch):
    train(images, tmp_path)
    hashed = []
    settings = fingerprint._settings
    monkeypatch.setattr(
        fingerprint, "_settings", lambda part, inside=(): hashed.append(type(part)) or settings(part, inside)
    )
    test = dict(
        test_dataloader=dict(
            batch_size=4,
            num_workers=0,
            sampler=dict(type="DefaultSampler", shuffle=False),
            dataset=dict(type="FolderDataset", data_root=str(images), pipeline=[dict(type="LoadRGB"), RESIZE, PACK]),
        ),
        test_cfg=dict(type="EmbeddingTestLoop"),
        test_evaluator=[dict(type="RetrievalMetric", levels=[1])],
    )
    make(images, tmp_path, hook=dict(evaluation=True), **test).test()
    assert frozen_features._FeaturePipeline in hashed
    assert np.memmap not in hashed


def test_a_spawned_worker_gets_the_path_and_not_the_array(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(100_000, dtype=np.float32).reshape(1000, 100))
    pipeline = frozen_features._FeaturePipeline(tmp_path / "x.npy", (1000,), np.dtype("float32"), dict)
    assert len(pickle.dumps(pipeline)) < 1000
    copy = pickle.loads(pickle.dumps(pipeline))
    assert copy({"sample_idx": 3})["features"].tolist() == [list(range(300, 400))]
    (tmp_path / "x.npy").unlink()
    with pytest.raises(ValueError, match=r"does not see .*x\.npy; set FrozenFeaturesHook's folder to one that all"):
        pickle.loads(pickle.dumps(pipeline))({"sample_idx": 3})


# ------------------------------------------------------------------ several processes
def _on_two_processes(rank, world_size, images, work_dir):
    os.environ["LOCAL_RANK"] = str(rank)
    for encoder in ENCODERS:
        options = dict(encoder=encoder, launcher="pytorch", epochs=1)
        runner = train(images, work_dir / encoder, experiment_name=encoder, **options)
        torch.save(runner.model.module.state_dict(), work_dir / f"{encoder}_{rank}.pth")
    if rank == 1:
        Path.exists = lambda path: False  # then all embed anew, and none waits for another
    train(images, work_dir / encoder, experiment_name="hidden", **options)


@pytest.mark.ddp
def test_two_processes_share_the_work_and_the_file(images, tmp_path):
    distributed.run(_on_two_processes, 2, images, tmp_path)
    for encoder in ENCODERS:
        train(images, tmp_path / "one" / encoder, encoder=encoder, epochs=1)
        (one,), (two,) = kept(tmp_path / "one" / encoder), kept(tmp_path / encoder)
        assert one.name == two.name
        np.testing.assert_allclose(np.load(two), np.load(one), rtol=1e-5, atol=1e-6)
        a, b = (torch.load(tmp_path / f"{encoder}_{rank}.pth", weights_only=True) for rank in (0, 1))
        assert all(torch.equal(a[name], b[name]) for name in a)
