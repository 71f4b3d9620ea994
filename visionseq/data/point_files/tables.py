"""Formats that well-kept libraries read: LAS and LAZ by laspy, Feather by pyarrow."""

import struct
from pathlib import Path

import numpy as np

from visionseq.data.point_files.cloud import PointCloud, cloud_of
from visionseq.errors import DataError, import_extra

RECORD_HEADER, EXTENDED_HEADER = 54, 60  # bytes of a LAS record without its content
PACKED_AT_BEST = 64  # how many times smaller LAZ makes points
MAP_COORDINATES = 1e4  # metres from the origin beyond which float32 no longer holds a millimetre


def read_las(path: Path) -> PointCloud:
    """x, y, z, intensity, and what else a point has; coordinates of a map are given relative to their `origin`."""
    laspy = import_extra("laspy", "lidar")
    _check_las_header(path)
    try:
        las = laspy.read(path, laz_backend=[laspy.LazBackend.Lazrs])  # its parallel form aborts on damaged chunks
        position = np.stack([np.asarray(las.x), np.asarray(las.y), np.asarray(las.z)], 1)
        others = {name: np.asarray(las[name]) for name in las.point_format.dimension_names if name not in "XYZ"}
    except (OSError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # damaged files make the decoder panic, which is no Exception
        raise DataError(f"{path}: not readable as LAS or LAZ: {str(error) or type(error).__name__}") from error
    origin = np.zeros(3)
    if len(position) and np.abs(position).max() > MAP_COORDINATES:
        origin = np.floor(position.mean(0))
    named = dict(zip("xyz", (position - origin).T, strict=True))
    single = {name: values for name, values in others.items() if values.ndim == 1}
    return cloud_of({**named, **single}, str(path), tuple(origin.tolist()))


def _check_las_header(path: Path) -> None:
    """Refuse counts that the file cannot back: laspy believes them and reads on for minutes."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        header = file.read(375)
    if len(header) < 227 or not header.startswith(b"LASF"):
        raise DataError(f"{path}, offset 0: no LAS header, expected LASF and at least 227 bytes")
    minor, (own, start, records) = header[25], struct.unpack_from("<HII", header, 94)
    width, points = struct.unpack_from("<HI", header, 105)
    more, extended, places = 0, 0, size
    if minor >= 4 and len(header) == 375:
        places, more, extended = struct.unpack_from("<QIQ", header, 235)
    within = own <= start <= size and records * RECORD_HEADER <= start - own
    within &= more * EXTENDED_HEADER <= max(size - places, 0)
    if not within or max(points, extended) * width > PACKED_AT_BEST * size:
        found = f"{records} records, {more} extended records, {max(points, extended)} points of {width} bytes"
        raise DataError(f"{path}, offset 94: the header declares {found}, more than {size} bytes can hold")
    if header[104] & 0x80:  # compressed
        _check_chunks(path, start, size)


def _check_chunks(path: Path, start: int, size: int) -> None:
    """Refuse a LAZ chunk table that the file cannot hold: the decoder takes memory for it and aborts without any."""
    with open(path, "rb") as file:
        file.seek(start)
        (place,) = struct.unpack("<q", file.read(8).ljust(8, b"\0"))
        if place == -1:  # written to a stream: the place of the table follows the table
            file.seek(max(size - 8, 0))
            (place,) = struct.unpack("<q", file.read(8).ljust(8, b"\0"))
        file.seek(min(max(place, 0), size))
        _, chunks = struct.unpack("<II", file.read(8).ljust(8, b"\0"))
    if not start < place <= size - 8 or chunks > size:
        raise DataError(f"{path}, offset {start}: a table of {chunks} chunks at offset {place} of {size} bytes")


def read_feather(path: Path) -> PointCloud:
    """The numeric columns of a Feather (Arrow) table, as Argoverse 2 keeps its sweeps."""
    feather = import_extra("pyarrow.feather", "lidar")
    try:
        table = feather.read_table(path, memory_map=False)
        table.validate(full=True)
        named = {}
        for name in table.column_names:
            values = table[name].to_numpy()
            if values.dtype.kind in "fiu":
                named[name] = values
    except OSError:
        raise
    except Exception as error:  # pyarrow raises its own family and many of Python's, also MemoryError
        raise DataError(f"{path}: not readable as Feather: {error or type(error).__name__}") from error
    return cloud_of(named, str(path))
