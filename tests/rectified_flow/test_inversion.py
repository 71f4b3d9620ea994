"""Inversion, reconstruction, translation, interpolation and their measures."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from visionseq.errors import ConfigError
from visionseq.rectified_flow.inversion import (
    Decoding,
    interpolate,
    inversion_metrics,
    invert,
    invert_from,
    reconstruct,
    slerp,
    translate,
)
from visionseq.rectified_flow.model import EDMVelocity, build_network

MEANS = torch.tensor([-0.5, 0.5])


def affine(x_t, t, labels):
    """The exact flow between N(mean, 0.25^2) of a class and noise: the optimal velocity E[z - x | x_t].

    Its ODE has x_t = (1 - t) mean + s z with s^2 = (1 - t)^2 / 16 + t^2, so it carries mean + 0.25 z to z.
    """
    t = t.double().view(-1, 1, 1, 1)
    mean = 0.0 if labels is None else MEANS[labels].view(-1, 1, 1, 1)
    variance = (1 - t) ** 2 / 16 + t**2
    return ((t - (1 - t) / 16) / variance * (x_t - (1 - t) * mean) - mean).to(x_t.dtype)


def images(labels, seed=0):
    z = torch.randn(len(labels), 1, 4, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return MEANS[labels].view(-1, 1, 1, 1) + 0.25 * z, z


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(1)


def test_inversion_finds_the_noise(generator):
    labels = torch.tensor([0, 1, 1])
    x, z = images(labels)
    trajectory = invert(affine, x, 401, "heun", labels, generator)
    torch.testing.assert_close(trajectory.x, z, rtol=0, atol=0.02)
    assert trajectory.nfe == 401
    assert trajectory.t[0] == 1e-3
    assert trajectory.t[-1] == 1


def test_start_moves_off_the_image_by_generator():
    x, _ = images(torch.tensor([0]))
    starts = [invert(affine, x, 1, generator=torch.Generator().manual_seed(s)).states[0] for s in (0, 0, 1)]
    assert starts[0].equal(starts[1])
    assert not starts[0].equal(starts[2])
    assert (starts[0] - x).abs().max() < 0.01


def test_last_prediction_is_the_noise_and_heun_ends_with_euler():
    x, _ = images(torch.tensor([0, 1]))
    for solver, steps in (("euler", 4), ("heun", 7)):
        trajectory = invert_from(x, affine, steps, solver)
        torch.testing.assert_close(trajectory.predictions[-1], trajectory.x)
        assert len(trajectory.predictions) == 4


def test_reconstruction_returns_the_image(generator):
    labels = torch.tensor([0, 1])
    x, z = images(labels)
    found, noise = reconstruct(affine, x, 201, "heun", labels, Decoding(201, "heun", "default"), generator)
    torch.testing.assert_close(found, x, rtol=0, atol=0.01)
    torch.testing.assert_close(noise, z, rtol=0, atol=0.05)


def test_translation_moves_to_the_other_class_and_keeps_the_noise(generator):
    source, target = torch.tensor([0, 0]), torch.tensor([1, 1])
    x, _ = images(source)
    found = translate(affine, x, source, target, 201, "heun", Decoding(201, "heun", "default"), generator)
    torch.testing.assert_close(found, x + 1.0, rtol=0, atol=0.02)


def test_interpolation_ends_in_the_two_images(generator):
    labels = torch.tensor([0, 1, 1])
    first, second = images(labels)[0], images(labels, seed=5)[0]
    weights = torch.tensor([0.0, 0.3, 1.0])
    path = interpolate(affine, first, second, weights, 201, "heun", labels, Decoding(201, "heun", "default"), generator)
    assert path.shape == (3, 3, 1, 4, 4)
    torch.testing.assert_close(path[0], first, rtol=0, atol=0.02)
    torch.testing.assert_close(path[2], second, rtol=0, atol=0.02)


def test_guidance_of_the_decoding_needs_classes_only_where_there_are_some():
    torch.manual_seed(0)
    config = {"type": "ResidualMLP", "img_resolution": 4, "in_channels": 1, "label_dim": 2}
    model, x = EDMVelocity(build_network(config)).eval(), images(torch.tensor([0, 1]))[0].float()
    labels = torch.tensor([0, 1])
    plain = translate(model, x, labels, labels, generator=torch.Generator().manual_seed(0))
    guided = translate(
        model, x, labels, labels, decoding=Decoding(guidance_scale=3.0), generator=torch.Generator().manual_seed(0)
    )
    assert not torch.allclose(plain, guided)
    reconstruct(model, x, decoding=Decoding(guidance_scale=3.0))


vectors = st.integers(0, 10_000).map(
    lambda seed: torch.randn(2, 3, 40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
)


@given(vectors, st.floats(0.0, 1.0))
@settings(deadline=None)
def test_slerp_endpoints_norm_and_symmetry(pair, w):
    a, b = pair
    torch.testing.assert_close(slerp(a, b, 0.0), a)
    torch.testing.assert_close(slerp(a, b, 1.0), b)
    torch.testing.assert_close(slerp(a, b, w), slerp(b, a, 1 - w), rtol=0, atol=1e-6)
    b = b * (a.norm(dim=1) / b.norm(dim=1))[:, None]
    torch.testing.assert_close(slerp(a, b, w).norm(dim=1), a.norm(dim=1), rtol=1e-6, atol=0)


@given(vectors, st.floats(0.0, 1.0), st.floats(0.1, 10.0))
@settings(deadline=None)
def test_slerp_of_parallel_vectors_is_linear(pair, w, factor):
    a = pair[0].float()
    found = slerp(a, factor * a, w)
    torch.testing.assert_close(found, (1 - w + w * factor) * a, rtol=1e-4, atol=1e-5)


def test_slerp_broadcasts_weights():
    a, b = torch.randn(2, 3, 40)
    w = torch.linspace(0, 1, 5)
    assert slerp(a, b, w[:, None]).shape == (5, 3, 40)
    assert slerp(a[:1], b[:1], w).shape == (5, 40)
    with pytest.raises(ConfigError, match="vectors of one length"):
        slerp(a, b[:, :7], 0.5)


def test_measures_of_gaussian_noise():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(4000, 1, 4, 4, generator=generator)
    image = torch.rand(z.shape, generator=generator)
    measures = inversion_metrics(image, image + 0.1, z)
    torch.testing.assert_close(measures.mse, torch.full((4000,), 0.01), rtol=1e-4, atol=0)
    assert measures.degrees == 16
    edges, density, expected = measures.histogram(30)
    assert (density * (edges[1:] - edges[:-1])).sum() == pytest.approx(1)
    assert abs(density - expected).max() < 0.15 * expected.max()
    assert expected[10] == pytest.approx(stats.chi2(16).pdf((edges[10] + edges[11]) / 2), rel=0.02)
    assert measures.gaussianity() < 0.03 < inversion_metrics(image, image, 1.2 * z).gaussianity()
