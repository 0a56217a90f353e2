"""The inferencer: the embeddings of an evaluation, from whatever form the images come in, and clear errors."""

import copy
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmpretrain import get_model
from PIL import Image

from hierpretrain.apis import EmbeddingIndex, find_config, find_model, read_embeddings, write_embeddings
from hierpretrain.apis import inferencer as inferencer_module
from hierpretrain.apis.inferencer import EmbeddingInferencer
from hierpretrain.apis.launch import build_runner
from hierpretrain.datasets import FolderDataset, UnreadableImage
from hierpretrain.models import HierarchicalContrastive
from hierpretrain.models.pretrained_copy import with_copy
from hierpretrain.registry import MODELS

PACK = dict(type="PackInputs", algorithm_keys=("extra_labels",), meta_keys=("sample_idx", "img_path", "split"))
PIPELINE = [
    dict(type="LoadRGB"),
    dict(type="torchvision/Resize", size=32),
    dict(type="torchvision/CenterCrop", size=32),
    PACK,
]
MODEL = dict(
    type="HierarchicalContrastive",
    backbone=dict(type="ResNet", depth=18, base_channels=8, stem_channels=8),
    projection=dict(type="ProjectionHead", in_channels=64, hidden_channels=16, out_channels=8),
    loss=dict(type="HiMulConLoss"),
)


def config(**model):
    return Config(
        dict(model={**MODEL, **model}, test_dataloader=dict(dataset=dict(type="FolderDataset", pipeline=PIPELINE)))
    )


def random_model(options, seed=0):
    """Builds a model whose weights and normalisation statistics are all random."""
    torch.manual_seed(seed)
    model = MODELS.build({"_scope_": "hierpretrain", **options})
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    return model.eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "epoch_1.pth"
    torch.save({"state_dict": random_model(MODEL).state_dict(), "meta": {}}, path)
    return path


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Seven noise images of different sizes in a tree of three classes."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i, name in enumerate(("a/x/1", "a/x/2", "a/y/1", "a/y/2", "b/z/1", "b/z/2", "b/z/3")):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32 + 5 * i, 40, 3), dtype=np.uint8)).save(root / f"{name}.png")
    return root


@pytest.fixture(scope="module")
def inferencer(checkpoint):
    return EmbeddingInferencer(config(), checkpoint, device="cpu", progress=False)


def test_embeddings_are_those_of_an_evaluation(inferencer, checkpoint, photos):
    dataset = FolderDataset(data_root=str(photos), pipeline=PIPELINE)
    model = HierarchicalContrastive(**{key: value for key, value in MODEL.items() if key != "type"}).eval()
    model.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
    expected = []
    for i in range(len(dataset)):
        item = dataset[i]
        with torch.no_grad():
            data = {"inputs": [item["inputs"]], "data_samples": [item["data_samples"]]}
            expected.append(model.test_step(data)[0].embedding)
    embedded = inferencer.embed(photos)
    torch.testing.assert_close(embedded.features, torch.stack(expected))
    torch.testing.assert_close(embedded.features.norm(dim=1), torch.ones(7))
    assert torch.equal(embedded.labels, dataset.labels)
    assert embedded.paths == dataset.image_paths
    assert embedded.taxonomy == dataset.taxonomy
    assert embedded.names("level2") == ["x", "x", "y", "y", "z", "z", "z"]
    np.testing.assert_array_equal(inferencer(dataset), embedded.features.numpy())


def test_files_arrays_and_pictures_of_one_image_are_embedded_alike(inferencer, photos):
    path = photos / "a/x/1.png"
    with Image.open(path) as picture:
        picture.load()
    rows = inferencer([path, str(path), picture, np.asarray(picture)])
    assert rows.dtype == np.float32
    assert rows.shape == (4, 64)
    np.testing.assert_allclose(rows, np.broadcast_to(rows[0], rows.shape), atol=1e-6)


