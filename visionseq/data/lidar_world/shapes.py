"""The shapes of objects: upright boxes and upright cylinders, each with a reflectance and an owner.

A box is (x, y, z, dx, dy, dz, heading) as everywhere, a cylinder (x, y, z, radius, height), z being the centre.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

BACKGROUND = -1  # owner of shapes that belong to no object


@dataclass(frozen=True)
class Shape:
    """One box (seven values) or cylinder (five)."""

    values: tuple[float, ...]
    reflectance: float
    owner: int = BACKGROUND


@dataclass(frozen=True)
class ShapeTable:
    """Shapes as arrays for the ray caster: boxes float64 [P, 7], cylinders [Q, 5], reflectance and owner of each."""

    boxes: np.ndarray
    cylinders: np.ndarray
    reflectance: np.ndarray
    owner: np.ndarray

    @classmethod
    def of(cls, shapes: list[Shape]) -> "ShapeTable":
        """The boxes come first in `reflectance` and `owner`."""
        boxes = [shape for shape in shapes if len(shape.values) == 7]
        cylinders = [shape for shape in shapes if len(shape.values) == 5]
        ordered = boxes + cylinders
        return cls(
            np.array([shape.values for shape in boxes], np.float64).reshape(-1, 7),
            np.array([shape.values for shape in cylinders], np.float64).reshape(-1, 5),
            np.array([shape.reflectance for shape in ordered], np.float64),
            np.array([shape.owner for shape in ordered], np.int64),
        )


def car(box: np.ndarray, owner: int, reflectance: float) -> Iterator[Shape]:
    """A body above the gap of the wheels, and a cabin from the tail to the bonnet, which shows where the car heads."""
    yield _part(box, owner, reflectance, (0.0, 1.0), 1.0, (0.12, 0.62))
    yield _part(box, owner, 0.6 * reflectance, (-0.16, 0.64), 0.9, (0.62, 1.0))


def pedestrian(box: np.ndarray, owner: int, reflectance: float) -> Iterator[Shape]:
    """Legs, a wider trunk and a head, on one axis."""
    radius = min(box[3], box[4]) / 2
    yield _column(box, owner, reflectance, 0.6 * radius, (0.0, 0.5))
    yield _column(box, owner, reflectance, radius, (0.5, 0.85))
    yield _column(box, owner, 0.4, 0.45 * radius, (0.87, 1.0))


def cyclist(box: np.ndarray, owner: int, reflectance: float) -> Iterator[Shape]:
    """A thin bicycle, a handlebar across, and a rider behind it."""
    radius = box[4] / 2
    yield _part(box, owner, 0.7 * reflectance, (0.0, 1.0), 0.15, (0.0, 0.45))
    yield _part(box, owner, 0.5, (0.3, 0.05), 1.0, (0.52, 0.57))
    yield _column(box, owner, reflectance, 0.75 * radius, (0.4, 0.84), -0.12)
    yield _column(box, owner, 0.4, 0.4 * radius, (0.86, 1.0), -0.12)


OBJECTS = {"Car": car, "Pedestrian": pedestrian, "Cyclist": cyclist}


def _part(
    box: np.ndarray,
    owner: int,
    reflectance: float,
    along: tuple[float, float],
    across: float,
    up: tuple[float, float],
) -> Shape:
    """A box within a box, in shares of it: `along` its place and length, `across` its width, `up` bottom and top."""
    x, y, z, dx, dy, dz, heading = box
    shift = along[0] * dx
    low, high = up
    centre = (x + shift * np.cos(heading), y + shift * np.sin(heading), z + ((low + high) / 2 - 0.5) * dz)
    return Shape((*centre, along[1] * dx, across * dy, (high - low) * dz, heading), reflectance, owner)


def _column(
    box: np.ndarray, owner: int, reflectance: float, radius: float, up: tuple[float, float], along: float = 0.0
) -> Shape:
    """An upright cylinder within a box: its place along the heading, bottom and top in shares of the box."""
    x, y, z, dx, _, dz, heading = box
    low, high = up
    shift = along * dx
    centre = (x + shift * np.cos(heading), y + shift * np.sin(heading), z + ((low + high) / 2 - 0.5) * dz)
    return Shape((*centre, radius, (high - low) * dz), reflectance, owner)
