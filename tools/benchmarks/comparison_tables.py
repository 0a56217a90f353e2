"""The tables of compare.py: what was measured, by how much ours is ahead, what was chosen, and what was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from comparison import LESS_IS_BETTER, OURS, RATE, SHIPPED, Form, Overrides, Protocol
from comparison_runs import BATCH_SIZE, FIRST, MORE_SEEDS, Results, Run, best_scores, in_form
from table import cells

from hierpretrain.report.run_table import markdown_table, mean_and_deviation, paired_differences

Seeds = Mapping[int, Mapping[str, float]]  # seed -> metrics


def tables(protocol: Protocol, results: Results, methods: Sequence[str]) -> str:
    """Returns the tables of the runs that are done, for every size of batches.

    Args:
        protocol: The protocol.
        results: The runs.
        methods: The rows, in this order; those without a run are left out.
    """
    sizes = {run.batch_size for run, _ in results if run.stage == "final" and run.method in methods}
    parts = []
    for size in sorted(sizes, key=lambda size: (size != BATCH_SIZE, size)):
        chosen = {name: runs for name in methods if (runs := _chosen(protocol, results, name, size))}
        if ours := chosen.get(OURS):
            plain, *roots, _ = protocol.forms
            for form in (*roots, plain):
                chosen[f"{OURS}, {_form_told(form, protocol)}"] = ours[0], _in_form(form, ours[1])
        parts += _tables_of_a_size(protocol, results, chosen, size)
    if given := _given_table(protocol, results, methods):
        parts.append(given)
    return "\n\n".join(parts) + "\n"


def trials_table(protocol: Protocol, results: Results) -> str:
    """Returns what was tried: a table for each method, the best trial first."""
    tried: dict[str, list[tuple[float, list[str]]]] = {}
    for run, metrics in results:
        if run.stage == "trial" and run.method in protocol.methods:
            batches = "" if run.batch_size == BATCH_SIZE else f"; batches of {run.batch_size}"
            settings, its = _told(run.options) + batches, protocol.score(metrics)
            measured = {"score": its} | {heading: metrics[key] for heading, key in protocol.scored.items()}
            line = [settings, *cells({heading: heading for heading in measured}, [measured])]
            tried.setdefault(run.method, []).append((its, line))
    header = ["settings", "score", *protocol.scored]
    by_score = {name: sorted(lines, key=lambda pair: (-pair[0], pair[1])) for name, lines in tried.items()}
    order = sorted(by_score, key=lambda name: -by_score[name][0][0])
    parts = [markdown_table(name, header, [line for _, line in by_score[name]]) for name in order]
    return "\n\n".join(parts) + "\n"


def _given_table(protocol: Protocol, results: Results, methods: Sequence[str]) -> str:
    """Returns the table of the runs whose settings were given; nothing if there are none."""
    found: dict[tuple[str, int, str], list[Mapping[str, float]]] = {}
    for run, metrics in results:
        if run.stage == "given" and run.method in methods:
            found.setdefault((_told(run.options), run.batch_size, run.method), []).append(metrics)
    lines = []
    for (settings, size, name), seeds in sorted(found.items()):
        lines.append([f"{name}: {settings}{_batches(size)}", str(len(seeds)), *cells(protocol.columns, seeds)])
    header = ["", "seeds", *protocol.columns]
    return markdown_table("With settings that no search chose, percent", header, lines) if lines else ""


def _chosen(protocol: Protocol, results: Results, name: str, size: int) -> tuple[Overrides, Seeds] | None:
    """Returns the settings of a method that its best trial has, of those with all epochs, and their runs."""
    runs: dict[str, dict[int, dict[str, float]]] = {}
    for run, metrics in results:
        if (run.method, run.stage, run.batch_size) == (name, "final", size):
            trial = Run(name, "trial", 0, run.options, size)
            runs.setdefault(trial.key, {})[run.seed] = metrics
    scores = {key: protocol.score(results.metrics[key]) if key in results.metrics else -1.0 for key in runs}
    if not scores:
        return None
    best = max(scores, key=lambda key: scores[key])
    options = next(run.options for run, _ in results if Run(name, "trial", 0, run.options, size).key == best)
    return options, dict(sorted(runs[best].items()))


def _in_form(form: Form, seeds: Seeds) -> Seeds:
    """Returns the metrics that each run has in a form; runs that were not measured in it are left out."""
    prefix = f"{in_form(form)}/"
    at = {
        seed: {k.removeprefix(prefix): v for k, v in its.items() if k.startswith(prefix)} for seed, its in seeds.items()
    }
    return {seed: metrics for seed, metrics in at.items() if metrics}


def _form_told(form: Form, protocol: Protocol) -> str:
    """Returns a form of embeddings for people; of a share they hear where one is recommended."""
    power, share = form
    return f"power {power:g}" + f" and pretrained share {share:g}" * (protocol.share > 0)


def _tables_of_a_size(
    protocol: Protocol, results: Results, chosen: Mapping[str, tuple[Overrides, Seeds]], size: int
) -> list[str]:
    """Returns the tables of one size of batches."""
    columns, first = protocol.columns, list(best_scores(protocol, results))[:FIRST]
    lines, marked = [], False
    for name, (_, seeds) in chosen.items():
        more = name in first and set(MORE_SEEDS) <= set(seeds)
        marked |= more
        if seeds:
            lines.append([name + r" \*" * more, str(len(seeds)), *cells(columns, list(seeds.values()))])
    batches = _batches(size)
    parts = [markdown_table(f"Test images of unseen classes, percent{batches}", ["", "seeds", *columns], lines)]
    if marked:
        parts.append(rf"\* of the {FIRST} best methods of the search, which have up to {len(MORE_SEEDS)} seeds")
    form = protocol.forms[-1]
    alike = {
        name: (options, _in_form(form, seeds)) for name, (options, seeds) in chosen.items() if name in protocol.methods
    }
    for which, rows in (("", chosen), (f", every row with {_form_told(form, protocol)}", alike)):
        for ours in (OURS, SHIPPED):
            if lines := _differences(protocol, rows, ours):
                title = f"How far {ours} is ahead{batches}{which}, seed by seed: mean and deviation of the difference"
                parts.append(markdown_table(f"{title} (violations: fewer)", ["", *columns], lines))
    settings = [
        f"| {name} | {_told(options or protocol.methods[name].options)} |"
        for name, (options, _) in chosen.items()
        if name in protocol.methods
    ]
    parts.append("\n".join([f"**Settings{batches}**\n", "| | chosen |", "| --- | --- |", *settings]))
    return parts


def _differences(protocol: Protocol, chosen: Mapping[str, tuple[Overrides, Seeds]], ours_name: str) -> list[list[str]]:
    """Returns the lines of what a row of ours is ahead of each other row, over the seeds that both have."""
    lines = []
    _, ours = chosen.get(ours_name, ({}, {}))
    for name, (_, theirs) in chosen.items():
        if name in protocol.methods and not protocol.methods[name].trained and theirs:  # nothing depends on its seed
            theirs = dict.fromkeys(ours, *theirs.values())
        if name != ours_name and set(ours) & set(theirs):
            differences = []
            for heading, key in protocol.columns.items():
                sign = -100 if heading.startswith(LESS_IS_BETTER) else 100
                values = [sign * difference for difference in paired_differences(ours, theirs, key)]
                differences.append(mean_and_deviation(values, 1, sign=True))
            lines.append([name, *differences])
    return lines


def _batches(size: int) -> str:
    """Returns the size of batches for people, if it is not the usual one."""
    return "" if size == BATCH_SIZE else f", batches of {size}"


def _told(options: Mapping[str, Any]) -> str:
    """Returns settings for people."""
    told = []
    for key, value in options.items():
        name = f"{RATE} x" if key == RATE else _short(key)
        shown = value.get("type", value) if isinstance(value, Mapping) else value
        told.append(f"`{name}={shown}`".replace(" x=", " x "))
    return ", ".join(told) or "as in the config"


def _short(key: str) -> str:
    """Returns a key of a config without where it stands, but for the loss's own projection head."""
    short = key.removeprefix("model.").split("dataloader.")[-1]
    return short if short == "loss.projection" else short.removeprefix("loss.")
