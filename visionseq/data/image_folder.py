"""A folder of PNG, JPEG or WebP files: one sub-folder per class, or all files as one set without labels."""

import logging
import os
from pathlib import Path

import numpy as np
import torch

from visionseq.data.decode import EXTENSIONS, MAX_BYTES
from visionseq.data.encoded import EncodedImages
from visionseq.data.image_listing import describe_left_out, list_images
from visionseq.errors import DataError

_log = logging.getLogger(__name__)
_READ = ", ".join(EXTENSIONS)


class ImageFolder(EncodedImages):
    """Images below a folder, in the order of their names, cropped as ADM does.

    Args:
        root: the folder. Links are followed. Files of other kinds are left out, counted and named once in a warning;
            hidden files are passed over.
        size: height and width after the centre crop.
        channels: 1 or 3.
        classes: whether the sub-folders of `root` are classes; images in `root` itself are then left out. None: they
            are where most images lie in sub-folders.
        skip_corrupt: decode every file once now and leave out those that fail.
        exif_orientation: turn an image as its EXIF tag says, as cameras mean it.

    Raises `DataError` where the folder is missing or holds no images, and when a damaged file is taken.
    """

    def __init__(
        self,
        root: str | Path,
        size: int,
        channels: int = 3,
        classes: bool | None = None,
        skip_corrupt: bool = False,
        exif_orientation: bool = True,
    ):
        # The images, and whether their folders are classes.
        self.root = Path(root)
        if not self.root.is_dir():
            raise DataError(f"{root}: not a folder")
        listing = list_images(self.root)
        names, left_out = listing.images, listing.left_out
        in_folders = [name for name in names if os.sep in name]
        if classes is None:
            classes = 2 * len(in_folders) > len(names)
        if classes:
            left_out = sorted([*left_out, *(name for name in names if os.sep not in name)])
            names = in_folders

        # Refuse a folder without images, and report files that are left out.
        if not names:
            raise DataError(_no_image(root, classes, left_out))
        if left_out:
            place = ", in class folders" if classes else ""
            _log.warning("%s: left out %s (read: %s%s)", root, describe_left_out(left_out), _READ, place)

        # Classes are numbered in the order of their names.
        self._names = np.array(names)  # one block of memory: a list of strings would be copied page by page in workers
        class_names: list[str] = []
        labels = None
        if classes:
            folders = [name.split(os.sep, 1)[0] for name in names]
            unique, numbers = np.unique(folders, return_inverse=True)
            class_names, labels = unique.tolist(), torch.from_numpy(numbers.astype(np.int64))
        super().__init__(size, channels, labels, class_names, skip_corrupt, exif_orientation)

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


def _no_image(root: str | Path, classes: bool, left_out: list[str]) -> str:
    other_files = f"; it holds {describe_left_out(left_out)}" if left_out else ""
    return f"{root}: no image ({_READ}) in {'its class folders' if classes else 'it'}{other_files}"
