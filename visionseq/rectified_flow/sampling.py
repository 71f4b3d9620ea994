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
from visionseq.rectified_flow.ode import Callback, Field, Move, Solver, Trajectory, euler_move, integrate, intervals

T_START = 1 - 1e-5  # sigma = t / (1 - t) does not exist at t = 1

Velocity = Callable[..., Tensor]
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
        callback: called after each step with (step, t reached, state).
        record: keep states and predictions.

    Returns:
        Trajectory whose `predictions` are x0hat: seen from the state for Euler, from the predicted point for Heun.

    Raises `ConfigError` for an unknown solver or rule, a number of steps or times that does not fit.
    """
    grid = time_grid(steps, solver, t_steps)
    start = z.to(torch.promote_types(z.dtype, torch.float32)) * T_START
    field = Field(velocity, class_labels, guidance_scale)
    return integrate(field, start, grid, solver, _mover(rule, start), _image, callback=callback, record=record)


def time_grid(steps: int, solver: Solver = "euler", t_steps: Sequence[float] | None = None) -> list[float]:
    """Falling times from 1 - 1e-5 to 0: even ones for `steps` evaluations, or those of `t_steps`."""
    count = intervals(steps if t_steps is None else 1, solver)
    if t_steps is None:
        return [T_START, *((count - i) / count for i in range(1, count)), 0.0]
    grid = [T_START, *map(float, t_steps[1:]), 0.0]
    if not len(t_steps) or any(t <= following for t, following in pairwise(grid)):
        raise ConfigError(f"t_steps: {list(t_steps)}, expected falling times inside (0, 1]")
    return grid


def _mover(rule: str, start: Tensor) -> Move:
    if rule == "default":
        return euler_move
    if rule != "new":
        raise ConfigError(f"rule {rule!r}, expected default or new")

    def move(x: Tensor, v: Tensor, t: float, following: float) -> Tensor:
        return (1 - following) * _image(x, v, t) + following * start

    return move


def _image(x: Tensor, v: Tensor, t: float) -> Tensor:
    return x - t * v
