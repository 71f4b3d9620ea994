"""The kernels' benchmark as a page: tables of ratios, the growth with length as a plot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from visionseq import viz
from visionseq.files import atomic_write

DIRECTIONS = ("forward", "forward + backward")


def write_page(path: Path, results: Mapping[str, Any], machine: Mapping[str, Any]) -> None:
    """Write `path` (Markdown) and, where scaling was measured, NAME_scaling.png beside it."""
    lines = ["# Benchmark: scan kernels", "", _machine(machine), ""]
    if "speed" in results:
        lines += _speed(results["speed"])
    if "recurrent" in results:
        lines += _recurrent(results["recurrent"])
    if "memory" in results:
        lines += _memory(results["memory"])
    if "scaling" in results:
        plot = path.with_name(f"{path.stem}_scaling.png")
        _plot(plot, results["scaling"])
        lines += _scaling(results["scaling"], plot.name)
    if "threads" in results:
        lines += _threads(results["threads"])
    with atomic_write(path, "w") as file:
        file.write("\n".join(lines))


def _machine(machine: Mapping[str, Any]) -> str:
    gpu = f", {', '.join(machine['gpu'])}" if machine["gpu"] else ""
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return f"{machine['processor']}{gpu}, {machine['threads']} of {machine['cores']} threads; {packages}."


def _speed(rows: Mapping[str, Any]) -> list[str]:
    lines = ["## Speed", "", "Milliseconds of ours, and how many times longer the others took in the same run.", ""]
    lines += [
        "| operator | against | forward | ours, ms | forward + backward | ours, ms |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        for peer in row[DIRECTIONS[0]]["speed_up"]:
            cells = []
            for direction in DIRECTIONS:
                part = row[direction]
                cells += [f"{part['speed_up'][peer]:.1f}x", f"{part['seconds']['visionseq']['median_s'] * 1e3:.2f}"]
                cells[-1] += " (busy)" if part["busy"] else ""
            lines.append(f"| {name} | {peer} | {' | '.join(cells)} |")
    return [*lines, "", '"busy": something else had the core for more than a sixth of the time.', ""]


def _recurrent(rows: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Recurrent layers",
        "",
        "`mixers.LSTM(D)` and `mixers.GRU(D)` against `nn.LSTM(D, D)` and `nn.GRU(D, D)`: same weights and input, one",
        "thread. Forward: input projection and recurrence, without gradients. Forward + backward: also the gradients",
        "of the input and of every parameter. Ratios of torch's time to ours, above 1 where ours is faster: median",
        "over rounds that alternate, and the processor time of fastest round to fastest round.",
        "",
        "| layer | forward | fastest | ours, ms | forward + backward | fastest | ours, ms |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        cells = []
        for direction in DIRECTIONS:
            part = row[direction]
            for ratios in (part["speed_up"], part["speed_up_of_fastest_rounds"]):
                cells += [f"{ratio:.2f}x" for ratio in ratios.values()]
            cells.append(f"{part['seconds']['visionseq']['median_s'] * 1e3:.2f}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return [*lines, ""]


def _memory(values: Mapping[str, Any]) -> list[str]:
    lines = [
        "## Memory",
        "",
        "selective_scan, forward + backward at B1 T4096 E256 N16: peak over inputs and outputs.",
        "",
    ]
    lines += [
        f"- {name}: {value['ratio_to_inputs_and_outputs']:.2f}" for name, value in values.items() if name[0] != "b"
    ]
    return [*lines, ""]


def _scaling(values: Mapping[str, Any], plot: str) -> list[str]:
    lines = ["## Growth with length", "", "Exponent of forward + backward time against 512 ... 16384 tokens.", ""]
    lines += ["| operator | exponent |", "|---|---|"]
    lines += [f"| {name} | {value['exponent']:.2f} |" for name, value in values.items()]
    return [*lines, "", f"![time per token against length]({plot})", ""]


def _threads(values: Mapping[str, Any]) -> list[str]:
    lines = ["## Two threads", "", "How many times faster than one.", "", "| operator | speed-up |", "|---|---|"]
    lines += [f"| {name} | {value['speed_up_of_two_threads']:.2f}x |" for name, value in values.items()]
    return [*lines, ""]


def _plot(path: Path, values: Mapping[str, Any]) -> None:
    lengths = [int(length) for length in next(iter(values.values()))["seconds"]]
    curves = {
        name: [1e6 * seconds / int(length) for length, seconds in value["seconds"].items()]
        for name, value in values.items()
    }
    viz.line_plot(
        path,
        lengths,
        curves,
        title="Forward + backward",
        xlabel="tokens",
        ylabel="µs per token",
        log_x=True,
        log_y=True,
    )
