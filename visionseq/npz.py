"""Arrays from `.npz` files of unknown origin: no pickle, and no allocation before the header is checked.

An npz is a zip of `.npy` members. Each member's header is read first; its dtype, its number of axes and its size must
be those that the caller expects, and those of the data in the archive.
"""

import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import IO

import numpy as np

from visionseq.errors import DataError

_HEADER_BYTES = 10_000
_DEFLATE_RATIO = 1_040  # deflate cannot shrink further than about 1 : 1032


@dataclass(frozen=True)
class Expected:
    """Requirements on a member.

    Args:
        axes: number of axes.
        kinds: numpy kind characters: "f" floating, "u" unsigned, "i" signed.
        itemsize: largest size of an element in bytes.
        max_bytes: largest size of the array.
        required: whether the archive must hold it.
    """

    axes: int
    kinds: str
    itemsize: int = 8
    max_bytes: int = 1 << 34
    required: bool = True


def read_npz(path: str | os.PathLike, expected: Mapping[str, Expected]) -> dict[str, np.ndarray]:
    """The expected members of an npz; other members are not read.

    Raises:
        DataError: no such file, a damaged archive, a member that is missing or differs from the expected one.
    """
    path = Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                name: _read(archive, path, name, kind)
                for name, kind in expected.items()
                if _has(archive, name, kind, path)
            }
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except DataError:
        raise
    except Exception as error:  # a damaged archive can make the readers of zip and npy raise anything
        raise DataError(f"{path} is no intact npz file: {str(error) or type(error).__name__}") from error


def names_in(path: str | os.PathLike) -> set[str]:
    """Names of the arrays in an npz; `DataError` where the file is no npz."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy") for name in archive.namelist()}
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except Exception as error:  # as above
        raise DataError(f"{path} is no intact npz file: {str(error) or type(error).__name__}") from error


def _has(archive: zipfile.ZipFile, name: str, kind: Expected, path: Path) -> bool:
    members = archive.namelist()
    if f"{name}.npy" not in members and kind.required:
        names = ", ".join(sorted(member.removesuffix(".npy") for member in members)[:8]) or "nothing"
        raise DataError(f"{path}: no array {name!r}; it holds {names:.200}")
    return f"{name}.npy" in members


def _read(archive: zipfile.ZipFile, path: Path, name: str, kind: Expected) -> np.ndarray:
    # The directory of the archive.
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise DataError(f"{path}, array {name!r}: compression {info.compress_type}, expected none or deflate")
    if info.compress_size > path.stat().st_size or info.file_size > info.compress_size * _DEFLATE_RATIO:
        raise DataError(f"{path}, array {name!r}: {info.file_size} bytes are claimed, more than the file can hold")

    # The header, then the data.
    with archive.open(info) as member:
        shape, fortran, dtype = _header(member)
        size = prod(shape) * dtype.itemsize
        if len(shape) != kind.axes or dtype.kind not in kind.kinds or dtype.itemsize > kind.itemsize:
            raise DataError(
                f"{path}, array {name!r}: {dtype} {list(shape)}, expected {kind.axes} axes of kind {kind.kinds}"
            )
        if size > kind.max_bytes or size + member.tell() != info.file_size:
            held = info.file_size - member.tell()
            raise DataError(f"{path}, array {name!r}: {dtype} {list(shape)} has {size} bytes, the archive holds {held}")
        data = member.read()  # the checksum is compared at the end
    if len(data) != size:
        raise DataError(f"{path}, array {name!r}: {len(data)} bytes, expected {size}")
    array = np.frombuffer(data, dtype).reshape(shape[::-1] if fortran else shape)
    return array.T if fortran else array


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"npy version {version}, expected 1.0 or 2.0")
    shape, fortran, dtype = readers[version](member, max_header_size=_HEADER_BYTES)
    if any(length < 0 for length in shape) or dtype.hasobject:
        raise ValueError(f"npy header with shape {shape} and dtype {dtype}")
    return shape, fortran, dtype
