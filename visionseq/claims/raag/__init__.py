"""The claim of RAAG: guidance whose scale falls with its own size needs fewer steps; on an exact model of digits."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from visionseq.claims import Outcome

DATA = ("digits",)


def run(data: str, out: Path, work: Path, seeds: Sequence[int] | None, progress: Callable[[str], None]) -> Outcome:
    """Sample the exact model under every rule, for each seed of the noise; nothing is kept in `work`."""
    from visionseq.benchmarks.harness import machine
    from visionseq.claims.raag.experiment import Recipe, digit_mixture, run_seed
    from visionseq.claims.raag.report import average, table, verdicts, write_report

    recipe = Recipe()
    scores = {seed: run_seed(recipe, seed, progress) for seed in seeds or recipe.seeds}
    means, norm = average(scores), digit_mixture(recipe)[1]
    page = write_report(out, scores, norm, asdict(recipe), machine())
    return Outcome(verdicts(means, norm), page, table(scores))
