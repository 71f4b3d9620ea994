"""The lidar world as a data set of any number of frames, each made when it is read."""

import numpy as np

from visionseq.data.lidar.frame import UNKNOWN, LidarFrame
from visionseq.data.lidar_world.scan import render
from visionseq.data.lidar_world.scene import CLASS_NAMES, draw_scene
from visionseq.data.lidar_world.sensor import LidarSensor
from visionseq.data.seeding import seed_of
from visionseq.errors import ConfigError

_WORLD = 11  # key that keeps the worlds apart from other draws of a seed


class LidarWorld:
    """Frames of random streets, as `LidarFrames`: classes Car, Pedestrian and Cyclist, columns x, y, z, intensity.

    Args:
        frames: number of frames.
        seed: of the world; worlds of different seeds share no street.
        sensor: the lidar that sees them; None: one like KITTI's.
        min_points: objects that fewer points hit have no label.
    """

    class_names = CLASS_NAMES
    features = ("x", "y", "z", "intensity")

    def __init__(self, frames: int, seed: int = 0, sensor: LidarSensor | None = None, min_points: int = 5):
        if frames < 1 or min_points < 0:
            raise ConfigError(f"lidar world: frames {frames}, min_points {min_points}; expected >= 1 and >= 0")
        self.frames, self.seed, self.min_points = frames, seed, min_points
        self.sensor = sensor or LidarSensor()
        self.frame_ids = [f"{index:06d}" for index in range(frames)]

    def __len__(self) -> int:
        return self.frames

    def frame(self, index: int) -> LidarFrame:
        random = np.random.default_rng(seed_of(self.seed, _WORLD, index))
        scan = render(draw_scene(random, -self.sensor.height), self.sensor, random)
        seen = scan.num_points >= self.min_points
        names = np.array(scan.names, dtype=np.str_)[seen] if len(seen) else np.zeros(0, np.str_)
        difficulty = np.full(int(seen.sum()), UNKNOWN, np.int64)
        return LidarFrame(
            self.frame_ids[index], scan.points, scan.boxes[seen], names, scan.num_points[seen], difficulty
        )

    def labels(self, index: int) -> LidarFrame:
        frame = self.frame(index)
        frame.points = frame.points[:0]
        return frame
