"""`visionseq detect` on files of every kind, and the same boxes from the trainer to the byte."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tiny_detector import NAMES, RANGE, cloud, tiny_config, tiny_detector

from visionseq.cli.console import run
from visionseq.data.lidar.kitti_writer import CAMERA, write_kitti
from visionseq.data.lidar_world import LidarSensor, LidarWorld
from visionseq.data.point_files import PointCloud, read_points
from visionseq.lion import Detections, FrameInput, detect_frame
from visionseq.lion.results import write_detections

WORLD = LidarWorld(3, seed=2, sensor=LidarSensor(beams=16, columns=180))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_detector().save_pretrained(folder)
    return folder


def test_a_bin_file_becomes_json_kitti_lines_a_picture_and_a_page(model, tmp_path, capsys):
    cloud(500).tofile(tmp_path / "scan.bin")
    arguments = ["detect", str(model), "--input", str(tmp_path / "scan.bin"), "--out", str(tmp_path / "out")]
    assert run([*arguments, "--save", "bev,json,kitti,html"]) == 0
    assert "1 frame in" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["scan.html", "scan.json", "scan.png", "scan.txt"]
    found = json.loads((tmp_path / "out" / "scan.json").read_text())
    assert found["frame"] == "scan.bin"
    assert "nuScenes: x right, y forward" in found["convention"]
    assert "origin" not in found
    scores = [box["score"] for box in found["boxes"]]
    assert scores == sorted(scores, reverse=True)
    assert {box["class"] for box in found["boxes"]} <= set(NAMES)
    assert all(len(box["box"]) == 7 for box in found["boxes"])
    lines = (tmp_path / "out" / "scan.txt").read_text().splitlines()
    assert len(lines) == len(found["boxes"])
    assert all(len(line.split()) == 16 for line in lines)
    with Image.open(tmp_path / "out" / "scan.png") as picture:
        assert picture.width == 1200


def test_headings_in_files_are_wrapped(tmp_path):
    turns = torch.tensor([-3.0, 0.5, 3.5, 7.0])  # the anchor head's reach beyond a turn
    boxes = torch.cat([torch.rand(4, 6), turns[:, None]], 1)
    found = Detections(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), torch.ones(4, dtype=torch.int64))
    write_detections(tmp_path / "a.json", found, NAMES, {})
    headings = [box["box"][6] for box in boxes_in(tmp_path, "a")]
    assert headings[:2] == [-3.0, 0.5]
    np.testing.assert_allclose(headings[2:], [3.5 - 2 * np.pi, 7 - 2 * np.pi], rtol=1e-6)
    assert found.boxes[3, 6] == 7


def json_of(source: Path, out: Path) -> list[str]:
    return ["--input", str(source), "--out", str(out), "--save", "json"]


def boxes_in(folder: Path, name: str) -> list:
    return json.loads((folder / f"{name}.json").read_text())["boxes"]


def test_every_format_gives_the_same_boxes(model, tmp_path):
    laspy = pytest.importorskip("laspy")
    points = cloud(300)
    folder = tmp_path / "clouds"
    folder.mkdir()
    points.tofile(folder / "a.bin")
    np.save(folder / "b.npy", points)
    header = "VERSION .7\nFIELDS x y z intensity\nSIZE 4 4 4 4\nTYPE F F F F\nCOUNT 1 1 1 1\n"
    header += "WIDTH 300\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS 300\nDATA binary\n"
    (folder / "c.pcd").write_bytes(header.encode() + points.tobytes())
    las = laspy.create(point_format=0)
    las.header.scales = [1e-6] * 3
    las.x, las.y, las.z = points[:, :3].astype(np.float64).T
    las.write(folder / "d.las")
    assert run(["detect", str(model), *json_of(folder, tmp_path / "out")]) == 0
    first = boxes_in(tmp_path / "out", "a")
    assert first == boxes_in(tmp_path / "out", "b") == boxes_in(tmp_path / "out", "c")
    assert boxes_in(tmp_path / "out", "d")  # its intensity is an integer: other boxes


def test_a_shift_moves_the_points_and_the_boxes_back(model, tmp_path):
    points = (cloud(300) * 64).round() / 64  # so that the shift there and back is exact, and the model sees the same
    points.tofile(tmp_path / "a.bin")
    (points + np.float32([0, 0, 1, 0])).tofile(tmp_path / "b.bin")
    for name, shift in (("a", ["--shift=0,0,0"]), ("b", ["--shift", "0", "0", "-1"])):
        assert run(["detect", str(model), *shift, *json_of(tmp_path / f"{name}.bin", tmp_path)]) == 0
    a, b = (np.array([box["box"] for box in boxes_in(tmp_path, name)]) for name in "ab")
    np.testing.assert_allclose(b - a, np.tile([0, 0, 1, 0, 0, 0, 0], (len(a), 1)), atol=1e-3)


def test_odd_clouds_are_detected_in(model, tmp_path, caplog):
    bad = cloud(50)
    bad[:3, 0] = np.nan
    bad.tofile(tmp_path / "nan.bin")
    cloud(0).tofile(tmp_path / "empty.bin")
    cloud(1).tofile(tmp_path / "one.bin")
    np.save(tmp_path / "three.npy", cloud(50)[:, :3])
    (cloud(5) + np.float32([100, 0, 0, 0])).tofile(tmp_path / "far.bin")
    (cloud(5) + np.float32([0, 0, 50, 0])).tofile(tmp_path / "high.bin")
    assert run(["detect", str(model), *json_of(tmp_path, tmp_path / "out")]) == 0
    assert "nan.bin: 3 points that are not finite" in caplog.text
    assert "three.npy has no column intensity" in caplog.text
    assert "empty.bin has no points" in caplog.text
    beyond = "none of its 5 points is within the model's range x -6.4..6.4, y -6.4..6.4, z -2..2"
    assert f"far.bin: {beyond}" in caplog.text
    assert f"high.bin: {beyond}" in caplog.text
    assert len(list((tmp_path / "out").iterdir())) == 6


@pytest.mark.parametrize(
    ("top", "scale", "hint"),
    [
        (1.5, "1", None),
        (255, "1", "0.00392"),
        (65535, "1", "1.53e-05"),
        (255, "0.00392", None),
        (255, "0.1", "0.00392"),
    ],
)
def test_intensities_beyond_one_are_said(model, tmp_path, caplog, top, scale, hint):
    points = cloud(50)
    points[0, 3] = top
    points.tofile(tmp_path / "a.bin")
    arguments = ["--intensity-scale", scale, *json_of(tmp_path / "a.bin", tmp_path)]
    assert run(["detect", str(model), *arguments]) == 0
    assert ("a.bin: intensity up to" in caplog.text) == (hint is not None)
    assert hint is None or f"--intensity-scale {hint}" in caplog.text


def test_warnings_of_a_kind_are_shown_three_times_and_counted(model, tmp_path, caplog):
    for name in "abcde":
        (cloud(50) * np.float32([1, 1, 1, 200])).tofile(tmp_path / f"{name}.bin")
    assert run(["detect", str(model), *json_of(tmp_path, tmp_path / "out")]) == 0
    assert caplog.text.count("intensity up to") == 4
    assert f"2 more warnings like: {tmp_path / 'a.bin'}: intensity up to" in caplog.text


def test_a_model_that_squashes_intensities_takes_any(detector, caplog):
    detector.preprocessing["squashed"] = ["intensity"]
    points = cloud(50)
    points[:, 3] = 200
    FrameInput.of(PointCloud(points, ("x", "y", "z", "intensity")), detector)
    assert "intensity" not in caplog.text


def test_boxes_on_a_map_come_with_their_origin(model, tmp_path, caplog):
    laspy = pytest.importorskip("laspy")
    for name in "ab":
        las = laspy.create(point_format=0)
        las.header.scales, las.header.offsets = [1e-3] * 3, [500_123.0, 4_000_456.0, 12.0]
        las.x, las.y, las.z = (cloud(100)[:, :3].astype(np.float64) + las.header.offsets).T
        las.write(tmp_path / f"{name}.las")
    assert run(["detect", str(model), *json_of(tmp_path, tmp_path / "out")]) == 0
    found = json.loads((tmp_path / "out" / "a.json").read_text())
    assert found["origin"] == list(read_points(tmp_path / "a.las").origin)
    assert abs(found["origin"][1] - 4_000_456) < 3
    assert np.abs([box["box"][:2] for box in found["boxes"]]).max() < 20
    assert caplog.text.count("boxes are relative to the origin") == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--input", "none.bin"], 1, "no point files"),
        (["--input", "*.md"], 1, "no point files"),
        (["--input", "good.bin", "--calib", "none.txt"], 1, "none.txt is missing"),
        (["--input", "good.bin", "--calib", "calib"], 1, "good.txt is missing"),
        (["--input", "good.bin", "--image-size", "1242", "375"], 1, "image_size: 1242 375, expected --calib with it"),
        (["--input", "good.bin", "--out", "short.bin"], 1, "short.bin cannot be written: it is a file"),
        (["--input", "twin.*"], 1, "twin.bin and twin.npy would both be written to detections/twin.*"),
        (["--input", "[ab]/*"], 1, "a/same.bin and b/same.bin would both be written to detections/same.*"),
        (["--input", "good.bin", "--save", "gif"], 2, 'Invalid value "gif" for --save'),
        ([], 2, "input"),
    ],
)
def test_mistakes_are_found_before_the_model_is_loaded(tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    for name in ("short.bin", "twin.bin", "twin.npy", "twin.txt", "a/same.bin", "b/same.bin", "calib/x.txt", "a.md"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_bytes(b"1234567")
    cloud(10).tofile("good.bin")
    assert run(["detect", "--model", "no-such-model", *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_files_that_cannot_be_read_do_not_stop_the_others(model, tmp_path, caplog, capsys):
    cloud(10).tofile(tmp_path / "a.bin")
    cloud(10).tofile(tmp_path / "c.bin")
    (tmp_path / "b.bin").write_bytes(b"1234567")
    assert run(["detect", str(model), *json_of(tmp_path, tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert "2 frames in" in printed.out
    assert printed.err.strip() == "DataError: 1 of 3 files not read"
    assert "b.bin: 7 bytes" in caplog.text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "c.json"]


def test_a_single_file_that_cannot_be_read_is_the_error(model, tmp_path, capsys):
    (tmp_path / "b.bin").write_bytes(b"1234567")
    assert run(["detect", str(model), *json_of(tmp_path / "b.bin", tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert "b.bin: 7 bytes" in error
    assert len(error.strip().splitlines()) == 1


def test_a_damaged_calibration_costs_its_frame_alone(model, tmp_path, caplog):
    kitti = tmp_path / "kitti" / "training"
    write_kitti(WORLD, tmp_path / "kitti")
    broken, *whole = sorted((kitti / "calib").iterdir())
    broken.write_text("P2: 1 2 3\n")
    arguments = ["--calib", str(kitti / "calib"), *json_of(kitti / "velodyne", tmp_path / "out")]
    assert run(["detect", str(model), *arguments]) == 1
    assert f"{broken.name}, line 1: P2 has 3 values" in caplog.text
    assert sorted(path.stem for path in (tmp_path / "out").iterdir()) == [path.stem for path in whole]


def test_calibrations_are_named_as_the_outputs_are(model, tmp_path):
    write_kitti(WORLD, tmp_path / "kitti")
    (tmp_path / "calib").mkdir()
    next((tmp_path / "kitti" / "training" / "calib").iterdir()).rename(tmp_path / "calib" / "sweep.txt")
    np.column_stack([cloud(50), np.zeros(50, np.float32)]).tofile(tmp_path / "sweep.pcd.bin")
    arguments = ["--input", str(tmp_path / "sweep.pcd.bin"), "--calib", str(tmp_path / "calib")]
    assert run(["detect", str(model), *arguments, "--out", str(tmp_path / "out"), "--save", "kitti"]) == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sweep.txt"]


def test_the_summary_tells_the_boxes_that_are_drawn(model, tmp_path, capsys):
    for name in "ab":
        cloud(300).tofile(tmp_path / f"{name}.bin")
    arguments = ["--draw-threshold", "0.1", *json_of(tmp_path, tmp_path / "out")]
    assert run(["detect", str(model), *arguments]) == 0
    drawn = sum(box["score"] >= 0.1 for name in "ab" for box in boxes_in(tmp_path / "out", name))
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("2 frames in ")
    assert first.endswith(f"({drawn} above 0.1)")
    assert drawn > 0
    assert second == str(tmp_path / "out")


def test_another_kind_of_model_is_refused(tmp_path, capsys):
    cloud(10).tofile(tmp_path / "a.bin")
    assert run(["detect", "rf-digits-edm", "--input", str(tmp_path / "a.bin"), "--out", str(tmp_path)]) == 1
    assert "expected a detector" in capsys.readouterr().err


@pytest.mark.parametrize("in_view", [False, True])
def test_the_trainer_predicts_the_same_bytes(model, tmp_path, in_view):
    write_kitti(WORLD, tmp_path / "kitti")
    frames = {"class_path": "visionseq.data.lidar.Kitti", "init_args": {"root": "kitti", "fov_points_only": in_view}}
    camera = ["--calib", "kitti/training/calib", "--image-size", "1242", "375"] if in_view else []
    (tmp_path / "kitti" / "training" / "image_2").mkdir()
    for name in WORLD.frame_ids:
        Image.new("L", (1242, 375)).save(tmp_path / "kitti" / "training" / "image_2" / f"{name}.png")
    preparation = {"features": ["x", "y", "z", "intensity"], "point_cloud_range": RANGE, "class_names": NAMES}
    data = {"dataset": frames, "eval_dataset": frames, "preparation": preparation, "batch_size": 3}
    task = {"detector": tiny_config(), "optimizer": {"lr": 0.001}, "submission": "visionseq.lion.KittiSubmission"}
    config = {
        "model": {"class_path": "visionseq.lion.LionTask", "init_args": task},
        "data": {"class_path": "visionseq.data.PointCloudData", "init_args": data},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    commands = [
        ["predict", "--config", "tiny.yaml", "--ckpt_path", str(model), "--run_dir", "run"],
        ["detect", str(model), "--input", "kitti/training/velodyne", "--out", "out", "--save", "json,kitti", *camera],
    ]
    environment = os.environ | {"PYTHONSAFEPATH": "1", "OMP_NUM_THREADS": "1", "VISIONSEQ_OFFLINE": "1"}
    for command in commands:
        done = subprocess.run(
            [sys.executable, "-m", "visionseq", *command], cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    predicted = sorted((tmp_path / "run" / "predictions").glob("*.json"))
    assert [path.stem for path in predicted] == WORLD.frame_ids
    for path in predicted:
        assert json.loads(path.read_text())["boxes"] == boxes_in(tmp_path / "out", path.stem)
        assert json.loads(path.read_text())["boxes"]
        submitted = path.parent / "data" / f"{path.stem}.txt"
        assert not in_view or submitted.read_bytes() == (tmp_path / "out" / submitted.name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "run" / "predictions" / "data").iterdir()) == [
        f"{name}.txt" for name in WORLD.frame_ids
    ]


def test_an_image_size_leaves_the_points_that_the_camera_sees(detector):
    ahead, behind = cloud(20), cloud(20)
    ahead[:, :3] = [5, 0, 0]
    behind[:, :3] = [-5, 0, 0]
    behind[0, :3] = np.nan
    both = PointCloud(np.concatenate([behind, ahead]), ("x", "y", "z", "intensity"))
    frame = FrameInput.of(both, detector, calibration=CAMERA, image_shape=(375, 1242))
    assert len(frame.points) == 21  # what is not finite is counted where it is dropped
    expected = detect_frame(detector, FrameInput.of(PointCloud(ahead, both.columns), detector))
    assert torch.equal(detect_frame(detector, frame).boxes, expected.boxes)


def test_a_cloud_whose_ground_is_elsewhere_is_noted(detector, caplog):
    """The note has the shift that brings the cloud to the height that the model learned at."""
    detector.preprocessing = {**detector.preprocessing, "ground_level": -WORLD.sensor.height}
    points = LidarWorld(1, seed=5, sensor=LidarSensor(beams=32, columns=720)).frame(0).points
    columns = ("x", "y", "z", "intensity")
    higher = PointCloud(points + np.float32([0, 0, 1.2, 0]), columns)
    FrameInput.of(PointCloud(points, columns), detector)
    FrameInput.of(higher, detector, shift=(1.0, 0.0, -1.2))
    assert "ground" not in caplog.text
    FrameInput.of(higher, detector, shift=(1.0, 0.0, 0.5), name="scan.bin")
    assert "scan.bin: the ground is at z = -0.0" in caplog.text
    assert "in the model's training data at -1.73 m; --shift 1 0 -1.2" in caplog.text
