"""The ground-truth database: labelled objects cut out of a training set, to be pasted into other scenes.

A folder of three files, each written to a temporary file and renamed: points.npy (float32 [N, 3 + C], of all objects,
relative to their centres, memory-mapped), objects.npz (boxes, names, where the points are), database.json (columns).
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from visionseq.data.lidar.frame import UNKNOWN, LidarFrame, LidarFrames
from visionseq.data.lidar.text import reason
from visionseq.errors import DataError
from visionseq.files import atomic_write, write_json
from visionseq.geometry.point_tests import DATABASE, NEAREST, PointTest, first_box, points_in_boxes

POINTS, OBJECTS, DESCRIPTION = "points.npy", "objects.npz", "database.json"
KINDS = {"boxes": "f", "names": "U", "starts": "i", "counts": "i", "difficulty": "i"}


class GroundTruthDatabase:
    """Objects of a folder that `build_database` wrote; points are read when asked for.

    Attributes: `boxes` float32 [M, 7 or 9], `names` str [M], `counts` int64 [M] of points, `difficulty` int64 [M].
    Raises `DataError` naming the file that is missing, damaged or does not fit the others.
    """

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder)
        description = self.folder / DESCRIPTION
        try:
            self.features = tuple(json.loads(description.read_text(encoding="utf-8"))["features"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(f"{description}: no description of a database: {reason(error)}") from error
        arrays = self._arrays()
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
        try:
            points = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: no numpy array: {reason(error)}") from error
        if points.ndim != 2 or points.shape[1] != len(self.features) or points.dtype != np.float32:
            raise DataError(f"{path}: {points.dtype} {points.shape}, expected float32 [N, {len(self.features)}]")
        if len(self) and (self.starts + self.counts).max() > len(points):
            raise DataError(f"{path}: {len(points)} points, {OBJECTS} expects {(self.starts + self.counts).max()}")
        return points

    def points_of(self, number: int) -> np.ndarray:
        """float32 [n, 3 + C], relative to the object's centre."""
        start = self.starts[number]
        return np.array(self.points[start : start + self.counts[number]])

    def _arrays(self) -> dict[str, np.ndarray]:
        path = self.folder / OBJECTS
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in KINDS}
        except Exception as error:  # zipfile, zlib and numpy each have errors of their own
            raise DataError(f"{path}: not readable: {reason(error)}") from error
        lengths = {len(array) if array.ndim else UNKNOWN for array in arrays.values()}
        kinds = {name: array.dtype.kind for name, array in arrays.items()}
        boxes = arrays["boxes"]
        if len(lengths) != 1 or kinds != KINDS or boxes.ndim != 2 or boxes.shape[1] not in (7, 9):
            raise DataError(f"{path}: {', '.join(f'{n} {a.dtype} {a.shape}' for n, a in arrays.items())} do not fit")
        if (arrays["starts"] < 0).any() or (arrays["counts"] < 0).any():
            raise DataError(f"{path}: negative places of points")
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
        folder: where to write; what is there is replaced.
        classes: those to keep; None: all.
        test: which points belong to a box; by `NEAREST` a point belongs to the first box alone that contains it.
        every: class -> take only every so many-th frame for it.
        progress: called with the number of frames done since the last call.
    """
    points, boxes, names, counts, difficulty = [], [], [], [], []
    for index in range(len(frames)):
        frame = frames.frame(index)
        progress(1)
        if frame.boxes is None or not len(frame.boxes):
            continue
        inside = _points_of_boxes(frame, test)
        for row, name in enumerate(frame.names.tolist()):
            skipped = index % (every or {}).get(name, 1)
            if skipped or (classes is not None and name not in classes):
                continue
            own = frame.points[inside[row]].copy()
            own[:, :3] -= frame.boxes[row, :3]
            points.append(own)
            boxes.append(frame.boxes[row])
            names.append(name)
            counts.append(len(own))
            difficulty.append(UNKNOWN if frame.difficulty is None else int(frame.difficulty[row]))
    width = len(frames.features)
    arrays = {
        "boxes": np.array(boxes, np.float32).reshape(len(boxes), -1) if boxes else np.zeros((0, 7), np.float32),
        "names": np.array(names, dtype=np.str_) if names else np.zeros(0, "U1"),
        "starts": np.concatenate([[0], np.cumsum(counts)[:-1]]).astype(np.int64)[: len(counts)],
        "counts": np.array(counts, np.int64),
        "difficulty": np.array(difficulty, np.int64),
    }
    folder = Path(folder)
    with atomic_write(folder / POINTS) as file:
        np.save(file, np.concatenate(points) if points else np.zeros((0, width), np.float32))
    with atomic_write(folder / OBJECTS) as file:
        np.savez(file, **arrays)
    write_json(folder / DESCRIPTION, {"features": list(frames.features), "objects": len(boxes)})
    return GroundTruthDatabase(folder)


def _points_of_boxes(frame: LidarFrame, test: PointTest) -> np.ndarray:
    """Mask [M, N]: the points of each box, whatever its class."""
    if test == NEAREST:
        return np.arange(len(frame.boxes))[:, None] == first_box(frame.points, frame.boxes, test)
    return points_in_boxes(frame.points, frame.boxes, test)
