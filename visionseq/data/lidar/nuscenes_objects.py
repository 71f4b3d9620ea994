"""nuScenes' annotations: boxes in the lidar frames of their keyframes, with velocities from the neighbours in time."""

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
LONGEST = 1.5  # seconds to a neighbour for a velocity; twice as many from the one before to the one after


def read_objects(
    folder: Path, index: Index, samples: Mapping[str, int], categories: dict[str, int], attributes: dict[str, int]
) -> Index:
    """The arrays of the group `object`, sorted by keyframe, and the first object and the count of each keyframe.

    Args:
        folder: of a version, with its tables.
        index: the arrays of keyframes, sweeps and categories.
        samples, categories, attributes: row number of each token.

    Raises `DataError` for a row that is damaged, or whose box is not finite in float32.
    """
    # All annotations, with their boxes in the lidar frames.
    instances = {
        row.text("token"): row.link("category_token", categories) for row in table_rows(folder / "instance.json")
    }
    annotations = _Annotations(folder, samples, instances, attributes)
    boxes = annotations.boxes(index)
    finite = (np.abs(boxes[:, :7]) <= LARGEST).all(1)
    if not finite.all():
        row = int(np.argmin(finite))
        raise DataError(f"{folder / f'{ANNOTATIONS}.json'}, row {row}: a box that is not finite in float32")

    # Keep those that a sensor saw, and the bicycle racks; sort them by keyframe.
    kept = annotations.counts.sum(1) > 0
    if RACK in index["category_name"]:
        kept |= annotations.links[:, 1] == index["category_name"].tolist().index(RACK)
    order = np.argsort(annotations.links[:, 0], kind="stable")
    order = order[kept[order]]
    objects = np.bincount(annotations.links[order, 0], minlength=len(samples))
    return {
        "box": boxes[order],
        "place": annotations.places[order],
        "velocity": annotations.velocities(index)[order, :2],
        "object_category": annotations.links[order, 1],
        "object_attribute": annotations.links[order, 2],
        "lidar_points": annotations.counts[order, 0],
        "radar_points": annotations.counts[order, 1],
        "sample_first": np.cumsum(objects) - objects,
        "sample_objects": objects,
    }


class _Annotations:
    """The rows of sample_annotation.json.

    Attributes: `links` [A, 3] (sample, category, attribute), `counts` [A, 2] (points of lidar and radar), `places`
    [A, 10] (translation, rotation, size), `neighbours` [A, 2] (rows of the same object before and after, or NONE).
    """

    def __init__(
        self, folder: Path, samples: Mapping[str, int], instances: Mapping[str, int], attributes: Mapping[str, int]
    ):
        links: list[tuple[int, int, int]] = []
        counts, places, neighbours = [], [], []
        numbers: dict[str, int] = {}
        path = folder / f"{ANNOTATIONS}.json"
        for row in table_rows(path):
            numbers[row.text("token")] = len(links)
            sample, category = row.link("sample_token", samples), row.link("instance_token", instances)
            links.append((sample, category, _attribute(row, attributes)))
            counts.append((row.integer("num_lidar_pts"), row.integer("num_radar_pts")))
            places.append((*row.numbers("translation", 3), *quaternion_of(row), *row.numbers("size", 3)))
            neighbours.append((row.text("prev"), row.text("next")))

        self.links = np.array(links, np.int64).reshape(-1, 3)
        self.counts = np.array(counts, np.int64).reshape(-1, 2)
        self.places = np.array(places, np.float64).reshape(-1, 10)
        self.neighbours = np.array(list(_resolved(neighbours, numbers, path)), np.int64).reshape(-1, 2)

    def boxes(self, index: Index) -> np.ndarray:
        """float64 [A, 9] with velocity, in the lidar frames of their keyframes; NaN where the velocity is not known."""
        to_lidar = np.linalg.inv(sensor_to_global(index, index["sample_lidar"]))[self.links[:, 0]]
        turn = to_lidar[:, :3, :3]
        centre = (turn @ self.places[:, :3, None])[..., 0] + to_lidar[:, :3, 3]
        ahead = (turn @ rotation_matrices(self.places[:, 3:7])[..., :1])[..., 0]
        velocity = (turn @ self.velocities(index)[..., None])[..., 0]
        width, length, height = self.places[:, 7:].T
        yaw = np.arctan2(ahead[:, 1], ahead[:, 0])
        return np.column_stack([centre, length, width, height, yaw, velocity[:, :2]])

    def velocities(self, index: Index) -> np.ndarray:
        """Metres per second in the global frame [A, 3], from the neighbours in time; NaN where they are too far."""
        rows = np.arange(len(self.neighbours))
        first, last = (np.where(numbers == NONE, rows, numbers) for numbers in self.neighbours.T)
        times = index["sample_time"][self.links[:, 0]]
        seconds = 1e-6 * (times[last] - times[first])
        known = (seconds > 0) & (seconds <= LONGEST * (self.neighbours != NONE).sum(1))
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            velocities = (self.places[last, :3] - self.places[first, :3]) / seconds[:, None]
        return np.where(known[:, None], velocities, np.nan)


def _attribute(row: Row, attributes: Mapping[str, int]) -> int:
    """Row number of an annotation's first attribute, NONE where it has no attribute."""
    tokens = row.values.get("attribute_tokens")
    if not isinstance(tokens, list) or not all(isinstance(token, str) and token in attributes for token in tokens):
        raise row.misfit("attribute_tokens", "a list of tokens of attributes")
    return attributes[tokens[0]] if tokens else NONE


def _resolved(neighbours: list[tuple[str, str]], numbers: Mapping[str, int], path: Path) -> Iterator[list[int]]:
    """Row numbers of the tokens before and after each annotation, NONE for an empty token."""
    for row, tokens in enumerate(neighbours):
        unknown = [token for token in tokens if token and token not in numbers]
        if unknown:
            raise DataError(f"{path}, row {row}: prev or next {unknown[0][:80]!r} is not the token of a row")
        yield [numbers[token] if token else NONE for token in tokens]


def quaternion_of(row: Row) -> list[float]:
    """The rotation of a row as w, x, y, z; `DataError` where its length is zero or not finite."""
    quaternion = row.numbers("rotation", 4)
    if not 0 < np.linalg.norm(quaternion) < np.inf:
        raise row.misfit("rotation", "a quaternion")
    return quaternion
