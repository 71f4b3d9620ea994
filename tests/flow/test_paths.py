"""Paths in float64: derivatives against autograd, conversions there and back, both clocks, both ends."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from visionseq.errors import ConfigError
from visionseq.flow.paths import GVP, KINDS, VP, Linear

PATHS = [kind(data_at) for kind in (Linear, GVP, VP) for data_at in (0, 1)]
paths, times = st.sampled_from(PATHS), st.floats(0.01, 0.99)


def names(path) -> str:
    return f"{type(path).__name__}-data at {path.data_at}"


def data_and_noise(rows: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return tuple(torch.randn(rows, 2, 2, generator=generator, dtype=torch.float64) for _ in range(2))


def predictions(path, data, noise, t) -> dict[str, torch.Tensor]:
    sigma = path.coefficients(t, data).sigma
    return {"velocity": path.velocity(data, noise, t), "data": data, "noise": noise, "score": -noise / sigma}


@given(paths, times)
def test_velocities_are_the_derivatives_of_the_path(path, t):
    data, noise = data_and_noise()
    time = torch.tensor(t, dtype=torch.float64, requires_grad=True)
    c = path.coefficients(time, data)
    (alpha_dot,), (sigma_dot,) = (torch.autograd.grad(value, time, retain_graph=True) for value in c[:2])
    torch.testing.assert_close((c.alpha_dot.detach(), c.sigma_dot.detach()), (alpha_dot, sigma_dot))
    torch.testing.assert_close(path.velocity(data, noise, t), alpha_dot * data + sigma_dot * noise)


@given(paths, times)
def test_every_prediction_becomes_every_other(path, t):
    data, noise = data_and_noise()
    x_t, known = path.at(data, noise, t), predictions(path, data, noise, t)
    for source in KINDS:
        for target in KINDS:
            converted = path.convert(x_t, known[source], t, source, target)
            torch.testing.assert_close(converted, known[target], rtol=1e-7, atol=1e-7)


@given(paths, times)
def test_the_two_clocks_are_mirror_images(path, t):
    data, noise = data_and_noise()
    mirrored = type(path)(1 - path.data_at)
    torch.testing.assert_close(path.at(data, noise, t), mirrored.at(data, noise, 1 - t))
    torch.testing.assert_close(path.velocity(data, noise, t), -mirrored.velocity(data, noise, 1 - t))
    torch.testing.assert_close(path.drift_variance(t, data), mirrored.drift_variance(1 - t, data), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", PATHS, ids=names)
def test_ends(path):
    data, noise = data_and_noise()
    torch.testing.assert_close(path.at(data, noise, path.data_at), data)
    tolerance = 0.01 if isinstance(path, VP) else 1e-12  # a diffusion of finite length keeps a trace of the data
    torch.testing.assert_close(path.at(data, noise, 1 - path.data_at), noise, rtol=0, atol=5 * tolerance)
    velocity = path.velocity(data, noise, path.data_at) if not isinstance(path, VP) else None
    if velocity is not None:  # both ends follow from a velocity even where alpha or sigma is 0
        for end in (0, 1):
            found = path.data_and_noise(path.at(data, noise, end), path.velocity(data, noise, end), end)
            torch.testing.assert_close(found, (data, noise))


@pytest.mark.parametrize("path", PATHS, ids=names)
def test_variance(path):
    c = path.coefficients(torch.linspace(0.05, 0.95, 7, dtype=torch.float64), torch.zeros(7))
    if isinstance(path, Linear):
        torch.testing.assert_close(c.alpha + c.sigma, torch.ones(7, dtype=torch.float64))
    else:
        torch.testing.assert_close(c.alpha**2 + c.sigma**2, torch.ones(7, dtype=torch.float64))


@pytest.mark.parametrize("path", PATHS, ids=names)
def test_a_time_for_each_row(path):
    data, noise = data_and_noise()
    t = torch.tensor([0.2, 0.5, 0.9], dtype=torch.float64)
    rows = [path.at(data[i : i + 1], noise[i : i + 1], float(t[i])) for i in range(3)]
    torch.testing.assert_close(path.at(data, noise, t), torch.cat(rows))
    v = path.velocity(data, noise, t)
    torch.testing.assert_close(path.data_and_noise(path.at(data, noise, t), v, t)[0], data)


@pytest.mark.parametrize("path", PATHS, ids=names)
def test_the_drift_variance_splits_a_velocity_into_drift_and_score(path):
    data, noise = data_and_noise()
    t = 0.3
    c, x_t = path.coefficients(t, data), path.at(data, noise, t)
    score = -noise / c.sigma
    by_share = path.direction * c.alpha_dot / c.alpha * x_t + path.drift_variance(t, data) * score
    torch.testing.assert_close(path.direction * path.velocity(data, noise, t), by_share)


def test_closed_forms():
    x = torch.zeros(1)
    gvp = GVP().coefficients(1 / 3, x)
    assert [float(value) for value in gvp[:2]] == pytest.approx([0.5, math.sqrt(3) / 2])
    alpha = math.exp(-0.25 * 0.7**2 * 19.9 - 0.05 * 0.7)
    vp = VP().coefficients(0.3, x)
    assert [float(value) for value in vp[:2]] == pytest.approx([alpha, math.sqrt(1 - alpha**2)])
    assert VP().drift_variance(0.3, x).item() == pytest.approx((0.1 + 0.7 * 19.9) / 2)
    assert Linear().drift_variance(0.25, x).item() == pytest.approx(3.0)


def test_float32_states_keep_their_dtype_and_the_ends_their_digits():
    data, noise = (part.float() for part in data_and_noise())
    for path in PATHS:
        assert path.at(data, noise, 0.3).dtype == torch.float32
        assert path.convert(data, noise, 0.3, "velocity", "score").dtype == torch.float32
    near = 1e-6  # of sigma at the end of the data; formed as 1 - alpha^2 it would be lost
    sigma = VP(data_at=0).coefficients(torch.tensor([near]), data[:1]).sigma
    assert sigma.item() == pytest.approx(math.sqrt(-math.expm1(-0.1 * near - 19.9 * near**2 / 2)), rel=1e-5)


def test_unknown_names_are_refused():
    x = torch.zeros(1, 1)
    for call in (
        lambda: Linear(data_at=2),
        lambda: Linear().convert(x, x, 0.5, "image", "noise"),
        lambda: Linear().convert(x, x, 0.5, "image", "image"),
        lambda: Linear().convert(x, x, 0.5, "noise", "image"),
    ):
        with pytest.raises(ConfigError, match=r"expected (0 or 1|one of velocity, data, noise, score)"):
            call()
