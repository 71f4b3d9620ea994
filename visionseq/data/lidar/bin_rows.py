"""Raw float32 rows, as KITTI, nuScenes and ONCE keep their points."""

from pathlib import Path

import numpy as np

from visionseq.errors import DataError
from visionseq.text_files import reason


def read_bin_rows(path: Path, columns: int) -> np.ndarray:
    """float32 [N, columns] of little-endian rows; `DataError` where the file is missing or ends within a row."""
    try:
        size = path.stat().st_size
        if size % (4 * columns):
            raise DataError(f"{path}: {size} bytes are not whole rows of {columns} float32")
        return np.fromfile(path, "<f4").reshape(-1, columns).astype(np.float32, copy=False)
    except OSError as error:
        raise DataError(f"{path}: not readable: {reason(error)}") from error