@pytest.mark.parametrize("options", [dict(batch_size=1), dict(batch_size=3, num_workers=2), dict(batch_size=100)])
def test_batches_and_workers_change_nothing(inferencer, checkpoint, photos, options):
    other = EmbeddingInferencer(config(), checkpoint, device="cpu", progress=False, **options)
    np.testing.assert_allclose(other(photos), inferencer(photos), atol=1e-6)


@pytest.fixture(scope="module")
def twenty(tmp_path_factory):
    """Twenty small images, the eighth of which cannot be read."""
    root = tmp_path_factory.mktemp("twenty")
    rng = np.random.default_rng(1)
    for i in range(20):
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(root / f"{i:02}.png")
    (root / "07.png").write_bytes((root / "07.png").read_bytes()[:200])
    return root


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_processes_embed_as_one_does_and_tell_what_they_cannot_read(inferencer, checkpoint, twenty, batch_size):
    options = dict(device="cpu", progress=False, on_error="skip")
    one = EmbeddingInferencer(config(), checkpoint, **options).embed(twenty)
    two = EmbeddingInferencer(config(), checkpoint, num_workers=2, batch_size=batch_size, **options).embed(twenty)
    torch.testing.assert_close(two.features, one.features, rtol=0, atol=1e-6)
    assert len(two.paths) == 19
    for name in ("paths", "skipped", "digests"):
        assert getattr(two, name) == getattr(one, name), name
    strict = EmbeddingInferencer(config(), checkpoint, num_workers=2, device="cpu", progress=False)
    with pytest.raises(UnreadableImage, match=r"^cannot read the image .*07.png: "):
        strict.embed(twenty)


def test_processes_are_as_many_as_torch_has_threads(checkpoint):
    options = dict(device="cpu", progress=False)
    wanted = torch.get_num_threads() if sys.platform == "linux" else 2
    assert EmbeddingInferencer(config(), checkpoint, num_workers=None, **options).num_workers == wanted


def test_bfloat16_is_off_by_some_thousandths(inferencer, checkpoint, photos):
    rows = EmbeddingInferencer(config(), checkpoint, device="cpu", progress=False, amp=True)(photos)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)
    cosines = (rows * inferencer(photos)).sum(1)
    assert 0.99 < cosines.min() < 1 - 1e-6


def test_on_a_processor_weights_and_images_lie_channels_last(inferencer, photos, monkeypatch):
    given = []
    monkeypatch.setattr(inferencer.module, "embed", lambda images: given.append(images) or torch.ones(len(images), 64))
    inferencer(photos)
    assert given[0].is_contiguous(memory_format=torch.channels_last)
    assert inferencer.module.backbone.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_the_projection_where_the_config_says_so(checkpoint, photos):
    model = random_model(MODEL)
    embedded = EmbeddingInferencer(config(embedding="projection"), checkpoint, device="cpu", progress=False)(photos)
    pixels = np.asarray(Image.open(photos / "a/x/1.png").resize((40, 32)).crop((4, 0, 36, 32)))
    data = model.data_preprocessor({"inputs": [torch.from_numpy(pixels.copy()).permute(2, 0, 1)]})
    with torch.no_grad():
        expected = model.projection(model.extract_feat(data["inputs"]))
    assert embedded.shape == (7, 8)
    torch.testing.assert_close(torch.from_numpy(embedded[:1]), torch.nn.functional.normalize(expected))


