"""The report on the guidance of an exact model: means and spread over seeds, verdicts, a plot, JSON and a page."""

from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

from visionseq import viz
from visionseq.claims.raag.experiment import RATIO_AWARE, SCALES, Scores
from visionseq.files import atomic_write, write_json

ACCURATE = 0.98  # rules below this share of the wanted class are not compared by their distance
FEW, MANY = 10, 30

INTRODUCTION = """\
Ten Gaussians in 64 dimensions stand for the digits, so velocities are exact. The conditional model is imperfect: it
believes in the wanted class by {belief:g} and in all ten by {rest:.2f} each. {num_samples} samples by Euler's steps. A
cell holds the share of samples of the wanted class / the mean Fréchet distance to that class, means over {seeds} seeds
of the noise, for the distance with the range. `RAAG (w, a)` has the largest scale w and alpha a. Seven settings of each
rule are tried; a best one is the one of the smallest distance with a share of at least {accurate:g}."""


def average(seeds: Mapping[int, Mapping[int, Scores]]) -> dict[int, Scores]:
    """Means over the seeds of every number, and of the lists of ratios."""
    runs = list(seeds.values())
    return {
        steps: {rule: _mean([run[steps][rule] for run in runs]) for rule in rules} for steps, rules in runs[0].items()
    }


def verdicts(scores: Mapping[int, Scores], data_norm: float) -> dict[str, bool]:
    """Which statements hold, by the means over the seeds; `data_norm` is the mean norm of the data."""
    few, ratios = scores[FEW], scores[FEW][_ratio_aware(18.0, 12.0)]["ratio"]
    best_cfg = best(scores[MANY], [f"CFG {scale:g}" for scale in SCALES])
    best_raag = best(few, [_ratio_aware(*pair) for pair in RATIO_AWARE])
    perfect = few["perfect model, no guidance"]
    return {
        "the ratio is largest in the first step": max(ratios) == ratios[0],
        "the ratio is below 0.02 at the end": ratios[-1] < 0.02,
        "a fixed scale of 7 overshoots: samples are a fifth longer than data": few["CFG 7"]["norm"] > 1.2 * data_norm,
        f"the best RAAG in {FEW} steps has a smaller distance than the best fixed scale in {MANY}": (
            few[best_raag]["distance"] < scores[MANY][best_cfg]["distance"]
        ),
        "the constants of SD3.5 (18, 12) guide too little here: a share below 0.9": (
            few[_ratio_aware(18.0, 12.0)]["accuracy"] < 0.9
        ),
        f"a perfect model without guidance is better than the best RAAG in {FEW} steps": (
            perfect["distance"] < few[best_raag]["distance"]
        ),
    }


def best(scores: Scores, rules: list[str]) -> str:
    """The rule of the smallest distance among those that are accurate; among all where none is."""
    accurate = [rule for rule in rules if scores[rule]["accuracy"] >= ACCURATE]
    return min(accurate or rules, key=lambda rule: scores[rule]["distance"])


def table(seeds: Mapping[int, Mapping[int, Scores]]) -> list[tuple[str, ...]]:
    """Rows (rule, a cell for each number of steps)."""
    means, rows = average(seeds), []
    for rule in next(iter(means.values())):
        cells = []
        for steps, scores in means.items():
            distances = [run[steps][rule]["distance"] for run in seeds.values()]
            low, high = min(distances), max(distances)
            cell = f"{scores[rule]['accuracy']:.3f} / {scores[rule]['distance']:.2f} ({low:.2f}-{high:.2f})"
            cells.append(cell)
        rows.append((rule, *cells))
    return rows


def write_report(
    folder: Path,
    seeds: Mapping[int, Mapping[int, Scores]],
    data_norm: float,
    recipe: Mapping[str, Any],
    machine: Mapping[str, Any],
) -> Path:
    """Write raag.json, raag.md and a plot into `folder`; returns the page."""
    means = average(seeds)
    statements = verdicts(means, data_norm)
    content = {"recipe": recipe, "machine": machine, "data_norm": data_norm, "seeds": seeds, "mean": means}
    write_json(folder / "raag.json", {**content, "verdicts": statements})

    ratios = means[FEW][_ratio_aware(18.0, 12.0)]["ratio"]
    viz.line_plot(
        folder / "raag_ratio.png",
        list(range(1, len(ratios) + 1)),
        {"mean ratio": ratios},
        title=f"Size of the guidance, {FEW} steps",
        xlabel="step",
        ylabel="|v_c - v_u| / |v_u|",
    )
    with atomic_write(folder / "raag.md", "w") as file:
        file.write(_page(seeds, means, data_norm, statements, recipe, machine))
    return folder / "raag.md"


def _page(
    seeds: Mapping[int, Mapping[int, Scores]],
    means: Mapping[int, Scores],
    data_norm: float,
    statements: Mapping[str, bool],
    recipe: Mapping[str, Any],
    machine: Mapping[str, Any],
) -> str:
    introduction = INTRODUCTION.format(
        belief=recipe["belief"],
        rest=(1 - recipe["belief"]) / 10,
        num_samples=recipe["num_samples"],
        seeds=len(seeds),
        accurate=ACCURATE,
    )
    bests = [
        f"- {steps} steps: best fixed scale {best(scores, [f'CFG {scale:g}' for scale in SCALES])}, "
        f"best {best(scores, [_ratio_aware(*pair) for pair in RATIO_AWARE])}"
        for steps, scores in means.items()
    ]
    lines = [
        "# Claim: ratio-aware guidance needs fewer steps",
        "",
        introduction,
        "",
        "| rule | " + " | ".join(f"{steps} steps" for steps in means) + " |",
        "|" + "---|" * (1 + len(means)),
        *(f"| {' | '.join(row)} |" for row in table(seeds)),
        "",
        *bests,
        f"- mean norm: data {data_norm:.2f}, samples with scale 7 in {FEW} steps {means[FEW]['CFG 7']['norm']:.2f}",
        "",
        "![the ratio in each step](raag_ratio.png)",
        "",
        "## Verdicts",
        "",
        *(f"- {text}: **{'holds' if holds else 'does not hold here'}**" for text, holds in statements.items()),
        "",
        "The constants of large models do not carry over: alpha has to match the size of the ratio, about 1 / rho in",
        "the middle of a trajectory.",
        "",
        "## Recipe",
        "",
        *(f"- {key}: `{value}`" for key, value in recipe.items()),
        *(f"- {key}: {value}" for key, value in machine.items()),
        "",
    ]
    return "\n".join(lines)


def _mean(scores: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        key: [mean(step) for step in zip(*(s[key] for s in scores), strict=True)]
        if isinstance(value, list)
        else mean(s[key] for s in scores)
        for key, value in scores[0].items()
    }


def _ratio_aware(largest: float, alpha: float) -> str:
    return f"RAAG ({largest:g}, {alpha:g})"
