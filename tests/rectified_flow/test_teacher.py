"""The teacher's ODE on Gaussian data, whose denoiser and solution are known exactly."""

import math

import pytest
import torch

from visionseq.errors import ConfigError
from visionseq.pixels import to_uint8
from visionseq.rectified_flow.teacher import SIGMA_MAX, edm_invert, edm_sample, edm_sigmas

DEVIATION = 0.4


def denoiser(y, sigma, labels=None):
    """E[x | y] for x ~ N(0, 0.4^2), and for class 1 shifted by one."""
    sigma, shift = sigma.double().view(-1, 1, 1, 1), 0.0
    if labels is not None:
        shift = labels.double().view(-1, 1, 1, 1)
    return shift + (y - shift) * DEVIATION**2 / (DEVIATION**2 + sigma**2)


def solution(z):
    """The end of the ODE from 80 z."""
    return z.double() * SIGMA_MAX * DEVIATION / math.sqrt(DEVIATION**2 + SIGMA_MAX**2)


def noise(rows=3, seed=0):
    return torch.randn(rows, 1, 4, 4, generator=torch.Generator().manual_seed(seed))


def test_levels():
    sigmas = edm_sigmas(18)
    assert len(sigmas) == 19
    assert sigmas.dtype == torch.float64
    assert sigmas[0].item() == pytest.approx(80)
    assert sigmas[-2].item() == pytest.approx(0.002)
    assert sigmas[-1] == 0
    assert (sigmas.diff() < 0).all()
    torch.testing.assert_close((sigmas[:-1] ** (1 / 7)).diff().diff(), torch.zeros(16, dtype=torch.float64))
    assert edm_sigmas(1).tolist() == pytest.approx([80, 0])


@pytest.mark.parametrize(("solver", "nfe", "tolerance"), [("heun", 35, 0.08), ("euler", 18, 0.2)])
def test_teacher_solves_its_ode(solver, nfe, tolerance):
    trajectory = edm_sample(denoiser, noise(), 18, solver)
    assert trajectory.nfe == nfe
    assert trajectory.x.dtype == torch.float64
    assert trajectory.states[0].equal(noise().double() * SIGMA_MAX)
    assert (trajectory.x / solution(noise()) - 1).abs().max() < tolerance


def test_heun_is_of_second_order():
    errors = [(edm_sample(denoiser, noise(), steps).x - solution(noise())).abs().max() for steps in (20, 40, 80)]
    assert errors[0] > 3 * errors[1] > 9 * errors[2]


def test_inversion_undoes_the_teacher():
    images = edm_sample(denoiser, noise(), 60).x
    found = edm_invert(denoiser, images, 60)
    assert found.dtype == torch.float32
    # The state at sigma_min is taken for the image, hence the relative error of sigma_min^2 / 2 / 0.4^2 and more.
    torch.testing.assert_close(found, noise(), rtol=0, atol=1e-2)


def test_guidance_and_labels():
    ones = torch.ones(3)
    plain = edm_sample(denoiser, noise(), class_labels=ones)
    assert plain.x.mean().item() == pytest.approx(1 + solution(noise()).mean().item(), abs=0.05)
    none = edm_sample(denoiser, noise(), class_labels=ones, guidance_scale=0.0)
    torch.testing.assert_close(none.x, edm_sample(denoiser, noise()).x)
    assert none.nfe == 2 * plain.nfe


def test_rounding_truncates():
    levels = torch.arange(256)
    assert to_uint8((levels / 127.5 - 128 / 127.5).double() + 1e-6).equal(levels.to(torch.uint8))
    assert to_uint8(torch.tensor([-9.0, -1.0, 0.0, 0.999, 1.0, 9.0])).tolist() == [0, 0, 128, 255, 255, 255]
    assert to_uint8(torch.tensor([0.0078])).item() == 128  # 128.99: floor, not round


def test_callback_and_record():
    seen = []
    bare = edm_sample(denoiser, noise(), 5, callback=lambda *call: seen.append(call[:2]), record=False)
    assert bare.states is None
    assert bare.x.equal(edm_sample(denoiser, noise(), 5).x)
    assert [sigma for _, sigma in seen] == edm_sigmas(5)[1:].tolist()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: edm_sample(denoiser, noise(), 0), "steps 0"),
        (lambda: edm_sample(denoiser, noise(), 5, sigma_min=90.0), "sigma_min 90.0"),
        (lambda: edm_sample(denoiser, noise(), 5, "rk45"), "solver 'rk45'"),
        (lambda: edm_invert(denoiser, noise(), 1), "at least the two levels"),
    ],
)
def test_what_does_not_fit_is_named(call, message):
    with pytest.raises(ConfigError, match=message):
        call()
