"""What every guidance rule is: a function of two predictions, with a part of the time in which it acts.

    guided = base + scale (conditional - unconditional)

Rules differ in the scale and in what they do to the two predictions before. They are the same for velocities, denoised
images and noises as far as they are affine in the predictions; those that compare their sizes expect velocities.

Legend: B batch; C channels; ... further axes of one prediction.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Protocol

import torch
from torch import Tensor

from visionseq.errors import ConfigError

TINY = 1e-8  # added to squared norms that divide


class GuidanceRule(Protocol):
    """The methods of a rule; see `Guidance` for a base."""

    def reset(self, grid: Sequence[float] | None = None) -> None:
        """Forget the trajectory before; `grid` holds the times of the next one, where the sampler knows them."""

    def active(self, t: float) -> bool:
        """Whether guidance acts at time t; elsewhere the conditional prediction stands alone."""

    def __call__(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        """The guided prediction [B, ...] of two predictions at time t."""


@dataclass(kw_only=True)
class Guidance(ABC):
    """Base of the rules.

    Args:
        interval: first and last time of guidance, in the clock of the sampler; both ends belong to it (arXiv
            2404.07724).
        channels: guide the first so many channels (axis 1), and keep the conditional prediction in the others, as the
            published samples of DiT and SiT do with 3 of 4; None: all.
        rescale: share phi of the guided prediction that gets the standard deviation of the conditional one, for each
            sample (arXiv 2305.08891, equation 16); 0: none.
        from_conditional: begin at the conditional prediction in place of the unconditional one, which diffusers calls
            the original formulation.

    Raises `ConfigError` for an interval that ends before it begins.
    """

    interval: tuple[float, float] = (-inf, inf)
    channels: int | None = None
    rescale: float = 0.0
    from_conditional: bool = False

    def __post_init__(self) -> None:
        low, high = self.interval
        if not low <= high:
            raise ConfigError(f"guidance interval {self.interval}, expected the lower time first")

    def reset(self, grid: Sequence[float] | None = None) -> None:  # noqa: B027 (most rules remember nothing)
        """Forget the trajectory before."""

    def active(self, t: float) -> bool:
        """Whether t lies in the interval."""
        low, high = self.interval
        return low <= t <= high

    def __call__(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        """The guided prediction [B, ...] of two predictions at time t."""
        if self.channels is None:
            return self._rescaled(conditional, unconditional, t)
        first = self._rescaled(conditional[:, : self.channels], unconditional[:, : self.channels], t)
        return torch.cat([first, conditional[:, self.channels :]], 1)

    @abstractmethod
    def combine(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        """The guided prediction, before it is rescaled."""

    def add(self, conditional: Tensor, unconditional: Tensor, scale: float | Tensor) -> Tensor:
        """base + scale (conditional - unconditional)."""
        base = conditional if self.from_conditional else unconditional
        return base + scale * (conditional - unconditional)

    def _rescaled(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        guided = self.combine(conditional, unconditional, t)
        if not self.rescale:
            return guided
        smallest = torch.finfo(guided.dtype).tiny  # a rule may ask for no motion at all
        same_spread = guided * (spread(conditional) / spread(guided).clamp_min(smallest))
        return self.rescale * same_spread + (1 - self.rescale) * guided


def spread(x: Tensor) -> Tensor:
    """Standard deviation of each sample [B, 1, ...]."""
    return x.std(dim=tuple(range(1, x.ndim)), keepdim=True)


def inner(x: Tensor, y: Tensor) -> Tensor:
    """Inner product of each sample [B, 1, ...]."""
    return (x * y).sum(dim=tuple(range(1, x.ndim)), keepdim=True)
