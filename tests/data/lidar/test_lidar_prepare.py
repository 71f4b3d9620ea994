"""From downloads of lidar data sets to what the readers and ground-truth sampling take: the scripts in datasets/."""

import importlib.util
import json
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from small_sets import WORLD, make_argoverse2, make_kitti, make_nuscenes, make_once
from waymo_messages import recording

from visionseq.data.lidar import Kitti, NuScenes, Waymo
from visionseq.data.lidar.database import GroundTruthDatabase
from visionseq.data.lidar_world import LidarSensor, LidarWorld
from visionseq.errors import ConfigError, DataError

ROOT = Path(__file__).resolve().parents[3]


def script(name: str):
    spec = importlib.util.spec_from_file_location(f"prepare_{name}", ROOT / "datasets" / name / "prepare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.prepare


def pack(folder: Path, archive: Path, prefix: str = "") -> None:
    """All files of a folder in a .zip or .tar, and one that nobody asked for."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    (folder / "notes.txt").write_text("x")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as file:
            for path in files:
                file.write(path, prefix + path.relative_to(folder).as_posix())
    else:
        with tarfile.open(archive, "w:gz" if archive.suffix == ".tgz" else "w") as file:
            for path in files:
                file.add(path, prefix + path.relative_to(folder).as_posix())
    shutil.rmtree(folder)


def objects() -> int:
    return sum(len(WORLD.labels(index).boxes) for index in range(len(WORLD)))


def test_kitti_from_its_archives(tmp_path):
    make_kitti(tmp_path / "source")
    shutil.rmtree(tmp_path / "source" / "ImageSets")
    pack(tmp_path / "source", tmp_path / "downloads" / "data_object.zip")
    root = tmp_path / "kitti"
    told = script("kitti")(root, tmp_path / "downloads", database=False)
    assert "10 files of" in told
    assert not (root / "notes.txt").exists()
    counts = {path.stem: len(path.read_text().split()) for path in (root / "ImageSets").iterdir()}
    assert counts == {"train": 3712, "val": 3769, "trainval": 7481, "test": 7518}
    train, val = (set((root / "ImageSets" / f"{name}.txt").read_text().split()) for name in ("train", "val"))
    assert not train & val
    assert {"000000", "000003", "000007"} <= train
    assert {"000001", "000002", "000004"} <= val
    (root / "ImageSets" / "train.txt").write_text("000000\n000001\n")
    told = script("kitti")(root, tmp_path / "downloads")  # the user's own list stays
    database = GroundTruthDatabase(root / "database")
    assert f"{objects()} objects of 2 frames" in told
    assert sorted(set(database.names.tolist())) == sorted(set(np.concatenate([WORLD.labels(i).names for i in (0, 1)])))
    assert len(Kitti(str(root), "train")) == 2


def test_nuscenes_from_its_archives(tmp_path):
    make_nuscenes(tmp_path / "source")
    tables = tmp_path / "source" / "v1.0-mini"
    scenes = json.loads((tables / "scene.json").read_text())
    (tables / "scene.json").write_text(json.dumps([*scenes, {"token": "other", "name": "scene-0002"}]))
    pack(tmp_path / "source", tmp_path / "downloads" / "mini.tgz", "./")
    root, val = tmp_path / "nuscenes", tmp_path / "val.txt"
    val.write_text("['scene-0002', 'scene-0777']")
    told = script("nuscenes")(root, tmp_path / "downloads", "v1.0-mini", val, sweeps=2)
    assert "1 scenes in" in told
    assert (root / "val.txt").read_text() == "scene-0002\n"
    assert len(NuScenes(str(root), "v1.0-mini", str(root / "train.txt"))) == 2
    assert len(NuScenes(str(root), "v1.0-mini", str(root / "val.txt"))) == 0
    assert GroundTruthDatabase(root / "database").features == NuScenes.features
    val.write_text("scene-0001 scene-0002")
    with pytest.raises(DataError, match="2 of the 2 scenes"):
        script("nuscenes")(root, None, "v1.0-mini", val, overwrite=True)


def test_once_and_argoverse_from_their_archives(tmp_path):
    make_once(tmp_path / "source")
    pack(tmp_path / "source", tmp_path / "downloads" / "train_lidar.tar", "ONCE/")
    told = script("once")(tmp_path / "once", tmp_path / "downloads")
    assert f"{objects()} objects of 2 frames" in told
    make_argoverse2(tmp_path / "source" / "train")
    pack(tmp_path / "source", tmp_path / "av2" / "train-000.tar", "sensor/")
    told = script("argoverse2")(tmp_path / "argoverse2", tmp_path / "av2" / "train-000.tar")
    assert "3 files of" in told
    assert GroundTruthDatabase(tmp_path / "argoverse2" / "database").features == ("x", "y", "z", "intensity")


def test_waymo_from_its_recordings(tmp_path):
    (tmp_path / "records").mkdir()
    for number in range(2):
        recording(tmp_path / "records" / f"segment-{number}_with_camera_labels.tfrecord", frames=5)
    told = script("waymo")(tmp_path / "waymo", "train", tmp_path / "records", processes=1)
    assert "2 segments in" in told
    assert len(Waymo(str(tmp_path / "waymo" / "train"), interval=5)) == 2
    assert "9 objects of 10 frames" in told  # vehicles from frames 0, 4 and 8
    with pytest.raises(DataError, match=r"no \.tfrecord files"):
        script("waymo")(tmp_path / "waymo", "val", tmp_path)


def test_simulated_streets_in_kitti_s_layout(tmp_path):
    told = script("lidar_world")(tmp_path, train=2, val=1, seed=3, beams=16, columns=180)
    assert "3 frames in" in told
    assert "objects of 2 frames" in told
    world, written = LidarWorld(3, 3, LidarSensor(beams=16, columns=180)), Kitti(str(tmp_path), "val")
    assert written.frame_ids == ["000002"]
    np.testing.assert_allclose(written.labels(0).boxes, world.labels(2).boxes, atol=0.02)
    with pytest.raises(ConfigError, match="val 0"):
        script("lidar_world")(tmp_path, val=0)


def test_downloads_that_are_none_are_named(tmp_path):
    with pytest.raises(DataError, match="no archive"):
        script("once")(tmp_path / "once", tmp_path)
    (tmp_path / "folder").mkdir()
    pack(tmp_path / "folder", tmp_path / "other.zip")
    with pytest.raises(DataError, match="holds files of this data set"):
        script("once")(tmp_path / "once", tmp_path)
    with pytest.raises(DataError, match=r"missing\.tar"):
        script("once")(tmp_path / "once", tmp_path / "missing.tar")


def test_scripts_run_from_the_command_line(tmp_path, monkeypatch, capsys):
    root = make_kitti(tmp_path / "kitti")
    monkeypatch.setattr(sys, "argv", ["prepare.py", "--root", str(root)])
    from visionseq.cli import run_script

    assert run_script(script("kitti")) == 0
    assert f"{objects()} objects of 2 frames" in capsys.readouterr().out
