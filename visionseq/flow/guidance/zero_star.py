"""CFG-Zero* (arXiv 2503.18886): no motion in the first steps, and an unconditional prediction of the best length."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from visionseq.flow.guidance.classifier_free import ClassifierFree
from visionseq.flow.guidance.rule import TINY, inner
from visionseq.nn.precision import at_least_float32


@dataclass
class ZeroStar(ClassifierFree):
    """v = s* v_u + scale (v_c - s* v_u) with s* = <v_c, v_u> / |v_u|^2; zero in the first steps.

    Args:
        scale: of the guidance.
        zero_steps: steps at the beginning of a trajectory with velocity zero; a step is a time of evaluation.
        interval, channels, rescale, from_conditional: as for every rule, see `Guidance`.
    """

    zero_steps: int = 1
    _times: set[float] = field(default_factory=set, init=False, repr=False, compare=False)

    def reset(self, grid: Sequence[float] | None = None) -> None:
        """Begin to count the steps again."""
        self._times = set()

    def combine(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        if len(self._times) <= self.zero_steps:
            self._times.add(t)
        if len(self._times) <= self.zero_steps:
            return torch.zeros_like(conditional)
        scaled = (projection_scale(conditional, unconditional) * unconditional).to(conditional.dtype)
        return self.add(conditional, scaled, self.scale)


def projection_scale(conditional: Tensor, unconditional: Tensor) -> Tensor:
    """s* = <v_c, v_u> / (|v_u|^2 + 1e-8) of each sample [B, 1, ...], in float32 or better."""
    v_c, v_u = at_least_float32(conditional), at_least_float32(unconditional)
    return inner(v_c, v_u) / (inner(v_u, v_u) + TINY)
