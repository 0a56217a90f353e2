"""Exported files compute what the model computes, say all that another program needs, and are not there if not."""

import itertools
import json
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmengine.config import Config
from mmpretrain.registry import TRANSFORMS
from PIL import Image

from hierpretrain.apis import EmbeddingInferencer, export, export_onnx, export_program
from hierpretrain.apis.inferencer import _Pipeline
from hierpretrain.apis.pipeline_steps import describe_steps
from hierpretrain.datasets.loading import open_rgb

DOCS = Path(__file__).parents[2] / "docs/export.md"
SMALL = dict(type="ResNet", depth=18, base_channels=8, stem_channels=8)
VIT = dict(
    type="VisionTransformer",
    arch=dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32),
    img_size=32,
)
SWIN = dict(
    type="SwinTransformer",
    arch=dict(embed_dims=8, depths=[2, 1], num_heads=[1, 2]),
    img_size=32,
    window_size=2,
    out_indices=(1,),
)
CROPPED = [
    dict(type="torchvision/Resize", size=36, interpolation="bilinear"),
    dict(type="torchvision/CenterCrop", size=(32, 40)),
]


def infer(backbone=SMALL, transforms=CROPPED, **options):
    torch.manual_seed(0)
    pipeline = [dict(type="LoadRGB"), *transforms, dict(type="PackInputs")]
    model = dict(type="HierarchicalContrastive", backbone=backbone, **options)
    config = Config(dict(model=model, test_dataloader=dict(dataset=dict(pipeline=pipeline))))
    made = EmbeddingInferencer(config, checkpoint="", device="cpu", progress=False)
    for module in made.module.modules():  # as if trained: no statistics of 0 and 1, no weights of 0
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_mean, -0.2, 0.2)
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
    return made


