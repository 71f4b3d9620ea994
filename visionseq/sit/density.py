"""The density of data under the flow's ODE (arXiv 1810.01367, 2011.13456).

    log p(x_1) = log N(x_0; 0, I) - int_{t_0}^{t_1} div v(x_t, t) dt,      div v ~ e^T (dv/dx) e,   e = +1 or -1

The ODE carries the data back to noise, and with it the integral of the divergence, for which Hutchinson's estimate
takes one vector e for each sample and run. Clock: t = 0 is noise, t = 1 is data. For a model that needs a margin at the
data, the samples count as states at its end.

Legend: B batch; ... the axes of one sample.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.flow.dopri5 import dopri5
from visionseq.flow.guidance import guided
from visionseq.flow.sde import to_velocity
from visionseq.flow.solvers import Field, integrate
from visionseq.nn.precision import at_least_float32
from visionseq.sit.sampling import ODE_STEPS, STEPS_OF_ODE, Predictor, even_times
from visionseq.sit.transport import ode_interval


@dataclass(frozen=True)
class Likelihood:
    """The density of samples.

    Attributes:
        log_density: [B], natural logarithm, in the units of the data.
        noise: [B, ...], the state that the ODE reaches at the noise.
        nfe: network evaluations per sample.
    """

    log_density: Tensor
    noise: Tensor
    nfe: int

    @property
    def bits_per_dimension(self) -> Tensor:
        """[B]: -log2 p divided by the number of values.

        For 8-bit images in [-1, 1], dequantised, add log2(127.5) to have the bits of a pixel value.
        """
        return -self.log_density / (math.log(2) * self.noise[0].numel())


def likelihood(
    model: Predictor,
    data: Tensor,
    class_labels: Tensor | None = None,
    steps: int | None = None,
    solver: str = "dopri5",
    atol: float = 1e-6,
    rtol: float = 1e-3,
    probe: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> Likelihood:
    """The density of data [B, ...] under a `SiT`.

    Args:
        model: its gradients by the state are needed, its weights are not changed.
        data: samples in the units of the training, such as images in [-1, 1] or scaled latents.
        class_labels: int64 [B]; None: no class.
        steps: of the solvers with equal steps; default: 50.
        solver: `dopri5`, `euler`, `heun` or `midpoint`.
        atol, rtol: tolerances of dopri5.
        probe: the vectors e like data; None: random signs of `generator`.
        generator: of the signs; default: torch's global CPU generator.

    Raises `ConfigError` for an unknown solver.
    """
    x = at_least_float32(data)
    probe = _signs(x, generator) if probe is None else probe
    predict, to_slope = guided(model, class_labels), to_velocity(model.path, model.prediction)
    field = _with_divergence(lambda state, t: to_slope(state, predict(state, t), t), probe)

    # The state and the integral of the divergence, from the data to the noise, as one vector for each sample.
    start, end = ode_interval(model.path, model.prediction)
    state = torch.cat([x.flatten(1), x.new_zeros(len(x), 1)], 1)
    if solver == "dopri5":
        reached = dopri5(field, state, [end, start], atol, rtol, record=False).x
    elif solver in ODE_STEPS:
        times = even_times(end, start, steps or STEPS_OF_ODE)
        reached = integrate(ODE_STEPS[solver], field, state, times, record=False).x
    else:
        raise ConfigError(f"solver {solver!r}, expected dopri5, {', '.join(ODE_STEPS)}")

    noise, integral = reached[:, :-1], reached[:, -1]
    log_normal = -(noise.square() + math.log(2 * math.pi)).sum(1) / 2
    return Likelihood(log_normal + integral, noise.view_as(x), predict.nfe)


def _with_divergence(velocity: Field, probe: Tensor) -> Field:
    """The field of (state, integral) [B, D + 1]: the velocity, and its divergence as estimated with the probe."""

    def field(state_BD: Tensor, t: float) -> Tensor:
        with torch.enable_grad():
            x = state_BD[:, :-1].detach().reshape(probe.shape).requires_grad_()
            v = velocity(x, t)
            (product,) = torch.autograd.grad((v * probe).sum(), x)
        divergence_B = (product * probe).flatten(1).sum(1, keepdim=True)
        return torch.cat([v.detach().flatten(1), divergence_B], 1)

    return field


def _signs(x: Tensor, generator: torch.Generator | None) -> Tensor:
    device = "cpu" if generator is None else generator.device
    bits = torch.randint(2, x.shape, generator=generator, device=device)
    return (2 * bits - 1).to(x)
