"""Common parts of the lidar data sets' scripts in datasets/: unpacking downloads, and the database of objects."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from visionseq.data.lidar.database import build_database
from visionseq.data.lidar.frame import LidarFrames
from visionseq.data.names import path_below
from visionseq.data.prepare import items_of
from visionseq.errors import DataError
from visionseq.files import atomic_write
from visionseq.geometry.point_tests import DATABASE, PointTest

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")


def unpack(downloads: Path, root: Path, pattern: str, progress: Callable[[int], object] = lambda archives: None) -> str:
    """Write the files of all archives in a folder below `root`; existing files are kept.

    Args:
        downloads: folder with .zip, .tar and .tar.gz files, or one of them.
        root: where to write.
        pattern: of the names to write; its group 1 is the name below `root`.
        progress: called with the number of archives done since the last call.

    Returns a sentence for the user. Raises `DataError` for a damaged archive, and where no name matches.
    """
    count = 0
    for archive in archives_in(downloads):
        for item in items_of(archive):
            match = re.search(pattern, item.name)
            if match is None:
                continue
            count += 1
            path = path_below(root, match.group(1), item.where)
            if not path.exists():
                with atomic_write(path) as file:
                    file.write(item.read())
        progress(1)
    if not count:
        raise DataError(f"{downloads}: no archive here holds files of this data set; see the README beside this script")
    return f"{count} files of {downloads} in {root}"


def archives_in(downloads: Path) -> list[Path]:
    """The archives of a folder, sorted, or the archive itself."""
    files = sorted(downloads.iterdir()) if downloads.is_dir() else [downloads]
    archives = [path for path in files if path.name.endswith(ARCHIVES)]
    if not archives:
        raise DataError(f"{downloads}: no archive ({', '.join(ARCHIVES)})")
    return archives


def write_database(
    frames: LidarFrames,
    folder: Path,
    test: PointTest = DATABASE,
    every: Mapping[str, int] | None = None,
    progress: Callable[[int], object] = lambda frames: None,
) -> str:
    """Cut the objects of all frames out; returns a sentence for the user."""
    database = build_database(frames, folder, frames.class_names, test, every, progress)
    counts = {name: int((database.names == name).sum()) for name in frames.class_names}
    by_class = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    return f"{len(database)} objects of {len(frames)} frames in {folder}: {by_class or 'none'}"
