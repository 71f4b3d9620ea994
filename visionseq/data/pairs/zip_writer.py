"""Writing the official zip layout so that a kill at any moment leaves whole archives and no name twice.

Appending to a zip overwrites its directory, so a call writes a part, a small zip of its own that appears complete or
not at all. `close` joins the parts with the archives that exist into new ones and puts them in place by renaming: first
the labels, then the images, last the records, because a reader lists the pairs by the names of the records.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from visionseq.data.decode import encode_png
from visionseq.data.pairs.dataset import PairWriter, refuse_twice
from visionseq.data.pairs.noise import RECORD_BYTES
from visionseq.data.pairs.zip_layout import LABELS_FILE, parse_labels, read_labels
from visionseq.data.zip_file import ZipArchive, ZipWriter
from visionseq.errors import ConfigError, DataError
from visionseq.files import atomic_write

_FOLDER_SIZE = 60_000  # of the official layout
_ARCHIVES = {".png": "samples.zip", ".bin": "z.zip"}
_PART = "part-{:09d}-{:09d}.zip"
_PATTERN = re.compile(r"part-(\d{9})-(\d{9})\.zip")


class PairZipWriter(PairWriter):
    """Writes one part per call; `close` joins the parts."""

    def done(self) -> np.ndarray:
        parts = [np.arange(start, stop) for start, stop, _ in self._parts()]
        return np.unique(np.concatenate([self._joined(), *parts]))

    def write(
        self,
        start: int,
        image: Tensor,
        label: Tensor | None = None,
        noise: Tensor | None = None,
        records: np.ndarray | None = None,
    ) -> None:
        if image.dtype != torch.uint8 or records is None or records.shape != (len(image), RECORD_BYTES):
            raise ConfigError(f"the zip layout needs uint8 images and a record of {RECORD_BYTES} bytes for each")
        stop = start + len(image)
        refuse_twice(start, stop, ((first, end) for first, end, _ in self._parts()))
        with atomic_write(self.folder / "parts" / _PART.format(start, stop)) as file:
            archive = ZipWriter(file)
            for index, pixels, record in zip(range(start, stop), image.cpu(), records, strict=True):
                archive.write(_name(index, ".png"), encode_png(pixels))
                archive.write(_name(index, ".bin"), bytes(record))
            if label is not None:
                labels = zip(range(start, stop), label.tolist(), strict=True)
                archive.write(LABELS_FILE, "".join(f"{_name(i, '.png')},{value}\n" for i, value in labels).encode())
            archive.close()

    def close(self) -> None:
        super().close()
        parts = [path for _, _, path in self._parts()]
        if parts:
            in_folders = bool(self.done()[-1] >= _FOLDER_SIZE)
            self._join_labels(parts, in_folders)
            for suffix in _ARCHIVES:
                self._join(suffix, parts, in_folders)
        for path in parts:
            path.unlink()
        if (self.folder / "parts").is_dir():
            (self.folder / "parts").rmdir()

    def _join(self, suffix: str, parts: list[Path], in_folders: bool) -> None:
        path = self.folder / _ARCHIVES[suffix]
        earlier = [path] if path.exists() else []
        with atomic_write(path) as file:
            out, written = ZipWriter(file), set()
            for index, data in _members([*earlier, *parts], suffix):
                if index not in written:  # else it was joined by a process that was killed before it removed the part
                    out.write(_name(index, suffix, in_folders), data)
                    written.add(index)
            out.close()

    def _join_labels(self, parts: list[Path], in_folders: bool) -> None:
        labels = dict(read_labels(self.folder) or {})
        for path in parts:
            archive = ZipArchive(path)
            for number in np.flatnonzero(archive.names == LABELS_FILE.encode()).tolist():
                labels |= parse_labels(archive.read(number), archive.where(number))
        by_index = {_index(name, self.folder / LABELS_FILE): label for name, label in labels.items()}
        if by_index:
            with atomic_write(self.folder / LABELS_FILE, "w") as file:
                file.writelines(f"{_name(i, '.png', in_folders)},{by_index[i]}\n" for i in sorted(by_index))

    def _joined(self) -> np.ndarray:
        """Pairs that are in both archives."""
        indices = []
        for suffix, name in _ARCHIVES.items():
            path = self.folder / name
            names = ZipArchive(path).names.tolist() if path.exists() else []
            indices.append({_index(member.decode(), path) for member in names if member.endswith(suffix.encode())})
        return np.fromiter(set.intersection(*indices), dtype=np.int64)

    def _parts(self) -> list[tuple[int, int, Path]]:
        matches = [(_PATTERN.fullmatch(path.name), path) for path in (self.folder / "parts").glob("part-*.zip")]
        return sorted((int(match[1]), int(match[2]), path) for match, path in matches if match)


def _members(archives: list[Path], suffix: str) -> Iterator[tuple[int, bytes]]:
    for path in archives:
        archive = ZipArchive(path)
        for number, name in enumerate(archive.names.tolist()):
            if name.endswith(suffix.encode()):
                yield _index(name.decode(), path), archive.read(number)


def _name(index: int, suffix: str, in_folders: bool = False) -> str:
    return f"{index // _FOLDER_SIZE}/{index:05d}{suffix}" if in_folders else f"{index:05d}{suffix}"


def _index(name: str, path: Path) -> int:
    stem = name.rpartition("/")[2].rpartition(".")[0]
    if not stem.isdecimal():
        raise DataError(f"{path}: {name!r}: expected the number of a pair as name, so that writing can go on")
    return int(stem)
