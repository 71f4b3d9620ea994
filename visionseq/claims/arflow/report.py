"""The report of the claim: a verdict for each statement, JSON, a plot of the losses and a page.

A difference counts where it is beyond the spread: the worst seed of one arm is better than the best of the other.
"""

from pathlib import Path
from statistics import mean
from typing import Any

from visionseq import viz
from visionseq.claims.arflow.experiment import TIMES
from visionseq.files import atomic_write, write_json

Scores = dict[int, dict[str, Any]]  # seed -> the result of `experiment.run_seed`
ARMS = {
    "carried": "sequences, memory carried",
    "reset": "the same weights, memory reset at every call",
    "single": "single images, equal images an update",
}
MEASURES = {
    "features": "Fréchet distance, features",
    "pixels": "Fréchet distance, pixels",
    "accuracy": "class accuracy",
}


def verdicts(scores: Scores) -> dict[str, bool]:
    """Statement -> whether it holds in all seeds."""
    statements = {}
    for steps in _steps(scores):
        carried, reset, single = (_values(scores, arm, steps, "features") for arm in ARMS)
        statements[f"{steps} steps: carrying the memory beats resetting it, same weights"] = max(carried) < min(reset)
        statements[f"{steps} steps: ARFlow beats single images at equal cost"] = max(carried) < min(single)
        statements[f"{steps} steps: the memory changes the samples"] = all(
            a != b for a, b in zip(carried, reset, strict=True)
        )
    losses = [scores[seed]["loss"] for seed in scores]
    statements["the loss at equal time is lower with predecessors"] = all(
        mean(loss["with predecessors"]) < mean(loss["alone"]) for loss in losses
    )
    return statements


def table(scores: Scores) -> list[tuple[str, ...]]:
    """Rows (arm, steps, then mean and spread of each measure)."""
    return [
        (arm, steps, *(_cell(_values(scores, arm, steps, measure)) for measure in MEASURES))
        for steps in _steps(scores)
        for arm in ARMS
    ]


def write_report(folder: Path, scores: Scores, recipe: dict[str, Any], machine: dict[str, Any]) -> Path:
    """Write arflow.json, arflow.md and arflow_loss.png into `folder`; returns the page."""
    statements = verdicts(scores)
    content = {"recipe": recipe, "machine": machine, "seeds": scores, "verdicts": statements}
    write_json(folder / "arflow.json", content)
    curves = {
        name: [mean(scores[seed]["loss"][name][i] for seed in scores) for i in range(len(TIMES))]
        for name in ("with predecessors", "alone")
    }
    viz.line_plot(
        folder / "arflow_loss.png",
        TIMES,
        curves,
        title="Squared error of the velocity of the last image",
        xlabel="t (0 is noise, 1 is data)",
        ylabel="mean squared error",
    )
    page = folder / "arflow.md"
    with atomic_write(page, "w") as file:
        file.write(_page(scores, statements, recipe, machine))
    return page


def _page(scores: Scores, statements: dict[str, bool], recipe: dict[str, Any], machine: dict[str, Any]) -> str:
    lines = [
        "# Claim: ARFlow on digits",
        "",
        f"Mean over {len(scores)} seeds, in brackets the lowest and the highest. No guidance; "
        f"feature network `{recipe['features']}`. Parameters, images of an update, updates and calls are equal.",
        "",
        f"| arm | steps | {' | '.join(MEASURES.values())} |",
        "|---|---|---|---|---|",
        *(f"| {ARMS[arm]} | {' | '.join(cells)} |" for arm, *cells in table(scores)),
        "",
        "## Verdicts",
        "",
        "A difference counts where the worst seed of one arm is better than the best of the other.",
        "",
        *(f"- {text}: **{'holds' if holds else 'does not hold here'}**" for text, holds in statements.items()),
        "",
        "![loss with and without predecessors](arflow_loss.png)",
        "",
        "## Recipe",
        "",
        *(f"- {key}: `{value}`" for key, value in recipe.items()),
        *(f"- {key}: {value}" for key, value in machine.items()),
        "",
    ]
    return "\n".join(lines)


def _steps(scores: Scores) -> list[str]:
    return list(next(iter(scores.values()))["carried"])


def _values(scores: Scores, arm: str, steps: str, measure: str) -> list[float]:
    return [scores[seed][arm][steps][measure] for seed in scores]


def _cell(values: list[float]) -> str:
    return f"{mean(values):.3g} [{min(values):.3g}, {max(values):.3g}]"
