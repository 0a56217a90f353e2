"""Embeds folders of JPEGs beside the two parts of that work: decoding the files, and the encoder on ready batches.

Both parts share the processors, so no way of embedding is quicker than the limit: the time of the encoder plus the time
of decoding, each on all processors and without the other. The encoder's time is of batches of 32 that lie in memory.
Decoding is opening the files and making the encoder's inputs of them, in one process, divided by the processors.
``hierpretrain embed`` does both, and digests the files.

The JPEGs are smooth pictures with as much detail as photographs have, about 1.5 bits a pixel. Encoders are
EfficientNet-Lite0 with ImageNet weights and a ResNet-50 with random ones, at 224 px. ``least cosine`` is of an image's
embedding and its embedding by ``embed`` without options: in float32, of the whole picture.

Examples:
    python tools/benchmarks/embed.py
    python tools/benchmarks/embed.py --encoders lite0 --sides 500 --images 64 --rounds 1
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from data_path import write_jpegs
from measure import Report, command, parse, per_second, race
from mmengine.config import Config
from torch import Tensor
from torch.nn.functional import cosine_similarity

from hierpretrain.apis import EmbeddingInferencer
from hierpretrain.datasets.loading import open_rgb

BACKBONES = {
    "lite0": dict(type="EfficientNetLite0", weights=True),
    "resnet50": dict(type="ResNet", depth=50),
}
ENCODER, AMP_ENCODER, DECODING, EMBED, AMP, SMALLER, LIMIT, AMP_LIMIT = (
    "the encoder, ready batches",
    "the encoder, bfloat16",
    "decoding, on all processors",
    "embed",
    "embed, bfloat16",
    "embed, LoadRGB(min_side=448)",
    "limit: encoder + decoding",
    "limit of bfloat16",
)
MIN_SIDE = 448  # twice what the encoder sees


def inferencer(backbone: str, **options: Any) -> EmbeddingInferencer:
    """Returns an encoder for pictures of 224 px; ``min_side`` is LoadRGB's."""
    load = dict(type="LoadRGB", min_side=options.pop("min_side", None))
    resize = dict(type="torchvision/Resize", size="encoder" if backbone == "lite0" else 224, interpolation="bicubic")
    crop = dict(type="torchvision/CenterCrop", size=224)
    model = dict(type="HierarchicalContrastive", backbone=BACKBONES[backbone])
    config = Config(dict(model=model, test_dataloader=dict(dataset=dict(pipeline=[load, resize, crop]))))
    torch.manual_seed(0)
    return EmbeddingInferencer(config, checkpoint="", device="cpu", progress=False, **options)


def least_cosine(a: Tensor, b: Tensor) -> float:
    """Returns the least cosine of two embeddings of one image."""
    return float(cosine_similarity(a, b).min())


def contenders(backbone: str, folder: Path, side: int) -> dict[str, Callable[[], Any]]:
    """Returns what is timed: each goes through all images of a folder."""
    plain, amp = (inferencer(backbone, num_workers=None, amp=amp) for amp in (False, True))
    smaller = inferencer(backbone, num_workers=None, min_side=MIN_SIDE)
    files = sorted(map(str, folder.iterdir()))
    data = plain.module.data_preprocessor
    batches = len(files) // 32

    def pictures(number: int) -> list[Tensor]:
        return [plain.pipeline(open_rgb(file)) for file in files[:number]]

    ready = pictures(32)

    def encoder(encode: Callable[[Tensor], Tensor], amp: bool = False) -> Callable[[], Any]:
        @torch.inference_mode()
        def run() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=amp):
                for _ in range(batches):
                    encode(data({"inputs": ready})["inputs"])

        return run

    found = {
        ENCODER: encoder(plain.module.embed),
        AMP_ENCODER: encoder(plain.module.embed, amp=True),
        DECODING: lambda: pictures(len(files)),
        EMBED: lambda: plain.embed(str(folder)).features,
        AMP: lambda: amp.embed(str(folder)).features,
    }
    return found if side < 2 * MIN_SIDE else {**found, SMALLER: lambda: smaller.embed(str(folder)).features}


def with_limits(seconds: dict[str, list[float]], threads: int) -> dict[str, list[float]]:
    """Adds the limits, round by round, and divides the seconds of decoding by the processors."""
    decoding = [second / threads for second in seconds[DECODING]]
    limits = {
        limit: [a + b for a, b in zip(seconds[encoder], decoding, strict=True)]
        for limit, encoder in ((LIMIT, ENCODER), (AMP_LIMIT, AMP_ENCODER))
    }
    return {**seconds, DECODING: decoding, **limits}


def main() -> None:
    """Runs the comparison for each encoder and size of the files, prints it and saves it on request."""
    parser = command(__doc__)
    parser.set_defaults(rounds=3)
    parser.add_argument("--encoders", nargs="+", choices=list(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--sides", nargs="+", type=int, default=[500, 1600], help="widths of the JPEGs, px")
    parser.add_argument("--images", type=int, default=256, help="JPEGs of a size; a multiple of 32")
    args = parse(parser)
    report = Report("embed", "Embedding JPEGs", "pixels")
    threads = torch.get_num_threads()
    for side in args.sides:
        with tempfile.TemporaryDirectory() as folder:
            write_jpegs(Path(folder) / "jpegs", side, args.images)
            for name in args.encoders:
                ours = contenders(name, Path(folder) / "jpegs", side)
                seconds = with_limits(race(ours, rounds=args.rounds, warm_up=1), threads)
                whole = ours[EMBED]()
                report.add(
                    {"encoder": name, "pixels": side * (side * 3 // 4)},
                    seconds,
                    against=LIMIT,
                    images_per_second=per_second(args.images, seconds),
                    fraction_of_limit={
                        way: statistics.median(a / b for a, b in zip(seconds[limit], seconds[way], strict=True))
                        for way, limit in ((EMBED, LIMIT), (AMP, AMP_LIMIT))
                    },
                    least_cosine={way: least_cosine(ours[way](), whole) for way in (AMP, SMALLER) if way in ours},
                )
    report.save(args.save)


if __name__ == "__main__":
    main()
