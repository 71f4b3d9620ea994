"""The official layout of reflow pairs: PNG images in samples.zip, 32-byte noise records in z.zip, labels in a csv.

The data set is in the order of the sorted names of z.zip; the image of a record has the same stem. Rows of
images_labels.csv are `name.png,label`. The same as folders (`samples/`, `z/`), or all in one zip, can be read too.
"""

import csv
import io
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from visionseq.data.batch import PairBatch
from visionseq.data.decode import decode_image, image_channels
from visionseq.data.images import to_float
from visionseq.data.pairs.dataset import PairDataset, read_class_names
from visionseq.data.pairs.noise import noise_from_record
from visionseq.data.zip_file import ZipArchive
from visionseq.errors import DataError

LABELS_FILE = "images_labels.csv"
_MAX_CSV = 1 << 30


class Archive(Protocol):
    """The methods of a zip or a folder that the layout needs."""

    names: np.ndarray

    def read(self, number: int) -> bytes: ...

    def where(self, number: int) -> str: ...


class _NamedPairs(PairDataset):
    """Pairs whose images and records have names in two archives."""

    def __init__(self, images: Archive, records: Archive, labels: dict[str, int] | None, folder: Path):
        self._images, self._records = images, records
        self._record_number = _sorted_numbers(records, b".bin")
        if not len(self._record_number):
            raise DataError(f"{folder}: no noise records (.bin)")
        self._image_number = _matching(images, records, self._record_number)
        self.class_names = read_class_names(folder)
        first = images.read(self._image_number[0])
        self.channels = image_channels(first, images.where(self._image_number[0]))
        self.size = self.pixels(0).shape[-1]
        self.labels = None if not labels else self._label_column(labels, folder)

    def __len__(self) -> int:
        return len(self._record_number)

    def pixels(self, index: int) -> Tensor:
        """Image `index` as uint8 [C, S, S]."""
        number = self._image_number[index]
        where = self._images.where(number)
        image = decode_image(self._images.read(number), where, None, self.channels)
        size = getattr(self, "size", image.shape[1])
        if image.shape[1:] != (size, size):
            raise DataError(f"{where}: {tuple(image.shape[1:])} pixels, expected ({size}, {size})")
        return image

    def noise(self, index: int) -> Tensor:
        """Noise `index`, float32 [C, S, S]."""
        number = self._record_number[index]
        record, where = self._records.read(number), self._records.where(number)
        return noise_from_record(record, (self.channels, self.size, self.size), where)

    def batch(self, indices: np.ndarray) -> PairBatch:
        image = to_float(torch.stack([self.pixels(index) for index in indices.tolist()]))
        noise = torch.stack([self.noise(index) for index in indices.tolist()])
        index = torch.from_numpy(indices)
        return PairBatch(image, noise, None if self.labels is None else self.labels[index], index)

    def name(self, index: int) -> str:
        """Name of the image of a pair in its archive."""
        return self._images.names[self._image_number[index]].decode()

    def _label_column(self, labels: dict[str, int], folder: Path) -> Tensor:
        column = torch.empty(len(self), dtype=torch.int64)
        for index in range(len(self)):
            name = self.name(index)
            label = labels.get(name, labels.get(name.rpartition("/")[2]))
            if label is None:
                raise DataError(f"{folder / LABELS_FILE}: no row for {name}")
            column[index] = label
        return column


class PairZip(_NamedPairs):
    """Pairs in the official zip layout.

    Args:
        path: folder with samples.zip, z.zip and possibly images_labels.csv, or one zip that holds all of it.

    Raises `DataError` naming the archive, the member and the offset of whatever is damaged or missing.
    """

    def __init__(self, path: str | Path):
        path = Path(path)
        if path.suffix == ".zip":
            archive = ZipArchive(path)
            rows = np.flatnonzero(archive.names == LABELS_FILE.encode())
            labels = parse_labels(archive.read(rows[0]), archive.where(rows[0])) if len(rows) else None
            super().__init__(archive, archive, labels, path.parent)
        else:
            super().__init__(ZipArchive(path / "samples.zip"), ZipArchive(path / "z.zip"), read_labels(path), path)


class PairFolder(_NamedPairs):
    """Pairs as plain files: `samples/*.png`, `z/*.bin`, possibly images_labels.csv.

    Args:
        path: the folder that holds these.

    Raises `DataError` naming the file that is damaged or missing.
    """

    def __init__(self, path: str | Path):
        path = Path(path)
        super().__init__(_Folder(path / "samples"), _Folder(path / "z"), read_labels(path), path)


class _Folder:
    """The files below a folder by number, like the members of an archive."""

    def __init__(self, path: Path):
        self.path = path
        if not path.is_dir():
            raise DataError(f"{path}: no such folder")
        names = sorted(file.relative_to(path).as_posix().encode() for file in path.rglob("*") if file.is_file())
        self.names = np.array(names, dtype=bytes)

    def read(self, number: int) -> bytes:
        try:
            return Path(self.where(number)).read_bytes()
        except OSError as error:
            raise DataError(f"{self.where(number)}: not readable: {error.strerror}") from error

    def where(self, number: int) -> str:
        return str(self.path / self.names[number].decode())


def read_labels(folder: Path) -> dict[str, int] | None:
    """Label by image name from images_labels.csv, or None where the file is missing."""
    path = folder / LABELS_FILE
    try:
        if path.stat().st_size > _MAX_CSV:
            raise DataError(f"{path}: more than {_MAX_CSV} bytes")
        return parse_labels(path.read_bytes(), str(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(f"{path}: not readable: {error.strerror}") from error


def parse_labels(data: bytes, where: str) -> dict[str, int]:
    """Label by image name from the csv; `where` names it in errors."""
    labels: dict[str, int] = {}
    try:
        for line, row in enumerate(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")), 1):
            if not row or (line == 1 and len(row) == 2 and not row[0].endswith(".png")):  # a heading
                continue
            if len(row) != 2 or not row[1].strip().isdecimal() or len(row[1]) > 9:
                raise DataError(f"{where}, line {line}: {','.join(row)[:60]!r}, expected name.png,label")
            labels[row[0]] = int(row[1])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where}: not a csv file of names and labels: {error}") from error
    return labels


def _sorted_numbers(archive: Archive, suffix: bytes) -> np.ndarray:
    """Members with `suffix`, in the order of their names."""
    chosen = np.flatnonzero(np.char.endswith(archive.names, suffix)) if len(archive.names) else np.empty(0, np.int64)
    return chosen[np.argsort(archive.names[chosen], kind="stable")]


def _matching(images: Archive, records: Archive, record_number: np.ndarray) -> np.ndarray:
    """For each record the member of `images` with the same stem."""
    numbers = _sorted_numbers(images, b".png")
    expected = np.array([name.removesuffix(b".bin") + b".png" for name in records.names[record_number].tolist()])
    if not len(numbers):
        raise DataError(f"{records.where(record_number[0])}: no image (.png) for any record")
    names = images.names[numbers]
    places = np.searchsorted(names, expected).clip(max=len(names) - 1)
    is_missing = names[places] != expected
    if is_missing.any():
        first = is_missing.argmax()
        raise DataError(f"{records.where(record_number[first])}: no image {expected[first].decode()}")
    return numbers[places]
