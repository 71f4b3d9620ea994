"""Samplers of SiT: the flow's ODE, and SDEs with the same marginals for any diffusion coefficient (arXiv 2401.08740).

    ODE   dx = v dt                          euler, heun, midpoint, dopri5
    SDE   dx = (v + w s) dt + sqrt(2 w) dW   euler-maruyama, stochastic-heun; then one step without noise

Velocity v and score s come from one evaluation of the network, whatever it predicts. Clock: t = 0 is noise, t = 1 is
data; intervals are those of `transport`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.flow import sde
from visionseq.flow.dopri5 import dopri5
from visionseq.flow.guidance import GuidanceRule, GuidedField, Slope, guided
from visionseq.flow.paths import VP, Path
from visionseq.flow.sde import Form, LastStep, Noise
from visionseq.flow.solvers import Callback, Step, Trajectory, euler, heun, integrate, midpoint
from visionseq.nn.precision import at_least_float32
from visionseq.sit.transport import Prediction, ode_interval, sde_interval

Solver = Literal["euler", "heun", "midpoint", "dopri5", "euler-maruyama", "stochastic-heun"]
ODE_STEPS: dict[str, Step] = {"euler": euler, "heun": heun, "midpoint": midpoint}
SDE_STEPS: dict[str, Callable[[sde.Diffusion, Noise], Step]] = {
    "euler-maruyama": sde.euler_maruyama,
    "stochastic-heun": sde.stochastic_heun,
}
STEPS_OF_ODE, STEPS_OF_SDE = 50, 250


class Predictor(Protocol):
    """What a sampler needs of a model: its prediction, and what it stands for on which path."""

    path: Path
    prediction: Prediction

    def __call__(self, x: Tensor, t: Tensor, labels: Any, /) -> Tensor: ...

    def no_class(self, labels: Any, /) -> Any: ...


@torch.no_grad()
def sample(
    model: Predictor,
    z: Tensor,
    steps: int | None = None,
    solver: Solver = "heun",
    class_labels: Tensor | None = None,
    guidance: GuidanceRule | None = None,
    *,
    diffusion_form: Form = "sigma",
    diffusion_norm: float = 1.0,
    last_step: LastStep | None = "mean",
    last_step_size: float = 0.04,
    atol: float = 1e-6,
    rtol: float = 1e-3,
    noise: Noise | None = None,
    generator: torch.Generator | Sequence[torch.Generator] | None = None,
    callback: Callback | None = None,
    record: bool = True,
) -> Trajectory:
    """Images or latents from unit noise.

    Args:
        model: a `SiT`.
        z: unit noise [B, C, S, S]; the states have its dtype, at least float32.
        steps: equal steps, the last one of an SDE included; default: 50 of an ODE, 250 of an SDE. dopri5 chooses its
            own steps and returns this many states after the first.
        solver: of the ODE `euler`, `heun`, `midpoint` or `dopri5`, of the SDE `euler-maruyama` or `stochastic-heun`.
        class_labels: int64 [B]; None: no class.
        guidance: rule that combines the predictions with and without the class; both are made in one call.
        diffusion_form, diffusion_norm: the SDE's w(t), see `visionseq.flow.diffusion`.
        last_step: the SDE's last step: mean, euler or tweedie; None: there is none.
        last_step_size: its length.
        atol, rtol: tolerances of dopri5.
        noise: noise like a state, called once a step of the SDE; None: normal noise of `generator`.
        generator: one, or one for each row; default: torch's global CPU generator.
        callback: called after each step with (step, time reached, state).
        record: keep the states.

    Raises `ConfigError` for unknown names, numbers that are not possible, guidance without a class, and an SDE that
    would ask for the score where there is none.
    """
    x = at_least_float32(z)
    if solver in SDE_STEPS:
        grid, last = _sde_grid(model, steps, solver, diffusion_form, last_step, last_step_size)
        predict = _guided(model, class_labels, guidance, grid if last_step is None else [*grid, last])
        w = sde.diffusion(diffusion_form, model.path, _norm(diffusion_norm))
        noise = noise or sde.normal_noise(generator if generator is not None else torch.default_generator)
        step, drift = SDE_STEPS[solver](w, noise), sde.to_drift(model.path, model.prediction, w)
        ending = None if last_step is None else (sde.last_step(last_step, model.path, model.prediction, w), last)
        return sde.integrate_sde(step, predict, x, grid, drift, ending, callback, record)

    times = even_times(*ode_interval(model.path, model.prediction), _count(steps, STEPS_OF_ODE))
    predict = _guided(model, class_labels, guidance, times)
    field = Slope(predict, sde.to_velocity(model.path, model.prediction))
    if solver == "dopri5":
        return dopri5(field, x, times, atol, rtol, callback, record)
    if solver not in ODE_STEPS:
        raise ConfigError(f"solver {solver!r}, expected one of {', '.join((*ODE_STEPS, 'dopri5', *SDE_STEPS))}")
    return integrate(ODE_STEPS[solver], field, x, times, callback, record)


def _guided(model: Predictor, labels: Tensor | None, rule: GuidanceRule | None, grid: Sequence[float]) -> GuidedField:
    """The field of predictions; with a rule, both are made in one call of a doubled batch."""
    null = model.no_class(labels)
    if rule is not None and labels is not None and null is None:
        raise ConfigError(f"{type(rule).__name__}: the model has no label for no class (class_dropout_prob 0)")
    return guided(model, labels, null, rule, joint=rule is not None, grid=grid)


def _sde_grid(
    model: Predictor, steps: int | None, solver: str, form: str, last_step: str | None, size: float
) -> tuple[list[float], float]:
    """Times of the steps with noise, and the end of the last step."""
    count = _count(steps, STEPS_OF_SDE)
    if last_step is None:
        if solver == "stochastic-heun" and model.prediction == "velocity" and not isinstance(model.path, VP):
            raise ConfigError(
                "stochastic-heun without a last step would ask for the score at t = 1, where a velocity gives none; "
                "take a last step, or euler-maruyama"
            )
        return even_times(*sde_interval(model.path, model.prediction, form, 0.0), count), 1.0
    if not 0 < size < 1:
        raise ConfigError(f"last_step_size {size}, expected a number between 0 and 1")
    if count < 2:
        raise ConfigError(f"steps: {count} of an SDE, expected at least 2, of which the last is without noise")
    start, end = sde_interval(model.path, model.prediction, form, size)
    if not start < end:
        raise ConfigError(f"last_step_size {size} begins before the first step, at t = {end:g}")
    return even_times(start, end, count - 1), end + size


def even_times(start: float, end: float, steps: int) -> list[float]:
    """steps + 1 equally spaced times, rising or falling; the last one is `end` itself."""
    return [start + (end - start) * number / steps for number in range(steps)] + [end]


def _count(steps: int | None, default: int) -> int:
    if steps is not None and steps < 1:
        raise ConfigError(f"steps: {steps}, expected at least 1")
    return steps or default


def _norm(norm: float) -> float:
    if norm < 0:
        raise ConfigError(f"diffusion_norm {norm}, expected at least 0")
    return norm
