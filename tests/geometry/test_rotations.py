"""Quaternions, headings and the angle between headings, against scipy's rotations."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from visionseq.geometry.rotations import (
    headings_of,
    rotation_matrices,
    turn_between,
    unit_quaternions,
    upright_quaternions,
)

QUATERNIONS = np.random.default_rng(0).standard_normal((50, 4))  # of any length


def test_matrices_are_those_of_scipy():
    x, y, z, w = np.moveaxis(QUATERNIONS, -1, 0)[[1, 2, 3, 0]]
    expected = Rotation.from_quat(np.stack([x, y, z, w], -1)).as_matrix()
    assert np.allclose(rotation_matrices(QUATERNIONS), expected, atol=1e-14)
    assert rotation_matrices(QUATERNIONS.reshape(5, 10, 4)).shape == (5, 10, 3, 3)


def test_a_heading_is_where_the_x_axis_goes():
    ahead = rotation_matrices(QUATERNIONS)[:, :, 0]
    assert np.allclose(headings_of(QUATERNIONS), np.arctan2(ahead[:, 1], ahead[:, 0]), atol=1e-14)


def test_headings_come_back_from_upright_quaternions():
    headings = np.linspace(-3.1, 3.1, 63).reshape(7, 9)
    assert np.allclose(headings_of(upright_quaternions(headings)), headings, atol=1e-14)


@pytest.mark.parametrize("quaternion", [[0, 0, 0, 0], [np.inf, 0, 0, 0], [np.nan, 1, 0, 0], [1e200, 1e200, 0, 0]])
def test_what_has_no_length_has_no_heading(quaternion):
    assert np.isnan(unit_quaternions([quaternion, [2, 0, 0, 0]])).tolist() == [[True] * 4, [False] * 4]
    assert np.isnan(headings_of(quaternion))


@pytest.mark.parametrize(
    ("a", "b", "period", "turn"), [(3.1, -3.1, 2 * np.pi, 2 * np.pi - 6.2), (0.1, 3.1, np.pi, np.pi - 3)]
)
def test_the_smaller_angle_counts(a, b, period, turn):
    assert turn_between(a, b, period) == pytest.approx(turn)
    assert turn_between(b, a, period) == pytest.approx(turn)
