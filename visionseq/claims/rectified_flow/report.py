"""What the runs of a claim say: means over seeds, a verdict per statement, plots, JSON and a page."""

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from visionseq import viz
from visionseq.claims.rectified_flow.factors import Table
from visionseq.files import atomic_write, write_json

Scores = dict[str, dict[str, Any]]  # row -> what `experiment.Measure` returned, averaged over seeds


def _statements() -> dict[str, tuple[str, Callable[[Scores], bool]]]:
    """Statement -> the rows that it is about ("T" is the teacher) and its test; each step count is judged alone."""
    statements: dict[str, tuple[str, Callable[[Scores], bool]]] = {}
    for steps, when in ((1, "1 step"), (2, "2 steps")):
        statements[f"one reflow makes {when} usable: F at least five times below the teacher used directly"] = (
            "TF",
            partial(_is_usable, steps=steps),
        )
        for rows in ("ABC", "AC", "DE", "EF", "CF"):
            text = " > ".join(rows) if len(rows) > 2 else f"{rows[1]} better than {rows[0]}"
            statements[f"{text} at {when}"] = (rows, partial(_ordered, rows=rows, steps=steps))
    statements["D no better than C at 1 step"] = ("CD", lambda s: _at(s, "D", 1) >= _at(s, "C", 1))
    return statements


def _is_usable(scores: Scores, steps: int) -> bool:
    return 5 * _at(scores, "F", steps) <= _at(scores, "teacher", steps)


def average(seeds: list[Scores]) -> Scores:
    """Means of every number over the seeds, row by row."""
    return {row: _mean([scores[row] for scores in seeds]) for row in seeds[0]}


def verdicts(scores: Scores) -> dict[str, bool]:
    """Which statements hold, of those whose rows were run."""
    known = {"T" if row == "teacher" else row for row in scores}
    return {text: test(scores) for text, (rows, test) in _statements().items() if known.issuperset(rows)}


def write_report(
    folder: Path,
    name: str,
    seeds: dict[int, Scores],
    recipe: dict[str, Any],
    machine: dict[str, Any],
    factors: Table | None = None,
) -> Path:
    """Write NAME.json, NAME.md and two plots into `folder`; returns the page."""
    scores = average(list(seeds.values()))
    statements = verdicts(scores)
    content = {"recipe": recipe, "machine": machine, "seeds": seeds, "mean": scores, "verdicts": statements}
    content |= {"factors": factors} if factors else {}
    write_json(folder / f"{name}.json", content)
    _plots(folder, name, scores)
    page = folder / f"{name}.md"
    with atomic_write(page, "w") as file:
        file.write(_page(name, seeds, scores, statements, recipe, machine, factors))
    return page


def table(scores: Scores) -> list[tuple[str, ...]]:
    """Rows (name, 1 step, 2 steps, 5 steps, teacher's own sampler)."""
    rows = []
    for row, values in scores.items():
        cells = [f"{values['distance'][steps]:.1f}" for steps in values["distance"]]
        heun = f"{values['heun']:.1f}" if "heun" in values else ""
        rows.append((f"{row} (no reflow)" if row == "teacher" else row, *cells, heun))
    return rows


def _page(
    name: str,
    seeds: dict[int, Scores],
    scores: Scores,
    statements: dict[str, bool],
    recipe: dict[str, Any],
    machine: dict[str, Any],
    factors: Table | None,
) -> str:
    lines = [
        f"# Claim: improved rectified flows on {recipe.get('name', name)}",
        "",
        "Fréchet distance to the real images (lower is better), mean over "
        f"{len(seeds)} seed{'s' if len(seeds) > 1 else ''}, {recipe['num_samples']} samples, "
        f"feature network `{recipe['features']}`. The scale is that of this network: read the order, not the size.",
        "",
        f"| row | 1 step | 2 steps | 5 steps | Heun, {2 * recipe['pair_steps'] - 1} evaluations |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in table(scores)),
        "",
        "## Verdicts",
        "",
        *(f"- {text}: **{'holds' if holds else 'does not hold here'}**" for text, holds in statements.items()),
        "",
        *_pairs(scores["teacher"]["pairs"]),
        *(_factors(factors) if factors else ()),
        f"![straightness]({name}_straightness.png)",
        "",
        f"![loss against t]({name}_loss.png)",
        "",
        "## Recipe",
        "",
        *(f"- {key}: `{value}`" for key, value in recipe.items()),
        *(f"- {key}: {value}" for key, value in machine.items()),
        "",
    ]
    return "\n".join(lines)


def _pairs(pairs: dict[str, float]) -> list[str]:
    images, distinct, copies = pairs["images"], pairs["distinct"], pairs["copies"]
    return [
        "## Pairs",
        "",
        f"Of the teacher's {images:,.0f} images {distinct:,.0f} are different. {copies:.2%} are copies: three times "
        "nearer to one real image than to any other.",
        "",
    ]


def _factors(factors: Table) -> list[str]:
    """The table of what is small, what that costs, and the gain that is left."""
    lines = [
        "## Where the gain comes from",
        "",
        "One seed, row E; each line has one thing small, the last all three. The gain is the one-step distance of the "
        "teacher used directly, divided by that of the student.",
        "",
        "| small | width x blocks | pairs | updates | teacher, 1 step | student, 1 step | 2 steps | 5 steps | gain |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for small, run in factors.items():
        teacher, student = run["teacher"]["1"], [run["student"][steps] for steps in ("1", "2", "5")]
        size = f"{run['network']['hidden']} x {run['network']['num_blocks']}"
        distances = " | ".join(f"{distance:.1f}" for distance in (teacher, *student))
        gain = f"{teacher / student[0]:.1f}"
        lines.append(f"| {small} | {size} | {run['pairs']:,} | {run['updates']:,} | {distances} | {gain} |")
    return [*lines, ""]


def _plots(folder: Path, name: str, scores: Scores) -> None:
    viz.bar_plot(
        folder / f"{name}_straightness.png",
        {row: values["straightness"] for row, values in scores.items()},
        title="Straightness of 32-step trajectories (0 is a straight line)",
        ylabel="mean squared deviation",
    )
    curves = {row: values["loss_against_t"] for row, values in scores.items() if "loss_against_t" in values}
    bins = len(next(iter(curves.values())))
    viz.line_plot(
        folder / f"{name}_loss.png",
        [(i + 0.5) / bins for i in range(bins)],
        curves,
        title="Squared error of the velocity against t",
        xlabel="t (0 is data, 1 is noise)",
        ylabel="mean squared error",
        log_y=True,
    )


def _at(scores: Scores, row: str, steps: int) -> float:
    return scores[row]["distance"][str(steps)]


def _ordered(scores: Scores, rows: str, steps: int) -> bool:
    """Each row's distance is above that of the next."""
    distances = [_at(scores, row, steps) for row in rows]
    return all(worse > better for worse, better in itertools.pairwise(distances))


def _mean(values: list[Any]) -> Any:
    if isinstance(values[0], dict):
        return {key: _mean([value[key] for value in values]) for key in values[0]}
    if isinstance(values[0], list):
        return [mean(column) for column in zip(*values, strict=True)]
    return mean(values)
