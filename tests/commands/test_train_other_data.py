"""A training on shards of WebDataset, by a config that names nothing but them."""

import io
import json
import tarfile

import pytest
from PIL import Image

from hierpretrain.commands import train as train_command
from tests.commands.test_train import run  # noqa: F401  a folder of eight photos and a config
from tests.test_configs import _own_globals  # noqa: F401

SHARDS = """
_base_ = "mine.py"
train_dataloader = dict(
    num_workers={workers},
    persistent_workers=False,
    dataset=dict(
        _delete_=True,
        type="WebDataset",
        data_root="shards",
        levels="cls",
        class_paths={{"0": "animal/cat", "1": "tool"}},
        on_error="skip",
        pipeline={{{{_base_.train_dataloader.dataset.pipeline}}}},
    ),
)
"""


@pytest.mark.parametrize("workers", [0, 2])
def test_shards_are_trained_on_and_what_is_damaged_is_listed(run, tmp_path, workers):  # noqa: F811
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards/a.tar", "w") as tar:
        for i in range(8):
            image = io.BytesIO()
            Image.new("RGB", (16, 16), ("red", "blue")[i % 2]).save(image, "PNG")
            data = image.getvalue() if i != 3 else b"no image"
            for name, content in ((f"{i}.png", data), (f"{i}.cls", str(i % 2).encode())):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    config = (tmp_path / "mine.py").read_text()
    (tmp_path / "base.py").write_text(config)
    (tmp_path / "mine.py").write_text(SHARDS.format(workers=workers).replace("mine.py", "base.py"))
    run(train_command)
    listed = json.loads((tmp_path / "work_dirs/mine/skipped.json").read_text())
    assert list(listed) == ["shards/a.tar/3.png"]
    assert "cannot identify image file" in listed["shards/a.tar/3.png"]
    assert (tmp_path / "work_dirs/mine/epoch_1.pth").exists()
