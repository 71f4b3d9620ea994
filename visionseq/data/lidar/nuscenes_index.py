"""nuScenes' JSON tables as plain arrays: keyframes, lidar sweeps, poses, and objects in the lidar frame.

The tables of the whole set are several gigabytes of text; they are read once, and the arrays kept beside them. Where a
table changes the arrays are made again.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from visionseq.data.lidar.infos import Column, check_numbers, read_infos, write_infos
from visionseq.data.lidar.json_tables import Row, table_rows
from visionseq.data.lidar.poses import pose_matrices, rotation_matrices
from visionseq.errors import DataError

TABLES = (
    "scene", "sample", "sample_data", "sample_annotation", "instance", "category", "attribute", "ego_pose",
    "calibrated_sensor",
)  # fmt: skip
INDEX = "visionseq_index.npz"
FORMAT = 2
LIDAR = "LIDAR_TOP"
RACK = "static_object.bicycle_rack"  # bicycles in one are not evaluated
LONGEST = 1.5  # seconds between neighbours for a velocity; twice as long with one on both sides
NONE = -1
LARGE = 1 << 27  # bytes of tables that take a while

LAYOUT = {
    "tables": Column("table", "i", (2,)),  # size and time of change, after the format's number
    "scene_name": Column("scene", "U"),
    "sample_token": Column("sample", "U"),  # keyframes by time
    "sample_scene": Column("sample", "i"),
    "sample_time": Column("sample", "i"),  # microseconds
    "sample_lidar": Column("sample", "i"),  # its row among the sweeps
    "sample_first": Column("sample", "i"),  # its first object
    "sample_objects": Column("sample", "i"),
    "lidar_file": Column("lidar", "S"),  # below the root
    "lidar_time": Column("lidar", "i"),  # microseconds
    "lidar_before": Column("lidar", "i"),  # the sweep before it in the scene
    "lidar_sensor": Column("lidar", "i"),
    "lidar_ego": Column("lidar", "f", (7,)),  # pose of the vehicle in the global frame
    "sensor_pose": Column("sensor", "f", (7,)),  # in the vehicle
    "box": Column("object", "f", (9,)),  # x, y, z, dx, dy, dz, heading, vx, vy in the keyframe's lidar frame
    "place": Column("object", "f", (10,)),  # x, y, z, rotation w, x, y, z, width, length, height in the global frame
    "velocity": Column("object", "f", (2,)),  # metres per second in the global frame, NaN where not known
    "object_category": Column("object", "i"),
    "object_attribute": Column("object", "i"),
    "lidar_points": Column("object", "i"),
    "radar_points": Column("object", "i"),
    "category_name": Column("category", "U"),
    "attribute_name": Column("attribute", "U"),
}

Index = dict[str, np.ndarray]
_log = logging.getLogger("visionseq.data")


def open_index(folder: Path) -> Index:
    """The arrays of a version's folder (v1.0-trainval ...), made where they are missing or older than the tables.

    Raises `DataError` naming the table and row that is missing, damaged or does not fit the others.
    """
    path, tables = folder / INDEX, _state_of(folder)
    if path.is_file():
        try:
            index = _checked(path, read_infos(path, LAYOUT))
            if np.array_equal(index["tables"], tables):
                return index
        except DataError as error:
            _log.warning("%s; it is made again", error)
    if tables[:, 0].sum() > LARGE:
        _log.warning("%s: reading all tables, which takes minutes and happens once", folder)
    index = {"tables": tables, **build_index(folder)}
    try:
        write_infos(path, index)
    except OSError as error:
        _log.warning("%s: cannot be kept (%s), so that the tables are read at every start", path, error.strerror)
    return index


def sensor_to_global(index: Index, sweeps: np.ndarray) -> np.ndarray:
    """float64 [..., 4, 4]: from the lidar at the time of a sweep to the global frame."""
    sensors = index["sensor_pose"][index["lidar_sensor"][sweeps]]
    return pose_matrices(index["lidar_ego"][sweeps]) @ pose_matrices(sensors)


def build_index(folder: Path) -> Index:
    """All arrays but `tables` from the JSON files of a version."""
    scenes, scene_names = _names(folder, "scene")
    categories, category_names = _names(folder, "category")
    attributes, attribute_names = _names(folder, "attribute")
    samples, index = _samples(folder, scenes)
    index |= {"scene_name": scene_names, "category_name": category_names, "attribute_name": attribute_names}
    index |= _sweeps(folder, samples)
    index |= _objects(folder, index, samples, categories, attributes)
    return index


def _state_of(folder: Path) -> np.ndarray:
    state = [(FORMAT, 0)]
    for name in TABLES:
        path = folder / f"{name}.json"
        try:
            facts = path.stat()
        except OSError as error:
            raise DataError(f"{path}: not readable: {error.strerror}") from error
        state.append((facts.st_size, facts.st_mtime_ns))
    return np.array(state, np.int64)


def _checked(path: Path, index: Index) -> Index:
    counts = {group: len(index[name]) for name, (group, _, _) in LAYOUT.items()}
    check_numbers(path, "sample_scene", index["sample_scene"], counts["scene"])
    check_numbers(path, "sample_lidar", index["sample_lidar"], counts["lidar"])
    check_numbers(path, "lidar_before", index["lidar_before"], counts["lidar"], NONE)
    check_numbers(path, "lidar_sensor", index["lidar_sensor"], counts["sensor"])
    check_numbers(path, "object_category", index["object_category"], counts["category"])
    check_numbers(path, "object_attribute", index["object_attribute"], counts["attribute"], NONE)
    ends = index["sample_first"] + index["sample_objects"]
    check_numbers(path, "sample_first", index["sample_first"], counts["object"] + 1)
    check_numbers(path, "ends of objects", ends, counts["object"] + 1)
    return index


def _names(folder: Path, table: str) -> tuple[dict[str, int], np.ndarray]:
    """Rows by token, and the names in them."""
    numbers: dict[str, int] = {}
    names = []
    for row in table_rows(folder / f"{table}.json"):
        numbers[row.text("token")] = len(names)
        names.append(row.text("name"))
    return numbers, np.array(names, dtype=np.str_) if names else np.zeros(0, "U1")


def _samples(folder: Path, scenes: Mapping[str, int]) -> tuple[dict[str, int], Index]:
    found = [
        (row.integer("timestamp"), row.link("scene_token", scenes), row.text("token"))
        for row in table_rows(folder / "sample.json")
    ]
    found.sort(key=lambda sample: sample[0])
    index = {
        "sample_token": np.array([token for *_, token in found], dtype=np.str_) if found else np.zeros(0, "U1"),
        "sample_scene": np.array([scene for _, scene, _ in found], np.int64),
        "sample_time": np.array([time for time, *_ in found], np.int64),
    }
    return {token: number for number, (*_, token) in enumerate(found)}, index


def _sweeps(folder: Path, samples: Mapping[str, int]) -> Index:
    rows = [row for row in table_rows(folder / "sample_data.json") if LIDAR in row.text("filename").split("/")]
    numbers = {row.text("token"): number for number, row in enumerate(rows)}
    sensors, sensor_poses = _poses(folder, "calibrated_sensor")
    wanted = {row.text("ego_pose_token") for row in rows}
    egos, ego_poses = _poses(folder, "ego_pose", wanted)
    keyframes = np.full(len(samples), NONE, np.int64)
    for number, row in enumerate(rows):
        if row.values.get("is_key_frame") is True:
            keyframes[row.link("sample_token", samples)] = number
    if (keyframes == NONE).any():
        token = list(samples)[int((keyframes == NONE).argmax())]
        raise DataError(f"{folder / 'sample_data.json'}: no {LIDAR} of the sample {token}")
    return {
        "sample_lidar": keyframes,
        "lidar_file": np.array([row.text("filename").encode() for row in rows], dtype=np.bytes_),
        "lidar_time": np.array([row.integer("timestamp") for row in rows], np.int64),
        "lidar_before": _links(rows, "prev", numbers),
        "lidar_sensor": _links(rows, "calibrated_sensor_token", sensors),
        "lidar_ego": ego_poses[_links(rows, "ego_pose_token", egos)],
        "sensor_pose": sensor_poses,
    }


def _links(rows: list[Row], key: str, numbers: Mapping[str, int]) -> np.ndarray:
    """Row numbers of tokens, -1 where a token is empty."""
    found = [NONE if row.values.get(key) == "" else row.link(key, numbers) for row in rows]
    return np.array(found, np.int64)


def _poses(folder: Path, table: str, wanted: set[str] | None = None) -> tuple[dict[str, int], np.ndarray]:
    """Rows by token, and their poses [N, 7]; of `wanted` tokens alone."""
    numbers: dict[str, int] = {}
    poses = []
    for row in table_rows(folder / f"{table}.json"):
        if wanted is None or row.text("token") in wanted:
            numbers[row.text("token")] = len(poses)
            poses.append([*row.numbers("translation", 3), *_rotation(row)])
    return numbers, np.array(poses, np.float64).reshape(-1, 7)


def _rotation(row: Row) -> list[float]:
    quaternion = row.numbers("rotation", 4)
    if not 0 < np.linalg.norm(quaternion) < np.inf:
        raise row.misfit("rotation", "a quaternion")
    return quaternion


def _objects(
    folder: Path, index: Index, samples: Mapping[str, int], categories: dict[str, int], attributes: dict[str, int]
) -> Index:
    instances = {
        row.text("token"): row.link("category_token", categories) for row in table_rows(folder / "instance.json")
    }
    rows = _Annotations(folder, samples, instances, attributes)
    boxes = rows.boxes(index)
    for number in (~np.isfinite(boxes[:, :7].astype(np.float32)).all(1)).nonzero()[0][:1]:
        raise DataError(f"{folder / 'sample_annotation.json'}, row {number}: a box beyond all bounds")
    seen = rows.counts.sum(1) > 0
    if RACK in index["category_name"]:
        seen |= rows.links[:, 1] == index["category_name"].tolist().index(RACK)
    order = np.argsort(rows.links[:, 0], kind="stable")
    order = order[seen[order]]
    of_sample = np.bincount(rows.links[order, 0], minlength=len(samples))
    return {
        "box": boxes[order],
        "place": rows.places[order],
        "velocity": rows.velocities(index)[order, :2],
        "object_category": rows.links[order, 1],
        "object_attribute": rows.links[order, 2],
        "lidar_points": rows.counts[order, 0],
        "radar_points": rows.counts[order, 1],
        "sample_first": np.cumsum(of_sample) - of_sample,
        "sample_objects": of_sample,
    }


class _Annotations:
    """The rows of sample_annotation.json.

    Attributes: `links` [A, 3] (sample, category, attribute), `counts` [A, 2] (points of lidar and radar), `places`
    [A, 10] (translation, rotation, size), `around` [A, 2] (the annotations of the same thing before and after).
    """

    def __init__(
        self, folder: Path, samples: Mapping[str, int], instances: Mapping[str, int], attributes: Mapping[str, int]
    ):
        links, counts, places, around = [], [], [], []
        numbers: dict[str, int] = {}
        path = folder / "sample_annotation.json"
        for row in table_rows(path):
            numbers[row.text("token")] = len(links)
            sample, category = row.link("sample_token", samples), row.link("instance_token", instances)
            links.append((sample, category, _attribute(row, attributes)))
            counts.append((row.integer("num_lidar_pts"), row.integer("num_radar_pts")))
            places.append((*row.numbers("translation", 3), *_rotation(row), *row.numbers("size", 3)))
            around.append((row.text("prev"), row.text("next")))
        self.links = np.array(links, np.int64).reshape(-1, 3)
        self.counts = np.array(counts, np.int64).reshape(-1, 2)
        self.places = np.array(places, np.float64).reshape(-1, 10)
        self.around = np.array(list(_resolved(around, numbers, path)), np.int64).reshape(-1, 2)

    def boxes(self, index: Index) -> np.ndarray:
        """float64 [A, 9] in the lidar frames of their keyframes."""
        to_lidar = np.linalg.inv(sensor_to_global(index, index["sample_lidar"]))[self.links[:, 0]]
        turn = to_lidar[:, :3, :3]
        centre = (turn @ self.places[:, :3, None])[..., 0] + to_lidar[:, :3, 3]
        ahead = (turn @ rotation_matrices(self.places[:, 3:7])[..., :1])[..., 0]
        velocity = (turn @ self.velocities(index)[..., None])[..., 0]
        width, length, height = self.places[:, 7:].T
        yaw = np.arctan2(ahead[:, 1], ahead[:, 0])
        return np.column_stack([centre, length, width, height, yaw, velocity[:, :2]])

    def velocities(self, index: Index) -> np.ndarray:
        """Metres per second in the global frame [A, 3], by the annotations before and after; NaN where too far."""
        own = np.arange(len(self.around))
        first, last = (np.where(numbers == NONE, own, numbers) for numbers in self.around.T)
        times = index["sample_time"][self.links[:, 0]]
        seconds = 1e-6 * (times[last] - times[first])
        known = (seconds > 0) & (seconds <= LONGEST * (self.around != NONE).sum(1))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            velocities = (self.places[last, :3] - self.places[first, :3]) / seconds[:, None]
        return np.where(known[:, None], velocities, np.nan)


def _attribute(row: Row, attributes: Mapping[str, int]) -> int:
    """The first attribute of an annotation."""
    tokens = row.values.get("attribute_tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, str) and token in attributes for token in tokens):
        raise row.misfit("attribute_tokens", "a list of tokens of attributes")
    return attributes[tokens[0]] if tokens else NONE


def _resolved(around: list[tuple[str, str]], numbers: Mapping[str, int], path: Path) -> Iterator[list[int]]:
    for row, tokens in enumerate(around):
        unknown = [token for token in tokens if token and token not in numbers]
        if unknown:
            raise DataError(f"{path}, row {row}: prev or next {unknown[0][:80]!r} is the token of no row")
        yield [numbers[token] if token else NONE for token in tokens]