def test_a_corrupt_image_in_the_middle_is_an_error_or_skipped_and_listed(checkpoint, photos, tmp_path):
    root = tmp_path / "with_corrupt"
    for path in photos.rglob("*.png"):
        copy = root / path.relative_to(photos)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    whole = (root / "a/y/2.png").read_bytes()
    (root / "a/y/2.png").write_bytes(whole[: len(whole) // 2])
    (root / "a/y/3.jpg").write_bytes(b"this is a text")
    strict = EmbeddingInferencer(config(), checkpoint, device="cpu", progress=False)
    with pytest.raises(UnreadableImage, match=r"cannot read the image .*a/y/2.png: .*; replace the file, or .*'skip'"):
        strict.embed(root)
    skipping = EmbeddingInferencer(config(), checkpoint, device="cpu", progress=False, on_error="skip", batch_size=2)
    embedded = skipping.embed(root)
    assert list(embedded.skipped) == [str(root / "a/y/2.png"), str(root / "a/y/3.jpg")]
    assert "cannot read the image" in embedded.skipped[str(root / "a/y/2.png")]
    kept = [i for i, path in enumerate(strict.embed(photos).paths) if not path.endswith("a/y/2.png")]
    np.testing.assert_allclose(embedded.features, strict(photos)[kept], atol=1e-6)
    assert embedded.names("level2") == ["x", "x", "y", "z", "z", "z"]
    with pytest.raises(UnreadableImage, match="none of the 1 images can be read"):
        skipping.embed(root / "a/y/3.jpg")


def test_the_fingerprint_is_that_of_weights_and_preprocessing(inferencer, checkpoint, tmp_path):
    def fingerprint(options, file):
        return EmbeddingInferencer(options, file, device="cpu", progress=False).fingerprint

    assert fingerprint(config(), checkpoint) == inferencer.fingerprint
    turned = Config({key: dict(reversed(value.items())) for key, value in config().to_dict().items()})
    assert fingerprint(turned, checkpoint) == inferencer.fingerprint  # another order of the keys
    pretrained = dict(type="Pretrained", checkpoint="elsewhere.pth")
    frozen = {**MODEL["backbone"], "frozen_stages": 4, "norm_eval": True, "init_cfg": pretrained}
    assert fingerprint(config(backbone=frozen, projection=None, loss=None), checkpoint) == inferencer.fingerprint
    other = tmp_path / "other.pth"
    torch.save({"state_dict": random_model(MODEL, seed=1).state_dict()}, other)
    coarser = config()
    coarser.test_dataloader.dataset.pipeline[1].size = 40
    brighter = config(data_preprocessor=dict(type="MultiViewPreprocessor", mean=(1, 2, 3)))
    scoped = config()
    scoped.model._scope_ = "hierpretrain"
    assert fingerprint(scoped, checkpoint) == inferencer.fingerprint
    different = [fingerprint(config(), other), fingerprint(coarser, checkpoint), fingerprint(brighter, checkpoint)]
    shared = str(tmp_path / "shared.pth")
    weights = torch.load(checkpoint, weights_only=False)["state_dict"]
    torch.save({"state_dict": with_copy(weights, "", "pretrained")}, shared)
    different += [
        fingerprint(config(**{name: value}), file)
        for name, value, file in (
            ("embedding", "projection", checkpoint),
            ("power", 0.5, checkpoint),
            ("pretrained_share", 0.5, shared),
            ("pretrained_share", 0.4, shared),
        )
    ]
    assert len({inferencer.fingerprint, *different}) == 8


def test_weights_that_are_changed_in_memory_have_another_fingerprint(checkpoint, photos, monkeypatch):
    changing = EmbeddingInferencer(config(), checkpoint, device="cpu", progress=False)
    before = changing.fingerprint
    index = changing.build_index(photos)
    counted, computed = [], inferencer_module.encoder_fingerprint
    monkeypatch.setattr(inferencer_module, "encoder_fingerprint", lambda *args: counted.append(args) or computed(*args))
    for _ in range(3):
        assert changing.embed(photos / "a/x/1.png").fingerprint == changing.fingerprint == before
    assert counted == []  # nothing is hashed again
    weights = {name: value.clone() for name, value in changing.module.state_dict().items()}
    with torch.no_grad():
        next(changing.module.backbone.parameters()).mul_(2)
    assert changing.fingerprint != before
    assert len(counted) == 1
    for use in (index.search, index.classify, index.update, index.add):
        with pytest.raises(
            ValueError, match=rf"\(fingerprint {before}\), not by .* \({changing.fingerprint}\): weights"
        ):
            use(np.zeros((40, 40, 3), np.uint8))
    assert len(index) == 7
    changing.module.load_state_dict(weights)
    assert changing.fingerprint == before
    index.search(np.zeros((40, 40, 3), np.uint8))


def test_embeddings_know_which_model_made_them(inferencer, checkpoint, photos, tmp_path):
    ours = inferencer.embed(photos)
    assert (ours.model, ours.fingerprint) == (inferencer.name, inferencer.fingerprint)
    write_embeddings(ours, tmp_path / "out")
    read = read_embeddings(tmp_path / "out")
    assert (read.model, read.fingerprint) == (ours.model, ours.fingerprint)
    index = inferencer.build_index(read.select(range(4)))
    index.add(read.select(range(4, 7)))
    assert index.embeddings().fingerprint == ours.fingerprint
    theirs = EmbeddingInferencer(config(), checkpoint, options={"model.power": 0.5}, device="cpu", progress=False)
    unlike = replace(theirs.embed(photos), paths=[f"their {i}" for i in range(7)])
    message = (
        rf"made by '{ours.model}' \(fingerprint {ours.fingerprint}\), not by '{unlike.model}' \({unlike.fingerprint}"
    )
    for use in (index.search, index.classify, index.add, lambda given: index.calibrate(given, precision=0.9)):
        with pytest.raises(ValueError, match=message):
            use(unlike)
    message = (
        rf"the embeddings are of '{unlike.model}' \(fingerprint {unlike.fingerprint}\), and the index would be of "
        rf"'{ours.model}' \({ours.fingerprint}\): embed the images with this model"
    )
    for folder in (None, tmp_path / "index"):
        with pytest.raises(ValueError, match=message):
            inferencer.build_index(unlike, folder)
    with pytest.raises(ValueError, match=message):
        EmbeddingIndex.build(unlike, model=ours.model, fingerprint=ours.fingerprint)
    assert not (tmp_path / "index").exists()
    index.add(replace(unlike, model="", fingerprint=""))  # of who knows which model
    with pytest.raises(ValueError, match=r"there is no checkpoint no\.pth"):
        EmbeddingInferencer(config(), "", options={"load_from": "no.pth"}, device="cpu", progress=False)
    start = EmbeddingInferencer(config(), "", options={"load_from": str(checkpoint)}, device="cpu", progress=False)
    assert (start.name, start.fingerprint) == (inferencer.name, inferencer.fingerprint)
    assert len(index) == 14


def test_embeddings_of_older_files_have_no_model(inferencer, photos, tmp_path):
    write_embeddings(replace(inferencer.embed(photos), model="", fingerprint=""), tmp_path / "out")
    assert "fingerprint" not in json.loads((tmp_path / "out/images.json").read_text())
    assert read_embeddings(tmp_path / "out").fingerprint == ""
    with pytest.raises(
        ValueError, match=r"images.json must hold texts in 'model' and 'fingerprint'; it holds \['', 7\]"
    ):
        write_embeddings(replace(read_embeddings(tmp_path / "out"), fingerprint=7), tmp_path / "out")


def test_one_model_by_name_prefix_file_and_work_directory_has_one_fingerprint(tmp_path):
    named = EmbeddingInferencer("himulcone_emoji", "", device="cpu")
    torch.save({"state_dict": named.module.state_dict()}, tmp_path / "epoch_5.pth")
    find_model("linear_emoji")[0].dump(tmp_path / "linear_emoji.py")  # as MMEngine puts it into a work directory
    names = ("himulcone_emoji", "hierpretrain::himulcone_emoji.py", find_config("himulcone_emoji"), "linear_emoji")
    made = [
        EmbeddingInferencer(name, tmp_path / "epoch_5.pth", options={"model.projection": None}, device="cpu")
        for name in (*names, tmp_path / "linear_emoji.py")
    ]
    assert {one.fingerprint for one in made} == {made[0].fingerprint}
    assert [one.name.split(",")[0] for one in made] == ["himulcone_emoji"] * 3 + ["linear_emoji"] * 2
    pixels = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), dtype=np.uint8)
    for one in made:
        np.testing.assert_array_equal(one(pixels), made[0](pixels))