@pytest.fixture(scope="module")
def inferencer():
    return infer(data_preprocessor=dict(type="MultiViewPreprocessor", channels_last=True), channels_last=True)


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Five images of several kinds, sizes and shapes; the last has a transparent half."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for i, (height, width) in enumerate(((60, 45), (36, 36), (33, 70), (91, 64))):
        coarse = rng.integers(0, 256, (5, 4, 3), dtype=np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        exif = Image.Exif()
        exif[0x0112] = 6 if i == 3 else 1
        image.save(folder / f"{i}.png", exif=exif)
    clear = Image.new("RGBA", (50, 50), (200, 30, 60, 255))
    clear.paste((0, 0, 0, 0), (0, 0, 25, 50))
    clear.save(folder / "4.png")
    return [str(folder / f"{i}.png") for i in range(5)]


@pytest.fixture(scope="module")
def exported(inferencer, photos, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "encoder.onnx"
    lines = []
    about = export_onnx(inferencer, path, images=photos, log=lines.append)
    return path, about, lines


def run(path, pictures):
    return onnxruntime.InferenceSession(str(path)).run(["embeddings"], {"images": pictures})[0]


def prepared(inferencer, paths):
    return np.stack([inferencer.pipeline(Image.open(path).convert("RGB")).numpy() for path in paths])


def test_onnxruntime_gives_the_inferencer_s_embeddings_for_any_batch(inferencer, photos, exported):
    pictures = prepared(inferencer, photos[:3]).astype(np.float32)
    expected = inferencer(photos[:3])
    for rows in (slice(0, 1), slice(1, 3), slice(0, 3)):
        np.testing.assert_allclose(run(exported[0], pictures[rows]), expected[rows], atol=1e-5)
    assert np.abs(expected[0] - expected[1]).max() > 0.01


def test_normalisation_is_inside(inferencer, exported):
    """The file's output for raw pictures is the model's for pictures normalised by hand."""
    pictures = np.random.default_rng(1).uniform(0, 255, (2, 3, 32, 40)).astype(np.float32)
    stated = exported[1]["normalisation"]
    assert stated["inside_the_graph"] is True
    mean, std = (np.array(stated[key], np.float32).reshape(1, 3, 1, 1) for key in ("mean", "std"))
    np.testing.assert_allclose(mean.flatten(), [123.675, 116.28, 103.53], rtol=1e-6)
    with torch.no_grad():
        expected = inferencer.module.embed(torch.from_numpy((pictures - mean) / std)).numpy()
        wrong = inferencer.module.embed(torch.from_numpy(pictures)).numpy()
    np.testing.assert_allclose(run(exported[0], pictures), expected, atol=1e-5)
    assert np.abs(wrong - expected).max() > 0.01


def test_the_description_is_in_both_files_and_says_what_the_file_is(inferencer, exported):
    path, about, lines = exported
    assert json.loads(path.with_suffix(".json").read_text()) == about
    proto = onnx.load(path)
    assert {entry.key: json.loads(entry.value) for entry in proto.metadata_props if entry.key in about} == about
    (given,), (made,) = proto.graph.input, proto.graph.output
    shape = [axis.dim_param or axis.dim_value for axis in given.type.tensor_type.shape.dim]
    assert (about["input"]["name"], about["input"]["shape"]) == (given.name, shape) == ("images", ["batch", 3, 32, 40])
    assert (about["output"]["name"], about["output"]["shape"]) == (made.name, ["batch", 64])
    assert proto.opset_import[0].version == about["versions"]["opset"] == 18
    assert (about["model"], about["fingerprint"]) == (inferencer.name, inferencer.fingerprint)
    assert about["checked"]["on"] == ["a random batch of 1", "a random batch of 3", "images (5)"]
    assert about["checked"]["max_difference"] < 1e-5 < 1 - 1e-5 < about["checked"]["min_cosine"]
    assert re.fullmatch(r"images \(5\): largest difference \d\.\de-\d\d, smallest cosine 1\.000000", lines[2])


@pytest.fixture(scope="module")
def similar():
    """The program of the docs."""
    (text,) = re.findall(
        r"^```python\n(\"\"\"python similar.*?)^```", DOCS.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    return text


def test_the_program_of_the_docs_agrees_with_the_inferencer(inferencer, photos, exported, similar, tmp_path):
    text = similar
    (tmp_path / "similar.py").write_text(text)
    assert not {"torch", "hierpretrain"} & set(re.findall(r"^(?:import|from) (\w+)", text, re.MULTILINE))
    done = subprocess.run(
        [sys.executable, tmp_path / "similar.py", exported[0], *photos], capture_output=True, text=True, check=True
    )
    features = inferencer(photos)
    expected = [f"{cosine:.3f} {path}" for cosine, path in zip(features @ features[0], photos, strict=True)]
    found = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert [f"{float(cosine):.3f} {path}" for cosine, path in found] == expected


@pytest.mark.parametrize(
    ("opening", "transforms"),
    [
        (dict(min_side=40, max_pixels=10**6), CROPPED),
        ({}, [dict(type="ResizeEdge", scale=32, edge="long", backend="pillow")]),
        ({}, [dict(type="ResizeEdge", scale=32, edge="short", backend="pillow", interpolation="bicubic")]),
        ({}, [dict(type="torchvision/Resize", size=(32, 48), interpolation="nearest")]),
        (dict(grey_range=(0, 9)), CROPPED),
        ({}, [dict(type="torchvision/CenterCrop", size=(101, 75))]),
    ],
)
def test_the_program_of_the_docs_makes_the_pictures_of_the_inferencer(opening, transforms, photos, similar, tmp_path):
    program = {"__name__": "similar"}
    exec(similar, program)
    of_arrays = transforms[0]["type"] == "ResizeEdge"
    pipeline = _Pipeline(transforms, as_array=of_arrays, flip=of_arrays)
    names = dict(min_side="jpeg_min_side")
    steps = describe_steps(pipeline.transforms.transforms, **opening)
    assert {names.get(name, name) for name in opening} <= steps[0].keys()
    program["check"](dict(input=dict(channels="RGB"), preprocessing=steps))
    Image.open(photos[2]).convert("RGB").resize((300, 200)).save(tmp_path / "large.jpg")
    Image.open(photos[0]).convert("L").resize((300, 200)).save(tmp_path / "grey.png")
    Image.open(photos[0]).convert("CMYK").resize((60, 200)).save(tmp_path / "print.jpg")
    for path in (*photos, *map(str, tmp_path.iterdir())):
        expected = pipeline(open_rgb(path, **opening))
        np.testing.assert_array_equal(program["picture"](path, *steps), expected.float())


def test_the_program_of_the_docs_ends_at_what_it_does_not_know(similar, tmp_path):
    program = {"__name__": "similar"}
    exec(similar, program)
    opened, *steps = described = describe_steps(_Pipeline(CROPPED, as_array=False, flip=False).transforms.transforms)
    for channels, changed in (
        ("BGR", described),
        ("RGB", [{**opened, "page": 2}, *steps]),
        ("RGB", [{**opened, "frame": "last"}, *steps]),
        ("RGB", [opened, {**steps[0], "antialias": False}]),
        ("RGB", [opened, {**steps[0], "library": "opencv"}]),
        ("RGB", [opened, {"step": "other", "transform": "Solarize()"}]),
    ):
        with pytest.raises(
            SystemExit, match=r"this program (cannot do \{'step': '|makes RGB, and the encoder takes BGR)"
        ):
            program["check"](dict(input=dict(channels=channels), preprocessing=changed))
    Image.fromarray(np.full((40, 40), 900, np.uint16)).save(tmp_path / "deep.png")
    Image.fromarray(np.full((40, 40), 0.5, np.float32)).save(tmp_path / "float.tif")
    for name, message in (
        ("deep.png", r"cannot open .*deep\.png, of the mode I;16: save it with 8 bits a channel"),
        ("float.tif", "of the mode F"),
    ):
        with pytest.raises(SystemExit, match=message):
            program["picture"](str(tmp_path / name), opened, *steps)


@pytest.mark.parametrize("turned", [False, True])
def test_a_preprocessor_that_does_more_than_normalise_is_not_exported(turned, photos, tmp_path):
    foreign = dict(type="mmengine.ImgDataPreprocessor", mean=(120, 110, 100), std=(60, 50, 40), bgr_to_rgb=turned)
    made = infer(data_preprocessor=foreign)
    if turned:
        with pytest.raises(
            ValueError,
            match=r"it is not written\. It normalises, and what else ImgDataPreprocessor does .*: take a Multi",
        ):
            export_program(made, tmp_path / "encoder.pt2", images=photos, log=lambda line: None)
        assert not list(tmp_path.iterdir())
        return
    about = export_program(made, tmp_path / "encoder.pt2", images=photos, log=lambda line: None)
    assert about["normalisation"]["mean"] == [120, 110, 100]
    found = torch.export.load(tmp_path / "encoder.pt2").module()(torch.from_numpy(prepared(made, photos[:2])).float())
    np.testing.assert_allclose(found.numpy(), made(photos[:2]), atol=1e-5)


def test_the_order_of_the_channels_is_what_the_pipeline_makes(photos, tmp_path):
    pipeline = [dict(type="LoadImageFromFile"), dict(type="CenterCrop", crop_size=32)]
    model = dict(type="HierarchicalContrastive", backbone=SMALL)
    config = Config(dict(model=model, test_dataloader=dict(dataset=dict(pipeline=pipeline))))
    made = EmbeddingInferencer(config, checkpoint="", device="cpu", progress=False)
    about = export_program(made, tmp_path / "encoder.pt2", log=lambda line: None)
    assert about["input"]["channels"] == "BGR"
    picture = torch.tensor(np.asarray(Image.open(photos[1]))[2:34, 2:34, ::-1].copy()).permute(2, 0, 1)[None].float()
    found = torch.export.load(tmp_path / "encoder.pt2").module()(picture)
    np.testing.assert_allclose(found.numpy(), made(photos[1]), atol=1e-5)


def test_a_program_is_the_model_after_it_is_loaded_again(inferencer, photos, tmp_path, monkeypatch):
    about = export_program(inferencer, tmp_path / "encoder.pt2", images=photos, log=lambda line: None)
    pictures = torch.from_numpy(prepared(inferencer, photos[:3])).float()
    loaded = torch.export.load(tmp_path / "encoder.pt2").module()
    for rows in (slice(0, 1), slice(0, 3)):
        np.testing.assert_allclose(loaded(pictures[rows]).numpy(), inferencer(photos[:3])[rows], atol=1e-5)
    assert json.loads((tmp_path / "encoder.json").read_text()) == about
    (text,) = re.findall(
        r"^```python\n(import json\n\nimport torch.*?)^```", DOCS.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(text, names)
    assert names["about"] == about
    torch.testing.assert_close(names["embeddings"].norm(dim=1), torch.ones(5))


def test_half_precision_halves_the_file_and_keeps_the_embeddings(photos, tmp_path):
    wide = infer(dict(SMALL, base_channels=32, stem_channels=32))
    export_onnx(wide, tmp_path / "single.onnx", log=lambda line: None)
    about = export_onnx(wide, tmp_path / "half.onnx", half=True, log=lambda line: None)
    single, half = ((tmp_path / f"{name}.onnx").stat().st_size for name in ("single", "half"))
    assert 0.5 * single < half < 0.55 * single
    assert about["weights"] == "float16"
    pictures = prepared(wide, photos[:3]).astype(np.float32)
    cosines = (run(tmp_path / "half.onnx", pictures) * wide(photos[:3])).sum(1)
    assert (cosines > 0.99999).all()
    assert np.abs(run(tmp_path / "half.onnx", pictures) - wide(photos[:3])).max() > 1e-7  # it is another file


@pytest.mark.parametrize("backbone", [VIT, SWIN], ids=lambda backbone: backbone["type"])
def test_transformers_are_right_for_batches_they_were_not_traced_with(backbone, tmp_path):
    size = backbone["img_size"]
    made = infer(backbone, [dict(type="torchvision/Resize", size=(size, size))])
    export_program(made, tmp_path / "encoder.pt2", log=lambda line: None)
    loaded = torch.export.load(tmp_path / "encoder.pt2").module()
    pictures = torch.rand(7, 3, size, size, generator=torch.Generator().manual_seed(2)) * 255
    with torch.no_grad():
        expected = made.module.embed(made.module.data_preprocessor({"inputs": pictures.clone()})["inputs"])
    torch.testing.assert_close(loaded(pictures), expected, atol=1e-5, rtol=0)


def test_windows_are_put_together_as_mmpretrain_does():
    from mmpretrain.models.utils import ShiftWindowMSA

    windows = torch.randn(2 * 6, 2, 2, 5, generator=torch.Generator().manual_seed(0))  # 2 images of 4 x 6
    expected = ShiftWindowMSA.window_reverse(windows, 4, 6, 2)
    assert torch.equal(export._window_reverse(windows, 4, 6, 2), expected)
    before = ShiftWindowMSA.__dict__["window_reverse"]
    with export._traceable_layers():
        assert ShiftWindowMSA.window_reverse is export._window_reverse
    assert ShiftWindowMSA.__dict__["window_reverse"] is before


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(3, 1, 1), (3, 2, 1), (5, 2, 1), (3, 2, 2), (1, 3, 1)])
def test_images_are_padded_as_mmcv_does(kernel, stride, dilation):
    layer = Conv2dAdaptivePadding(2, 4, (kernel, 1 + kernel), stride, dilation=dilation)
    for size in itertools.product((7, 8, 9), (10, 11, 12)):
        images = torch.randn(2, 2, *size)
        expected = layer(images)
        with export._traceable_layers():
            assert torch.equal(layer(images), expected)


def test_the_projection_is_exported_where_it_embeds(photos):
    head = dict(type="ProjectionHead", in_channels=64, out_channels=12)
    made = infer(projection=head, embedding="projection")
    embeddings = export._Encoder(made.module)(torch.from_numpy(prepared(made, photos[:2])))
    assert embeddings.shape == (2, 12)
    np.testing.assert_allclose(embeddings.numpy(), made(photos[:2]), atol=1e-6)


def test_a_classifier_of_mmpretrain_s_is_exported_for_rgb_too(photos, tmp_path):
    pipeline = [
        dict(type="LoadImageFromFile"),
        dict(type="ResizeEdge", scale=36, edge="short"),
        dict(type="CenterCrop", crop_size=32),
        dict(type="PackInputs"),
    ]
    model = dict(
        type="ImageClassifier", backbone=SMALL, neck=dict(type="GlobalAveragePooling"), head=dict(type="ClsHead")
    )
    normalised = dict(mean=[90.0, 110.0, 130.0], std=[50.0, 60.0, 70.0], to_rgb=True)
    config = dict(model=model, data_preprocessor=normalised, test_dataloader=dict(dataset=dict(pipeline=pipeline)))
    made = EmbeddingInferencer(Config(config), checkpoint="", device="cpu", progress=False)
    about = export_program(made, tmp_path / "encoder.pt2", log=lambda line: None)
    assert (about["normalisation"]["mean"], about["normalisation"]["std"]) == (normalised["mean"], normalised["std"])
    assert [step.get("library") for step in about["preprocessing"]] == [None, "opencv", None]
    image = Image.open(photos[1])  # 36 x 36: nothing to resize
    picture = torch.tensor(np.asarray(image)[2:34, 2:34].copy()).permute(2, 0, 1)[None].float()
    found = torch.export.load(tmp_path / "encoder.pt2").module()(picture)
    np.testing.assert_allclose(found.numpy(), made(photos[1]), atol=1e-5)
    turned = torch.export.load(tmp_path / "encoder.pt2").module()(picture.flip(1))
    assert (turned - found).abs().max() > 1e-3  # the order of the channels matters


def test_the_model_is_left_as_it_was_and_a_compiled_one_is_its_own(inferencer, tmp_path):
    weights = inferencer.module.backbone.layer1[0].conv1.weight
    encoder = export._Encoder(torch.compile(inferencer.module))
    assert weights.is_contiguous(memory_format=torch.channels_last)
    assert inferencer.module.data_preprocessor.memory_format is torch.channels_last
    assert encoder.model.data_preprocessor.memory_format is torch.contiguous_format
    copied = encoder.model.backbone.layer1[0].conv1.weight
    assert copied.is_contiguous()
    assert copied.data_ptr() != weights.data_ptr()
    assert torch.equal(copied, weights)


@pytest.mark.slow
@pytest.mark.parametrize("kind", [export_onnx, export_program])
def test_images_of_any_size_where_convolutions_pad_by_it(kind, tmp_path):
    backbone = dict(type="EfficientNet", arch="b0")
    made = infer(transforms=[dict(type="torchvision/Resize", size=(64, 64))], backbone=backbone)
    name = "encoder.onnx" if kind is export_onnx else "encoder.pt2"
    about = kind(made, tmp_path / name, dynamic_size=True, log=lambda line: None)
    pictures = torch.rand(2, 3, 79, 65, generator=torch.Generator().manual_seed(3)) * 255
    with torch.no_grad():
        expected = made.module.embed(made.module.data_preprocessor({"inputs": pictures.clone()})["inputs"])
    if kind is export_onnx:
        session = onnxruntime.InferenceSession(tmp_path / name)
        found = torch.from_numpy(session.run(None, {"images": pictures.numpy()})[0])
    else:
        found = torch.export.load(tmp_path / name).module()(pictures)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert about["checked"]["min_cosine"] > 0.9999


def test_images_of_any_size(tmp_path):
    made = infer(transforms=[dict(type="torchvision/Resize", size=66)])
    with pytest.raises(ValueError, match=r"images of different sizes, such as \[66, 88\] and \[88, 66\]: end it with"):
        export_program(made, tmp_path / "encoder.pt2")
    about = export_program(made, tmp_path / "encoder.pt2", dynamic_size=True, log=lambda line: None)
    assert about["input"]["shape"] == ["batch", 3, "height", "width"]
    assert about["checked"]["on"][-1] == "a random batch of larger images"
    loaded = torch.export.load(tmp_path / "encoder.pt2").module()
    for size in ((70, 90), (64, 64)):
        pictures = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(3)) * 255
        with torch.no_grad():
            expected = made.module.embed(made.module.data_preprocessor({"inputs": pictures.clone()})["inputs"])
        torch.testing.assert_close(loaded(pictures), expected, atol=1e-5, rtol=0)


def test_images_of_several_sizes_are_compared_each_by_its_own(photos, tmp_path):
    made = infer(transforms=[dict(type="torchvision/Resize", size=66)])
    about = export_program(
        made, tmp_path / "encoder.pt2", dynamic_size=True, images=photos, log=lambda line: None
    )  # of 60 x 45, 36 x 36, 33 x 70, 64 x 91 (as its EXIF has it) and 50 x 50
    assert about["checked"]["on"][3:] == [
        "images (1) of 88 x 66",
        "images (2) of 66 x 66",
        "images (1) of 66 x 140",
        "images (1) of 66 x 93",
    ]
    assert about["checked"]["min_cosine"] > 0.9999


# ---------------------------------------------------------------- what goes wrong
def test_images_smaller_than_the_program_takes_are_named(photos, tmp_path):
    made = infer(transforms=[])
    message = r"the program does not take images \(1\) of 60 x 45 \(.*64.*\): compare it on larger images, or on none"
    with pytest.raises(ValueError, match=message):
        export_program(made, tmp_path / "encoder.pt2", dynamic_size=True, images=photos, log=lambda line: None)
    assert not list(tmp_path.iterdir())


def test_a_description_replaces_none_but_of_such_a_file(inferencer, exported, tmp_path):
    path, about, _ = exported
    assert export.checked_path(path, ".onnx") == path  # an export may be made anew
    message = r"of encoder\.pt2 goes to .*/encoder\.json, which is there and is not of a file \.pt2: give another name"
    with pytest.raises(ValueError, match=message):
        export_program(inferencer, path.with_suffix(".pt2"))
    assert json.loads(path.with_suffix(".json").read_text()) == about
    beside = tmp_path / "encoder.json"
    of_program = {**about, "versions": {"torch": "2"}}
    beside.write_text(json.dumps(of_program))
    assert export.checked_path(tmp_path / "encoder.pt2", ".pt2") == tmp_path / "encoder.pt2"
    for text in (json.dumps(of_program), '{"format": "mine"}', "[1]", "none"):
        beside.write_text(text)
        with pytest.raises(ValueError, match=r"is not of a file \.onnx: give another name than encoder, or move"):
            export_onnx(inferencer, tmp_path / "encoder.onnx")
        assert beside.read_text() == text


@pytest.mark.parametrize(("name", "function"), [("encoder.pt", export_onnx), ("encoder.onnx", export_program)])
def test_the_name_says_what_the_file_is(inferencer, name, function, tmp_path):
    with pytest.raises(ValueError, match=r"must have a name that ends in \.(onnx|pt2); it is '.*encoder\.(pt|onnx)'"):
        function(inferencer, tmp_path / name)


def test_a_file_that_computes_something_else_is_not_written(inferencer, tmp_path, monkeypatch):
    path = tmp_path / "encoder.pt2"
    path.write_bytes(b"older")
    traced = export._traced

    def broken(encoder, *args):
        with torch.no_grad():
            encoder.mean.add_(3)
            program = traced(encoder, *args)
            encoder.mean.sub_(3)
        program.state_dict["mean"] = program.state_dict["mean"] + 3
        return program

    monkeypatch.setattr(export, "_traced", broken)
    message = r"does not compute what the model, untrained does: on a random batch of 1 embeddings differ by \d"
    with pytest.raises(ValueError, match=message):
        export_program(inferencer, path, log=lambda line: None)
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("encoder.pt2", b"older")]


