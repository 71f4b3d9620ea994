"""Which files below a folder are images, and which are not.

Links are followed, also those to folders; a link that leads back to a folder above it is left out, so a walk ends.
"""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from visionseq.data.decode import EXTENSIONS

_HIDDEN = "."


@dataclass
class ImageListing:
    """Paths relative to the folder, sorted.

    Attributes:
        images: files with the extension of an image that can be read.
        left_out: other files, broken links and links that lead back; hidden files and folders are not among them.
    """

    images: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)


def list_images(root: str | os.PathLike) -> ImageListing:
    """The images below `root`."""
    listing = ImageListing()
    for name, readable in _walk(os.fspath(root), "", (os.path.realpath(root),)):
        is_image = readable and name.lower().endswith(EXTENSIONS)
        (listing.images if is_image else listing.left_out).append(name)
    listing.images.sort()
    listing.left_out.sort()
    return listing


def describe_left_out(names: list[str]) -> str:
    """ "7 files: 4 .gif, 2 .bmp, 1 .txt; the first is a/x.gif"."""
    kinds = Counter(Path(name).suffix.lower() or "without extension" for name in names)
    counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(6))
    noun = "file" if len(names) == 1 else "files"
    return f"{len(names)} {noun}: {counts}; the first is {names[0]}"


def _walk(folder: str, prefix: str, above: tuple[str, ...]) -> Iterator[tuple[str, bool]]:
    """Relative path, and whether it is a regular file, of every entry that is neither hidden nor a folder."""
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_HIDDEN):
                continue
            name = prefix + entry.name
            if not entry.is_dir():
                yield name, entry.is_file()
            elif (real := os.path.realpath(entry.path)) in above:
                yield name, False
            else:
                yield from _walk(entry.path, name + os.sep, (*above, real))
