"""Boxes in KITTI's camera frame, in its images, and in the "fakelidar" form of old info files.

A camera box is (x, y, z, l, h, w, ry): bottom centre in the rectified camera frame (x right, y down, z forward),
length, height, width, rotation about y in radians, 0 where the object faces +x. Lidar boxes are those of `boxes.py`.
As in the official code, the centre is lifted by half a height in the lidar frame, not along the camera's y.

Legend: N boxes. Results are numpy arrays in the dtype of the boxes; pixels are float32.
"""

import math

import numpy as np

from visionseq.geometry.boxes import as_boxes
from visionseq.geometry.kitti_calibration import Calibration

# In lengths, heights and widths, before the rotation. The bottom face comes first.
CAMERA_CORNERS = np.array(
    [
        [+0.5, 0, +0.5],
        [+0.5, 0, -0.5],
        [-0.5, 0, -0.5],
        [-0.5, 0, +0.5],
        [+0.5, -1, +0.5],
        [+0.5, -1, -0.5],
        [-0.5, -1, -0.5],
        [-0.5, -1, +0.5],
    ]
)


def camera_to_lidar(boxes: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Camera boxes [N, 7] as lidar boxes [N, 7]; the heading is -(ry + pi/2), not wrapped."""
    boxes = as_boxes(boxes)
    centre = calibration.rect_to_lidar(boxes[:, :3]).astype(boxes.dtype)
    length, height, width, ry = boxes[:, 3:7].T
    centre[:, 2] += height / 2
    return np.column_stack([centre, length, width, height, -(ry + math.pi / 2)])


def lidar_to_camera(boxes: np.ndarray, calibration: Calibration) -> np.ndarray:
    """Lidar boxes [N, >= 7] as camera boxes [N, 7]; ry is -heading - pi/2, not wrapped."""
    boxes = as_boxes(boxes)
    dx, dy, dz, heading = boxes[:, 3:7].T
    bottom = boxes[:, :3].copy()
    bottom[:, 2] -= dz / 2
    centre = calibration.lidar_to_rect(bottom).astype(boxes.dtype)
    return np.column_stack([centre, dx, dz, dy, -heading - math.pi / 2])


def observation_angle(boxes: np.ndarray, camera_boxes: np.ndarray) -> np.ndarray:
    """alpha [N] of predictions, as in KITTI's result files: -atan2(-y, x) + ry with the lidar box's x and y."""
    return -np.arctan2(-boxes[:, 1], boxes[:, 0]) + camera_boxes[:, 6]


def fakelidar_to_lidar(boxes: np.ndarray) -> np.ndarray:
    """Boxes (x, y, z of the bottom, w, l, h, r) [N, 7] as lidar boxes [N, 7]; the heading is -(r + pi/2)."""
    boxes = as_boxes(boxes)
    x, y, bottom, width, length, height, rotation = boxes[:, :7].T
    return np.column_stack([x, y, bottom + height / 2, length, width, height, -(rotation + math.pi / 2)])


def lidar_to_fakelidar(boxes: np.ndarray) -> np.ndarray:
    """Lidar boxes [N, >= 7] as (x, y, z of the bottom, w, l, h, r) [N, 7]; r is -heading - pi/2."""
    boxes = as_boxes(boxes)
    x, y, z, dx, dy, dz, heading = boxes[:, :7].T
    return np.column_stack([x, y, z - dz / 2, dy, dx, dz, -heading - math.pi / 2])


def camera_corners(boxes: np.ndarray) -> np.ndarray:
    """The corners [N, 8, 3] of camera boxes [N, 7], in the order of `CAMERA_CORNERS`."""
    boxes = as_boxes(boxes)
    corners = CAMERA_CORNERS.astype(boxes.dtype) * boxes[:, None, 3:6]
    cos, sin = np.cos(boxes[:, 6, None]), np.sin(boxes[:, 6, None])
    x, y, z = np.moveaxis(corners, 2, 0)
    return np.stack([x * cos + z * sin, y, z * cos - x * sin], 2) + boxes[:, None, :3]


def image_boxes(boxes: np.ndarray, calibration: Calibration, image_shape: tuple[int, int] | None = None) -> np.ndarray:
    """Left, top, right, bottom [N, 4] in pixels of the rectangles around the projected corners of camera boxes [N, 7].

    With `image_shape` (height, width) it is cut to the image. As in the official code, corners behind the camera are
    projected like all others; the rectangle of such a box is meaningless.
    """
    pixels, _ = calibration.rect_to_image(camera_corners(boxes).reshape(-1, 3))
    pixels = pixels.reshape(-1, 8, 2)
    enclosing = np.concatenate([pixels.min(1), pixels.max(1)], 1)
    if image_shape is not None:
        height, width = image_shape
        enclosing = enclosing.clip(0, np.array([width - 1, height - 1] * 2, enclosing.dtype))
    return enclosing
