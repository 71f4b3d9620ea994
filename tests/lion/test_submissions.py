"""Results in the benchmarks' forms: read again and evaluated, they give the trainer's figures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from small_sets import make_argoverse2, make_nuscenes, make_waymo

from visionseq.data.lidar import Argoverse2, NuScenes, Waymo
from visionseq.data.lidar.frame import LidarFrame
from visionseq.data.lidar.kitti_writer import CAMERA
from visionseq.data.lidar.wire import Message
from visionseq.errors import ConfigError, DataError
from visionseq.lion import (
    Argoverse2Metric,
    Argoverse2Submission,
    Detections,
    KittiMetric,
    KittiSubmission,
    NuScenesMetric,
    NuScenesSubmission,
    WaymoMetric,
    WaymoSubmission,
)
from visionseq.lion.submissions import frame_file
from visionseq.metrics import Argoverse2AP, KittiAP, NuScenesNDS, WaymoAP
from visionseq.metrics.detection.kitti import camera_annotations
from visionseq.metrics.detection.nuscenes import in_class_range

WAYMO_NAMES = ["Vehicle", "Pedestrian", "Cyclist"]


def near_misses(frame: LidarFrame, names: list[str], seed: int = 0) -> Detections:
    """The labelled boxes, moved and turned a little, and one far away."""
    random = np.random.default_rng(seed)
    kept = np.isin(frame.names, names)
    boxes = frame.boxes[kept].astype(np.float32)
    boxes = np.concatenate([boxes, boxes[:1] + 30]).astype(np.float32)
    boxes[:, :7] += random.normal(0, 0.05, (len(boxes), 7)).astype(np.float32)
    labels = [names.index(name) + 1 for name in frame.names[kept]]
    scores = torch.from_numpy(random.uniform(0.3, 0.9, len(boxes)).astype(np.float32))
    return Detections(torch.from_numpy(boxes), scores, torch.tensor([*labels, 1]))


def submitted(submission, names: list[str], frames: list[LidarFrame], folder: Path) -> tuple[Path, list[Detections]]:
    """The result for near misses of all frames, and these."""
    submission.begin(names)
    detections = [near_misses(frame, names, seed) for seed, frame in enumerate(frames)]
    for frame, boxes in zip(frames, detections, strict=True):
        submission.add(folder, boxes, frame)
    result = submission.finish(folder, [frame.frame_id for frame in frames])
    assert [path.name for path in folder.iterdir()] == [result.name]
    return result, detections


def trainer_figures(metric, names: list[str], frames: list[LidarFrame], detections: list[Detections]) -> dict:
    metric.begin(names)
    metric.update(detections, frames)
    return metric.compute()


def tilted_nuscenes(root: Path) -> Path:
    """The small set with a vehicle and a sensor that tilt, and a car that turns."""
    make_nuscenes(root)
    tables = {
        name: root / "v1.0-mini" / f"{name}.json" for name in ("ego_pose", "calibrated_sensor", "sample_annotation")
    }
    for name, path in tables.items():
        rows = json.loads(path.read_text())
        for number, row in enumerate(rows):
            tilt = [0, 0, 40 * number + 20] if name == "sample_annotation" else [3, -5, 30 + number]
            x, y, z, w = Rotation.from_euler("xyz", tilt, degrees=True).as_quat()
            row["rotation"] = [w, x, y, z]
        path.write_text(json.dumps(rows))
    return root


def test_nuscenes_results_have_the_trainers_figures_to_the_last_digit(tmp_path):
    """The labels of the evaluation come from the tables themselves, never through the lidar frame."""
    root = tilted_nuscenes(tmp_path / "set")
    data = NuScenes(str(root), "v1.0-mini", min_points=0)
    frames = [data.labels(index) for index in range(2)]
    result, detections = submitted(NuScenesSubmission(), ["car"], frames, tmp_path / "out")

    content = json.loads(result.read_text())
    assert content["meta"] == {
        f"use_{kind}": kind == "lidar" for kind in ("camera", "lidar", "radar", "map", "external")
    }
    assert list(content["results"]) == ["a", "b"]
    lengths = {"translation": 3, "size": 3, "rotation": 4, "velocity": 2}
    for token, rows in content["results"].items():
        for row in rows:
            assert {name: len(row[name]) for name in lengths} == lengths
            assert set(row) == {*lengths, "sample_token", "detection_name", "detection_score", "attribute_name"}
            assert row["sample_token"] == token
            assert row["attribute_name"] == "vehicle.moving"

    predictions, targets = [], []
    tables = {
        name: json.loads((root / "v1.0-mini" / f"{name}.json").read_text())
        for name in ("sample_annotation", "ego_pose")
    }
    for token, ego in (("a", tables["ego_pose"][0]), ("b", tables["ego_pose"][2])):
        rows = content["results"][token]
        boxes = {name: np.array([row[name] for row in rows]) for name in lengths}
        boxes |= {"name": [row["detection_name"] for row in rows], "score": [row["detection_score"] for row in rows]}
        boxes["attribute"] = [row["attribute_name"] for row in rows]
        predictions.append(in_class_range(boxes, ego["translation"]))
        labels = [
            row for row in tables["sample_annotation"] if row["sample_token"] == token and row["instance_token"] == "i0"
        ]
        truth = {name: np.array([row[name] for row in labels]) for name in ("translation", "size", "rotation")}
        truth["velocity"] = np.tile([4.0, 0.0], (len(labels), 1))
        truth |= {"name": ["car"] * len(labels), "attribute": ["vehicle.moving"] * len(labels)}
        targets.append(in_class_range(truth, ego["translation"]))
    official = NuScenesNDS(["car"])
    official.update(predictions, targets)
    expected = {name: value.item() for name, value in official.compute().items()}
    figures = trainer_figures(NuScenesMetric(), ["car"], frames, detections)
    assert figures["mATE"] > 0.01
    assert figures["mAOE"] > 0.001
    for name, value in figures.items():
        assert value == pytest.approx(expected[name], abs=1e-12), name


def test_argoverse_2_results_have_the_trainers_figures(tmp_path):
    feather = pytest.importorskip("pyarrow.feather")
    data = Argoverse2(str(make_argoverse2(tmp_path / "set")), "")
    frames = [data.labels(index) for index in range(2)]
    result, detections = submitted(Argoverse2Submission(), ["Bus", "Pedestrian"], frames, tmp_path / "out")

    table = feather.read_table(result)
    numbers = ["tx_m", "ty_m", "tz_m", "length_m", "width_m", "height_m", "qw", "qx", "qy", "qz", "score"]
    types = {name: "double" for name in numbers} | {"log_id": "string", "timestamp_ns": "int64", "category": "string"}
    assert {field.name: str(field.type) for field in table.schema} == types
    assert set(table["log_id"].to_pylist()) == {"log"}
    predictions = []
    for time in (1, 2):
        rows = table.filter(pyarrow_equal(table["timestamp_ns"], time))
        columns = {name: rows[name].to_numpy() for name in numbers}
        predictions.append({
            "name": [name.capitalize() for name in rows["category"].to_pylist()], "score": columns["score"],
            "translation": np.column_stack([columns[name] for name in numbers[:3]]),
            "size": np.column_stack([columns[name] for name in numbers[3:6]]),
            "rotation": np.column_stack([columns[name] for name in numbers[6:10]]),
        })  # fmt: skip
    metric, again = Argoverse2Metric(), Argoverse2AP(["Bus", "Pedestrian"])
    figures = trainer_figures(metric, ["Bus", "Pedestrian"], frames, detections)
    again.update(predictions, [metric.target(frame) for frame in frames])
    assert figures["mAP"] > 0.1
    for name, value in figures.items():
        assert value == pytest.approx(again.compute()[name].item(), abs=1e-12)


def pyarrow_equal(column, value):
    import pyarrow.compute

    return pyarrow.compute.equal(column, value)


def test_waymo_results_have_the_trainers_figures(tmp_path):
    data = Waymo(str(make_waymo(tmp_path / "set")))
    frames = [data.labels(index) for index in range(2)]
    result, detections = submitted(WaymoSubmission(), WAYMO_NAMES, frames, tmp_path / "out")

    types = {1: "Vehicle", 2: "Pedestrian", 4: "Cyclist"}
    predictions = {7: [], 8: []}
    for item in Message(result.read_bytes(), "detections").messages(1):
        label, box = item.message(1), item.message(1).message(1)
        assert item.text(4) == "1234_5"
        values = [box.number(number) for number in (1, 2, 3, 5, 4, 6, 7)]
        predictions[item.integer(5)].append((types[label.integer(3)], values, float(item.numbers(2, single=True)[0])))
    again, metric = WaymoAP(WAYMO_NAMES), WaymoMetric()
    figures = trainer_figures(metric, WAYMO_NAMES, frames, detections)
    rows = [tuple(map(np.array, zip(*objects, strict=True))) for objects in predictions.values()]
    again.update([metric.prediction(boxes, names, scores) for names, boxes, scores in rows],
                 [metric.target(frame) for frame in frames])  # fmt: skip
    assert figures["mAP/L2"] > 0.1
    for name, value in figures.items():
        assert value == pytest.approx(again.compute()[name].item(), abs=1e-12)


def test_kitti_results_have_the_trainers_figures(tmp_path):
    names, frames = ["Car", "Pedestrian"], []
    for number in range(2):
        boxes = np.tile([0.0, 0, -0.8, 4, 1.8, 1.5, 0.3], (6, 1))
        boxes[:, :2] = [(10 + 4 * row, 2 * row - 5 + number) for row in range(6)]
        labels = np.array(["Car", "Pedestrian"] * 3)
        place = {"calibration": CAMERA, "image_shape": (375, 1242)}
        frames.append(LidarFrame(f"00000{number}", np.zeros((0, 4), np.float32), boxes, labels, **place))
    result, detections = submitted(KittiSubmission(), names, frames, tmp_path / "out")

    assert sorted(path.name for path in result.iterdir()) == [f"{frame.frame_id}.txt" for frame in frames]
    predictions = []
    for frame in frames:
        rows = [line.split() for line in (result / f"{frame.frame_id}.txt").read_text().splitlines()]
        assert all(len(row) == 16 for row in rows)
        values = np.array([row[3:] for row in rows], np.float64)
        predictions.append({
            "name": np.array([row[0] for row in rows]), "alpha": values[:, 0], "bbox": values[:, 1:5],
            "dimensions": values[:, [7, 5, 6]], "location": values[:, 8:11], "rotation_y": values[:, 11],
            "score": values[:, 12],
        })  # fmt: skip
    figure = "{class}_bev_loose/moderate_R40"
    figures = trainer_figures(KittiMetric([figure]), names, frames, detections)
    place = [{"calibration": frame.calibration, "image_shape": frame.image_shape} for frame in frames]
    again = KittiAP(names)
    again.update(predictions, [camera_annotations(f.boxes, f.names, **p) for f, p in zip(frames, place, strict=True)])
    assert figures["mAP"] > 1
    for name in names:
        full = figure.replace("{class}", name)
        assert figures[full] == pytest.approx(again.compute()[full].item(), abs=1e-6)


def test_what_a_benchmark_cannot_take_is_named(tmp_path):
    boxes = Detections(torch.ones(1, 7), torch.ones(1), torch.ones(1, dtype=torch.int64))
    with pytest.raises(ConfigError, match="NuScenesSubmission: no class 'Car', expected some of car, truck"):
        NuScenesSubmission().begin(["Car"])
    submission = WaymoSubmission()
    submission.begin(["Vehicle"])
    frame = LidarFrame("a", np.zeros((0, 4), np.float32), origin={"context_name": "segment"})
    with pytest.raises(DataError, match="frame a: timestamp_micros is not known"):
        submission.add(tmp_path, boxes, frame)
    frame.origin["timestamp_micros"] = 5
    broken = Detections(boxes.boxes * torch.nan, boxes.scores, boxes.labels)
    with pytest.raises(DataError, match="frame a: a detection that is not finite"):
        submission.add(tmp_path, broken, frame)
    submission.add(tmp_path, boxes, frame)
    with pytest.raises(DataError, match=r"1 of 2 frames have no part: .*b\.bin is missing"):
        submission.finish(tmp_path, ["a", "b"])


@pytest.mark.parametrize("frame_id", ["../a", "a/b", "..", "", "a\\b", "a\0b"])
def test_no_frame_is_written_outside_its_folder(tmp_path, frame_id):
    with pytest.raises(DataError, match="expected an identifier that is a file name"):
        frame_file(tmp_path, frame_id, ".json")
