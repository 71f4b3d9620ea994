"""The claim of SiT (arXiv 2401.08740): path, prediction and sampler, one change at a time, on digits."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from visionseq.claims import Outcome

DATA = ("digits",)


def run(data: str, out: Path, work: Path, seeds: Sequence[int] | None, progress: Callable[[str], None]) -> Outcome:
    """Train and score every row; models stay in `work`, where a later call finds them."""
    from visionseq.benchmarks.harness import machine
    from visionseq.claims.sit.experiment import Experiment, run_seed
    from visionseq.claims.sit.report import average, table, verdicts, write_report

    experiment = Experiment()
    scores = {}
    for seed in seeds or experiment.seeds:
        folder = work / "sit" / data / f"seed{seed}"
        progress(f"sit on {data}, seed {seed}: {folder}")
        scores[seed] = run_seed(experiment, seed, folder)
    recipe = {key: value for key, value in asdict(experiment).items() if key != "seeds"}
    page = write_report(out, "sit", scores, recipe, machine())
    means = average(list(scores.values()))
    return Outcome(verdicts(means), page, table(means))
