"""`visionseq benchmark`: ratios against named peers on this machine, as JSON."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal


def benchmark(
    room: Literal["rectified_flow", "kernels", "lion", "profile"] = "rectified_flow",
    *,
    out: Path | None = None,
    sections: list[str] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    rounds: int = 9,
    peers: bool = False,
    config: str | None = None,
    input: Path | None = None,
) -> None:
    """Time a room against its peers, alternately in one run, and write ratios, machine, versions and commit.

    Args:
        room: Whose benchmarks to run; profile tells parameters, FLOPs and latency, and operators that were not counted.
        out: File of the JSON; for the kernels, a Markdown page and a plot appear beside it. Without it the results are
            only shown.
        sections: Parts to run, all if not given. rectified_flow: unet, sampling, sample_t, loader; kernels: speed,
            memory, scaling, threads; lion: stages, scaling, sparse_conv, geometry, voxels, evaluation; profile: mixers,
            zoo.
        device: Where models run: cpu or cuda.
        threads: Threads of torch; default: its own choice.
        rounds: Repetitions; the medians of more rounds are steadier.
        config: Of lion, the official configuration whose stages are timed; default: LION-Mamba on KITTI.
        input: Of lion, the point file to run; default: a simulated frame.
        peers: Compare the kernels with fla-core (extra `bench`) and spikingjelly (extra `spiking`) as well.

    Examples:
        visionseq benchmark rectified_flow --out docs/benchmarks/rectified_flow.json
        visionseq benchmark rectified_flow --sections unet loader --rounds 21
        visionseq benchmark profile --sections mixers
        visionseq benchmark lion --sections stages --config second_with_lion_mamba_64dim --input 000001.bin
        visionseq benchmark kernels --threads 1 --rounds 5 --peers --out docs/benchmarks/kernels_cpu.json
    """
    import torch

    from visionseq.benchmarks.harness import machine, write_report
    from visionseq.errors import ConfigError

    known = _sections(room, peers, config, input)
    if unknown := [name for name in sections or () if name not in known]:
        raise ConfigError(f"sections: {', '.join(unknown)}, expected some of {', '.join(known)}")
    if rounds < 1:
        raise ConfigError(f"rounds: {rounds}, expected at least 1")
    if threads is not None:
        torch.set_num_threads(threads)
    results = {}
    for name in sections or known:
        results[name] = known[name](device, rounds)
        print(name)
        _show(results[name], "  ")
    if out is not None:
        write_report(out, room, results)
        print(out)
        if room == "kernels":
            from visionseq.benchmarks.kernels.report import write_page

            write_page(out.with_suffix(".md"), results, machine())


def _sections(
    room: str, peers: bool, config: str | None, file: Path | None
) -> dict[str, Callable[[str, int], dict[str, Any]]]:
    if room == "lion":
        from visionseq.benchmarks import lion

        return lion.sections(config, file)
    if room == "kernels":
        from visionseq.benchmarks.kernels.measure import sections

        return sections(peers)
    if room == "profile":
        from visionseq.benchmarks.profile import SECTIONS as PROFILES

        return PROFILES
    from visionseq.benchmarks.rectified_flow import SECTIONS

    return SECTIONS


def _show(values: dict, indent: str) -> None:
    """The ratios and rates of a section, one a line."""
    for name, value in values.items():
        if isinstance(value, dict):
            if not name.startswith("seconds") and name != "UNet2DModel":
                print(f"{indent}{name}")
                _show(value, indent + "  ")
        elif isinstance(value, list):
            print(f"{indent}{name:<32} {', '.join(value) or 'none'}")
        else:
            print(f"{indent}{name:<32} {value if isinstance(value, str) else format(value, '.4g')}")
