"""Has an index learn from labelled images how sure its answers are, and when it must rather not give one.

Examples:
    hierpretrain calibrate photos.index held_out --precision 0.95
    hierpretrain calibrate photos.index held_out.csv --false-alarms 0.05
    hierpretrain calibrate emoji.index configs/finetune_emoji_known.py CHECKPOINT --splits seen_val --precision 0.95

Held-out images have labels (the sub-folders of a folder, or a list) and are not in the index. Their labels need not all
be in it: what the index does not know is unknown, and it learns from such images how they look to it. So take
images as they will come, some of nothing known among them if there will be such: a folder 'other' beside the classes.

What comes out: a part of the index, calibration, by which classify and search --classify go from
then on; and a table, of the held-out images, each by what was learned from the others:
    known, unknown    images whose node at the level the index has, and whose it has not
    best guess        of the known, how many of the most likely names are right
    named             of the known, how many are sure enough for a name
    of these right    of all names that are given, to known and unknown images
    unknown caught    of the unknown, how many are given no name at the level
    AUROC unknown     how well the confidence tells known from unknown, without a threshold: 50 % is chance
    calib. error      the mean difference between confidence and truth (ECE, 15 bins)
    threshold         the confidence that a name needs; none: no name is sure enough at the level

--precision chooses the lowest thresholds for which, at each level, so many of the names are right with a probability of
90 %; --false-alarms the highest for which so few of the known images go without a name.

Common mistakes:
    - Too few held-out images: a precision of 0.95 needs 45 at every level, even if all of them are right.
    - Held-out images that are in the index, or copies of such: they find themselves, and all looks sure.
"""

from __future__ import annotations

from hierpretrain.commands import embed_images, errors_in_one_line
from hierpretrain.commands._index_options import MODEL_BEFORE_IMAGES, index_parser, model_of, open_index


def main() -> None:
    """Embeds the held-out images, calibrates the index and writes what it learned beside it."""
    parser = index_parser(__doc__, test_data=True)
    goal = parser.add_mutually_exclusive_group(required=True)
    goal.add_argument("--precision", type=float, help="what fraction of the names shall be right: 0.95")
    goal.add_argument("--false-alarms", type=float, help="what fraction of known images may go without a name: 0.05")
    parser.add_argument("--votes", type=int, help="neighbours that vote (default: 50)")
    args = parser.parse_intermixed_args()
    with errors_in_one_line():
        from hierpretrain.apis.answer_tables import level_table
        from hierpretrain.apis.answering import CALIBRATED_VOTERS
        from hierpretrain.apis.index_files import check_changeable
        from hierpretrain.functional.path_calibration import check_goal

        check_goal(args.precision, args.false_alarms)
        votes = CALIBRATED_VOTERS if args.votes is None else args.votes
        index = open_index(args)
        index.check_classify(votes)
        check_changeable(args.index)  # not after the work
        held_out = embed_images(args, model_of(index, MODEL_BEFORE_IMAGES))
        found = index.calibrate(held_out, precision=args.precision, false_alarms=args.false_alarms, k=votes)
        calibration = index.calibration
        left_out = len(held_out.paths) - calibration.num_images
        print(
            f"calibrated by {calibration.num_images:,} images" + (f"; {left_out:,} have no label" if left_out else "")
        )
        print("\n".join(level_table(index.taxonomy.level_names, found, calibration.paths.thresholds)))
