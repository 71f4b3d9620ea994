"""nuScenes: its tables row by row, the arrays kept beside them, boxes of a real keyframe there and back."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from small_sets import make_nuscenes

from visionseq.data.lidar import NuScenes
from visionseq.data.lidar.json_tables import CHUNK, table_rows
from visionseq.data.lidar.nuscenes_index import INDEX, TABLES
from visionseq.data.lidar.poses import pose_matrices
from visionseq.errors import ConfigError, DataError

SAMPLES = Path(os.environ.get("VISIONSEQ_LIDAR_SAMPLES") or Path(__file__).parents[4] / "shared" / "data" / "lidar")


def edit(root: Path, table: str, change) -> Path:
    path = root / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    change(rows)
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize("indent", [None, 0, 4])
def test_rows_come_one_by_one_wherever_the_pieces_end(indent, tmp_path):
    rows = [{"token": f"ä{number}", "values": [number] * 40} for number in range(10_000)]
    rows.insert(3, {"token": "long", "text": "x" * (CHUNK + 5)})
    (tmp_path / "a.json").write_text(json.dumps(rows, indent=indent, ensure_ascii=False), encoding="utf-8")
    assert (tmp_path / "a.json").stat().st_size > 2 * CHUNK
    assert [row.values for row in table_rows(tmp_path / "a.json")] == rows


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"token": 1}', "expected a list"),
        ('[{"a": 1}, 7]', "row 1: a int"),
        ('[{"a": 1}, {"a"', "row 1: .*ends early"),
        ("[" * 100_000, "row 0"),
        ("", "expected a list"),
    ],
)
def test_damaged_tables_name_the_row(text, expected, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(DataError, match=expected):
        list(table_rows(tmp_path / "a.json"))


@pytest.mark.parametrize(
    ("table", "key", "value", "expected"),
    [
        ("sample", "scene_token", "none", "row 0: scene_token 'none', expected the token of an existing row"),
        ("sample_annotation", "size", [1, 2], "row 0: size .*, expected 3 numbers"),
        ("sample_annotation", "size", [1, 2, None], "expected 3 finite numbers"),
        ("sample_annotation", "rotation", [0, 0, 0, 0], "expected a quaternion"),
        ("sample_annotation", "next", "none", "prev or next 'none'"),
        ("sample_annotation", "translation", [1e300, 0, 0], "a box that is not finite in float32"),
        ("sample_annotation", "attribute_tokens", [["a"]], "tokens of attributes"),
        ("sample_data", "timestamp", 1.5, "expected a whole number"),
        ("sample_data", "is_key_frame", False, "has no keyframe of LIDAR_TOP"),
        ("ego_pose", "token", "other", "ego_pose_token 'e0'"),
    ],
)
def test_values_that_do_not_fit_are_named(table, key, value, expected, tmp_path):
    path = edit(make_nuscenes(tmp_path), table, lambda rows: rows[0].update({key: value}))
    with pytest.raises(DataError, match=expected) as caught:
        NuScenes(str(tmp_path), "v1.0-mini")
    assert str(path.parent) in str(caught.value)


@pytest.mark.parametrize(("table", "key"), [("scene", "name"), ("sample_data", "timestamp"), ("ego_pose", "rotation")])
def test_a_missing_value_is_reported_as_missing(table, key, tmp_path):
    edit(make_nuscenes(tmp_path), table, lambda rows: rows[0].pop(key))
    with pytest.raises(DataError, match=rf"{table}.json, row 0: {key} is missing, expected "):
        NuScenes(str(tmp_path), "v1.0-mini")


def test_the_index_follows_the_tables(tmp_path):
    root = make_nuscenes(tmp_path)
    index = root / "v1.0-mini" / INDEX
    first = NuScenes(str(root), "v1.0-mini").labels(0)
    made = index.stat().st_mtime_ns
    assert len(NuScenes(str(root), "v1.0-mini")) == 2
    assert index.stat().st_mtime_ns == made
    edit(root, "sample_annotation", lambda rows: rows[0].update(size=[3.0, 9.0, 2.0]))
    again = NuScenes(str(root), "v1.0-mini").labels(0)
    assert again.boxes[0, 3:6].tolist() == [9, 3, 2]
    assert first.boxes[0, 3:6].tolist() == [4, 2, 1.5]
    index.write_bytes(index.read_bytes()[:-100])
    np.testing.assert_array_equal(NuScenes(str(root), "v1.0-mini").labels(0).boxes, again.boxes)


def test_scenes_that_are_not_there_are_named(tmp_path):
    root = make_nuscenes(tmp_path)
    lists = root / "val.txt"
    lists.write_text("scene-0001\nscene-0777\nscene-0002\n")
    expected = r"scene-0777, scene-0002: not in v1.0-mini, which has 1 scenes \(scene-0001\)"
    with pytest.raises(ConfigError, match=f"{lists}: {expected}"):
        NuScenes(str(root), "v1.0-mini", str(lists))
    with pytest.raises(ConfigError, match=f"scenes: {expected}"):
        NuScenes(str(root), "v1.0-mini", ["scene-0001", "scene-0777", "scene-0002"])


def test_workers_open_the_index_themselves(tmp_path):
    frames = NuScenes(str(make_nuscenes(tmp_path)), "v1.0-mini", sweeps=3)
    data = pickle.dumps(frames)
    assert b"vehicle.car" not in data
    np.testing.assert_array_equal(pickle.loads(data).frame(1).points, frames.frame(1).points)  # noqa: S301 (our own bytes)
    (tmp_path / "v1.0-mini" / INDEX).unlink()  # a set that cannot be written to
    alone = pickle.loads(pickle.dumps(frames))  # noqa: S301 (our own bytes)
    np.testing.assert_array_equal(alone.labels(1).boxes, frames.labels(1).boxes)


def test_objects_that_radar_alone_saw_are_for_the_benchmark(tmp_path):
    root = make_nuscenes(tmp_path)
    edit(root, "sample_annotation", lambda rows: rows[0].update(num_lidar_pts=0, num_radar_pts=2))
    assert [len(NuScenes(str(root), "v1.0-mini", min_points=least).labels(0).boxes) for least in (0, 1)] == [3, 1]
    edit(root, "sample_annotation", lambda rows: rows[0].update(num_radar_pts=0))
    assert len(NuScenes(str(root), "v1.0-mini", min_points=0).labels(0).boxes) == 2


def test_bicycle_racks_are_known_whether_seen_or_not(tmp_path):
    root = make_nuscenes(tmp_path)
    edit(root, "category", lambda rows: rows[1].update(name="static_object.bicycle_rack"))
    edit(root, "sample_annotation", lambda rows: rows[2].update(num_lidar_pts=0, rotation=[0.9689, 0, 0, 0.2474]))
    edit(root, "calibrated_sensor", lambda rows: rows[0].update(rotation=[0.7071068, 0, 0, -0.7071068]))
    frame = NuScenes(str(root), "v1.0-mini").labels(0)
    assert frame.names.tolist() == ["car"]
    np.testing.assert_allclose(frame.annotations["bicycle_racks"], [[11, 3, 2.5, 4, 2, 1.5, 0.5]], atol=1e-3)
    np.testing.assert_allclose(frame.boxes[0, [0, 1, 6]], [-3, 10, np.pi / 2], atol=1e-5)  # in the turned lidar


def test_a_version_without_annotations_has_frames_without_labels(tmp_path):
    root = make_nuscenes(tmp_path)
    edit(root, "sample_annotation", lambda rows: rows.clear())
    frame = NuScenes(str(root), "v1.0-mini", missing_labels="report").frame(0)
    assert frame.boxes is None
    assert len(frame.points) == 500


def wxyz(rotation: np.ndarray) -> list[float]:
    """The quaternion of a rotation whose trace is not near -1, or of one about z."""
    w = np.sqrt(max(1 + np.trace(rotation), 0)) / 2
    if w < 1e-2:
        values, vectors = np.linalg.eig(rotation)
        return [0.0, *np.real(vectors[:, np.argmin(np.abs(values - 1))]).tolist()]
    difference = rotation - rotation.T
    return [w, *(np.array([difference[2, 1], difference[0, 2], difference[1, 0]]) / (4 * w)).tolist()]


OFFICIAL = {
    "car": "vehicle.car", "truck": "vehicle.truck", "trailer": "vehicle.trailer", "bus": "vehicle.bus.rigid",
    "construction_vehicle": "vehicle.construction", "bicycle": "vehicle.bicycle", "motorcycle": "vehicle.motorcycle",
    "pedestrian": "human.pedestrian.adult", "traffic_cone": "movable_object.trafficcone",
    "barrier": "movable_object.barrier", "ignore": "animal",
}  # fmt: skip
AROUND = {"before": (-500_000, "", "now"), "now": (0, "before", "after"), "after": (500_000, "now", "")}


def real_tables(root: Path, record: dict) -> None:
    """The official tables of a real keyframe and its neighbours, from its objects in the lidar frame and its poses."""
    ego, sensor = (orthogonal(np.array(record[name])) for name in ("ego2global", "lidar2ego"))
    time = round(record["timestamp_s"] * 1e6)
    tables: dict[str, list] = {name: [] for name in TABLES}
    tables["scene"] = [{"token": "scene", "name": "scene-0001"}]
    tables["category"] = [{"token": name, "name": official} for name, official in OFFICIAL.items()]
    for table, token, pose in (("calibrated_sensor", "s", sensor), ("ego_pose", "e", ego)):
        tables[table] = [{"token": token, "rotation": wxyz(pose[:3, :3]), "translation": pose[:3, 3].tolist()}]
    for sample, (apart, *_) in AROUND.items():
        tables["sample"].append({"token": sample, "scene_token": "scene", "timestamp": time + apart})
        tables["sample_data"].append({
            "token": sample, "sample_token": sample, "ego_pose_token": "e", "calibrated_sensor_token": "s", "prev": "",
            "filename": f"samples/LIDAR_TOP/{sample}.pcd.bin", "timestamp": time + apart, "is_key_frame": True,
        })  # fmt: skip
    for number, thing in enumerate(record["instances"]):
        tables["instance"].append({"token": f"i{number}", "category_token": thing["name"]})
        tables["sample_annotation"] += annotations_of(number, thing, ego @ sensor)
    (root / "v1.0-real").mkdir()
    for name, rows in tables.items():
        (root / "v1.0-real" / f"{name}.json").write_text(json.dumps(rows))


def annotations_of(number: int, thing: dict, to_global: np.ndarray) -> list[dict]:
    """Of a thing in the keyframe and, where its velocity is known, before and after it."""
    x, y, z, length, width, height, yaw = thing["box"]
    velocity, known = np.array([*thing["velocity"], 0.0]), not np.isnan(thing["velocity"]).any()
    turn = to_global[:3, :3] @ pose_matrices([0, 0, 0, np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)])[:3, :3]
    rows = []
    for sample, (apart, earlier, later) in AROUND.items():
        if known or sample == "now":
            place = np.array([x, y, z]) + (1e-6 * apart * velocity if known else 0)
            rows.append({
                "token": f"{sample}{number}", "sample_token": sample, "instance_token": f"i{number}",
                "translation": (to_global[:3, :3] @ place + to_global[:3, 3]).tolist(), "size": [width, length, height],
                "rotation": wxyz(turn), "attribute_tokens": [], "num_lidar_pts": thing["num_lidar_pts"],
                "num_radar_pts": thing["num_radar_pts"], "prev": f"{earlier}{number}" if known and earlier else "",
                "next": f"{later}{number}" if known and later else "",
            })  # fmt: skip
    return rows


def orthogonal(pose: np.ndarray) -> np.ndarray:
    """A pose that was stored in float32 with a rotation again."""
    u, _, v = np.linalg.svd(pose[:3, :3])
    pose[:3, :3] = u @ v
    return pose


@pytest.mark.skipif(not (SAMPLES / "nuscenes").is_dir(), reason="no recordings here")
def test_a_real_keyframe_comes_back_from_the_tables(tmp_path):
    (path,) = (SAMPLES / "nuscenes").glob("*.json")
    record = json.loads(path.read_text())
    real_tables(tmp_path, record)
    frame = NuScenes(str(tmp_path), "v1.0-real", sweeps=1, min_points=0).labels(1)
    seen = [instance for instance in record["instances"] if instance["num_lidar_pts"] + instance["num_radar_pts"] > 0]
    expected = np.array([[*instance["box"], *instance["velocity"]] for instance in seen])
    assert len(seen) > 60
    assert frame.names.tolist() == [instance["name"] for instance in seen]
    assert frame.num_points.tolist() == [instance["num_lidar_pts"] for instance in seen]
    np.testing.assert_allclose(frame.boxes[:, :6], expected[:, :6], atol=1e-3)
    np.testing.assert_allclose(np.exp(1j * frame.boxes[:, 6]), np.exp(1j * expected[:, 6]), atol=1e-4)
    np.testing.assert_allclose(frame.boxes[:, 7:], expected[:, 7:], atol=1e-2)  # NaN where nobody knows
