"""Euler and Heun along a grid of times: what the samplers, the inversion and the teacher's ODE have in common.

The three differ in their clock, in how a state moves over an interval and in what a step predicts; those come in as
functions. Heun averages the slope with the one at the predicted point.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.flow.guidance import classifier_free

Solver = Literal["euler", "heun"]
Callback = Callable[[int, float, Tensor], None]
Move = Callable[[Tensor, Tensor, float, float], Tensor]
Predict = Callable[[Tensor, Tensor, float], Tensor]


@dataclass(frozen=True)
class Trajectory:
    """What an integration went through.

    Attributes:
        x: the end of the trajectory [B, C, H, W].
        t: times [N + 1] of the states (for the teacher: noise levels), float64.
        states: [N + 1, B, C, H, W] from the start to the end, or None where they were not recorded.
        predictions: [N, B, C, H, W], the end point predicted in each step, or None.
        nfe: network evaluations per sample; guidance takes two where there is one without.
    """

    x: Tensor
    t: Tensor
    states: Tensor | None
    predictions: Tensor | None
    nfe: int

    def straightness(self) -> Tensor:
        """[B]: mean over steps and pixels of (N (x_{i-1} - x_i) - (x_0 - x_N))^2; 0 for a straight line in equal steps.

        Equal steps are assumed, also for custom time grids, as in the official code of arXiv 2405.20320. Raises
        `ConfigError` where the states were not recorded.
        """
        if self.states is None:
            raise ConfigError("straightness needs the states of the trajectory: sample with record=True")
        base = self.states[0] - self.states[-1]
        velocity = (len(self.states) - 1) * (self.states[:-1] - self.states[1:])
        return (velocity - base).square().flatten(2).mean(2).mean(0)


class Field:
    """The slope dx/dt of an ODE at (state, time), made of a network, its classes and its guidance; counts evaluations.

    Args:
        network: f(x [B, C, H, W], t [B] in float32, class_labels) -> like x.
        class_labels: classes of a conditional model; None stands for the zero label vector.
        guidance_scale: 1 is no guidance; otherwise f = f(no class) + scale (f(class) - f(no class)).
        to_slope: (state, f, t) -> dx/dt where the network gives something else; None: f is the slope.

    Raises `ConfigError` for guidance without classes.
    """

    def __init__(
        self,
        network: Callable[..., Tensor],
        class_labels: Tensor | None = None,
        guidance_scale: float = 1.0,
        to_slope: Callable[[Tensor, Tensor, float], Tensor] | None = None,
    ):
        if guidance_scale != 1.0 and class_labels is None:
            raise ConfigError(f"guidance_scale {guidance_scale} needs class labels, and none are given")
        self.network, self.class_labels, self.scale = network, class_labels, guidance_scale
        self.to_slope = to_slope
        self.nfe = 0

    def __call__(self, x: Tensor, t: float) -> Tensor:
        # float32 as in the official code: sigma = t / (1 - t) and c_noise at t = 1 - 1e-5 depend on the rounding of t.
        t_B = torch.full((len(x),), t, dtype=torch.float32, device=x.device)
        y = self._evaluate(x, t_B, self.class_labels)
        if self.scale != 1.0:
            y = classifier_free(self._evaluate(x, t_B, None), y, self.scale)
        return y if self.to_slope is None else self.to_slope(x, y, t)

    def _evaluate(self, x: Tensor, t_B: Tensor, class_labels: Tensor | None) -> Tensor:
        self.nfe += 1
        return self.network(x, t_B, class_labels)


def integrate(
    field: Field,
    start: Tensor,
    grid: Sequence[float],
    solver: Solver,
    move: Move,
    predict: Predict,
    last_is_euler: bool = True,
    callback: Callback | None = None,
    record: bool = True,
) -> Trajectory:
    """Carry `start` along `grid`.

    Args:
        field: dx/dt at (state, time).
        start: state at grid[0].
        grid: times, rising or falling.
        move: (state, slope, time, next time) -> next state.
        predict: (state, slope, time) -> end point; Heun predicts from the point its first half reaches.
        last_is_euler: the slope at the end of the grid does not exist.
        callback: called after each step with (step, time reached, state).
        record: keep states and predictions.
    """
    x, states, predictions = start, [start], []
    for step, (t, following) in enumerate(pairwise(grid)):
        v = field(x, t)
        if solver == "heun" and not (last_is_euler and step == len(grid) - 2):
            ahead = move(x, v, t, following)
            v_ahead = field(ahead, following)
            prediction, x = predict(ahead, v_ahead, following), move(x, (v + v_ahead) / 2, t, following)
        else:
            prediction, x = predict(x, v, t), move(x, v, t, following)
        if record:
            states.append(x)
            predictions.append(prediction)
        if callback is not None:
            callback(step, following, x)
    kept = (torch.stack(states), torch.stack(predictions)) if record else (None, None)
    return Trajectory(x, torch.tensor(grid, dtype=torch.float64), *kept, field.nfe)


def euler_move(x: Tensor, v: Tensor, t: float, following: float) -> Tensor:
    """x + v (t' - t), the plain step."""
    return x + v * (following - t)


def check_solver(solver: str) -> None:
    """Raise `ConfigError` unless the solver is `euler` or `heun`."""
    if solver not in ("euler", "heun"):
        raise ConfigError(f"solver {solver!r}, expected euler or heun")


def intervals(steps: int, solver: Solver) -> int:
    """Intervals of a grid that cost `steps` evaluations: Heun's last step is Euler, so it needs an odd number.

    Raises `ConfigError` for other numbers and unknown solvers.
    """
    check_solver(solver)
    if steps < 1 or (solver == "heun" and steps % 2 == 0):
        expected = "an odd number of evaluations" if solver == "heun" else "at least 1"
        raise ConfigError(f"steps: {steps} for {solver}, expected {expected}")
    return (steps + 1) // 2 if solver == "heun" else steps
