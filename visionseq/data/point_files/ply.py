"""PLY files: the vertices of an ascii, binary_little_endian or binary_big_endian file."""

from pathlib import Path

import numpy as np

from visionseq.data.point_files.cloud import PointCloud, cloud_of
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


def read_ply(path: Path) -> PointCloud:
    """All properties of the vertices, which have to be the first element; names as in the file."""
    content = path.read_bytes()
    order, points, properties, offset = _header(content, path)
    dtype = np.dtype([(name, order + kind) for name, kind in properties])
    found = len(content) - offset
    if order == "=":
        rows = _ascii(content, offset, points, len(properties), path)
        return cloud_of({name: rows[:, index] for index, (name, _) in enumerate(properties)}, str(path))
    if found < points * dtype.itemsize:
        raise DataError(f"{path}, offset {offset}: {found} bytes, too few for {points} vertices of {dtype.itemsize}")
    rows = np.frombuffer(content, dtype, points, offset)
    return cloud_of({name: rows[name] for name, _ in properties}, str(path))


def _header(content: bytes, path: Path) -> tuple[str, int, list[tuple[str, str]], int]:
    """Byte order, number of vertices, their properties (name, type), and where the data begin."""
    end = content.find(b"end_header", 0, MAX_HEADER)
    stop = content.find(b"\n", end, end + 16) if end >= 0 else -1
    if not content.startswith(b"ply") or stop < 0:
        raise DataError(f"{path}, offset 0: no PLY header (ply ... end_header)")
    order, points, properties, element = None, None, [], None
    for number, line in enumerate(content[:end].decode("ascii", "replace").splitlines()[1:], 2):
        words = line.split()
        if not words or words[0] in ("comment", "obj_info"):
            continue
        if words[0] == "format" and len(words) == 3 and words[1] in _ORDERS:
            order = _ORDERS[words[1]]
        elif words[0] == "element" and len(words) == 3 and words[2].isascii() and words[2].isdigit():
            if element is None and words[1] != "vertex":
                raise DataError(f"{path}, line {number}: the first element is {words[1]}, expected vertex")
            points = int(words[2]) if element is None else points
            element = words[1]
        elif words[0] == "property" and element is not None and element != "vertex":
            continue
        elif words[0] == "property" and len(words) == 3 and words[1] in _TYPES and element == "vertex":
            properties.append((words[2], _TYPES[words[1]]))
        else:
            raise DataError(f"{path}, line {number}: {line[:80]!r} is not understood")
    if order is None or points is None or not properties or len(dict(properties)) < len(properties):
        raise DataError(f"{path}: the header needs a format and an element vertex with properties of different names")
    return order, points, properties, stop + 1


def _ascii(content: bytes, offset: int, points: int, width: int, path: Path) -> np.ndarray:
    if points * width * 2 > len(content) - offset + 1:
        raise DataError(f"{path}, offset {offset}: {len(content) - offset} bytes, too few for {points} vertices")
    text = content[offset:].split()[: points * width]
    if len(text) < points * width:
        raise DataError(f"{path}: {len(text)} values, expected {points} vertices of {width}")
    try:
        return np.array(text, "S").astype(np.float64).reshape(points, width)
    except ValueError as error:
        raise DataError(f"{path}: {error}, expected numbers") from error
