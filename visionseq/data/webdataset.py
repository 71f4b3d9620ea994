"""WebDataset shards read by random access: an index of member offsets is built once and cached.

A sample is a run of members that share their name up to the first dot of the last path component
(`shard/000017.jpg`, `shard/000017.cls`): the convention of the webdataset library, whose own readers only stream.
"""

import glob
import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from visionseq.data.decode import EXTENSIONS, MAX_BYTES
from visionseq.data.encoded import EncodedImages
from visionseq.data.names import check_class_names, read_json
from visionseq.data.random_access import RandomAccess, file_size
from visionseq.data.tar_index import TarMember, tar_members
from visionseq.errors import DataError
from visionseq.files import atomic_write
from visionseq.places import writable_cache

CLASS_NAMES_FILE = "class_names.json"
_INDEX_VERSION = 1
_COLUMNS = ("offset", "size", "label")
_NO_LABEL = -1
_MAX_LABEL_BYTES = 1 << 16


class WebDatasetImages(EncodedImages):
    """Images in WebDataset shards, in the order of the shards and of their members.

    Args:
        shards: a tar file, a folder of tar files, a pattern with `*`, or a list of these.
        size: height and width after the centre crop.
        channels: 1 or 3.
        label_key: extension of the member that holds the class: `cls` (a number) or `json` (its field `label`).
        class_names: a name per class; None: those of class_names.json beside the first shard, where it exists.
        index_dir: where the indices are kept; None: the cache of visionseq.
        skip_corrupt: decode every image once now and leave out those that fail.

    Raises `DataError` where a shard is missing or damaged, naming it and the offset.
    """

    def __init__(
        self,
        shards: str | Path | list[str | Path],
        size: int,
        channels: int = 3,
        label_key: str = "cls",
        class_names: list[str] | None = None,
        index_dir: str | Path | None = None,
        skip_corrupt: bool = False,
    ):
        # Where each image lies: the indices of all shards, one after the other.
        self.shards = _shard_paths(shards)
        folder = Path(index_dir) if index_dir is not None else writable_cache("webdataset")
        indices = [_cached_index(path, label_key, folder) for path in self.shards]
        self._shard = np.repeat(np.arange(len(indices)), [len(index["offset"]) for index in indices])
        self._offset, self._size, classes = (np.concatenate([index[name] for index in indices]) for name in _COLUMNS)
        self._files = RandomAccess()

        # Classes: either every image has one, or none.
        labelled = classes != _NO_LABEL
        if labelled.any() and not labelled.all():
            path, offset = self.shards[self._shard[labelled.argmin()]], self._offset[labelled.argmin()]
            raise DataError(f"{path}, offset {offset}: an image without .{label_key}, which other images have")
        labels = torch.from_numpy(classes) if labelled.any() else None
        if class_names is None:
            names_file = self.shards[0].parent / CLASS_NAMES_FILE
            class_names = check_class_names(read_json(names_file, []), str(names_file))
        super().__init__(size, channels, labels, class_names, skip_corrupt)

    def file_count(self) -> int:
        return len(self._offset)

    def read(self, number: int) -> tuple[bytes, str]:
        path, offset, size = self.shards[self._shard[number]], int(self._offset[number]), int(self._size[number])
        return self._files.read(path, offset, size), f"{path}, offset {offset}"


def _shard_paths(shards: str | Path | list[str | Path]) -> list[Path]:
    paths: list[Path] = []
    for shard in shards if isinstance(shards, list) else [shards]:
        path = Path(shard)
        if path.is_dir():
            matches = sorted(path.glob("*.tar"))
        elif glob.has_magic(str(shard)) and not path.exists():
            matches = sorted(map(Path, glob.glob(str(shard))))
        else:
            matches = [path]
        if not matches:
            raise DataError(f"{shard}: no .tar shards")
        paths += matches
    return paths


def _cached_index(path: Path, label_key: str, folder: Path) -> dict[str, np.ndarray]:
    """The index of a shard, from the cache where it was made of the file in its present state."""
    size = file_size(path)  # raises its error where the file is missing
    identity = [_INDEX_VERSION, str(path.resolve()), size, path.stat().st_mtime_ns, label_key]
    cached = folder / f"{path.stem}-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:24]}.safetensors"
    try:
        index = load_file(cached)
        if set(index) == set(_COLUMNS):
            return index
    except (OSError, SafetensorError):  # missing or damaged
        pass
    index = build_index(path, label_key)
    try:
        with atomic_write(cached) as file:
            file.write(save(index))
    except OSError:  # a cache that cannot be written costs time, nothing else
        pass
    return index


def build_index(path: Path, label_key: str = "cls") -> dict[str, np.ndarray]:
    """int64 arrays `offset`, `size` and `label` (-1 without one) of the images of a shard."""
    rows: list[tuple[int, int, int]] = []
    key, image, label = None, None, _NO_LABEL
    files = RandomAccess()
    for member in tar_members(path):
        # A member of another stem begins a new sample.
        stem, _, extension = _split(member.name)
        if stem != key:
            rows += [(image.offset, image.size, label)] if image else []
            key, image, label = stem, None, _NO_LABEL
        if f".{extension.lower()}" in EXTENSIONS:
            if image is not None or member.size > MAX_BYTES:
                raise DataError(f"{path}, offset {member.offset}: {member.name!r}: a second image, or a huge one")
            image = member
        elif extension == label_key:
            label = _label(files, path, member)
    rows += [(image.offset, image.size, label)] if image else []
    if not rows:
        raise DataError(f"{path}: no images ({', '.join(EXTENSIONS)}) in this archive")
    columns = np.array(rows, dtype=np.int64).T.copy()
    return dict(zip(_COLUMNS, columns, strict=True))


def _split(name: str) -> tuple[str, str, str]:
    """`a/b.c/d.seg.png` -> (`a/b.c/d`, `.`, `seg.png`)."""
    folder, _, last = name.rpartition("/")
    stem, dot, extension = last.partition(".")
    return f"{folder}/{stem}", dot, extension


def _label(files: RandomAccess, path: Path, member: TarMember) -> int:
    where = f"{path}, offset {member.offset}"
    if member.size > _MAX_LABEL_BYTES:
        raise DataError(f"{where}: {member.name!r} has {member.size} bytes, expected a class")
    data = files.read(path, member.offset, member.size)
    try:
        value = json.loads(data)["label"] if member.name.endswith(".json") else data.decode().strip()
        if isinstance(value, bool) or not 0 <= (label := int(value)) < 1 << 31:
            raise ValueError(f"{value!r} is not a class")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise DataError(f"{where}: {member.name!r} holds {data[:40]!r}, expected a class: {error}") from error
    return label
