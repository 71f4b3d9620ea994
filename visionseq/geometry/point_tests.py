"""Points in boxes: four tests that the official tools use for different purposes.

A point is turned into the frame of the box and compared with its half sizes. The box is wider by a margin at its sides,
but not higher. The vertical comparison is closed, the lateral one open or closed. Everything is computed in float64.

`HULL` is the convex hull of the corners (points of a KITTI or ONCE annotation), `DATABASE` cuts objects out for the
database of KITTI and ONCE and clears the scene under pasted ones, `NEAREST` assigns points in the databases of
nuScenes, Waymo and Argoverse 2, `LOCAL` selects them for augmentations of single objects.

Legend: N points [N, >= 3], M boxes [M, >= 7]. A box with a value that is not finite contains no point; a point with one
lies in no box.
"""

from typing import NamedTuple

import numpy as np

from visionseq.errors import ConfigError
from visionseq.geometry.boxes import as_boxes
from visionseq.kernels.compiled import exact
from visionseq.kernels.threads import spread


class PointTest(NamedTuple):
    """`margin`: metres by which a box is wider on each side; `closed`: its lateral faces belong to it."""

    margin: float
    closed: bool


HULL = PointTest(0.0, True)
DATABASE = PointTest(1e-2, False)
NEAREST = PointTest(1e-5, False)
LOCAL = PointTest(0.1, True)


def points_in_boxes(points: np.ndarray, boxes: np.ndarray, test: PointTest) -> np.ndarray:
    """Mask bool [M, N]: the points [N, >= 3] in each box [M, >= 7]."""
    frames, columns = _prepared(points, boxes)
    inside = np.zeros((len(boxes), len(points)), np.bool_)
    spread(_fill, len(boxes), frames, *columns, test.margin, test.closed, inside)
    return inside


def count_points(points: np.ndarray, boxes: np.ndarray, test: PointTest) -> np.ndarray:
    """Number of points in each box, [M] int64."""
    return points_in_boxes(points, boxes, test).sum(1)


def first_box(points: np.ndarray, boxes: np.ndarray, test: PointTest = NEAREST) -> np.ndarray:
    """Number of the first box that contains each point, [N] int64; -1 for a point in no box."""
    inside = points_in_boxes(points, boxes, test)
    if not len(boxes):
        return np.full(len(points), -1, np.int64)
    return np.where(inside.any(0), inside.argmax(0), -1)


def remove_points_in_boxes(points: np.ndarray, boxes: np.ndarray, test: PointTest = DATABASE) -> np.ndarray:
    """The points that are in no box, in their order."""
    return points[~points_in_boxes(points, boxes, test).any(0)]


def _prepared(points: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """Boxes as (x, y, z, dx, dy, dz, cos, sin) [M, 8] float64, and x, y, z of the points, each contiguous."""
    boxes = as_boxes(boxes)
    if points.ndim != 2 or points.shape[1] < 3:
        raise ConfigError(f"points of shape {points.shape}, expected [N, 3] or more columns")
    boxes = boxes.astype(np.float64)
    with np.errstate(invalid="ignore"):
        frames = np.column_stack([boxes[:, :6], np.cos(boxes[:, 6]), np.sin(boxes[:, 6])])
    return frames, [np.ascontiguousarray(points[:, axis]) for axis in range(3)]


@exact
def _fill(first, last, frames, points_x, points_y, points_z, margin, closed, inside):
    for m in range(first, last):
        x, y, z, dx, dy, dz, cos, sin = frames[m]
        half_x, half_y, half_z = dx / 2 + margin, dy / 2 + margin, dz / 2
        for n in range(len(points_x)):
            shift_x, shift_y = points_x[n] - x, points_y[n] - y
            along, across = abs(shift_x * cos + shift_y * sin), abs(shift_y * cos - shift_x * sin)
            open_inside, closed_inside = along < half_x and across < half_y, along <= half_x and across <= half_y
            inside[m, n] = (closed_inside if closed else open_inside) and abs(points_z[n] - z) <= half_z
