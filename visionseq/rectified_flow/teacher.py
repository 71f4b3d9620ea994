"""The teacher's ODE: EDM's deterministic sampler (arXiv 2206.00364, algorithm 1 without churn).

    sigma_i = (sigma_max^(1/rho) + i/(N-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho,  sigma_N = 0,   x = sigma_0 z

Each step follows d = (x - D(x; sigma_i)) / sigma_i; Heun averages it with the slope at the predicted point, except in
the last step, which makes 2N - 1 evaluations. The state is float64, the network float32. Images are stored by
truncation, unlike those of the few-step samplers.
"""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.rectified_flow.trajectory import Trajectory

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0


def edm_sigmas(
    steps: int, rho: float = RHO, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX, device=None
) -> Tensor:
    """Noise levels [steps + 1] in float64, falling from sigma_max to sigma_min and then 0."""
    if steps < 1:
        raise ConfigError(f"steps {steps}, expected at least 1")
    ramp = torch.arange(steps, dtype=torch.float64, device=device) / max(steps - 1, 1)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)])


@torch.no_grad()
def edm_sample(
    denoiser: Callable[..., Tensor],
    z: Tensor,
    steps: int = 18,
    solver: Literal["euler", "heun"] = "heun",
    class_labels: Tensor | None = None,
    rho: float = RHO,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    callback: Callable[[int, float, Tensor], None] | None = None,
) -> Trajectory:
    """Images from unit noise.

    Args:
        denoiser: D(y, sigma, class_labels) with sigma [B].
        z: unit noise [B, C, H, W]; the ODE starts from sigma_max z.
        steps: N, the number of noise levels.
        solver: `heun` (2N - 1 evaluations) or `euler` (N).
        class_labels: classes of a conditional model.
        callback: called after each step with (step, sigma reached, state).

    Returns:
        Trajectory with float64 states [N + 1]; `predictions` are the last D evaluated in each step.
    """
    check_solver(solver)
    sigmas = edm_sigmas(steps, rho, sigma_min, sigma_max, device=z.device)
    return _follow(denoiser, z.double() * sigmas[0], sigmas, solver, class_labels, callback)


@torch.no_grad()
def edm_invert(
    denoiser: Callable[..., Tensor],
    x: Tensor,
    steps: int = 18,
    solver: Literal["euler", "heun"] = "heun",
    class_labels: Tensor | None = None,
    rho: float = RHO,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
) -> Tensor:
    """Unit noise [B, C, H, W] in float32 of which the teacher's ODE makes the images x.

    The ODE runs from sigma_min up to sigma_max, where the state is divided by sigma_max. This is how pairs of real
    images are made (configuration G of arXiv 2405.20320, whose released code has none).
    """
    check_solver(solver)
    sigmas = edm_sigmas(steps, rho, sigma_min, sigma_max, device=x.device)[:-1].flip(0)
    end = _follow(denoiser, x.double(), sigmas, solver, class_labels, None).x
    return (end / sigma_max).float()


def to_uint8(x: Tensor) -> Tensor:
    """8-bit image of a pair: floor(clip(127.5 x + 128, 0, 255))."""
    return (x * 127.5 + 128).clip(0, 255).to(torch.uint8)


def check_solver(solver: str) -> None:
    """Raise `ConfigError` unless the solver is `euler` or `heun`."""
    if solver not in ("euler", "heun"):
        raise ConfigError(f"solver {solver!r}, expected euler or heun")


def _follow(denoiser, x: Tensor, sigmas: Tensor, solver: str, class_labels, callback) -> Trajectory:
    """Integrate dx/dsigma = (x - D) / sigma along `sigmas`; the slope at sigma = 0 is never evaluated."""

    def denoise(state: Tensor, sigma: Tensor) -> Tensor:
        return denoiser(state, sigma.expand(len(state)), class_labels=class_labels).double()

    states, predictions, nfe = [x], [], 0
    for step, (sigma, following) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
        denoised = denoise(x, sigma)
        slope, nfe = (x - denoised) / sigma, nfe + 1
        moved = x + (following - sigma) * slope
        if solver == "heun" and following > 0:
            denoised, nfe = denoise(moved, following), nfe + 1
            moved = x + (following - sigma) * (slope + (moved - denoised) / following) / 2
        x = moved
        states.append(x)
        predictions.append(denoised)
        if callback is not None:
            callback(step, following.item(), x)
    return Trajectory(torch.stack(states), torch.stack(predictions), nfe)