def test_the_backbone_and_neck_of_mmpretrains_own_models(photos):
    theirs = get_model("resnet18_8xb32_in1k")
    random = random_model(theirs._config.model)
    theirs.load_state_dict(random.state_dict())
    weights = photos.parent / "theirs.pth"
    torch.save({"state_dict": random.state_dict()}, weights)
    ours = EmbeddingInferencer("resnet18_8xb32_in1k", weights, device="cpu", progress=False)
    assert ours.name == "resnet18_8xb32_in1k, theirs.pth"
    pixels = np.random.default_rng(1).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    theirs.eval()
    bgr = torch.from_numpy(pixels[16:240, 16:240, ::-1].copy()).permute(2, 0, 1)  # 224 of 256 pixels
    with torch.no_grad():
        data = theirs.data_preprocessor({"inputs": [bgr]})
        expected = torch.nn.functional.normalize(theirs.extract_feat(data["inputs"])[-1])
    np.testing.assert_allclose(ours(pixels), expected.numpy(), atol=1e-6)


OWN = dict(type="MultiViewPreprocessor", mean=(90.0, 110.0, 130.0), std=(50.0, 60.0, 70.0))
FOREIGN = dict(OWN, type="mmengine.ImgDataPreprocessor", bgr_to_rgb=True)
SCALED = {name: list(OWN[name]) for name in ("mean", "std")}
CLASSIFIER = dict(
    type="mmpretrain.ImageClassifier",
    backbone=MODEL["backbone"],
    neck=dict(type="mmpretrain.GlobalAveragePooling"),
    head=dict(type="mmpretrain.LinearClsHead", num_classes=2, in_channels=64),
)
OPENINGS = [
    [dict(type="LoadRGB"), dict(type="torchvision/CenterCrop", size=32)],
    [dict(type="LoadImageFromFile"), dict(type="CenterCrop", crop_size=32)],
    [
        dict(type="LoadImageFromFile"),
        dict(type="NumpyToPIL", to_rgb=True),
        dict(type="torchvision/CenterCrop", size=32),
    ],
]


