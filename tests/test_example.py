"""The worked example, copied to a place outside the repository, and what its loss is."""

import json
import shutil
import sys

import pytest
import torch

from hierpretrain.functional import hierarchical_contrastive_loss
from hierpretrain.registry import MODELS
from tests import processes
from tests.datasets.trees import write_image
from tests.processes import ROOT

EXAMPLE = ROOT / "examples/my_catalogue"
SMALL = [
    "train_cfg.max_epochs=2",
    "train_cfg.val_interval=2",
    "train_dataloader.batch_size=8",
    *[f"{part}_dataloader.num_workers=0" for part in ("train", "val", "test")],
]
PRODUCTS = {"shoes": ("red", "blue", "black"), "hats": ("green", "white", "grey")}


@pytest.mark.slow
def test_it_trains_and_tests_outside_the_repository(tmp_path):
    project = shutil.copytree(EXAMPLE, tmp_path / "project")
    for part in ("train", "test"):
        for category, products in PRODUCTS.items():
            for colour in products:
                for i in range(4):
                    write_image(project / f"photos/{part}/{category}/{part}_{colour}/{i}.jpg", colour, (50 + i, 60))

    def run(*words):
        log = tmp_path / "log.txt"
        processes.run(log, "-m", "hierpretrain", *words, "--cfg-options", *SMALL, cwd=project)

    run("train", "catalogue.py")
    work_dir = project / "work_dirs/catalogue"
    checkpoint = torch.load(work_dir / "epoch_2.pth", weights_only=False)
    assert checkpoint["meta"]["iter"] == 6  # 24 images in batches of 8, twice
    trained = json.loads((work_dir / "metrics.json").read_text())["metrics"]
    assert trained["level2/num_queries"] == 24
    assert trained["level2/recall@1"] == 1.0  # of one colour, a product's images are hard to mistake
    run("test", "catalogue.py", "work_dirs/catalogue/epoch_2.pth", "--work-dir", "tested")
    tested = json.loads((project / "tested/metrics.json").read_text())["metrics"]
    assert tested == pytest.approx(trained, abs=1e-6)


def test_its_loss_is_the_weighted_mean_of_both_levels(monkeypatch):
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.setattr(MODELS, "_module_dict", dict(MODELS.module_dict))
    monkeypatch.delitem(sys.modules, "catalogue_loss", raising=False)
    import catalogue_loss

    features = torch.nn.functional.normalize(torch.randn(8, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    labels = torch.tensor([[0, 0], [0, 1], [1, 2], [1, 2]]).repeat(2, 1)
    loss = catalogue_loss.CatalogueLoss(category_share=0.25, temperature=0.2)

    def supcon(column):
        options = dict(temperature=0.2, constraint=None, level_weights="uniform")
        return hierarchical_contrastive_loss(features, column, **options).item()

    expected = 0.25 * supcon(labels[:, :1]) + 0.75 * supcon(labels[:, 1:])
    assert loss(features, labels, torch.arange(4).repeat(2)).item() == pytest.approx(expected, rel=1e-6)
    with pytest.raises(ValueError, match="category_share must be from 0 to 1; it is 2"):
        catalogue_loss.CatalogueLoss(category_share=2)
