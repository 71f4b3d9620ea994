"""Text files as people have them: with or without a byte-order mark, with any ends of lines, tabs and trailing blanks.

Every reader of labels, lists, calibrations and JSON goes through `read_text`. Limits count the bytes of the file.
"""

import codecs
import io
import json
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from visionseq.errors import DataError

MAX_TEXT = 1 << 24  # bytes of a file of labels, names or calibrations
MAX_JSON = 1 << 28  # bytes; a parsed value takes up to thirty times as many
LONGEST_NAME = 255  # characters; numpy pads all names of an array to the longest
LARGEST = float(np.finfo(np.float32).max)

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


def read_text(path: str | os.PathLike, most: int = MAX_TEXT) -> str:
    r"""The text of a file without its byte-order mark, with \n at the ends of lines.

    UTF-8, or UTF-16 where the file begins with its mark. Raises `DataError` naming the file where it is missing, is
    not text, or has more than `most` bytes.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(most + 1)
        encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
        text = data.decode(encoding) if len(data) <= most else ""
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as text: {reason(error)}") from error
    if len(data) > most:
        raise DataError(f"{path}: more than {most} bytes, expected a smaller text file")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_rows(path: str | os.PathLike) -> Iterator[tuple[int, list[str]]]:
    """The number (from 1) and the words of each line that is not empty; blanks and tabs separate words."""
    for number, line in enumerate(io.StringIO(read_text(path)), 1):
        if words := line.split():
            yield number, words


def read_list(path: str | os.PathLike) -> list[str]:
    """The names of a file with one name a line."""
    return [name for line in io.StringIO(read_text(path)) if (name := line.strip())]


def read_json(path: str | os.PathLike, kind: type = list, most: int = MAX_JSON) -> Any:
    """The value of a JSON file; raises `DataError` where it is not JSON, or not of `kind` (list or dict)."""
    value = parse_json(read_text(path, most), str(path))
    if not isinstance(value, kind):
        raise DataError(f"{path}: holds a {type(value).__name__}, expected a {kind.__name__}")
    return value


def parse_json(text: str, where: str) -> Any:
    """The value of a JSON text; raises `DataError` beginning with `where` for other text."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: not a JSON text: {error}") from error


def numbers_of(path: str | os.PathLike, line: int, words: Sequence[str]) -> list[float]:
    """Words as numbers that float32 can hold; `DataError` names the line otherwise."""
    shown = " ".join(words)[:80]
    try:
        values = [parse_number(word) for word in words]
    except ValueError:
        raise DataError(f"{path}, line {line}: {shown!r}, expected numbers") from None
    if not fits_float32(values):
        raise DataError(f"{path}, line {line}: {shown!r}, expected finite numbers")
    return values


def parse_number(word: str | bytes) -> float:
    """A decimal number; `ValueError` also for the underscores that Python allows between digits."""
    has_underscore = b"_" in word if isinstance(word, bytes) else "_" in word
    if has_underscore:
        raise ValueError(f"{word!r} is not a number")
    return float(word)


def fits_float32(values: ArrayLike) -> bool:
    """Whether all values are finite, in float32 too."""
    with np.errstate(invalid="ignore"):
        return bool((np.abs(np.asarray(values, np.float64)) <= LARGEST).all())


def name_array(names: Sequence[str], where: str) -> np.ndarray:
    """Names as an array str [M].

    Raises `DataError` beginning with `where` for a name of more than 255 characters, and for control characters, which
    would act on the terminal that shows them.
    """
    for number, name in enumerate(names):
        if len(name) > LONGEST_NAME:
            raise DataError(f"{where}: name {number} has {len(name)} characters, expected at most {LONGEST_NAME}")
        if _CONTROL.search(name):
            raise DataError(f"{where}: name {name!r}, expected no control characters")
    return np.array(names, dtype=np.str_) if len(names) else np.zeros(0, "U1")


def reason(error: Exception) -> str:
    """The text of an error without the name of the file, with which our messages begin."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
