"""Makes an index of images, in which search finds the images most like others, and keeps it up to date.

Making one:
    hierpretrain index CONFIG CHECKPOINT [IMAGES ...] --out INDEX
Changing one, with the model that it carries:
    hierpretrain index add INDEX IMAGES ...     images are added: folders, lists, files
    hierpretrain index update INDEX IMAGES ...  and what has changed is replaced; the same files are not embedded again
    hierpretrain index remove INDEX KEYS ...    images are removed, by their keys or files
    hierpretrain index merge INDEX OTHER ...    the images of other indexes of the same model are added
    hierpretrain index info INDEX               says what is in it
Each has its --help. What follows is about making one.

Examples:
    hierpretrain index configs/finetune_emoji.py work_dirs/finetune_emoji/epoch_4.pth photos --out photos.index
    hierpretrain index configs/finetune_emoji.py CHECKPOINT 'photos/**/*.jpg' --out photos.index --kind hnsw --half
    hierpretrain index configs/himulcone_deepfashion.py CHECKPOINT --splits gallery --out gallery.index

What comes out: a folder with the embeddings, the files' names, and their labels and tree where there are any: of a
folder, whose sub-folders are labels, of a list, or of the config's own test data; and the model, so that a search needs
nothing else (--no-model leaves it out). The images themselves stay where they are. With labels, a search can keep to a
branch of the tree or show every product once, and images can be classified.

With pip install 'hierpretrain[export]' the folder gets the encoder in ONNX too: a plain search of a few images then
takes half a second, since it imports no torch. --no-onnx leaves it out.

Kinds of index:
    flat    compares a query with every image: exact, and quick enough for 200,000 images and more
    hnsw    a graph: well under a millisecond a query; built in a minute per 100,000 images, with 272 bytes for each
    ivf     inverted lists: built quickest and smallest; for more than a million images
    auto    flat up to 200,000 images, hnsw up to a million, then ivf
For hnsw and ivf it prints how many of the ten nearest images a search finds. --half stores float16: half the size,
and scores that are off by up to 0.001.

Common mistakes:
    - Index and queries must be embedded by one model: after more training, make the index anew.
    - The folder must be new, empty, or hold an older index, which is replaced.
    - Files that cannot be read are skipped and listed; --on-error error stops at the first instead.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hierpretrain.commands import build_inferencer, embed_images, errors_in_one_line, model_parser
from hierpretrain.commands._index_changes import CHANGES

if TYPE_CHECKING:
    from hierpretrain.apis.index import EmbeddingIndex


def main() -> None:
    """Makes an index, or changes one, as the first word says."""
    if len(sys.argv) > 1 and sys.argv[1] in CHANGES:
        CHANGES[sys.argv[1]](sys.argv[2:])
    else:
        _make()


def _make() -> None:
    """Embeds the images and writes the index."""
    parser = model_parser(__doc__)
    parser.add_argument(
        "--out",
        required=True,
        help="the folder of the index, or an address: milvus://HOST:PORT/NAME, milvus-lite:///FILE.db#NAME; an older "
        "index there is replaced",
    )
    parser.add_argument("--kind", choices=["auto", "flat", "hnsw", "ivf"], default="auto", help="see above")
    parser.add_argument("--half", action="store_true", help="store float16 (in a folder)")
    parser.add_argument("--no-model", action="store_true", help="do not put the config and the weights into the folder")
    parser.add_argument(
        "--no-onnx", action="store_true", help="do not put the encoder into the folder as ONNX too, for quick searches"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the clusters of ivf, and of the recall's queries")
    args = parser.parse_intermixed_args()
    with errors_in_one_line():
        from hierpretrain.apis.addresses import is_address
        from hierpretrain.apis.index_files import check_target

        check_target(args.out, half=args.half, seed=args.seed)  # not after hours of embedding
        inferencer = build_inferencer(args)
        embedded = embed_images(args, inferencer)
        options = dict(kind=args.kind, half=args.half, seed=args.seed)
        index = inferencer.build_index(embedded, args.out, carry_model=not args.no_model, **options)
        if not (args.no_model or args.no_onnx or is_address(args.out)):
            _carry_onnx(index)
        size = index.info().get("bytes")  # of a folder
        print(f"wrote {args.out}: {'' if size is None else f'{size / 1e6:,.1f} MB, '}{index!r}")


def _carry_onnx(index: EmbeddingIndex) -> None:
    try:
        index.carry_onnx()
    except (ValueError, ImportError) as error:  # it is a gain, and nothing is wrong without it
        print(f"without an encoder in ONNX, so that a search takes seconds to start: {error}", file=sys.stderr)
