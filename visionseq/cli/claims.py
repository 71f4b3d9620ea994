"""`visionseq claims`: a room's headline claim at the size of this machine."""

from dataclasses import asdict
from pathlib import Path
from typing import Literal


def claims(
    room: Literal["rectified_flow"] = "rectified_flow",
    data: Literal["digits", "fashion_mnist"] = "digits",
    out: Path = Path("docs/claims"),
    work: Path = Path("runs/claims"),
    seeds: list[int] | None = None,
) -> None:
    """Run the paper's claim, compare the rows of its ablation, and write verdicts, plots, JSON and a page.

    An interrupted run goes on where it stopped.

    Args:
        room: Whose claim to run.
        data: Data set of the experiment; digits takes about half an hour on two cores.
        out: Folder of the JSON, the page and the plots.
        work: Folder of models and pairs, kept between calls.
        seeds: Seeds to run; default: those of the experiment.

    Examples:
        visionseq claims rectified_flow
        visionseq claims rectified_flow --data fashion_mnist --out docs/claims
    """
    from visionseq.benchmarks.harness import machine
    from visionseq.claims.experiment import DIGITS, FASHION, run_seed
    from visionseq.claims.report import average, table, verdicts, write_report

    experiment = {"digits": DIGITS, "fashion_mnist": FASHION}[data]
    scores = {}
    for seed in seeds or experiment.seeds:
        print(f"{room} on {data}, seed {seed}: {work / room / data / f'seed{seed}'}")
        scores[seed] = run_seed(experiment, seed, work / room / data / f"seed{seed}")
    name = room if data == "digits" else f"{room}_{data}"
    recipe = {key: value for key, value in asdict(experiment).items() if key not in ("seeds", "score_batch")}
    page = write_report(out, name, scores, recipe, machine())
    mean = average(list(scores.values()))
    for row in table(mean):
        print("  ".join(f"{cell:>14}" for cell in row))
    for text, holds in verdicts(mean).items():
        print(f"{'holds' if holds else 'does not hold'}: {text}")
    print(page)
