"""A folder of PNG, JPEG or WebP files: one sub-folder per class, or all files as one set without labels."""

import os
from pathlib import Path

import numpy as np
import torch

from visionseq.data.decode import EXTENSIONS, MAX_BYTES
from visionseq.data.encoded import EncodedImages
from visionseq.errors import DataError


class ImageFolder(EncodedImages):
    """Images below a folder, in the order of their names, cropped as ADM does.

    Args:
        root: the folder. Hidden files and files of other kinds are passed over.
        size: height and width after the centre crop.
        channels: 1 or 3.
        classes: whether the sub-folders of `root` are classes; None: they are, unless images lie in `root` itself.
        skip_corrupt: decode every file once now and leave out those that fail.

    Raises `DataError` where the folder is missing or holds no images, and when a damaged file is taken.
    """

    def __init__(
        self,
        root: str | Path,
        size: int,
        channels: int = 3,
        classes: bool | None = None,
        skip_corrupt: bool = False,
    ):
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{root}: not a folder")
        names = sorted(_images_below(str(self.root)))
        if classes is None:
            classes = not any(os.sep not in name for name in names)
        elif classes:
            names = [name for name in names if os.sep in name]
        if not names:
            raise DataError(f"{root}: no image ({', '.join(EXTENSIONS)}) in {'its class folders' if classes else 'it'}")
        self._names = np.array(names)  # one block of memory: a list of strings would be copied page by page in workers
        class_names: list[str] = []
        labels = None
        if classes:
            folders = [name.split(os.sep, 1)[0] for name in names]
            unique, numbers = np.unique(folders, return_inverse=True)
            class_names, labels = unique.tolist(), torch.from_numpy(numbers.astype(np.int64))
        super().__init__(size, channels, labels, class_names, skip_corrupt)

    def file_count(self) -> int:
        return len(self._names)

    def read(self, number: int) -> tuple[bytes, str]:
        path = self.root / str(self._names[number])
        try:
            if path.stat().st_size > MAX_BYTES:
                raise DataError(f"{path}: {path.stat().st_size} bytes, expected an image of at most {MAX_BYTES}")
            return path.read_bytes(), str(path)
        except OSError as error:
            raise DataError(f"{path}: not readable: {error.strerror}") from error


def _images_below(root: str) -> list[str]:
    """Paths of the images below `root`, relative to it."""
    found = []
    for folder, folders, files in os.walk(root):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = os.path.relpath(folder, root)
        images = [name for name in files if name.lower().endswith(EXTENSIONS) and not name.startswith(".")]
        found += images if below == os.curdir else [os.path.join(below, name) for name in images]
    return found
