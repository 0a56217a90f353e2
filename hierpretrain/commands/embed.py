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
    taxonomy.json   what the ids stand for: read it with hierpretrain.taxonomy.Taxonomy.load
    skipped.json    the files and links that could not be read: path -> why; {} if all could
    manifest.json   the SHA-256 of each of these files, which all belong together

In Python: rows = numpy.load("embedded/embeddings.npy"), or hierpretrain.apis.read_embeddings("embedded") for all of it,
checked. To search among them, make an index instead (index, search).

The folder must be new, empty, or hold older embeddings, which are replaced whole or not at all.
"""

from __future__ import annotations

from hierpretrain.commands import build_inferencer, embed_images, errors_in_one_line, model_parser


def main() -> None:
    """Embeds the images and writes the folder."""
    parser = model_parser(__doc__)
    parser.add_argument("--out", required=True, help="the folder to write; older embeddings in it are replaced")
    args = parser.parse_intermixed_args()
    with errors_in_one_line():
        from hierpretrain.apis.embedding_files import check_embeddings_target, write_embeddings

        check_embeddings_target(args.out)  # not after hours of embedding
        embedded = embed_images(args, build_inferencer(args))
        write_embeddings(embedded, args.out)
        print(f"wrote {args.out}: {embedded.features.shape[1]} numbers an image; {embedded.taxonomy!r}")
