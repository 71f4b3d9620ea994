"""What the runs of the claim say: means over seeds, a verdict for each statement, JSON and a page."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

from visionseq.files import atomic_write, write_json

Scores = Mapping[str, Any]  # row -> what `experiment.measure` returned, averaged over seeds
APPROXIMATED_STEPS = ("8", "16")  # at 4 steps, one in a segment, nothing is approximated
INTRODUCTION = """Fréchet distance to the 1,797 digits in the features of a classifier (lower is better), and the share
of samples that it puts into the class that was asked for; mean over {seeds} seed(s), {samples} samples, Euler, no
guidance. MFLOP are of one image. SF: features aligned with another classifier. RA: approximated features. All rows have
label tables of one scale, {scale}, but for the last two, at scale 1: a change of that scale alone moves the figures, so
rows are to be compared within one scale. BFM has more parameters, since each segment has blocks of its own. These are
8x8 pixels; the figures say nothing of the paper's 2.1 to 4.9 times on ImageNet."""


def _statements() -> dict[str, Callable[[Scores], bool]]:
    statements: dict[str, Callable[[Scores], bool]] = {}
    for steps in APPROXIMATED_STEPS:
        text = f"(a) RA costs fewer FLOPs at no worse a distance, {steps} steps"
        statements[text] = partial(_approximation_pays, steps=steps)
    for steps in ("4", "8", "16"):
        text = f"(b) SF lowers the distance and raises the agreement at equal FLOPs, {steps} steps"
        statements[text] = partial(_guidance_helps, steps=steps)
        text = f"(c) BFM + SF is below the single stack at equal FLOPs, {steps} steps"
        statements[text] = partial(_below_the_stack, steps=steps, labels="")
        statements[f"{text}, label tables of scale 1"] = partial(_below_the_stack, steps=steps, labels=", other labels")
    statements["(d) the loss of the FRN falls below half of its first value"] = _residual_is_learnt
    return statements


def average(values: list[Any]) -> Any:
    """Means over equal trees."""
    if isinstance(values[0], Mapping):
        return {name: average([value[name] for value in values]) for name in values[0]}
    return mean(values)


def verdicts(scores: Scores) -> dict[str, bool]:
    """Which statements hold."""
    return {text: test(scores) for text, test in _statements().items()}


def table(scores: Scores) -> list[tuple[str, ...]]:
    """Rows (name, parameters, then MFLOP / distance / agreement for each number of steps)."""
    rows = []
    for name, figures in scores.items():
        if name != "FRN loss":
            cells = [_cell(values) for values in figures["steps"].values()]
            rows.append((name, f"{figures['parameters']:,.0f}", *cells))
        if "equal" in figures:
            rows.append((f"{name}, at the FLOPs of BFM", "", *map(_cell, figures["equal"].values())))
    return rows


def write_report(
    folder: Path, seeds: Mapping[int, Scores], recipe: Mapping[str, Any], machine: Mapping[str, Any]
) -> Path:
    """Write bfm.json and bfm.md into `folder`; returns the page."""
    scores = average(list(seeds.values()))
    statements = verdicts(scores)
    content = {"recipe": recipe, "machine": machine, "seeds": seeds, "mean": scores, "verdicts": statements}
    write_json(folder / "bfm.json", content)
    steps = [f"{number} steps: MFLOP / distance / agreement" for number in recipe["steps"]]
    losses = scores["FRN loss"]
    introduction = INTRODUCTION.format(seeds=len(seeds), samples=recipe["num_samples"], scale=recipe["label_scale"])
    lines = [
        "# Claim: Blockwise Flow Matching on digits",
        "",
        *introduction.splitlines(),
        "",
        f"| row | parameters | {' | '.join(steps)} |",
        "|---|---|" + "---|" * len(steps),
        *(f"| {' | '.join(row)} |" for row in table(scores)),
        "",
        f"Loss of the FRN: {losses['first']:.4f} before its training, {losses['last']:.4f} after it.",
        "",
        "## Verdicts",
        "",
        *(f"- {text}: **{'holds' if holds else 'does not hold here'}**" for text, holds in statements.items()),
        "",
        "## Recipe",
        "",
        *(f"- {key}: `{value}`" for key, value in recipe.items()),
        *(f"- {key}: {value}" for key, value in machine.items()),
        "",
    ]
    page = folder / "bfm.md"
    with atomic_write(page, "w") as file:
        file.write("\n".join(lines))
    return page


def _approximation_pays(scores: Scores, steps: str) -> bool:
    cheap, full = (scores[row]["steps"][steps] for row in ("BFM + SF + RA", "BFM + SF"))
    return cheap["flops"] < full["flops"] and cheap["distance"] <= full["distance"]


def _guidance_helps(scores: Scores, steps: str) -> bool:
    aligned, plain = (scores[row]["steps"][steps] for row in ("BFM + SF", "BFM"))
    return aligned["distance"] < plain["distance"] and aligned["agreement"] > plain["agreement"]


def _below_the_stack(scores: Scores, steps: str, labels: str) -> bool:
    aligned, stack = scores[f"BFM + SF{labels}"]["steps"][steps], scores[f"one stack{labels}"]["equal"][steps]
    return aligned["distance"] < stack["distance"]


def _residual_is_learnt(scores: Scores) -> bool:
    return scores["FRN loss"]["last"] < scores["FRN loss"]["first"] / 2


def _cell(values: Mapping[str, float]) -> str:
    return f"{values['flops'] / 1e6:.1f} / {values['distance']:.1f} / {values['agreement']:.2f}"
