"""Writes a report of a checkpoint and a set of images: one HTML file, to open in any browser and to send to anyone.

Examples:
    hierpretrain report configs/finetune_emoji.py work_dirs/finetune_emoji/epoch_4.pth
    hierpretrain report configs/finetune_emoji.py CHECKPOINT photos --out photos.html --title "Our photos"
    hierpretrain report configs/linear_emoji_seen.py CHECKPOINT --query unseen_test --gallery unseen_train

What comes out: one file of 6 to 30 MB that loads nothing from anywhere. It has the numbers of every level, a map of the
images with thumbnails and nearest neighbours, curves of recall, the quality of each node of the tree, which siblings
are taken for one another, the best and worst queries, and the curves of the training.

Without IMAGES, the config's test data set is embedded, and the numbers are what its test gives: the same queries
in the same gallery, by the same metrics. With IMAGES, --query or --gallery they are others, and the page says so; it
also says how many of the queries the model was trained on.

Images in a folder have the labels of its sub-folders; a list has label columns, which --levels names. Of images without
labels there are the map and the neighbours. Numbers that take long and that the config does not measure are of a
sample, whose size the page says. Of more images than --max-points, a sample is on the map.

Mistakes that are easy to make: photos/*.jpg without quotes, which takes off the folders that are the labels (give the
folder instead); a --history that is no work directory of a training (the section then says so).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from hierpretrain.commands import (
    build_inferencer,
    check_outputs,
    embed_images,
    errors_in_one_line,
    model_parser,
    page_head,
)

if TYPE_CHECKING:
    from hierpretrain.apis.images import ImageSet

_OUT = "report.html"


def main() -> None:
    """Embeds the images and writes the report."""
    parser = model_parser(__doc__)
    parser.add_argument("--out", help="the file to write (default: report.html)")
    parser.add_argument("--title", help="the heading; the model's name if not given")
    parser.add_argument("--history", help="the training's work directory; by default the checkpoint's folder")
    parser.add_argument("--query", nargs="+", help="the queries' splits; by default the config's, or all images")
    parser.add_argument("--gallery", nargs="+", help="the gallery's splits; by default the config's, or the queries")
    parser.add_argument("--max-points", type=int, default=50_000, help="the most images on the map (default: 50000)")
    parser.add_argument("--seed", type=int, default=0, help="of samples, the map and clusterings (default: 0)")
    args = parser.parse_intermixed_args()
    with errors_in_one_line():
        by_default, args.out = not args.out, args.out or _OUT
        check_outputs(args, "out", ours={_OUT: page_head("report")} if by_default else None)  # not after the work
        from hierpretrain.apis.measured import config_metrics, trained_images
        from hierpretrain.checks import check_at_least_1
        from hierpretrain.evaluation.embeddings import as_tags, check_splits
        from hierpretrain.report import write_report

        def check(found: ImageSet) -> None:
            """Raises before the work if a split has no image."""
            check_splits([*as_tags(args.query), *as_tags(args.gallery)], {"splits": tuple(dict.fromkeys(found.splits))})

        check_at_least_1(max_points=args.max_points)

        inferencer = build_inferencer(args)
        metrics = [] if args.images else config_metrics(inferencer.config, args.splits)
        images = embed_images(args, inferencer, check)
        write_report(
            images,
            args.out,
            title=args.title or f"Report of {inferencer.name}",
            model=inferencer.name,
            query=args.query,
            gallery=args.gallery,
            metrics=metrics,
            trained=trained_images(inferencer.config, args.data_root),
            history=args.history or (Path(args.checkpoint).parent if args.checkpoint else None),
            max_points=args.max_points,
            seed=args.seed,
        )
