"""What the runs of the claim say: means over seeds, a verdict for each statement, JSON and a page."""

from pathlib import Path
from statistics import mean
from typing import Any

from visionseq import viz
from visionseq.files import atomic_write, write_json

Scores = dict[str, dict[str, float]]  # row -> the figures of `experiment.Measure`
COLUMNS = ("ode", "sde", "accuracy", "guided accuracy")


def average(seeds: list[Scores]) -> Scores:
    """Means of every figure over the seeds."""
    return {row: {name: mean(scores[row][name] for scores in seeds) for name in seeds[0][row]} for row in seeds[0]}


def verdicts(scores: Scores) -> dict[str, bool]:
    """Statement -> whether it holds; the steps from a diffusion model to SiT, and what its samplers add."""
    noise, vp = scores["noise, VP"], scores["velocity, VP"]
    linear, gvp = scores["velocity, Linear"], scores["velocity, GVP"]
    return {
        "VP: the velocity is better than the noise by the ODE": vp["ode"] < noise["ode"],
        "velocity: the Linear path is better than VP by the ODE": linear["ode"] < vp["ode"],
        "velocity: the GVP path is better than VP by the ODE": gvp["ode"] < vp["ode"],
        "Linear: the SDE is better than the ODE with equal evaluations": linear["sde"] < linear["ode"],
        "GVP: the SDE is better than the ODE with equal evaluations": gvp["sde"] < gvp["ode"],
        "every row: guidance makes more classes right": all(
            row["guided accuracy"] > row["accuracy"] for row in scores.values()
        ),
    }


def table(scores: Scores) -> list[tuple[str, ...]]:
    """Rows (name, distance by ODE, by SDE, accuracy, accuracy with guidance)."""
    return [
        (row, *(f"{figures[name]:.1%}" if "accuracy" in name else f"{figures[name]:.2f}" for name in COLUMNS))
        for row, figures in scores.items()
    ]


def write_report(
    folder: Path, name: str, seeds: dict[int, Scores], recipe: dict[str, Any], machine: dict[str, Any]
) -> Path:
    """Write NAME.json, NAME.md and a plot into `folder`; returns the page."""
    scores = average(list(seeds.values()))
    statements = verdicts(scores)
    content = {"recipe": recipe, "machine": machine, "seeds": seeds, "mean": scores, "verdicts": statements}
    write_json(folder / f"{name}.json", content)
    viz.bar_plot(
        folder / f"{name}_distance.png",
        {
            f"{row}, {sampler.upper()}": figures[sampler]
            for row, figures in scores.items()
            for sampler in ("ode", "sde")
        },
        title=f"Frechet distance, {recipe['evaluations']} evaluations",
        ylabel="lower is better",
    )
    page = folder / f"{name}.md"
    with atomic_write(page, "w") as file:
        file.write(_page(name, seeds, scores, statements, recipe, machine))
    return page


def _page(
    name: str,
    seeds: dict[int, Scores],
    scores: Scores,
    statements: dict[str, bool],
    recipe: dict[str, Any],
    machine: dict[str, Any],
) -> str:
    lines = [
        "# Claim: SiT on digits",
        "",
        f"Fréchet distance of {recipe['num_samples']} samples to the real digits (lower is better) by Heun's ODE "
        f"solver and by Euler-Maruyama, {recipe['evaluations']} evaluations each, and the share of samples that "
        f"the classifier `{recipe['features']}` puts into the class they were drawn for, without and with guidance; "
        f"mean over {len(seeds)} seed{'s' if len(seeds) > 1 else ''}. Compare within this page only.",
        "",
        "| prediction, path | ODE | SDE | right classes | with guidance |",
        "|---|---|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in table(scores)),
        "",
        "## Verdicts",
        "",
        *(f"- {text}: **{'holds' if holds else 'does not hold here'}**" for text, holds in statements.items()),
        "",
        "## Each seed",
        "",
        *(
            f"- seed {seed}, {row}: ODE {f['ode']:.2f}, SDE {f['sde']:.2f}"
            for seed, s in seeds.items()
            for row, f in s.items()
        ),
        "",
        f"![distances]({name}_distance.png)",
        "",
        "## Recipe",
        "",
        *(f"- {key}: `{value}`" for key, value in recipe.items()),
        *(f"- {key}: {value}" for key, value in machine.items()),
        "",
    ]
    return "\n".join(lines)
