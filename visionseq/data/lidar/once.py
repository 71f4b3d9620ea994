"""ONCE (arXiv 2106.11037), read from its own files: `root`/data/SEQ/SEQ.json and SEQ/lidar_roof/TIME.bin.

Its models detect within +-75.2 m of the sensor, and from 5 m below it to 3 m above.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np

from visionseq.data.lidar.bin_rows import read_bin_rows
from visionseq.data.lidar.folders import require
from visionseq.data.lidar.frame import UNKNOWN, LidarFrame
from visionseq.data.names import path_below
from visionseq.errors import ConfigError, DataError
from visionseq.text_files import fits_float32, name_array, read_json

SPLITS = {
    "train": ("000076", "000080", "000092", "000104", "000113", "000121"),
    "val": ("000027", "000028", "000112", "000201"),
}

_log = logging.getLogger("visionseq.data")


class Once:
    """Frames of ONCE that have objects; the others are not labelled.

    Args:
        root: folder of the data set.
        split: train or val; sequences of it that are missing are logged. None: every sequence of the folder.
    """

    class_names = ("Car", "Bus", "Truck", "Pedestrian", "Cyclist")
    features = ("x", "y", "z", "intensity")

    def __init__(self, root: str, split: str | None = "train"):
        self.folder = Path(root) / "data"
        if split is not None and split not in SPLITS:
            raise ConfigError(f"once: split {split!r}, expected one of {', '.join(SPLITS)}")
        require(self.folder, "once")
        existing = sorted(path.name for path in self.folder.glob("*") if path.is_dir())
        expected = existing if split is None else SPLITS[split]
        missing = [name for name in expected if name not in existing]
        if missing:
            _log.warning("%s: sequence %s of the split %s is missing", self.folder, ", ".join(missing), split)
        sequences = [name for name in expected if name in existing]
        self.entries = [(name, entry) for name in sequences for entry in self._frames(name)]
        self.frame_ids = [f"{name}_{entry['frame_id']}" for name, entry in self.entries]
        if not self.entries:
            raise ConfigError(f"{self.folder}: no annotated frames; see datasets/once/README.md")

    def __len__(self) -> int:
        return len(self.entries)

    def frame(self, index: int) -> LidarFrame:
        sequence, entry = self.entries[index]
        frame = self.labels(index)
        frame.points = read_bin_rows(self._points_of(sequence, entry["frame_id"], sequence), 4)
        return frame

    def labels(self, index: int) -> LidarFrame:
        sequence, entry = self.entries[index]
        boxes = np.array(entry["boxes"], np.float32).reshape(-1, 7)
        unknown = np.full(len(boxes), UNKNOWN, np.int64)
        names, no_points = name_array(entry["names"], self.frame_ids[index]), np.zeros((0, 4), np.float32)
        origin = {"sequence": sequence, "frame_id": entry["frame_id"], "pose": entry["pose"]}
        return LidarFrame(self.frame_ids[index], no_points, boxes, names, unknown, unknown, origin=origin)

    def _points_of(self, sequence: str, frame_id: str, where: str) -> Path:
        return path_below(self.folder / sequence / "lidar_roof", f"{frame_id}.bin", where)

    def _frames(self, sequence: str) -> list[dict[str, Any]]:
        """The frames of a sequence that have objects; `DataError` names the one that is damaged."""
        path = self.folder / sequence / f"{sequence}.json"
        rows = read_json(path, dict).get("frames")
        if not isinstance(rows, list):
            raise DataError(f"{path}: no list of frames")
        frames = []
        for number, row in enumerate(rows):
            if isinstance(row, dict) and row.get("annos"):
                entry = _entry(row, f"{path}, frame {number}")
                self._points_of(sequence, entry["frame_id"], f"{path}, frame {number}")
                frames += [entry] if entry["names"] else []
        return frames


def _entry(row: dict[str, Any], where: str) -> dict[str, Any]:
    """Names and boxes of a frame as plain values, which reach worker processes quickly."""
    try:
        boxes = np.array(row["annos"]["boxes_3d"], np.float64).reshape(-1, 7)
        names, frame_id = [str(name) for name in row["annos"]["names"]], str(row["frame_id"])
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: {error!r}, expected frame_id, and annos with names and boxes_3d [N, 7]") from error
    if len(boxes) != len(names) or not fits_float32(boxes):
        raise DataError(f"{where}: {len(names)} names, expected as many finite boxes, not {len(boxes)}")
    name_array(names, where)
    return {"frame_id": frame_id, "boxes": boxes.tolist(), "names": names, "pose": row.get("pose")}
