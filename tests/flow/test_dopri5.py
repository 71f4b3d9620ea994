"""The adaptive solver: exact solutions, scipy's solver of the same pair, its interval, fields without a solution."""

import math

import numpy as np
import pytest
import torch
from scipy.integrate import solve_ivp

from visionseq.errors import ConfigError
from visionseq.flow.dopri5 import ERROR, NODES, STAGES, dopri5


def start() -> torch.Tensor:
    return torch.tensor([[1.0, -0.5], [2.0, 0.25]], dtype=torch.float64)


def curved(x: torch.Tensor, t: float) -> torch.Tensor:
    """dx/dt = 3 cos(3 t) x, solved by x_0 exp(sin 3t)."""
    return 3 * math.cos(3 * t) * x


def exact(t: float) -> torch.Tensor:
    return start() * math.exp(math.sin(3 * t))


class Watched:
    """A field that keeps the times at which it was asked."""

    def __init__(self, field):
        self.field, self.times = field, []

    def __call__(self, x, t):
        self.times.append(t)
        return self.field(x, t)


def test_the_tableau_is_of_fifth_order():
    for node, weights in zip(NODES[1:], STAGES, strict=True):
        assert sum(weights) == pytest.approx(node)
    weights = np.array([*STAGES[-1], 0.0])
    for power in range(5):  # quadrature of t^power on [0, 1]
        assert weights @ np.array(NODES) ** power == pytest.approx(1 / (power + 1))
        if power < 4:  # the second solution is of fourth order
            assert np.array(ERROR) @ np.array(NODES) ** power == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(("first", "last"), [(0.0, 2.0), (2.0, 0.0)])
@pytest.mark.parametrize("rtol", [1e-4, 1e-7])
def test_states_at_all_times_follow_the_exact_solution(first, last, rtol):
    times = [first + (last - first) * number / 13 for number in range(14)]
    field = Watched(curved)
    x = exact(first)
    trajectory = dopri5(field, x, times, atol=rtol, rtol=rtol)
    expected = torch.stack([exact(t) for t in times])
    assert (trajectory.states - expected).abs().max() < 100 * rtol
    assert trajectory.states[0].equal(x)
    assert trajectory.states[-1].equal(trajectory.x)
    assert trajectory.t.tolist() == times
    assert trajectory.nfe == len(field.times)
    assert min(field.times) == 0
    assert max(field.times) == 2


def test_it_costs_as_much_as_scipy():
    def equation(t: float, x: np.ndarray) -> np.ndarray:
        return 3 * math.cos(3 * t) * x

    peer = solve_ivp(equation, (0, 2), start().flatten().numpy(), "RK45", rtol=1e-5, atol=1e-6)
    ours = dopri5(curved, start(), [0.0, 2.0], rtol=1e-5)
    assert abs(ours.nfe - peer.nfev) <= 12  # two steps
    np.testing.assert_allclose(ours.x.flatten(), peer.y[:, -1], rtol=1e-4)


def test_wanted_times_do_not_change_the_steps():
    few, many = (dopri5(curved, start(), torch.linspace(0, 2, n).tolist()) for n in (2, 50))
    assert few.nfe == many.nfe
    assert few.x.equal(many.x)
    assert many.states.shape == (50, 2, 2)


def test_a_bend_at_the_end_makes_short_steps_without_leaving_the_interval():
    field = Watched(lambda x, t: torch.full_like(x, 0.5 / math.sqrt(max(1 + 1e-6 - t, 0.0))))
    trajectory = dopri5(field, start(), [0.0, 1.0], rtol=1e-6)
    torch.testing.assert_close(trajectory.x, start() + math.sqrt(1 + 1e-6) - 1e-3, atol=1e-4, rtol=0)
    assert max(field.times) == 1.0


def test_a_state_at_rest_stays():
    assert dopri5(lambda x, t: torch.zeros_like(x), start(), [0.0, 1.0]).x.equal(start())


def test_callback_and_float32():
    calls = []
    times = [0.0, 0.5, 2.0]
    trajectory = dopri5(curved, start().float(), times, callback=lambda *call: calls.append(call), record=False)
    assert [(number, t) for number, t, _ in calls] == [(0, 0.5), (1, 2.0)]
    assert calls[-1][2] is trajectory.x
    assert trajectory.x.dtype == torch.float32
    assert trajectory.states is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_field_that_is_not_finite_is_an_error(value):
    with pytest.raises(ConfigError, match=r"steps vanish at t = 0\.\d+; the field is not finite"):
        dopri5(lambda x, t: x if t < 0.3 else x * value, start(), [0.0, 1.0])
    with pytest.raises(ConfigError, match="steps vanish at t = 0;"):
        dopri5(lambda x, t: x * value, start(), [0.0, 1.0])


def test_times_and_tolerances_that_are_not_possible():
    for times in ([0.0], [0.0, 0.0], [0.0, 1.0, 0.5]):
        with pytest.raises(ConfigError, match="expected at least two, rising or falling"):
            dopri5(curved, start(), times)
    with pytest.raises(ConfigError, match=r"atol 0\.0, rtol 0\.1, expected a positive atol"):
        dopri5(curved, start(), [0.0, 1.0], atol=0.0, rtol=0.1)
