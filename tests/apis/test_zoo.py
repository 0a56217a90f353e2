"""The model zoo: what its index says against the configs, and our models in mmpretrain's functions."""

import copy
import subprocess
import sys
from difflib import SequenceMatcher
from pathlib import Path

import mmpretrain
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain import ModelHub
from modelindex.load_model_index import load
from PIL import Image

from hierpretrain.apis import find_model, image_retriever, list_configs, load_config, mmpretrain_config, register_zoo
from hierpretrain.datasets.loading import open_rgb
from hierpretrain.models.num_classes import loss_that_counts
from hierpretrain.registry import MODELS, TRANSFORMS
from tests.test_inheritance import make_small

ROOT = Path(__file__).parents[2]
TRAINED = [name for name in list_configs() if not name.startswith("linear_")]


# ------------------------------------------------------------------ the index
@pytest.fixture(scope="module", params=["", "hierpretrain/.mim"])
def index(request):
    """The index as OpenMMLab's tools read it, from the repository and from the package."""
    index = load(str(ROOT / request.param / "model-index.yml"))
    index.build_models_with_collections()
    return index


def test_the_index_lists_every_config_that_trains_and_no_other(index):
    assert sorted(model.name for model in index.models) == TRAINED
    assert index.check(silent=True) == []
    for model in index.models:
        assert model.config == f"configs/{model.name}.py"
        assert model.weights is None


def test_every_model_is_in_a_collection_with_a_paper(index):
    papers = {collection.name: collection.paper["URL"] for collection in index.collections}
    assert set(papers.values()) == {"https://arxiv.org/abs/2204.13207", "https://arxiv.org/abs/2401.03312"}
    for model in index.models:
        of_paper_b = model.name.startswith(("leaftriplet_", "leveltriplet_"))
        assert papers[model.in_collection].endswith("2401.03312" if of_paper_b else "2204.13207")


def test_the_metadata_are_those_of_the_configs():
    names = {}  # type of the data set -> its name in the index
    for model in load(str(ROOT / "model-index.yml")).models:
        config = Config.fromfile(ROOT / model.config)
        data = config.train_dataloader.dataset.type
        backbone = config.model.backbone
        name = {
            "ResNet": f"ResNet-{backbone.get('depth')}",
            "ResNet_CIFAR": "ResNet-18",
            "VGG16Convolutions": "VGG-16",
            "EfficientNetLite0": "EfficientNet-Lite0",
        }
        assert model.metadata.data == {
            "Training Data": names.setdefault(data, model.metadata.data["Training Data"]),
            "Architecture": name[backbone.type] + (" of half the width" if backbone.get("base_channels") == 32 else ""),
            "Epochs": config.train_cfg.max_epochs,
            "Batch Size": config.train_dataloader.batch_size,
        }
    for data, name in names.items():  # it is the one most like the name of the reader
        likeness = {other: SequenceMatcher(None, data.lower(), other.lower()).ratio() for other in names.values()}
        assert max(likeness, key=likeness.get) == name


def test_results_are_numbers_of_the_two_data_sets_that_come_along(index):
    measured = {model.name: model.results for model in index.models if model.results}
    assert len(measured) == 16
    for name, results in measured.items():
        assert name.split("_")[1] in ("emoji", "openclipart")
        for result in results:
            assert result.task in ("Image Retrieval", "Image Classification")
            assert result.dataset.split(",")[0] in ("emoji64", "openclipart96")
            assert all(0 < value < 100 for value in result.metrics.values())


def test_a_result_is_that_of_the_tables():
    """One row of two tables, so that index and tables cannot drift apart unseen."""
    tables = (ROOT / "docs/results.md").read_text().split("**")
    shown = []
    for title, columns in (
        ("Retrieval of the emoji (table 3)", slice(4, 6)),
        ("Clustering (table 4)", slice(4, 1, -2)),
    ):
        (row,) = [r for r in tables[tables.index(title) + 1].splitlines() if r.startswith("| HiMulConE |")]
        shown += [float(cell.split("±")[0]) for cell in row.strip("| ").split("|")[columns]]
    models = {model.name: model for model in load(str(ROOT / "model-index.yml")).models}
    metrics = models["himulcone_emoji_seen"].results[0].metrics
    keys = ("MAP@R unseen emoji", "Recall@1 unseen emoji", "NMI unseen emoji in subcategory", "NMI unseen subcategory")
    assert [metrics[key] for key in keys] == shown