@pytest.mark.parametrize("steps", OPENINGS, ids=["rgb", "bgr", "bgr, turned"])
@pytest.mark.parametrize(
    ("model", "beside"),
    [
        (MODEL, None),
        (dict(MODEL, data_preprocessor=OWN), None),
        (MODEL, OWN),
        (MODEL, FOREIGN),
        (MODEL, dict(type="mmengine.ImgDataPreprocessor")),
        (dict(MODEL, data_preprocessor=FOREIGN), OWN),
        (CLASSIFIER, None),
        (CLASSIFIER, SCALED),
        (CLASSIFIER, dict(to_rgb=True)),
        (CLASSIFIER, dict(SCALED, to_rgb=True)),
        (dict(CLASSIFIER, data_preprocessor=dict(SCALED, to_rgb=True)), dict(to_rgb=False)),
    ],
)
def test_channels_and_values_are_those_of_the_runner_s_preprocessor(model, beside, steps, photos, tmp_path):
    dataset = dict(type="FolderDataset", data_root=str(photos), pipeline=[*steps, PACK])
    loader = dict(dataset=dataset, batch_size=7, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False))
    settings = dict(model=model, test_dataloader=loader, work_dir=str(tmp_path), default_scope="hierpretrain")
    settings |= dict(
        test_cfg=dict(), test_evaluator=dict(type="RetrievalMetric", levels=[1]), experiment_name=tmp_path.name
    )
    settings |= {} if beside is None else dict(data_preprocessor=beside)
    runner = build_runner(Config(copy.deepcopy(settings)))
    runner.model.load_state_dict(random_model(model).state_dict())
    torch.save({"state_dict": runner.model.state_dict()}, tmp_path / "weights.pth")
    with torch.no_grad():
        data = runner.model.eval().data_preprocessor(next(iter(runner.test_dataloader)), False)
        found = runner.model.extract_feat(data["inputs"])
    expected = torch.nn.functional.normalize(found[-1] if isinstance(found, tuple) else found)
    made = EmbeddingInferencer(Config(settings), tmp_path / "weights.pth", device="cpu", progress=False)
    np.testing.assert_allclose(made(photos), expected.numpy(), atol=1e-5)


