"""A model that is sharded over processes trains as one that each process has whole."""

import pytest
import torch

import hierpretrain.registry  # noqa: F401  lets torch load our checkpoints
from tests.datasets.trees import write_image
from tests.processes import run_ranks

CONFIG = """
_base_ = "hierpretrain::_base_/default_runtime.py"
import torch as _torch
_pack = dict(type="PackInputs", algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split"))
_view = [dict(type="torchvision/RandomResizedCrop", size=24)]
_pipeline = [dict(type="LoadRGB"), dict(type="Views", transforms=_view, num_views=2), _pack]
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(type="FolderDataset", data_root="PHOTOS", pipeline=_pipeline),
)
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


@pytest.mark.slow
@pytest.mark.ddp
@pytest.mark.skipif(torch.cuda.is_available(), reason="its processes share no GPU")
def test_a_sharded_model_trains_as_a_whole_one(tmp_path):
    for i in range(8):
        for colour in ("red", "blue"):
            write_image(tmp_path / f"photos/{colour}/{i}.png", colour)
    found = []
    for name, more in {"whole": "", "sharded": SHARDED}.items():
        config = tmp_path / f"{name}.py"
        config.write_text(CONFIG.replace("PHOTOS", str(tmp_path / "photos")) + more)
        words = ["-m", "hierpretrain", "train", config, "--work-dir", tmp_path / name, "--launcher", "pytorch"]
        run_ranks(tmp_path, [words] * 2)
        checkpoint = torch.load(tmp_path / name / "epoch_2.pth", map_location="cpu", weights_only=True)
        found.append(checkpoint["state_dict"])
    whole, sharded = found
    assert whole.keys() == sharded.keys()
    for key, weight in whole.items():
        if "running" not in key:
            torch.testing.assert_close(sharded[key], weight, rtol=1e-3, atol=1e-4, msg=key)
