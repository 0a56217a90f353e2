"""A trained encoder as one file that runs without this toolbox: ONNX, or a program of ``torch.export``.

Both take pictures of 0 to 255 and give unit embeddings: normalisation is part of the file. Beside it lies a JSON file
that says how an image becomes such a picture. Neither is written unless it computes what the model computes.
"""

from __future__ import annotations

import copy
import importlib
import io
import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mmengine
import mmpretrain
import numpy as np
import torch
from mmcv.cnn.bricks import Conv2dAdaptivePadding
from mmpretrain.models.backbones.mixmim import MixMIMBlock
from mmpretrain.models.utils import ShiftWindowMSA
from PIL import Image
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch.nn import functional

import hierpretrain
from hierpretrain._extras import needed
from hierpretrain.apis.images import Images, ImageSet, gather_images, read_picture
from hierpretrain.apis.inferencer import Encode
from hierpretrain.apis.pipeline_steps import describe_steps
from hierpretrain.datasets import UnreadableImage
from hierpretrain.files import in_turn, write_json, write_whole
from hierpretrain.models import HierarchicalContrastive, MultiViewPreprocessor

if TYPE_CHECKING:
    from hierpretrain.apis.answering import AnsweringIndex
    from hierpretrain.apis.inferencer import EmbeddingInferencer

FORMAT = "hierpretrain.encoder.v1"
INPUT, OUTPUT = "images", "embeddings"

MIN_COSINE = 0.9999
"""The least cosine of an embedding of an exported file and the model's."""
MAX_DIFFERENCE = {"float32": 1e-4, "float16": 1e-2}
"""The most by which a coordinate may differ, by the type in which the file holds weights."""

_LARGEST = 2**31 - 2**20  # bytes of weights: one file of protocol buffers ends at 2 GiB
_FIRST_OPSET = 18  # that torch converts to
_MOST_IMAGES = 64  # that are compared
_SMALLEST = 64  # px of a side that may have any length; from 33 on where the pipeline gives less than 64
_HALF_FROM = 4096  # numbers in a tensor that is kept in half precision: what is small is left as it is


