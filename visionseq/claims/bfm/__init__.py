"""The claim of Blockwise Flow Matching on digits: segments, aligned features, approximated features (2510.21167)."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from visionseq.claims import Outcome

DATA = ("digits",)


def run(data: str, out: Path, work: Path, seeds: Sequence[int] | None, progress: Callable[[str], None]) -> Outcome:
    """Train, sample and score every row; models stay in `work`, where a later call finds them."""
    from visionseq.benchmarks.harness import machine
    from visionseq.claims.bfm.experiment import DIGITS, run_seed
    from visionseq.claims.bfm.report import average, table, verdicts, write_report

    scores = {}
    for seed in seeds or DIGITS.seeds:
        folder = work / "bfm" / data / f"seed{seed}"
        progress(f"bfm on {data}, seed {seed}: {folder}")
        scores[seed] = run_seed(DIGITS, seed, folder)
    recipe = {name: value for name, value in asdict(DIGITS).items() if name != "seeds"}
    page = write_report(out, scores, recipe, machine())
    means = average(list(scores.values()))
    return Outcome(verdicts(means), page, table(means))
