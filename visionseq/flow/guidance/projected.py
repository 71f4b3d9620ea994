"""Guidance along chosen directions: adaptive projected guidance, and tangential damping."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from visionseq.flow.guidance.classifier_free import ClassifierFree
from visionseq.flow.guidance.rule import inner
from visionseq.nn.precision import at_least_float32


@dataclass
class AdaptiveProjected(ClassifierFree):
    """APG (arXiv 2410.02416): the guidance has a memory, a largest length, and less of what is parallel to v_c.

        m <- (v_c - v_u) + momentum m,    m' = m min(1, norm / |m|),    v = v_u + scale (perpendicular + eta parallel)

    with the parts of m' perpendicular and parallel to v_c, for each sample.

    Args:
        scale: of the guidance.
        eta: weight of the parallel part.
        norm: largest length of m; 0: any.
        momentum: weight of the memory; 0: none. The paper takes -0.5 or so.
        interval, channels, rescale, from_conditional: as for every rule, see `Guidance`.
    """

    eta: float = 1.0
    norm: float = 15.0
    momentum: float = 0.0
    _memory: Tensor | None = field(default=None, init=False, repr=False, compare=False)

    def reset(self, grid: Sequence[float] | None = None) -> None:
        """Forget the guidance of the trajectory before."""
        self._memory = None

    def combine(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        difference = conditional - unconditional
        if self.momentum:
            difference = difference if self._memory is None else difference + self.momentum * self._memory
            self._memory = difference
        if self.norm:
            length = inner(difference, difference).sqrt()
            difference = difference * (self.norm / length).clamp_max(1)
        parallel = _projected(difference.double(), conditional.double()).to(difference.dtype)
        base = conditional if self.from_conditional else unconditional
        return base + self.scale * (difference - parallel + self.eta * parallel)


@dataclass
class Tangential(ClassifierFree):
    """TCFG (arXiv 2503.18137): v_u keeps only what it shares with v_c, then classifier-free guidance.

    v_u is projected on the leading right singular vector of the rows v_c, v_u, for each sample.

    Args:
        scale: of the guidance.
        interval, channels, rescale, from_conditional: as for every rule, see `Guidance`.
    """

    def combine(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        v_c, v_u = at_least_float32(conditional).flatten(1), at_least_float32(unconditional).flatten(1)
        leading = torch.linalg.svd(torch.stack([v_c, v_u], 1), full_matrices=False).Vh[:, 0]
        shared = _projected(v_u, leading).view_as(unconditional).to(unconditional.dtype)
        return self.add(conditional, shared, self.scale)


def _projected(x: Tensor, direction: Tensor) -> Tensor:
    """The part of each sample along a direction [B, ...]; zero where that is zero."""
    smallest = torch.finfo(direction.dtype).tiny
    return inner(x, direction) / inner(direction, direction).clamp_min(smallest) * direction
