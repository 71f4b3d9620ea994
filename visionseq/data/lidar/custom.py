"""Data of one's own: point files of any format, and labels as text with one box a line.

root/points/NAME.bin (.npy, .pcd, .ply, .las ...)
root/labels/NAME.txt           x y z dx dy dz heading class
root/ImageSets/train.txt       names, one a line (optional)
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visionseq.data.lidar.frame import UNKNOWN, LidarFrame
from visionseq.data.lidar.text import numbers_of, read_text, rows_of
from visionseq.data.point_files import EXTENSIONS, read_points
from visionseq.errors import ConfigError, DataError

_log = logging.getLogger("visionseq.data")


class CustomFrames:
    """Frames of a folder of one's own.

    Args:
        root: the folder.
        class_names: of the labels; another name in a label file is said once. None at all: any name will do.
        split: name of a list in ImageSets; None: all files in points/.
        features: columns to use; a .bin file of 4 columns has x, y, z, intensity.
        columns: values of a point in .bin files; None: as many as `features`.
    """

    def __init__(
        self,
        root: str,
        class_names: Sequence[str],
        split: str | None = None,
        features: Sequence[str] = ("x", "y", "z", "intensity"),
        columns: int | None = None,
    ):
        self.columns = columns or len(features)
        self.root, self.class_names, self.features = Path(root), tuple(class_names), tuple(features)
        self._told: set[str] = set()
        files = (path for path in (self.root / "points").glob("*") if path.suffix.lower() in EXTENSIONS)
        self.files: dict[str, Path] = {}
        for path in sorted(files):
            name = path.stem.removesuffix(".pcd")  # of a .pcd.bin as nuScenes has them
            if name in self.files:
                raise DataError(f"{path}: {self.files[name].name} is a frame of the same name")
            self.files[name] = path
        names = list(self.files) if split is None else read_text(self.root / "ImageSets" / f"{split}.txt").split()
        missing = [name for name in names if name not in self.files]
        if missing or not names:
            raise ConfigError(f"{self.root / 'points'}: no file of {', '.join(missing[:3]) or 'points at all'}")
        self.frame_ids = names

    def __len__(self) -> int:
        return len(self.frame_ids)

    def frame(self, index: int) -> LidarFrame:
        path = self.files[self.frame_ids[index]]
        frame = self.labels(index)
        frame.points = read_points(path, self.columns if path.suffix.lower() == ".bin" else None).select(
            self.features, str(path)
        )
        return frame

    def labels(self, index: int) -> LidarFrame:
        name = self.frame_ids[index]
        nothing, path = np.zeros((0, len(self.features)), np.float32), self.root / "labels" / f"{name}.txt"
        if not path.is_file():
            return LidarFrame(name, nothing)
        boxes, names = [], []
        for line, words in rows_of(path):
            if len(words) != 8:
                raise DataError(f"{path}, line {line}: {len(words)} fields, expected x y z dx dy dz heading class")
            boxes.append(numbers_of(path, line, words[:7]))
            names.append(words[7])
            self._check_name(path, line, words[7])
        unknown = np.full(len(boxes), UNKNOWN, np.int64)
        labels = np.array(names, dtype=np.str_) if names else np.zeros(0, "U1")
        return LidarFrame(name, nothing, np.array(boxes, np.float32).reshape(-1, 7), labels, unknown, unknown)

    def _check_name(self, path: Path, line: int, name: str) -> None:
        if self.class_names and name not in self.class_names and name not in self._told:
            self._told.add(name)
            known = ", ".join(self.class_names)
            _log.warning("%s, line %d: %r is none of the classes %s (said once)", path, line, name, known)
