"""A detector without learning, for comparison: clusters of points above flat ground, the class by the cluster's size.

Points well above the ground fall into cells of a grid seen from above; touching cells make a cluster. Around a cluster
lies the rectangle of least area over some headings. The class is the one whose size is nearest. A box of that size is
placed at the corner nearest to the sensor, since the sensor sees only the near faces.
"""

from collections.abc import Mapping
from itertools import pairwise

import numpy as np
from scipy import ndimage

CELL = 0.25  # metres
CLEARANCE = 0.25  # metres above the ground; lower points belong to it
TALLEST = 2.6  # metres above the ground; clusters that reach higher are houses and poles
FEWEST = 5  # points of a cluster
HEADINGS = np.linspace(0, np.pi / 2, 18, endpoint=False)
SLACK = 0.6  # a cluster may exceed the size of its class by this share

Boxes = tuple[np.ndarray, np.ndarray, np.ndarray]


def cluster_boxes(
    points: np.ndarray, sizes: Mapping[str, tuple[float, float, float]], reach: float, ground: float = -1.73
) -> Boxes:
    """Boxes float32 [M, 7], labels int64 [M] (1 is the first of `sizes`) and scores float64 [M] of points [N, >= 3].

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
    cell_groups, count = ndimage.label(occupied, structure=np.ones((3, 3)))
    groups = cell_groups[cells[:, 0], cells[:, 1]]
    order = np.argsort(groups, kind="stable")
    starts = np.searchsorted(groups[order], np.arange(1, count + 2))

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
    """Box, label and score of a cluster [N, 3]; None where it is too small, too tall or no class has its size."""
    if len(cluster) < FEWEST or cluster[:, 2].max() - ground > TALLEST:
        return None

    # What the sensor shows of the object: a rectangle, its longer side as length, and the height above ground.
    low, high, heading = _rectangle(cluster[:, :2])
    extent = np.array([*(high - low), cluster[:, 2].max() - ground])
    if extent[0] < extent[1]:
        heading, low, high = heading + np.pi / 2, np.array([low[1], -high[0]]), np.array([high[1], -low[0]])
        extent[:2] = extent[1::-1]

    # The class whose size is nearest, among those that are not smaller than the visible part.
    class_sizes = np.array(list(sizes.values()))
    distance = np.abs(np.log(np.maximum(extent, 0.1) / class_sizes)).sum(1)
    distance[(extent > class_sizes * (1 + SLACK)).any(1)] = np.inf
    label = int(np.argmin(distance))
    if not np.isfinite(distance[label]):
        return None

    # The box of that size stands behind the visible corner that is nearest to the sensor.
    length, width, height = class_sizes[label]
    size = np.array([length, width])
    to_world = np.array([[np.cos(heading), -np.sin(heading)], [np.sin(heading), np.cos(heading)]])
    corners = np.array([[low[0], low[1]], [low[0], high[1]], [high[0], low[1]], [high[0], high[1]]])
    nearest = corners[np.argmin(np.linalg.norm(corners, axis=1))]
    away = np.where(nearest == low, 1.0, -1.0)
    x, y = to_world @ (nearest + away * size / 2)
    score = float(np.exp(-distance[label]) * (1 - np.exp(-len(cluster) / 30)))
    return [x, y, ground + height / 2, length, width, height, heading], label + 1, score


def _rectangle(xy: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Minimum [2] and maximum [2] in the turned frame, and the heading, of the least rectangle around points."""
    cos, sin = np.cos(HEADINGS), np.sin(HEADINGS)
    along = xy @ np.stack([cos, sin])
    across = xy @ np.stack([-sin, cos])
    area = np.ptp(along, 0) * np.ptp(across, 0)
    best = int(np.argmin(area))
    turned = np.stack([along[:, best], across[:, best]], 1)
    return turned.min(0), turned.max(0), float(HEADINGS[best])
