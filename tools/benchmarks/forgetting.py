"""What fine-tuning loses on classes that it does not see: learning rates, and what is kept of the encoder's start.

The recommended loss trains without some of the seen classes, as in the trials of compare.py, and is measured on those.
Weights on the way from the pretrained ones to the trained ones are measured beside them: a fraction of 0 is the encoder
before training, 1 after it. So are similarities of which a share is the pretrained encoder's (``pretrained_share``).

Run by    python tools/benchmarks/forgetting.py openclipart_pretrained --rates 0.25 1 4
          python tools/benchmarks/forgetting.py openclipart_pretrained --fractions 1 --shares 0 0.3 0.5 0.7 1
Needs     a minute for each rate and draw of classes on an idle core
Writes    tables of scores and metrics to the standard output; with --out all metrics, as JSON
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import Any

from comparison import METHODS, PROTOCOLS, RATE, SHIPPED, Protocol
from comparison_config import run_config
from comparison_runs import Run

from hierpretrain.apis import build_runner
from hierpretrain.files import write_json
from hierpretrain.report.run_table import markdown_table


def main() -> None:
    """Trains, measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("protocol", choices=[name for name, protocol in PROTOCOLS.items() if protocol.base])
    parser.add_argument("--method", default=SHIPPED, choices=list(METHODS))
    parser.add_argument("--rates", nargs="+", type=float, default=[1.0], help="relative to the protocol's")
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.0, 0.3, 0.5, 0.7, 1.0])
    parser.add_argument("--shares", nargs="*", type=float, default=[], help="pretrained shares of similarities")
    parser.add_argument("--work-dir", help="where kept features and logs go, to be used again")
    parser.add_argument("--out", help="write all metrics as JSON")
    args = parser.parse_args()
    protocol = PROTOCOLS[args.protocol]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(args.work_dir or folder).absolute()
        found: list[dict[str, Any]] = []
        for rate in args.rates:
            for draw in protocol.trial_seeds:
                found += measured(protocol, args.method, rate, draw, args.fractions, args.shares, root)
    lines, shares = [], []
    for rate in args.rates:
        its = [line for line in found if line["rate"] == rate]
        lines.append([f"{rate * protocol.rate:g}"])
        for fraction in args.fractions:
            there = [line["metrics"] for line in its if (line["fraction"], line["share"]) == (fraction, 0)]
            lines[-1].append(f"{100 * statistics.mean(map(protocol.score, there)):.1f}")
        for share in args.shares:
            there = [line["metrics"] for line in its if line["share"] == share and line["fraction"] == 1]
            means = [statistics.mean(metrics[key] for metrics in there) for key in _columns(protocol).values()]
            score = statistics.mean(map(protocol.score, there))
            shares.append([f"{rate * protocol.rate:g}", f"{share:g}", *(f"{100 * m:.1f}" for m in (score, *means))])
    header = ["rate", *(f"{fraction:g} of the way" for fraction in args.fractions)]
    print(markdown_table(f"Score on held-out seen classes, {args.method}, {args.protocol}", header, lines))
    if shares:
        print("\n" + markdown_table("With a pretrained share", ["rate", "share", "score", *_columns(protocol)], shares))
    if args.out:
        write_json(args.out, found)


def _columns(protocol: Protocol) -> dict[str, str]:
    """Returns heading -> metric of what trials measure."""
    recall = f"R@1 {protocol.finest}"
    return {recall: protocol.columns[recall], **protocol.scored}


def measured(protocol, method, rate, draw, fractions, shares, root) -> list[dict[str, Any]]:
    """Trains once, and returns the metrics at every fraction, and at every share of the trained weights."""
    run = Run(method, "trial", 0, {RATE: rate})
    config = run_config(protocol, protocol.methods[method], run, root, draw)
    config.model.pretrained_share = 0.5  # for the copy of the encoder
    config.log_level = "WARNING"
    config.work_dir = str(root / f"forgetting_{rate:g}_{draw}")
    runner = build_runner(config)
    runner.train()
    before = {f"backbone.{name}": weight for name, weight in runner.model.pretrained.backbone.state_dict().items()}
    after = {name: weight.clone() for name, weight in runner.model.state_dict().items()}
    lines = []
    for fraction, share in dict.fromkeys([*((fraction, 0.0) for fraction in fractions), *((1.0, s) for s in shares)]):
        between = {
            name: before[name].lerp(weight, fraction) if name in before and weight.is_floating_point() else weight
            for name, weight in after.items()
        }
        runner.model.load_state_dict(between)
        runner.model.pretrained.share = share
        metrics = {name: value for name, value in runner.test().items() if isinstance(value, float | int)}
        lines.append(dict(rate=rate, draw=draw, fraction=fraction, share=share, metrics=metrics))
    return lines


if __name__ == "__main__":
    main()
