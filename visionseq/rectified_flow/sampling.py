"""Few-step samplers of rectified flows (arXiv 2405.20320, section 5).

The ODE dx/dt = v runs from t = 1 (noise) to t = 0 (image) on the grid t_0 = 1 - 1e-5, t_i = (N - i) / N, t_N = 0 and
starts at z (1 - 1e-5). Two rules move the state over a step:

    default   x <- x + v (t_{i+1} - t_i)
    new       x <- (1 - t_{i+1}) x0hat + t_{i+1} z_start,     x0hat = x - t_i v

The new rule re-anchors the state to the line that begins at the initial noise of the trajectory; on a straight flow
and for N = 1 both agree. Heun needs an odd number of evaluations: its last step is Euler.
"""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.rectified_flow.teacher import check_solver
from visionseq.rectified_flow.trajectory import Trajectory

T_START = 1 - 1e-5

Velocity = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@torch.no_grad()
def sample(
    velocity: Velocity,
    z: Tensor,
    steps: int = 1,
    solver: Literal["euler", "heun"] = "euler",
    rule: Literal["default", "new"] = "new",
    t_steps: Sequence[float] | None = None,
    class_labels: Tensor | None = None,
    guidance_scale: float = 1.0,
    callback: Callable[[int, float, Tensor], None] | None = None,
) -> Trajectory:
    """Images from unit noise.

    Args:
        velocity: v(x_t [B, C, H, W], t [B], class_labels).
        z: unit noise [B, C, H, W].
        steps: evaluations of the network; odd for Heun.
        t_steps: explicit falling times instead of the even grid; the first becomes 1 - 1e-5 and 0 is appended.
        class_labels: classes of a conditional model.
        guidance_scale: 1 is no guidance; otherwise v = v_none + scale (v_class - v_none).
        callback: called after each step with (step, t reached, state).

    Returns:
        Trajectory whose `predictions` are x0hat: from the state for Euler, from the predicted point for Heun.
    """
    check_solver(solver)
    if rule not in ("default", "new"):
        raise ConfigError(f"rule {rule!r}, expected default or new")
    grid = time_grid(steps, solver, t_steps)
    guided = guide(velocity, guidance_scale, class_labels)
    x = start = z * T_START
    states, predictions, nfe = [x], [], 0

    def move(state: Tensor, v: Tensor, t: float, following: float) -> Tensor:
        if rule == "default":
            return state + v * (following - t)
        return (1 - following) * (state - t * v) + following * start

    for step, (t, following) in enumerate(zip(grid[:-1], grid[1:], strict=True)):
        v, nfe = guided(x, t), nfe + 1
        prediction, moved = x - t * v, move(x, v, t, following)
        if solver == "heun" and step < len(grid) - 2:
            v_there, nfe = guided(moved, following), nfe + 1
            prediction, moved = moved - following * v_there, move(x, (v + v_there) / 2, t, following)
        x = moved
        states.append(x)
        predictions.append(prediction)
        if callback is not None:
            callback(step, following, x)
    return Trajectory(torch.stack(states), torch.stack(predictions), nfe)


def time_grid(steps: int, solver: str = "euler", t_steps: Sequence[float] | None = None) -> list[float]:
    """Falling times from 1 - 1e-5 to 0; `steps` counts evaluations, so Heun has (steps + 1) / 2 intervals."""
    if t_steps is not None:
        times = list(t_steps)
        if not times or any(a <= b for a, b in zip([1.0, *times[1:]], [*times[1:], 0.0], strict=True)):
            raise ConfigError(f"t_steps {times}, expected at least one time, falling and inside (0, 1)")
        return [T_START, *times[1:], 0.0]
    if steps < 1 or (solver == "heun" and steps % 2 == 0):
        kind = "an odd number of evaluations" if solver == "heun" else "at least 1"
        raise ConfigError(f"steps {steps} for {solver}, expected {kind}")
    intervals = (steps + 1) // 2 if solver == "heun" else steps
    return [T_START, *((intervals - i) / intervals for i in range(1, intervals)), 0.0]


def guide(velocity: Velocity, scale: float, class_labels: Tensor | None) -> Callable[[Tensor, float], Tensor]:
    """v(x, t) with t a number, under classifier-free guidance where the scale is not 1."""
    if scale != 1.0 and class_labels is None:
        raise ConfigError(f"guidance_scale {scale} needs class labels, which an unconditional model has not")

    def guided(x: Tensor, t: float) -> Tensor:
        t_B = torch.full((len(x),), t, dtype=torch.float32, device=x.device)
        v = velocity(x, t_B, class_labels)
        if scale == 1.0:
            return v
        v_none = velocity(x, t_B, None)
        return v_none + scale * (v - v_none)

    return guided
