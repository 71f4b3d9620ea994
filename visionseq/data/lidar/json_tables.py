"""Large JSON tables, lists of flat objects, read row by row: only one row of a gigabyte is in memory."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from visionseq.errors import DataError
from visionseq.text_files import LONGEST_NAME, reason

CHUNK = 1 << 20  # characters read at a time
LONGEST_ROW = 1 << 22
_GAP = re.compile(r"[\s,]*")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table; its methods raise `DataError` naming file and row where a value is missing or another type.

    Fields: `path` of the table, `number` of the row from 0, `values` by name.
    """

    path: Path
    number: int
    values: dict[str, Any]

    def text(self, key: str) -> str:
        """A string of at most 255 characters."""
        value = self.values.get(key)
        if not isinstance(value, str) or len(value) > LONGEST_NAME:
            raise self.misfit(key, f"a text of at most {LONGEST_NAME} characters")
        return value

    def integer(self, key: str) -> int:
        """A whole number that int64 can hold."""
        value = self.values.get(key)
        if type(value) is not int or abs(value) >= 1 << 63:
            raise self.misfit(key, "a whole number")
        return value

    def numbers(self, key: str, count: int) -> list[float]:
        """A list of `count` finite numbers."""
        value = self.values.get(key)
        if not isinstance(value, list) or len(value) != count:
            raise self.misfit(key, f"{count} numbers")
        try:
            finite = bool(np.isfinite(np.array(value, np.float64)).all())
        except (TypeError, ValueError, OverflowError):
            finite = False
        if not finite:
            raise self.misfit(key, f"{count} finite numbers")
        return value

    def link(self, key: str, numbers: Mapping[str, int]) -> int:
        """The row number of another table that the token in this row stands for; `numbers` maps tokens to rows."""
        token = self.text(key)
        if token not in numbers:
            raise self.misfit(key, "the token of an existing row")
        return numbers[token]

    def misfit(self, key: str, expected: str) -> DataError:
        """The error for a value that is not as expected."""
        value = repr(str(self.values[key])[:80]) if key in self.values else "is missing"
        return DataError(f"{self.path}, row {self.number}: {key} {value}, expected {expected}")


def table_rows(path: Path) -> Iterator[Row]:
    """The rows of a table; `DataError` names the file and the row where it is damaged or ends early."""
    try:
        with open(path, encoding="utf-8-sig") as file:
            for number, values in enumerate(_objects(file, path)):
                yield Row(path, number, values)
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as JSON: {reason(error)}") from error


def _after_gap(text: str, place: int) -> int:
    gap = _GAP.match(text, place)
    return place if gap is None else gap.end()


def _objects(file: IO[str], path: Path) -> Iterator[dict[str, Any]]:
    # The table begins with a bracket.
    text, number = file.read(CHUNK), 0
    start = _after_gap(text, 0)
    if text[start : start + 1] != "[":
        raise DataError(f"{path}: begins with {text[:20]!r}, expected a list of rows")
    place = start + 1

    # Rows follow until the closing bracket.
    while True:
        place = _after_gap(text, place)
        if text[place : place + 1] == "]":
            return

        # Decode one row; where the text ends within it, read on and try again.
        try:
            row, place = _DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            more = file.read(CHUNK) if len(text) - place < LONGEST_ROW else ""
            if not more:
                raise DataError(f"{path}, row {number}: not JSON, or the file ends early: {error}") from None
            text, place = text[place:] + more, 0
            continue

        if not isinstance(row, dict):
            raise DataError(f"{path}, row {number}: a {type(row).__name__}, expected an object")
        yield row
        number += 1
