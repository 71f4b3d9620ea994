"""Points in boxes: margins and faces of the four tests, agreement with the convex hull, and degenerate input."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial import Delaunay

from visionseq.errors import ConfigError
from visionseq.geometry import (
    DATABASE,
    HULL,
    LOCAL,
    NEAREST,
    boxes_to_corners,
    count_points,
    first_box,
    points_in_boxes,
    remove_points_in_boxes,
    rotate_z,
)

BOX = np.array([[0.0, 0, 0, 4, 2, 1, 0]])


@pytest.mark.parametrize(
    ("test", "inside", "outside"),
    [
        (HULL, 2.0, 2.001),
        (DATABASE, 2.0099, 2.01),
        (NEAREST, 2.000009, 2.00001),
        (LOCAL, 2.1, 2.101),
    ],
)
def test_where_the_front_face_is(test, inside, outside):
    points = np.array([[inside, 0, 0], [-inside, 0, 0], [outside, 0, 0], [-outside, 0, 0]])
    assert points_in_boxes(points, BOX, test).tolist() == [[True, True, False, False]]


@pytest.mark.parametrize("test", [HULL, DATABASE, NEAREST, LOCAL])
def test_top_and_bottom_belong_to_the_box_without_a_margin(test):
    points = np.array([[0, 0, 0.5], [0, 0, -0.5], [0, 0, 0.5001]])
    assert points_in_boxes(points, BOX, test).tolist() == [[True, True, False]]


@given(st.integers(0, 10**6))
def test_the_hull_is_the_hull_of_the_corners(seed):
    rng = np.random.default_rng(seed)
    boxes = rng.uniform([-3, -3, -3, 0.5, 0.5, 0.5, -7], [3, 3, 3, 4, 4, 4, 7], (3, 7))
    points = rng.uniform(-5, 5, (60, 3))
    expected = [Delaunay(corners).find_simplex(points) >= 0 for corners in boxes_to_corners(boxes)]
    assert np.array_equal(points_in_boxes(points, boxes, HULL), expected)


@given(st.floats(-7, 7))
def test_turning_box_and_points_together_changes_nothing(angle):
    rng = np.random.default_rng(5)
    boxes = rng.uniform([-3, -3, -1, 1, 1, 1, -3], [3, 3, 1, 4, 2, 2, 3], (4, 7))
    points = rng.uniform(-4, 4, (80, 3))
    turned = rotate_z(boxes, angle)
    turned[:, 6] += angle
    found = points_in_boxes(rotate_z(points, angle), turned, DATABASE)
    assert np.array_equal(found, points_in_boxes(points, boxes, DATABASE))


def test_counting_removing_and_the_first_box():
    boxes = np.concatenate([BOX, BOX + np.eye(7)[0]])
    points = np.array([[0, 0, 0, 7], [2.5, 0, 0, 8], [9, 0, 0, 9]], np.float32)
    assert count_points(points, boxes, DATABASE).tolist() == [1, 2]
    assert first_box(points, boxes).tolist() == [0, 1, -1]
    assert remove_points_in_boxes(points, boxes).tolist() == [[9, 0, 0, 9]]


def test_nothing_is_in_or_of_what_is_not_finite():
    points = np.array([[0, 0, 0], [np.nan, 0, 0], [np.inf, 0, 0], [0, 0, np.nan]])
    broken = np.concatenate([BOX, BOX, BOX])
    broken[1, 6], broken[2, 0] = np.inf, np.nan
    assert points_in_boxes(points, broken, LOCAL).sum(1).tolist() == [1, 0, 0]


def test_no_boxes_and_no_points():
    points = np.zeros((5, 4), np.float32)
    assert points_in_boxes(points, BOX[:0], HULL).shape == (0, 5)
    assert first_box(points, BOX[:0]).tolist() == [-1] * 5
    assert len(remove_points_in_boxes(points, BOX[:0])) == 5
    assert first_box(points[:0], BOX).shape == (0,)
    assert count_points(points[:0], BOX, HULL).tolist() == [0]


def test_what_does_not_fit_is_named():
    with pytest.raises(ConfigError, match="points of shape"):
        points_in_boxes(np.zeros((5, 2)), BOX, HULL)
    with pytest.raises(ConfigError, match="boxes of shape"):
        points_in_boxes(np.zeros((5, 3)), BOX[0], HULL)
