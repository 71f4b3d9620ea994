"""The claim of the token mixers: which carry information from later to earlier tokens, and the time per token."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from visionseq.claims import Outcome

DATA = ("digits",)


def run(data: str, out: Path, work: Path, seeds: Sequence[int] | None, progress: Callable[[str], None]) -> Outcome:
    """Train every mixer under every read-out, and time the scans; nothing is kept in `work`."""
    from visionseq.benchmarks.harness import machine
    from visionseq.claims.mixers.experiment import Recipe, run_seed, time_per_token
    from visionseq.claims.mixers.report import average, table, verdicts, write_report

    recipe = Recipe()
    accuracies = {seed: run_seed(recipe, seed, progress) for seed in seeds or recipe.seeds}
    seconds = time_per_token()
    page = write_report(out, accuracies, seconds, asdict(recipe), machine())
    means = average(accuracies)
    return Outcome(verdicts(means, seconds), page, table(accuracies, means))