def export_onnx(
    inferencer: EmbeddingInferencer,
    path: str | os.PathLike[str],
    *,
    half: bool = False,
    opset: int = 18,
    dynamic_size: bool = False,
    images: Images | ImageSet | None = None,
    index: AnsweringIndex | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Writes an encoder as one ONNX file, and what a program must know of it as JSON beside it.

    The graph takes ``images``, (N, 3, H, W) float32 of 0 to 255 in RGB, N as large as you like, and gives
    ``embeddings``, (N, D) float32 of unit length. The file computes, by onnxruntime, what the model computes, or it is
    not written: see :data:`MIN_COSINE` and :data:`MAX_DIFFERENCE`.

    Args:
        inferencer: The model.
        path: The file, ``<name>.onnx``; the description goes to ``<name>.json``.
        half: Whether matrices and kernels are kept in half precision, for a file of half the size. Numbers are still
            computed in single precision.
        opset: The version of ONNX's operators, from 18.
        dynamic_size: Whether images may have any height and width, for backbones that can; by default they have those
            that the test pipeline gives.
        images: Images on which the file is compared with the model, beside random ones, or what
            :func:`~hierpretrain.apis.images.gather_images` found; the first 64 are taken.
        index: An index of the model's embeddings, whose tree and calibration, if it has one, go into the description.
        log: What lines about the export go to.

    Returns:
        The description, as in the JSON file and in the file's own metadata.

    Raises:
        ImportError: If onnx, onnxscript or onnxruntime is missing.
        ValueError: If the name does not end in ``.onnx``, ``<name>.json`` is the description of no ONNX file, the
            pipeline gives images of different sizes, the backbone cannot be traced or converted, ``opset`` is none that
            can be made, weights exceed 2 GiB, the file's embeddings differ from the model's, or the index is of another
            model.
    """
    path = checked_path(path, ".onnx")
    if opset < _FIRST_OPSET:
        raise ValueError(f"opset must be {_FIRST_OPSET} or more; it is {opset}")
    onnx, runtime, _ = (needed(name, "export of ONNX") for name in ("onnx", "onnxruntime", "onnxscript"))
    encoder = _Encoder(inferencer.module)
    weight_bytes = sum(tensor.nbytes for tensor in encoder.state_dict().values())
    if weight_bytes > _LARGEST:
        raise ValueError(
            f"the weights of {inferencer.name} are {weight_bytes / 2**30:.1f} GiB, and one ONNX file holds 2 at most; "
            "export a program of torch.export (.pt2)"
        )
    example = _example(inferencer, dynamic_size)
    program = _traced(encoder, example, dynamic_size)
    exported = _converted(program, encoder, opset)
    if half:
        _halve(exported.model)
    about = _about(inferencer, example, encoder, dynamic_size, "float16" if half else "float32", index)
    about["versions"] |= {"onnx": onnx.__version__, "onnxruntime": runtime.__version__, "opset": opset}

    proto = exported.model_proto
    _name_axes(proto, about["input"]["shape"])
    made = next(entry.version for entry in proto.opset_import if not entry.domain)
    if made != opset:
        raise ValueError(f"opset {opset} is none that torch {torch.__version__} can make; it made {made}: take that")
    session = runtime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])

    def run(pictures: Tensor) -> Tensor:
        return torch.from_numpy(session.run([OUTPUT], {INPUT: pictures.numpy()})[0])

    about["checked"] = _compare(run, inferencer, encoder, example, about, images, dynamic_size, log)
    onnx.helper.set_model_props(proto, {key: json.dumps(value) for key, value in about.items()})
    _write(path, proto.SerializeToString(), about, log)
    return about


def export_program(
    inferencer: EmbeddingInferencer,
    path: str | os.PathLike[str],
    *,
    dynamic_size: bool = False,
    images: Images | ImageSet | None = None,
    index: AnsweringIndex | None = None,
    log: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Writes an encoder as a program of ``torch.export``, which PyTorch runs without this toolbox.

    ``torch.export.load(path).module()`` takes and gives what :func:`export_onnx` says. The file is compared with the
    model as there, after it is loaded again; the description is also in the file, as its extra file
    ``description.json``.

    Args:
        inferencer: The model.
        path: The file, ``<name>.pt2``; the description goes to ``<name>.json``.
        dynamic_size: As in :func:`export_onnx`.
        images: As in :func:`export_onnx`.
        index: As in :func:`export_onnx`.
        log: What lines about the export go to.

    Returns:
        The description.

    Raises:
        ValueError: As :func:`export_onnx`, but for the size of the weights.

    Example:
        >>> import tempfile
        >>> from mmengine.config import Config
        >>> from hierpretrain.apis import EmbeddingInferencer
        >>> pipeline = [dict(type="LoadRGB"), dict(type="torchvision/Resize", size=(32, 32))]
        >>> model = dict(type="HierarchicalContrastive", backbone=dict(type="MobileNetV2", widen_factor=0.25))
        >>> config = Config(dict(model=model, test_dataloader=dict(dataset=dict(pipeline=pipeline))))
        >>> inferencer = EmbeddingInferencer(config, checkpoint="", device="cpu", progress=False)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     about = export_program(inferencer, f"{folder}/encoder.pt2", log=lambda line: None)
        ...     encoder = torch.export.load(f"{folder}/encoder.pt2").module()
        >>> encoder(torch.zeros(5, 3, 32, 32)).shape, about["output"]["metric"]
        (torch.Size([5, 1280]), 'cosine')
    """
    path = checked_path(path, ".pt2")
    encoder = _Encoder(inferencer.module)
    example = _example(inferencer, dynamic_size)
    program = _traced(encoder, example, dynamic_size)
    about = _about(inferencer, example, encoder, dynamic_size, "float32", index)
    loaded = torch.export.load(io.BytesIO(_saved(program, {}))).module()
    about["checked"] = _compare(loaded, inferencer, encoder, example, about, images, dynamic_size, log)
    _write(path, _saved(program, {"description.json": json.dumps(about, indent=1)}), about, log)
    return about


class _Encoder(nn.Module):
    """The encoder from pictures of 0 to 255 to unit embeddings, in single precision on the CPU."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        model = copy.deepcopy(getattr(module, "_orig_mod", module))  # torch.compile wraps it
        # the layout of channels_last weights would be traced too, and turned round again by other programs
        self.model: HierarchicalContrastive = model.to("cpu", torch.float32, memory_format=torch.contiguous_format)
        self.model.eval().requires_grad_(False)
        if isinstance(self.model.data_preprocessor, MultiViewPreprocessor):  # images as the file gets them, too
            self.model.data_preprocessor.memory_format = torch.contiguous_format
        for name, rest in (("mean", 0.0), ("std", 1.0)):  # a preprocessor of another library may have neither
            self.register_buffer(name, getattr(self.model.data_preprocessor, name, torch.tensor([rest])))

    def forward(self, images: Tensor) -> Tensor:
        """Returns the (N, D) embeddings of (N, C, H, W) pictures."""
        return self.model.embed((images - self.mean) / self.std)


def checked_path(path: str | os.PathLike[str], suffix: str) -> Path:
    """Returns the path of a file to export to, if its name and the file beside it let it be written.

    Args:
        path: The file to write.
        suffix: What its name must end in, ``.onnx`` or ``.pt2``.

    Raises:
        ValueError: If the name ends otherwise, or the description would replace a file that is none of such an export.
    """
    path = Path(path)
    if path.suffix != suffix:
        raise ValueError(f"the file must have a name that ends in {suffix}; it is {str(path)!r}")
    beside = path.with_suffix(".json")
    if beside.exists() and not _describes(beside, suffix):
        raise ValueError(
            f"the description of {path.name} goes to {beside}, which is there and is not of a file {suffix}: give "
            f"another name than {path.stem}, or move {beside.name} away"
        )
    return path


def _describes(path: Path, suffix: str) -> bool:
    """Returns whether a file is the description of an export with such a name; that of ONNX has an opset."""
    try:
        about = json.loads(path.read_bytes())
        return about["format"] == FORMAT and ("opset" in about["versions"]) == (suffix == ".onnx")
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _example(inferencer: EmbeddingInferencer, dynamic_size: bool) -> Tensor:
    """Returns two random pictures of the size that the test pipeline gives."""
    shapes = {tuple(inferencer.pipeline(Image.new("RGB", size)).shape) for size in ((640, 480), (480, 640))}
    if len(shapes) > 1 and not dynamic_size:
        (_, *one), (_, *other) = sorted(shapes)
        raise ValueError(
            f"the test pipeline gives images of different sizes, such as {one} and {other}: end it with a crop or a "
            "resize to one (torchvision/CenterCrop), or export with a dynamic size"
        )
    return _random_pictures(2, *min(shapes))


def _random_pictures(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) * 255


def _traced(encoder: _Encoder, example: Tensor, dynamic_size: bool) -> ExportedProgram:
    """Returns the program of an encoder for batches of any size."""
    shape: dict[int, Any] = {0: Dim("batch", min=1)}
    if dynamic_size:
        smallest = _SMALLEST if min(example.shape[2:]) >= _SMALLEST else _SMALLEST // 2 + 1
        shape |= {2: Dim("height", min=smallest), 3: Dim("width", min=smallest)}
    try:
        with torch.no_grad(), _traceable_layers():
            return torch.export.export(encoder, (example,), dynamic_shapes={"images": shape}, strict=False)
    except Exception as error:  # of the tracer's many kinds
        kind = type(encoder.model.backbone).__name__
        remedy = "without a dynamic size, or " if dynamic_size else ""
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ValueError(
            f"torch.export cannot trace {kind}: {reason}. Export it {remedy}another backbone: docs/export.md lists "
            "those that work"
        ) from error


def _converted(program: ExportedProgram, encoder: _Encoder, opset: int) -> Any:
    """Returns a program as torch's ``ONNXProgram``."""
    names: dict[str, Any] = {"input_names": [INPUT], "output_names": [OUTPUT]}
    try:
        with torch.no_grad():
            return torch.onnx.export(program, **names, opset_version=opset, dynamo=True, verbose=False)
    except Exception as error:  # of the converter's many kinds
        kind = type(encoder.model.backbone).__name__
        reason = (str(error).strip() or repr(error)).splitlines()[0]
        raise ValueError(
            f"{kind} cannot be converted to ONNX with opset {opset}: {reason}. Take another opset, or export a program "
            "of torch.export (.pt2)"
        ) from error


@contextmanager
def _traceable_layers() -> Iterator[None]:
    """Has three layers compute what they do in a way that tracing and converting can follow.

    mmpretrain's window attention computes the batch size by a float division, which tracing takes for a constant: the
    file would be right for that size alone. mmcv's convolution of adaptive padding asks in each layer whether there is
    something to pad, of which a tracer of free image sizes finds no end. ReLU6 is taken apart into many small steps
    before it becomes ONNX, which is half of the time of a MobileNet; a clamp stays one.
    """
    changes = [(kind, "window_reverse", staticmethod(_window_reverse)) for kind in (ShiftWindowMSA, MixMIMBlock)]
    changes.append((Conv2dAdaptivePadding, "forward", _padded_convolution))
    changes.append((nn.Hardtanh, "forward", _clamp))
    before = [kind.__dict__[name] for kind, name, _ in changes]
    for kind, name, function in changes:
        setattr(kind, name, function)
    try:
        yield
    finally:
        for (kind, name, _), function in zip(changes, before, strict=True):
            setattr(kind, name, function)


def _window_reverse(windows: Tensor, height: int, width: int, size: int) -> Tensor:
    """Puts (B x windows, size, size, C) windows together to (B, height, width, C)."""
    channels = windows.shape[-1]
    grid = windows.view(-1, height // size, width // size, size, size, channels)
    return grid.permute(0, 1, 3, 2, 4, 5).reshape(-1, height, width, channels)


def _clamp(layer: nn.Hardtanh, features: Tensor) -> Tensor:
    return features.clamp(layer.min_val, layer.max_val)


def _padded_convolution(layer: nn.Conv2d, images: Tensor) -> Tensor:
    """Convolves images that are padded so that each stride, the last and partial one too, begins one output."""
    padding: list[Any] = []
    for axis in (1, 0):  # the last axis first, as pad takes them
        reach = (layer.kernel_size[axis] - 1) * layer.dilation[axis] + 1
        stride = layer.stride[axis]
        total = reach - stride + (-images.shape[2 + axis] % stride if stride > 1 else 0)
        before = (total if reach >= stride else torch.sym_max(total, 0)) // 2
        # more may follow than is needed, which no output sees; so the output's size stays a short expression
        padding += [before, reach - 1 - before]
    return layer._conv_forward(functional.pad(images, padding), layer.weight, layer.bias)


def _halve(model: Any) -> None:
    """Keeps the large weights of an ``onnx_ir`` model in half precision, each with a cast before it is used."""
    ir = importlib.import_module("onnx_ir")
    for name, value in list(model.graph.initializers.items()):
        array = value.const_value.numpy()
        if array.dtype != np.float32 or array.size < _HALF_FROM or np.abs(array).max() > np.finfo(np.float16).max:
            continue
        kept = ir.Value(name=f"{name}.half", const_value=ir.tensor(array.astype(np.float16), name=f"{name}.half"))
        cast = ir.node("Cast", [kept], attributes={"to": ir.DataType.FLOAT.value})
        cast.outputs[0].name = f"{name}.single"
        cast.outputs[0].shape, cast.outputs[0].type = value.shape, value.type
        model.graph.insert_before(model.graph[0], cast)
        ir.convenience.replace_all_uses_with(value, cast.outputs[0])
        del model.graph.initializers[name]
        model.graph.register_initializer(kept)


def _name_axes(proto: Any, shape: Sequence[str | int]) -> None:
    """Calls the free axes of an ONNX model what the description calls them, not as tracing numbered them."""
    axes = proto.graph.input[0].type.tensor_type.shape.dim
    names = {axis.dim_param: name for axis, name in zip(axes, shape, strict=True) if isinstance(name, str)}
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        for axis in value.type.tensor_type.shape.dim:
            if axis.dim_param in names:
                axis.dim_param = names[axis.dim_param]


def _about(
    inferencer: EmbeddingInferencer,
    example: Tensor,
    encoder: _Encoder,
    dynamic_size: bool,
    weights: str,
    index: AnsweringIndex | None,
) -> dict[str, Any]:
    """Returns all that a program must know of the file."""
    channels, height, width = example.shape[1:]
    size = _width(encoder, example)
    return {
        "format": FORMAT,
        "model": inferencer.name,
        "fingerprint": inferencer.fingerprint,
        "input": {
            "name": INPUT,
            "dtype": "float32",
            "layout": "NCHW",
            "shape": ["batch", channels, *(("height", "width") if dynamic_size else (height, width))],
            "channels": _order(inferencer) if channels == 3 else "grey",
            "range": [0, 255],
        },
        "preprocessing": describe_steps(
            inferencer.pipeline.transforms.transforms,
            inferencer.min_side,
            inferencer.opening.get("grey_range"),
            inferencer.opening.get("max_pixels"),
        ),
        "normalisation": {
            "inside_the_graph": True,
            "formula": "(images - mean) / std",
            "mean": encoder.mean.flatten().tolist(),
            "std": encoder.std.flatten().tolist(),
        },
        "output": {
            "name": OUTPUT,
            "dtype": "float32",
            "shape": ["batch", size],
            "width": size,
            "unit_length": True,
            "metric": "cosine",
        },
        **({} if index is None else _learned(index, inferencer)),
        "weights": weights,
        "versions": {
            module.__name__: str(module.__version__) for module in (hierpretrain, torch, mmengine, mmpretrain)
        },
    }


def _order(inferencer: EmbeddingInferencer) -> str:
    """Returns in which order the pipeline leaves the channels."""
    red = inferencer.pipeline(Image.new("RGB", (640, 480), "red"))
    return "RGB" if int(red.flatten(1).float().mean(1).argmax()) == 0 else "BGR"


def _learned(index: AnsweringIndex, inferencer: EmbeddingInferencer) -> dict[str, Any]:
    """Returns the tree of an index, and how sure its answers must be, as JSON has them."""
    if index.fingerprint != inferencer.fingerprint:
        raise ValueError(
            f"the index is of {index.model}, and not of {inferencer.name}, which is exported: give an index of this "
            "model, or none"
        )
    calibration = index.calibration
    told = {"taxonomy": index.taxonomy.to_dict()}
    return told if calibration is None else told | {"calibration": json.loads(json.dumps(calibration.to_dict()))}


@torch.no_grad()
def _width(encoder: _Encoder, example: Tensor) -> int:
    return encoder(example[:1]).shape[1]


@torch.no_grad()
def _compare(
    run: Callable[[Tensor], Tensor],
    inferencer: EmbeddingInferencer,
    encoder: _Encoder,
    example: Tensor,
    about: dict[str, Any],
    images: Images | ImageSet | None,
    dynamic_size: bool,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Compares what a file computes with the model, on random pictures and on images.

    Raises:
        ValueError: If they differ.
    """
    _, channels, height, width = example.shape
    batches = {f"a random batch of {size}": _random_pictures(size, channels, height, width) for size in (1, 3)}
    if dynamic_size:
        batches["a random batch of larger images"] = _random_pictures(2, channels, height + 32, width + 64)
    if images is not None:
        batches |= _in_batches(_pictures(inferencer, images))
    largest = MAX_DIFFERENCE[about["weights"]]
    found = {"max_difference": 0.0, "min_cosine": 1.0, "on": list(batches)}
    encode = Encode(encoder.model, torch.device("cpu"), amp=False)  # by the preprocessor itself, whatever it does
    for name, pictures in batches.items():
        expected = encode(list(pictures))
        try:
            actual = run(pictures)
        except AssertionError as error:  # by which torch.export guards what a free size was traced for
            raise ValueError(
                f"the program does not take {name} ({error}): compare it on larger images, or on none; it is not "
                "written"
            ) from error
        difference, cosine = float("inf"), float("nan")
        if actual.shape == expected.shape:
            difference = float((actual - expected).abs().max())
            cosine = float(functional.cosine_similarity(actual, expected).min())
        log(f"{name}: largest difference {difference:.1e}, smallest cosine {cosine:.6f}")
        if not (difference <= largest and cosine >= MIN_COSINE):
            raise ValueError(
                f"the exported file does not compute what {inferencer.name} does: on {name} embeddings differ by "
                f"{difference:.1e} (at most {largest:.0e}) with a cosine of {cosine:.6f} (at least {MIN_COSINE}); it "
                f"is not written{_of_preprocessor(encoder)}"
            )
        found["max_difference"] = max(found["max_difference"], difference)
        found["min_cosine"] = min(found["min_cosine"], cosine)
    return found


def _of_preprocessor(encoder: _Encoder) -> str:
    """Returns what to do about a preprocessor that is not ours, if it makes the difference."""
    kind = type(encoder.model.data_preprocessor)
    if issubclass(kind, MultiViewPreprocessor):
        return ""
    return (
        f". It normalises, and what else {kind.__name__} does is no part of it: take a MultiViewPreprocessor and let "
        "transforms of the pipelines do the rest"
    )


def _pictures(inferencer: EmbeddingInferencer, images: Images | ImageSet) -> Sequence[Tensor]:
    """Returns the first images as the test pipeline makes them; which cannot be read, as the inferencer has it."""
    pictures = []
    found = images if isinstance(images, ImageSet) else gather_images(images, on_error=inferencer.on_error)
    for source in found.sources:
        try:
            pictures.append(inferencer.pipeline(read_picture(source, **inferencer.opening)))
        except UnreadableImage:
            if inferencer.on_error == "error":
                raise
        if len(pictures) == _MOST_IMAGES:
            break
    if not pictures:
        raise UnreadableImage("none of the images to compare the file on can be read; give others, or none")
    return pictures


def _in_batches(pictures: Sequence[Tensor]) -> dict[str, Tensor]:
    """Returns pictures in batches of one size, by what messages call them."""
    sizes: dict[tuple[int, ...], list[Tensor]] = {}
    for picture in pictures:
        sizes.setdefault(tuple(picture.shape[1:]), []).append(picture)
    return {
        f"images ({len(some)})" + (f" of {height} x {width}" if len(sizes) > 1 else ""): torch.stack(some).float()
        for (height, width), some in sizes.items()
    }


def _saved(program: ExportedProgram, extra_files: dict[str, Any]) -> bytes:
    data = io.BytesIO()
    torch.export.save(program, data, extra_files=extra_files)
    return data.getvalue()


def _write(path: Path, data: bytes, about: dict[str, Any], log: Callable[[str], None]) -> None:
    with in_turn(path):  # or of two exports at once, the file of one would lie beside the description of the other
        write_whole(path, data)
        write_json(path.with_suffix(".json"), about)
    log(f"wrote {path} ({len(data) / 2**20:.1f} MiB) and {path.with_suffix('.json').name}")
