"""The idx format of MNIST and its kin: a big-endian header (two zero bytes, type, axes, their sizes), then the values.

Only bytes (type 0x08) are read. A header is believed only as far as the file can back it: sizes are checked before
anything is allocated, for gzip files against the largest ratio that deflate can reach.
"""

import gzip
import math
import os
import zlib
from pathlib import Path
from typing import IO

import numpy as np

from visionseq.errors import DataError

_UNSIGNED_BYTE = 0x08
_MAX_AXES = 4
_MAX_BYTES = 1 << 30  # FashionMNIST has 47 MB
_DEFLATE_RATIO = 1032


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """uint8 array of an idx file, or of its gzip form where the name ends in .gz.

    Raises `DataError` naming the file and the offset where it is not such a file, is damaged, or declares more than it
    holds.
    """
    path = Path(path)
    try:
        stored = path.stat().st_size
        if path.suffix != ".gz":
            with open(path, "rb") as file:
                return _read(file, path, stored)
        with gzip.open(path, "rb") as file:
            return _read(file, path, stored * _DEFLATE_RATIO)
    except (OSError, EOFError, zlib.error) as error:  # gzip.BadGzipFile is an OSError
        raise DataError(f"{path}: not readable as an idx file: {error}") from error


def _read(file: IO[bytes] | gzip.GzipFile, path: Path, most: int) -> np.ndarray:
    head = file.read(4)
    if len(head) < 4 or head[:2] != b"\0\0":
        raise DataError(f"{path}, offset 0: found {head!r}, expected an idx header (two zero bytes, type, axes)")
    kind, axes = head[2], head[3]
    if kind != _UNSIGNED_BYTE or not 1 <= axes <= _MAX_AXES:
        raise DataError(f"{path}, offset 2: type 0x{kind:02x} with {axes} axes, expected 0x08 with 1 to {_MAX_AXES}")
    sizes = file.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise DataError(f"{path}, offset 4: the header ends after {len(sizes)} bytes, expected {4 * axes}")
    shape = tuple(int.from_bytes(sizes[i : i + 4], "big") for i in range(0, len(sizes), 4))
    return _values(file, path, shape, min(most, _MAX_BYTES), 4 + len(sizes))


def _values(file: IO[bytes] | gzip.GzipFile, path: Path, shape: tuple[int, ...], most: int, offset: int) -> np.ndarray:
    count = math.prod(shape)
    if count > most:
        raise DataError(f"{path}, offset 4: declares shape {shape} = {count} bytes, the file can hold {most} at most")
    values = bytearray()
    while len(values) < count and (block := file.read(min(1 << 20, count - len(values)))):
        values += block
    if len(values) < count or file.read(1):
        amount = f"only {len(values)}" if len(values) < count else f"more than {count}"
        raise DataError(f"{path}, offset {offset}: {amount} values, expected {count} for shape {shape}")
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)
