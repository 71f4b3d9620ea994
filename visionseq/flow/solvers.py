"""Solvers of ordinary differential equations dx/dt = f(x, t), along a grid of times that rises or falls.

A *field* is a function (x, t) -> dx/dt. A *step* is a pure function (field, x, t, s) -> state at time s:

    euler      x + f(x, t) h,                                     h = s - t
    midpoint   x + f(x + f(x, t) h/2, t + h/2) h
    heun       x + (f(x, t) + f(x + f(x, t) h, s)) h/2

`integrate` walks the grid with one of them. Nothing here knows of networks, classes or guidance.

Legend: B batch, N steps; ... the axes of one state.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from visionseq.errors import ConfigError

Field = Callable[[Tensor, float], Tensor]
Callback = Callable[[int, float, Tensor], None]
Predict = Callable[[Tensor, Tensor, float], Tensor]


class Step(Protocol):
    """One step of a solver: the state at time s from the state x at time t."""

    def __call__(self, field: Field, x: Tensor, t: float, s: float, /) -> Tensor: ...


def euler(field: Field, x: Tensor, t: float, s: float) -> Tensor:
    """First order, one evaluation."""
    return x + field(x, t) * (s - t)


def midpoint(field: Field, x: Tensor, t: float, s: float) -> Tensor:
    """Second order, two evaluations, none of them at time s."""
    half = (s - t) / 2
    return x + field(x + field(x, t) * half, t + half) * (s - t)


def heun(field: Field, x: Tensor, t: float, s: float) -> Tensor:
    """Second order, two evaluations, the second one at time s."""
    slope = field(x, t)
    slope_ahead = field(x + slope * (s - t), s)
    return x + (slope + slope_ahead) / 2 * (s - t)


def with_last(step: Step, last: Step, end: float) -> Step:
    """`step` on every interval but the one that ends at `end`, which `last` takes.

    A field that does not exist at the end of the grid needs it: Heun's second evaluation would fall there.
    """

    def chosen(field: Field, x: Tensor, t: float, s: float) -> Tensor:
        return (last if s == end else step)(field, x, t, s)

    return chosen


@dataclass(frozen=True)
class Trajectory:
    """The course of an integration.

    Attributes:
        x: the end of the trajectory [B, ...].
        t: times [N + 1] of the states, float64.
        states: [N + 1, B, ...] from the start to the end, or None where they were not recorded.
        predictions: [N, B, ...], the end point predicted in each step, or None.
        nfe: network evaluations per sample.
    """

    x: Tensor
    t: Tensor
    states: Tensor | None
    predictions: Tensor | None
    nfe: int

    def straightness(self) -> Tensor:
        """[B]: mean over steps and values of (N (x_{i-1} - x_i) - (x_0 - x_N))^2; 0 for a straight line in equal steps.

        Equal steps are assumed, also for custom time grids, as in the official code of arXiv 2405.20320. Raises
        `ConfigError` where the states were not recorded.
        """
        if self.states is None:
            raise ConfigError("straightness needs the states of the trajectory: sample with record=True")
        base = self.states[0] - self.states[-1]
        velocity = (len(self.states) - 1) * (self.states[:-1] - self.states[1:])
        return (velocity - base).square().flatten(2).mean(2).mean(0)


def integrate(
    step: Step,
    field: Field,
    x: Tensor,
    grid: Sequence[float],
    callback: Callback | None = None,
    record: bool = True,
    predict: Predict | None = None,
) -> Trajectory:
    """Carry the state x along a grid of times.

    Args:
        step: the solver.
        field: dx/dt at (state, time). A field with an attribute `nfe` counts its own network evaluations; of others
            the calls are counted.
        x: state at grid[0], [B, ...].
        grid: times, rising or falling, at least two.
        callback: called after each step with (step, time reached, state).
        record: keep states and predictions.
        predict: end point (state, slope, time) -> [B, ...], called with the last evaluation of each step.

    Raises `ConfigError` for a grid of fewer than two times.
    """
    if len(grid) < 2:
        raise ConfigError(f"the grid {list(grid)} has no step, expected at least two times")
    evaluations = _Evaluations(field)
    states, predictions = [x], []
    for number, (t, s) in enumerate(pairwise(grid)):
        x = step(evaluations, x, t, s)
        if record:
            states.append(x)
            if predict is not None:
                predictions.append(predict(*evaluations.last))
        if callback is not None:
            callback(number, s, x)
    times = torch.tensor(grid, dtype=torch.float64)
    stacked = torch.stack(predictions) if predictions else None
    return Trajectory(x, times, torch.stack(states) if record else None, stacked, evaluations.nfe)


class _Evaluations:
    """A field that counts its calls and remembers the last one."""

    def __init__(self, field: Field):
        self.field, self.calls = field, 0

    def __call__(self, x: Tensor, t: float) -> Tensor:
        slope = self.field(x, t)
        self.calls += 1
        self.last = x, slope, t
        return slope

    @property
    def nfe(self) -> int:
        return getattr(self.field, "nfe", self.calls)
