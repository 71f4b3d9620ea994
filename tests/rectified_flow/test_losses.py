"""Velocity and denoising losses: definitions, invariants, precision and gradients."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visionseq.errors import ConfigError
from visionseq.metrics.features import FeatureCNN
from visionseq.rectified_flow.losses import LOSSES, edm_loss, pseudo_huber, sample_sigma, velocity_loss
from visionseq.rectified_flow.model import EDMDenoiser, EDMVelocity, build_network
from visionseq.rectified_flow.perceptual import classifier_distance


def batch(seed: int = 0, size: int = 8, rows: int = 4):
    generator = torch.Generator().manual_seed(seed)
    x, z, v = (torch.randn(rows, 1, size, size, generator=generator) for _ in range(3))
    t = torch.rand(rows, generator=generator) * 0.98 + 0.01
    return v, x.clamp(-1, 1), z, t


def distance_net(seed: int = 0):
    torch.manual_seed(seed)
    return classifier_distance(FeatureCNN(img_resolution=8))


def loss_of(name, v, x, z, t, **options):
    x_t = (1 - t.view(-1, 1, 1, 1)) * x + t.view(-1, 1, 1, 1) * z
    return velocity_loss(name, v, x, z, x_t, t, **options)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("divt", [False, True])
def test_per_sample_losses_do_not_depend_on_the_rest_of_the_batch(name, divt):
    v, x, z, t = batch()
    distance = distance_net()
    together = loss_of(name, v, x, z, t, divt=divt, perceptual=distance)
    single = [loss_of(name, *(a[i : i + 1] for a in (v, x, z, t)), divt=divt, perceptual=distance) for i in range(4)]
    assert together.shape == (4,)
    torch.testing.assert_close(together, torch.cat(single), rtol=1e-5, atol=1e-6)


@given(st.sampled_from(LOSSES), st.integers(0, 1000), st.booleans())
@settings(max_examples=40, deadline=None)
def test_losses_are_positive_and_vanish_at_the_target(name, seed, divt):
    v, x, z, t = batch(seed)
    distance = distance_net()
    assert (loss_of(name, v, x, z, t, divt=divt, perceptual=distance) > 0).all()
    at_target = loss_of(name, z - x, x, z, t, divt=divt, perceptual=distance)
    assert at_target.max() < 1e-6


def test_combined_loss_is_the_sum_of_its_parts():
    v, x, z, t = batch()
    distance = distance_net()
    huber = loss_of("huber", v, x, z, t)
    lpips = loss_of("lpips", v, x, z, t, perceptual=distance)
    torch.testing.assert_close(loss_of("lpips-huber", v, x, z, t, perceptual=distance), (1 - t) * huber + lpips)
    config_f = loss_of("lpips-huber", v, x, z, t, divt=True, perceptual=distance)
    torch.testing.assert_close(config_f, (1 - t) * huber + lpips / t)


@given(st.floats(1e-6, 1e4), st.integers(1, 3000))
@settings(deadline=None)
def test_pseudo_huber_lies_between_square_and_norm(scale, d):
    error = torch.full((1, d), scale, dtype=torch.float64)
    c, norm = 0.00054 * d, scale * d**0.5
    assert pseudo_huber(error).item() == pytest.approx(((norm**2 + c**2) ** 0.5 - c) / d, rel=1e-4, abs=1e-12)
    assert pseudo_huber(error).item() <= min(norm, norm**2 / (2 * c)) / d * (1 + 1e-9)


def test_small_errors_keep_their_huber_loss_in_float32():
    error = torch.full((1, 12288), 1e-6)
    exact = pseudo_huber(error.double()).float()
    torch.testing.assert_close(pseudo_huber(error), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_are_finite_at_the_target(name):
    _, x, z, t = batch()
    v = (z - x).requires_grad_()
    loss_of(name, v, x, z, t, divt=True, perceptual=distance_net()).sum().backward()
    assert v.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_autocast_does_not_touch_a_loss(name):
    v, x, z, t = batch()
    distance = distance_net()
    plain = loss_of(name, v, x, z, t, perceptual=distance)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = loss_of(name, v, x, z, t, perceptual=distance)
        half = loss_of(name, v.bfloat16(), x, z, t, perceptual=distance)
    assert cast.dtype == half.dtype == torch.float32
    assert cast.equal(plain)


def test_perceptual_term_over_t_stays_bounded():
    t = torch.logspace(-5, -1, 9)
    _, x, z, _ = batch(rows=9)
    torch.manual_seed(0)
    model = EDMVelocity(build_network({"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1}))
    x_t = (1 - t.view(-1, 1, 1, 1)) * x + t.view(-1, 1, 1, 1) * z
    loss = velocity_loss("lpips-huber", model(x_t, t), x, z, x_t, t, divt=True, perceptual=distance_net())
    loss.sum().backward()
    assert loss.isfinite().all()
    assert all(parameter.grad is None or parameter.grad.isfinite().all() for parameter in model.parameters())


def test_wrong_names_and_missing_distances_are_named():
    v, x, z, t = batch()
    with pytest.raises(ConfigError, match="'huberr', expected one of l2-squared"):
        loss_of("huberr", v, x, z, t)
    with pytest.raises(ConfigError, match="needs a perceptual distance"):
        loss_of("lpips", v, x, z, t)


def test_noise_levels_are_log_normal():
    log = sample_sigma(50_000, torch.Generator().manual_seed(0)).log()
    assert log.mean().item() == pytest.approx(-1.2, abs=0.02)
    assert log.std().item() == pytest.approx(1.2, abs=0.02)


def test_edm_loss_is_the_error_of_the_network_output():
    """With EDM's weight the loss is |F - target|^2: a network that gives 0 has a loss of 1 at every noise level."""
    torch.manual_seed(0)
    denoiser = EDMDenoiser(build_network({"type": "ResidualMLP", "img_resolution": 8, "in_channels": 1}))
    torch.nn.init.zeros_(denoiser.model.output.weight), torch.nn.init.zeros_(denoiser.model.output.bias)
    x, noise = 0.5 * torch.randn(600, 1, 8, 8), torch.randn(600, 1, 8, 8)
    for sigma in (0.01, 0.5, 20.0):
        loss = edm_loss(denoiser, x, torch.full((600,), sigma), noise)
        assert loss.shape == (600,)
        assert loss.mean().item() == pytest.approx(1.0, abs=0.02)
