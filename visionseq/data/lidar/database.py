"""The ground-truth database: labelled objects cut out of a training set, to be pasted into other scenes.

A folder of three files, each written to a temporary file and renamed: points.npy (float32 [N, 3 + C], of all objects,
relative to their centres, memory-mapped), objects.npz (boxes, names, where the points are), database.json (columns).
"""

import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from visionseq.data.lidar.frame import UNKNOWN, LidarFrames
from visionseq.data.lidar.infos import Column, read_infos, write_infos
from visionseq.data.point_files.arrays import open_array
from visionseq.errors import DataError
from visionseq.files import atomic_write, write_json
from visionseq.geometry.point_tests import DATABASE, NEAREST, PointTest, first_box, points_in_boxes
from visionseq.text_files import fits_float32, name_array, read_json

POINTS, OBJECTS, DESCRIPTION = "points.npy", "objects.npz", "database.json"
LAYOUT = {
    "boxes": Column("object", "f", (None,)),
    "names": Column("object", "U"),
    "starts": Column("object", "i"),  # rows of points.npy
    "counts": Column("object", "i"),
    "difficulty": Column("object", "i"),
}
WIDTHS = (7, 9)  # values of a box: without and with velocity


class GroundTruthDatabase:
    """Objects of a folder that `build_database` wrote; points are read when they are needed.

    Attributes: `boxes` float32 [M, 7 or 9], `names` str [M], `counts` int64 [M] of points, `difficulty` int64 [M].
    Raises `DataError` naming the file that is missing, damaged or contradicts the others.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        self.features = _features(self.folder / DESCRIPTION)
        arrays = _objects(self.folder / OBJECTS)
        self.boxes, self.names = arrays["boxes"], arrays["names"]
        self.starts, self.counts, self.difficulty = arrays["starts"], arrays["counts"], arrays["difficulty"]

    def __len__(self) -> int:
        return len(self.boxes)

    def __getstate__(self) -> dict:
        return {name: value for name, value in self.__dict__.items() if name != "points"}  # opened by each worker

    @cached_property
    def points(self) -> np.ndarray:
        """The memory map, float32 [N, 3 + C]."""
        path = self.folder / POINTS
        points = open_array(path)
        if points.ndim != 2 or points.shape[1] != len(self.features) or points.dtype != np.float32:
            raise DataError(f"{path}: {points.dtype} {points.shape}, expected float32 [N, {len(self.features)}]")
        beyond = (self.starts > len(points)) | (self.counts > len(points) - self.starts)
        if beyond.any():
            rows = f"{self.counts[beyond][0]} points from {self.starts[beyond][0]} on"
            raise DataError(f"{path}: {len(points)} points, {OBJECTS} expects {rows}")
        return points

    def points_of(self, number: int) -> np.ndarray:
        """float32 [n, 3 + C], relative to the object's centre."""
        start = self.starts[number]
        return np.array(self.points[start : start + self.counts[number]])


def _features(path: Path) -> tuple[str, ...]:
    """The names of the points' columns, from the description of a database."""
    features = read_json(path, dict).get("features")
    if not isinstance(features, list) or not all(isinstance(name, str) for name in features):
        raise DataError(f"{path}: features {str(features)[:80]}, expected the names of the columns")
    return tuple(features)


def _objects(path: Path) -> dict[str, np.ndarray]:
    """The arrays of objects.npz; `DataError` where they are damaged or have values that cannot be."""
    arrays = read_infos(path, LAYOUT)
    boxes = arrays["boxes"]
    if boxes.shape[1] not in WIDTHS:
        raise DataError(f"{path}: boxes of {boxes.shape[1]} values, expected 7 or 9")
    if not fits_float32(boxes[:, :7]) or (arrays["starts"] < 0).any() or (arrays["counts"] < 0).any():
        raise DataError(f"{path}: boxes that are not finite, or negative starts or counts of points")
    return arrays


def build_database(
    frames: LidarFrames,
    folder: str | os.PathLike,
    classes: Sequence[str] | None = None,
    test: PointTest = DATABASE,
    every: Mapping[str, int] | None = None,
    progress: Callable[[int], object] = lambda frames: None,
) -> GroundTruthDatabase:
    """Cut the objects of all frames out and write them to `folder`.

    Args:
        frames: the training set.
        folder: where to write; an earlier database in it is replaced.
        classes: those to keep; None: all.
        test: which points belong to a box; with `NEAREST` a point belongs only to the first box that contains it.
        every: class -> n: objects of the class are taken from every n-th frame only.
        progress: called with the number of frames done since the last call.
    """
    # Cut out the points in the boxes of each frame.
    points, boxes, names, difficulty = [], [], [], []
    for index in range(len(frames)):
        frame = frames.frame(index)
        progress(1)
        objects = frame.objects
        if objects is None or not len(objects.boxes):
            continue
        inside = _points_of_boxes(frame.points, objects.boxes, test)
        for row, name in enumerate(objects.names.tolist()):
            skipped = index % (every or {}).get(name, 1)
            if skipped or (classes is not None and name not in classes):
                continue
            points.append(_relative(frame.points[inside[row]], objects.boxes[row]))
            boxes.append(objects.boxes[row])
            names.append(name)
            difficulty.append(UNKNOWN if frame.difficulty is None else int(frame.difficulty[row]))

    # Write the three files, the description last: without it the folder is no database.
    folder, counts = Path(folder), [len(rows) for rows in points]
    arrays = {
        "boxes": np.array(boxes, np.float32).reshape(len(boxes), -1) if boxes else np.zeros((0, 7), np.float32),
        "names": name_array(names, str(folder)),
        "starts": np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)[: len(counts)],
        "counts": np.array(counts, np.int64),
        "difficulty": np.array(difficulty, np.int64),
    }
    with atomic_write(folder / POINTS) as file:
        np.save(file, np.concatenate(points) if points else np.zeros((0, len(frames.features)), np.float32))
    write_infos(folder / OBJECTS, arrays)
    write_json(folder / DESCRIPTION, {"features": list(frames.features), "objects": len(boxes)})
    return GroundTruthDatabase(folder)


def _relative(points: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The points of an object relative to its centre, as a copy."""
    points = points.copy()
    points[:, :3] -= box[:3]
    return points


def _points_of_boxes(points: np.ndarray, boxes: np.ndarray, test: PointTest) -> np.ndarray:
    """Mask bool [M, N]: the points of each box, whatever its class."""
    if test == NEAREST:
        return np.arange(len(boxes))[:, None] == first_box(points, boxes, test)
    return points_in_boxes(points, boxes, test)
