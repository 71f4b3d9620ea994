"""Corners, rotations, angles, ranges and camera frames: values worked out by hand and round trips."""

import math

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from visionseq import geometry
from visionseq.errors import ConfigError

# The camera looks along the lidar's x axis from the same place.
CALIBRATION = geometry.Calibration(
    np.array([[700, 0, 600, 0], [0, 700, 180, 0], [0, 0, 1, 0]]),
    np.eye(3),
    np.array([[0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]]),
)
BOX = np.array([[10, -1, -1.25, 4, 1.8, 1.5, -math.pi / 2]])

numbers = st.floats(-50, 50)
sizes = st.floats(0.1, 10)
boxes = st.tuples(numbers, numbers, numbers, sizes, sizes, sizes, st.floats(-7, 7)).map(lambda box: np.array([box]))


def test_corners_of_a_box_turned_by_a_quarter():
    corners = geometry.boxes_to_corners(np.array([[0, 0, 0, 4, 2, 1.5, math.pi / 2]]))[0]
    lower = np.array([[-1, 2, -0.75], [1, 2, -0.75], [1, -2, -0.75], [-1, -2, -0.75]])
    assert np.allclose(corners[:4], lower)
    assert np.allclose(corners[4:], lower + np.array([0, 0, 1.5]))


@given(boxes)
def test_corners_lie_around_the_centre_at_the_half_diagonal(box):
    corners = geometry.boxes_to_corners(box)[0]
    assert np.allclose(corners.mean(0), box[0, :3])
    assert np.allclose(np.linalg.norm(corners - box[0, :3], axis=1), np.linalg.norm(box[0, 3:6]) / 2)


def test_rotation_turns_x_towards_y_and_keeps_the_rest():
    turned = geometry.rotate_z(np.array([[1, 0, 5, 7]], np.float32), math.pi / 2)
    assert turned.dtype == np.float32
    assert np.allclose(turned, [[0, 1, 5, 7]], atol=1e-7)


@given(st.floats(-1000, 1000))
def test_wrapped_angles(angle):
    wrapped = geometry.limit_period(angle)
    assert -math.pi <= wrapped <= math.pi
    assert math.isclose(math.cos(wrapped), math.cos(angle), abs_tol=1e-9)
    assert math.isclose(math.sin(wrapped), math.sin(angle), abs_tol=1e-9)


def test_pi_becomes_minus_pi_in_arrays_and_tensors():
    assert geometry.limit_period(np.array([math.pi, -math.pi])).tolist() == [-math.pi, -math.pi]
    assert torch.equal(geometry.limit_period(torch.tensor([3.5]), 0, math.pi), torch.tensor([3.5]) - math.pi)


def test_ranges_are_closed():
    points = np.array([[0, 0, 9], [1, 2, 3], [1, 2, 3.5], [1.01, 0, 0], [np.nan, 0, 0]])
    bounds = [0, 0, 0, 1, 2, 3]
    assert geometry.points_in_range(points, bounds).tolist() == [True, True, True, False, False]
    assert geometry.points_in_range(points, bounds, with_z=True).tolist() == [False, True, False, False, False]
    assert geometry.points_in_range(np.array([[1, 1, 1]]), [0.5, 0.5, 0.5, 1.5, 1.5, 1.5], with_z=True).all()
    edge = np.array([[1, 2, 3, 2, 2, 2, 0], [2, 2, 3, 2, 2, 2, 0], [2, 2, 3.1, 2, 2, 2, 0]])
    assert geometry.boxes_in_range(edge, bounds).tolist() == [True, False, False]
    assert geometry.boxes_in_range(edge, bounds, min_corners=2).tolist() == [True, True, True]
    assert geometry.boxes_in_range(edge, bounds, min_corners=3).tolist() == [False, False, False]


def test_a_box_grows_by_full_sizes():
    box = np.array([[1, 2, 3, 4, 5, 6, 0.5, 9, 9]])
    assert geometry.enlarge(box, [0.2, 0.4, 0]).tolist() == [[1, 2, 3, 4.2, 5.4, 6, 0.5, 9, 9]]
    assert box[0, 3] == 4


def test_a_camera_box_by_hand():
    camera = np.array([[1, 2, 10, 4, 1.5, 1.8, 0]])
    assert np.allclose(geometry.camera_to_lidar(camera, CALIBRATION), BOX)
    assert np.allclose(geometry.lidar_to_camera(BOX, CALIBRATION), camera)
    camera[:, 6] = -math.pi / 2
    assert geometry.camera_to_lidar(camera, CALIBRATION)[0, 6] == 0


