"""Bounds of the numbers in a configuration: far above any published detector, far below what would hang a machine.

A detector's values come from files, so every number that becomes a loop or a size is checked before it does.
"""

import math
import reprlib
from collections.abc import Sequence
from typing import Any

from visionseq.errors import ConfigError

MOST_LAYERS = 64  # one after the other
MOST_CHANNELS = 1 << 14
MOST_CELLS = 1 << 16  # along one axis of a grid
MOST_VOXELS = 1 << 40  # of a grid; samples times voxels stay far below the limit of int64
MOST_PLACES = 1 << 20  # of a group, and of boxes in a frame
MOST_CLASSES = 1000


def count(where: str, value: Any, most: int, least: int = 1) -> int:
    """The value, a whole number from `least` to `most`; `ConfigError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise ConfigError(f"{where}: {_short(value)}, expected a whole number from {least} to {most:,}")
    return value


def counts(where: str, values: Any, most: int, least: int = 1, length: int | None = None) -> list[int]:
    """The values, whole numbers from `least` to `most`; `length` of them, or up to `MOST_LAYERS`."""
    if not isinstance(values, list | tuple) or len(values) > MOST_LAYERS or len(values) != (length or len(values)):
        expected = f"{length} whole numbers" if length else f"a list of at most {MOST_LAYERS} whole numbers"
        raise ConfigError(f"{where}: {_short(values)}, expected {expected}")
    return [count(where, value, most, least) for value in values]


def grid_of(point_cloud_range: Any, voxel_size: Any) -> tuple[int, int, int]:
    """Cells along x, y, z; `ConfigError` for a range or a size that makes no grid, or far too many cells."""
    bounds, sizes = _numbers("point_cloud_range", point_cloud_range, 6), _numbers("voxel_size", voxel_size, 3)
    if any(low >= high for low, high in zip(bounds[:3], bounds[3:], strict=True)) or min(sizes) <= 0:
        raise ConfigError(f"point_cloud_range {bounds}, voxel_size {sizes}: expected minima < maxima and sizes > 0")
    spans = [(high - low) / size for low, high, size in zip(bounds[:3], bounds[3:], sizes, strict=True)]
    if max(spans) > MOST_CELLS or math.prod(spans) > MOST_VOXELS:
        cells = " x ".join(f"{span:.4g}" for span in spans)
        raise ConfigError(f"voxel_size {sizes} in point_cloud_range {bounds}: {cells} voxels, too many for a detector")
    x, y, z = (max(round(span), 1) for span in spans)
    return x, y, z


def check_names(where: str, names: Sequence[str]) -> list[str]:
    """The names of classes, each once; `ConfigError` for none, too many, or values that are not names."""
    is_list = isinstance(names, list | tuple) and 0 < len(names) <= MOST_CLASSES
    if not is_list or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise ConfigError(f"{where}: {_short(names)}, expected 1 to {MOST_CLASSES} names, each once")
    return list(names)


def _numbers(where: str, values: Any, length: int) -> list[float]:
    is_list = isinstance(values, list | tuple) and len(values) == length
    if not is_list or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        raise ConfigError(f"{where}: {_short(values)}, expected {length} finite numbers")
    return [float(value) for value in values]


def _short(value: Any) -> str:
    """The value for a message, however long it is."""
    return reprlib.repr(value)
