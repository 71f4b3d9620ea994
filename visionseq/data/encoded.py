"""Image data sets whose samples are encoded files: read by index, decoded and cropped when they are taken."""

import logging
from abc import abstractmethod
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from visionseq.data.batch import ImageBatch
from visionseq.data.decode import decode_image
from visionseq.data.images import ImageDataset, to_float
from visionseq.errors import ConfigError, DataError

_log = logging.getLogger(__name__)
_BLOCK = 1024  # files that are checked at a time


class EncodedImages(ImageDataset):
    """Base: a subclass gives the bytes of sample i of its files and a name for errors.

    Args:
        size: height and width after the centre crop.
        channels: 1 or 3.
        labels: int64 [files] or None.
        class_names: a name per class.
        skip_corrupt: decode every file once now, leave out those that fail, and report how many they were. Without it
            the first damaged file that is taken raises `DataError`.
        exif_orientation: turn an image as its EXIF tag says.
    """

    def __init__(
        self,
        size: int,
        channels: int,
        labels: Tensor | None,
        class_names: list[str],
        skip_corrupt: bool = False,
        exif_orientation: bool = True,
    ):
        if channels not in (1, 3) or size < 1:
            raise ConfigError(f"size {size}, channels {channels}: expected a positive size and 1 or 3 channels")
        self.size, self.channels, self.exif_orientation = size, channels, exif_orientation
        self.labels, self.class_names = labels, class_names
        self.skipped: list[str] = []
        self._kept: np.ndarray | None = None
        if skip_corrupt:
            self._leave_out_corrupt()

    @abstractmethod
    def file_count(self) -> int:
        """Number of files, corrupt ones included."""

    @abstractmethod
    def read(self, number: int) -> tuple[bytes, str]:
        """Bytes of file `number` and how to name it in errors."""

    def __len__(self) -> int:
        return self.file_count() if self._kept is None else len(self._kept)

    def __getitem__(self, index: int) -> Tensor:
        return to_float(self.pixels(index))

    def batch(self, indices: np.ndarray) -> ImageBatch:
        image = to_float(torch.stack([self.pixels(index) for index in indices.tolist()]))
        return self._labelled(image, torch.from_numpy(indices))

    def pixels(self, index: int) -> Tensor:
        """Image `index` as uint8 [C, S, S]."""
        return self._decode(index if self._kept is None else int(self._kept[index]))

    def corrupt(self) -> Iterator[tuple[int, str]]:
        """Decode every file; gives number and message of those that fail."""
        with ThreadPoolExecutor() as pool:
            for start in range(0, self.file_count(), _BLOCK):
                numbers = range(start, min(start + _BLOCK, self.file_count()))
                for number, message in zip(numbers, pool.map(self._complaint, numbers), strict=True):
                    if message is not None:
                        yield number, message

    def _decode(self, number: int) -> Tensor:
        data, where = self.read(number)
        return decode_image(data, where, self.size, self.channels, self.exif_orientation)

    def _complaint(self, number: int) -> str | None:
        try:
            self._decode(number)
        except DataError as error:
            return str(error)
        return None

    def _leave_out_corrupt(self) -> None:
        bad = dict(self.corrupt())
        self.skipped = list(bad.values())
        if not bad:
            return
        _log.warning("%d of %d files skipped, the first: %s", len(bad), self.file_count(), self.skipped[0])
        kept = np.setdiff1d(np.arange(self.file_count()), np.fromiter(bad, dtype=np.int64))
        if not len(kept):
            raise DataError(f"all {self.file_count()} files are corrupt, the first: {self.skipped[0]}")
        self._kept = kept
        self.labels = None if self.labels is None else self.labels[torch.from_numpy(kept)]
