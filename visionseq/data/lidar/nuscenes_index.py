"""nuScenes' JSON tables as plain arrays: keyframes, lidar sweeps, poses, and objects in the lidar frame.

The tables of the whole set are several gigabytes of text. They are read once, and the arrays are stored beside them.
When a table changes, the arrays are made again.
"""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from visionseq.data.lidar.infos import read_infos, write_infos
from visionseq.data.lidar.json_tables import Row, table_rows
from visionseq.data.lidar.nuscenes_layout import LAYOUT, NONE, Index, check_index
from visionseq.data.lidar.nuscenes_objects import quaternion_of, read_objects
from visionseq.data.names import path_below
from visionseq.errors import DataError
from visionseq.text_files import name_array, reason

TABLES = (
    "scene", "sample", "sample_data", "sample_annotation", "instance", "category", "attribute", "ego_pose",
    "calibrated_sensor",
)  # fmt: skip
INDEX = "visionseq_index.npz"
FORMAT = 2
LIDAR = "LIDAR_TOP"
LARGE = 1 << 27  # bytes; tables beyond take minutes to read

_log = logging.getLogger("visionseq.data")


def open_index(folder: Path) -> Index:
    """The arrays of a version's folder (v1.0-trainval ...), made where they are missing or older than the tables.

    Raises `DataError` naming the table and row that is missing, damaged or contradicts the others.
    """
    path, tables = folder / INDEX, _state_of(folder)
    if path.is_file():
        try:
            index = check_index(path, read_infos(path, LAYOUT))
            if np.array_equal(index["tables"], tables):
                return index
        except DataError as error:
            _log.warning("%s; the file is made again", error)
    if tables[:, 0].sum() > LARGE:
        _log.warning("%s: reading all tables once, which takes minutes", folder)
    index = {"tables": tables, **build_index(folder)}
    try:
        write_infos(path, index)
    except OSError as error:
        _log.warning("%s: not writable (%s); the tables will be read at every start", path, error)
    return index


def build_index(folder: Path) -> Index:
    """All arrays but `tables` from the JSON files of a version."""
    scenes, scene_names = _names(folder, "scene")
    categories, category_names = _names(folder, "category")
    attributes, attribute_names = _names(folder, "attribute")
    samples, index = _samples(folder, scenes)
    index |= {"scene_name": scene_names, "category_name": category_names, "attribute_name": attribute_names}
    index |= _sweeps(folder, samples)
    index |= read_objects(folder, index, samples, categories, attributes)
    return index


def _state_of(folder: Path) -> np.ndarray:
    """int64 [1 + tables, 2]: the format's number, then size and time of change of each table."""
    state = [(FORMAT, 0)]
    for name in TABLES:
        path = folder / f"{name}.json"
        try:
            status = path.stat()
        except OSError as error:
            raise DataError(f"{path}: not readable: {reason(error)}") from error
        state.append((status.st_size, status.st_mtime_ns))
    return np.array(state, np.int64)


def _names(folder: Path, table: str) -> tuple[dict[str, int], np.ndarray]:
    """Row number of each token, and the names [N] in the rows."""
    numbers: dict[str, int] = {}
    names: list[str] = []
    for row in table_rows(folder / f"{table}.json"):
        numbers[row.text("token")] = len(names)
        names.append(row.text("name"))
    return numbers, name_array(names, f"{folder}, {table}")


def _samples(folder: Path, scenes: Mapping[str, int]) -> tuple[dict[str, int], Index]:
    """Row number of each keyframe's token, and the arrays of keyframes, sorted by time."""
    rows = [
        (row.integer("timestamp"), row.link("scene_token", scenes), row.text("token"))
        for row in table_rows(folder / "sample.json")
    ]
    rows.sort(key=lambda sample: sample[0])
    index = {
        "sample_token": name_array([token for *_, token in rows], str(folder)),
        "sample_scene": np.array([scene for _, scene, _ in rows], np.int64),
        "sample_time": np.array([time for time, *_ in rows], np.int64),
    }
    return {token: number for number, (*_, token) in enumerate(rows)}, index


def _sweeps(folder: Path, samples: Mapping[str, int]) -> Index:
    """The arrays of lidar sweeps and sensors, and the sweep of each keyframe."""
    # The sweeps of the lidar, and the poses of sensor and vehicle.
    rows = [row for row in table_rows(folder / "sample_data.json") if LIDAR in row.text("filename").split("/")]
    numbers = {row.text("token"): number for number, row in enumerate(rows)}
    sensors, sensor_poses = _poses(folder, "calibrated_sensor")
    egos, ego_poses = _poses(folder, "ego_pose", {row.text("ego_pose_token") for row in rows})

    # The sweep that is the keyframe of each sample.
    keyframes = np.full(len(samples), NONE, np.int64)
    for number, row in enumerate(rows):
        if row.values.get("is_key_frame") is True:
            keyframes[row.link("sample_token", samples)] = number
    if (keyframes == NONE).any():
        token = list(samples)[int((keyframes == NONE).argmax())]
        raise DataError(f"{folder / 'sample_data.json'}: sample {token} has no keyframe of {LIDAR}")

    return {
        "sample_lidar": keyframes,
        "lidar_file": np.array([_file_of(row, folder.parent).encode() for row in rows], dtype=np.bytes_),
        "lidar_time": np.array([row.integer("timestamp") for row in rows], np.int64),
        "lidar_before": _links(rows, "prev", numbers),
        "lidar_sensor": _links(rows, "calibrated_sensor_token", sensors),
        "lidar_ego": ego_poses[_links(rows, "ego_pose_token", egos)],
        "sensor_pose": sensor_poses,
    }


def _file_of(row: Row, root: Path) -> str:
    """The name of a sweep's file below the root."""
    name = row.text("filename")
    path_below(root, name, f"{row.path}, row {row.number}")
    return name


def _links(rows: list[Row], key: str, numbers: Mapping[str, int]) -> np.ndarray:
    """Row numbers of tokens, -1 where a token is empty."""
    return np.array([NONE if row.values.get(key) == "" else row.link(key, numbers) for row in rows], np.int64)


def _poses(folder: Path, table: str, tokens: set[str] | None = None) -> tuple[dict[str, int], np.ndarray]:
    """Row number of each token, and poses float64 [N, 7] (x, y, z, quaternion); None reads all tokens."""
    numbers: dict[str, int] = {}
    poses: list[list[float]] = []
    for row in table_rows(folder / f"{table}.json"):
        if tokens is None or row.text("token") in tokens:
            numbers[row.text("token")] = len(poses)
            poses.append([*row.numbers("translation", 3), *quaternion_of(row)])
    return numbers, np.array(poses, np.float64).reshape(-1, 7)