@pytest.mark.parametrize("wrong", [lambda rows: rows * np.nan, lambda rows: rows[:1], lambda rows: rows.roll(1, 0)])
def test_nothing_but_the_same_embeddings_will_do(inferencer, wrong):
    encoder, example = export._Encoder(inferencer.module), export._example(inferencer, False)
    about = {"weights": "float16"}
    with pytest.raises(ValueError, match=r"on a random batch of \d embeddings differ by .* it is not written"):
        export._compare(
            lambda rows: wrong(encoder(rows)), inferencer, encoder, example, about, None, False, lambda line: None
        )


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_missing_is_named(inferencer, package, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"export of ONNX needs the package {package} \(.*\): pip install 'hierpretrain\[export\]'$"
    with pytest.raises(ImportError, match=message):
        export_onnx(inferencer, tmp_path / "encoder.onnx")


def test_a_backbone_that_cannot_be_traced_is_named(inferencer, tmp_path, monkeypatch):
    made = infer()
    made.module.backbone.forward = lambda images: images.mean((2, 3)) if images.max() > 9 else images.amax((2, 3))
    with pytest.raises(
        ValueError, match=r"torch\.export cannot trace ResNet: .* docs/export\.md lists those that work"
    ):
        export_program(made, tmp_path / "encoder.pt2")
    assert not list(tmp_path.iterdir())


def test_an_operator_that_cannot_be_converted_is_the_converter_s_word(inferencer, tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise RuntimeError("no decomposition of aten.foo\nand more")

    monkeypatch.setattr(torch.onnx, "export", refuse)
    message = r"^ResNet cannot be converted to ONNX with opset 19: no decomposition of aten\.foo\. Take another opset"
    with pytest.raises(ValueError, match=message):
        export_onnx(inferencer, tmp_path / "encoder.onnx", opset=19)
    with pytest.raises(ValueError, match="opset must be 18 or more; it is 17"):
        export_onnx(inferencer, tmp_path / "encoder.onnx", opset=17)
    monkeypatch.undo()
    with pytest.raises(ValueError, match=r"opset 99 is none that torch .* can make; it made \d\d: take that"):
        export_onnx(inferencer, tmp_path / "encoder.onnx", opset=99)


def test_weights_beyond_one_file_are_refused(inferencer, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_LARGEST", 1000)
    with pytest.raises(ValueError, match=r"are 0\.0 GiB, and one ONNX file holds 2 at most; export a program of torch"):
        export_onnx(inferencer, tmp_path / "encoder.onnx")


def test_images_that_cannot_be_read_are_the_inferencer_s_to_judge(photos, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    made = infer()
    images = [str(tmp_path / "broken.png"), photos[0]]
    with pytest.raises(ValueError, match=r"cannot read the image .*broken\.png"):
        export._pictures(made, images)
    made.on_error = "skip"
    (one,) = export._pictures(made, images)
    assert torch.equal(one, torch.from_numpy(prepared(made, photos[:1])[0]))
    with pytest.raises(ValueError, match="none of the images to compare the file on can be read"):
        export._pictures(made, images[:1])


# ---------------------------------------------------------------- the steps in words
STEPS = [
    (
        dict(type="torchvision/Resize", size=(20, 30), interpolation="bicubic"),
        dict(step="resize", height=20, width=30, interpolation="bicubic", library="pillow"),
    ),
    (
        dict(type="torchvision/Resize", size=[20]),
        dict(step="resize", shorter_side=20, interpolation="bilinear", library="pillow"),
    ),
    (dict(type="torchvision/CenterCrop", size=(20, 30)), dict(step="crop", where="middle", height=20, width=30)),
    (
        dict(type="ResizeEdge", scale=20, edge="short", backend="pillow"),
        dict(step="resize", shorter_side=20, interpolation="bilinear", library="pillow"),
    ),
    (
        dict(type="ResizeEdge", scale=20, edge="long", interpolation="bicubic"),
        dict(step="resize", longer_side=20, interpolation="bicubic", library="opencv"),
    ),
    (
        dict(type="Resize", scale=(30, 20), backend="pillow"),
        dict(step="resize", height=20, width=30, interpolation="bilinear", library="pillow"),
    ),
    (dict(type="CenterCrop", crop_size=(30, 20)), dict(step="crop", where="middle", height=20, width=30)),
]


def follow(step, image):
    """Does to a picture of Pillow's what a step says."""
    width, height = image.size
    if step["step"] == "crop":
        left, top = round((width - step["width"]) / 2), round((height - step["height"]) / 2)
        return image.crop((left, top, left + step["width"], top + step["height"]))
    if "shorter_side" in step or "longer_side" in step:
        pixels = step.get("shorter_side") or step["longer_side"]
        side = min(width, height) if "shorter_side" in step else max(width, height)
        size = (pixels, int(pixels * height / width)) if width == side else (int(pixels * width / height), pixels)
    else:
        size = (step["width"], step["height"])
    return image.resize(size, Image.Resampling[step["interpolation"].upper()])


@pytest.mark.parametrize(("config", "step"), STEPS, ids=lambda value: value.get("type"))
def test_a_step_says_what_the_transform_does(config, step):
    transform = TRANSFORMS.build(config)
    assert describe_steps([transform])[1:] == [step]
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (47, 61, 3), dtype=np.uint8))
    theirs = not config["type"].startswith("torchvision")
    made = transform({"img": np.asarray(image) if theirs else image})["img"]
    followed = follow(step, image)
    assert np.asarray(made).shape == np.asarray(followed).shape
    if step.get("library") != "opencv":
        np.testing.assert_array_equal(np.asarray(made), np.asarray(followed))


@pytest.mark.parametrize(
    "config",
    [
        dict(type="torchvision/Resize", size=20, max_size=30),
        dict(type="ResizeEdge", scale=20, edge="width"),
        dict(type="Resize", scale=(20, 30), keep_ratio=True),
        dict(type="torchvision/Grayscale", num_output_channels=3),
    ],
    ids=lambda config: config["type"],
)
def test_another_step_is_given_as_it_prints(config):
    transform = TRANSFORMS.build(config)
    assert describe_steps([transform])[1] == dict(step="other", transform=repr(transform))


def test_how_a_file_is_opened_comes_first():
    (opened,) = describe_steps([], min_side=579)
    assert (opened["step"], opened["jpeg_min_side"]) == ("open", 579)
    assert "jpeg_min_side" not in describe_steps([])[0]


def test_of_two_exports_at_once_file_and_description_are_of_one(tmp_path, monkeypatch):
    path, begun = tmp_path / "encoder.onnx", threading.Event()
    write_json = export.write_json

    def slow_for_the_first(path, about):
        if about == "first":
            begun.set()
            time.sleep(0.2)
        write_json(path, about)

    monkeypatch.setattr(export, "write_json", slow_for_the_first)
    first = threading.Thread(target=export._write, args=(path, b"first", "first", print))
    first.start()
    begun.wait(10)
    export._write(path, b"second", "second", print)
    first.join()
    assert path.read_bytes().decode() == json.loads((tmp_path / "encoder.json").read_text())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["encoder.json", "encoder.onnx"]
