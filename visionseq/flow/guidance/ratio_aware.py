"""Ratio-aware guidance, RAAG (arXiv 2508.03442, later MAMBO-G): the scale falls with the size of the guidance itself.

    rho = |v_c - v_u| / |v_u|,     w = 1 + (w_max - 1) exp(-alpha rho),     v = v_u + w (v_c - v_u)

In the first, noisiest steps rho is large and points the same way for every seed, so that a large fixed scale
overshoots. The ratio is one of velocities: other predictions are converted before.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.flow.guidance.rule import Guidance
from visionseq.flow.guidance.zero_star import projection_scale
from visionseq.nn.precision import at_least_float32

Reduction = Literal["sample", "global", "batch_mean"]
REDUCTIONS = ("sample", "global", "batch_mean")
SMALLEST_RATIO = 1e-3  # of a suggestion


@dataclass
class RatioAware(Guidance):
    """RAAG.

    Everything is computed in float32 (float64 where the predictions are) and cast to their dtype at the end.

    Args:
        max_guidance_scale: w_max, at least 1; larger than a usual scale. 18 for SD3.5, 10 for Qwen-Image.
        alpha: at least 0; 12 for SD3.5, 8 for Qwen-Image. A sensible value is 1 / rho in the middle of a trajectory.
        reduction: a ratio for each `sample`; one for the whole batch (`global`, as the official release); or the
            mean of the samples' ratios (`batch_mean`). With the last two an image depends on its batch.
        eps: smallest norm of v_u.
        zero_star: scale v_u by its projection on v_c before (CFG-Zero*, arXiv 2503.18886).
        interval, channels, rescale, from_conditional: as for every rule, see `Guidance`. With from_conditional,
            v = v_c + w_max exp(-alpha rho) (v_c - v_u).

    Attributes:
        last_ratio, last_weight: rho and w of the last call, on its device; [B], or scalars with the other reductions.

    Raises `ConfigError` for values outside these ranges.
    """

    max_guidance_scale: float = 18.0
    alpha: float = 12.0
    reduction: Reduction = "sample"
    eps: float = 1e-8
    zero_star: bool = False
    last_ratio: Tensor | None = field(default=None, init=False, repr=False, compare=False)
    last_weight: Tensor | None = field(default=None, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_guidance_scale < 1 or self.alpha < 0:
            found = f"max_guidance_scale {self.max_guidance_scale}, alpha {self.alpha}"
            raise ConfigError(f"{found}, expected a scale of at least 1 and an alpha of at least 0")
        if self.reduction not in REDUCTIONS:
            raise ConfigError(f"reduction {self.reduction!r}, expected one of {', '.join(REDUCTIONS)}")

    def active(self, t: float) -> bool:
        return (self.max_guidance_scale != 1 or self.from_conditional) and super().active(t)

    def combine(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        v_c, v_u = at_least_float32(conditional), at_least_float32(unconditional)
        if self.zero_star:
            v_u = projection_scale(v_c, v_u) * v_u
        self.last_ratio = guidance_ratio(v_c, v_u, self.reduction, self.eps)
        if self.from_conditional:
            self.last_weight = self.max_guidance_scale * torch.exp(-self.alpha * self.last_ratio)
        else:
            self.last_weight = guidance_weight(self.last_ratio, self.max_guidance_scale, self.alpha)
        weight = self.last_weight.view(-1, *[1] * (v_c.ndim - 1))
        return self.add(v_c, v_u, weight).to(conditional.dtype)


@dataclass
class RatioProbe(Guidance):
    """No guidance, but a record of the ratio, from which an alpha can be chosen.

    Attributes:
        times, ratios: time and rho [B] of every evaluation of the last trajectory.
    """

    times: list[float] = field(default_factory=list, init=False, repr=False, compare=False)
    ratios: list[Tensor] = field(default_factory=list, init=False, repr=False, compare=False)

    def reset(self, grid: Sequence[float] | None = None) -> None:
        """Begin a new record."""
        self.times, self.ratios = [], []

    def combine(self, conditional: Tensor, unconditional: Tensor, t: float) -> Tensor:
        self.times.append(t)
        self.ratios.append(guidance_ratio(at_least_float32(conditional), at_least_float32(unconditional)))
        return conditional


def suggested_alpha(ratios: Sequence[Tensor]) -> float:
    """1 / rho in the middle of a trajectory: there the guidance times its weight is largest; waits for the device.

    Raises `ConfigError` without ratios.
    """
    if not ratios:
        raise ConfigError("there is no ratio to choose alpha by: no step was guided")
    return 1 / max(ratios[len(ratios) // 2].mean().item(), SMALLEST_RATIO)


def guidance_ratio(
    conditional: Tensor, unconditional: Tensor, reduction: Reduction = "sample", eps: float = 1e-8
) -> Tensor:
    """rho = |v_c - v_u| / max(|v_u|, eps) of velocities [B, ...]: [B], or a scalar for `global` and `batch_mean`."""
    first = 0 if reduction == "global" else 1
    difference, base = (
        torch.linalg.vector_norm(x.flatten(first), dim=-1) for x in (conditional - unconditional, unconditional)
    )
    ratio = difference / base.clamp_min(eps)
    return ratio.mean() if reduction == "batch_mean" else ratio


def guidance_weight(ratio: Tensor, max_guidance_scale: float, alpha: float) -> Tensor:
    """w = 1 + (w_max - 1) exp(-alpha rho), like the ratio."""
    return 1 + (max_guidance_scale - 1) * torch.exp(-alpha * ratio)
