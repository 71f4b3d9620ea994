"""Time distributions: densities, inverses, range and repeatability of the draws."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from visionseq.errors import ConfigError
from visionseq.flow.time import (
    T_MIN,
    antithetic_t,
    exponential_cdf,
    exponential_icdf,
    exponential_pdf,
    logit_normal_t,
    sample_t,
    u_shape_cdf,
    u_shape_icdf,
    u_shape_pdf,
    uniform_t,
)

sharpness = st.floats(0.05, 30.0)
unit = st.floats(0.0, 1.0)


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@settings(deadline=None)
@given(sharpness, unit)
def test_inverse_of_the_cdf(a, u):
    torch.testing.assert_close(u_shape_cdf(u_shape_icdf(scalar(u), a), a), scalar(u), rtol=0, atol=1e-10)
    torch.testing.assert_close(exponential_cdf(exponential_icdf(scalar(u), a), a), scalar(u), rtol=0, atol=1e-10)


@settings(deadline=None)
@given(st.floats(0.05, 12.0), unit)
def test_inverse_of_the_inverse(a, u):  # for large a the CDF is too flat in the middle to be undone in float64
    torch.testing.assert_close(u_shape_icdf(u_shape_cdf(scalar(u), a), a), scalar(u), rtol=0, atol=1e-9)


@settings(deadline=None)
@given(sharpness, unit)
def test_u_shape_is_the_symmetric_mixture(a, u):
    mixture = (exponential_pdf(scalar(u), a) + exponential_pdf(scalar(1 - u), a)) / 2
    torch.testing.assert_close(u_shape_pdf(scalar(u), a), mixture, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(
        u_shape_cdf(scalar(u), a) + u_shape_cdf(scalar(1 - u), a), scalar(1.0), rtol=0, atol=1e-10
    )


@pytest.mark.parametrize("a", [0.1, 2.0, 4.0, 20.0])
def test_density_integrates_to_the_cdf(a):
    for upper in (0.2, 0.5, 1.0):
        area, _ = integrate.quad(lambda u: u_shape_pdf(scalar(u), a).item(), 0, upper)
        assert area == pytest.approx(u_shape_cdf(scalar(upper), a).item(), abs=1e-9)


def test_density_is_a_u_and_not_a_ramp():
    ends, middle = u_shape_pdf(torch.tensor([0.0, 1.0])), u_shape_pdf(torch.tensor(0.5))
    assert ends[0] == ends[1]
    assert ends[0] > 3 * middle


@settings(deadline=None)
@given(st.integers(1, 300), st.floats(1e-3, 700.0), st.booleans(), st.integers(0, 2**31))
def test_draws_stay_inside_and_repeat(n, a, antithetic, seed):
    draws = [sample_t(n, a, torch.Generator().manual_seed(seed), antithetic) for _ in range(2)]
    assert draws[0].shape == (n,)
    assert draws[0].dtype == torch.float32
    assert draws[0].equal(draws[1])
    low, high = torch.tensor([T_MIN, 1 - T_MIN], dtype=torch.float32)
    assert low <= draws[0].min()
    assert draws[0].max() <= high


@pytest.mark.parametrize("draw", [uniform_t, logit_normal_t])
def test_other_draws_stay_inside_and_repeat(draw):
    t = draw(5000, generator=torch.Generator().manual_seed(1))
    assert t.equal(draw(5000, generator=torch.Generator().manual_seed(1)))
    assert not t.equal(draw(5000, generator=torch.Generator().manual_seed(2)))
    assert t.min() >= T_MIN * 0.999
    assert t.max() < 1


@pytest.mark.parametrize("antithetic", [True, False])
def test_draws_follow_the_density(antithetic):
    t = sample_t(20_000, 4.0, torch.Generator().manual_seed(0), antithetic)
    test = stats.kstest(t.double().numpy(), lambda u: u_shape_cdf(torch.as_tensor(u), 4.0).numpy())
    assert test.pvalue > 0.01


def test_logit_normal_favours_the_middle_and_shifts():
    generator = torch.Generator().manual_seed(0)
    t = logit_normal_t(20_000, generator)
    assert stats.kstest(t.logit().double().numpy(), "norm").pvalue > 0.01
    assert logit_normal_t(20_000, generator, mean=1.0, std=0.5).mean() > 0.65


def test_antithetic_draw_takes_from_the_pool_of_u_and_its_mirror():
    q = torch.rand(16, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pool = antithetic_t(q, torch.arange(32), 4.0), antithetic_t(q, torch.arange(32).roll(16), 4.0)
    torch.testing.assert_close(pool[0] + pool[1], torch.ones(16))


def test_extreme_values_of_the_uniform():
    ends = antithetic_t(torch.tensor([0.0, 1.0], dtype=torch.float64), torch.arange(4), 4.0)
    torch.testing.assert_close(ends, torch.tensor([1e-5, 1 - 1e-5]), rtol=0, atol=1e-7)


@pytest.mark.parametrize("a", [0.0, -4.0, 1e4, float("nan")])
def test_impossible_sharpness_is_refused(a):
    with pytest.raises(ConfigError, match="a:"):
        sample_t(4, a)
