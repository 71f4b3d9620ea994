"""Boxes and points in the lidar frame: corners, rotation about z, angles, ranges, margins.

The lidar frame has x forward, y left, z up, in metres. A box is (x, y, z, dx, dy, dz, heading, ...): the centre, the
size with dx along the heading, the heading in radians counter-clockwise from +x; further values pass through untouched.
Everything is a numpy array. Results have the floating dtype of the arguments, and no argument is written to.

Legend: N boxes or points, C columns.
"""

import math
from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike

from visionseq.errors import ConfigError

Angles = TypeVar("Angles", np.ndarray, torch.Tensor, float)

# In half sizes, before the heading is applied. The lower face comes first; seen from above, each face begins at the
# front left and runs clockwise.
CORNERS = np.array(
    [
        [+1, +1, -1],
        [+1, -1, -1],
        [-1, -1, -1],
        [-1, +1, -1],
        [+1, +1, +1],
        [+1, -1, +1],
        [-1, -1, +1],
        [-1, +1, +1],
    ]
)


def limit_period(values: Angles, offset: float = 0.5, period: float = 2 * math.pi) -> Angles:
    """values - floor(values / period + offset) * period; with the defaults, angles wrapped to [-pi, pi)."""
    return values - (values / period + offset) // 1 * period


def boxes_to_corners(boxes: np.ndarray) -> np.ndarray:
    """The corners [N, 8, 3] of boxes [N, >= 7], in the order of `CORNERS`."""
    boxes = as_boxes(boxes)
    corners = CORNERS.astype(boxes.dtype) / 2 * boxes[:, None, 3:6]
    return rotate_z(corners, boxes[:, 6, None]) + boxes[:, None, :3]


def rotate_z(vectors: np.ndarray, angle: ArrayLike) -> np.ndarray:
    """Vectors [..., >= 2] turned about z: (1, 0) by pi/2 gives (0, 1); columns after y stay.

    `angle` in radians is a number, or an array that broadcasts with the vectors' leading axes.
    """
    vectors = _floating(vectors)
    angle = np.asarray(angle, vectors.dtype)
    cos, sin = np.cos(angle), np.sin(angle)
    turned = vectors.copy()
    turned[..., 0] = vectors[..., 0] * cos - vectors[..., 1] * sin
    turned[..., 1] = vectors[..., 0] * sin + vectors[..., 1] * cos
    return turned


def enlarge(boxes: np.ndarray, extra: ArrayLike) -> np.ndarray:
    """Boxes [N, >= 7] with `extra` metres, one value or three (x, y, z), added to their full sizes."""
    boxes = as_boxes(boxes)
    larger = boxes.copy()
    larger[:, 3:6] += np.asarray(extra, boxes.dtype)
    return larger


def points_in_range(points: np.ndarray, point_range: Sequence[float], with_z: bool = False) -> np.ndarray:
    """Mask bool [N] of points [N, >= 3] in the closed range (x, y, z minima, then maxima); z counts only `with_z`."""
    points, axes = _floating(points), 3 if with_z else 2
    low, high = _bounds(point_range, points.dtype)
    return np.all((points[:, :axes] >= low[:axes]) & (points[:, :axes] <= high[:axes]), axis=1)


def boxes_in_range(boxes: np.ndarray, point_range: Sequence[float], min_corners: int | None = None) -> np.ndarray:
    """Mask bool [N] of boxes in the closed range: by their centre, or by x and y of at least `min_corners` corners."""
    boxes = as_boxes(boxes)
    if min_corners is None:
        return points_in_range(boxes[:, :3], point_range, with_z=True)
    corners = boxes_to_corners(boxes).reshape(-1, 3)
    return points_in_range(corners, point_range).reshape(-1, 8).sum(1) >= min_corners


def as_boxes(boxes: np.ndarray) -> np.ndarray:
    """The boxes as they are, or as float64 where they are integers. `ConfigError` unless they are [N, >= 7]."""
    if boxes.ndim != 2 or boxes.shape[1] < 7:
        raise ConfigError(f"boxes of shape {boxes.shape}, expected [N, 7] or more columns")
    return _floating(boxes)


def _floating(values: np.ndarray) -> np.ndarray:
    return values if np.issubdtype(values.dtype, np.floating) else values.astype(np.float64)


def _bounds(point_range: Sequence[float], dtype: np.dtype) -> tuple[np.ndarray, np.ndarray]:
    bounds = np.asarray(point_range, dtype)
    if bounds.shape != (6,):
        raise ConfigError(f"point_range {list(point_range)}, expected six values: x, y, z minima, then maxima")
    return bounds[:3], bounds[3:]
