"""The adaptive solver of Dormand and Prince, of fifth order: dopri5 (J. Comput. Appl. Math. 6, 1980).

    k_i = f(x + h sum_j a_ij k_j, t + c_i h),     x(t + h) = x + h sum_i b_i k_i,     error = h sum_i e_i k_i

A step counts where the mean square of error / (atol + rtol max(|x|, |x(t + h)|)) over all values is at most 1; from it
the length of the next step follows. The last slope of a step is the first of the next one. States at the times in
between come from the continuous extension of fourth order (Hairer, Norsett, Wanner, Solving Ordinary Differential
Equations I, section II.6). The last step ends at the last time, so the field is never asked outside the interval.

All rows of a state share their steps: a row depends, within the tolerance, on the batch it is in.

Legend: B batch; ... the axes of one state.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.flow.solvers import Callback, Field, Trajectory

NODES = (0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0)
STAGES = (
    (1 / 5,),
    (3 / 40, 9 / 40),
    (44 / 45, -56 / 15, 32 / 9),
    (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
    (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
    (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
)
ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)
DENSE = (
    *(-12715105075 / 11282082432, 0.0, 87487479700 / 32700410799, -10690763975 / 1880347072),
    *(701980252875 / 199316789632, -1453857185 / 822651844, 69997945 / 29380423),
)
SAFETY, SHORTEST, LONGEST = 0.9, 0.2, 10.0  # how far one step may change the length of the next
SMALLEST = 1e-10  # of the interval: a step below it tells that the field has no finite solution


def dopri5(
    field: Field,
    x: Tensor,
    times: Sequence[float],
    atol: float = 1e-6,
    rtol: float = 1e-3,
    callback: Callback | None = None,
    record: bool = True,
) -> Trajectory:
    """Carry the state x from the first time to the last one.

    Args:
        field: dx/dt at (state, time); one with an attribute `nfe` counts its own network evaluations.
        x: state at times[0], [B, ...], float32 or float64.
        times: when a state is wanted, rising or falling, at least two; they do not bound the steps.
        atol, rtol: absolute and relative tolerance of the error of one step.
        callback: called with (number, time, state) for each time after the first.
        record: keep the states.

    Returns:
        Trajectory with the states at `times`.

    Raises `ConfigError` for times that are no grid, tolerances that are not positive, and where the steps vanish
    because the field is not finite or too stiff.
    """
    _check(times, atol, rtol)
    solver = _Solver(field, atol, rtol, times[0], times[-1])
    states, number = [x], 1
    for step in solver.steps(x):
        while number < len(times) and step.reaches(times[number]):
            x = step.at(times[number])
            if record:
                states.append(x)
            if callback is not None:
                callback(number - 1, times[number], x)
            number += 1
    grid = torch.tensor(times, dtype=torch.float64)
    return Trajectory(x, grid, torch.stack(states) if record else None, None, solver.nfe)


@dataclass
class _Taken:
    """A step that was taken: its ends, the states there and the seven slopes [7, B, ...]."""

    t: float
    s: float
    x: Tensor
    x_next: Tensor
    slopes: Tensor

    def reaches(self, time: float) -> bool:
        return (time - self.s) * (self.s - self.t) <= 0

    def at(self, time: float) -> Tensor:
        """The state at a time inside the step."""
        if time == self.s:
            return self.x_next
        length = self.s - self.t
        share = (time - self.t) / length
        rise = self.x_next - self.x
        start = length * self.slopes[0] - rise
        end = rise - length * self.slopes[-1] - start
        middle = length * _combined(DENSE, self.slopes)
        return self.x + share * (rise + (1 - share) * (start + share * (end + (1 - share) * middle)))


class _Solver:
    """The steps from `start` to `end`."""

    def __init__(self, field: Field, atol: float, rtol: float, start: float, end: float):
        self.field, self.atol, self.rtol = field, atol, rtol
        self.start, self.end, self.calls = start, end, 0

    @property
    def nfe(self) -> int:
        return getattr(self.field, "nfe", self.calls)

    def steps(self, x: Tensor) -> Iterator[_Taken]:
        """The accepted steps, one after the other."""
        t, slope = self.start, self._slope(x, self.start)
        length = self._first_length(x, slope)
        while t != self.end:
            # A rest of less than a hundredth of the step is not worth a step of its own.
            last = abs(self.end - t) <= 1.01 * abs(length)
            s = self.end if last else t + length
            step = self._try(x, t, s, slope)
            error = self._size((s - t) * _combined(ERROR, step.slopes), x, step.x_next)
            length = (s - t) * _change(error)
            if error <= 1:
                yield step
                t, x, slope = s, step.x_next, step.slopes[-1]
            elif not abs(length) > SMALLEST * abs(self.end - self.start):
                raise ConfigError(
                    f"dopri5: the steps vanish at t = {t:g}; the field is not finite there, or too stiff for "
                    f"atol {self.atol:g} and rtol {self.rtol:g}"
                )

    def _slope(self, x: Tensor, t: float) -> Tensor:
        self.calls += 1
        return self.field(x, t)

    def _try(self, x: Tensor, t: float, s: float, slope: Tensor) -> _Taken:
        """One step, whatever its error: six evaluations."""
        slopes, ahead = [slope], x
        for node, weights in zip(NODES[1:], STAGES, strict=True):
            ahead = x + (s - t) * _combined(weights, slopes)
            slopes.append(self._slope(ahead, s if node == 1 else t + node * (s - t)))
        return _Taken(t, s, x, ahead, torch.stack(slopes))

    def _first_length(self, x: Tensor, slope: Tensor) -> float:
        """A length, with its sign, that one step of Euler's method suggests (Hairer et al., section II.4)."""
        whole = self.end - self.start
        state, change = self._size(x, x, x), self._size(slope, x, x)
        guess = 1e-6 if min(state, change) < 1e-5 else 0.01 * state / change
        guess = math.copysign(min(max(guess, SMALLEST * abs(whole)), abs(whole)), whole)
        ahead = self._slope(x + guess * slope, self.start + guess)
        bend = self._size(ahead - slope, x, x) / abs(guess)
        steepest = max(change, bend)
        length = max(1e-6, 1e-3 * abs(guess)) if steepest <= 1e-15 else (0.01 / steepest) ** (1 / 5)
        return math.copysign(min(100 * abs(guess), length, abs(whole)), whole)

    def _size(self, value: Tensor, x: Tensor, y: Tensor) -> float:
        """Root mean square of a value relative to the tolerance at the states x and y."""
        scale = self.atol + self.rtol * torch.maximum(x.abs(), y.abs())
        return (value / scale).square().mean().sqrt().item()


def _combined(weights: Sequence[float], slopes: Sequence[Tensor] | Tensor) -> Tensor:
    """sum_i w_i k_i over the slopes [N, B, ...]; weights of zero are left out."""
    products = [weight * slope for weight, slope in zip(weights, slopes, strict=True) if weight]
    return sum(products[1:], products[0])


def _change(error: float) -> float:
    """How many times longer the next step is."""
    if not math.isfinite(error):
        return SHORTEST
    if error == 0:
        return LONGEST
    return min(max(SAFETY * error ** (-1 / 5), SHORTEST), LONGEST)


def _check(times: Sequence[float], atol: float, rtol: float) -> None:
    steps = [s - t for t, s in pairwise(times)]
    if not steps or not (all(step > 0 for step in steps) or all(step < 0 for step in steps)):
        raise ConfigError(f"times {list(times)}, expected at least two, rising or falling")
    if not (atol > 0 and rtol >= 0):
        raise ConfigError(f"atol {atol}, rtol {rtol}, expected a positive atol and an rtol of at least 0")
