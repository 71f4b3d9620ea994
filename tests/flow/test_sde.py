"""Stochastic samplers on Gaussian data, where velocity, score and moments are known at all times."""

import math
from itertools import pairwise

import pytest
import torch

from visionseq.errors import ConfigError
from visionseq.flow.guidance import Slope, guided
from visionseq.flow.paths import GVP, VP, Linear
from visionseq.flow.sde import (
    diffusion,
    euler_maruyama,
    integrate_sde,
    last_step,
    normal_noise,
    stochastic_heun,
    to_drift,
    to_velocity,
)
from visionseq.flow.solvers import euler, heun, integrate

MEAN, SPREAD = 0.7, 0.4  # of the data
FORMS = ["constant", "SBDM", "sigma", "linear", "decreasing", "increasing-decreasing"]
PATHS = [kind(data_at) for kind in (Linear, GVP, VP) for data_at in (0, 1)]


def names(path) -> str:
    return f"{type(path).__name__}-data at {path.data_at}"


def marginal(path, t: float) -> tuple[float, float]:
    """Mean and variance of x_t."""
    c = path.coefficients(t, torch.zeros(()))
    return float(c.alpha * MEAN), float(c.alpha**2 * SPREAD**2 + c.sigma**2)


def exact(path, kind: str):
    """The ideal model of Gaussian data: a conditional expectation, or the score."""

    def model(x, t, labels):
        t = t.double()
        mean, variance = marginal(path, float(t[0]))
        c = path.coefficients(float(t[0]), x)
        scaled = (x - mean) / variance
        data, noise = MEAN + c.alpha * SPREAD**2 * scaled, c.sigma * scaled
        return {"data": data, "noise": noise, "score": -scaled}.get(kind, path.velocity(data, noise, float(t[0])))

    return model


def grid(path, steps: int, margin: float = 1 / 64) -> list[float]:
    """Times from the noise to the data, inside the open interval; exact in float32, in which a model sees them."""
    inside = [margin + (1 - 2 * margin) * number / steps for number in range(steps + 1)]
    return inside if path.data_at == 1 else [1 - t for t in inside]


def moments(step, field, path, times: list[float]) -> tuple[float, float]:
    """Mean and variance at the end of an affine step x -> a x + b + c n, propagated without sampling.

    The rows (x, n) = (0, 0), (1, 0), (0, 1) of one evaluation give a, b and c; the step must take its noise from NOISE.
    """
    mean, variance = marginal(path, times[0])
    for t, s in pairwise(times):
        b, a, c = step(field, torch.tensor([[0.0], [1.0], [0.0]], dtype=torch.float64), t, s).flatten().tolist()
        a, c = a - b, c - b
        mean, variance = a * mean + b, a**2 * variance + c**2
    return mean, variance


NOISE = torch.tensor([[0.0], [0.0], [1.0]], dtype=torch.float64)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("path", PATHS, ids=names)
def test_every_diffusion_keeps_the_marginals(path, form):
    w = diffusion(form, path, 0.5)
    field = Slope(guided(exact(path, "velocity")), to_drift(path, "velocity", w))
    for solver in (euler_maruyama, stochastic_heun):
        errors = []
        for steps in (32, 128):
            times = grid(path, steps, margin=1 / 16)
            found = moments(solver(w, lambda x: NOISE), field, path, times)
            errors.append(max(abs(a - b) for a, b in zip(found, marginal(path, times[-1]), strict=True)))
        assert errors[1] < max(0.5 * errors[0], 1e-3)  # of first order, or too small to tell
        assert errors[1] < 0.05


@pytest.mark.parametrize("kind", ["velocity", "data", "noise", "score"])
@pytest.mark.parametrize("path", PATHS, ids=names)
def test_a_model_of_any_kind_gives_the_same_drift(path, kind):
    x = torch.tensor([[0.3], [-1.0]], dtype=torch.float64)
    w, t = diffusion("sigma", path), 0.375
    expected = Slope(guided(exact(path, "velocity")), to_drift(path, "velocity", w))(x, t)
    torch.testing.assert_close(Slope(guided(exact(path, kind)), to_drift(path, kind, w))(x, t), expected)
    ode = Slope(guided(exact(path, kind)), to_velocity(path, kind))
    torch.testing.assert_close(ode(x, t), exact(path, "velocity")(x, torch.full((2,), t), None))


@pytest.mark.parametrize("path", PATHS, ids=names)
def test_the_ode_carries_the_marginals_as_well(path):
    field = Slope(guided(exact(path, "noise")), to_velocity(path, "noise"))
    times = grid(path, 64, margin=1 / 16)
    found = moments(heun, field, path, times)
    assert found == pytest.approx(marginal(path, times[-1]), abs=2e-3)


