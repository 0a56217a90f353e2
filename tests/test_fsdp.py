"""A model that is sharded over processes trains as one that each process has whole, and its checkpoints are whole."""

import json

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from hierpretrain.apis import EmbeddingIndex, read_embeddings
from hierpretrain.registry import MODELS
from tests.processes import run, run_ranks

CONFIG = """
_base_ = "hierpretrain::_base_/default_runtime.py"
import torch as _torch
_pack = dict(type="PackInputs", algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split"))
_view = [dict(type="torchvision/RandomResizedCrop", size=24)]
_pipeline = [dict(type="LoadRGB"), dict(type="Views", transforms=_view, num_views=2), _pack]
_photos = dict(type="FolderDataset", data_root="PHOTOS")
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(**_photos, pipeline=_pipeline),
)
test_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(**_photos, pipeline=[dict(type="LoadRGB"), dict(type="torchvision/Resize", size=(24, 24)), _pack]),
)
test_evaluator = [dict(type="RetrievalMetric", levels=["level1"])]
test_cfg = dict()
model = dict(
    type="HierarchicalContrastive",
    backbone=dict(type="ResNet", depth=18, base_channels=8, stem_channels=8),
    loss=dict(type="HiMulConLoss"),
)
optim_wrapper = dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01, momentum=0.9))
train_cfg = dict(by_epoch=True, max_epochs=2)
default_hooks = dict(tsne=None, retrieval_sheet=None)
"""
SHARDED = """
runner_type = "FlexibleRunner"
_wrapper = dict(type="MMFullyShardedDataParallel", use_orig_params=True, device_id=_torch.device("cpu"))
strategy = dict(type="FSDPStrategy", state_dict_cfg="full", model_wrapper=_wrapper)
"""


pytestmark = [
    pytest.mark.slow,
    pytest.mark.ddp,
    pytest.mark.skipif(torch.cuda.is_available(), reason="its processes share no GPU"),
]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two trainings of two epochs on two processes: one has the model whole on each, one in shards."""
    place = tmp_path_factory.mktemp("fsdp")
    pixels = np.random.default_rng(0).integers(0, 256, (2, 8, 24, 24, 3), np.uint8)
    for (group, number), picture in zip(np.ndindex(2, 8), pixels.reshape(-1, 24, 24, 3), strict=True):
        (place / f"photos/{group}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(place / f"photos/{group}/{number}.png")
    for name, more in {"whole": "", "sharded": SHARDED}.items():
        (place / f"{name}.py").write_text(CONFIG.replace("PHOTOS", str(place / "photos")) + more)
        train(place, name, place / name)
    return place


def train(place, name, work, *words):
    words = ["-m", "hierpretrain", "train", place / f"{name}.py", "--work-dir", work, "--launcher", "pytorch", *words]
    run_ranks(place, [words] * 2)


def weights(file):
    return torch.load(file, map_location="cpu", weights_only=True)["state_dict"]


def test_a_sharded_model_trains_as_a_whole_one(place):
    whole, sharded = (weights(place / name / "epoch_2.pth") for name in ("whole", "sharded"))
    assert whole.keys() == sharded.keys()
    for key, weight in whole.items():
        if "running" not in key:
            torch.testing.assert_close(sharded[key], weight, rtol=1e-3, atol=1e-4, msg=key)


def test_a_sharded_training_that_is_resumed_ends_in_the_same_bits(place):
    train(place, "sharded", place / "resumed")
    train(place, "sharded", place / "resumed", "--resume", "--cfg-options", "train_cfg.max_epochs=3")
    train(place, "sharded", place / "through", "--cfg-options", "train_cfg.max_epochs=3")
    through, resumed = (weights(place / name / "epoch_3.pth") for name in ("through", "resumed"))
    assert all(weight.equal(resumed[key]) for key, weight in through.items())


def test_its_checkpoint_embeds_as_the_model_that_has_its_weights(place):
    config, checkpoint = place / "sharded.py", place / "sharded/epoch_2.pth"
    for command in ("embed", "index", "test"):
        images = ["--work-dir", place / "tested"] if command == "test" else [place / "photos", "--out", place / command]
        run(place / "log.txt", "-m", "hierpretrain", command, config, checkpoint, *images)
    model = MODELS.build(Config.fromfile(config).model).eval()
    model.load_state_dict(weights(checkpoint))
    embedded, index = read_embeddings(place / "embed"), EmbeddingIndex.open(place / "index")
    pictures = [torch.from_numpy(np.array(Image.open(path))) for path in embedded.paths]
    with torch.no_grad():
        batch = model.data_preprocessor({"inputs": [picture.permute(2, 0, 1) for picture in pictures]})
        expected = model.embed(batch["inputs"])
    torch.testing.assert_close(embedded.features, expected, rtol=1e-4, atol=1e-5)
    assert [found.neighbours[0].path for found in index.search(embedded, 1)] == embedded.paths
    similarity = (expected @ expected.T).fill_diagonal_(-2)
    right = embedded.labels[similarity.argmax(1), 0] == embedded.labels[:, 0]
    tested = json.loads((place / "tested/metrics.json").read_text())["metrics"]
    assert tested["level1/recall@1"] == right.double().mean().item() < 1
