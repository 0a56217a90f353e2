import re
from pathlib import Path

from hierpretrain.apis import load_config
from hierpretrain.registry import DATASETS
from tests.datasets.trees import write_image

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_example_on_plain_tensors_runs():
    (code,) = [text for kind, text in BLOCKS if kind == "python" and "import torch" in text]
    exec(code, {})


def test_the_config_for_own_images_loads_a_folder_tree(tmp_path, monkeypatch):
    (code,) = [text for kind, text in BLOCKS if kind == "python" and "_base_" in text]
    (tmp_path / "mine.py").write_text(code.replace("configs/", f"{ROOT}/configs/"))
    for folder in ("my/photos", "my/other_photos"):
        for name in ("animal/cat/1", "animal/cat/2", "animal/dog/1", "tool/1"):
            write_image(tmp_path / folder / f"{name}.jpg", "red")
    monkeypatch.chdir(tmp_path)
    config = load_config("mine.py")
    dataset = DATASETS.build({**config.train_dataloader.dataset, "_scope_": "hierpretrain"})
    assert dataset.labels.tolist() == [[0, 0], [0, 0], [0, 1], [1, -1]]
    assert [view.shape for view in dataset[0]["inputs"]] == [(3, 48, 48)] * 2


def test_every_file_and_config_it_names_is_there():
    text = (ROOT / "README.md").read_text()
    for path in re.findall(r"\b(?:hierpretrain|configs|tools|tests|docs|data)/[\w./]+\.\w+", text):
        assert (ROOT / path).exists(), path
