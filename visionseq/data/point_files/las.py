"""LAS and LAZ, read by laspy in pieces once the counts in their headers are known to be honest."""

import struct
from pathlib import Path
from typing import Any

import numpy as np

from visionseq.data.point_files.cloud import POSITION, PointCloud, cloud_of_values
from visionseq.data.point_files.limits import check_unpacked
from visionseq.errors import DataError, import_extra

RECORD_HEADER, EXTENDED_HEADER = 54, 60  # bytes of a LAS record without its content
MAP_COORDINATES = 1e4  # metres from the origin beyond which float32 no longer holds a millimetre
PIECE = 1 << 18  # points read at a time


def read_las(path: Path) -> PointCloud:
    """x, y, z, intensity, and the further values of a point; coordinates of a map are relative to their `origin`."""
    laspy = import_extra("laspy", "lidar")
    _check_header(path)
    try:
        # The parallel form of the backend aborts the process on damaged chunks.
        with laspy.open(path, laz_backend=[laspy.LazBackend.Lazrs]) as reader:
            return _read(reader, path)
    except (OSError, DataError, KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:  # damaged files make the decoder panic, which is no Exception
        raise DataError(f"{path}: not readable as LAS or LAZ: {str(error) or type(error).__name__}") from error


def _read(reader: Any, path: Path) -> PointCloud:
    points, kind = reader.header.point_count, reader.header.point_format
    others = [one.name for one in kind.dimensions if one.name not in ("X", "Y", "Z") and one.num_elements == 1]
    columns = (*POSITION, *others)
    check_unpacked(path, points * len(columns) * 4, path.stat().st_size)

    # Pieces, so that the positions in float64 and the packed values are never in memory as a whole.
    values, start, origin = np.empty((points, len(columns)), np.float32), 0, np.zeros(3)
    for piece in reader.chunk_iterator(PIECE):
        position = np.stack([np.asarray(piece.x), np.asarray(piece.y), np.asarray(piece.z)], 1)
        if start == 0 and len(position) and np.abs(position).max() > MAP_COORDINATES:
            origin = np.floor(position.mean(0))
        rows = values[start : start + len(position)]
        with np.errstate(over="ignore", invalid="ignore"):
            rows[:, :3] = position - origin
            for column, name in enumerate(others, 3):
                rows[:, column] = np.asarray(piece[name])
        start += len(position)
    if start != points:
        raise DataError(f"{path}: {start} points, its header declares {points}")
    return cloud_of_values(values, columns, str(path), tuple(origin.tolist()))


def _check_header(path: Path) -> None:
    """Refuse counts that the file cannot back: laspy believes them and reads on for minutes."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        header = file.read(375)
    if len(header) < 227 or not header.startswith(b"LASF"):
        raise DataError(f"{path}, offset 0: no LAS header, expected LASF and at least 227 bytes")
    minor, (length, start, records) = header[25], struct.unpack_from("<HII", header, 94)
    width, points = struct.unpack_from("<HI", header, 105)
    more, extended, places = 0, 0, size
    if minor >= 4 and len(header) == 375:
        places, more, extended = struct.unpack_from("<QIQ", header, 235)

    within = length <= start <= size and records * RECORD_HEADER <= start - length
    within &= more * EXTENDED_HEADER <= max(size - places, 0)
    if not within:
        raise DataError(f"{path}, offset 94: {records} records and {more} extended ones, more than {size} bytes hold")
    if header[104] & 0x80:  # compressed
        check_unpacked(path, max(points, extended) * width, size)
        _check_chunks(path, start, size)
    elif max(points, extended) * width > size - start:
        raise DataError(
            f"{path}, offset 105: {max(points, extended)} points of {width} bytes, more than the file holds"
        )


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
