"""The claim of improved rectified flows: the ablation of arXiv 2405.20320 on digits and Fashion-MNIST."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from visionseq.claims import Outcome

DATA = ("digits", "fashion_mnist")


def run(data: str, out: Path, work: Path, seeds: Sequence[int] | None, progress: Callable[[str], None]) -> Outcome:
    """Train, sample and score every row; models and pairs stay in `work`, where a later call finds them."""
    from visionseq.benchmarks.harness import machine
    from visionseq.claims.rectified_flow.experiment import DIGITS, FASHION, run_seed
    from visionseq.claims.rectified_flow.factors import run_factors
    from visionseq.claims.rectified_flow.report import average, table, verdicts, write_report

    experiment = {"digits": DIGITS, "fashion_mnist": FASHION}[data]
    folders = {seed: work / "rectified_flow" / data / f"seed{seed}" for seed in seeds or experiment.seeds}
    scores = {}
    for seed, folder in folders.items():
        progress(f"rectified_flow on {data}, seed {seed}: {folder}")
        scores[seed] = run_seed(experiment, seed, folder)
    factors = None
    if experiment is DIGITS:
        seed, folder = next(iter(folders.items()))
        progress(f"rectified_flow on {data}, seed {seed}, factors: {folder}")
        factors = run_factors(experiment, seed, folder)
    name = "rectified_flow" if data == "digits" else f"rectified_flow_{data}"
    recipe = {key: value for key, value in asdict(experiment).items() if key not in ("seeds", "score_batch")}
    page = write_report(out, name, scores, recipe, machine(), factors)
    means = average(list(scores.values()))
    return Outcome(verdicts(means), page, table(means))
