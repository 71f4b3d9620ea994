"""`visionseq benchmark`: ratios against named peers on this machine, as JSON."""

from pathlib import Path
from typing import Literal


def benchmark(
    room: Literal["rectified_flow"] = "rectified_flow",
    *,
    out: Path | None = None,
    sections: list[str] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    rounds: int = 9,
) -> None:
    """Time a room against its peers, alternately in one run, and write ratios, machine, versions and commit.

    Args:
        room: Whose benchmarks to run.
        out: File of the JSON; without it the results are only shown.
        sections: Parts to run: unet, sampling, sample_t, loader; default: all.
        device: Where models run: cpu or cuda.
        threads: Threads of torch; default: its own choice.
        rounds: Repetitions; the medians of more rounds are steadier.

    Examples:
        visionseq benchmark rectified_flow --out docs/benchmarks/rectified_flow.json
        visionseq benchmark rectified_flow --sections unet loader --rounds 21
    """
    import torch

    from visionseq.benchmarks.harness import write_report
    from visionseq.benchmarks.rectified_flow import SECTIONS
    from visionseq.errors import ConfigError

    if unknown := [name for name in sections or () if name not in SECTIONS]:
        raise ConfigError(f"sections: {', '.join(unknown)}, expected some of {', '.join(SECTIONS)}")
    if rounds < 1:
        raise ConfigError(f"rounds: {rounds}, expected at least 1")
    if threads is not None:
        torch.set_num_threads(threads)
    results = {}
    for name in sections or SECTIONS:
        results[name] = SECTIONS[name](device, rounds)
        print(name)
        _show(results[name], "  ")
    if out is not None:
        write_report(out, room, results)
        print(out)


def _show(values: dict, indent: str) -> None:
    """The ratios and rates of a section, one a line."""
    for name, value in values.items():
        if isinstance(value, dict):
            if not name.startswith("seconds") and name != "UNet2DModel":
                print(f"{indent}{name}")
                _show(value, indent + "  ")
        else:
            print(f"{indent}{name:<32} {value:.4g}")
