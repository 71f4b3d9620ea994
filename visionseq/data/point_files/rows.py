"""Rows of numbers in the text part of PCD and PLY files: one line is one row."""

import io
from array import array
from pathlib import Path

import numpy as np

from visionseq.errors import DataError
from visionseq.text_files import parse_number

LONGEST_LINE = 1 << 20  # bytes


def read_rows(content: bytes, offset: int, rows: int, width: int, path: Path) -> tuple[np.ndarray, str]:
    """float64 [rows, width] of the lines from `offset` on, and the first line after them that is not empty.

    Empty lines are skipped. Raises `DataError` with the number of the line that has more or fewer values, or something
    else than numbers. Eight bytes of memory for each value, of which the file has at least two.
    """
    if rows * width * 2 > len(content) - offset + 1:
        raise DataError(f"{path}, offset {offset}: {len(content) - offset} bytes, too few for {rows} rows of {width}")

    # One line after the other, its values behind those of the lines before.
    number, values = content.count(b"\n", 0, offset), array("d")
    lines = io.BytesIO(content)
    lines.seek(offset)
    while line := lines.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise DataError(f"{path}, line {number}: {LONGEST_LINE} bytes or more, expected a row of {width} numbers")
        words = line.split()
        if not words:
            continue
        if len(values) == rows * width:
            return np.asarray(values).reshape(rows, width), f"line {number}: {_shown(line)}"
        if len(words) != width:
            raise DataError(f"{path}, line {number}: {len(words)} values, expected {width}: {_shown(line)}")
        try:
            values.extend(map(parse_number, words))
        except ValueError:
            raise DataError(f"{path}, line {number}: {_shown(line)}, expected {width} numbers") from None
    if len(values) < rows * width:
        raise DataError(f"{path}: {len(values) // max(width, 1)} rows, expected {rows}")
    return np.asarray(values).reshape(rows, width), ""


def _shown(line: bytes) -> str:
    return repr(line[:80].decode("ascii", "replace").strip())
