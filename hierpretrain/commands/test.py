"""Evaluates a checkpoint as a config says.

Examples:
    hierpretrain test finetune_emoji work_dirs/finetune_emoji/epoch_4.pth
    hierpretrain test himulcone_deepfashion CHECKPOINT --data-root path/to/inshop --out results.json
    hierpretrain test linear_emoji_seen CHECKPOINT      # every task on the frozen encoder, of any method
    hierpretrain test linear_wikiscenes --data-root path/to/it      # the pretrained encoder as it is

What comes out: the metrics in the log, in metrics.json in the work directory, and in the file of --out. docs/metrics.md
says what each of them is.

Common mistakes:
    A checkpoint of another config: the error names the first weight that differs; give the config, and the
    --cfg-options, of its training.
    A test that changed what metrics.json says of the training: give a --work-dir of its own.
"""

from __future__ import annotations

from hierpretrain._parser import Parser
from hierpretrain.apis.command import config_of, parse_command
from hierpretrain.commands import check_outputs, errors_in_one_line
from hierpretrain.files import write_json

_NEEDED = ("test_dataloader", "test_cfg", "test_evaluator")


def main() -> None:
    """Builds the runner and tests."""
    parser = Parser(description=__doc__)
    parser.add_argument("config", help="the config file, or a name of the model zoo")
    parser.add_argument(
        "checkpoint",
        nargs="?",
        help="the checkpoint file; without it, or with '', the weights that training would start with",
    )
    parser.add_argument("--out", help="also write the metrics to this JSON file")
    args = parse_command(parser)
    from mmengine.dist import is_main_process  # not before --help

    from hierpretrain.apis.launch import build_errors, build_runner, config_errors
    from hierpretrain.apis.pure_python import type_name
    from hierpretrain.apis.starts import check_checkpoint, check_start
    from hierpretrain.models.gather import unwrapped

    with errors_in_one_line(), build_errors():
        config = config_of(args)
        if missing := [key for key in _NEEDED if config.get(key) is None]:
            wanted = ", ".join(f"{key} = {key.replace('test', 'val')}" for key in missing)
            raise ValueError(
                f"{args.config} has no {', '.join(missing)}: to test on what the training validates on, set {wanted}"
            )
        check_outputs(args, "out")  # not after the work
        config.resume = False
        config.load_from = args.checkpoint or config.get("load_from")
        if type_name(config.get("runner_type", "")) == "FlexibleRunner":  # shards the training; checkpoints are whole
            config.pop("runner_type")
            config.pop("strategy", None)
        runner = build_runner(config)
        if args.checkpoint:
            check_checkpoint(runner.model, args.checkpoint)
        else:
            unwrapped(runner.model).begins_training = True
            check_start(config, runner.model)
        runner.test_loop  # noqa: B018  the data sets are read here, and not within the evaluation
    if not args.checkpoint:
        weights = f"those of {config.load_from}" if config.load_from else "pretrained or random"
        runner.logger.info(f"no checkpoint is given: the model has its initial weights, {weights}")
        runner._init_model_weights()  # and the same on all processes
    with config_errors():
        metrics = runner.test()
    if args.out and is_main_process():
        with errors_in_one_line():
            write_json(args.out, metrics)
