"""nuScenes, read from its JSON tables (arXiv 1903.11027); no other package is needed.

Its lidar frame is kept, with x to the right and y ahead: a heading of 0 points along +x.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from visionseq.data.lidar.bin_rows import read_bin_rows
from visionseq.data.lidar.folders import require
from visionseq.data.lidar.frame import UNKNOWN, LidarFrame
from visionseq.data.lidar.missing_labels import MissingLabels, check_labels
from visionseq.data.lidar.nuscenes_index import INDEX, open_index
from visionseq.data.lidar.nuscenes_layout import Index, sensor_to_global
from visionseq.data.lidar.nuscenes_objects import ANNOTATIONS, RACK
from visionseq.data.lidar.poses import moved
from visionseq.data.names import path_below
from visionseq.errors import ConfigError
from visionseq.geometry.rotations import headings_of, unit_quaternions
from visionseq.text_files import name_array, read_list

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
MOST_NAMED = 5  # scenes in a message
EGO = 1.0  # metres around the sensor in which a sweep's points lie on the vehicle


class NuScenes:
    """Keyframes of nuScenes with their earlier sweeps.

    A frame's `annotations` hold its objects in the global frame, float64: `translation` [M, 3], `size` [M, 3] (width,
    length, height), `rotation` [M, 4] (quaternion w, x, y, z), `velocity` [M, 2] (NaN where not known), `attribute` str
    [M], and the `bicycle_racks` [R, 7] (x, y, z, length, width, height, heading).

    The tables are read when a version is first opened, and stored as arrays in `version`/visionseq_index.npz.

    Args:
        root: folder that holds samples/, sweeps/ and the tables of `version`.
        version: v1.0-trainval, v1.0-mini ...
        scenes: names of the scenes, or a text file with one a line; None: all scenes of the tables.
        sweeps: number of sweeps in a frame, the keyframe included.
        min_points: objects with fewer lidar points are left out; training uses 1. With 0 the objects that only radar
            saw are kept, as in the benchmark.
        missing_labels: refuse a version whose table of annotations is empty, as that of the test set is, or report it
            and go on.
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
        missing_labels: MissingLabels = "refuse",
    ):
        self.root, self.version, self.sweeps, self.min_points = Path(root), version, sweeps, min_points
        require(self.root / version, "nuscenes")
        self._index: Index | None = None
        self.annotations = self.root / version / f"{ANNOTATIONS}.json"
        if not len(self.index["box"]):
            check_labels([self.annotations], 1, missing_labels, "this table has no objects")

        # The keyframes of the scenes.
        names = self.index["scene_name"]
        chosen = np.ones(len(names), bool)
        if scenes is not None:
            listed = read_list(scenes) if isinstance(scenes, str) else list(scenes)
            self._check_scenes(listed, scenes if isinstance(scenes, str) else "scenes")
            chosen = np.isin(names, name_array(listed, str(scenes)))
        self.numbers = chosen[self.index["sample_scene"]].nonzero()[0]
        self.frame_ids = self.index["sample_token"][self.numbers].tolist()

    @property
    def index(self) -> Index:
        """The tables as arrays."""
        if self._index is None:
            self._index = open_index(self.root / self.version)
        return self._index

    def _check_scenes(self, listed: list[str], where: str) -> None:
        existing = self.index["scene_name"].tolist()
        known = set(existing)
        unknown = [name for name in listed if name not in known]
        if unknown:
            named = ", ".join(unknown[:MOST_NAMED]) + (" ..." if len(unknown) > MOST_NAMED else "")
            scenes = f"{len(existing)} scenes ({' ... '.join(sorted({*existing[:1], *existing[-1:]}))})"
            raise ConfigError(f"{where}: {named}: not in {self.version}, which has {scenes}")

    def __getstate__(self) -> dict[str, Any]:
        kept = (self.root / self.version / INDEX).is_file()  # then a worker opens it by itself
        return {**self.__dict__, "_index": None} if kept else self.__dict__

    def __len__(self) -> int:
        return len(self.frame_ids)

    def frame(self, index: int) -> LidarFrame:
        frame = self.labels(index)
        sweeps = self.sweeps_of(index)
        times = self.index["lidar_time"][sweeps]
        transforms = np.linalg.inv(sensor_to_global(self.index, sweeps[0])) @ sensor_to_global(self.index, sweeps)
        clouds = [_with_time(self._points(sweeps[0])[:, :4], 0.0)]
        for sweep, transform, time in zip(sweeps[1:], transforms[1:], times[1:], strict=True):
            clouds.append(_with_time(sweep_points(self._points(sweep), transform), 1e-6 * (times[0] - time)))
        frame.points = np.concatenate(clouds)
        return frame

    def labels(self, index: int) -> LidarFrame:
        # The frame, and where and when it was recorded.
        tables, sample = self.index, self.numbers[index]
        keyframe = tables["sample_lidar"][sample]
        to_global = sensor_to_global(tables, keyframe)
        frame = LidarFrame(self.frame_ids[index], np.zeros((0, 5), np.float32))
        frame.origin = {
            "token": frame.frame_id,
            "scene": str(tables["scene_name"][tables["sample_scene"][sample]]),
            "timestamp": int(tables["lidar_time"][keyframe]),
            "lidar_to_global": to_global.tolist(),
            "ego_translation": tables["lidar_ego"][keyframe, :3].tolist(),
        }
        if not len(tables["box"]):
            frame.missing_labels = self.annotations
            return frame

        # The objects of the keyframe that sensors saw; the metric needs the bicycle racks among all of them.
        first = tables["sample_first"][sample]
        rows = np.arange(first, first + tables["sample_objects"][sample])
        categories = tables["category_name"][tables["object_category"][rows]]
        racks = tables["place"][rows[categories == RACK]]
        points = tables["lidar_points"][rows]
        kept = (points + tables["radar_points"][rows] > 0) & (points >= self.min_points)
        names = [CATEGORIES.get(category, IGNORED) for category in categories[kept].tolist()]

        # Boxes in the lidar frame, and the same objects in the global frame.
        frame.boxes = tables["box"][rows[kept]].astype(np.float32)
        frame.names = name_array(names, frame.frame_id)
        frame.num_points = points[kept]
        frame.difficulty = np.full(len(names), UNKNOWN, np.int64)
        frame.annotations = {
            "translation": tables["place"][rows[kept], :3],
            "size": tables["place"][rows[kept], 7:],
            "rotation": unit_quaternions(tables["place"][rows[kept], 3:7]),
            "velocity": tables["velocity"][rows[kept]],
            "attribute": self._attributes(rows[kept]),
            "bicycle_racks": np.column_stack([racks[:, :3], racks[:, [8, 7, 9]], headings_of(racks[:, 3:7])]),
        }
        return frame

    def sweeps_of(self, index: int) -> np.ndarray:
        """Rows of the keyframe and the sweeps before it; at the beginning of a scene its first sweep is repeated."""
        sweeps = [self.index["sample_lidar"][self.numbers[index]]]
        while len(sweeps) < self.sweeps:
            before = self.index["lidar_before"][sweeps[-1]]
            sweeps.append(sweeps[-1] if before < 0 else before)
        return np.array(sweeps)

    def _points(self, sweep: int) -> np.ndarray:
        name = self.index["lidar_file"][sweep].decode(errors="replace")
        return read_bin_rows(path_below(self.root, name, f"{self.root / self.version}, sample_data"), 5)

    def _attributes(self, rows: np.ndarray) -> np.ndarray:
        names, numbers = self.index["attribute_name"].tolist(), self.index["object_attribute"][rows].tolist()
        return name_array(["" if number < 0 else names[number] for number in numbers], "attributes")


def sweep_points(points: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """float32 [M, 4] of a sweep's points [N, 5] in the keyframe's lidar frame, without those on the vehicle."""
    of_vehicle = (np.abs(points[:, 0]) < EGO) & (np.abs(points[:, 1]) < EGO)
    kept = points[~of_vehicle, :4].copy()
    kept[:, :3] = moved(kept, transform)
    return kept


def _with_time(points: np.ndarray, lag: float) -> np.ndarray:
    return np.concatenate([points, np.full((len(points), 1), lag, np.float32)], 1).astype(np.float32)
