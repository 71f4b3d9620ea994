"""Small text and JSON files of data sets, with errors that name the file and the line."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from visionseq.errors import DataError

LARGEST = float(np.finfo(np.float32).max)


def read_text(path: Path) -> str:
    """The file's text; `DataError` where it cannot be read or is no text."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as text: {reason(error)}") from error


def reason(error: Exception) -> str:
    """What an error says, without the name of the file, with which our messages begin."""
    return getattr(error, "strerror", None) or str(error)


def rows_of(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number (from 1) and words of each line that is not empty."""
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if words := line.split():
            yield number, words


def numbers_of(path: Path, line: int, words: list[str]) -> list[float]:
    """Words as numbers that float32 can hold."""
    try:
        values = [float(word) for word in words]
    except ValueError:
        raise DataError(f"{path}, line {line}: {' '.join(words)[:80]!r}, expected numbers") from None
    if not fits_float32(values):
        raise DataError(f"{path}, line {line}: {' '.join(words)[:80]!r}, expected finite numbers")
    return values


def fits_float32(values: ArrayLike) -> bool:
    """Whether all values are finite, in float32 too."""
    with np.errstate(invalid="ignore"):
        return bool((np.abs(np.asarray(values, np.float64)) <= LARGEST).all())


def read_json(path: Path, kind: type = list) -> Any:
    """The value of a JSON file, of a kind (list or dict)."""
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: no JSON: {error}") from error
    if not isinstance(value, kind):
        raise DataError(f"{path}: holds a {type(value).__name__}, expected a {kind.__name__}")
    return value


def read_bin_rows(path: Path, columns: int) -> np.ndarray:
    """float32 [N, columns] of little-endian rows."""
    try:
        size = path.stat().st_size
        if size % (4 * columns):
            raise DataError(f"{path}: {size} bytes are no whole rows of {columns} float32")
        return np.fromfile(path, "<f4").reshape(-1, columns).astype(np.float32, copy=False)
    except OSError as error:
        raise DataError(f"{path}: not readable: {reason(error)}") from error
