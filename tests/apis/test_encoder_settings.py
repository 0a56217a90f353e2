import logging

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger

from hierpretrain.apis import EmbeddingInferencer, build_runner, load_config
from hierpretrain.apis.encoder_settings import apply_encoder_settings, encoder_settings

pytest.importorskip("timm")
LITE = dict(type="EfficientNetLite0", weights=False)
VIT = dict(type="TimmEncoder", model_name="vit_tiny_patch16_224", weights=False, depth=1)
RESNET = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
VIEW = [dict(type="torchvision/RandomResizedCrop", size="encoder", scale=(0.3, 1.0), interpolation="encoder")]
TRAIN = [dict(type="LoadRGB"), dict(type="Views", transforms=VIEW)]
TEST = [
    dict(type="LoadRGB"),
    dict(type="torchvision/Resize", size="encoder", interpolation="encoder"),
    dict(type="torchvision/CenterCrop", size="encoder"),
]


def config(backbone, test=TEST, train=TRAIN, **preprocessor):
    model = dict(
        type="HierarchicalContrastive",
        backbone=backbone,
        data_preprocessor=dict(type="MultiViewPreprocessor", **preprocessor),
    )
    return Config(
        dict(
            model=model,
            train_dataloader=dict(dataset=dict(type="RepeatDataset", dataset=dict(pipeline=train))),
            test_dataloader=dict(dataset=dict(pipeline=test)),
        )
    )


def test_settings_are_found_without_building_the_encoder(monkeypatch):
    import timm

    monkeypatch.setattr(timm, "create_model", None)
    assert encoder_settings(config(LITE)).size == 224
    assert encoder_settings(config(dict(VIT, img_size=64))).size == 64
    assert encoder_settings(config(RESNET)) is None


def test_the_word_encoder_becomes_the_encoder_s_size_and_interpolation():
    made = config(LITE)
    assert apply_encoder_settings(made) == []
    (view,) = made.train_dataloader.dataset.dataset.pipeline[1].transforms
    assert (view["size"], view["scale"], view["interpolation"]) == (224, (0.3, 1.0), "bicubic")
    resize, crop = made.test_dataloader.dataset.pipeline[1:]
    assert (resize["size"], resize["interpolation"], crop["size"]) == (256, "bicubic", 224)


def test_the_word_encoder_in_transforms_of_mmpretrain():
    theirs = [
        dict(type="Resize", scale="encoder", interpolation="encoder"),
        dict(type="ResizeEdge", scale="encoder", interpolation="encoder"),
        dict(type="CenterCrop", crop_size="encoder"),
    ]
    made = config(LITE, theirs)
    apply_encoder_settings(made)
    resize, edge, crop = made.test_dataloader.dataset.pipeline
    assert (resize["scale"], edge["scale"], crop["crop_size"]) == ((256, 256), 256, 224)
    squeezed = dict(type="OpenCLIPEncoder", model_name="ViT-B-16-SigLIP", weights="webli")
    pytest.importorskip("open_clip")
    with pytest.raises(ValueError, match="squeezed to 224 x 224 px, and ResizeEdge keeps their shape"):
        apply_encoder_settings(config(squeezed, theirs))
    made = config(squeezed)
    apply_encoder_settings(made)
    assert tuple(made.test_dataloader.dataset.pipeline[1]["size"]) == (224, 224)


def test_a_backbone_without_settings_cannot_be_asked():
    with pytest.raises(
        ValueError, match=r"train_dataloader: RandomResizedCrop takes its size from the encoder, but the"
    ):
        apply_encoder_settings(config(RESNET))


def test_a_missing_option_of_the_encoder_is_an_error():
    with pytest.raises(ValueError, match=r"an option of TimmEncoder that does not fit: .* missing 1 .* 'model_name'"):
        apply_encoder_settings(config(dict(type="TimmEncoder")))


def test_contradictions_are_listed_once():
    small = [dict(type="LoadRGB"), dict(type="torchvision/Resize", size=(96, 96))]
    assert apply_encoder_settings(config(LITE, small, mean=(1.0, 2.0, 3.0), std=(128.0,) * 3)) == [
        "the preprocessor's mean is (1.0, 2.0, 3.0), and the encoder's is (127.0, 127.0, 127.0)",
        "test_dataloader resizes by bilinear, and the encoder was trained with bicubic",
        "test_dataloader makes images of (96, 96) px, and the encoder was trained with 224 px",
    ]
    small = [dict(type="LoadRGB"), dict(type="torchvision/Resize", size=96, interpolation="bicubic")]
    with pytest.raises(
        ValueError, match="makes images of 96 px, and the encoder was trained with 224 px and reads no oth"
    ):
        apply_encoder_settings(config(VIT, small))
    assert apply_encoder_settings(config(dict(VIT, img_size=96), small)) == []


@pytest.fixture
def warnings():
    """What is logged as a warning."""
    lines = []

    class Handler(logging.Handler):
        def emit(self, record):
            lines.append(record.getMessage())

    handler = Handler(logging.WARNING)
    yield lambda: (MMLogger.get_current_instance().addHandler(handler), lines)[1]
    MMLogger.get_current_instance().removeHandler(handler)


def test_the_inferencer_takes_the_settings_and_warns(warnings):
    lines = warnings()
    inferencer = EmbeddingInferencer(config(LITE), "", device="cpu", progress=False)
    assert inferencer(np.zeros((300, 280, 3), np.uint8)).shape == (1, 1280)
    assert inferencer.pipeline(__import__("PIL.Image").Image.new("RGB", (300, 280))).shape == (3, 224, 224)
    assert inferencer.module.data_preprocessor.mean.flatten().tolist() == [127.0] * 3
    assert lines == []
    EmbeddingInferencer(config(LITE, mean=(0.0,) * 3), "", device="cpu", progress=False)
    (line,) = lines
    assert line.startswith("not as the encoder's weights were trained: the preprocessor's mean is (0.0, 0.0, 0.0)")


def test_a_runner_s_pipelines_have_the_encoder_s_size_and_its_log_the_warning(tmp_path):
    made = load_config("configs/himulcone_emoji.py")
    base = load_config("configs/_base_/pipelines/encoder.py")
    made.model.backbone = LITE
    made.model.data_preprocessor.update(mean=(0.0,) * 3)
    made.train_dataloader.dataset.pipeline = base.train_pipeline
    for loader in (made.val_dataloader, made.test_dataloader):
        loader.dataset.pipeline = base.test_pipeline
    made.work_dir, made.experiment_name = str(tmp_path), tmp_path.name
    runner = build_runner(made)
    assert runner._train_dataloader["dataset"]["pipeline"][1]["transforms"][0]["size"] == 224
    assert runner._test_dataloader["dataset"]["pipeline"][1]["size"] == 256
    assert (
        "mean is (0.0, 0.0, 0.0), and the encoder's is (127.0, 127.0, 127.0)"
        in next(tmp_path.rglob("*.log")).read_text()
    )
    torch.testing.assert_close(runner.model.data_preprocessor.std.flatten(), torch.full((3,), 128.0))
