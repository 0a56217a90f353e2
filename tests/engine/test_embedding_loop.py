import json
from pathlib import Path

import pytest
import torch

from hierpretrain.apis import build_runner, load_config
from tests.datasets.trees import write_inshop

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def inshop(tmp_path_factory):
    root = tmp_path_factory.mktemp("inshop")
    write_inshop(root, num_products=12, num_views=2, size=32)
    return root


def runner(inshop, work_dir, **options):
    small = {
        "model.backbone.depth": 18,
        "model.backbone.init_cfg": None,
        "test_dataloader.dataset.pipeline.1.size": 32,
        "test_dataloader.dataset.pipeline.2.size": 32,
        "test_dataloader.num_workers": 0,
        "test_dataloader.batch_size": 16,
        "custom_hooks": [dict(type="MetricsFileHook"), dict(type="RecallCurveHook", levels=["product_id", "category"])],
        "test_evaluator": [
            dict(type="RetrievalMetric", levels=["product_id", "category"]),
            dict(type="KNNMetric", levels=["category"], train="train", test="query"),
        ],
        "log_level": "WARNING",
        **options,
    }
    config = load_config(ROOT / "configs/linear_deepfashion.py", small, str(inshop))
    config.work_dir = str(work_dir)
    config.experiment_name = f"{Path(work_dir).name}_{len(list(Path(work_dir).iterdir()))}"  # one name, one run
    torch.manual_seed(0)
    return build_runner(config)


def kept(work_dir):
    return sorted((work_dir / "embeddings").iterdir())


def test_images_are_embedded_once_for_one_encoder_and_once_more_for_another(inshop, tmp_path, monkeypatch):
    first = runner(inshop, tmp_path)
    metrics = first.test()
    (file,) = kept(tmp_path)
    embeddings = torch.load(file, weights_only=True)
    assert embeddings.shape == (len(first.test_dataloader.dataset), 512)
    assert torch.allclose(embeddings.norm(dim=1), torch.ones(len(embeddings)))
    picture = (tmp_path / "recall.csv").read_text()

    again = runner(inshop, tmp_path)
    again.model.load_state_dict(first.model.state_dict())
    monkeypatch.setattr(type(again.model), "test_step", lambda *_: pytest.fail("the images were embedded again"))
    (tmp_path / "recall.csv").unlink()
    assert again.test() == metrics
    assert (tmp_path / "recall.csv").read_text() == picture
    assert json.loads((tmp_path / "metrics.json").read_text())["metrics"] == metrics
    monkeypatch.undo()

    other = runner(inshop, tmp_path)
    other.model.load_state_dict(first.model.state_dict())
    with torch.no_grad():
        other.model.backbone.conv1.weight[0, 0, 0, 0] += 1
    other.test()
    assert len(kept(tmp_path)) == 2
    cropped = runner(inshop, tmp_path, **{"test_dataloader.dataset.pipeline.2.size": 24})
    cropped.model.load_state_dict(first.model.state_dict())
    cropped.test()
    fewer = runner(inshop, tmp_path, **{"test_dataloader.dataset.split": ["query", "gallery"], "test_evaluator": []})
    fewer.model.load_state_dict(first.model.state_dict())
    fewer.test()
    assert len(kept(tmp_path)) == 4


def test_the_curve_is_that_of_the_metric(inshop, tmp_path):
    metrics = runner(inshop, tmp_path).test()
    header, first, *rest = (tmp_path / "recall.csv").read_text().splitlines()
    assert header == "k,product_id,category"
    number = metrics["product_id/recall@1"]
    assert float(first.split(",")[1]) == pytest.approx(number, abs=1e-6)
    assert float(rest[8].split(",")[2]) == pytest.approx(metrics["category/recall@10"], abs=1e-6)
    assert (tmp_path / "recall.png").stat().st_size > 5000


def test_without_a_cache_nothing_is_kept(inshop, tmp_path):
    runner(inshop, tmp_path, **{"test_cfg.cache": None}).test()
    assert not (tmp_path / "embeddings").exists()


def test_a_damaged_file_is_named(inshop, tmp_path):
    first = runner(inshop, tmp_path)
    first.test()
    (file,) = kept(tmp_path)
    file.write_bytes(file.read_bytes()[:1000])
    again = runner(inshop, tmp_path)
    again.model.load_state_dict(first.model.state_dict())
    with pytest.raises(ValueError, match=rf"kept embeddings .*{file.name} are damaged: .*; delete the file"):
        again.test()
