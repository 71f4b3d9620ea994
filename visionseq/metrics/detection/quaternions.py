"""Headings of boxes whose rotation is a quaternion."""

import numpy as np


def yaw_of(quaternions: np.ndarray) -> np.ndarray:
    """Angle [M] about z, radians, of unit quaternions [M, 4] in the order w, x, y, z."""
    w, x, y, z = np.asarray(quaternions, np.float64).reshape(-1, 4).T
    return np.arctan2(2 * (w * z + x * y), 1 - 2 * (y**2 + z**2))


def turn_between(a: np.ndarray, b: np.ndarray, period: float = 2 * np.pi) -> np.ndarray:
    """The smaller angle between headings, in [0, period / 2]."""
    return np.abs((a - b + period / 2) % period - period / 2)
