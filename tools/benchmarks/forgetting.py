"""What fine-tuning loses on classes that it does not see: learning rates, and weights between the start and the end.

The recommended loss trains without some of the seen classes, as in the trials of compare.py, and is measured on those.
Weights on the way from the pretrained ones to the trained ones are measured beside them: a fraction of 0 is the encoder
before training, 1 after it.

Run by    python tools/benchmarks/forgetting.py openclipart_pretrained --rates 0.25 1 4
Needs     a minute for each rate and draw of classes on an idle core
Writes    a table of scores to the standard output; with --out all metrics, as JSON
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from comparison import METHODS, PROTOCOLS, RATE, SHIPPED
from comparison_config import run_config
from comparison_runs import Run

from hierpretrain.apis import build_runner
from hierpretrain.files import write_json
from hierpretrain.registry import MODELS
from hierpretrain.report.run_table import markdown_table


def main() -> None:
    """Trains, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=[name for name, protocol in PROTOCOLS.items() if protocol.base])
    parser.add_argument("--method", default=SHIPPED, choices=list(METHODS))
    parser.add_argument("--rates", nargs="+", type=float, default=[1.0], help="relative to the protocol's")
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.0, 0.3, 0.5, 0.7, 1.0])
    parser.add_argument("--work-dir", help="where kept features and logs go, to be used again")
    parser.add_argument("--out", help="write all metrics as JSON")
    args = parser.parse_args()
    protocol = PROTOCOLS[args.protocol]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(args.work_dir or folder).absolute()
        found: list[dict[str, Any]] = []
        for rate in args.rates:
            for draw in protocol.trial_seeds:
                found += measured(protocol, args.method, rate, draw, args.fractions, root)
    lines = []
    for rate in args.rates:
        cells = []
        for fraction in args.fractions:
            its = [line["metrics"] for line in found if (line["rate"], line["fraction"]) == (rate, fraction)]
            cells.append(f"{100 * statistics.mean(map(protocol.score, its)):.1f}")
        lines.append([f"{rate * protocol.rate:g}", *cells])
    header = ["rate", *(f"{fraction:g} of the way" for fraction in args.fractions)]
    print(markdown_table(f"Score on held-out seen classes, {args.method}, {args.protocol}", header, lines))
    if args.out:
        write_json(args.out, found)


def measured(protocol, method, rate, draw, fractions, root) -> list[dict[str, Any]]:
    """Trains once, and returns the metrics at every fraction."""
    run = Run(method, "trial", 0, {RATE: rate})
    config = run_config(protocol, protocol.methods[method], run, root, draw)
    config.log_level = "WARNING"
    config.work_dir = str(root / f"forgetting_{rate:g}_{draw}")
    runner = build_runner(config)
    runner.train()
    start = MODELS.build({"_scope_": "hierpretrain", **config.model.backbone})
    start.init_weights()
    before = {f"backbone.{name}": weight for name, weight in start.state_dict().items()}
    after = {name: weight.clone() for name, weight in runner.model.state_dict().items()}
    lines = []
    for fraction in fractions:
        between = {
            name: before[name].lerp(weight, fraction) if name in before and weight.is_floating_point() else weight
            for name, weight in after.items()
        }
        runner.model.load_state_dict(between)
        metrics = {name: value for name, value in runner.test().items() if isinstance(value, float | int)}
        lines.append(dict(rate=rate, draw=draw, fraction=fraction, metrics=metrics))
    return lines


if __name__ == "__main__":
    main()
