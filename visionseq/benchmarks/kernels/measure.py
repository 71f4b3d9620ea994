"""The sections of the benchmark that time operators: speed, memory, scaling with length, threads.

speed    forward and forward + backward of every row: naive loop, peers, ours, in turn; ratios below 1 mean faster
memory   peak of forward + backward over the bytes of inputs and outputs
scaling  time against length from 512 to 16384 tokens; the exponent of the fit
threads  forward + backward with one thread and with two
"""

import ctypes
import gc
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionseq.benchmarks.harness import Comparison, compare
from visionseq.benchmarks.kernels.rows import Row, growing, rows, selective_scan

LENGTHS = (512, 1024, 2048, 4096, 8192, 16384)
BUSY = 1.2  # of one thread: wall time over processor time above which something else took the core


def speed(device: str, rounds: int, peers: bool = False) -> dict[str, Any]:
    """Forward, and forward + backward, of every row: ours, the naive loop and the peers in turn."""
    return {name: _speed_of(row, device, rounds, peers) for name, row in _announced("speed")}


def _speed_of(row: Row, device: str, rounds: int, peers: bool) -> dict[str, Any]:
    inputs = row.draw(device)
    alternatives: dict[str, Callable[[], Tensor]] = {
        "visionseq": lambda: row.ours(inputs),
        "naive loop": lambda: row.ours(inputs, "reference"),
    }
    for name, peer in {**row.peers, **(row.optional_peers if peers else {})}.items():
        alternatives[name] = partial(peer, **inputs)
    result: dict[str, Any] = {}
    directions = {
        "forward": {name: _forward(call) for name, call in alternatives.items()},
        "forward + backward": {name: _with_backward(call, inputs) for name, call in alternatives.items()},
    }
    for direction, calls in directions.items():
        timed = compare(calls, rounds)
        result[direction] = {
            "seconds": timed.summary(),
            "speed_up": {name: timed.ratio(name, "visionseq") for name in alternatives if name != "visionseq"},
            "busy": _busy(timed),
        }
    return result


def memory(device: str, rounds: int) -> dict[str, Any]:
    """selective_scan at B1 T4096 E256 N16, whose naive loop keeps every state."""
    row = selective_scan(1, 4096, 256, 16)
    inputs = row.draw(device)
    bytes_of = sum(tensor.nbytes for tensor in inputs.values()) + row.ours(inputs).nbytes
    result: dict[str, Any] = {"bytes of inputs and outputs": bytes_of}
    for name, backend in (("visionseq", "auto"), ("naive loop", "reference")):
        step = _with_backward(partial(row.ours, inputs, backend), inputs)
        step()
        result[name] = {
            "peak_bytes": (peak := peak_bytes(step, device)),
            "ratio_to_inputs_and_outputs": peak / bytes_of,
        }
    return result


def scaling(device: str, rounds: int) -> dict[str, Any]:
    """Forward + backward; an exponent of 1 means a constant time per token."""
    seconds: dict[str, dict[int, float]] = {}
    for length in LENGTHS:
        sys.stderr.write(f"scaling: {length} tokens\n")
        for name, row in growing(length).items():
            inputs = row.draw(device)
            timed = compare({"visionseq": _with_backward(partial(row.ours, inputs), inputs)}, rounds)
            seconds.setdefault(name, {})[length] = min(timed.seconds["visionseq"])
    return {name: {"seconds": values, "exponent": _exponent(values)} for name, values in seconds.items()}


def threads(device: str, rounds: int) -> dict[str, Any]:
    """How much faster two threads are than one."""
    before = torch.get_num_threads()
    result = {}
    for name, row in _announced("threads"):
        inputs = row.draw(device)
        step = _with_backward(partial(row.ours, inputs), inputs)

        def with_threads(count: int, step: Callable[[], None] = step) -> Callable[[], None]:
            def call() -> None:
                torch.set_num_threads(count)
                step()

            return call

        timed = compare({"one": with_threads(1), "two": with_threads(2)}, rounds)
        result[name] = {"speed_up_of_two_threads": timed.ratio("one", "two")}
    torch.set_num_threads(before)
    return result


def peak_bytes(call: Callable[[], object], device: str) -> int:
    """Bytes that a call needs at once beyond what is allocated before it."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # or memory that an earlier call has given back would not count once more
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark to what is in use now
    before = _status("VmRSS")
    call()
    return _status("VmHWM") - before


def _announced(section: str) -> Iterator[tuple[str, Row]]:
    """The rows by name; stderr names the one that is being measured, since all of them take minutes."""
    table = rows()
    for number, row in enumerate(table, 1):
        name = f"{row.operator}: {row.shape}"
        sys.stderr.write(f"{section} {number}/{len(table)}: {name}\n")
        yield name, row


def _forward(call: Callable[[], Tensor]) -> Callable[[], None]:
    def step() -> None:
        with torch.no_grad():
            call()

    return step


def _with_backward(call: Callable[[], Tensor], inputs: Mapping[str, Tensor]) -> Callable[[], None]:
    with torch.no_grad():
        cotangent = torch.randn_like(call())

    def step() -> None:
        call().backward(cotangent)
        for tensor in inputs.values():
            tensor.grad = None

    return step


def _busy(timed: Comparison) -> bool:
    """Whether the clock ran well ahead of the processor: something else had the core, so the figures are worth less."""
    summary = timed.summary().values()
    return any(values["median_s"] > BUSY * values["median_process_s"] for values in summary)


def _exponent(seconds: Mapping[int, float]) -> float:
    """The slope of a straight line through the logarithms."""
    return float(np.polyfit(np.log(list(seconds)), np.log(list(seconds.values())), 1)[0])


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status has no {field}")
