"""Readers of the data sets on small sets of their own layout, real samples where they are, and damaged files."""

import os
from pathlib import Path

import numpy as np
import pytest
from small_sets import KINDS, WORLD, make_kitti, make_nuscenes

from visionseq.data.lidar import Argoverse2, Kitti, NuScenes, argoverse2, waymo
from visionseq.errors import ConfigError, DataError
from visionseq.geometry import DATABASE, count_points

SAMPLES = Path(os.environ.get("VISIONSEQ_LIDAR_SAMPLES") or Path(__file__).parents[4] / "shared" / "data" / "lidar")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "nuscenes"])
def test_a_set_in_its_layout_gives_the_frames_back(kind, tmp_path):
    make, read = KINDS[kind]
    frames = read(make(tmp_path))
    assert len(frames) == len(frames.frame_ids) == 2
    for i in range(2):
        frame, original, labels = frames.frame(i), WORLD.frame(i), frames.labels(i)
        assert frame.points.dtype == np.float32
        assert frame.points.shape[1] == len(frames.features)
        np.testing.assert_allclose(frame.points[:, :3], original.points[:, :3], atol=0.05)
        np.testing.assert_allclose(frame.boxes[:, :6], original.boxes[:, :6], atol=1e-2)
        np.testing.assert_allclose(np.cos(frame.boxes[:, 6] - original.boxes[:, 6]), 1, atol=1e-3)
        assert len(frame.names) == len(frame.num_points) == len(frame.difficulty) == len(original.boxes)
        assert set(frame.names) <= set(frames.class_names)
        assert labels.points.shape == (0, len(frames.features))
        assert np.array_equal(labels.boxes, frame.boxes)


def test_kitti_counts_points_in_view_and_reads_planes(tmp_path):
    frames = Kitti(str(make_kitti(tmp_path)), "train")
    frame = frames.frame(0)
    np.testing.assert_allclose(frame.road_plane, [0, -1, 0, 1.73])
    (tmp_path / "testing").mkdir()
    with pytest.raises(ConfigError, match="no frames in velodyne"):
        Kitti(str(tmp_path), folder="testing")


def test_nuscenes_brings_sweeps_together_and_knows_how_fast_things_are(tmp_path):
    frames = NuScenes(str(make_nuscenes(tmp_path)), "v1.0-mini", sweeps=3)
    assert frames.frame_ids == ["a", "b"]
    first, second = frames.frame(0), frames.frame(1)
    assert first.points.shape == (150, 5)  # the keyframe twice more, where the scene begins
    assert set(np.round(first.points[:, 4], 4)) == {0}
    assert np.round(second.points[::50, 4], 3).tolist() == [0, 0.25, 0.5]
    np.testing.assert_allclose(second.points[50:100, 0], second.points[:50, 0] - 1, atol=1e-4)
    assert first.names.tolist() == ["car", "ignore"]
    np.testing.assert_allclose(first.boxes[0], [10, 3, 0.5, 4, 2, 1.5, 0, 4, 0], atol=1e-5)
    assert first.annotations["attribute"].tolist() == ["vehicle.moving", ""]
    assert np.isnan(first.boxes[1, 7:]).all()
    assert len(NuScenes(str(tmp_path), "v1.0-mini", scenes=["scene-0001"])) == 2


@pytest.mark.skipif(not (SAMPLES / "kitti").is_dir(), reason="no recordings here")
def test_real_frames_of_kitti_and_argoverse2():
    frames = Kitti(str(SAMPLES / "kitti"), min_points=1)
    assert frames.frame(0).num_points.tolist() == [377]
    assert frames.frame(1).names.tolist() == ["Truck", "Car", "Cyclist"]
    assert frames.frame(1).difficulty.tolist() == [1, -1, -1]
    sweep = Argoverse2(str(SAMPLES / "argo2"), "").frame(0)
    counts = count_points(sweep.points, sweep.boxes, DATABASE)
    assert (np.abs(counts - sweep.num_points) <= 2).mean() > 0.9


CACHES = (argoverse2.read_annotations, waymo.read_segment, waymo.read_origins)


def mutations(data: bytes, random: np.random.Generator, count: int):
    for _ in range(count):
        changed = bytearray(data)
        kind = int(random.integers(4))
        place = int(random.integers(len(changed)))
        if kind == 0:
            changed = changed[:place]
        elif kind == 1:
            changed[place] ^= 1 << int(random.integers(8))
        elif kind == 2:
            changed[place : place + 8] = random.integers(0, 256, 8, dtype=np.uint8).tobytes()
        else:
            changed[place:place] = b" nan -1e999 [{" if random.random() < 0.5 else bytes(changed[:place][-20:])
        yield bytes(changed)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_named(kind, tmp_path):
    make, read = KINDS[kind]
    root = make(tmp_path / "set")
    read(root)  # what is kept beside the files is damaged too
    random = np.random.default_rng(0)
    refused = 0
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        whole = path.read_bytes()
        for changed in mutations(whole, random, 50):
            path.write_bytes(changed)
            for cached in CACHES:
                cached.cache_clear()
            try:
                frames = read(root)
                for i in range(len(frames)):
                    frames.frame(i)
            except DataError as error:
                refused += str(root) in str(error) or pytest.fail(f"the message names no file: {error}")
            except ConfigError:  # a list of names that are not there
                refused += 1
        path.write_bytes(whole)
    assert refused > 10
