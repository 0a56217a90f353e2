"""Writes a trained encoder as one file that runs without this toolbox: ONNX, or a program of torch.export.

Examples:
    hierpretrain export configs/finetune_emoji.py work_dirs/finetune_emoji/epoch_4.pth --out encoder.onnx
    hierpretrain export configs/finetune_emoji.py CHECKPOINT photos --out encoder.onnx --half
    hierpretrain export configs/finetune_emoji.py CHECKPOINT --out encoder.pt2
    hierpretrain export emoji.index --out encoder.onnx      # the model of an index, with its tree and thresholds

What comes out:
    encoder.onnx  (N, 3, H, W) float32 pictures of 0 to 255 in RGB in, (N, D) float32 embeddings of length 1 out;
                  mean and std are inside, so do not normalise
    encoder.json  for the program that uses it: names and shapes, how an image is resized and cropped, the model and its
                  fingerprint, how closely the file agrees with the model; of an index, its tree and what calibrate
                  learned: the confidence that a name needs at each level

The ending of --out says which: .onnx for onnxruntime in any language, .pt2 for PyTorch (torch.export.load). The file is
run beside the model, on random images and on the images given, and is not written if their embeddings differ.

Common mistakes:
    - To normalise images before the file does: embeddings are then wrong, and nothing says so.
    - To resize in another way than encoder.json says: embeddings are then a little off.
    - ONNX needs pip install 'hierpretrain[export]'.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from hierpretrain._options import add_cfg_options
from hierpretrain._parser import Parser
from hierpretrain.commands import (
    add_list_arguments,
    add_running_arguments,
    build_inferencer,
    check_outputs,
    errors_in_one_line,
    list_options,
    log_to_standard_error,
    running_options,
)
from hierpretrain.commands._index_options import model_of

if TYPE_CHECKING:
    from hierpretrain.apis import EmbeddingInferencer
    from hierpretrain.apis.answering import AnsweringIndex
    from hierpretrain.apis.images import ImageSet


def main() -> None:
    """Exports the encoder in the form that the name of the file asks for."""
    parser = Parser(description=__doc__)
    parser.add_argument(
        "words",
        nargs="+",
        metavar="MODEL",
        help="CONFIG CHECKPOINT, where '' for the latter is the weights that training would start with; or an INDEX "
        "that carries its model. Behind them images to compare the file with the model on: files, folders, lists",
    )
    group = add_running_arguments(parser)
    add_cfg_options(group, "CONFIG")
    add_list_arguments(parser)
    parser.add_argument("--out", required=True, help="the file to write: <name>.onnx or <name>.pt2")
    parser.add_argument("--half", action="store_true", help="weights in half precision: half the size (ONNX)")
    parser.add_argument("--opset", type=int, default=18, help="version of ONNX's operators, from 18 (default: 18)")
    parser.add_argument("--dynamic-size", action="store_true", help="images of any size, for backbones that can")
    args = parser.parse_intermixed_args()
    with errors_in_one_line():
        kind = Path(args.out).suffix
        if kind not in (".onnx", ".pt2"):
            raise ValueError(f"--out must end in .onnx or .pt2; it is {args.out!r}")
        if kind == ".pt2" and (args.half or args.opset != 18):
            raise ValueError("--half and --opset are for ONNX; leave them out, or give a name that ends in .onnx")
        check_outputs(args, "out")
        from hierpretrain.apis.export import checked_path, export_onnx, export_program

        checked_path(args.out, kind)  # not after the model is built
        inferencer, index, images = _model(args)
        options = {"dynamic_size": args.dynamic_size, "images": images, "index": index}
        if kind == ".onnx":
            export_onnx(inferencer, args.out, half=args.half, opset=args.opset, **options)
        else:
            export_program(inferencer, args.out, **options)


def _model(args: argparse.Namespace) -> tuple[EmbeddingInferencer, AnsweringIndex | None, ImageSet | None]:
    """Returns the model that the words name, the index whose model it is, and the images behind."""
    from hierpretrain.apis.addresses import is_address
    from hierpretrain.apis.images import gather_images
    from hierpretrain.apis.index import EmbeddingIndex
    from hierpretrain.apis.index_format import MANIFEST

    first, *rest = args.words
    is_index = is_address(first) or Path(first, MANIFEST).is_file()
    words = rest if is_index else rest[1:]
    if not words and (given := list_options(args)):
        raise ValueError(f"{', '.join(given)} say how a list is read, and no image is given: leave them out")
    images = gather_images(words, on_error=args.on_error, **list_options(args)) if words else None
    if is_index:
        if args.cfg_options:
            raise ValueError("--cfg-options are for CONFIG, and an index carries its own: give CONFIG and CHECKPOINT")
        log_to_standard_error()
        index = EmbeddingIndex.open(first, **running_options(args))
        return model_of(index, "give its config and checkpoint in place of the index"), index, images
    if not rest:
        raise ValueError(f"{first} is no index: give CONFIG and CHECKPOINT, or an INDEX that carries its model")
    args.config, args.checkpoint = args.words[:2]
    return build_inferencer(args), None, images
