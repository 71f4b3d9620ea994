"""The samplers of `bfm` against each other: wall-clock beside the counted operations."""

from collections.abc import Callable
from typing import Any


def sections() -> dict[str, Callable[[str, int], dict[str, Any]]]:
    """The sections by name."""
    from visionseq.benchmarks.bfm import measure

    return {"frn": measure.frn, "throughput": measure.throughput}
