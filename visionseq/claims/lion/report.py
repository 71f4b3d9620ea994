"""The report on LION's runs: means over the seeds, a verdict per statement, JSON and a page."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from visionseq.claims.lion.experiments import Recipe, beacon_accuracy, counting_r2, interiors
from visionseq.data.lidar_world import LidarSensor, LidarWorld
from visionseq.files import atomic_write, write_json
from visionseq.metrics import KittiAP
from visionseq.metrics.detection.kitti import camera_annotations

NOISE = (0.0, 0.1, 0.2, 0.4)  # metres
FRAMES = 60
Figures = dict[str, Any]

INTRODUCTION = """\
Three mechanisms of LION on procedural voxels, means over {seeds} seeds. They show the effect of a mechanism, not the
quality of a detector; the zoo has one that was trained on the lidar world (`lion-mamba-lidarworld`), with figures."""

STATEMENTS: dict[str, Callable[[Figures], bool]] = {
    "longer groups see farther: accuracy rises with the group": lambda f: _rises(list(f["beacon"].values())),
    "groups as long as the scene carry the beacon everywhere (> 0.98)": lambda f: list(f["beacon"].values())[-1] > 0.98,
    "groups of 8 are near chance (< 0.45; chance is 0.25)": lambda f: next(iter(f["beacon"].values())) < 0.45,
    "with the descriptor voxels count their neighbours (R2 > 0.95)": lambda f: f["counting"]["descriptor"] > 0.95,
    "without it they do not (R2 < 0.3)": lambda f: f["counting"]["identity"] < 0.3,
    "generation fills the middle of cars (> 0.95)": lambda f: f["interiors"]["with"]["Car"] > 0.95,
    "without it most cars are hollow (< 0.5)": lambda f: f["interiors"]["without"]["Car"] < 0.5,
    "generation costs more than twice the cells": lambda f: (
        f["interiors"]["with"]["cells"] > 2 * f["interiors"]["without"]["cells"]
    ),
    "the truth as detections gives 100.0": lambda f: all(v > 99.999 for v in f["noise"]["0.0"].values()),
    "noise on the boxes lowers AP monotonically": lambda f: all(
        _falls([f["noise"][str(n)][name] for n in NOISE]) for name in f["noise"]["0.0"]
    ),
}


def run_seed(recipe: Recipe, seed: int, progress: Callable[[str], None]) -> Figures:
    """The three experiments."""
    figures: Figures = {"beacon": {}, "counting": {}, "interiors": {}}
    for group in recipe.groups:
        figures["beacon"][str(group)] = beacon_accuracy(group, recipe, seed)
        progress(f"seed {seed}, beacon, groups of {group}: {figures['beacon'][str(group)]:.3f}")
    for name, descriptor in (("descriptor", True), ("identity", False)):
        figures["counting"][name] = counting_r2(descriptor, recipe, seed)
        progress(f"seed {seed}, counting, {name}: {figures['counting'][name]:.3f}")
    for name, diffusion in (("with", True), ("without", False)):
        figures["interiors"][name] = interiors(diffusion, recipe, seed)
        progress(f"seed {seed}, interiors, {name} generation: {figures['interiors'][name]}")
    return figures


def evaluation_of_noise(seed: int = 0) -> dict[str, dict[str, float]]:
    """3D AP (R40, strict) of the lidar world's own boxes with noise on their centres, by class."""
    world = LidarWorld(FRAMES, seed, LidarSensor(beams=32, columns=512))
    precision: dict[str, dict[str, float]] = {}
    for noise in NOISE:
        metric, random = KittiAP(world.class_names), np.random.default_rng(seed)
        for index in range(FRAMES):
            frame = world.labels(index)
            assert frame.boxes is not None  # the simulated world labels every frame
            assert frame.names is not None
            moved = frame.boxes.astype(np.float64)
            moved[:, :3] += random.normal(0, 1, (len(moved), 3)) * noise
            scores = random.random(len(moved))
            prediction = camera_annotations(moved, frame.names, scores)
            metric.update([prediction], [camera_annotations(frame.boxes, frame.names)])
        figures = metric.compute()
        precision[str(noise)] = {name: figures[f"{name}_3d/easy_R40"].item() for name in world.class_names}
    return precision


def average(values: list[Any]) -> Any:
    """Means over equal trees."""
    if isinstance(values[0], Mapping):
        return {name: average([value[name] for value in values]) for name in values[0]}
    return mean(values)


def verdicts(figures: Figures) -> dict[str, bool]:
    """Which statements hold."""
    return {text: bool(test(figures)) for text, test in STATEMENTS.items()}


def write_report(
    folder: Path, seeds: Mapping[int, Figures], noise: Any, recipe: Mapping[str, Any], machine: Mapping[str, Any]
) -> tuple[dict[str, bool], Path]:
    """Write lion.json and lion.md into `folder`; the verdicts and the page."""
    means = {**average(list(seeds.values())), "noise": noise}
    statements = verdicts(means)

    # The figures and verdicts as JSON.
    content = {"recipe": recipe, "machine": machine, "seeds": seeds, "mean": means, "verdicts": statements}
    write_json(folder / "lion.json", content)

    # The same as a page: a table for each mechanism, the verdicts, the recipe.
    occupancy = means["interiors"]
    lines = [
        "# Claim: what LION's mechanisms do",
        "",
        INTRODUCTION.format(seeds=len(seeds)),
        "",
        "| length of a group | accuracy of all voxels (chance 0.25) |",
        "|---|---|",
        *(f"| {group} | {value:.3f} |" for group, value in means["beacon"].items()),
        "",
        "| counting occupied neighbours | R2 |",
        "|---|---|",
        *(f"| {name} | {value:.3f} |" for name, value in means["counting"].items()),
        "",
        "The identity has fewer parameters than the descriptor; a network of each voxel by itself could not help it.",
        "",
        "| centre occupied | " + " | ".join(occupancy["with"]) + " |",
        "|" + "---|" * (1 + len(occupancy["with"])),
        *(f"| {name} generation | {' | '.join(f'{v:.2f}' for v in row.values())} |" for name, row in occupancy.items()),
        "",
        "| noise on centres, m | " + " | ".join(noise["0.0"]) + " (3D AP, R40) |",
        "|" + "---|" * (1 + len(noise["0.0"])),
        *(f"| {level} | {' | '.join(f'{v:.1f}' for v in row.values())} |" for level, row in noise.items()),
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
    with atomic_write(folder / "lion.md", "w") as file:
        file.write("\n".join(lines))
    return statements, folder / "lion.md"


def _rises(values: list[float]) -> bool:
    return all(b >= a - 0.01 for a, b in pairwise(values)) and values[-1] > values[0]


def _falls(values: list[float]) -> bool:
    return all(b < a for a, b in pairwise(values))
