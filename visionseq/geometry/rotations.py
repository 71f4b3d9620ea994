"""Rotations of boxes: quaternions (w, x, y, z), headings about z, and the angle between two headings.

A quaternion need not have length 1; one of length zero or without a finite length gives NaN.
"""

import numpy as np
from numpy.typing import ArrayLike


def rotation_matrices(quaternions: ArrayLike) -> np.ndarray:
    """float64 [..., 3, 3] of quaternions [..., 4]; they act on column vectors."""
    w, x, y, z = np.moveaxis(unit_quaternions(quaternions), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.moveaxis(np.array(rows), (0, 1), (-2, -1))


def headings_of(quaternions: ArrayLike) -> np.ndarray:
    """float64 [...]: radians from +x to where quaternions [..., 4] turn the x axis, seen from above."""
    w, x, y, z = np.moveaxis(unit_quaternions(quaternions), -1, 0)
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))


def upright_quaternions(headings: ArrayLike) -> np.ndarray:
    """float64 [..., 4] that turn about z by headings [...] in radians."""
    half = np.asarray(headings, np.float64) / 2
    nothing = np.zeros_like(half)
    return np.stack([np.cos(half), nothing, nothing, np.sin(half)], -1)


def unit_quaternions(quaternions: ArrayLike) -> np.ndarray:
    """float64 [..., 4] of length 1, NaN for a quaternion of length 0."""
    quaternions = np.asarray(quaternions, np.float64)
    with np.errstate(over="ignore"):
        length = np.linalg.norm(quaternions, axis=-1, keepdims=True)
    return quaternions / np.where((length > 0) & np.isfinite(length), length, np.nan)


def turn_between(a: ArrayLike, b: ArrayLike, period: float = 2 * np.pi) -> np.ndarray:
    """The smaller angle between headings in radians, in [0, period / 2]; they broadcast."""
    return np.abs((np.asarray(a) - np.asarray(b) + period / 2) % period - period / 2)
