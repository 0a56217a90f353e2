"""The page that `gpu.py` writes of the results of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from measure import table

if TYPE_CHECKING:
    from gpu import Part

Results = Mapping[str, Any]
TITLES = {
    "losses": "Losses, forward and backward",
    "step": "A training step, bfloat16",
    "phases": "What a step is made of, bfloat16",
    "gradient": "Gradient caching",
    "loader": "From image files to views",
    "retrieval": "Retrieval metrics, on the CPU",
}
"""Of the figures, by the first word of a part's name."""


def passed(result: Mapping[str, Any] | None) -> bool:
    """Returns whether a part has come to its end, and all its checks have passed."""
    return result is not None and "error" not in result and all(check["passed"] for check in result.get("checks", ()))


def withheld(part: Part, results: Results) -> list[str]:
    """Returns the checks that a part needs and that have not passed, or not run."""
    return [name for name in part.needs if not passed(results.get(name))]


def state(part: Part, results: Results) -> str:
    """Returns ``'missing'``, ``'error'``, ``'failed'``, ``'passed'``, ``'withheld'`` or ``'measured'``."""
    if part.needs and any(name in results and not passed(results[name]) for name in part.needs):
        return "withheld"
    if part.name not in results or withheld(part, results):
        return "missing"
    if "error" in results[part.name]:
        return "error"
    if part.kind == "figures":
        return "measured"
    return "passed" if passed(results[part.name]) else "failed"


def page(parts: Sequence[Part], results: Results, told: Mapping[str, Any]) -> str:
    """Returns the page: the checks, and the figures whose checks have passed."""
    command = "python tools/benchmarks/gpu.py" + (" --device cpu --small" if told["small"] else "")
    of_checks = [part for part in parts if part.kind == "checks"]
    text = ["# On a GPU", f"```bash\n{command}\n```", "## Checks", _checks(of_checks, results)]
    if told["machine"].get("gpus") == "1":
        text.append("There is one GPU, so the exchange between several is not checked.")
    for word, title in TITLES.items():
        of_section = [part for part in parts if part.kind == "figures" and part.name.split("-")[0] == word]
        shown = [part for part in of_section if state(part, results) == "measured"]
        text.append(f"## {title}")
        if rows := [row for part in shown for row in results[part.name]["figures"]]:
            text.append(table(rows))
        text += [f"`{part.name}`: {_reason(part, results)}." for part in of_section if part not in shown]
        if word == "loader" and shown:
            text += _against_steps(parts, results)
    codes = {result["code"] for result in results.values()}
    if len(codes) > 1:
        text.append(f"The parts are of {len(codes)} versions of the code; `--again all` makes them anew.")
    told_machine = ", ".join(f"{name} {value}" for name, value in told["machine"].items())
    text.append(f"Measured with {told_machine}.")
    return "\n\n".join(text) + "\n"


def _checks(parts: Sequence[Part], results: Results) -> str:
    lines = ["| part | what is compared | differs by | at most | |", "| --- | --- | ---: | ---: | --- |"]
    for part in parts:
        result = results.get(part.name, {})
        for check in result.get("checks", ()):
            told = "passed" if check["passed"] else "**failed**"
            lines.append(f"| {part.name} | {check['what']} | {check['error']:.2g} | {check['bar']:.2g} | {told} |")
        if "checks" not in result:
            lines.append(f"| {part.name} | {_reason(part, results)} | | | {state(part, results)} |")
    return "\n".join(lines)


def _reason(part: Part, results: Results) -> str:
    """Says why a part has no result to show."""
    of_part = state(part, results)
    if of_part == "withheld":
        return f"withheld, since what it needs is wrong: {', '.join(withheld(part, results))}"
    if of_part == "error":
        last = results[part.name]["error"].splitlines()[-1].replace("|", "\\|")
        return f"ended with an error, {last}"
    return "not done yet"


def _against_steps(parts: Sequence[Part], results: Results) -> list[str]:
    """Compares the images a second that the loader gives with what the steps take, in a list if there are any."""
    given = max(row["images_per_second"] for row in results["loader"]["figures"])
    lines = []
    for part in parts:
        if part.name.startswith("step-") and state(part, results) == "measured":
            rows = results[part.name]["figures"]
            taken = max(row["images_per_second"] for row in rows)
            lines.append(
                f"- A step of {rows[0]['case']['backbone']} takes {taken:,.0f} images a second; the loader gives "
                f"{given / taken:.2f} times as many."
            )
    return ["\n".join(lines)] if lines else []
