"""Stochastic differential equations with the marginals of a flow, for any diffusion coefficient w(t) >= 0.

    dx = (v + w s) dd + sqrt(2 w) dW        along the way d from noise to data (arXiv 2401.08740)

v is the velocity, s the score. With w = 0 it is the flow's ODE. A step takes its noise from a function, so that a
sampler decides where noise comes from: one generator, one for each image, or given values.

    drift = Slope(guided(model, labels, rule=rule), to_drift(path, "velocity", w))
    integrate(euler_maruyama(w, normal_noise(generator)), drift, start, grid)

Near the data the steps are cut short and one without noise goes the rest of the way. `integrate_sde` does both on a
field of predictions.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.flow.paths import Kind, Path
from visionseq.flow.solvers import Callback, Field, Step, Trajectory, euler, integrate, with_last

Diffusion = Callable[[float], float]
Noise = Callable[[Tensor], Tensor]
ToSlope = Callable[[Tensor, Tensor, float], Tensor]
Form = Literal["constant", "SBDM", "sigma", "linear", "decreasing", "increasing-decreasing"]
LastStep = Literal["mean", "euler", "tweedie"]
LAST_STEPS = ("mean", "euler", "tweedie")


def diffusion(form: Form, path: Path, norm: float = 1.0) -> Diffusion:
    """The coefficient w(t) by name (arXiv 2401.08740); d is the share of the way from noise to data.

        constant  norm              SBDM        norm g, the rate of the path's own diffusion
        sigma     norm sigma(t)     linear      norm (1 - d)
        decreasing  (norm cos(pi d) + 1)^2 / 4      increasing-decreasing  norm sin^2(pi d)

    `SBDM` is infinite where alpha = 0. Raises `ConfigError` for another name.
    """
    forms: dict[str, Diffusion] = {
        "constant": lambda t: norm,
        "SBDM": lambda t: norm * path.drift_variance(t, _SCALAR).item(),
        "sigma": lambda t: norm * path.coefficients(t, _SCALAR).sigma.item(),
        "linear": lambda t: norm * (1 - t if path.data_at == 1 else t),
        "decreasing": lambda t: (norm * math.cos(math.pi * _share(path, t)) + 1) ** 2 / 4,
        "increasing-decreasing": lambda t: norm * math.sin(math.pi * t) ** 2,
    }
    if form not in forms:
        raise ConfigError(f"diffusion form {form!r}, expected one of {', '.join(forms)}")
    return forms[form]


def to_velocity(path: Path, kind: Kind) -> ToSlope:
    """(state, prediction of a kind, time) -> velocity: the slope of the ODE."""
    return lambda x, prediction, t: path.convert(x, prediction, t, kind, "velocity")


def to_drift(path: Path, kind: Kind, w: Diffusion) -> ToSlope:
    """(state, prediction of a kind, time) -> drift of the SDE towards the data, per unit of the path's clock."""

    def drift(x: Tensor, prediction: Tensor, t: float) -> Tensor:
        velocity = path.convert(x, prediction, t, kind, "velocity")
        return velocity + path.direction * w(t) * path.convert(x, prediction, t, kind, "score")

    return drift


def euler_maruyama(w: Diffusion, noise: Noise) -> Step:
    """The step x + f(x, t) h + sqrt(2 w(t) |h|) n, with h = s - t and fresh noise n; one evaluation."""

    def step(drift: Field, x: Tensor, t: float, s: float) -> Tensor:
        return x + drift(x, t) * (s - t) + math.sqrt(2 * w(t) * abs(s - t)) * noise(x)

    return step


def stochastic_heun(w: Diffusion, noise: Noise) -> Step:
    """Heun's step from the state with its noise, y = x + sqrt(2 w(t) |h|) n; two evaluations (arXiv 2401.08740)."""

    def step(drift: Field, x: Tensor, t: float, s: float) -> Tensor:
        y = x + math.sqrt(2 * w(t) * abs(s - t)) * noise(x)
        slope = drift(y, t)
        slope_ahead = drift(y + slope * (s - t), s)
        return y + (slope + slope_ahead) / 2 * (s - t)

    return step


def last_step(name: LastStep, path: Path, kind: Kind, w: Diffusion) -> Step:
    """The step of an SDE that ends at the data, without noise; one evaluation, its field gives predictions of a kind.

        mean     x + drift h, the mean of a step of Euler and Maruyama
        euler    x + velocity h
        tweedie  (x + sigma^2 score) / alpha, the data that the prediction stands for, whatever h is

    Raises `ConfigError` for another name (arXiv 2401.08740, appendix).
    """
    if name == "tweedie":
        return lambda predict, x, t, s: path.convert(x, predict(x, t), t, kind, "data")
    if name not in LAST_STEPS:
        raise ConfigError(f"last step {name!r}, expected one of {', '.join(LAST_STEPS)}")
    return on_predictions(euler, to_drift(path, kind, w) if name == "mean" else to_velocity(path, kind))


def on_predictions(step: Step, to_slope: ToSlope) -> Step:
    """A solver's step for a field of predictions, of which `to_slope` makes the slope."""

    def of_predictions(predict: Field, x: Tensor, t: float, s: float) -> Tensor:
        return step(lambda state, time: to_slope(state, predict(state, time), time), x, t, s)

    return of_predictions


def integrate_sde(
    step: Step,
    predict: Field,
    x: Tensor,
    grid: Sequence[float],
    drift: ToSlope,
    last: tuple[Step, float] | None = None,
    callback: Callback | None = None,
    record: bool = True,
) -> Trajectory:
    """Carry the state x along a grid of times, then with the last step to its end.

    Args:
        step: `euler_maruyama` or `stochastic_heun`.
        predict: prediction at (state, time), such as `guided` makes it; each evaluation serves velocity and score.
        x: state at grid[0], [B, ...].
        grid: times towards the data, at least two.
        drift: the slope that `to_drift` makes of a prediction.
        last: the step of `last_step` from the end of the grid, and the time that it reaches; None: there is none.
        callback, record: as for `integrate`.

    Raises `ConfigError` for a grid of fewer than two times.
    """
    step = on_predictions(step, drift)
    if last is None or len(grid) < 2:
        return integrate(step, predict, x, grid, callback, record)
    without_noise, end = last
    return integrate(with_last(step, without_noise, end), predict, x, [*grid, end], callback, record)


def normal_noise(generator: torch.Generator | Sequence[torch.Generator]) -> Noise:
    """Standard normal noise like a state [B, ...], from one generator or from one for each row.

    With one for each row, a row does not depend on the batch it is in.
    """
    if isinstance(generator, torch.Generator):
        return lambda x: _normal(x.shape, generator, x)
    return lambda x: torch.cat([_normal((1, *x.shape[1:]), of_row, x) for of_row in generator])


_SCALAR = torch.zeros(())


def _share(path: Path, t: float) -> float:
    return t if path.data_at == 1 else 1 - t


def _normal(shape: Sequence[int], generator: torch.Generator, like: Tensor) -> Tensor:
    return torch.randn(shape, generator=generator, device=generator.device, dtype=like.dtype).to(like.device)
