"""Points as raw float32 rows without a header, as KITTI, nuScenes and Waymo keep them: 3 to 6 columns.

Nothing in such a file says how many columns it has. Read with a wrong number, each column mixes the values of several
and spreads as far as the widest of them. So the right number is the one whose columns spread least.
"""

from pathlib import Path

import numpy as np

from visionseq.data.point_files.cloud import POSITION, PointCloud
from visionseq.errors import ConfigError, DataError

# What the columns after z mean in the data sets that use this number of columns.
NAMES = {
    3: POSITION,
    4: (*POSITION, "intensity"),
    5: (*POSITION, "intensity", "ring"),
    6: (*POSITION, "intensity", "elongation", "flag"),
}
USUAL, NUSCENES = 4, 5  # columns; the second of files that end in .pcd.bin
PROBED, ENOUGH = 1 << 16, 512  # values that are looked at; with fewer than the second they say nothing
MORE = 0.05  # the least gain of a further column: twice the right number spreads as little as the right one
CLEAR = 0.3  # how much narrower columns have to spread, as a mean logarithm, to speak for another number
NARROWEST = 1e-3  # spread below which columns count as equally narrow


def read_bin(path: Path, columns: int | None) -> PointCloud:
    """Little-endian float32 rows; for None the usual number of columns, refused where the values suggest another."""
    if columns not in (None, *NAMES):
        raise ConfigError(f"columns: {columns}, expected one of {', '.join(map(str, NAMES))}")
    count = columns or (NUSCENES if path.name.endswith(".pcd.bin") else USUAL)
    size = path.stat().st_size
    if size % (4 * count):
        matching = [str(number) for number in NAMES if size % (4 * number) == 0]
        hint = f"; the size matches {' or '.join(matching)} columns (--columns)" if matching else ""
        raise DataError(f"{path}: {size} bytes are not whole rows of {count} float32{hint}")
    likely = likely_columns(path, count)[0] if columns is None else count
    if likely != count:
        raise DataError(
            f"{path}: the size matches {count} and {likely} columns, and the values look like {likely}: "
            f"--columns {likely} reads them so, --columns {count} reads the usual columns"
        )
    values = np.fromfile(path, "<f4").reshape(-1, count).astype(np.float32, copy=False)
    return PointCloud(values, NAMES[count])


def likely_columns(path: Path, usual: int = USUAL) -> list[int]:
    """The numbers of columns that a file's size allows, the likeliest first: `usual` unless another clearly is."""
    size = path.stat().st_size
    matching = [number for number in dict.fromkeys((usual, *NAMES)) if size % (4 * number) == 0]
    values = np.fromfile(path, "<f4", PROBED)
    if not matching or len(values) < ENOUGH:
        return matching
    spreads = {number: mean_log_spread(values, number) + MORE * number for number in matching}
    spreads[matching[0]] -= CLEAR if matching[0] == usual else 0.0
    return sorted(spreads, key=spreads.__getitem__)


def mean_log_spread(values: np.ndarray, columns: int) -> float:
    """Mean over the columns of log(interquartile range + a millimetre): least where columns are not mixed."""
    table = values[: len(values) // columns * columns].reshape(-1, columns).astype(np.float64)
    finite = table[np.isfinite(table).all(1)]
    if not len(finite):
        return 0.0
    low, high = np.quantile(finite, (0.1, 0.9), axis=0)
    return float(np.log(high - low + NARROWEST).mean())
