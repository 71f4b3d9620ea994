"""nuScenes' annotations: boxes in the lidar frames of their keyframes, with velocities by their neighbours in time."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from visionseq.data.lidar.json_tables import Row, table_rows
from visionseq.data.lidar.nuscenes_layout import NONE, Index, sensor_to_global
from visionseq.errors import DataError
from visionseq.geometry.rotations import rotation_matrices
from visionseq.text_files import LARGEST

ANNOTATIONS = "sample_annotation"
RACK = "static_object.bicycle_rack"  # bicycles in one are not evaluated
LONGEST = 1.5  # seconds between neighbours for a velocity; twice as long with one on both sides


def read_objects(
    folder: Path, index: Index, samples: Mapping[str, int], categories: dict[str, int], attributes: dict[str, int]
) -> Index:
    """The arrays of the group object, sorted by keyframe, and where those of each keyframe begin.

    Args:
        folder: of a version, with its tables.
        index: the arrays of keyframes, sweeps and categories.
        samples: rows of keyframes by token, and likewise `categories` and `attributes`.
    """
    # All annotations, with their boxes in the lidar frames.
    instances = {
        row.text("token"): row.link("category_token", categories) for row in table_rows(folder / "instance.json")
    }
    rows = _Annotations(folder, samples, instances, attributes)
    boxes = rows.boxes(index)
    for number in (~(np.abs(boxes[:, :7]) <= LARGEST).all(1)).nonzero()[0][:1]:
        raise DataError(f"{folder / 'sample_annotation.json'}, row {number}: a box beyond all bounds")

    # Those that a sensor saw, and bicycle racks, sorted by keyframe.
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
        links: list[tuple[int, int, int]] = []
        counts, places, around = [], [], []
        numbers: dict[str, int] = {}
        path = folder / f"{ANNOTATIONS}.json"
        for row in table_rows(path):
            numbers[row.text("token")] = len(links)
            sample, category = row.link("sample_token", samples), row.link("instance_token", instances)
            links.append((sample, category, _attribute(row, attributes)))
            counts.append((row.integer("num_lidar_pts"), row.integer("num_radar_pts")))
            places.append((*row.numbers("translation", 3), *quaternion_of(row), *row.numbers("size", 3)))
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
        rows = np.arange(len(self.around))
        first, last = (np.where(numbers == NONE, rows, numbers) for numbers in self.around.T)
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
            raise DataError(f"{path}, row {row}: prev or next {unknown[0][:80]!r} is not the token of a row")
        yield [numbers[token] if token else NONE for token in tokens]


def quaternion_of(row: Row) -> list[float]:
    """The rotation of a row; `DataError` for one without a length."""
    quaternion = row.numbers("rotation", 4)
    if not 0 < np.linalg.norm(quaternion) < np.inf:
        raise row.misfit("rotation", "a quaternion")
    return quaternion
