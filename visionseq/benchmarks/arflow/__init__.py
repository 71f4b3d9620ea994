"""Calls of `arflow` along a trajectory, its training step, and sampling against the same network without a memory."""

from collections.abc import Callable
from typing import Any


def sections() -> dict[str, Callable[[str, int], dict[str, Any]]]:
    """The sections by name."""
    from visionseq.benchmarks.arflow import measure

    return {
        "late_calls": measure.late_calls,
        "sampling": measure.sampling,
        "training": measure.training,
    }
