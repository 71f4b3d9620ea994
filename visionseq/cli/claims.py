"""`visionseq claims`: a room's headline claim at the size of this machine."""

from dataclasses import asdict
from pathlib import Path
from typing import Literal


def claims(
    room: Literal["rectified_flow", "mixers", "lion"] = "rectified_flow",
    data: Literal["digits", "fashion_mnist"] = "digits",
    out: Path = Path("docs/claims"),
    work: Path = Path("runs/claims"),
    seeds: list[int] | None = None,
) -> None:
    """Run the paper's claim, compare the rows of its ablation, and write verdicts, plots, JSON and a page.

    An interrupted run of rectified_flow goes on where it stopped.

    Args:
        room: Whose claim to run; those of the mixers and of lion take some minutes, that of rectified_flow half an
            hour on two cores.
        data: Data set of the experiment.
        out: Folder of the JSON, the page and the plots.
        work: Folder of models and pairs, kept between calls.
        seeds: Seeds to run; default: those of the experiment.

    Examples:
        visionseq claims rectified_flow
        visionseq claims rectified_flow --data fashion_mnist --out docs/claims
        visionseq claims mixers
        visionseq claims lion
    """
    if room == "lion":
        found, page = _lion(out, seeds)
    else:
        found, page = _rectified_flow(data, out, work, seeds) if room == "rectified_flow" else _mixers(data, out, seeds)
    for text, holds in found.items():
        print(f"{'holds' if holds else 'does not hold'}: {text}")
    print(page)


def _rectified_flow(data: str, out: Path, work: Path, seeds: list[int] | None) -> tuple[dict[str, bool], Path]:
    from visionseq.benchmarks.harness import machine
    from visionseq.claims.rectified_flow.experiment import DIGITS, FASHION, run_seed
    from visionseq.claims.rectified_flow.report import average, table, verdicts, write_report

    experiment = {"digits": DIGITS, "fashion_mnist": FASHION}[data]
    scores = {}
    for seed in seeds or experiment.seeds:
        folder = work / "rectified_flow" / data / f"seed{seed}"
        print(f"rectified_flow on {data}, seed {seed}: {folder}")
        scores[seed] = run_seed(experiment, seed, folder)
    name = "rectified_flow" if data == "digits" else f"rectified_flow_{data}"
    recipe = {key: value for key, value in asdict(experiment).items() if key not in ("seeds", "score_batch")}
    page = write_report(out, name, scores, recipe, machine())
    mean = average(list(scores.values()))
    _show(table(mean))
    return verdicts(mean), page


def _mixers(data: str, out: Path, seeds: list[int] | None) -> tuple[dict[str, bool], Path]:
    from visionseq.benchmarks.harness import machine
    from visionseq.claims.mixers.experiment import Recipe, run_seed, time_per_token
    from visionseq.claims.mixers.report import average, table, verdicts, write_report
    from visionseq.errors import ConfigError

    if data != "digits":
        raise ConfigError(f"data: {data}, expected digits, the data set of the mixers' claim")
    recipe = Recipe()
    accuracies = {seed: run_seed(recipe, seed, print) for seed in seeds or recipe.seeds}
    seconds = time_per_token()
    page = write_report(out, accuracies, seconds, asdict(recipe), machine())
    means = average(accuracies)
    _show(table(accuracies, means))
    return verdicts(means, seconds), page


def _lion(out: Path, seeds: list[int] | None) -> tuple[dict[str, bool], Path]:
    from visionseq.benchmarks.harness import machine
    from visionseq.claims.lion.experiments import Recipe
    from visionseq.claims.lion.report import evaluation_of_noise, run_seed, write_report

    recipe = Recipe()
    figures = {seed: run_seed(recipe, seed, print) for seed in seeds or recipe.seeds}
    return write_report(out, figures, evaluation_of_noise(), asdict(recipe), machine())


def _show(rows: list[tuple[str, ...]]) -> None:
    for row in rows:
        print("  ".join(f"{cell:>20}" for cell in row))
