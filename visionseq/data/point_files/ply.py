"""PLY files: the vertices of an ascii, binary_little_endian or binary_big_endian file."""

import codecs
from pathlib import Path
from typing import NamedTuple

import numpy as np

from visionseq.data.point_files.cloud import PointCloud, cloud_of
from visionseq.data.point_files.rows import read_rows
from visionseq.errors import DataError

MAX_HEADER = 1 << 16  # bytes
_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_ORDERS = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}


class _Header(NamedTuple):
    """Byte order, number of vertices, their properties (name, type), and where the data begin."""

    order: str
    points: int
    properties: list[tuple[str, str]]
    offset: int


def read_ply(path: Path) -> PointCloud:
    """All properties of the vertices, which have to be the first element."""
    content = path.read_bytes()
    header = _header(content, path)
    names = [name for name, _ in header.properties]
    if header.order == "=":
        rows, _ = read_rows(content, header.offset, header.points, len(names), path)
        return cloud_of(dict(zip(names, rows.T, strict=True)), str(path))
    dtype = np.dtype([(name, header.order + kind) for name, kind in header.properties])
    size = len(content) - header.offset
    if size < header.points * dtype.itemsize:
        expected = f"{header.points} vertices of {dtype.itemsize}"
        raise DataError(f"{path}, offset {header.offset}: {size} bytes, too few for {expected}")
    rows = np.frombuffer(content, dtype, header.points, header.offset)
    return cloud_of({name: rows[name] for name in names}, str(path))


def _header(content: bytes, path: Path) -> _Header:
    end = content.find(b"end_header", 0, MAX_HEADER)
    stop = content.find(b"\n", end, end + 16) if end >= 0 else -1
    if not content.removeprefix(codecs.BOM_UTF8).startswith(b"ply") or stop < 0:
        raise DataError(f"{path}, offset 0: no PLY header (ply ... end_header)")
    order, points, properties = _lines(content[:end].decode("ascii", "replace"), path)
    if order is None or points is None or not properties or len(dict(properties)) < len(properties):
        raise DataError(f"{path}: the header needs a format and an element vertex with properties of different names")
    return _Header(order, points, properties, stop + 1)


def _lines(text: str, path: Path) -> tuple[str | None, int | None, list[tuple[str, str]]]:
    """Byte order, number and properties of the vertices, as far as the lines of a header say them."""
    order, points, properties, element = None, None, [], None
    for number, line in enumerate(text.splitlines()[1:], 2):
        words = line.split()
        kind = words[0] if words else "comment"
        if kind in ("comment", "obj_info") or (kind == "property" and element not in (None, "vertex")):
            continue
        if kind == "format" and len(words) == 3 and words[1] in _ORDERS:
            order = _ORDERS[words[1]]
        elif kind == "element" and len(words) == 3 and _is_count(words[2]):
            if element is None and words[1] != "vertex":
                raise DataError(f"{path}, line {number}: the first element is {words[1]}, expected vertex")
            points = int(words[2]) if element is None else points
            element = words[1]
        elif kind == "property" and len(words) == 3 and words[1] in _TYPES and element == "vertex":
            properties.append((words[2], _TYPES[words[1]]))
        else:
            raise DataError(f"{path}, line {number}: {line[:80]!r} is not understood")
    return order, points, properties


def _is_count(word: str) -> bool:
    return word.isascii() and word.isdigit() and len(word) < 12