def test_a_foreign_preprocessor_beside_the_model_is_part_of_the_fingerprint(checkpoint):
    made = [
        EmbeddingInferencer(Config(dict(config(), data_preprocessor=beside)), checkpoint, device="cpu").fingerprint
        for beside in (FOREIGN, dict(FOREIGN, bgr_to_rgb=False), OWN)
    ]
    assert len(set(made)) == 3
    inside = EmbeddingInferencer(config(data_preprocessor=FOREIGN), checkpoint, device="cpu").fingerprint
    assert inside == made[0]


def test_images_that_are_opened_without_their_colours_are_refused(checkpoint):
    grey = config()
    grey.test_dataloader.dataset.pipeline[0] = dict(type="LoadImageFromFile", color_type="grayscale")
    with pytest.raises(ValueError, match=r"must have the color_type 'color', as images .*; it has 'grayscale': turn"):
        EmbeddingInferencer(grey, checkpoint, device="cpu")


def test_initial_weights_only_where_they_are_asked_for(photos):
    with pytest.raises(ValueError, match=r"the model comes without weights: give the checkpoint .* or ''"):
        EmbeddingInferencer(config())
    assert EmbeddingInferencer(config(), "", device="cpu").name == "the model, untrained"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(on_error="ignore"), "on_error must be 'error' or 'skip'; it is 'ignore'"),
        (dict(batch_size=0), "batch_size must be at least 1"),
        (dict(num_workers=-1), "num_workers must be an integer from 0; it is -1"),
        (dict(checkpoint="nowhere.pth"), "there is no checkpoint nowhere.pth"),
        (dict(options={"model.backbone.depth": 34}), "is no checkpoint of the config's model: 96 weights are missing"),
        (dict(options={"test_dataloader.dataset.pipeline": []}), "must have a pipeline that begins with LoadRGB"),
        (dict(options={"model.backbone.type": "ResNett"}), "did you mean 'ResNet'"),
        (dict(options={"model.backbone.depht": 34}), "the config's model cannot be built: TypeError: .*'depht'; corr"),
        (dict(options={"model.backbone.depth": 19}), "the config's model cannot be built: KeyError: 'invalid depth 19"),
        (dict(options={"modle.backbone.depth": 34}), "the config has the unknown key 'modle'; did you mean 'model'"),
        (dict(options={"model": "ResNet"}), "the config must have a model, a dict with its type; it has 'ResNet'"),
        (dict(options={"test_dataloader.dataset.pipeline": ["LoadRGB"]}), "must have a pipeline that begins with Load"),
        (
            dict(options={"test_dataloader.dataset.pipeline.1.sise": 3}),
            "the config's test pipeline cannot be built: TypeError: .*'sise'",
        ),
        (dict(device="toaster"), "the device 'toaster' cannot be used here: .*; give 'cpu', or none"),
        (dict(device="cuda:99"), "the device 'cuda:99' cannot be used here: "),
        (dict(options={"model.type.name": 1}), "the options do not fit into the config of the model"),
    ],
)
def test_wrong_options_are_errors(checkpoint, options, message):
    with pytest.raises(ValueError, match=message):
        EmbeddingInferencer(config(), **{"checkpoint": checkpoint, "device": "cpu", **options})


