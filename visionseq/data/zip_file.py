"""Zip archives by random access: an index from the central directory, and a writer of stored members.

Written for archives of millions of small members, for which the index of the standard library takes gigabytes.
Nothing is extracted; declared sizes are checked against the file before anything is allocated; checksums are verified.
"""

import re
import struct
import zlib
from array import array
from pathlib import Path
from typing import IO

import numpy as np

from visionseq.data.decode import MAX_BYTES
from visionseq.data.names import check_name
from visionseq.data.random_access import RandomAccess, file_size
from visionseq.errors import DataError

_END = struct.Struct("<4sHHHHIIH")
_END64 = struct.Struct("<4sQHHIIQQQQ")
_LOCATOR64 = struct.Struct("<4sIQI")
_CENTRAL = struct.Struct("<4sHHHHHHIIIHHHHHII")
_LOCAL = struct.Struct("<4sHHHHHIIIHH")
_STORED, _DEFLATED = 0, 8
_DEFLATE_RATIO = 1032
_LINK = 0o120000
_MOST16, _MOST32 = 0xFFFF, 0xFFFFFFFF
_DAY = 0x21  # 1980-01-01, so that equal contents give equal archives


class ZipArchive:
    """The regular members of a zip archive.

    Args:
        path: the archive.

    Attributes:
        names: bytes array [n] of the names, in the order of the archive's directory.

    Raises `DataError` naming the file and the offset where the archive is damaged, ends early, declares more than it
    holds, or has names that leave it, links, duplicates or encrypted members.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        # The directory as compact columns.
        self._files = RandomAccess()
        names: list[bytes] = []
        fields = [array("q") for _ in range(5)]
        for name, *values in _directory(self.path):
            names.append(name)
            for column, value in zip(fields, values, strict=True):
                column.append(value)
        self._offset, self._stored, self._size, self._crc, self._method = (np.array(column) for column in fields)
        self.names = np.array(names, dtype=bytes)

        # No name may occur twice.
        ordered = np.sort(self.names)
        if (ordered[1:] == ordered[:-1]).any():
            twice = ordered[1:][ordered[1:] == ordered[:-1]][0].decode()
            raise DataError(f"{path}: two members are named {twice!r}")

    def __len__(self) -> int:
        return len(self.names)

    def where(self, number: int) -> str:
        """The name of member `number` in errors."""
        return f"{self.path}, {self.names[number].decode()}"

    def read(self, number: int) -> bytes:
        """Bytes of a member; raises `DataError` where their checksum is wrong."""
        offset, stored, size = (int(column[number]) for column in (self._offset, self._stored, self._size))
        where = f"{self.where(number)}, offset {offset}"
        header = _LOCAL.unpack(self._files.read(self.path, offset, _LOCAL.size))
        if header[0] != b"PK\x03\x04":
            raise DataError(f"{where}: {header[0]!r}, expected the header of a member")
        data = self._files.read(self.path, offset + _LOCAL.size + header[9] + header[10], stored)
        if self._method[number] == _DEFLATED:
            data = _inflate(data, size, where)
        if zlib.crc32(data) != self._crc[number]:
            raise DataError(f"{where}: the checksum is wrong: the member is damaged")
        return data


class ZipWriter:
    """Writes members one after another, uncompressed, with 64-bit fields where they are needed."""

    def __init__(self, file: IO[bytes]):
        self._file, self._offset = file, 0
        self._central = bytearray()
        self._count = 0

    def write(self, name: str, data: bytes) -> None:
        """Append a member."""
        encoded, crc = name.encode(), zlib.crc32(data)
        flags = 0x800 if not name.isascii() else 0  # the name is UTF-8
        wide = self._offset >= _MOST32
        common = (flags, _STORED, 0, _DAY, crc, len(data), len(data), len(encoded))
        local = _LOCAL.pack(b"PK\x03\x04", 20, *common, 0) + encoded
        extra = struct.pack("<HHQ", 1, 8, self._offset) if wide else b""
        offset = _MOST32 if wide else self._offset
        self._central += _CENTRAL.pack(
            b"PK\x01\x02", 45 if wide else 20, 45 if wide else 20, *common, len(extra), 0, 0, 0, 0o600 << 16, offset
        )
        self._central += encoded + extra
        self._file.write(local + data)
        self._offset += len(local) + len(data)
        self._count += 1

    def close(self) -> None:
        """Write the directory; the file itself stays open."""
        size, start = len(self._central), self._offset
        self._file.write(self._central)
        if self._count >= _MOST16 or start >= _MOST32 or size >= _MOST32:
            end64 = _END64.pack(b"PK\x06\x06", 44, 45, 45, 0, 0, self._count, self._count, size, start)
            self._file.write(end64 + _LOCATOR64.pack(b"PK\x06\x07", 0, start + size, 1))
        count = min(self._count, _MOST16)
        self._file.write(_END.pack(b"PK\x05\x06", 0, 0, count, count, min(size, _MOST32), min(start, _MOST32), 0))


def _directory(path: Path):
    """Name, header offset, stored size, size, checksum and method of each regular member."""
    total = file_size(path)
    with open(path, "rb") as file:
        count, start, end = _find_directory(file, path, total)
        file.seek(start)
        for _ in range(count):
            where = f"{path}, offset {file.tell()}"
            head = file.read(_CENTRAL.size)
            if len(head) < _CENTRAL.size or head[:4] != b"PK\x01\x02" or file.tell() > end:
                raise DataError(f"{where}: {head[:4]!r}, expected an entry of the archive's directory")
            values = _CENTRAL.unpack(head)
            name, extra = file.read(values[10]), file.read(values[11])
            file.seek(values[12], 1)
            if name.endswith(b"/"):
                continue
            yield _entry(values, name, extra, start, where)


def _entry(values: tuple, name: bytes, extra: bytes, most: int, where: str) -> tuple[bytes, int, int, int, int, int]:
    flags, method, crc, stored, size = values[3], values[4], values[7], values[8], values[9]
    offset, mode = values[16], values[15] >> 16
    size, stored, offset = _wide(extra, [size, stored, offset], where)
    try:
        text = check_name(name.decode("utf-8" if flags & 0x800 else "cp437"), where)
    except UnicodeDecodeError as error:
        raise DataError(f"{where}: the member name {name!r} is not UTF-8") from error
    if flags & 1 or method not in (_STORED, _DEFLATED) or mode & 0o170000 == _LINK:
        raise DataError(f"{where}: {text!r} is encrypted, a link, or compressed by method {method} (expected 0 or 8)")
    ratio = 1 if method == _STORED else _DEFLATE_RATIO
    if offset + _LOCAL.size + stored > most or size > stored * ratio or (method == _STORED and size != stored):
        raise DataError(f"{where}: {text!r} declares {size} bytes from {stored} at {offset}, which cannot be")
    if size > MAX_BYTES:
        raise DataError(f"{where}: {text!r} declares {size} bytes, expected at most {MAX_BYTES}")
    return text.encode(), offset, stored, size, crc, method


def _wide(extra: bytes, values: list[int], where: str) -> list[int]:
    """The values, with the 64-bit forms of those that exceed 32 bits."""
    if _MOST32 not in values:
        return values
    while len(extra) >= 4:
        kind, length = struct.unpack_from("<HH", extra)
        overflowing = [i for i, value in enumerate(values) if value == _MOST32]
        if kind == 1 and len(extra) >= 4 + 8 * len(overflowing) and length >= 8 * len(overflowing):
            for i, value in zip(overflowing, struct.unpack_from(f"<{len(overflowing)}Q", extra, 4), strict=True):
                values[i] = value
            return values
        extra = extra[4 + length :]
    raise DataError(f"{where}: an entry of more than 4 GB without its 64-bit sizes")


def _find_directory(file: IO[bytes], path: Path, total: int) -> tuple[int, int, int]:
    """Number of entries, and where the directory begins and ends."""
    tail_start = max(0, total - _END.size - _MOST16)
    file.seek(tail_start)
    tail = file.read()
    for start in reversed([match.start() for match in re.finditer(b"PK\x05\x06", tail)]):
        if len(tail) - start >= _END.size:
            end = _END.unpack_from(tail, start)
            if end[7] == len(tail) - start - _END.size:  # the comment reaches the end of the file
                return _checked_directory(file, path, end, tail_start + start)
    raise DataError(f"{path}, offset {total}: not a zip archive, or cut short: its directory is missing")


def _checked_directory(file: IO[bytes], path: Path, end: tuple, position: int) -> tuple[int, int, int]:
    count, size, start = end[4], end[5], end[6]
    if count == _MOST16 or _MOST32 in (size, start):
        count, size, start, position = _directory64(file, path, position)
    if start + size > position or count * _CENTRAL.size > size:
        raise DataError(f"{path}, offset {position}: a directory of {count} entries, {size} bytes at {start} cannot be")
    return count, start, start + size


def _directory64(file: IO[bytes], path: Path, position: int) -> tuple[int, int, int, int]:
    where = f"{path}, offset {position}"
    file.seek(max(0, position - _LOCATOR64.size))
    locator = file.read(_LOCATOR64.size)
    if position < _LOCATOR64.size or locator[:4] != b"PK\x06\x07":
        raise DataError(f"{where}: the 64-bit directory is missing")
    start = _LOCATOR64.unpack(locator)[2]
    if start > position - _LOCATOR64.size - _END64.size:
        raise DataError(f"{where}: the 64-bit directory at {start} lies outside the file")
    file.seek(start)
    end = _END64.unpack(file.read(_END64.size))
    if end[0] != b"PK\x06\x06":
        raise DataError(f"{path}, offset {start}: {end[0]!r}, expected the 64-bit directory")
    return end[7], end[8], end[9], start


def _inflate(data: bytes, size: int, where: str) -> bytes:
    try:
        out = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, size + 1)
    except zlib.error as error:
        raise DataError(f"{where}: damaged: {error}") from error
    if len(out) != size:
        raise DataError(f"{where}: {'more than ' if len(out) > size else ''}{len(out)} bytes, expected {size}")
    return out
