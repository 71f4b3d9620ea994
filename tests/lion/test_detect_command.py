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
from visionseq.data.lidar.kitti_writer import write_kitti
from visionseq.data.lidar_world import LidarSensor, LidarWorld
from visionseq.lion import Detections
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
    assert "1 frames in" in capsys.readouterr().out
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["scan.html", "scan.json", "scan.png", "scan.txt"]
    found = json.loads((tmp_path / "out" / "scan.json").read_text())
    assert found["frame"] == "scan.bin"
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
    assert run(["detect", str(model), "--input", str(folder), "--out", str(tmp_path / "out"), "--save", "json"]) == 0
    first = boxes_in(tmp_path / "out", "a")
    assert first == boxes_in(tmp_path / "out", "b") == boxes_in(tmp_path / "out", "c")
    assert boxes_in(tmp_path / "out", "d")  # its intensity is an integer: other boxes


def test_a_shift_moves_the_points_and_the_boxes_back(model, tmp_path):
    points = cloud(300)
    points.tofile(tmp_path / "a.bin")
    (points + np.float32([0, 0, 1, 0])).tofile(tmp_path / "b.bin")
    for name, shift in (("a", "0,0,0"), ("b", "0,0,-1")):
        arguments = [
            "detect",
            str(model),
            "--input",
            str(tmp_path / f"{name}.bin"),
            "--out",
            str(tmp_path),
            "--save",
            "json",
        ]
        assert run([*arguments, "--shift", f"[{shift}]"]) == 0
    a, b = (np.array([box["box"] for box in boxes_in(tmp_path, name)]) for name in "ab")
    np.testing.assert_allclose(b - a, np.tile([0, 0, 1, 0, 0, 0, 0], (len(a), 1)), atol=1e-3)


def test_odd_clouds_are_detected_in(model, tmp_path, caplog):
    bad = cloud(50)
    bad[:3, 0] = np.nan
    bad.tofile(tmp_path / "nan.bin")
    cloud(0).tofile(tmp_path / "empty.bin")
    cloud(1).tofile(tmp_path / "one.bin")
    np.save(tmp_path / "three.npy", cloud(50)[:, :3])
    assert run(["detect", str(model), "--input", str(tmp_path), "--out", str(tmp_path / "out"), "--save", "json"]) == 0
    assert "3 points that are not finite" in caplog.text
    assert "no column intensity" in caplog.text
    assert len(list((tmp_path / "out").iterdir())) == 4


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--input", "none.bin"], 1, "no point files"),
        (["--input", "short.bin"], 1, "short.bin: 7 bytes"),
        (["--input", "good.bin", "--calib", "none.txt"], 1, "none.txt is not there"),
        (["--input", "good.bin", "--save", "gif"], 2, "save"),
        ([], 2, "input"),
    ],
)
def test_mistakes_cost_one_readable_line(model, tmp_path, monkeypatch, capsys, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    Path("short.bin").write_bytes(b"1234567")
    cloud(10).tofile("good.bin")
    assert run(["detect", "--model", str(model), *arguments]) == code
    error = capsys.readouterr().err
    assert message in error
    assert len(error.strip().splitlines()) == 1


def test_another_kind_of_model_is_refused(tmp_path, capsys):
    cloud(10).tofile(tmp_path / "a.bin")
    assert run(["detect", "rf-digits-edm", "--input", str(tmp_path / "a.bin"), "--out", str(tmp_path)]) == 1
    assert "expected a detector" in capsys.readouterr().err


def test_the_trainer_predicts_the_same_bytes(model, tmp_path):
    write_kitti(WORLD, tmp_path / "kitti")
    frames = {"class_path": "visionseq.data.lidar.Kitti", "init_args": {"root": "kitti", "fov_points_only": False}}
    preparation = {"features": ["x", "y", "z", "intensity"], "point_cloud_range": RANGE, "class_names": NAMES}
    data = {"dataset": frames, "eval_dataset": frames, "preparation": preparation, "batch_size": 3}
    config = {
        "model": {
            "class_path": "visionseq.lion.LionTask",
            "init_args": {"detector": tiny_config(), "optimizer": {"lr": 0.001}},
        },
        "data": {"class_path": "visionseq.data.PointCloudData", "init_args": data},
    }
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(config))
    commands = [
        ["predict", "--config", "tiny.yaml", "--ckpt_path", str(model), "--run_dir", "run"],
        ["detect", str(model), "--input", "kitti/training/velodyne", "--out", "out", "--save", "json"],
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
