"""Guidance with a scale that is known beforehand: constant, by a schedule, and CFG++."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.flow.guidance.rule import Guidance


@dataclass
class ClassifierFree(Guidance):
    """unconditional + scale (conditional - unconditional) (arXiv 2207.12598).

    With the prediction of a weaker model as the unconditional one it is AutoGuidance (arXiv 2406.02507).

    Args:
        scale: 1 is no guidance, and costs no second evaluation.
        interval, channels, rescale, from_conditional: as for every rule, see `Guidance`.
    """

    scale: float = 1.0

    def active(self, t: float) -> bool:
        no_guidance = 0.0 if self.from_conditional else 1.0
        return self.scale != no_guidance and super().active(t)

    def combine(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        return self.add(conditional, unconditional, self.scale)


@dataclass
class Scheduled(ClassifierFree):
    """Classifier-free guidance whose scale rises from 1 at the noise, with the mean `scale` over the way to the data.

        linear    1 + 2 (scale - 1) d           cosine    1 + (scale - 1) (1 - cos(pi d))

    with d the share of the way from noise to data.

    Args:
        scale: mean scale.
        schedule: `linear` or `cosine`.
        interval, channels, rescale, from_conditional: as for every rule, see `Guidance`.

    Raises `ConfigError` for another schedule, and where the times of the trajectory are not those of a path.
    """

    schedule: Literal["linear", "cosine"] = "linear"
    _rising: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.schedule not in ("linear", "cosine"):
            raise ConfigError(f"guidance schedule {self.schedule!r}, expected linear or cosine")

    def reset(self, grid: Sequence[float] | None = None) -> None:
        """Take the direction of time from the grid."""
        self._rising = _rises(_path_times("a schedule", grid))

    def combine(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        share = t if self._rising else 1 - t
        rise = 2 * share if self.schedule == "linear" else 1 - math.cos(math.pi * share)
        return self.add(conditional, unconditional, 1 + (self.scale - 1) * rise)


@dataclass
class PlusPlus(Guidance):
    """CFG++ (arXiv 2406.08070): the image is guided, the noise that carries it on is the unconditional one.

    On the straight path (t = 1 is noise) with the image x0 = x - t v_guided and the noise n = x + (1 - t) v_uncond,

        x_s = (1 - s) x0 + s n,    which is an Euler step with    scale = strength t (1 - s) / (t - s)

    Args:
        strength: lambda between 0 and 1, of the guided image.
        interval, channels, rescale: as for every rule, see `Guidance`.

    Raises `ConfigError` for another strength, and with samplers other than Euler's on a straight path.
    """

    strength: float = 0.6
    _step_after: dict[float, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.strength <= 1:
            raise ConfigError(f"strength {self.strength} of CFG++, expected more than 0 and at most 1")

    def reset(self, grid: Sequence[float] | None = None) -> None:
        """Take the times of the steps from the grid."""
        self._step_after = dict(pairwise(_path_times("CFG++", grid)))

    def combine(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        if t not in self._step_after:
            raise ConfigError(f"CFG++ does not know the step at t = {t}: it works with Euler's solver alone")
        s = self._step_after[t]
        if t < s:  # the other clock, in which t = 1 is the data
            t, s = 1 - t, 1 - s
        return self.add(conditional, unconditional, self.strength * t * (1 - s) / (t - s))


def _path_times(who: str, grid: Sequence[float] | None) -> list[float]:
    """The times of a trajectory; `ConfigError` where they are unknown, or those of another clock such as sigma."""
    if grid is None:
        raise ConfigError(f"{who} needs the times of the trajectory, which this sampler does not give")
    if not all(0 <= t <= 1 for t in grid):
        raise ConfigError(f"{who} needs times of a path between 0 and 1, got {min(grid)} to {max(grid)}")
    return list(grid)


def _rises(grid: Sequence[float]) -> bool:
    return len(grid) > 1 and grid[-1] > grid[0]
