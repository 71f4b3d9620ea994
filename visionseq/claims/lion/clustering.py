"""A detector without learning, for comparison: clusters of points above flat ground, the class by the cluster's size.

Points well above the ground fall into cells of a grid seen from above; touching cells make a cluster. Around a cluster
lies the rectangle of least area over some headings. The class is the one whose size is nearest; a box of that size is
put where the corner nearest to the sensor is, since only the near faces are seen.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from scipy import ndimage

CELL = 0.25  # metres
CLEARANCE = 0.25  # above the ground, below which points belong to it
TALLEST = 2.6  # metres above the ground; clusters that reach higher are houses and poles
FEWEST = 5  # points of a cluster
HEADINGS = np.linspace(0, np.pi / 2, 18, endpoint=False)
FITS = 0.6  # a cluster larger than a class's size by more than so much of it is not of that class

Boxes = tuple[np.ndarray, np.ndarray, np.ndarray]


def cluster_boxes(
    points: np.ndarray, sizes: Mapping[str, tuple[float, float, float]], reach: float, ground: float = -1.73
) -> Boxes:
    """Boxes float32 [M, 7], labels int64 [M] (1 is the first of `sizes`) and scores [M] of points [N, >= 3].

    Args:
        points: in the lidar frame, metres.
        sizes: class -> length, width, height.
        reach: how far from the sensor to look, along x and y.
        ground: height of the ground.
    """
    # Cells that hold points above the ground.
    height = points[:, 2] - ground
    kept = points[(height > CLEARANCE) & (np.abs(points[:, :2]) < reach).all(1), :3].astype(np.float64)
    side = int(np.ceil(2 * reach / CELL))
    cells = np.clip(((kept[:, :2] + reach) / CELL).astype(np.int64), 0, side - 1)
    occupied = np.zeros((side, side), bool)
    occupied[cells[:, 0], cells[:, 1]] = True
    # The points of each connected group of cells, in one order.
    names, count = ndimage.label(occupied, structure=np.ones((3, 3)))
    of_point = names[cells[:, 0], cells[:, 1]]
    order = np.argsort(of_point, kind="stable")
    starts = np.searchsorted(of_point[order], np.arange(1, count + 2))
    # A box for each group that is as large as one of the classes.
    clusters = [
        box
        for first, last in pairwise(starts.tolist())
        if (box := _box_of(kept[order[first:last]], sizes, ground)) is not None
    ]
    boxes = np.array([box for box, _, _ in clusters], np.float32).reshape(-1, 7)
    return boxes, np.array([label for _, label, _ in clusters], np.int64), np.array([score for *_, score in clusters])


def _box_of(
    cluster: np.ndarray, sizes: Mapping[str, tuple[float, float, float]], ground: float
) -> tuple[list[float], int, float] | None:
    if len(cluster) < FEWEST or cluster[:, 2].max() - ground > TALLEST:
        return None

    # What the sensor shows of the object: a rectangle, its longer side as length, and the height above ground.
    low, high, heading = _rectangle(cluster[:, :2])
    seen = np.array([*(high - low), cluster[:, 2].max() - ground])
    if seen[0] < seen[1]:  # the longer side is the length
        heading, low, high = heading + np.pi / 2, np.array([low[1], -high[0]]), np.array([high[1], -low[0]])
        seen[:2] = seen[1::-1]

    # The class whose size is nearest, among those that are not smaller than the visible part.
    known = np.array(list(sizes.values()))
    distance = np.abs(np.log(np.maximum(seen, 0.1) / known)).sum(1)
    distance[(seen > known * (1 + FITS)).any(1)] = np.inf
    label = int(np.argmin(distance))
    if not np.isfinite(distance[label]):
        return None

    # The box of that size stands behind the visible corner that is nearest to the sensor.
    length, width, tall = known[label]
    size = np.array([length, width])
    to_world = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
    corners = np.array([[low[0], low[1]], [low[0], high[1]], [high[0], low[1]], [high[0], high[1]]])
    nearest = corners[np.argmin(np.linalg.norm(corners, axis=1))]
    away = np.where(nearest == low, 1.0, -1.0)
    x, y = to_world @ (nearest + away * size / 2)
    score = float(np.exp(-distance[label]) * (1 - np.exp(-len(cluster) / 30)))
    return [x, y, ground + tall / 2, length, width, tall, heading], label + 1, score


def _rectangle(xy: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Minimum and maximum in the turned frame, and the heading, of the rectangle of least area."""
    cos, sin = np.cos(HEADINGS), np.sin(HEADINGS)
    along = xy @ np.stack([cos, sin])
    across = xy @ np.stack([-sin, cos])
    area = np.ptp(along, 0) * np.ptp(across, 0)
    best = int(np.argmin(area))
    turned = np.stack([along[:, best], across[:, best]], 1)
    return turned.min(0), turned.max(0), float(HEADINGS[best])
