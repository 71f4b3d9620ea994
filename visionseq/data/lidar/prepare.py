"""What the scripts in datasets/ of the lidar data sets share."""

from collections.abc import Mapping
from pathlib import Path

from visionseq.data.lidar.database import build_database
from visionseq.data.lidar.frame import LidarFrames
from visionseq.geometry.point_tests import DATABASE, PointTest


def write_database(
    frames: LidarFrames, folder: Path, test: PointTest = DATABASE, every: Mapping[str, int] | None = None
) -> str:
    """Cut the objects of all frames out; what to tell the user."""
    database = build_database(frames, folder, frames.class_names, test, every)
    counts = {name: int((database.names == name).sum()) for name in frames.class_names}
    told = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"{len(database)} objects of {len(frames)} frames in {folder}: {told or 'none'}"
