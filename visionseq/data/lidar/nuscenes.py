"""nuScenes, read from its JSON tables (arXiv 1903.11027); no other package is needed.

Its lidar frame has x to the right and y ahead, and stays so: a heading of 0 looks along +x.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from visionseq.data.lidar.frame import UNKNOWN, LidarFrame
from visionseq.data.lidar.text import read_bin_rows, read_json, read_text
from visionseq.errors import ConfigError, DataError

CATEGORIES = {
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "vehicle.car": "car",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.truck": "truck",
    "vehicle.construction": "construction_vehicle",
    "vehicle.trailer": "trailer",
    "movable_object.barrier": "barrier",
    "movable_object.trafficcone": "traffic_cone",
}
CLASS_NAMES = (
    "car", "truck", "construction_vehicle", "bus", "trailer", "barrier", "motorcycle", "bicycle", "pedestrian",
    "traffic_cone",
)  # fmt: skip
IGNORED = "ignore"
TABLES = (
    "scene", "sample", "sample_data", "sample_annotation", "instance", "category", "attribute", "ego_pose",
    "calibrated_sensor",
)  # fmt: skip
LIDAR = "LIDAR_TOP"
EGO = 1.0  # metres around the sensor in which a sweep's points are the vehicle's own
LONGEST = 1.5  # seconds between neighbours for a velocity; twice as long with one on both sides


class NuScenes:
    """Keyframes of nuScenes with their earlier sweeps.

    Args:
        root: folder that holds samples/, sweeps/ and the tables of `version`.
        version: v1.0-trainval, v1.0-mini ...
        scenes: names of the scenes, or a text file with one a line; None: all of the tables.
        sweeps: keyframe and earlier sweeps together.
        min_points: objects that fewer lidar points hit are left out.
    """

    class_names = CLASS_NAMES
    features = ("x", "y", "z", "intensity", "time")

    def __init__(
        self,
        root: str,
        version: str = "v1.0-trainval",
        scenes: Sequence[str] | str | None = None,
        sweeps: int = 10,
        min_points: int = 1,
    ):
        self.root, self.version, self.sweeps, self.min_points = Path(root), version, sweeps, min_points
        if not (self.root / version).is_dir():
            raise ConfigError(f"{self.root / version} is not there; see datasets/nuscenes/README.md")
        self.scenes = set(read_text(Path(scenes)).split()) if isinstance(scenes, str) else scenes and set(scenes)
        with self._tables_named():
            self.frame_ids = [sample["token"] for sample in self._samples]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_tables"}

    def __len__(self) -> int:
        return len(self.frame_ids)

    def frame(self, index: int) -> LidarFrame:
        with self._tables_named():
            return self._frame(index)

    def labels(self, index: int) -> LidarFrame:
        with self._tables_named():
            return self._labels(index)

    def _frame(self, index: int) -> LidarFrame:
        frame = self._labels(index)
        reference = self._lidar_of(self.frame_ids[index])
        clouds = [_with_time(read_bin_rows(self.root / reference["filename"], 5)[:, :4], 0.0)]
        for record in self._earlier(reference):
            transform = self.transform(record, reference)
            lag = 1e-6 * (reference["timestamp"] - record["timestamp"])
            clouds.append(_with_time(sweep_points(read_bin_rows(self.root / record["filename"], 5), transform), lag))
        frame.points = np.concatenate(clouds)
        return frame

    def _labels(self, index: int) -> LidarFrame:
        token = self.frame_ids[index]
        reference = self._lidar_of(token)
        to_lidar = np.linalg.inv(self._to_global(reference))
        boxes, names, points, tokens, attributes = [], [], [], [], []
        for record in self._annotations_of(token):
            lidar_points = int(record["num_lidar_pts"])
            if lidar_points + int(record["num_radar_pts"]) == 0 or lidar_points < self.min_points:
                continue
            boxes.append(self._box(record, to_lidar))
            names.append(self._name(record))
            points.append(lidar_points)
            tokens.append(record["token"])
            attributes.append(self._attribute(record))
        pose = self._row("ego_pose", reference["ego_pose_token"])["translation"]
        origin = {"token": token, "annotation_tokens": tokens, "lidar_to_global": self._to_global(reference).tolist()}
        return LidarFrame(
            token,
            np.zeros((0, 5), np.float32),
            np.array(boxes, np.float32).reshape(-1, 9),
            np.array(names, dtype=np.str_) if names else np.zeros(0, "U1"),
            np.array(points, np.int64),
            np.full(len(boxes), UNKNOWN, np.int64),
            annotations={"attribute": np.array(attributes, dtype=np.str_)},
            origin={**origin, "ego_translation": list(pose)},
        )

    def transform(self, sweep: dict[str, Any], reference: dict[str, Any]) -> np.ndarray:
        """float64 [4, 4] from the lidar at the time of a sweep to that of the keyframe."""
        return np.linalg.inv(self._to_global(reference)) @ self._to_global(sweep)

    @contextmanager
    def _tables_named(self) -> Iterator[None]:
        """Values that are missing in the tables, or of another kind, as `DataError`."""
        try:
            yield
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            folder = self.root / self.version
            raise DataError(f"{folder}/*.json: a row does not fit: {type(error).__name__} {error}") from error

    @cached_property
    def _tables(self) -> dict[str, Any]:
        tables = {}
        for name in TABLES:
            path = self.root / self.version / f"{name}.json"
            rows = read_json(path)
            if not all(isinstance(row, dict) and isinstance(row.get("token"), str) for row in rows):
                raise DataError(f"{path}: a row without a token")
            tables[name] = {row["token"]: row for row in rows}
        of_sample: dict[str, list] = {}
        for row in tables["sample_annotation"].values():
            of_sample.setdefault(_value(row, "sample_token", "sample_annotation"), []).append(row)
        tables["annotations"] = of_sample
        tables["lidar"] = {
            row["sample_token"]: row
            for row in tables["sample_data"].values()
            if row.get("is_key_frame") and LIDAR in str(row.get("filename"))
        }
        return tables

    @property
    def _samples(self) -> list[dict[str, Any]]:
        chosen = []
        for sample in self._tables["sample"].values():
            scene = self._row("scene", _value(sample, "scene_token", "sample"))
            if self.scenes is None or scene.get("name") in self.scenes:
                chosen.append(sample)
        return sorted(chosen, key=lambda sample: sample.get("timestamp", 0))

    def _row(self, table: str, token: str) -> dict[str, Any]:
        row = self._tables[table].get(token)
        if row is None:
            raise DataError(f"{self.root / self.version / table}.json: no row {token!r}")
        return row

    def _lidar_of(self, sample: str) -> dict[str, Any]:
        if sample not in self._tables["lidar"]:
            raise DataError(f"{self.root / self.version}/sample_data.json: no {LIDAR} of the sample {sample}")
        return self._tables["lidar"][sample]

    def _annotations_of(self, sample: str) -> list[dict[str, Any]]:
        return self._tables["annotations"].get(sample, [])

    def _earlier(self, reference: dict[str, Any]) -> list[dict[str, Any]]:
        """The sweeps before a keyframe; where the scene begins, the last one again."""
        found: list[dict[str, Any]] = []
        record = reference
        while len(found) < self.sweeps - 1:
            if record.get("prev"):
                record = self._row("sample_data", record["prev"])
            found.append(record)
        return found

    def _to_global(self, record: dict[str, Any]) -> np.ndarray:
        sensor = self._row("calibrated_sensor", _value(record, "calibrated_sensor_token", "sample_data"))
        ego = self._row("ego_pose", _value(record, "ego_pose_token", "sample_data"))
        return pose_of(ego["rotation"], ego["translation"]) @ pose_of(sensor["rotation"], sensor["translation"])

    def _box(self, record: dict[str, Any], to_lidar: np.ndarray) -> np.ndarray:
        width, length, height = record["size"]
        place = to_lidar @ pose_of(record["rotation"], record["translation"])
        velocity = to_lidar[:3, :3] @ self._velocity(record)
        yaw = np.arctan2(place[1, 0], place[0, 0])
        return np.array([*place[:3, 3], length, width, height, yaw, *velocity[:2]])

    def _velocity(self, record: dict[str, Any]) -> np.ndarray:
        """Metres per second in the global frame, by the annotations before and after; NaN where they are too far."""
        around = [self._row("sample_annotation", record[key]) for key in ("prev", "next") if record.get(key)]
        if not around:
            return np.full(3, np.nan)
        first = around[0] if record.get("prev") else record
        last = around[-1] if record.get("next") else record
        times = [1e-6 * self._row("sample", row["sample_token"])["timestamp"] for row in (first, last)]
        seconds = times[1] - times[0]
        if not 0 < seconds <= LONGEST * len(around):
            return np.full(3, np.nan)
        return (np.array(last["translation"]) - np.array(first["translation"])) / seconds

    def _attribute(self, record: dict[str, Any]) -> str:
        tokens = record.get("attribute_tokens") or []
        return str(self._row("attribute", tokens[0]).get("name")) if tokens else ""

    def _name(self, record: dict[str, Any]) -> str:
        instance = self._row("instance", _value(record, "instance_token", "sample_annotation"))
        category = self._row("category", _value(instance, "category_token", "instance"))
        return CATEGORIES.get(category.get("name", ""), IGNORED)


def pose_of(rotation: Sequence[float], translation: Sequence[float]) -> np.ndarray:
    """float64 [4, 4] of a unit quaternion (w, x, y, z) and a translation."""
    w, x, y, z = np.asarray(rotation, np.float64) / np.linalg.norm(rotation)
    pose = np.eye(4)
    pose[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    pose[:3, 3] = translation
    return pose


def sweep_points(points: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """float32 [M, 4] of a sweep's points [N, 5]: without the vehicle's own, in the keyframe's lidar frame."""
    own = (np.abs(points[:, 0]) < EGO) & (np.abs(points[:, 1]) < EGO)
    kept = points[~own, :4].copy()
    place = np.concatenate([kept[:, :3], np.ones((len(kept), 1))], 1) @ transform.T
    kept[:, :3] = place[:, :3]
    return kept


def _with_time(points: np.ndarray, lag: float) -> np.ndarray:
    return np.concatenate([points, np.full((len(points), 1), lag, np.float32)], 1).astype(np.float32)


def _value(row: dict[str, Any], key: str, table: str) -> str:
    value = row.get(key)
    if not isinstance(value, str):
        raise DataError(f"{table}.json, row {row.get('token')}: no {key}")
    return value
