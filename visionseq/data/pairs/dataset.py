"""Reflow pairs as a data set, whatever their layout on disk, and the writers' common ground.

A folder of pairs may hold `pairs.json`: the preprocessing of the model that the pairs are for, and the recipe that made
them. The official layout lacks it; then sizes come from the first image.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from visionseq.data.batch import PairBatch
from visionseq.data.names import check_class_names, read_json
from visionseq.errors import ConfigError, DataError
from visionseq.files import write_json

_NOTES = "pairs.json"


class PairDataset(ABC):
    """Map-style pairs (image, noise, label).

    Attributes:
        labels: int64 [n] or None.
        class_names: a name per class, or an empty list.
        size, channels: of the images.
    """

    labels: Tensor | None = None
    class_names: list[str]
    size: int
    channels: int

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batch(self, indices: np.ndarray) -> PairBatch:
        """Pairs of int64 [n] `indices`; raises `DataError` naming the file that cannot be read."""

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Plain values that inference needs."""
        return {"kind": "image", "size": self.size, "channels": self.channels, "class_names": list(self.class_names)}


class PairWriter(ABC):
    """Base of the writers: which pairs exist, which are missing, and that none is written twice.

    Args:
        folder: where the pairs go; it is created.
        preprocessing: plain values kept with the pairs, such as `class_names`.
        recipe: plain values that determine the pairs (teacher, seed, steps). Continuing with another recipe
            raises `ConfigError`, so that a folder never mixes two.
    """

    def __init__(
        self,
        folder: str | Path,
        preprocessing: dict[str, Any] | None = None,
        recipe: dict[str, Any] | None = None,
    ):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        _keep_notes(self.folder, preprocessing, recipe)

    @abstractmethod
    def done(self) -> np.ndarray:
        """int64, the sorted indices of the pairs that are safely on the disk, written by any process."""

    def missing(self, total: int, chunk: int) -> list[range]:
        """The pairs 0 .. total - 1 that do not exist, in ranges of at most `chunk` that cross no multiple of it."""
        exists = np.zeros(total, dtype=bool)
        done = self.done()
        exists[done[done < total]] = True
        missing = np.flatnonzero(~exists)
        borders = np.flatnonzero((np.diff(missing) > 1) | (missing[1:] % chunk == 0)) + 1
        return [range(int(part[0]), int(part[-1]) + 1) for part in np.split(missing, borders) if len(part)]

    @abstractmethod
    def write(
        self,
        start: int,
        image: Tensor,
        label: Tensor | None = None,
        noise: Tensor | None = None,
        records: np.ndarray | None = None,
    ) -> None:
        """Write pairs start .. start + n - 1: all of them reach the disk, or none.

        `image` uint8 [n, C, H, W], `label` int64 [n], `noise` float32 [n, C, H, W] (for shards), `records` uint8
        [n, 32] (for the zip layout). Raises `ConfigError` where one of them exists already.
        """

    def close(self) -> None:
        """Finish what readers need; called by one process, after all have written. Writing may go on later."""
        for stale in self.folder.rglob(".*.part"):  # of processes that were killed
            stale.unlink()

    def __enter__(self) -> "PairWriter":
        return self

    def __exit__(self, *exception: object) -> None:
        if exception[0] is None:
            self.close()


def read_notes(folder: Path) -> dict[str, Any]:
    """The content of `pairs.json`, or an empty dictionary where the file is missing."""
    notes = read_json(folder / _NOTES, {})
    if not isinstance(notes, dict):
        raise DataError(f"{folder / _NOTES}: holds a {type(notes).__name__}, expected an object")
    return notes


def read_class_names(folder: Path) -> list[str]:
    """Class names from the notes."""
    preprocessing = read_notes(folder).get("preprocessing")
    names = preprocessing.get("class_names", []) if isinstance(preprocessing, dict) else []
    return check_class_names(names, str(folder / _NOTES))


def refuse_twice(start: int, stop: int, done: Iterable[tuple[int, int]]) -> None:
    """Raise `ConfigError` where one of the pairs start .. stop - 1 lies in a range that is done."""
    for first, end in done:
        if start < end and first < stop:
            raise ConfigError(f"pair {max(start, first)} is already written; ask `missing` which ones are not")


def _keep_notes(folder: Path, preprocessing: dict[str, Any] | None, recipe: dict[str, Any] | None) -> None:
    notes = read_notes(folder)
    before = notes.get("recipe")
    if before is not None and recipe is not None and before != json.loads(json.dumps(recipe)):
        raise ConfigError(f"{folder}: holds pairs of another recipe: {before}, this one is {recipe}")
    new = {"preprocessing": preprocessing or notes.get("preprocessing") or {}, "recipe": recipe or before or {}}
    if new != notes:
        write_json(folder / _NOTES, new)
