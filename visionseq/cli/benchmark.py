"""`visionseq benchmark`: ratios against named peers on this machine, as JSON."""

import inspect
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from visionseq.cli.outputs import claim_files
from visionseq.cli.terminal import say


def benchmark(
    room: str,
    *,
    out: Path | None = None,
    sections: list[str] | None = None,
    device: str = "cpu",
    threads: int | None = None,
    rounds: int = 9,
    peers: bool = False,
    config: str | None = None,
    input: Path | None = None,
    overwrite: bool = False,
) -> None:
    """Time a room against its peers, alternately in one run, and write ratios, machine, versions and commit.

    Args:
        room: Whose benchmarks to run: a room or a shared part such as kernels or profile; a wrong name lists them.
            Each has its own sections; profile reports parameters, FLOPs and latency, and operators without a count.
        out: File of the JSON; for the kernels, a Markdown page and a plot appear beside it. Default: only show the
            results.
        sections: Parts to run; default: all. A wrong name lists them.
        device: Where models run: cpu or cuda.
        threads: Threads of torch; default: its own choice.
        rounds: Repetitions; the medians of more rounds are steadier.
        config: For detectors, the official configuration whose stages are timed; default: a small one.
        input: For detectors, the point file to run; default: a simulated frame.
        overwrite: Replace the files of an earlier call.
        peers: For the kernels, compare with fla-core (extra `bench`) and spikingjelly (extra `spiking`) as well.

    Examples:
        visionseq benchmark rectified_flow --out docs/benchmarks/rectified_flow.json
        visionseq benchmark rectified_flow --sections unet loader --rounds 21
        visionseq benchmark profile --sections mixers
        visionseq benchmark kernels --sections recurrent --out docs/benchmarks/recurrent_layers.json
        visionseq benchmark lion --sections stages --config second_with_lion_mamba_64dim --input 000001.bin
        visionseq benchmark kernels --threads 1 --rounds 5 --peers --out docs/benchmarks/kernels_cpu.json
    """
    import torch

    from visionseq import rooms
    from visionseq.benchmarks.harness import machine, write_report
    from visionseq.errors import ConfigError

    part = rooms.benchmark(room)
    known = _sections(room, part, {"config": config, "input": input, "peers": peers})
    if unknown := [name for name in sections or () if name not in known]:
        raise ConfigError(f"sections: {', '.join(unknown)}, expected some of {', '.join(known)}")
    if rounds < 1:
        raise ConfigError(f"rounds: {rounds}, expected at least 1")
    if out is not None:
        claim_files(out, *([out.with_suffix(".md")] if hasattr(part, "write_page") else []), overwrite=overwrite)
    if threads is not None:
        torch.set_num_threads(threads)
    results = {}
    for name in sections or known:
        results[name] = known[name](device, rounds)
        say(name)
        _show(results[name], "  ")
    if out is not None:
        write_report(out, room, results)
        say(out)
        if hasattr(part, "write_page"):
            part.write_page(out.with_suffix(".md"), results, machine())


def _sections(room: str, part: ModuleType, options: dict[str, Any]) -> dict[str, Callable[[str, int], dict[str, Any]]]:
    """The parts of a benchmark by name; an option that it does not have is a `ConfigError`."""
    from visionseq.errors import ConfigError

    chosen = {name: value for name, value in options.items() if value not in (None, False)}
    if unknown := chosen.keys() - inspect.signature(part.sections).parameters:
        raise ConfigError(f"{', '.join(sorted(unknown))}: the benchmark {room} does not have this option")
    return part.sections(**chosen)


def _show(values: dict, indent: str) -> None:
    """The ratios and rates of a section, one a line."""
    for name, value in values.items():
        if isinstance(value, dict):
            if not name.startswith("seconds") and name != "UNet2DModel":
                say(f"{indent}{name}")
                _show(value, indent + "  ")
        elif isinstance(value, list):
            say(f"{indent}{name:<32} {', '.join(value) or 'none'}")
        else:
            say(f"{indent}{name:<32} {value if isinstance(value, str) else format(value, '.4g')}")
