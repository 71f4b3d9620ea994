"""Where the gain of one reflow comes from: the student of row E with a small network, few pairs or few updates."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from visionseq.claims.rectified_flow.experiment import Experiment, run_seed

ROW = "E"
SMALL: dict[str, dict[str, Any]] = {
    "network": {"hidden": 256, "num_blocks": 3},
    "pairs": {"num_pairs": 30_000},
    "updates": {"student_steps": 6000},
}
Table = dict[str, dict[str, Any]]  # what is small -> the settings and the scores of its run


def run_factors(
    experiment: Experiment, seed: int, folder: Path, small: Mapping[str, Mapping[str, Any]] = SMALL
) -> Table:
    """Train and score the student of row E at full size, with each factor small alone, and with all of them small.

    Args:
        experiment: the full size, whose run of this seed is finished in `folder`.
        seed: of the run.
        folder: where that run is; those of the factors get folders in it.
        small: the settings of each factor where it is small.
    """
    full = replace(experiment, rows=(ROW,))
    runs = {"nothing": (full, folder)}
    for names in (*((name,) for name in small), tuple(small)):
        runs[", ".join(names)] = made_small(full, *names, small=small), folder / "-".join(("small", *names))
    table = {}
    for name, (variant, place) in runs.items():
        # A run of the same network shares teacher and pairs with the full size.
        scores = run_seed(variant, seed, place, source=folder if variant.network == full.network else None)
        settings = {"network": variant.network, "pairs": variant.num_pairs, "updates": variant.student_steps}
        table[name] = {**settings, "teacher": scores["teacher"]["distance"], "student": scores[ROW]["distance"]}
    return table


def made_small(experiment: Experiment, *names: str, small: Mapping[str, Mapping[str, Any]] = SMALL) -> Experiment:
    """The experiment with the factors of these names at their small values."""
    for name in names:
        changes = dict(small[name])
        if name == "network":
            changes = {"network": {**experiment.network, **changes}}
        experiment = replace(experiment, **changes)
    return experiment
