"""Facts about a data set that are slow to collect, stored as one .npz file of plain arrays, complete or absent.

A layout says which arrays a file holds: name -> (group, kinds of dtype, shape of a row). All arrays of a group have the
same number of rows.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from visionseq.data.point_files.limits import FREE
from visionseq.errors import DataError
from visionseq.files import atomic_write
from visionseq.npz import Expected, read_npz
from visionseq.text_files import LONGEST_NAME


class Column(NamedTuple):
    """An array of a layout: its group, the kinds of its dtype ("f", "iu", "US" ...), the shape of a row (None: any)."""

    group: str
    kinds: str
    row: tuple[int | None, ...] = ()


WIDEST = 4 * LONGEST_NAME  # bytes of an element
Layout = Mapping[str, Column]


def write_infos(path: str | os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays as .npz, atomically."""
    with atomic_write(path) as file:
        np.savez(file, allow_pickle=False, **arrays)


def read_infos(path: str | os.PathLike, layout: Layout) -> dict[str, np.ndarray]:
    """The arrays of a layout; `DataError` names the file and the array that is missing, damaged or of another shape."""
    path = Path(path)
    most = max(FREE // max(len(layout), 1), path.stat().st_size if path.is_file() else 0)  # of each array
    expected = {name: Expected(1 + len(row), kinds, WIDEST, most) for name, (_, kinds, row) in layout.items()}
    arrays = read_npz(path, expected)
    rows: dict[str, int] = {}
    for name, (group, kinds, row) in layout.items():
        array = arrays[name]
        if any(length not in (None, size) for length, size in zip(row, array.shape[1:], strict=True)):
            raise DataError(f"{path}: {name} {array.dtype} {array.shape}, expected rows {row} of {kinds}")
        if len(array) != rows.setdefault(group, len(array)):
            raise DataError(f"{path}: {len(array)} rows of {name}, expected {rows[group]}")
    return arrays


def check_numbers(path: str | os.PathLike, name: str, numbers: np.ndarray, count: int, least: int = 0) -> None:
    """`DataError` where an array of row numbers has one outside of [least, count)."""
    if len(numbers) and (numbers.min() < least or numbers.max() >= count):
        raise DataError(f"{path}: {name} {numbers.min()} to {numbers.max()}, expected {least} to {count - 1}")
