"""The sensor's scan of a scene: points with range noise, drop-out and intensity, and the object of each."""

from dataclasses import dataclass

import numpy as np

from visionseq.data.lidar_world.raycast import NOTHING, cast
from visionseq.data.lidar_world.scene import Scene
from visionseq.data.lidar_world.sensor import LidarSensor
from visionseq.kernels.threads import spread


@dataclass(frozen=True)
class LidarScan:
    """One turn of the sensor.

    Fields: `points` float32 [N, 4] (x, y, z, intensity in [0, 1]), `owner` int64 [N] (index of the object hit, negative
    for the background), `boxes` float32 [M, 7], `names` of their classes, `num_points` int64 [M].
    """

    points: np.ndarray
    owner: np.ndarray
    boxes: np.ndarray
    names: tuple[str, ...]
    num_points: np.ndarray


def render(scene: Scene, sensor: LidarSensor, random: np.random.Generator) -> LidarScan:
    """Cast all rays of the sensor into a scene.

    A return is as strong as its material reflects, and weaker where the ray meets it at a flat angle. Weak and far
    returns get lost.
    """
    directions = sensor.directions
    depth, cosine, material, owner = first_hits(scene, sensor, directions)
    strength = material * np.sqrt(cosine)
    lost = sensor.drop_out + (1 - sensor.drop_out) * 0.5 * (depth / sensor.reach) ** 2 * (1 - strength)
    kept = (owner != NOTHING) & (random.random(depth.shape) >= lost)
    distance = depth + random.normal(0.0, 1.0, depth.shape) * sensor.range_noise
    intensity = np.clip(strength + random.normal(0.0, 0.03, depth.shape), 0.0, 1.0)
    points = np.concatenate([directions * distance[..., None], intensity[..., None]], -1)[kept].astype(np.float32)
    owner = owner[kept]
    seen = np.bincount(owner[owner >= 0], minlength=len(scene.boxes))
    return LidarScan(points, owner, scene.boxes, scene.names, seen)


def first_hits(scene: Scene, sensor: LidarSensor, directions: np.ndarray) -> tuple[np.ndarray, ...]:
    """Depth in metres, cosine of incidence, reflectance and owner of the first hit of each ray, [columns, beams]."""
    shape = directions.shape[:2]
    depth, cosine, material, owner = np.empty(shape), np.empty(shape), np.empty(shape), np.empty(shape, np.int64)
    shapes = scene.shapes
    arguments = (directions, -sensor.height, sensor.reach, shapes.boxes, shapes.cylinders)
    results = (depth, cosine, material, owner)
    spread(cast, sensor.columns, *arguments, shapes.reflectance, shapes.owner, *results)
    return results
