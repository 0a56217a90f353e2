"""Counts how many pairs of each level HiConE's bound switches off, on training batches embedded by a checkpoint.

Where the bound is a constant, a pair below it has no gradient, so this says how much of the loss is left.

Example:
    python tools/benchmarks/clamped_pairs.py configs/hicone_emoji.py work_dirs/hicone_emoji/epoch_5.pth
"""

import argparse
import statistics

import torch
from torch.nn.functional import normalize

from hierpretrain.apis import build_runner, check_checkpoint, read_command
from hierpretrain.taxonomy import shared_depth


def main() -> None:
    """Prints a row for each level and bound."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", help="the config file")
    parser.add_argument("checkpoint", help="the checkpoint file")
    parser.add_argument("--batches", type=int, default=10, help="training batches to look at (default: 10)")
    parser.add_argument("--temperature", type=float, default=0.1, help="of the loss (default: 0.1)")
    args, config = read_command(parser)
    runner = build_runner(config)
    check_checkpoint(runner.model, args.checkpoint)
    runner.load_checkpoint(args.checkpoint)
    model = runner.model.train()
    clamped: dict[tuple[str, int], list[float]] = {}
    batches = iter(runner.build_dataloader(config.train_dataloader))
    for _ in range(args.batches):
        batch = model.data_preprocessor(next(batches), training=True)
        with torch.no_grad():
            features = normalize(model.projection(model.extract_feat(batch["inputs"])), dim=1)
        labels = torch.stack([sample.gt_label for sample in batch["data_samples"]]).repeat(2, 1)
        logits = (features @ features.T / args.temperature).fill_diagonal_(-torch.inf)
        nll = torch.logsumexp(logits, 1, keepdim=True) - logits
        shared = shared_depth(labels, labels).fill_diagonal_(0)
        bounds = {"pair": torch.full((len(nll), 1), -torch.inf), "anchor": torch.full((len(nll), 1), -torch.inf)}
        for level in range(labels.shape[1], 0, -1):
            positive = shared >= level
            hardest = nll.masked_fill(~positive, -torch.inf).amax(1, keepdim=True)
            for name, own in (("pair", hardest.max().expand_as(hardest)), ("anchor", hardest)):
                fraction = ((nll < bounds[name]) & positive).sum() / positive.sum()
                clamped.setdefault((name, level), []).append(fraction.item())
                bounds[name] = torch.maximum(bounds[name], own)
    print("| bound | level | pairs below it |\n| --- | ---: | ---: |")
    for (name, level), fractions in sorted(clamped.items()):
        print(f"| {name} | {level} | {100 * statistics.mean(fractions):.1f} % |")


if __name__ == "__main__":
    main()
