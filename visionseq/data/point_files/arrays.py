"""Points in numpy files."""

from pathlib import Path

import numpy as np

from visionseq.data.point_files.bin_columns import NAMES
from visionseq.data.point_files.cloud import PointCloud, cloud_of, cloud_of_values
from visionseq.errors import DataError
from visionseq.text_files import reason


def read_npy(path: Path) -> PointCloud:
    """An array [N, 3 to 6] of numbers, or a structured array with the fields x, y, z."""
    array = open_array(path)
    if array.dtype.names:
        return cloud_of({name: array[name] for name in array.dtype.names if _is_plain(array.dtype[name])}, str(path))
    if array.ndim != 2 or array.shape[1] not in NAMES or array.dtype.kind not in "fiu":
        raise DataError(f"{path}: {array.dtype} {list(array.shape)}, expected numbers [N, 3 to 6]")
    with np.errstate(over="ignore"):
        return cloud_of_values(np.array(array, np.float32), NAMES[array.shape[1]], str(path))


def open_array(path: Path) -> np.ndarray:
    """The array of a .npy file as a memory map, so that the file backs what its header claims.

    Raises `DataError` where the file is missing, is damaged, holds several arrays, or objects of Python.
    """
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except Exception as error:  # the header is Python's syntax, whose parsers fail in many ways
        raise DataError(f"{path}: not a numpy array of numbers: {reason(error)}") from error
    if not isinstance(array, np.ndarray):
        raise DataError(f"{path}: holds several arrays, expected one")
    return array


def _is_plain(dtype: np.dtype) -> bool:
    return dtype.kind in "fiu" and dtype.shape == ()
