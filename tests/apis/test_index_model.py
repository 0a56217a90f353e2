"""The model that an index carries: the same embeddings, and a config that can do nothing but build an encoder."""

import json

import pytest
import torch
from mmengine.config import Config
from mmpretrain.models import MobileNetV2

from hierpretrain.apis import EmbeddingInferencer
from hierpretrain.apis.index import EmbeddingIndex
from hierpretrain.apis.index_model import decoded, encoded
from hierpretrain.apis.part_files import sealed
from hierpretrain.files import sha256
from tests.apis.test_index_changes import picture

BACKBONE = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
PIPELINE = [dict(type="LoadRGB"), dict(type="torchvision/Resize", size=(32, 32))]


def inferencer(model, pipeline=PIPELINE, **more):
    torch.manual_seed(0)
    config = Config(dict(model=model, test_dataloader=dict(dataset=dict(pipeline=pipeline)), **more))
    return EmbeddingInferencer(config, "", device="cpu", progress=False)


OURS = dict(type="HierarchicalContrastive", backbone=BACKBONE)
SCALED = dict(
    OURS, loss=dict(type="HiMulConLoss"), data_preprocessor=dict(type="MultiViewPreprocessor", mean=[9.0] * 3)
)
HEAD = dict(type="ProjectionHead", in_channels=64, hidden_channels=32, out_channels=16)
PROJECTED = dict(OURS, projection=HEAD, embedding="projection")
PURE = dict(OURS, backbone=dict(type=MobileNetV2, widen_factor=0.25))
CLASSIFIER = dict(type="ImageClassifier", backbone=BACKBONE, neck=dict(type="GlobalAveragePooling"), head=None)
SCOPED = dict(
    type="mmpretrain.ImageClassifier", backbone=dict(BACKBONE, init_cfg=dict(type="Pretrained", checkpoint="x"))
)
THEIRS = [
    dict(type="LoadImageFromFile"),
    dict(type="ResizeEdge", scale=40, edge="short"),
    dict(type="CenterCrop", crop_size=32),
]
SIZES = dict(mean=[1.0, 2.0, 3.0], std=[4.0, 5.0, 6.0], to_rgb=True)


@pytest.mark.parametrize(
    ("model", "pipeline", "more"),
    [
        (OURS, PIPELINE, {}),
        (SCALED, PIPELINE, {}),
        (PROJECTED, PIPELINE, {}),
        (PURE, PIPELINE, {}),
        (CLASSIFIER, THEIRS, dict(data_preprocessor=SIZES)),
        (SCOPED, THEIRS, {}),
    ],
)
def test_the_model_of_an_index_embeds_as_the_one_that_made_it(tmp_path, model, pipeline, more, monkeypatch):
    if "init_cfg" in model["backbone"]:  # pretrained weights that are not there, and that nobody needs
        monkeypatch.setattr("hierpretrain.models.HierarchicalContrastive.init_weights", lambda self: None)
    made = inferencer(model, pipeline, **more)
    with torch.no_grad():
        for weights in made.module.parameters():
            weights.add_(torch.randn_like(weights) * 0.01)  # trained, so to say
    made = renewed(made, tmp_path)
    images = [picture(i) for i in (0, 90, 250)]
    made.build_index(images, tmp_path / "index")
    index = EmbeddingIndex.open(tmp_path / "index", device="cpu")
    assert index.inferencer.fingerprint == made.fingerprint
    assert index.inferencer.name == made.name
    assert (index.inferencer(images) == made(images)).all()
    assert index.search(images[1], 3) == made.search(images[1], 3)


def renewed(made, tmp_path):
    """The same weights from a checkpoint."""
    torch.save({"state_dict": made.module.state_dict()}, tmp_path / "epoch_1.pth")
    return EmbeddingInferencer(made.config, tmp_path / "epoch_1.pth", device="cpu", progress=False)


def test_settings_come_back_as_they_were():
    settings = dict(a=(1, [2.5, (None,)]), b={"c": True, "type": "x.y.ResNet", "_scope_": "mmpretrain", "init_cfg": 3})
    assert decoded(json.loads(json.dumps(encoded(settings)))) == {
        "a": (1, [2.5, (None,)]),
        "b": {"c": True, "type": "ResNet"},
    }
    with pytest.raises(ValueError, match=r"the config has <function .*, which is no data"):
        encoded({"a": len if False else encoded})


@pytest.mark.parametrize(
    ("place", "part", "message"),
    [
        (
            "pipeline",
            dict(type="subprocess.check_call", args=["touch", "owned"]),
            "a type must be a registered model or",
        ),
        (
            "pipeline",
            dict(type="os.system", command="touch owned"),
            "transform; it has 'os.system'",
        ),
        ("pipeline", dict(type="evil"), "registered model or transform; it has 'evil'"),
        ("pipeline", dict(type=["LoadRGB"]), "a type must be a registered model or transform"),
        ("backbone", dict(type="mmengine.load", file="x.pkl"), "it has 'mmengine.load'"),
        ("backbone", dict(type="torch.hub.load"), "it has 'torch.hub.load'"),
        ("backbone", dict(BACKBONE, trust_remote_code=True), "may not have trust_remote_code"),
        ("backbone", dict(BACKBONE, norm_cfg=dict(type="builtins.exec")), "it has 'builtins.exec'"),
    ],
)
def test_a_hostile_config_runs_nothing(tmp_path, monkeypatch, place, part, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "evil.py").write_text("open('owned', 'w')")
    inferencer(OURS).build_index([picture(0)], tmp_path / "index")
    (path,) = (tmp_path / "index").glob("config-*")
    config = json.loads(path.read_text())
    if place == "pipeline":
        config["test_dataloader"]["dataset"]["pipeline"].append(part)
    else:
        config["model"]["backbone"] = part
    path.write_text(json.dumps(config))
    new = path.with_name(f"config-{sha256(path)}.json")
    path.rename(new)
    manifest = tmp_path / "index/index.json"
    manifest.write_text(json.dumps(sealed(json.loads(manifest.read_text().replace(path.name, new.name)))))
    with pytest.raises(ValueError, match=f"carries no config that can be used: .*{message}"):
        EmbeddingIndex.open(tmp_path / "index", device="cpu").search(picture(0))
    assert not (tmp_path / "owned").exists()


def test_weights_of_another_model_are_told(tmp_path):
    inferencer(OURS).build_index([picture(0)], tmp_path / "index")
    manifest = tmp_path / "index/index.json"
    data = json.loads(manifest.read_text())
    manifest.write_text(json.dumps(sealed({**data, "fingerprint": "0" * 16})))
    with pytest.raises(ValueError, match=r"has the fingerprint [0-9a-f]+ here, and made the index as 0+: anoth"):
        EmbeddingIndex.open(tmp_path / "index", device="cpu").search(picture(0))
