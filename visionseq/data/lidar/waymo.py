"""Waymo's open data set (arXiv 1912.04838) as `datasets/waymo/prepare.py` lays it out; the vehicle frame, x ahead.

root/SEGMENT/0000.npy          float32 [N, 6]: x, y, z, intensity, elongation, no-label-zone flag (-1: labelled)
root/SEGMENT/labels.npz        boxes, names, frames and more, of all frames of the segment; absent in the test set
root/SEGMENT/frames.npz        when and where each frame was recorded; may be absent
"""

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from visionseq.data.lidar.folders import require
from visionseq.data.lidar.frame import LidarFrame
from visionseq.data.lidar.infos import Column, read_infos
from visionseq.data.lidar.missing_labels import MissingLabels, check_labels
from visionseq.data.point_files.arrays import open_array
from visionseq.errors import ConfigError, DataError
from visionseq.text_files import fits_float32

SEGMENTS_KEPT = 8  # segments whose tables stay in memory
LABELS_FILE, FRAMES_FILE = "labels.npz", "frames.npz"
LABELS = {
    "frame": Column("object", "iu"),
    "boxes": Column("object", "f", (9,)),  # x, y, z, dx, dy, dz, heading, vx, vy
    "names": Column("object", "U"),
    "num_points": Column("object", "iu"),
    "difficulty": Column("object", "iu"),  # 0: not set
}
FRAMES = {
    "frame": Column("frame", "iu"),
    "timestamp": Column("frame", "iu"),  # microseconds
    "pose": Column("frame", "f", (4, 4)),  # vehicle to global
    "context": Column("segment", "U"),  # the segment's own name
}


class Waymo:
    """Frames of Waymo, intensity and elongation as recorded.

    LION's models expect the hyperbolic tangent of both columns: name them in `PointPreparation.squashed`.

    Args:
        root: folder of the prepared segments.
        interval: n: take every n-th frame of a segment.
        labelled_points_only: leave out points in zones without labels.
        min_points: objects with fewer points are left out; training uses 1.
        missing_labels: refuse segments without labels.npz (those of the test set have none), or report them and go on.
    """

    class_names = ("Vehicle", "Pedestrian", "Cyclist", "Sign")
    features = ("x", "y", "z", "intensity", "elongation")

    def __init__(
        self,
        root: str,
        interval: int = 1,
        labelled_points_only: bool = False,
        min_points: int = 0,
        missing_labels: MissingLabels = "refuse",
    ):
        if interval < 1:
            raise ConfigError(f"waymo: interval {interval}, expected at least 1")
        self.root, self.labelled_points_only, self.min_points = Path(root), labelled_points_only, min_points
        require(self.root, "waymo")
        self.files: list[Path] = []
        for segment in sorted(path for path in self.root.glob("[!.]*") if path.is_dir()):
            self.files += sorted(path for path in segment.glob("*.npy") if path.stem.isdecimal())[::interval]
        self.frame_ids = [f"{path.parent.name}_{int(path.stem):03d}" for path in self.files]
        if not self.files:
            raise ConfigError(f"{self.root}: no SEGMENT/0000.npy; see datasets/waymo/README.md")
        tables = dict.fromkeys(path.parent / LABELS_FILE for path in self.files)
        check_labels([path for path in tables if not path.is_file()], len(tables), missing_labels)

    def __len__(self) -> int:
        return len(self.files)

    def frame(self, index: int) -> LidarFrame:
        path = self.files[index]
        points = open_array(path)
        if points.ndim != 2 or points.shape[1] != 6 or points.dtype != np.float32:
            raise DataError(f"{path}: {points.dtype} {points.shape}, expected float32 [N, 6]")
        if self.labelled_points_only:
            points = points[points[:, 5] == -1]
        frame = self.labels(index)
        frame.points = np.array(points[:, :5])
        return frame

    def labels(self, index: int) -> LidarFrame:
        path = self.files[index]
        segment, number = path.parent, int(path.stem)
        frame = LidarFrame(self.frame_ids[index], np.zeros((0, 5), np.float32), origin=_origin(segment, number))
        if not (segment / LABELS_FILE).is_file():
            frame.missing_labels = segment / LABELS_FILE
            return frame
        arrays = read_segment(segment / LABELS_FILE)
        rows = (arrays["frame"] == number) & (arrays["num_points"] >= self.min_points)
        frame.boxes, frame.names = arrays["boxes"][rows].astype(np.float32), arrays["names"][rows]
        frame.num_points = arrays["num_points"][rows].astype(np.int64)
        frame.difficulty = arrays["difficulty"][rows].astype(np.int64)
        return frame


@lru_cache(SEGMENTS_KEPT)
def read_segment(path: Path) -> dict[str, np.ndarray]:
    """Labels of all frames of a segment, by the names in `LABELS`; `DataError` for a damaged file."""
    arrays = read_infos(path, LABELS)
    if not fits_float32(arrays["boxes"]):
        raise DataError(f"{path}: boxes that are not finite")
    return arrays


@lru_cache(SEGMENTS_KEPT)
def read_origins(path: Path) -> dict[str, np.ndarray]:
    """Times and poses of the frames of a segment, by the names in `FRAMES`; `DataError` for a damaged file."""
    return read_infos(path, FRAMES)


def _origin(segment: Path, number: int) -> dict[str, Any]:
    """Context, time and pose of a frame, where they are known; a submission names frames by the first two."""
    path = segment / FRAMES_FILE
    if not path.is_file():
        return {"context_name": segment.name}
    origins = read_origins(path)
    rows = (origins["frame"] == number).nonzero()[0]
    if not len(rows) or not len(origins["context"]):
        return {"context_name": segment.name}
    row = rows[0]
    context, time = str(origins["context"][0]), int(origins["timestamp"][row])
    return {"context_name": context, "timestamp_micros": time, "pose": origins["pose"][row].tolist()}
