"""The Frechet distance: its invariants, singular covariances, statistics that do not depend on how they were fed."""

from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visionseq.errors import DataError
from visionseq.metrics.frechet import (
    empty_moments,
    feature_statistics,
    frechet_distance,
    mean_and_covariance,
    merge_moments,
    moments_of,
)

seeds = st.integers(0, 2**32 - 1)
widths = st.integers(1, 12)


def features(seed: int, rows: int, width: int, scale: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """Correlated rows."""
    random = np.random.default_rng(seed)
    return scale * random.normal(size=(rows, width)) @ random.normal(size=(width, width)) + offset


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return frechet_distance(*feature_statistics(a), *feature_statistics(b))


@given(seeds, widths, st.integers(2, 30), st.floats(1e-3, 1e3))
def test_distance_to_itself_is_zero(seed, width, rows, scale):
    a = features(seed, rows, width, scale)
    assert distance(a, a) <= 1e-10 * max(np.square(a).sum(1).mean(), 1e-30)


@given(seeds, seeds, widths, st.integers(2, 30))
def test_symmetric_and_not_negative(seed_a, seed_b, width, rows):
    a, b = features(seed_a, rows, width), features(seed_b, rows + 3, width, scale=2.0)
    there, back = distance(a, b), distance(b, a)
    assert there >= 0
    assert there == pytest.approx(back, rel=1e-7, abs=1e-7)


@given(seeds, widths, st.integers(2, 30), st.floats(-50, 50))
def test_translation_costs_its_squared_length(seed, width, rows, step):
    a = features(seed, rows, width)
    shift = step * np.random.default_rng(seed).normal(size=width)
    assert distance(a, a + shift) == pytest.approx(np.square(shift).sum(), rel=1e-8, abs=1e-8)


@given(seeds, widths)
def test_rotation_of_both_changes_nothing(seed, width):
    a, b = features(seed, 40, width), features(seed + 1, 40, width)
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, width)))[0]
    assert distance(a @ rotation, b @ rotation) == pytest.approx(distance(a, b), rel=1e-8, abs=1e-8)


@given(seeds, widths)
def test_equals_the_trace_of_the_matrix_root(seed, width):
    a, b = features(seed, 3 * width + 5, width), features(seed + 1, 3 * width + 9, width)
    (mu_a, sigma_a), (mu_b, sigma_b) = feature_statistics(a), feature_statistics(b)
    root = scipy.linalg.sqrtm(sigma_a @ sigma_b)
    expected = np.square(mu_a - mu_b).sum() + np.trace(sigma_a + sigma_b) - 2 * np.trace(root).real
    assert frechet_distance(mu_a, sigma_a, mu_b, sigma_b) == pytest.approx(expected, rel=1e-8, abs=1e-8)


def test_diagonal_gaussians_have_a_closed_form_also_when_singular():
    first, second = np.array([4.0, 1.0, 0.0, 9.0]), np.array([1.0, 0.0, 0.0, 16.0])
    expected = np.square(np.sqrt(first) - np.sqrt(second)).sum() + 4
    assert frechet_distance(np.zeros(4), np.diag(first), np.ones(4), np.diag(second)) == pytest.approx(
        expected, abs=1e-12
    )


def test_fewer_rows_than_features():
    a, b = features(1, 5, 64), features(2, 6, 64)
    # Both sets lie in a plane of 11 dimensions, where an orthonormal basis makes the problem small.
    basis = np.linalg.qr(np.concatenate([a, b]).T)[0]
    assert distance(a, b) == pytest.approx(distance(a @ basis, b @ basis), rel=1e-7)


def test_statistics_are_numpys():
    a = features(0, 50, 7, offset=3.0).astype(np.float32)
    mu, sigma = feature_statistics(a)
    assert mu.dtype == sigma.dtype == np.float64
    np.testing.assert_allclose(mu, a.astype(np.float64).mean(0), rtol=1e-12)
    np.testing.assert_allclose(sigma, np.cov(a.astype(np.float64), rowvar=False), rtol=1e-9)


@settings(max_examples=50)
@given(seeds, st.lists(st.integers(0, 9), min_size=1, max_size=6), st.floats(-1e6, 1e6))
def test_streaming_equals_one_batch(seed, sizes, offset):
    a = features(seed, sum(sizes) + 2, 5, offset=offset)
    edges = np.cumsum([0, *sizes, 2])
    batches = [torch.from_numpy(a[start:end]) for start, end in pairwise(edges)]
    streamed, whole = feature_statistics(iter(batches)), feature_statistics(a)
    for one, other in zip(streamed, whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-9 * max(1.0, abs(offset)))


@given(seeds, st.permutations(range(4)))
def test_merging_ignores_order_and_empty_sets(seed, order):
    a = torch.from_numpy(features(seed, 40, 3))
    parts = [moments_of(a[i * 10 : i * 10 + 10]) for i in range(4)]
    merged = merge_moments(torch.stack([empty_moments(3), *(parts[i] for i in order), empty_moments(3)]))
    for one, other in zip(mean_and_covariance(merged), feature_statistics(a), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_what_makes_no_gaussian_is_refused():
    mu, sigma = np.zeros(3), np.eye(3)
    with pytest.raises(DataError, match="3 and of 2 dimensions"):
        frechet_distance(mu, sigma, np.zeros(2), np.eye(2))
    with pytest.raises(DataError, match="covariance of shape"):
        frechet_distance(mu, np.eye(4), mu, sigma)
    with pytest.raises(DataError, match="not finite"):
        frechet_distance(mu, np.full((3, 3), np.nan), mu, sigma)
    with pytest.raises(DataError, match="at least two"):
        feature_statistics(np.zeros((1, 3)))
    with pytest.raises(DataError, match="at least two"):
        feature_statistics(iter([]))
    with pytest.raises(DataError, match="expected"):
        feature_statistics(np.zeros(3))