@pytest.mark.parametrize("content", [None, torch.zeros(3), [1, 2], {"state_dict": {"conv": 3}}, {"weights": 1}])
def test_a_damaged_checkpoint_is_an_error(tmp_path, content):
    (tmp_path / "epoch_1.pth").write_bytes(b"PK\x03\x04 no zip")
    if content is not None:
        torch.save(content, tmp_path / "epoch_1.pth")
    with pytest.raises(ValueError, match="is damaged or no checkpoint"):
        EmbeddingInferencer(config(), tmp_path / "epoch_1.pth")


def test_weights_that_diverged_are_an_error(tmp_path, photos):
    model = random_model(MODEL)
    model.backbone.conv1.weight.data.fill_(float("nan"))
    torch.save({"state_dict": model.state_dict()}, tmp_path / "nan.pth")
    with pytest.raises(ValueError, match=r"1 weights are unusable: backbone.conv1.weight is not finite"):
        EmbeddingInferencer(config(), tmp_path / "nan.pth", device="cpu", progress=False).embed(photos)


def test_a_picture_that_cannot_be_read_is_skipped_and_listed(checkpoint, photos, tmp_path):
    (tmp_path / "half.png").write_bytes((photos / "a/x/1.png").read_bytes()[:-900])
    pictures = [Image.new("RGB", (40, 40)), Image.open(tmp_path / "half.png"), Image.new("F", (9, 9), -1)]
    skipping = EmbeddingInferencer(config(), checkpoint, device="cpu", progress=False, on_error="skip")
    embedded = skipping.embed(pictures)
    assert embedded.paths == ["<image 0>"]
    assert list(embedded.skipped) == ["<image 1>", "<image 2>"]
    assert embedded.skipped["<image 2>"].startswith("cannot read the image <image 2>: of mode F")
    strict = EmbeddingInferencer(config(), checkpoint, device="cpu", progress=False)
    with pytest.raises(UnreadableImage, match=r"cannot read the image <image 2>: of mode F.*; replace the file"):
        strict.embed([pictures[0], pictures[0], pictures[2]])


def test_a_batch_that_does_not_fit_into_the_memory_is_an_error(checkpoint, photos, monkeypatch):
    small = EmbeddingInferencer(config(), checkpoint, device="cpu", progress=False, batch_size=4)

    def full(inputs):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9.00 GiB")

    monkeypatch.setattr(small.module, "embed", full)
    with pytest.raises(
        ValueError, match="4 images at a time do not fit into the memory of cpu; give a smaller batch_s"
    ):
        small.embed(photos)


def test_a_search_is_checked_before_its_queries_are_embedded(checkpoint, photos, monkeypatch):
    inferencer = EmbeddingInferencer(config(), checkpoint, device="cpu", progress=False)
    inferencer.build_index(photos)
    monkeypatch.setattr(inferencer, "embed", None)
    with pytest.raises(ValueError, match="no level 'breed'"):
        inferencer.search(photos, level="breed")


@pytest.mark.parametrize("workers", [0, 2])
def test_images_of_different_sizes_are_an_error(checkpoint, photos, workers):
    pipeline = {"test_dataloader.dataset.pipeline": [dict(type="LoadRGB"), PACK]}
    options = dict(options=pipeline, device="cpu", progress=False, num_workers=workers)
    inferencer = EmbeddingInferencer(config(), checkpoint, **options)
    with pytest.raises(ValueError, match=r"^the images of a batch must have one size; end the pipeline with a crop"):
        inferencer.embed([photos] * 3)


def test_search_wants_an_index_first(inferencer, photos):
    inferencer.index = None
    for call in (inferencer.search, inferencer.classify):
        with pytest.raises(ValueError, match=r"there is no index to look into; call build_index"):
            call(photos)
