"""The teacher's ODE: EDM's deterministic sampler (arXiv 2206.00364, algorithm 1 without churn).

    sigma_i = (sigma_max^(1/rho) + i/(N-1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho,  sigma_N = 0,   x = sigma_0 z

Each step follows d = (x - D(x; sigma_i)) / sigma_i; Heun averages it with the slope at the predicted point, except in
the last step, which makes 2N - 1 evaluations. The state is float64, the network float32. Images are stored by
truncation, unlike those of the few-step samplers.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.flow.guidance import GuidanceRule, Slope, chosen_rule, guided
from visionseq.flow.solvers import Callback, Trajectory, integrate
from visionseq.rectified_flow.sampling import Solver, solver_step

SIGMA_MIN, SIGMA_MAX, RHO = 0.002, 80.0, 7.0

Denoiser = Callable[..., Tensor]


@torch.no_grad()
def edm_sample(
    denoiser: Denoiser,
    z: Tensor,
    steps: int = 18,
    solver: Solver = "heun",
    class_labels: Tensor | None = None,
    guidance_scale: float = 1.0,
    guidance: GuidanceRule | None = None,
    rho: float = RHO,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    callback: Callback | None = None,
    record: bool = True,
) -> Trajectory:
    """Images from unit noise.

    Args:
        denoiser: D(y, sigma [B], class_labels).
        z: unit noise [B, C, H, W]; the ODE starts from sigma_max z.
        steps: N, the number of noise levels.
        solver: `heun` (2N - 1 evaluations) or `euler` (N).
        class_labels: classes of a conditional model, int64 [B] or one-hot [B, label_dim].
        guidance_scale: 1 is no guidance; otherwise D = D_none + scale (D_class - D_none), at two evaluations.
        guidance: a rule of `visionseq.flow.guidance` in place of the scale; it sees velocities, at the time sigma.
        rho, sigma_min, sigma_max: the noise levels.
        callback: called after each step with (step, sigma reached, state).
        record: keep states and predictions.

    Returns:
        Trajectory with float64 states; `predictions` are D, for Heun at the predicted point.
    """
    step = solver_step(solver, end=0.0)  # where the slope does not exist
    sigmas = edm_sigmas(steps, rho, sigma_min, sigma_max).tolist()
    rule = chosen_rule(guidance, guidance_scale)
    if guidance is None:
        field = Slope(guided(denoiser, class_labels, rule=rule), _slope)
    else:
        field = Slope(guided(_velocities(denoiser), class_labels, rule=rule, grid=sigmas), _slope_of_velocity)
    start = z.double() * sigmas[0]
    return integrate(step, field, start, sigmas, callback, record, predict=_denoised)


@torch.no_grad()
def edm_invert(
    denoiser: Denoiser,
    x: Tensor,
    steps: int = 18,
    solver: Solver = "heun",
    class_labels: Tensor | None = None,
    rho: float = RHO,
    sigma_min: float = SIGMA_MIN,
    sigma_max: float = SIGMA_MAX,
    callback: Callback | None = None,
) -> Tensor:
    """Unit noise [B, C, H, W] in float32 of which the teacher's ODE makes the images x.

    The ODE runs from sigma_min up to sigma_max over the same levels, where the state is divided by sigma_max. So pairs
    of real images come about (configuration G of arXiv 2405.20320, which leaves the solver open).
    """
    if steps < 2:
        raise ConfigError(f"steps: {steps}, expected at least the two levels sigma_min and sigma_max")
    sigmas = edm_sigmas(steps, rho, sigma_min, sigma_max).tolist()[-2::-1]
    field = Slope(guided(denoiser, class_labels), _slope)
    end = integrate(solver_step(solver), field, x.double(), sigmas, callback, record=False)
    return (end.x / sigma_max).float()


def edm_sigmas(steps: int, rho: float = RHO, sigma_min: float = SIGMA_MIN, sigma_max: float = SIGMA_MAX) -> Tensor:
    """Noise levels [steps + 1] in float64, falling from sigma_max to sigma_min and then 0.

    Raises `ConfigError` for fewer than 1 step or levels that do not fall.
    """
    if steps < 1 or not 0 < sigma_min < sigma_max or rho <= 0:
        raise ConfigError(
            f"steps {steps}, sigma_min {sigma_min}, sigma_max {sigma_max}, rho {rho}: "
            "expected at least 1 step, 0 < sigma_min < sigma_max and a positive rho"
        )
    ramp = torch.arange(steps, dtype=torch.float64) / max(steps - 1, 1)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas = (high + ramp * (low - high)) ** rho
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def _slope(x: Tensor, denoised: Tensor, sigma: float) -> Tensor:
    return (x - denoised.double()) / sigma


def _velocities(denoiser: Denoiser) -> Callable[..., Tensor]:
    """v = (x - (1 + sigma) D) / sigma: the velocity of the straight path, of which sigma is another clock."""

    def velocity(x: Tensor, sigma_B: Tensor, class_labels: Tensor | None) -> Tensor:
        sigma = sigma_B.view(-1, 1, 1, 1)
        return (x - (1 + sigma) * denoiser(x, sigma_B, class_labels).double()) / sigma

    return velocity


def _slope_of_velocity(x: Tensor, velocity: Tensor, sigma: float) -> Tensor:
    return _slope(x, (x - sigma * velocity) / (1 + sigma), sigma)


def _denoised(x: Tensor, slope: Tensor, sigma: float) -> Tensor:
    return x - sigma * slope
