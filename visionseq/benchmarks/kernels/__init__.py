"""Benchmarks of the scan kernels: speed against the naive loop and named peers, memory, growth with length, threads."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any


def sections(peers: bool = False) -> dict[str, Callable[[str, int], dict[str, Any]]]:
    """The sections by name; `peers` adds those of the extra `bench`."""
    from visionseq.benchmarks.kernels import measure, recurrent_layers

    return {
        "speed": partial(measure.speed, peers=peers),
        "recurrent": recurrent_layers.recurrent,
        "memory": measure.memory,
        "scaling": measure.scaling,
        "threads": measure.threads,
    }


def write_page(path: Path, results: Mapping[str, Any], machine: Mapping[str, Any]) -> None:
    """Write the page `path` (Markdown) and its plot."""
    from visionseq.benchmarks.kernels import report

    report.write_page(path, results, machine)
