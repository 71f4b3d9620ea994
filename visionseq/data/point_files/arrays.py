"""Points as plain arrays: raw float32 rows as KITTI, nuScenes and Waymo keep them, and numpy files."""

from pathlib import Path

import numpy as np

from visionseq.data.point_files.cloud import POSITION, PointCloud, cloud_of
from visionseq.errors import ConfigError, DataError

# What the columns after z mean in the data sets that use this number of columns.
NAMES = {
    3: POSITION,
    4: (*POSITION, "intensity"),
    5: (*POSITION, "intensity", "ring"),
    6: (*POSITION, "intensity", "elongation", "flag"),
}


def read_bin(path: Path, columns: int) -> PointCloud:
    """Little-endian float32 rows of 3 to 6 columns."""
    if columns not in NAMES:
        raise ConfigError(f"columns: {columns}, expected one of {', '.join(map(str, NAMES))}")
    size = path.stat().st_size
    if size % (4 * columns):
        fitting = [str(number) for number in NAMES if size % (4 * number) == 0]
        hint = f"; the size fits {' or '.join(fitting)} columns" if fitting else ""
        raise DataError(f"{path}: {size} bytes are no whole rows of {columns} float32{hint}")
    values = np.fromfile(path, "<f4").reshape(-1, columns).astype(np.float32, copy=False)
    return PointCloud(values, NAMES[columns])


def read_npy(path: Path) -> PointCloud:
    """An array [N, 3 to 6] of numbers, or a structured array with the fields x, y, z."""
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except OSError:
        raise
    except Exception as error:  # the header is Python's syntax, whose parsers fail in many ways
        raise DataError(f"{path}: no numpy array of numbers: {error}") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: holds several arrays, expected one")
    if array.dtype.names:
        return cloud_of({name: array[name] for name in array.dtype.names if _is_plain(array.dtype[name])}, str(path))
    if array.ndim != 2 or array.shape[1] not in NAMES or array.dtype.kind not in "fiu":
        raise DataError(f"{path}: {array.dtype} {list(array.shape)}, expected numbers [N, 3 to 6]")
    with np.errstate(over="ignore"):
        return PointCloud(np.array(array, np.float32), NAMES[array.shape[1]])


def _is_plain(dtype: np.dtype) -> bool:
    return dtype.kind in "fiu" and dtype.shape == ()
