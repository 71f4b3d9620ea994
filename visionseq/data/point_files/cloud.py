"""What every reader of point files returns."""

from dataclasses import dataclass

import numpy as np

from visionseq.errors import DataError

POSITION = ("x", "y", "z")


@dataclass(frozen=True)
class PointCloud:
    """Points as a file holds them.

    Fields: `values` float32 [N, C], `columns` their C names with x, y, z first, `origin` what was subtracted from the
    coordinates, metres: not zero where they are those of a map, which float32 cannot hold.
    """

    values: np.ndarray
    columns: tuple[str, ...]
    origin: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def select(self, names: tuple[str, ...], where: str) -> np.ndarray:
        """float32 [N, len(names)] of these columns; raises `DataError` naming the file `where` for a missing one."""
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise DataError(f"{where}: no column {', '.join(missing)}, found {', '.join(self.columns)}")
        return np.ascontiguousarray(self.values[:, [self.columns.index(name) for name in names]])


def cloud_of(
    named: dict[str, np.ndarray], where: str, origin: tuple[float, float, float] = (0.0, 0.0, 0.0)
) -> PointCloud:
    """A cloud of columns [N] each; raises `DataError` where x, y or z is not among them."""
    missing = [name for name in POSITION if name not in named]
    if missing:
        raise DataError(f"{where}: no column {', '.join(missing)}, found {', '.join(named) or 'none'}")
    columns = (*POSITION, *(name for name in named if name not in POSITION))
    with np.errstate(over="ignore", invalid="ignore"):  # what float32 cannot hold becomes infinite, which callers count
        values = np.stack([np.asarray(named[name]).astype(np.float32) for name in columns], 1)
    return PointCloud(values, columns, origin)