def test_without_diffusion_a_step_is_that_of_the_ode():
    path, x = Linear(), torch.randn(3, 2, dtype=torch.float64)
    field = Slope(guided(exact(path, "velocity")), to_velocity(path, "velocity"))
    for stochastic, plain in ((euler_maruyama, euler), (stochastic_heun, heun)):
        step = stochastic(lambda t: 0.0, torch.randn_like)
        torch.testing.assert_close(step(field, x, 0.25, 0.5), plain(field, x, 0.25, 0.5))


def test_samples_follow_the_moments():
    path = Linear(data_at=0)
    w = diffusion("linear", path)
    field = Slope(guided(exact(path, "velocity")), to_drift(path, "velocity", w))
    start = torch.randn(4000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    step = euler_maruyama(w, normal_noise(torch.Generator().manual_seed(1)))
    end = integrate(step, field, start, grid(path, 64), record=False)
    assert end.nfe == 64
    assert end.x.mean().item() == pytest.approx(MEAN, abs=0.03)
    assert end.x.std().item() == pytest.approx(SPREAD, abs=0.03)


def test_one_generator_for_each_row_makes_rows_independent_of_the_batch():
    x = torch.zeros(3, 2, 2)
    whole = normal_noise([torch.Generator().manual_seed(seed) for seed in range(3)])
    alone = normal_noise([torch.Generator().manual_seed(2)])
    for _ in range(2):
        assert whole(x)[2:].equal(alone(x[:1]))


@pytest.mark.parametrize("data_at", [0, 1])
def test_forms_of_the_coefficient(data_at):
    path, t = Linear(data_at), 0.25
    d = t if data_at == 1 else 1 - t
    expected = {
        "constant": 2.0,
        "SBDM": 2 * (1 - d) / d,
        "sigma": 2 * (1 - d),
        "linear": 2 * (1 - d),
        "decreasing": (2 * math.cos(math.pi * d) + 1) ** 2 / 4,
        "increasing-decreasing": 2 * math.sin(math.pi * d) ** 2,
    }
    for form, value in expected.items():
        assert diffusion(form, path, 2.0)(t) == pytest.approx(value)
    with pytest.raises(ConfigError, match="'brownian', expected one of constant, SBDM"):
        diffusion("brownian", path)


@pytest.mark.parametrize("kind", ["velocity", "noise"])
@pytest.mark.parametrize("path", PATHS, ids=names)
def test_last_steps(path, kind):
    x, t, s = torch.tensor([[0.3], [-1.0]], dtype=torch.float64), 0.375, 0.5
    w, t_B = diffusion("sigma", path), torch.full((2,), t)
    predict = guided(exact(path, kind))
    c = path.coefficients(t, x)
    velocity, score = exact(path, "velocity")(x, t_B, None), exact(path, "score")(x, t_B, None)
    expected = {
        "mean": x + (velocity + path.direction * w(t) * score) * (s - t),
        "euler": x + velocity * (s - t),
        "tweedie": (x + c.sigma**2 * score) / c.alpha,
    }
    for number, (name, state) in enumerate(expected.items()):
        torch.testing.assert_close(last_step(name, path, kind, w)(predict, x, t, s), state)
        assert predict.nfe == number + 1
    with pytest.raises(ConfigError, match="'median', expected one of mean, euler, tweedie"):
        last_step("median", path, kind, w)


@pytest.mark.parametrize(("solver", "evaluations"), [(euler_maruyama, 5), (stochastic_heun, 9)])
def test_a_whole_run_evaluates_each_drift_once(solver, evaluations):
    path, x = GVP(), torch.randn(3, 2, dtype=torch.float64)
    w, times = diffusion("linear", path), [0.0, 0.25, 0.5, 0.75, 0.9]
    drift, last = to_drift(path, "velocity", w), last_step("mean", path, "velocity", w)
    predict = guided(exact(path, "velocity"))

    def run(last, seed=0):
        noise = normal_noise(torch.Generator().manual_seed(seed))
        return integrate_sde(solver(w, noise), predict, x, times, drift, last)

    whole = run((last, 1.0))
    assert whole.nfe == predict.nfe == evaluations
    assert whole.t.tolist() == [*times, 1.0]
    torch.testing.assert_close(whole.x, last(predict, whole.states[-2], 0.9, 1.0))
    cut = run(None)
    assert cut.states.equal(whole.states[:-1])
    by_hand = Slope(guided(exact(path, "velocity")), drift)
    step = solver(w, normal_noise(torch.Generator().manual_seed(0)))
    torch.testing.assert_close(cut.x, integrate(step, by_hand, x, times).x)
