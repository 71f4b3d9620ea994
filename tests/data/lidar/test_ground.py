"""The height of the ground, from simulated and from real scans."""

import os
from pathlib import Path

import numpy as np
import pytest

from visionseq.data.lidar.ground import ground_level
from visionseq.data.lidar_world import LidarSensor, LidarWorld
from visionseq.data.point_files import read_points

SAMPLES = Path(os.environ.get("VISIONSEQ_LIDAR_SAMPLES") or Path(__file__).parents[4] / "shared" / "data" / "lidar")
WORLD = LidarWorld(3, seed=5, sensor=LidarSensor(beams=32, columns=720))


@pytest.mark.parametrize("index", range(3))
@pytest.mark.parametrize("shift", [-2.0, 0.0, 1.3])
def test_streets_are_below_the_sensor_by_its_height(index, shift):
    points = WORLD.frame(index).points[:, :3] + np.float32([0, 0, shift])
    assert ground_level(points) == pytest.approx(shift - WORLD.sensor.height, abs=0.1)


def test_reflections_below_the_ground_and_points_that_are_not_finite_change_nothing():
    points = WORLD.frame(0).points[:, :3].copy()
    rows = np.random.default_rng(0).permutation(len(points))
    points[rows[: len(rows) // 30], 2] -= 3.0
    points[rows[-50:]] = np.nan
    assert ground_level(points) == pytest.approx(-WORLD.sensor.height, abs=0.15)


def test_where_there_is_no_ground_there_is_no_level():
    random = np.random.default_rng(0)
    assert ground_level(np.zeros((0, 4), np.float32)) is None
    assert ground_level(random.uniform(-20, 20, (20_000, 3))) is None  # a cloud all around
    assert ground_level(WORLD.frame(0).points[:100]) is None


@pytest.mark.skipif(not (SAMPLES / "kitti").is_dir(), reason="no recordings here")
@pytest.mark.parametrize(
    ("pattern", "expected"),
    [("nuscenes/*.pcd.bin", -1.84), ("kitti/training/velodyne/*.bin", -1.73)],
)
def test_real_sensors_stand_where_their_makers_say(pattern, expected):
    for path in sorted(SAMPLES.glob(pattern)):
        assert ground_level(read_points(path).values) == pytest.approx(expected, abs=0.3), path
