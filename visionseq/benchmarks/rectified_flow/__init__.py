"""The U-Net, pair generation, sampling, times and the data loader of `rectified_flow` against named peers."""

from collections.abc import Callable
from typing import Any


def sections() -> dict[str, Callable[[str, int], dict[str, Any]]]:
    """The sections by name."""
    from visionseq.benchmarks.rectified_flow import measure

    return {
        "unet": measure.unet,
        "sampling": measure.sampling,
        "sample_t": measure.time_draws,
        "loader": measure.loader,
    }