# ------------------------------------------------------------------ mmpretrain's functions
@pytest.fixture
def hub(monkeypatch):
    """mmpretrain's hub without our models; what a test adds to it is gone afterwards."""
    ModelHub._register_mmpretrain_models()
    monkeypatch.setattr(ModelHub, "_models_dict", {k: v for k, v in ModelHub._models_dict.items() if k not in TRAINED})


@pytest.fixture
def zoo(hub):
    """The hub with our models."""
    register_zoo()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of himulcone_emoji with random weights."""
    path = tmp_path_factory.mktemp("zoo") / "random.pth"
    torch.manual_seed(3)
    model = MODELS.build({**load_config("himulcone_emoji").model, "_scope_": "hierpretrain"})
    torch.save({"state_dict": model.state_dict(), "meta": {}}, path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for i in range(4):
        Image.fromarray(generator.integers(0, 256, (64, 64, 3), dtype=np.uint8)).save(folder / f"{i}.png")
    return sorted(map(str, folder.glob("*.png")))


def expected(checkpoint, photos):
    """Features by our own loading and transforms."""
    config = load_config("himulcone_emoji")
    model = MODELS.build({**config.model, "_scope_": "hierpretrain"}).eval()
    model.load_state_dict(torch.load(checkpoint)["state_dict"])
    resize, crop, pack = (
        TRANSFORMS.build({**transform, "_scope_": "hierpretrain"})
        for transform in config.test_dataloader.dataset.pipeline
        if transform.type != "LoadRGB"
    )
    rows = [pack(crop(resize(dict(img=open_rgb(path))))) for path in photos]
    data = model.data_preprocessor(dict(inputs=[row["inputs"] for row in rows], data_samples=None))
    with torch.no_grad():
        return model.extract_feat(data["inputs"])


def test_registering_twice_does_no_harm(hub):
    assert mmpretrain.list_models("himul*") == []
    for _ in range(2):
        register_zoo()
    names = mmpretrain.list_models()
    assert {name for name in names if name in TRAINED} == set(TRAINED)
    of_retrieval = mmpretrain.list_models(task="Image Retrieval")  # measured or not
    assert [name for name in of_retrieval if name in TRAINED] == TRAINED
    assert not set(mmpretrain.list_models(task="null")) & set(TRAINED)


def test_a_model_of_another_package_with_our_name_is_an_error(zoo, monkeypatch):
    theirs = copy.deepcopy(ModelHub._models_dict["resnet18_8xb32_in1k"])
    monkeypatch.setattr(ModelHub, "_models_dict", {"hicone_emoji": theirs})
    with pytest.raises(ValueError, match="The model name hicone_emoji is conflict"):
        register_zoo()


def test_get_model_and_the_feature_extractor_give_our_features(zoo, checkpoint, photos):
    model = mmpretrain.get_model("himulcone_emoji", pretrained=str(checkpoint))
    assert type(model).__name__ == "HierarchicalContrastive"
    found = mmpretrain.FeatureExtractor("himulcone_emoji", pretrained=str(checkpoint), device="cpu")(
        photos, batch_size=3
    )
    torch.testing.assert_close(torch.stack(found), expected(checkpoint, photos))
    torch.testing.assert_close(torch.stack(mmpretrain.FeatureExtractor(model)(photos)), torch.stack(found))
    from_file = mmpretrain.get_model(mmpretrain_config(ROOT / "configs/himulcone_emoji.py"), str(checkpoint))
    assert all(map(torch.equal, model.parameters(), from_file.parameters()))


def test_the_retrieval_inferencer_ranks_by_cosine(zoo, checkpoint, photos):
    model = mmpretrain.get_model("himulcone_emoji", pretrained=str(checkpoint))
    inferencer = mmpretrain.ImageRetrievalInferencer(image_retriever(model), prototype=photos)
    (matches,) = inferencer(photos[2], topk=4)
    features = torch.nn.functional.normalize(expected(checkpoint, photos), dim=1)
    scores, order = (features @ features[2]).sort(descending=True)
    assert [match["sample_idx"] for match in matches] == order.tolist()
    assert [float(match["match_score"]) for match in matches] == pytest.approx(scores.tolist(), abs=1e-5)
    (best,) = mmpretrain.inference_model(image_retriever(model), photos[2], prototype=photos)
    assert best["sample_idx"] == 2


def test_without_weights_mmpretrain_says_so(zoo):
    with pytest.warns(UserWarning, match="Unable to find pre-defined checkpoint of the model"):
        mmpretrain.get_model("himulcone_emoji", pretrained=True)
    for name in ("himulcone_emoji", "himulcone_deepfashion"):  # one that was measured, and one that was not
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'prototype'"):
            mmpretrain.inference_model(name, "photo.png")


@pytest.mark.parametrize("name", TRAINED)
def test_every_config_of_the_zoo_builds_as_mmpretrain_builds_it(name):
    config = mmpretrain_config(name)
    make_small(config.model)
    with torch.device("meta" if "neck" in config.model else "cpu"):
        model = mmpretrain.get_model(config)
    assert type(model).__name__ == "HierarchicalContrastive"
    counts = loss_that_counts(load_config(name).model.loss)  # what such a loss waits for, only a training brings
    assert (model.loss_module is None) == (counts is not None)
    kinds = [type(mmpretrain.registry.TRANSFORMS.build(t)).__name__ for t in config.test_dataloader.dataset.pipeline]
    assert kinds[:2] == ["LoadImageFromFile", "NumpyToPIL"]
    assert kinds[-1] == "PackInputs"


# ------------------------------------------------------------------ by name
def test_models_by_name_are_ours_then_theirs(tmp_path):
    config, weights = find_model("hicone_emoji")
    assert (config.model.loss.type, weights) == ("HiConELoss", None)
    config, weights = find_model("ResNet18_8xb32_in1k")
    assert config.model.backbone.depth == 18
    assert weights.startswith("https://")  # of a host that the forks of mmpretrain have changed
    (tmp_path / "mine.py").write_text("_base_ = 'hierpretrain::supcon_emoji.py'")
    assert find_model(tmp_path / "mine.py")[0].model.loss.type == "SupConLoss"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "hicone_emojy",
            "hicone_emojy, nor is it a name of HierPretrain's or mmpretrain's .*; the nearest are hicone_emoji",
        ),
        ("resnet18_8xb32_in2k", "the nearest are resnet18_8xb32_in1k, resnet"),
        ("x", r"list_configs\(\) has all names"),
    ],
)
def test_nearest_names_of_both(name, message):
    with pytest.raises(ValueError, match=message):
        find_model(name)


@pytest.mark.slow
def test_vis_scheduler_of_mmpretrain_draws_a_config_that_a_run_wrote(tmp_path):
    for i in range(8):
        (tmp_path / "photos" / str(i % 2)).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / f"photos/{i % 2}/{i}.png")
    config = load_config("himulcone_emoji", {"train_dataloader.batch_size": 2, "train_cfg.max_epochs": 2})
    pipeline = config.train_dataloader.dataset.pipeline
    config.train_dataloader.dataset = dict(type="FolderDataset", data_root=str(tmp_path / "photos"), pipeline=pipeline)
    config.work_dir = str(tmp_path / "work")
    config.dump(tmp_path / "mine.py")
    tool = Path(mmpretrain.__file__).parent / ".mim/tools/visualization/vis_scheduler.py"
    ours = ["--cfg-options", "train_dataloader.dataset._scope_=hierpretrain"]
    words = [tmp_path / "mine.py", "--not-show", "--save-path", tmp_path / "lr.png", *ours]
    done = subprocess.run([sys.executable, tool, *words], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Iterations per epoch: 4" in done.stdout
    assert (tmp_path / "lr.png").is_file()
