"""Timing of alternatives against each other, and the record of where it was done.

A figure of one machine at one moment says little; a ratio between alternatives that take turns within one run is
robust against a machine whose clock and load drift.
"""

import gc
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from visionseq.files import write_json
from visionseq.training.run_folder import commit

PACKAGES = (
    *("visionseq", "torch", "triton", "numba", "numpy", "lightning", "diffusers", "torchvision", "Pillow"),
    *("fla-core", "spikingjelly", "spconv", "shapely"),
)


@dataclass(frozen=True)
class Comparison:
    """Seconds of each alternative in each round; the rounds ran the alternatives in turn."""

    seconds: dict[str, list[float]]
    process_seconds: dict[str, list[float]]

    def ratio(self, name: str, peer: str) -> float:
        """Time of `name` over time of `peer`, median over the rounds; below 1 is faster."""
        return median(a / b for a, b in zip(self.seconds[name], self.seconds[peer], strict=True))

    def summary(self) -> dict[str, dict[str, float]]:
        """Median and quartiles of the seconds of each alternative, and the median of its processor seconds."""
        return {
            name: {**_quartiles(values), "median_process_s": median(self.process_seconds[name])}
            for name, values in self.seconds.items()
        }


def compare(alternatives: Mapping[str, Callable[[], object]], rounds: int = 9, warmup: int = 2) -> Comparison:
    """Time the alternatives in `rounds` rounds; each round calls every one once, beginning with another one."""
    for call in alternatives.values():
        for _ in range(warmup):
            call()
    names = list(alternatives)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    process_seconds: dict[str, list[float]] = {name: [] for name in names}
    collecting = gc.isenabled()
    gc.disable()
    try:
        for turn in range(rounds):
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                wall, process = _time(alternatives[name])
                seconds[name].append(wall)
                process_seconds[name].append(process)
            gc.collect()
    finally:
        if collecting:
            gc.enable()
    return Comparison(seconds, process_seconds)


def count_flops(step: Callable[[], object]) -> int:
    """FLOPs of a call as torch.utils.flop_counter counts them: convolutions, products and attention."""
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def machine() -> dict[str, Any]:
    """Processor, devices, versions and commit, as plain values."""
    return {
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "python": platform.python_version(),
        "packages": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": commit(),
    }


def write_report(path: Path, room: str, results: Mapping[str, Any]) -> None:
    """Write the results of a benchmark and the machine they came from as JSON."""
    date = time.strftime("%Y-%m-%d", time.gmtime())
    write_json(path, {"benchmark": room, "date": date, "machine": machine(), "results": dict(results)})


def _time(call: Callable[[], object]) -> tuple[float, float]:
    """Seconds on the clock and of all the process's threads."""
    _wait_for_devices()
    start, start_of_process = time.perf_counter(), time.process_time()
    call()
    _wait_for_devices()
    return time.perf_counter() - start, time.process_time() - start_of_process


def _wait_for_devices() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _quartiles(values: list[float]) -> dict[str, float]:
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else values * 3
    return {"median_s": middle, "quartile_1_s": low, "quartile_3_s": high}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
