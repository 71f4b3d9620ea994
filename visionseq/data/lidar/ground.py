"""The height of the ground around a sensor: a model finds little where it stands at another height than in training."""

import numpy as np

NEAR, FAR = 3.0, 30.0  # metres around the sensor where the ground is looked for; nearer is the vehicle itself
CELL = 2.0  # metres, the side of a square of ground
LOWEST = 0.1  # share of a square's points below its level, which dips and reflections under the ground may be
FEW_POINTS, FEW_CELLS = 5, 20
WINDOW = 0.4  # metres within which the levels of the squares of one ground lie
LEAST_SHARE = 0.3  # of all squares that lie in it; roofs, walls and bushes are the others


def ground_level(points: np.ndarray) -> float | None:
    """z of the ground in metres, in the frame of points [N, >= 3] with z up; None where the ground is not clear.

    The level of a square of two metres is near its lowest points; the ground is where most squares agree.
    """
    # Squares around the sensor, and the points of each sorted by height.
    position = points[np.isfinite(points[:, :3]).all(1), :3].astype(np.float64)
    distance = np.hypot(position[:, 0], position[:, 1])
    position = position[(distance > NEAR) & (distance < FAR)]
    squares = np.floor(position[:, :2] / CELL).astype(np.int64) @ [1 << 16, 1]
    order = np.lexsort((position[:, 2], squares))
    _, starts, counts = np.unique(squares[order], return_index=True, return_counts=True)

    # The level of each square with enough points.
    enough = counts >= FEW_POINTS
    if enough.sum() < FEW_CELLS:
        return None
    places = starts[enough] + (counts[enough] * LOWEST).astype(np.int64)
    levels = np.sort(position[order, 2][places])

    # The window that holds the most levels.
    ends = np.searchsorted(levels, levels + WINDOW, side="right")
    within = ends - np.arange(len(levels))
    first = int(within.argmax())
    if within[first] < LEAST_SHARE * len(levels):
        return None
    return float(np.median(levels[first : ends[first]]))
