"""Blocks and samplers of `sit` against named peers."""

from collections.abc import Callable
from typing import Any


def sections() -> dict[str, Callable[[str, int], dict[str, Any]]]:
    """The sections by name."""
    from visionseq.benchmarks.sit import measure

    return {"blocks": measure.blocks, "half": measure.half_precision, "sampling": measure.sampling}
