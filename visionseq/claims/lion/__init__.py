"""The claims of LION: long groups see far, a descriptor restores locality, generation fills objects; and detection."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from visionseq.claims import Outcome

DATA = ("lidar_world",)


def run(data: str, out: Path, work: Path, seeds: Sequence[int] | None, progress: Callable[[str], None]) -> Outcome:
    """Measure the three mechanisms and the evaluation's answer to noise; nothing is kept in `work`."""
    from visionseq.benchmarks.harness import machine
    from visionseq.claims.lion.experiments import Recipe
    from visionseq.claims.lion.report import evaluation_of_noise, run_seed, write_report

    recipe = Recipe()
    figures = {seed: run_seed(recipe, seed, progress) for seed in seeds or recipe.seeds}
    verdicts, page = write_report(out, figures, evaluation_of_noise(), asdict(recipe), machine())
    return Outcome(verdicts, page, [])
