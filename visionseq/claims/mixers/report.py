"""The report on the mixers' runs: means and spread over seeds, a verdict per statement, a plot, JSON and a page."""

from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from visionseq import viz
from visionseq.files import atomic_write, write_json

Accuracies = Mapping[str, Mapping[str, float]]  # operator -> read-out -> test accuracy
LEARNS, CARRIES, CHANCE = 0.9, 0.25, 0.15  # chance is 0.1; the test set's standard error there is 0.015
NEAR_LINEAR, QUADRATIC = 1.1, 1.5  # exponents of total time in the length

INTRODUCTION = """\
Digits as 64 tokens, a pixel each, through one block of width 32; test accuracy, mean (range) over {seeds} seeds. Three
read-outs: the mean over the tokens; an empty token in front of the image (first); the same with 64 more empty tokens
between (far). Chance is 0.1. It does not rank the operators."""

STATEMENTS: dict[str, Callable[[Accuracies], bool]] = {
    "every operator learns from the mean over tokens": lambda a: all(row["mean"] > LEARNS for row in a.values()),
    "xLSTM, RWKV6 and Mamba carry information backwards": lambda a: _all_above(a, "first", "xLSTM", "RWKV6", "Mamba"),
    "xLSTM, RWKV6 and Mamba do so over any distance": lambda a: _all_above(a, "far", "xLSTM", "RWKV6", "Mamba"),
    "RetNet does so inside its chunk of 64 tokens": lambda a: a["RetNet"]["first"] > CARRIES,
    "RetNet does not do so beyond its chunk": lambda a: a["RetNet"]["far"] < CHANCE,
    "TTT never does so": lambda a: max(a["TTT"]["first"], a["TTT"]["far"]) < CHANCE,
}


def average(seeds: Mapping[int, Accuracies]) -> dict[str, dict[str, float]]:
    """Means over the seeds."""
    first = next(iter(seeds.values()))
    return {name: {key: mean(s[name][key] for s in seeds.values()) for key in row} for name, row in first.items()}


def verdicts(accuracies: Accuracies, seconds: Mapping[str, Mapping[int, float]]) -> dict[str, bool]:
    """Which statements hold, by the means over the seeds."""
    holds = {text: test(accuracies) for text, test in STATEMENTS.items()}
    exponents = {name: 1 + _slope(values) for name, values in seconds.items()}
    scans = [value for name, value in exponents.items() if name.endswith("scan")]
    parallel = [value for name, value in exponents.items() if "parallel" in name]
    if scans:
        holds["the scans' time grows linearly with the length"] = max(scans) < NEAR_LINEAR
    if parallel:
        holds["the parallel mLSTM's time grows faster, towards quadratic"] = min(parallel) > QUADRATIC
    return holds


def write_report(
    folder: Path,
    seeds: Mapping[int, Accuracies],
    seconds: Mapping[str, Mapping[int, float]],
    recipe: Mapping[str, Any],
    machine: Mapping[str, Any],
) -> Path:
    """Write mixers.json, mixers.md and a plot into `folder`; returns the page."""
    means = average(seeds)
    statements = verdicts(means, seconds)
    content = {"recipe": recipe, "machine": machine, "seeds": seeds, "mean": means, "seconds_per_token": seconds}
    write_json(folder / "mixers.json", {**content, "verdicts": statements})

    # Plot and page.
    lengths = list(next(iter(seconds.values())))
    curves = {name: [1e6 * value for value in values.values()] for name, values in seconds.items()}
    viz.line_plot(
        folder / "mixers_time.png",
        lengths,
        curves,
        title="Forward + backward",
        xlabel="tokens",
        ylabel="µs per token",
        log_x=True,
        log_y=True,
    )
    with atomic_write(folder / "mixers.md", "w") as file:
        file.write(_page(seeds, means, seconds, statements, recipe, machine))
    return folder / "mixers.md"


def table(seeds: Mapping[int, Accuracies], means: Accuracies) -> list[tuple[str, ...]]:
    """Rows (operator, a cell for each read-out): mean and, in brackets, smallest and largest over the seeds."""
    rows = []
    for name, row in means.items():
        cells = []
        for key, value in row.items():
            values = [accuracies[name][key] for accuracies in seeds.values()]
            cells.append(f"{value:.3f} ({min(values):.3f}-{max(values):.3f})")
        rows.append((name, *cells))
    return rows


def _page(
    seeds: Mapping[int, Accuracies],
    means: Accuracies,
    seconds: Mapping[str, Mapping[int, float]],
    statements: Mapping[str, bool],
    recipe: Mapping[str, Any],
    machine: Mapping[str, Any],
) -> str:
    lines = [
        "# Claim: which token mixers carry information backwards",
        "",
        INTRODUCTION.format(seeds=len(seeds)),
        "",
        "| operator | mean | first | far |",
        "|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in table(seeds, means)),
        "",
        "## Verdicts",
        "",
        *(f"- {text}: **{'holds' if holds else 'does not hold here'}**" for text, holds in statements.items()),
        "",
        "## Time per token",
        "",
        "| form | " + " | ".join(f"{length} tokens" for length in next(iter(seconds.values()))) + " | exponent |",
        "|" + "---|" * (2 + len(next(iter(seconds.values())))),
        *(_row(name, values) for name, values in seconds.items()),
        "",
        "![time per token against length](mixers_time.png)",
        "",
        "## Recipe",
        "",
        *(f"- {key}: `{value}`" for key, value in recipe.items()),
        *(f"- {key}: {value}" for key, value in machine.items()),
        "",
    ]
    return "\n".join(lines)


def _row(name: str, per_token: Mapping[int, float]) -> str:
    cells = [f"{1e6 * value:.2f} µs" for value in per_token.values()]
    return f"| {' | '.join([name, *cells, f'{1 + _slope(per_token):.2f}'])} |"


def _all_above(accuracies: Accuracies, read_out: str, *names: str) -> bool:
    return all(accuracies[name][read_out] > CARRIES for name in names)


def _slope(per_token: Mapping[int, float]) -> float:
    """Of a straight line through the logarithms: 0 is a constant time per token."""
    return float(np.polyfit(np.log([int(n) for n in per_token]), np.log(list(per_token.values())), 1)[0])
