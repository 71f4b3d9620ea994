"""Solvers on equations whose solution is known; what `integrate` counts, keeps and reports."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionseq.errors import ConfigError
from visionseq.flow.solvers import euler, heun, integrate, midpoint, with_last

ORDERS = [(euler, 1), (midpoint, 2), (heun, 2)]


def start() -> torch.Tensor:
    return torch.tensor([[1.0, -0.5], [2.0, 0.25]], dtype=torch.float64)


def curved(x: torch.Tensor, t: float) -> torch.Tensor:
    """dx/dt = cos(t) x, solved by x_0 exp(sin t)."""
    return math.cos(t) * x


def linspace(first: float, last: float, steps: int) -> list[float]:
    return [first + (last - first) * number / steps for number in range(steps + 1)]


@pytest.mark.parametrize(("step", "order"), ORDERS)
@pytest.mark.parametrize(("first", "last"), [(0.0, 2.0), (2.0, 0.0)])
def test_order_of_convergence_in_both_directions(step, order, first, last):
    exact = start() * math.exp(math.sin(last) - math.sin(first))
    errors = [(integrate(step, curved, start(), linspace(first, last, n)).x - exact).abs().max() for n in (40, 80)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-3, 3), st.floats(-3, 3))
def test_second_order_steps_are_exact_where_the_slope_is_linear_in_time(t, s, a, b):
    x = torch.tensor([0.5], dtype=torch.float64)
    exact = x + a * (s - t) + b * (s**2 - t**2) / 2
    for step in (midpoint, heun):
        torch.testing.assert_close(step(lambda x, t: torch.full_like(x, a + b * t), x, t, s), exact)


@pytest.mark.parametrize(("step", "evaluations"), [(euler, 4), (midpoint, 8), (heun, 8)])
def test_evaluations_states_and_callback(step, evaluations):
    grid, calls = [0.0, 0.1, 0.5, 0.6, 1.0], []
    trajectory = integrate(step, curved, start(), grid, callback=lambda *call: calls.append(call))
    assert trajectory.nfe == evaluations
    assert trajectory.t.tolist() == grid
    assert trajectory.states[0].equal(start())
    assert trajectory.states[-1].equal(trajectory.x)
    assert [(number, s) for number, s, _ in calls] == list(enumerate(grid[1:]))
    assert all(state.equal(kept) for (_, _, state), kept in zip(calls, trajectory.states[1:], strict=True))
    bare = integrate(step, curved, start(), grid, record=False)
    assert bare.x.equal(trajectory.x)
    assert bare.states is None
    assert bare.predictions is None
    with pytest.raises(ConfigError, match="record=True"):
        bare.straightness()


def test_predictions_come_from_the_last_evaluation_of_a_step():
    seen = []

    def predict(x, slope, t):
        seen.append((t, x))
        return x - t * slope

    trajectory = integrate(heun, curved, start(), [1.0, 0.5, 0.0], predict=predict)
    ahead = start() + curved(start(), 1.0) * -0.5
    assert [t for t, _ in seen] == [0.5, 0.0]
    torch.testing.assert_close(seen[0][1], ahead)
    torch.testing.assert_close(trajectory.predictions[0], ahead - 0.5 * curved(ahead, 0.5))


def test_the_last_interval_may_have_its_own_step():
    def singular(x, t):
        if t == 0:
            raise ZeroDivisionError
        return x / t

    with pytest.raises(ZeroDivisionError):
        integrate(heun, singular, start(), [1.0, 0.5, 0.0])
    trajectory = integrate(with_last(heun, euler, 0.0), singular, start(), [1.0, 0.5, 0.0])
    torch.testing.assert_close(trajectory.x, torch.zeros_like(start()))
    assert trajectory.nfe == 3


def test_straightness():
    line = integrate(euler, lambda x, t: torch.ones_like(x), start(), linspace(1.0, 0.0, 5))
    torch.testing.assert_close(line.straightness(), torch.zeros(2, dtype=torch.float64))
    bent = integrate(euler, lambda x, t: t * torch.ones_like(x), start(), [1.0, 0.5, 0.0])
    # Velocities 1 and 1/2 around their mean 3/4.
    torch.testing.assert_close(bent.straightness(), torch.full((2,), 1 / 16, dtype=torch.float64))


def test_a_grid_without_a_step_is_refused():
    with pytest.raises(ConfigError, match="at least two times"):
        integrate(euler, curved, start(), [1.0])
