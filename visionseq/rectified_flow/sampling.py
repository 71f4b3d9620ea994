"""Few-step samplers of rectified flows (arXiv 2405.20320, section 5).

The ODE dx/dt = v runs from t = 1 (noise) to t = 0 (image) on the grid t_0 = 1 - 1e-5, t_i = (N - i) / N, t_N = 0 and
starts at z (1 - 1e-5). Two rules move the state over a step:

    default   x <- x + v (t_{i+1} - t_i)
    new       x <- (1 - t_{i+1}) x0hat + t_{i+1} z_start,     x0hat = x - t_i v

The new rule re-anchors the state to the line that begins at the initial noise of the trajectory; on a straight flow
and for N = 1 both agree. Heun uses the rule for its predictor and for its step; its last step is Euler.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.flow.guidance import GuidanceRule, chosen_rule, guided
from visionseq.flow.paths import Linear
from visionseq.flow.solvers import Callback, Field, Step, Trajectory, euler, heun, integrate, with_last
from visionseq.nn.precision import at_least_float32

PATH = Linear(data_at=0)  # the clock of the room
T_START = 1 - 1e-5  # sigma = t / (1 - t) does not exist at t = 1

Velocity = Callable[..., Tensor]
Solver = Literal["euler", "heun"]
Rule = Literal["default", "new"]


@torch.no_grad()
def sample(
    velocity: Velocity,
    z: Tensor,
    steps: int = 1,
    solver: Solver = "euler",
    rule: Rule = "new",
    t_steps: Sequence[float] | None = None,
    class_labels: Tensor | None = None,
    guidance_scale: float = 1.0,
    guidance: GuidanceRule | None = None,
    callback: Callback | None = None,
    record: bool = True,
) -> Trajectory:
    """Images from unit noise.

    Args:
        velocity: v(x_t [B, C, H, W], t [B], class_labels).
        z: unit noise [B, C, H, W]; the state has its dtype, at least float32.
        steps: evaluations of the velocity; odd for Heun, which makes (steps + 1) / 2 steps of them.
        solver: `euler` or `heun`.
        rule: `new`, the one of the published few-step results, or `default`.
        t_steps: falling times inside (0, 1] of the steps instead of the even grid, replacing `steps`; the first becomes
            1 - 1e-5 and 0 is appended.
        class_labels: classes of a conditional model, int64 [B] or one-hot [B, label_dim].
        guidance_scale: 1 is no guidance; otherwise v = v_none + scale (v_class - v_none), at two evaluations.
        guidance: a rule of `visionseq.flow.guidance` in place of the scale.
        callback: called after each step with (step, t reached, state).
        record: keep states and predictions.

    Returns:
        Trajectory whose `predictions` are x0hat: seen from the state for Euler, from the predicted point for Heun.

    Raises `ConfigError` for an unknown solver or rule, or a number of steps or times that is not possible.
    """
    grid = time_grid(steps, solver, t_steps)
    start = at_least_float32(z) * T_START
    field = guided(velocity, class_labels, rule=chosen_rule(guidance, guidance_scale), grid=grid)
    step = solver_step(solver, grid[-1]) if rule == "default" else _anchored_step(rule, solver, grid[-1], start)
    return integrate(step, field, start, grid, callback, record, predict=predicted_image)


def time_grid(steps: int, solver: Solver = "euler", t_steps: Sequence[float] | None = None) -> list[float]:
    """Falling times from 1 - 1e-5 to 0: even ones for `steps` evaluations, or those of `t_steps`."""
    count = intervals(steps if t_steps is None else 1, solver)
    if t_steps is None:
        return [T_START, *((count - i) / count for i in range(1, count)), 0.0]
    grid = [T_START, *map(float, t_steps[1:]), 0.0]
    if not len(t_steps) or any(t <= following for t, following in pairwise(grid)):
        raise ConfigError(f"t_steps: {list(t_steps)}, expected falling times inside (0, 1]")
    return grid


def intervals(steps: int, solver: Solver) -> int:
    """Intervals of a grid that cost `steps` evaluations: Heun's last step is Euler, so it needs an odd number.

    Raises `ConfigError` for other numbers and unknown solvers.
    """
    check_solver(solver)
    if steps < 1 or (solver == "heun" and steps % 2 == 0):
        expected = "an odd number of evaluations" if solver == "heun" else "at least 1"
        raise ConfigError(f"steps: {steps} for {solver}, expected {expected}")
    return (steps + 1) // 2 if solver == "heun" else steps


def solver_step(solver: Solver, end: float | None = None) -> Step:
    """Euler's or Heun's step; the slope does not exist at time `end`, which Heun reaches by Euler's step.

    Raises `ConfigError` for an unknown solver.
    """
    check_solver(solver)
    return euler if solver == "euler" else heun if end is None else with_last(heun, euler, end)


def check_solver(solver: str) -> None:
    """Raise `ConfigError` unless the solver is `euler` or `heun`."""
    if solver not in ("euler", "heun"):
        raise ConfigError(f"solver {solver!r}, expected euler or heun")


def predicted_image(x_t: Tensor, v: Tensor, t: float | Tensor) -> Tensor:
    """x0hat = x_t - t v, the image at the end of a straight line; not clamped. t is a number or [B]."""
    return PATH.convert(x_t, v, t, "velocity", "data")


def _anchored_step(rule: str, solver: Solver, end: float, start: Tensor) -> Step:
    """The solver's step by the new rule: the state returns to the line that begins at `start`."""
    if rule != "new":
        raise ConfigError(f"rule {rule!r}, expected default or new")

    def moved(x: Tensor, v: Tensor, t: float, s: float) -> Tensor:
        return PATH.at(predicted_image(x, v, t), start, s)

    def anchored_euler(field: Field, x: Tensor, t: float, s: float) -> Tensor:
        return moved(x, field(x, t), t, s)

    def anchored_heun(field: Field, x: Tensor, t: float, s: float) -> Tensor:
        v = field(x, t)
        v_ahead = field(moved(x, v, t, s), s)
        return moved(x, (v + v_ahead) / 2, t, s)

    return anchored_euler if solver == "euler" else with_last(anchored_heun, anchored_euler, end)
