"""Embeds images and writes the embeddings, with all that is known of the images, into a folder.

Examples:
    hierpretrain embed configs/finetune_emoji.py work_dirs/finetune_emoji/epoch_4.pth photos --out embedded
    hierpretrain embed configs/finetune_emoji.py CHECKPOINT 'photos/**/*.jpg' more.csv --out embedded
    hierpretrain embed configs/himulcone_deepfashion.py CHECKPOINT --data-root inshop --splits query --out embedded

What comes out:
    embeddings.npy  (N, D) float32, rows of length 1: the product of two rows is their cosine similarity
    labels.npy      (N, L) int64, node ids from the coarsest level on, -1 where a path ends; (N, P, L) for images of
                    several label paths; L is 0 for images without labels
    images.json     the N paths and splits, in the order of the rows, and the files that were skipped, each with why; of
                    a list also the keys (--key-column) and, where --levels are named, the other columns as metadata
    skipped.json    the files and links that could not be read: path -> why; {} if all could
    taxonomy.json   what the ids stand for: read it with hierpretrain.taxonomy.Taxonomy.load

In Python: rows = numpy.load("embedded/embeddings.npy"). To search among them, make an index instead (index, search).
"""

from __future__ import annotations

import argparse
import io
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hierpretrain.commands import (
    add_image_arguments,
    add_model_arguments,
    build_inferencer,
    embed_images,
    errors_in_one_line,
)
from hierpretrain.files import check_writable, write_json, write_whole

if TYPE_CHECKING:
    from hierpretrain.evaluation import Embeddings


def main() -> None:
    """Embeds the images and writes the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_model_arguments(parser)
    add_image_arguments(parser)
    parser.add_argument("--out", required=True, help="the folder to write; files of the same names are replaced")
    args = parser.parse_intermixed_args()
    with errors_in_one_line():
        check_writable(Path(args.out, "embeddings.npy"))  # not after hours of embedding
        embedded = embed_images(args, build_inferencer(args))
        write_embeddings(embedded, args.out)
        print(f"wrote {args.out}: {embedded.features.shape[1]} numbers an image; {embedded.taxonomy!r}")


def write_embeddings(embedded: Embeddings, folder: str | os.PathLike[str]) -> None:
    """Writes embedded images as the files that the command's help describes.

    Args:
        embedded: The images.
        folder: Where to; it is made if it is missing.
    """
    folder = Path(folder)
    for name, array in (("embeddings.npy", embedded.features), ("labels.npy", embedded.labels)):
        data = io.BytesIO()
        np.save(data, array.numpy(), allow_pickle=False)
        write_whole(folder / name, data.getvalue())
    about = {"paths": embedded.paths, "splits": embedded.splits, "skipped": dict(embedded.skipped)}
    if embedded.keys:
        about["keys"] = list(embedded.keys)
    if embedded.metadata:
        about["metadata"] = {name: list(column) for name, column in embedded.metadata.items()}
    from hierpretrain.datasets.on_error import SKIPPED, write_skipped

    write_json(folder / "images.json", about)
    write_skipped(folder / SKIPPED, embedded.skipped)
    embedded.taxonomy.save(folder / "taxonomy.json")
