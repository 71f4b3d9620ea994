"""`visionseq inspect` on lidar data: what it counts, what it finds broken, and its pictures."""

import pytest
from PIL import Image

from visionseq.cli.console import run
from visionseq.data.lidar import write_kitti
from visionseq.data.lidar.opening import open_frames
from visionseq.data.lidar_world import LidarSensor, LidarWorld

WORLD = LidarWorld(3, seed=1, sensor=LidarSensor(beams=8, columns=90), min_points=1)


@pytest.fixture
def kitti(tmp_path):
    write_kitti(WORLD, tmp_path / "set")
    (tmp_path / "set" / "training" / "image_2").mkdir()
    Image.new("RGB", (1242, 375)).save(tmp_path / "set" / "training" / "image_2" / f"{WORLD.frame_ids[1]}.png")
    return tmp_path / "set"


def test_it_counts_and_draws(kitti, tmp_path, capsys):
    assert run(["inspect", str(kitti), "--out", str(tmp_path / "frame.png"), "--frame", "1"]) == 0
    output = capsys.readouterr().out
    assert "Kitti: 3 frames, 3 of them read, 0 bad" in output
    labels = [WORLD.labels(i) for i in range(3)]
    for name in WORLD.class_names:
        count = sum((frame.names == name).sum() for frame in labels)
        assert not count or f"  {name}: {count}, mean size" in output
    for name in ("frame.png", "frame_camera.png"):
        with Image.open(tmp_path / name) as picture:
            assert picture.convert("L").getextrema()[1] > 0


def test_it_names_the_first_bad_file(kitti, capsys):
    bad = kitti / "training" / "label_2" / f"{WORLD.frame_ids[1]}.txt"
    bad.write_text("Car 1 2 3\n")
    assert run(["inspect", str(kitti)]) == 1
    captured = capsys.readouterr()
    assert "3 of them read, 1 bad" in captured.out
    assert f"{bad}, line 1: 4 fields" in captured.err
    assert run(["inspect", str(kitti), "--skip-corrupt"]) == 0


def test_folders_are_told_apart(kitti, tmp_path):
    assert type(open_frames(str(kitti / "training"))).__name__ == "Kitti"
    assert len(open_frames(str(kitti), "train")) == 3
    assert open_frames("lidar_world").class_names == WORLD.class_names
    assert open_frames(str(tmp_path)) is None
    assert open_frames("digits") is None
