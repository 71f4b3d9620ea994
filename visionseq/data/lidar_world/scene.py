"""A random street: a road in any direction, houses and poles beside it, cars, pedestrians and cyclists on it.

Everything stands on flat ground below the sensor, which is the origin of the lidar frame. No two objects touch: a place
is drawn until the circle around it is free.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from visionseq.data.lidar_world.shapes import OBJECTS, Shape, ShapeTable

CLASS_NAMES = ("Car", "Pedestrian", "Cyclist")
SIZES = {"Car": (3.9, 1.6, 1.56), "Pedestrian": (0.8, 0.6, 1.73), "Cyclist": (1.76, 0.6, 1.73)}  # as KITTI's anchors
COUNTS = {"Car": (4, 12), "Pedestrian": (3, 10), "Cyclist": (2, 6)}  # in a scene, both included
SPREAD = 0.1  # share of a size by which it varies at most
NEAREST, FARTHEST = 3.5, 60.0  # metres from the sensor to the centre of an object
ATTEMPTS = 40  # to find a free place; then the object is left out

Place = tuple[float, float, float]  # along the street, across it, heading relative to it


@dataclass(frozen=True)
class Scene:
    """Objects and all shapes of a scene.

    Fields: `boxes` float32 [M, 7] (x, y, z, dx, dy, dz, heading), `names` of their classes, `shapes` of everything.
    """

    boxes: np.ndarray
    names: tuple[str, ...]
    shapes: ShapeTable


def draw_scene(random: np.random.Generator, ground: float = -1.73) -> Scene:
    """A scene on flat ground at z = `ground`; the same generator state gives the same scene."""
    street = _Street(random, ground)
    street.houses()
    street.poles()
    for name in CLASS_NAMES:
        low, high = COUNTS[name]
        for _ in range(random.integers(low, high + 1)):
            street.add_object(name)
    boxes = np.array(street.boxes, np.float64).reshape(-1, 7).astype(np.float32)
    return Scene(boxes, tuple(street.names), ShapeTable.of(street.shapes))


class _Street:
    """The objects and shapes that have been placed, and the circles that they take."""

    def __init__(self, random: np.random.Generator, ground: float):
        self.random, self.ground = random, ground
        self.direction = random.uniform(-np.pi, np.pi)
        self.curb = random.uniform(4.5, 7.0)  # from the middle of the road
        self.walk = self.curb + random.uniform(2.5, 5.0)  # end of the pavement
        self.boxes: list[np.ndarray] = []
        self.names: list[str] = []
        self.shapes: list[Shape] = []
        self.circles: list[tuple[float, float, float]] = [(0.0, 0.0, 2.5)]  # the car that carries the sensor

    def houses(self) -> None:
        """Two rows with gaps, behind the pavements."""
        for side in (-1, 1):
            along = -FARTHEST
            while along < FARTHEST:
                length, depth, height = self.random.uniform((6, 6, 4), (20, 14, 14))
                front = self.walk + self.random.uniform(0.5, 4)
                x, y, heading = self._turned((along + length / 2, side * (front + depth / 2), 0.0))
                box = (x, y, self.ground + height / 2, length, depth, height, heading)
                self.shapes.append(Shape(box, self.random.uniform(0.15, 0.6)))
                along += length + self.random.choice([0.0, self.random.uniform(1, 8)])

    def poles(self) -> None:
        """Lamps, signs and trunks along the pavements."""
        for _ in range(self.random.integers(5, 15)):
            radius, height = self.random.uniform(0.06, 0.3), self.random.uniform(2.5, 8)
            place = self._free(radius, self._on_pavement)
            if place is not None:
                x, y, _ = place
                values = (x, y, self.ground + height / 2, radius, height)
                self.shapes.append(Shape(values, self.random.uniform(0.2, 0.9)))

    def add_object(self, name: str) -> None:
        size = np.array(SIZES[name]) * self.random.uniform(1 - SPREAD, 1 + SPREAD, 3)
        where = {"Car": self._on_road, "Pedestrian": self._anywhere, "Cyclist": self._at_the_curb}[name]
        place = self._free(float(np.hypot(*size[:2])) / 2, where)
        if place is not None:
            x, y, heading = place
            box = np.array([x, y, self.ground + size[2] / 2, *size, heading])
            self.shapes += OBJECTS[name](box, len(self.boxes), self.random.uniform(0.15, 0.9))
            self.boxes.append(box)
            self.names.append(name)

    def _on_road(self) -> Place:
        """In a lane, parked at the curb, or across."""
        along, side = self.random.uniform(-FARTHEST, FARTHEST), self.random.choice([-1, 1])
        kind = self.random.integers(0, 10)
        heading = (0.0 if side < 0 else np.pi) + self.random.normal(0, 0.05)
        if kind < 5:
            return along, side * (self.curb - 1.2), heading
        if kind < 9:
            return along, side * self.random.uniform(1.3, 2.2), heading
        return along, self.random.uniform(-self.curb, self.curb), self.random.uniform(-np.pi, np.pi)

    def _on_pavement(self) -> Place:
        across = self.random.uniform(self.curb, self.walk) * self.random.choice([-1, 1])
        return self.random.uniform(-FARTHEST, FARTHEST), across, self.random.uniform(-np.pi, np.pi)

    def _anywhere(self) -> Place:
        """Most pedestrians keep to the pavement, some cross the road; the near ones matter most."""
        along, across, heading = self._on_pavement()
        if self.random.random() < 0.2:
            across = self.random.uniform(-self.curb, self.curb)
        return along * self.random.uniform(0.2, 1.0), across, heading

    def _at_the_curb(self) -> Place:
        side = self.random.choice([-1, 1])
        heading = (0.0 if side < 0 else np.pi) + self.random.normal(0, 0.2)
        across = side * self.random.uniform(self.curb - 3.5, self.curb + 1.0)
        return self.random.uniform(-FARTHEST, FARTHEST) * self.random.uniform(0.2, 1.0), across, heading

    def _free(self, radius: float, draw: Callable[[], Place]) -> Place | None:
        """(x, y, heading) of a place whose circle is free and which the sensor can reach."""
        for _ in range(ATTEMPTS):
            x, y, heading = self._turned(draw())
            apart = all(np.hypot(x - a, y - b) > radius + other for a, b, other in self.circles)
            if apart and NEAREST <= np.hypot(x, y) <= FARTHEST:
                self.circles.append((x, y, radius))
                return x, y, heading
        return None

    def _turned(self, place: Place) -> Place:
        """From the street's axes to the sensor's; headings in [-pi, pi)."""
        along, across, heading = place
        c, s = np.cos(self.direction), np.sin(self.direction)
        turned = (heading + self.direction + np.pi) % (2 * np.pi) - np.pi
        return along * c - across * s, along * s + across * c, turned
