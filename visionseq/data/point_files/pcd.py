"""PCD files of the Point Cloud Library, version 0.7: ascii, binary, and binary_compressed.

Counts in the header are compared with the bytes of the file. Compressed data are LZF, and one column after the other
once unpacked.
"""

from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from visionseq.data.point_files.cloud import PointCloud, cloud_of
from visionseq.data.point_files.limits import check_unpacked
from visionseq.data.point_files.rows import read_rows
from visionseq.errors import DataError

MAX_HEADER = 1 << 14  # bytes
LONGEST_REFERENCE = 88  # bytes that a byte of LZF can stand for: 264 for three
_KINDS = {"F": "f", "I": "i", "U": "u"}
_SIZES = {"F": (4, 8), "I": (1, 2, 4, 8), "U": (1, 2, 4, 8)}


@dataclass(frozen=True)
class _Header:
    dtype: np.dtype
    points: int
    data: str
    offset: int

    @property
    def names(self) -> tuple[str, ...]:
        return self.dtype.names or ()


def read_pcd(path: Path) -> PointCloud:
    """All columns of one value, for instance x, y, z, intensity, ring."""
    content = path.read_bytes()
    header = _header(content, path)
    if header.data == "ascii":
        columns = _ascii(content, header, path)
    elif header.data == "binary":
        columns = _binary(content, header, path)
    else:
        columns = _compressed(content, header, path)
    single = [name for name in header.names if header.dtype[name].shape == () and not name.startswith("_")]
    return cloud_of({name: columns[name] for name in single}, str(path))


def _header(content: bytes, path: Path) -> _Header:
    entries, offset = _entries(content, path)
    names = entries.get("FIELDS", [])
    sizes, kinds = entries.get("SIZE", []), entries.get("TYPE", [])
    counts = entries.get("COUNT", ["1"] * len(names))
    if not names or not len(sizes) == len(kinds) == len(counts) == len(names):
        raise DataError(f"{path}: {len(names)} FIELDS, {len(sizes)} SIZE, {len(kinds)} TYPE, {len(counts)} COUNT")
    fields = [_field(*column, path) for column in zip(range(len(names)), names, sizes, kinds, counts, strict=True)]
    if len({name for name, *_ in fields}) < len(names):
        raise DataError(f"{path}: FIELDS {' '.join(names)}, expected different names")
    data = (entries["DATA"] or ["nothing"])[0]
    if data not in ("ascii", "binary", "binary_compressed"):
        raise DataError(f"{path}: DATA {data}, expected ascii, binary or binary_compressed")
    points = _number((entries.get("POINTS") or ["nothing"])[0], "POINTS", path)
    return _Header(np.dtype(fields), points, data, offset)


def _entries(content: bytes, path: Path) -> tuple[dict[str, list[str]], int]:
    """The words behind each name in the header, and where the data begin."""
    entries: dict[str, list[str]] = {}
    offset = 0
    while "DATA" not in entries:
        end = content.find(b"\n", offset, MAX_HEADER)
        if end < 0:
            raise DataError(f"{path}, offset {offset}: the header has no DATA line, expected a PCD file")
        line = content[offset:end].decode("utf-8-sig" if offset == 0 else "ascii", "replace").strip()
        offset = end + 1
        if line and not line.startswith("#"):
            name, *values = line.split()
            entries[name] = values
    return entries, offset


def _field(index: int, name: str, size: str, kind: str, count: str, path: Path) -> tuple:
    """(name, type[, shape]) for numpy; each padding, which is called _, gets another name."""
    if kind not in _KINDS or _number(size, "SIZE", path) not in _SIZES[kind]:
        raise DataError(f"{path}: field {name} of TYPE {kind} and SIZE {size}, expected F 4 or 8, I or U 1, 2, 4 or 8")
    repeated = _number(count, "COUNT", path)
    if not 1 <= repeated <= 4096:
        raise DataError(f"{path}: field {name} has COUNT {count}, expected 1 to 4096")
    unique = f"_{index}" if name == "_" else name
    scalar = f"<{_KINDS[kind]}{size}"
    return (unique, scalar) if repeated == 1 else (unique, scalar, (repeated,))


def _number(text: str, entry: str, path: Path) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 12):
        raise DataError(f"{path}: {entry} {text!r}, expected a whole number")
    return int(text)


def _ascii(content: bytes, header: _Header, path: Path) -> dict[str, np.ndarray]:
    widths = [prod(header.dtype[name].shape) for name in header.names]
    table, rest = read_rows(content, header.offset, header.points, sum(widths), path)
    if rest:
        raise DataError(f"{path}, {rest}: a row beyond the {header.points} POINTS of the header")
    starts = np.cumsum([0, *widths[:-1]]).tolist()
    return {name: table[:, start] for name, start in zip(header.names, starts, strict=True)}


def _binary(content: bytes, header: _Header, path: Path) -> dict[str, np.ndarray]:
    size = len(content) - header.offset
    if size < header.points * header.dtype.itemsize:
        expected = f"{header.points} points of {header.dtype.itemsize}"
        raise DataError(f"{path}, offset {header.offset}: {size} bytes, too few for {expected}")
    rows = np.frombuffer(content, header.dtype, header.points, header.offset)
    return {name: rows[name] for name in header.names}


def _compressed(content: bytes, header: _Header, path: Path) -> dict[str, np.ndarray]:
    from visionseq.data.point_files.lzf import unpack

    # Two lengths, then the packed data: both lengths have to agree with the file and with the header.
    packed, unpacked = np.frombuffer(content[header.offset : header.offset + 8].ljust(8, b"\0"), "<u4").tolist()
    data = np.frombuffer(content, np.uint8, offset=min(header.offset + 8, len(content)))
    needed = header.points * header.dtype.itemsize
    if packed > len(data) or unpacked != needed or unpacked > packed * LONGEST_REFERENCE:
        claim = f"{packed} bytes unpack to {unpacked}, the file has {len(data)} for {needed}"
        raise DataError(f"{path}, offset {header.offset}: {claim}")
    check_unpacked(path, header.points * max(header.dtype.itemsize, 4 * len(header.names)), packed)
    columns = np.zeros(unpacked, np.uint8)
    if unpack(data[:packed], columns) != unpacked:
        raise DataError(f"{path}, offset {header.offset + 8}: the compressed data are damaged")

    # Unpacked data are one column after the other.
    arrays, start = {}, 0
    for name in header.names:
        kind = header.dtype[name]
        stop = start + kind.itemsize * header.points
        arrays[name] = columns[start:stop].view(kind.base).reshape(header.points, *kind.shape)
        start = stop
    return arrays
