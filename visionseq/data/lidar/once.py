"""ONCE (arXiv 2106.11037), read from its own files: `root`/data/SEQ/SEQ.json and SEQ/lidar_roof/TIME.bin."""

from pathlib import Path

import numpy as np

from visionseq.data.lidar.folders import require
from visionseq.data.lidar.frame import UNKNOWN, LidarFrame
from visionseq.data.lidar.text import fits_float32, read_bin_rows, read_json
from visionseq.errors import ConfigError, DataError

SPLITS = {
    "train": ("000076", "000080", "000092", "000104", "000113", "000121"),
    "val": ("000027", "000028", "000112", "000201"),
}


class Once:
    """Frames of ONCE that have objects.

    Args:
        root: folder of the data set.
        split: train or val; None: every sequence that is there.
    """

    class_names = ("Car", "Bus", "Truck", "Pedestrian", "Cyclist")
    features = ("x", "y", "z", "intensity")

    def __init__(self, root: str, split: str | None = "train"):
        self.folder = Path(root) / "data"
        if split is not None and split not in SPLITS:
            raise ConfigError(f"once: split {split!r}, expected one of {', '.join(SPLITS)}")
        require(self.folder, "once")
        there = sorted(path.name for path in self.folder.glob("*") if path.is_dir())
        sequences = [name for name in (SPLITS[split] if split else there) if name in there]
        self.entries = [(name, entry) for name in sequences for entry in self._frames(name)]
        self.frame_ids = [f"{name}_{entry['frame_id']}" for name, entry in self.entries]
        if not self.entries:
            raise ConfigError(f"{self.folder}: no annotated frames; see datasets/once/README.md")

    def __len__(self) -> int:
        return len(self.entries)

    def frame(self, index: int) -> LidarFrame:
        sequence, entry = self.entries[index]
        frame = self.labels(index)
        frame.points = read_bin_rows(self.folder / sequence / "lidar_roof" / f"{entry['frame_id']}.bin", 4)
        return frame

    def labels(self, index: int) -> LidarFrame:
        sequence, entry = self.entries[index]
        boxes = np.array(entry["boxes"], np.float32).reshape(-1, 7)
        unknown = np.full(len(boxes), UNKNOWN, np.int64)
        names, nothing = np.array(entry["names"], dtype=np.str_), np.zeros((0, 4), np.float32)
        origin = {"sequence": sequence, "frame_id": entry["frame_id"], "pose": entry["pose"]}
        return LidarFrame(self.frame_ids[index], nothing, boxes, names, unknown, unknown, origin=origin)

    def _frames(self, sequence: str) -> list[dict]:
        path = self.folder / sequence / f"{sequence}.json"
        rows = read_json(path, dict).get("frames")
        if not isinstance(rows, list):
            raise DataError(f"{path}: no list of frames")
        found = []
        for number, row in enumerate(rows):
            annotations = row.get("annos") if isinstance(row, dict) else None
            if not annotations:
                continue
            try:
                boxes = np.array(annotations["boxes_3d"], np.float64).reshape(-1, 7)
                names, frame_id = [str(name) for name in annotations["names"]], str(row["frame_id"])
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"{path}, frame {number}: annotations do not fit: {error}") from error
            if len(boxes) != len(names) or not fits_float32(boxes):
                raise DataError(f"{path}, frame {number}: {len(names)} names, {len(boxes)} finite boxes expected")
            if len(boxes):
                found.append({"frame_id": frame_id, "boxes": boxes.tolist(), "names": names, "pose": row.get("pose")})
        return found
