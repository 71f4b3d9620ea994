"""A lidar world: streets with cars, pedestrians and cyclists, seen by a simulated spinning lidar.

Frame i of a world depends on (seed, i) alone. It is made for demonstrations, tests and small trainings on a machine
without recordings; it does not replace them.
"""

from visionseq.data.lidar_world.scan import LidarScan, render
from visionseq.data.lidar_world.scene import CLASS_NAMES, Scene, draw_scene
from visionseq.data.lidar_world.sensor import LidarSensor
from visionseq.data.lidar_world.world import LidarWorld

__all__ = ["CLASS_NAMES", "LidarScan", "LidarSensor", "LidarWorld", "Scene", "draw_scene", "render"]
