"""The result of every reader of point files, and one name for a column whatever program wrote it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from visionseq.errors import DataError

POSITION = ("x", "y", "z")
Origin = tuple[float, float, float]

# What programs call a column, in small letters and without the scalar_ of CloudCompare; the first one there is taken.
OTHER_NAMES = {
    "x": ("x",),
    "y": ("y",),
    "z": ("z",),
    "intensity": ("intensity", "intensities", "i", "reflectance", "reflectivity", "remission", "remissions"),
    "ring": ("ring", "laser_id", "channel"),
}


@dataclass(frozen=True)
class PointCloud:
    """Points as a file holds them.

    Fields: `values` float32 [N, C], `columns` their C names with x, y, z first, `origin` the point in metres that was
    subtracted from the coordinates: not zero for coordinates of a map, which float32 cannot hold.
    """

    values: np.ndarray
    columns: tuple[str, ...]
    origin: Origin = (0.0, 0.0, 0.0)

    def select(self, names: tuple[str, ...], where: str) -> np.ndarray:
        """float32 [N, len(names)] of these columns; raises `DataError` naming the file `where` for a missing one."""
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise DataError(f"{where}: no column {', '.join(missing)}, found {', '.join(self.columns)}")
        return np.ascontiguousarray(self.values[:, [self.columns.index(name) for name in names]])


def cloud_of(named: Mapping[str, np.ndarray], where: str) -> PointCloud:
    """A cloud of columns [N] each, under their usual names; raises `DataError` where x, y or z is missing."""
    columns = usual_names(list(named))
    arrays = dict(zip(columns, named.values(), strict=True))
    _check_position(columns, where)
    columns = [*POSITION, *(name for name in columns if name not in POSITION)]
    values = np.empty((len(arrays["x"]), len(columns)), np.float32)
    with np.errstate(
        over="ignore", invalid="ignore"
    ):  # values that float32 cannot hold become infinite, which callers count
        for index, name in enumerate(columns):
            values[:, index] = arrays[name]
    return PointCloud(values, tuple(columns))


def cloud_of_values(values: np.ndarray, columns: Sequence[str], where: str, origin: Origin = (0, 0, 0)) -> PointCloud:
    """A cloud of float32 [N, C], whose columns begin with x, y, z."""
    _check_position(columns, where)
    return PointCloud(values, tuple(usual_names(columns)), origin)


def usual_names(columns: Sequence[str]) -> list[str]:
    """The columns with x, y, z, intensity and ring under these names: scalar_Intensity is intensity."""
    names = list(columns)
    plain = [name.lower().removeprefix("scalar_") for name in names]
    for usual, others in OTHER_NAMES.items():
        candidates = [plain.index(other) for other in others if other in plain]
        if candidates and usual not in names:
            names[candidates[0]] = usual
    return names


def _check_position(columns: Sequence[str], where: str) -> None:
    missing = [name for name in POSITION if name not in columns]
    if missing:
        raise DataError(f"{where}: no column {', '.join(missing)}, found {', '.join(columns) or 'none'}")
