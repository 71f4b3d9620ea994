"""`visionseq inspect` on lidar data: what it counts, what it finds broken, and its pictures."""

import numpy as np
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
    assert "3 frames, 2 of them read, 1 bad" in captured.out
    assert f"{bad}, line 1: 4 fields" in captured.err
    assert run(["inspect", str(kitti), "--skip-corrupt"]) == 0


def test_boxes_that_no_object_has_are_counted(tmp_path, capsys):
    for folder in ("points", "labels"):
        (tmp_path / folder).mkdir()
    np.zeros((5, 4), np.float32).tofile(tmp_path / "points" / "a.bin")
    rows = ("1 1 0 4 2 1.5 1 Car", "1 1 0 4 -1.6 1.5 3 Car", "1 1 0 4 2 1.5 -6 Car", "1 1 0 4 0 0 6.2 Car")
    (tmp_path / "labels" / "a.txt").write_text("\n".join(rows))
    assert run(["inspect", str(tmp_path)]) == 0
    shown = capsys.readouterr().out
    assert "objects: 4 in 1 labelled frames\n  2 without a volume: they are not learned\n" in shown
    (tmp_path / "labels" / "a.txt").write_text(rows[0].replace(" 1 Car", " 90 Car"))
    assert run(["inspect", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "a.txt, line 1: heading 90, expected radians within +-2 pi; is it in degrees?" in captured.err
    assert run(["inspect", "lidar_world", "--limit", "1"]) == 0
    assert "volume" not in capsys.readouterr().out


def test_a_frame_is_drawn_by_its_place_in_the_set(kitti, tmp_path, capsys, monkeypatch):
    from visionseq.cli import inspect_lidar

    drawn = []
    monkeypatch.setattr(inspect_lidar, "_draw", lambda frames, index, out: drawn.append(index))
    command = ["inspect", str(kitti), "--out", str(tmp_path / "frame.png"), "--limit", "1"]
    for frame in (1, 2):
        assert run([*command, "--frame", str(frame)]) == 0
    for frame in (3, -1):
        assert run([*command, "--frame", str(frame)]) == 1
        assert f"frame: {frame}, expected 0 to 2" in capsys.readouterr().err
    assert drawn == [1, 2]
    (kitti / "training" / "label_2" / f"{WORLD.frame_ids[0]}.txt").write_text("Car 1 2 3\n")
    assert run(["inspect", str(kitti), "--out", str(tmp_path / "frame.png"), "--skip-corrupt"]) == 0
    assert drawn == [1, 2, 1]  # the first that could be read


@pytest.mark.parametrize(
    "files",
    [
        ["000000.bin", "000001.bin"],
        ["a__LIDAR_TOP__1.pcd.bin", "a__CAM_FRONT__1.jpg", "a.json"],
        ["annotations.feather", "sensors/lidar/1.feather"],
        ["LIDAR_TOP/a.pcd.bin", "CAM_FRONT/a.jpg"],
        ["velodyne/a.bin", "image_2/a.png"],
        ["0000.npy", "labels.npz"],
    ],
    ids=lambda files: files[0],
)
def test_points_without_a_layout_are_no_pictures(files, tmp_path, capsys):
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        if name.endswith(("g",)):
            Image.new("RGB", (9, 9)).save(tmp_path / name)
        else:
            (tmp_path / name).write_bytes(bytes(160))
    assert run(["inspect", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert f"{tmp_path}: point files without a known layout" in captured.err
    assert "training/velodyne" in captured.err
    assert "samples" not in captured.out
    assert run(["inspect", str(tmp_path / files[0])]) == 1
    assert f"{files[0]}: point files without a known layout" in capsys.readouterr().err


def test_pictures_beside_an_array_are_pictures(tmp_path, capsys):
    Image.new("RGB", (9, 9)).save(tmp_path / "a.png")
    np.save(tmp_path / "statistics.npy", np.zeros((4, 4)))
    assert run(["inspect", str(tmp_path), "--size", "8"]) == 0
    assert "ImageFolder: 1 samples" in capsys.readouterr().out


def test_what_is_not_there_is_compared_with_all_built_in_sets(capsys):
    assert run(["inspect", "nosuch"]) == 1
    message = "nosuch: no such file or folder, and none of the built-in sets digits, fashion_mnist, lidar_world"
    assert message in capsys.readouterr().err


def test_folders_are_told_apart(kitti, tmp_path):
    assert type(open_frames(str(kitti / "training"))).__name__ == "Kitti"
    assert len(open_frames(str(kitti), "train")) == 3
    assert open_frames("lidar_world").class_names == WORLD.class_names
    assert open_frames(str(tmp_path)) is None
    assert open_frames("digits") is None
