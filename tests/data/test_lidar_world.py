"""The simulated lidar: rays against a plain computation, objects against their boxes, the same frame for a seed."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from visionseq.data.lidar_world import CLASS_NAMES, LidarSensor, LidarWorld, Scene, draw_scene, render
from visionseq.data.lidar_world.raycast import GROUND, NOTHING
from visionseq.data.lidar_world.scan import first_hits
from visionseq.data.lidar_world.shapes import ShapeTable
from visionseq.errors import ConfigError

SMALL = LidarSensor(beams=12, columns=90)


def frame_of(seed: int, sensor: LidarSensor = SMALL):
    random = np.random.default_rng(seed)
    return render(draw_scene(random, -sensor.height), sensor, random)


def nearest(scene: Scene, sensor: LidarSensor) -> np.ndarray:
    """Depth of every ray by testing every shape, [columns, beams]."""
    d = sensor.directions
    with np.errstate(divide="ignore", invalid="ignore"):
        down = -d[..., 2]
        depth = np.where((down > 0) & (sensor.height / down <= sensor.reach), sensor.height / down, sensor.reach)
        for x, y, z, dx, dy, dz, heading in scene.shapes.boxes:
            c, s = np.cos(heading), np.sin(heading)
            turned = np.stack([c * d[..., 0] + s * d[..., 1], c * d[..., 1] - s * d[..., 0], d[..., 2]], -1)
            centre, half = np.array([c * x + s * y, c * y - s * x, z]), np.array([dx, dy, dz]) / 2
            sides = np.sort(np.stack([(centre - half) / turned, (centre + half) / turned]), 0)
            near, far = sides[0].max(-1), sides[1].min(-1)
            depth = np.where((near <= far) & (near > 0) & (near < depth), near, depth)
        for x, y, z, radius, height in scene.shapes.cylinders:
            a, b = (d[..., :2] ** 2).sum(-1), d[..., 0] * x + d[..., 1] * y
            root = np.sqrt(b * b - a * (x * x + y * y - radius**2))
            t = (b - root) / a
            hit = (t > 0) & (t < depth) & (np.abs(t * d[..., 2] - z) <= height / 2)
            depth = np.where(hit, t, depth)
    return depth


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_the_first_hit_is_the_nearest_of_all_shapes(seed):
    scene = draw_scene(np.random.default_rng(seed))
    depth = first_hits(scene, SMALL, SMALL.directions)[0]
    np.testing.assert_allclose(depth, nearest(scene, SMALL), rtol=1e-9)


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_points_of_an_object_lie_in_its_box(seed):
    frame = frame_of(seed, LidarSensor(beams=24, columns=360, range_noise=0.0))
    assert frame.points.dtype == frame.boxes.dtype == np.float32
    assert len(frame.names) == len(frame.boxes) == len(frame.num_points)
    assert frame.num_points.sum() == (frame.owner >= 0).sum() > 0
    for index, (x, y, z, dx, dy, dz, heading) in enumerate(frame.boxes):
        own = frame.points[frame.owner == index]
        assert len(own) == frame.num_points[index]
        u, v = own[:, 0] - x, own[:, 1] - y
        c, s = np.cos(heading), np.sin(heading)
        for value, size in ((c * u + s * v, dx), (c * v - s * u, dy), (own[:, 2] - z, dz)):
            assert np.abs(value).max(initial=0) <= size / 2 + 1e-3
        assert -np.pi <= heading < np.pi
    assert ((frame.points[:, 3] >= 0) & (frame.points[:, 3] <= 1)).all()


@pytest.mark.parametrize("name", ["Car", "Cyclist"])
def test_the_scan_tells_front_from_back(name):
    """What is high sits behind the middle: else nothing could learn a heading from the points."""
    sensor = LidarSensor(beams=48, columns=720, range_noise=0.0, drop_out=0.0)
    middles = []
    for seed in range(6):
        frame = frame_of(seed, sensor)
        for index, (x, y, z, dx, _, dz, heading) in enumerate(frame.boxes):
            own = frame.points[(frame.owner == index) & (frame.points[:, 2] > z + 0.15 * dz)]
            if frame.names[index] == name and len(own) >= 20:
                along = np.cos(heading) * (own[:, 0] - x) + np.sin(heading) * (own[:, 1] - y)
                middles.append((along.min() + along.max()) / (2 * dx))
    assert len(middles) >= 10
    assert np.mean(middles) < -0.08


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_objects_stand_on_the_ground_and_apart(seed):
    scene = draw_scene(np.random.default_rng(seed))
    assert set(scene.names) <= set(CLASS_NAMES)
    np.testing.assert_allclose(scene.boxes[:, 2] - scene.boxes[:, 5] / 2, -1.73, atol=1e-5)
    radius = np.hypot(scene.boxes[:, 3], scene.boxes[:, 4]) / 2
    gaps = np.hypot(*(scene.boxes[:, None, :2] - scene.boxes[None, :, :2]).transpose(2, 0, 1))
    np.fill_diagonal(gaps, np.inf)
    assert (gaps > radius[:, None] + radius[None, :] - 1e-4).all()


def test_a_seed_gives_the_same_frame_with_any_number_of_threads():
    threads = torch.get_num_threads()
    frames = []
    try:
        for count in (1, 2, 3):
            torch.set_num_threads(count)
            frames.append(frame_of(7))
    finally:
        torch.set_num_threads(threads)
    for other in frames[1:]:
        assert np.array_equal(frames[0].points, other.points)
        assert np.array_equal(frames[0].num_points, other.num_points)
    assert not np.array_equal(frames[0].points, frame_of(8).points)


def test_an_empty_street_returns_the_ground():
    nothing = Scene(np.zeros((0, 7), np.float32), (), ShapeTable.of([]))
    sensor = LidarSensor(beams=8, columns=16, lowest=-20, highest=20, drop_out=0.0, range_noise=0.0)
    depth, _, _, owner = first_hits(nothing, sensor, sensor.directions)
    assert set(np.unique(owner)) == {GROUND, NOTHING}
    assert (owner[:, sensor.elevations > 0] == NOTHING).all()
    frame = render(nothing, sensor, np.random.default_rng(0))
    assert len(frame.points)
    assert len(frame.num_points) == 0
    np.testing.assert_allclose(frame.points[:, 2], -sensor.height, rtol=1e-5)
    assert depth.max() <= sensor.reach


def test_drop_out_and_noise_follow_the_sensor():
    clean = frame_of(3, LidarSensor(beams=16, columns=256, drop_out=0.0, range_noise=0.0))
    lossy = frame_of(3, LidarSensor(beams=16, columns=256, drop_out=0.5, range_noise=0.0))
    assert 0.4 < len(lossy.points) / len(clean.points) < 0.6


@pytest.mark.parametrize("wrong", [{"beams": 0}, {"columns": -1}, {"lowest": 3.0, "highest": 2.0}, {"drop_out": 1.0}])
def test_a_sensor_that_cannot_be_is_refused(wrong):
    with pytest.raises(ConfigError, match="lidar"):
        LidarSensor(**wrong)


def test_the_world_is_a_data_set_of_frames():
    world = LidarWorld(3, seed=5, sensor=SMALL, min_points=4)
    frames = [world.frame(index) for index in range(len(world))]
    again = pickle.loads(pickle.dumps(world)).frame(2)  # noqa: S301 (our own bytes)
    assert np.array_equal(frames[2].points, again.points)
    assert np.array_equal(frames[2].boxes, again.boxes)
    assert not np.array_equal(frames[0].points, LidarWorld(1, seed=6, sensor=SMALL).frame(0).points)
    for index, frame in enumerate(frames):
        assert frame.frame_id == world.frame_ids[index]
        assert frame.points.shape[1] == len(world.features)
        assert (frame.num_points >= 4).all()
        assert len(frame.boxes) == len(frame.names) == len(frame.num_points) == len(frame.difficulty)
        assert set(frame.names) <= set(world.class_names)
        labels = world.labels(index)
        assert labels.points.shape == (0, 4)
        assert np.array_equal(labels.boxes, frame.boxes)
    with pytest.raises(ConfigError, match="frames 0"):
        LidarWorld(0)
