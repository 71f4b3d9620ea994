"""Points to voxels: the voxel of each point (dynamic), or voxels of a fixed capacity (hard).

The voxel of a point is floor((p - minimum) / size) along each axis, in float32 as detectors are trained with. The grid
has round((maximum - minimum) / size) voxels; a point outside of it, also one exactly on the upper bound, and a point
with NaN or infinity has no voxel.

Legend: N points, C values of a point (x, y, z and features), V voxels, P points that a voxel can hold.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from visionseq.errors import ConfigError
from visionseq.kernels.compiled import exact

EMPTY = -1
LONGEST_AXIS = 2**20  # voxels, so that int64 can hold a voxel's number


class HardVoxels(NamedTuple):
    """Voxels in the order of their first points.

    Fields: `voxels` [V, P, C] float32, zero beyond the points of a voxel, `coords` [V, 3] int32 (z, y, x) and
    `num_points` [V] int32, at most P.
    """

    voxels: np.ndarray
    coords: np.ndarray
    num_points: np.ndarray


class PointVoxels(NamedTuple):
    """Fields: `valid` [N] bool, whether a point has a voxel; `coords` [sum of valid, 3] int64 (x, y, z) of those."""

    valid: np.ndarray
    coords: np.ndarray


def grid_size(voxel_size: Sequence[float], point_range: Sequence[float]) -> tuple[int, int, int]:
    """Voxels along x, y and z. `ConfigError` where the range holds none, or has not six finite values."""
    x, y, z = _grid(voxel_size, point_range)[2].tolist()
    return x, y, z


def voxel_indices(points: np.ndarray, voxel_size: Sequence[float], point_range: Sequence[float]) -> PointVoxels:
    """The voxel of each of the points [N, >= 3] in a range (x, y, z minima, then maxima), without any limit."""
    size, low, grid = _grid(voxel_size, point_range)
    coords, valid = np.empty((len(points), 3), np.int64), np.empty(len(points), np.bool_)
    count = _locate(_checked(points), low, size, grid, coords, valid)
    return PointVoxels(valid, coords[:count])


def hard_voxels(
    points: np.ndarray,
    voxel_size: Sequence[float],
    point_range: Sequence[float],
    max_points: int,
    max_voxels: int,
) -> HardVoxels:
    """First come, first served: at most `max_voxels` voxels of the first `max_points` of the points [N, C] in each.

    A point that would open one voxel too many is dropped; later points of voxels that are open still enter.
    """
    if max_points < 1 or max_voxels < 1:
        raise ConfigError(f"max_points {max_points}, max_voxels {max_voxels}, expected at least 1")
    size, low, grid = _grid(voxel_size, point_range)
    points = _checked(points)
    most = min(max_voxels, len(points))
    voxels = np.zeros((most, max_points, points.shape[1]), np.float32)
    coords, num_points = np.empty((most, 3), np.int32), np.zeros(most, np.int32)
    slots = 1 << max(4, (2 * most).bit_length())  # at most half full
    opened = _fill(points, low, size, grid, np.full(slots, EMPTY), voxels, coords, num_points)
    return HardVoxels(voxels[:opened], coords[:opened], num_points[:opened])


def _grid(voxel_size: Sequence[float], point_range: Sequence[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Voxel size and minimum in float32, voxels per axis in int64, all in the order x, y, z."""
    size, bounds = np.asarray(voxel_size, np.float64), np.asarray(point_range, np.float64)
    if size.shape != (3,) or bounds.shape != (6,) or not np.isfinite(bounds).all() or not (size > 0).all():
        raise ConfigError(
            f"voxel_size {list(voxel_size)}, point_range {list(point_range)}, "
            "expected three sizes above 0 and six bounds: x, y, z minima, then maxima"
        )
    grid = np.round((bounds[3:] - bounds[:3]) / size)
    if not ((grid >= 1) & (grid <= LONGEST_AXIS)).all():
        raise ConfigError(
            f"voxel_size {list(voxel_size)} in point_range {list(point_range)}: a grid of {grid.tolist()}, "
            f"expected 1 to {LONGEST_AXIS} along each axis"
        )
    return size.astype(np.float32), bounds[:3].astype(np.float32), grid.astype(np.int64)


def _checked(points: np.ndarray) -> np.ndarray:
    if points.ndim != 2 or points.shape[1] < 3:
        raise ConfigError(f"points of shape {points.shape}, expected [N, 3] or more columns")
    return points.astype(np.float32, copy=False)


@exact
def _cell(points, n, axis, low, size, grid):
    """The coordinate of point n along one axis, or -1."""
    place = np.floor((points[n, axis] - low[axis]) / size[axis])
    return np.int64(place) if place >= 0 and place < grid[axis] else EMPTY


@exact
def _locate(points, low, size, grid, coords, valid):
    count = 0
    for n in range(len(points)):
        x = _cell(points, n, 0, low, size, grid)
        y = _cell(points, n, 1, low, size, grid)
        z = _cell(points, n, 2, low, size, grid)
        valid[n] = x >= 0 and y >= 0 and z >= 0
        if valid[n]:
            coords[count, 0], coords[count, 1], coords[count, 2] = x, y, z
            count += 1
    return count


@exact
def _fill(points, low, size, grid, table, voxels, coords, num_points):
    """Returns how many voxels were opened; `table` maps a hash to a voxel, with linear probing."""
    opened = 0
    for n in range(len(points)):
        # The voxel of the point, if it lies in the range.
        x = _cell(points, n, 0, low, size, grid)
        y = _cell(points, n, 1, low, size, grid)
        z = _cell(points, n, 2, low, size, grid)
        if x < 0 or y < 0 or z < 0:
            continue

        # Open the voxel, if it is new and the limit allows one more.
        slot = _slot(x, y, z, grid, table, coords)
        voxel = table[slot]
        if voxel == EMPTY:
            if opened == len(voxels):
                continue
            voxel = opened
            opened += 1
            table[slot] = voxel
            coords[voxel, 0], coords[voxel, 1], coords[voxel, 2] = z, y, x

        # Put the point into it, if it has room.
        count = num_points[voxel]
        if count < voxels.shape[1]:
            voxels[voxel, count] = points[n]
            num_points[voxel] = count + 1
    return opened


@exact
def _slot(x, y, z, grid, table, coords):
    """Where the voxel is in the table, or where it would go."""
    mask = len(table) - 1
    key = np.uint64((z * grid[1] + y) * grid[0] + x) * np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
    slot = np.int64(key >> np.uint64(32)) & mask
    while table[slot] != EMPTY:
        voxel = table[slot]
        if coords[voxel, 0] == z and coords[voxel, 1] == y and coords[voxel, 2] == x:
            break
        slot = (slot + 1) & mask
    return slot
