"""The claim of ARFlow (arXiv 2501.16085) on digits: a flow that sees the images before it draws better ones."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from visionseq.claims import Outcome

DATA = ("digits",)


def run(data: str, out: Path, work: Path, seeds: Sequence[int] | None, progress: Callable[[str], None]) -> Outcome:
    """Train both networks of each seed, draw with three arms and score; models stay in `work`."""
    from visionseq.benchmarks.harness import machine
    from visionseq.claims.arflow.experiment import Experiment, run_seed
    from visionseq.claims.arflow.report import table, verdicts, write_report

    experiment, scores = Experiment(), {}
    for seed in seeds or experiment.seeds:
        folder = work / "arflow" / data / f"seed{seed}"
        progress(f"arflow on {data}, seed {seed}: {folder}")
        scores[seed] = run_seed(experiment, seed, folder)
    page = write_report(out, scores, asdict(experiment), machine())
    return Outcome(verdicts(scores), page, table(scores))