@given(boxes)
def test_camera_and_fakelidar_boxes_return(box):
    camera = geometry.lidar_to_camera(box, CALIBRATION)
    assert np.allclose(geometry.camera_to_lidar(camera, CALIBRATION), box, atol=1e-4)
    assert np.allclose(geometry.fakelidar_to_lidar(geometry.lidar_to_fakelidar(box)), box)


def test_boxes_of_other_projects_by_hand():
    standing = np.array([[5, 1, 0.75, 4, 2, 1.5, math.pi / 2, 3.0]])  # its front to +y, on the ground; a velocity
    assert np.allclose(geometry.lidar_to_mmdet3d(standing), [[5, 1, 0, 4, 2, 1.5, math.pi / 2, 3]])
    root = math.sqrt(0.5)
    assert np.allclose(geometry.lidar_to_nuscenes(standing), [[5, 1, 0.75, 2, 4, 1.5, root, 0, 0, root]])
    tilted = np.array([[0, 0, 0, 2, 4, 1.5, math.cos(0.1), math.sin(0.1), 0, 0]])  # rolled about its own length
    assert np.allclose(geometry.nuscenes_to_lidar(tilted), [[0, 0, 0, 4, 2, 1.5, 0]])


@given(boxes, st.floats(0.1, 10))
def test_boxes_of_other_projects_return_with_the_heading_wrapped(box, length):
    own = box.copy()
    mmdet3d = geometry.mmdet3d_to_lidar(geometry.lidar_to_mmdet3d(box))
    nuscenes = geometry.nuscenes_to_lidar(geometry.lidar_to_nuscenes(box) * [*[1] * 6, *[length] * 4])
    for there_and_back in (mmdet3d, nuscenes):
        assert np.allclose(there_and_back[:, :6], box[:, :6])
        assert -math.pi <= there_and_back[0, 6] < math.pi
        assert math.isclose(math.cos(there_and_back[0, 6] - box[0, 6]), 1, abs_tol=1e-9)
    assert (box == own).all()


@given(boxes)
@example(np.array([[0.0, 0, 0, 1, 0.25, 1, 0]]))
def test_both_frames_have_the_same_corners(box):
    camera = geometry.camera_corners(geometry.lidar_to_camera(box, CALIBRATION))[0]
    lidar = CALIBRATION.lidar_to_rect(geometry.boxes_to_corners(box)[0])
    apart = np.linalg.norm(camera[:, None] - lidar[None], axis=2)
    assert (apart.min(0) < 1e-3).all()  # in whatever order
    assert (apart.min(1) < 1e-3).all()


def test_the_image_box_encloses_the_nearer_face():
    camera = np.array([[0, 1, 10, 2, 2, 2, 0]])  # 2 m wide and high, its face at 9 m
    half = 700 / 9
    assert np.allclose(geometry.image_boxes(camera, CALIBRATION), [[600 - half, 180 - half, 600 + half, 180 + half]])
    clipped = geometry.image_boxes(camera, CALIBRATION, (200, 640))
    assert np.allclose(clipped, [[600 - half, 180 - half, 639, 199]])


def test_no_boxes():
    none = np.zeros((0, 7), np.float32)
    assert geometry.boxes_to_corners(none).shape == (0, 8, 3)
    assert geometry.lidar_to_camera(none, CALIBRATION).shape == (0, 7)
    assert geometry.image_boxes(none, CALIBRATION, (10, 10)).shape == (0, 4)
    assert geometry.boxes_in_range(none, [0] * 6, min_corners=1).shape == (0,)


def test_what_does_not_fit_is_named():
    with pytest.raises(ConfigError, match=r"boxes of shape \(1, 7\), expected \[N, 10\]"):
        geometry.nuscenes_to_lidar(BOX)
    with pytest.raises(ConfigError, match=r"box 1: the quaternion .* is no rotation"):
        geometry.nuscenes_to_lidar(geometry.lidar_to_nuscenes(np.repeat(BOX, 2, 0)) * [[1], [0]])
    with pytest.raises(ConfigError, match=r"boxes of shape \(7,\)"):
        geometry.boxes_to_corners(np.zeros(7))
    with pytest.raises(ConfigError, match="expected six values"):
        geometry.points_in_range(np.zeros((1, 3)), [0, 1])
