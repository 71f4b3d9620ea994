"""Argoverse 2's sensor data set, read from its Feather files (arXiv 2301.00493); the ego frame, x ahead."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from visionseq.data.lidar.folders import require
from visionseq.data.lidar.frame import UNKNOWN, LidarFrame
from visionseq.data.lidar.missing_labels import MissingLabels, check_labels
from visionseq.data.point_files import read_points
from visionseq.data.point_files.feather import read_columns
from visionseq.errors import ConfigError, DataError
from visionseq.geometry.rotations import headings_of
from visionseq.text_files import fits_float32

GROUPS = (
    ("Regular_vehicle",),
    ("Pedestrian", "Bicyclist", "Motorcyclist", "Wheeled_rider"),
    ("Bollard", "Construction_cone", "Sign", "Construction_barrel", "Stop_sign", "Mobile_pedestrian_crossing_sign"),
    (
        "Large_vehicle", "Bus", "Box_truck", "Truck", "Vehicular_trailer", "Truck_cab", "School_bus",
        "Articulated_bus", "Message_board_trailer",
    ),
    ("Bicycle", "Motorcycle", "Wheeled_device", "Wheelchair", "Stroller"),
    ("Dog",),
)  # fmt: skip
CLASS_NAMES = tuple(name for group in GROUPS for name in group)
COLUMNS = (
    "timestamp_ns", "category", "length_m", "width_m", "height_m", "qw", "qx", "qy", "qz", "tx_m", "ty_m", "tz_m",
    "num_interior_pts",
)  # fmt: skip
ANNOTATIONS = "annotations.feather"
LOGS_KEPT = 8  # annotation tables in memory


class Argoverse2:
    """Sweeps of Argoverse 2: `root`/`split`/LOG/sensors/lidar/TIME.feather and `root`/`split`/LOG/annotations.feather.

    Args:
        root: folder of the sensor data set.
        split: train, val, test; "" where the logs lie in `root` itself.
        missing_labels: refuse logs without annotations.feather (those of the test split have none), or report them
            and go on.
    """

    class_names = CLASS_NAMES
    features = ("x", "y", "z", "intensity")

    def __init__(self, root: str, split: str = "train", missing_labels: MissingLabels = "refuse"):
        self.folder = Path(root) / split
        require(self.folder, "argoverse2")
        files = self.folder.glob("*/sensors/lidar/*.feather")
        self.sweeps = sorted(path for path in files if path.stem.isdecimal())  # nanoseconds
        self.frame_ids = [f"{path.parents[2].name}_{path.stem}" for path in self.sweeps]
        if not self.sweeps:
            raise ConfigError(f"{self.folder}: no LOG/sensors/lidar/*.feather; see datasets/argoverse2/README.md")
        tables = dict.fromkeys(path.parents[2] / ANNOTATIONS for path in self.sweeps)
        check_labels([path for path in tables if not path.is_file()], len(tables), missing_labels)

    def __len__(self) -> int:
        return len(self.sweeps)

    def frame(self, index: int) -> LidarFrame:
        frame = self.labels(index)
        path = self.sweeps[index]
        frame.points = read_points(path).select(self.features, str(path))
        return frame

    def labels(self, index: int) -> LidarFrame:
        path = self.sweeps[index]
        log = path.parents[2]
        no_points, origin = np.zeros((0, 4), np.float32), {"log": log.name, "timestamp_ns": int(path.stem)}
        if not (log / ANNOTATIONS).is_file():
            return LidarFrame(self.frame_ids[index], no_points, origin=origin, missing_labels=log / ANNOTATIONS)

        # The objects of this sweep that at least one point hits.
        table = read_annotations(log / ANNOTATIONS)
        rows = (table["timestamp_ns"] == int(path.stem)) & (table["num_interior_pts"] > 0)
        boxes, names = boxes_of({name: values[rows] for name, values in table.items()})
        counts = table["num_interior_pts"][rows].astype(np.int64)
        unknown = np.full(len(boxes), UNKNOWN, np.int64)
        boxes = boxes.astype(np.float32)
        return LidarFrame(self.frame_ids[index], no_points, boxes, names, counts, unknown, origin=origin)


@lru_cache(LOGS_KEPT)
def read_annotations(path: Path) -> dict[str, np.ndarray]:
    """The columns of a log's annotations; `DataError` names the file that lacks one or cannot be read."""
    columns = read_columns(path, COLUMNS)
    for name, values in columns.items():
        if name != "category" and (values.dtype.kind not in "fiu" or not fits_float32(values)):
            raise DataError(f"{path}: {name} holds {values.dtype}, or values that are missing or not finite")
    return columns


def boxes_of(table: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes float64 [M, 7] and class names str [M] (with a capital letter) of rows of the annotations."""
    columns = ("tx_m", "ty_m", "tz_m", "length_m", "width_m", "height_m")
    headings = headings_of(np.stack([table[name] for name in ("qw", "qx", "qy", "qz")], 1))
    boxes = np.stack([*(table[name] for name in columns), headings], 1).astype(np.float64).reshape(-1, 7)
    return boxes, np.char.capitalize(np.asarray(table["category"], dtype=np.str_))
