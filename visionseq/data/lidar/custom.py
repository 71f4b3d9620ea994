"""Your own data: point files of any format, and labels as text with one box a line.

root/points/NAME.bin (.npy, .pcd, .ply, .las ...)
root/labels/NAME.txt           x y z dx dy dz heading class; empty: a frame without objects
root/ImageSets/train.txt       names, one a line (optional)
"""

import logging
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from visionseq.data.lidar.folders import listed_frames
from visionseq.data.lidar.frame import UNKNOWN, LidarFrame
from visionseq.data.lidar.headings import check_radians
from visionseq.data.lidar.missing_labels import MissingLabels, check_labels
from visionseq.data.point_files import EXTENSIONS, read_points
from visionseq.errors import ConfigError, DataError
from visionseq.text_files import name_array, numbers_of, read_rows

DEGREES = "headings: degrees of the data set converts them"
FIELDS = "x y z dx dy dz heading class"

_log = logging.getLogger("visionseq.data")


class CustomFrames:
    """Frames of your own folder.

    Args:
        root: the folder.
        class_names: of the labels; another name in a label file is logged once. Empty: any name is allowed.
        split: name of a list in ImageSets; None: all files in points/.
        features: columns to use; a .bin file of 4 columns has x, y, z, intensity.
        columns: values of a point in .bin files; None: as many as `features`.
        headings: unit of the headings in the label files; frames always have radians.
        missing_labels: refuse frames whose label file is missing, or report them and go on.
    """

    def __init__(
        self,
        root: str,
        class_names: Sequence[str],
        split: str | None = None,
        features: Sequence[str] = ("x", "y", "z", "intensity"),
        columns: int | None = None,
        headings: Literal["radians", "degrees"] = "radians",
        missing_labels: MissingLabels = "refuse",
    ):
        if headings not in ("radians", "degrees"):
            raise ConfigError(f"headings: {headings!r}, expected radians or degrees")
        self.columns, self.headings = columns or len(features), headings
        self.root, self.class_names, self.features = Path(root), tuple(class_names), tuple(features)
        self.files = _point_files(self.root / "points")
        self._reported: set[str] = set()

        # The frames of the split, all of them with points and labels.
        points = self.root / "points"
        names = list(self.files) if split is None else listed_frames(self.root / "ImageSets" / f"{split}.txt", points)
        missing = [name for name in names if name not in self.files]
        if missing or not names:
            raise ConfigError(f"{points}: no file of {', '.join(missing[:3]) or 'points at all'}")
        self.frame_ids = names
        unlabelled = [path for name in names if not (path := self._labels_of(name)).is_file()]
        check_labels(unlabelled, len(names), missing_labels)

    def __len__(self) -> int:
        return len(self.frame_ids)

    def frame(self, index: int) -> LidarFrame:
        path = self.files[self.frame_ids[index]]
        frame = self.labels(index)
        columns = self.columns if path.suffix.lower() == ".bin" else None
        frame.points = read_points(path, columns).select(self.features, str(path))
        return frame

    def labels(self, index: int) -> LidarFrame:
        name = self.frame_ids[index]
        nothing, path = np.zeros((0, len(self.features)), np.float32), self._labels_of(name)
        if not path.is_file():
            return LidarFrame(name, nothing, missing_labels=path)
        boxes, names = [], []
        for line, words in read_rows(path):
            if len(words) != len(FIELDS.split()):
                raise DataError(f"{path}, line {line}: {len(words)} fields, expected {FIELDS}")
            boxes.append(self._box(path, line, words[:7]))
            names.append(words[7])
            self._check_name(path, line, words[7])
        unknown = np.full(len(boxes), UNKNOWN, np.int64)
        labels = name_array(names, str(path))
        return LidarFrame(name, nothing, np.array(boxes, np.float32).reshape(-1, 7), labels, unknown, unknown)

    def _labels_of(self, name: str) -> Path:
        return self.root / "labels" / f"{name}.txt"

    def _box(self, path: Path, line: int, words: list[str]) -> list[float]:
        *box, heading = numbers_of(path, line, words)
        if self.headings == "degrees":
            heading = math.radians(heading)
        check_radians(heading, f"{path}, line {line}", DEGREES if self.headings == "radians" else "")
        return [*box, heading]

    def _check_name(self, path: Path, line: int, name: str) -> None:
        if self.class_names and name not in self.class_names and name not in self._reported:
            self._reported.add(name)
            known = ", ".join(self.class_names)
            _log.warning("%s, line %d: %r is not one of the classes %s (reported once)", path, line, name, known)


def _point_files(folder: Path) -> dict[str, Path]:
    """The point files of a folder by the names of their frames; `DataError` where two have the same."""
    files: dict[str, Path] = {}
    for path in sorted(path for path in folder.glob("*") if path.suffix.lower() in EXTENSIONS):
        name = path.stem.removesuffix(".pcd")  # of a .pcd.bin as nuScenes has them
        if name in files:
            raise DataError(f"{path}: {files[name].name} is a frame of the same name")
        files[name] = path
    return files
