"""What a reader of files is to the tests that damage files; `image_formats.py` and its neighbours list the readers."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple


class Format(NamedTuple):
    """A reader and a healthy file for it.

    Fields: `make` writes the file, and what belongs to it, into a folder; `read` reads all of it; `quick` and `many`
    are numbers of mutations in `make test` and in the slow suite; `noticed` is the least share of mutations that have
    to be refused: raw numbers are numbers after most changes.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], object]
    quick: int = 100
    many: int = 1000
    noticed: float = 0.05
