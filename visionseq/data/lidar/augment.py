"""Augmentations of a whole scene: flips, rotation, scaling, translation, of points and boxes together.

Each draws from the generator of its caller, in the order of the official code, and changes nothing in place. Points
are [N, 3 + C], boxes [M, 7] or [M, 9] with velocities.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from visionseq.errors import ConfigError
from visionseq.geometry.boxes import limit_period

Random = Any  # numpy's Generator, or its legacy RandomState: both have choice, uniform and normal
Scene = tuple[np.ndarray, np.ndarray]


class Augmentation(Protocol):
    """One step of the queue."""

    def apply(self, points: np.ndarray, boxes: np.ndarray, random: Random) -> Scene:
        """Points and boxes after a random change."""


@dataclass
class RandomFlip:
    """Mirror the scene with probability 1/2 for each axis, independently.

    Args:
        axes: x mirrors left and right (y changes its sign), y front and back.
    """

    axes: Sequence[str] = ("x", "y")

    def __post_init__(self):
        if not set(self.axes) <= {"x", "y"}:
            raise ConfigError(f"flip: axes {list(self.axes)}, expected x and y")

    def apply(self, points: np.ndarray, boxes: np.ndarray, random: Random) -> Scene:
        for axis in self.axes:
            if random.choice([False, True], replace=False, p=[0.5, 0.5]):
                points, boxes = flip(points, boxes, axis)
        return points, boxes


@dataclass
class RandomRotation:
    """Turn the scene about z by a uniform angle within `low` and `high`, radians."""

    low: float = -math.pi / 4
    high: float = math.pi / 4

    def apply(self, points: np.ndarray, boxes: np.ndarray, random: Random) -> Scene:
        return rotate(points, boxes, random.uniform(self.low, self.high))


@dataclass
class RandomScaling:
    """Scale the scene by a uniform factor within `low` and `high`; where they differ by less than 0.001, do nothing."""

    low: float = 0.95
    high: float = 1.05

    def apply(self, points: np.ndarray, boxes: np.ndarray, random: Random) -> Scene:
        if self.high - self.low < 1e-3:
            return points, boxes
        return scale(points, boxes, random.uniform(self.low, self.high))


@dataclass
class RandomTranslation:
    """Shift the scene by a normal draw for each axis; `std` of x, y, z in metres."""

    std: tuple[float, float, float] = (0.5, 0.5, 0.5)

    def apply(self, points: np.ndarray, boxes: np.ndarray, random: Random) -> Scene:
        shift = np.array([random.normal(0, std, 1)[0] for std in self.std], np.float32)
        return translate(points, boxes, shift)


def flip(points: np.ndarray, boxes: np.ndarray, axis: str) -> Scene:
    """Mirror at the axis x (y changes its sign) or at the axis y."""
    points, boxes = points.copy(), boxes.copy()
    column = 1 if axis == "x" else 0
    points[:, column] *= -1
    boxes[:, column] *= -1
    boxes[:, 6] = -boxes[:, 6] if axis == "x" else -(boxes[:, 6] + np.float32(math.pi))
    if boxes.shape[1] > 7:
        boxes[:, 7 + column] *= -1
    return points, boxes


def rotate(points: np.ndarray, boxes: np.ndarray, angle: float) -> Scene:
    """Turn counter-clockwise by an angle in radians."""
    points, boxes = points.copy(), boxes.copy()
    cos, sin = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    turn = np.array([[cos, sin], [-sin, cos]], np.float32)
    points[:, :2] = points[:, :2] @ turn
    boxes[:, :2] = boxes[:, :2] @ turn
    boxes[:, 6] += np.float32(angle)
    if boxes.shape[1] > 7:
        boxes[:, 7:9] = boxes[:, 7:9] @ turn
    return points, boxes


def scale(points: np.ndarray, boxes: np.ndarray, factor: float) -> Scene:
    """Scale positions, sizes and velocities."""
    points, boxes = points.copy(), boxes.copy()
    points[:, :3] *= np.float32(factor)
    boxes[:, :6] *= np.float32(factor)
    boxes[:, 7:] *= np.float32(factor)
    return points, boxes


def translate(points: np.ndarray, boxes: np.ndarray, shift: np.ndarray) -> Scene:
    """Shift positions by x, y, z metres [3]."""
    points, boxes = points.copy(), boxes.copy()
    points[:, :3] += shift
    boxes[:, :3] += shift
    return points, boxes


def wrap_headings(boxes: np.ndarray) -> np.ndarray:
    """The boxes with headings in [-pi, pi)."""
    boxes = boxes.copy()
    boxes[:, 6] = limit_period(boxes[:, 6], 0.5, 2 * math.pi)
    return boxes
