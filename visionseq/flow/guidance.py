"""Guidance rules: functions of a conditional and an unconditional prediction of the same kind.

They are linear, so a rule for velocities serves denoised images and noises as well.
"""

from torch import Tensor


def classifier_free(unconditional: Tensor, conditional: Tensor, scale: float) -> Tensor:
    """unconditional + scale (conditional - unconditional), any shape; scale 1 is no guidance (arXiv 2207.12598)."""
    return unconditional + scale * (conditional - unconditional)
