"""PCD files of the Point Cloud Library, version 0.7: ascii, binary, and binary_compressed.

The header is believed only as far as the file can back it. Compressed data are LZF, and one column after the other once
unpacked.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionseq.data.point_files.cloud import PointCloud, cloud_of
from visionseq.errors import DataError

MAX_HEADER = 1 << 14  # bytes
MAX_UNPACKED = 1 << 29  # bytes of compressed data once unpacked
LONGEST_REFERENCE = 264  # bytes that three bytes of LZF can stand for
_KINDS = {"F": "f", "I": "i", "U": "u"}
_SIZES = {"F": (4, 8), "I": (1, 2, 4, 8), "U": (1, 2, 4, 8)}


@dataclass(frozen=True)
class _Header:
    dtype: np.dtype
    points: int
    data: str
    offset: int


def read_pcd(path: Path) -> PointCloud:
    """All columns of one value, for instance x, y, z, intensity, ring; names as in the file."""
    content = path.read_bytes()
    header = _header(content, path)
    if header.data == "ascii":
        rows = _ascii(content, header, path)
    elif header.data == "binary":
        rows = _rows(content[header.offset :], header, path)
    else:
        rows = _compressed(content, header, path)
    single = [name for name in header.dtype.names if header.dtype[name].shape == () and not name.startswith("_")]
    return cloud_of({name: rows[name] for name in single}, str(path))


def _header(content: bytes, path: Path) -> _Header:
    entries: dict[str, list[str]] = {}
    offset = 0
    while "DATA" not in entries:
        end = content.find(b"\n", offset, MAX_HEADER)
        if end < 0:
            raise DataError(f"{path}, offset {offset}: the header has no DATA line, expected a PCD file")
        line = content[offset:end].decode("ascii", "replace").strip()
        offset = end + 1
        if line and not line.startswith("#"):
            name, *values = line.split()
            entries[name] = values
    names = entries.get("FIELDS", [])
    count = len(names)
    sizes, kinds = entries.get("SIZE", []), entries.get("TYPE", [])
    counts = entries.get("COUNT", ["1"] * count)
    if not names or not len(sizes) == len(kinds) == len(counts) == count:
        raise DataError(f"{path}: {count} FIELDS, {len(sizes)} SIZE, {len(kinds)} TYPE, {len(counts)} COUNT")
    fields = [_field(*column, path) for column in zip(range(count), names, sizes, kinds, counts, strict=True)]
    if len({name for name, *_ in fields}) < count:
        raise DataError(f"{path}: FIELDS {' '.join(names)}, expected different names")
    data = (entries["DATA"] or ["nothing"])[0]
    if data not in ("ascii", "binary", "binary_compressed"):
        raise DataError(f"{path}: DATA {data}, expected ascii, binary or binary_compressed")
    points = _number(entries.get("POINTS", ["none"])[0], "POINTS", path)
    return _Header(np.dtype(fields), points, data, offset)


def _field(index: int, name: str, size: str, kind: str, count: str, path: Path) -> tuple:
    """(name, type[, shape]) for numpy; padding, which is called _, gets a name of its own."""
    if kind not in _KINDS or _number(size, "SIZE", path) not in _SIZES[kind]:
        raise DataError(f"{path}: field {name} of TYPE {kind} and SIZE {size}, expected F 4 or 8, I or U 1, 2, 4 or 8")
    repeated = _number(count, "COUNT", path)
    if not 1 <= repeated <= 4096:
        raise DataError(f"{path}: field {name} has COUNT {count}, expected 1 to 4096")
    unique = f"_{index}" if name == "_" else name
    scalar = f"<{_KINDS[kind]}{size}"
    return (unique, scalar) if repeated == 1 else (unique, scalar, (repeated,))


def _number(text: str, what: str, path: Path) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise DataError(f"{path}: {what} {text!r}, expected a whole number")
    return int(text)


def _ascii(content: bytes, header: _Header, path: Path) -> np.ndarray:
    width = sum(int(np.prod(header.dtype[name].shape, dtype=int)) for name in header.dtype.names)
    if header.points * width * 2 > len(content) - header.offset + 1:
        raise _too_short(path, header, len(content) - header.offset)
    text = content[header.offset :].split()
    if len(text) < header.points * width:
        raise DataError(f"{path}: {len(text)} values, expected {header.points} points of {width}")
    try:
        values = np.array(text[: header.points * width], "S").astype(np.float64).reshape(header.points, width)
    except ValueError as error:
        raise DataError(f"{path}: {error}, expected numbers") from error
    rows = np.empty(header.points, [(name, "f8", header.dtype[name].shape) for name in header.dtype.names])
    start = 0
    for name in header.dtype.names:
        number = int(np.prod(header.dtype[name].shape, dtype=int))
        rows[name] = values[:, start : start + number].reshape(rows[name].shape)
        start += number
    return rows


def _rows(data: bytes, header: _Header, path: Path) -> np.ndarray:
    if len(data) < header.points * header.dtype.itemsize:
        raise _too_short(path, header, len(data))
    return np.frombuffer(data, header.dtype, header.points)


def _compressed(content: bytes, header: _Header, path: Path) -> np.ndarray:
    packed, unpacked = np.frombuffer(content[header.offset : header.offset + 8].ljust(8, b"\0"), "<u4").tolist()
    data = np.frombuffer(content, np.uint8, offset=min(header.offset + 8, len(content)))
    needed = header.points * header.dtype.itemsize
    if packed > len(data) or unpacked != needed or unpacked > min(MAX_UNPACKED, packed * LONGEST_REFERENCE):
        raise DataError(
            f"{path}, offset {header.offset}: {packed} bytes for {unpacked}, the file has {len(data)} for {needed}"
        )
    from visionseq.data.point_files.lzf import unpack

    result = np.zeros(unpacked, np.uint8)
    if unpack(data[:packed], result) != unpacked:
        raise DataError(f"{path}, offset {header.offset + 8}: the compressed data are damaged")
    rows = np.empty(header.points, header.dtype)
    start = 0
    for name in header.dtype.names:
        size = header.dtype[name].itemsize * header.points
        rows[name] = np.frombuffer(result[start : start + size].tobytes(), header.dtype[name])
        start += size
    return rows


def _too_short(path: Path, header: _Header, found: int) -> DataError:
    size = header.dtype.itemsize
    return DataError(f"{path}, offset {header.offset}: {found} bytes, too few for {header.points} points of {size}")
