"""Waymo's open data set (arXiv 1912.04838) as `datasets/waymo/prepare.py` lays it out; the vehicle frame, x ahead.

root/SEGMENT/0000.npy          float32 [N, 6]: x, y, z, intensity, elongation, no-label-zone flag (-1: labelled)
root/SEGMENT/labels.npz        boxes, names, frames and more, of all frames of the segment
"""

from functools import lru_cache
from pathlib import Path

import numpy as np

from visionseq.data.lidar.frame import LidarFrame
from visionseq.errors import ConfigError, DataError

SEGMENTS_KEPT = 8  # label files in memory
LABELS = {"frame": 1, "boxes": 9, "num_points": 1, "difficulty": 1}


class Waymo:
    """Frames of Waymo. Intensity and elongation are as recorded: name them in `PointPreparation.squashed` for the
    hyperbolic tangent that LION's models expect.

    Args:
        root: folder of the prepared segments.
        interval: take every so many-th frame of a segment.
        labelled_points_only: leave out points where nothing was labelled.
    """

    class_names = ("Vehicle", "Pedestrian", "Cyclist", "Sign")
    features = ("x", "y", "z", "intensity", "elongation")

    def __init__(self, root: str, interval: int = 1, labelled_points_only: bool = False):
        if interval < 1:
            raise ConfigError(f"waymo: interval {interval}, expected at least 1")
        self.root, self.labelled_points_only = Path(root), labelled_points_only
        self.files: list[Path] = []
        for segment in sorted(path for path in self.root.glob("*") if path.is_dir()):
            self.files += sorted(segment.glob("[0-9]*.npy"))[::interval]
        self.frame_ids = [f"{path.parent.name}_{int(path.stem):03d}" for path in self.files]
        if not self.files:
            raise ConfigError(f"{self.root}: no SEGMENT/0000.npy; see datasets/waymo/README.md")

    def __len__(self) -> int:
        return len(self.files)

    def frame(self, index: int) -> LidarFrame:
        path = self.files[index]
        try:
            points = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: no numpy array: {error}") from error
        if points.ndim != 2 or points.shape[1] != 6 or points.dtype != np.float32:
            raise DataError(f"{path}: {points.dtype} {points.shape}, expected float32 [N, 6]")
        if self.labelled_points_only:
            points = points[points[:, 5] == -1]
        frame = self.labels(index)
        frame.points = np.ascontiguousarray(points[:, :5])
        return frame

    def labels(self, index: int) -> LidarFrame:
        path = self.files[index]
        nothing, labels = np.zeros((0, 5), np.float32), path.parent / "labels.npz"
        if not labels.is_file():
            return LidarFrame(self.frame_ids[index], nothing)
        arrays = read_segment(labels)
        rows = arrays["frame"] == int(path.stem)
        boxes, names = arrays["boxes"][rows].astype(np.float32), arrays["names"][rows]
        facts = {"num_points": arrays["num_points"][rows], "difficulty": arrays["difficulty"][rows]}
        return LidarFrame(self.frame_ids[index], nothing, boxes, names, **facts)


@lru_cache(SEGMENTS_KEPT)
def read_segment(path: Path) -> dict[str, np.ndarray]:
    """Labels of all frames of a segment."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in (*LABELS, "names")}
    except Exception as error:  # zipfile, zlib and numpy each have errors of their own
        raise DataError(f"{path}: not readable: {error}") from error
    shapes = {name: array.shape[1:] for name, array in arrays.items()}
    if len({len(array) if array.ndim else -1 for array in arrays.values()}) != 1 or shapes["boxes"] != (9,):
        raise DataError(f"{path}: {', '.join(f'{n} {a.shape}' for n, a in arrays.items())} do not fit")
    if arrays["names"].dtype.kind != "U" or any(arrays[name].dtype.kind not in "if" for name in LABELS):
        raise DataError(f"{path}: expected names as text and numbers")
    return arrays
