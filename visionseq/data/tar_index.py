"""Where the members of an uncompressed tar archive lie: read once from the headers, nothing is ever extracted.

Understands ustar, GNU long names and pax `path` and `size`. Folders are passed over; links, devices and names that
leave the archive are refused.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from visionseq.data.names import check_name
from visionseq.data.random_access import file_size
from visionseq.errors import DataError

_BLOCK = 512
_MAX_EXTENSION = 1 << 20  # bytes of a long name or a pax header
_FILES, _FOLDER, _LONG_NAME, _PAX, _PAX_GLOBAL = (b"0", b"\0", b"7"), b"5", b"L", b"x", b"g"


class TarMember(NamedTuple):
    """A regular file of the archive: its name, where its bytes begin, and their number."""

    name: str
    offset: int
    size: int


def tar_members(path: str | Path, start: int = 0, size: int | None = None) -> Iterator[TarMember]:
    """The regular files of a tar archive in their order.

    An archive within an archive is the `size` bytes from offset `start` on.

    Raises `DataError` naming the file and the offset where the archive is damaged, compressed or ends early.
    """
    total = file_size(path) if size is None else start + size
    with open(path, "rb") as file:
        position = start
        extended: dict[str, Any] = {}
        while True:
            # The header of the next member, or the block of zeros that ends an archive.
            where = f"{path}, offset {position}"
            file.seek(position)
            header = file.read(min(_BLOCK, max(total - position, 0)))
            if not header.strip(b"\0") and len(header) == _BLOCK:
                return
            kind, name, length = _header(header, where, first=position == start)
            length = extended.pop("size", length)
            data = position + _BLOCK
            if data + length > total:
                raise DataError(f"{where}: {name!r} needs {length} bytes, the archive ends after {total - data}")

            # A long name or size applies to the member after it, which may be a file or a folder.
            if kind in (_LONG_NAME, _PAX, _PAX_GLOBAL):
                extended |= _extension(file, kind, length, where)
            elif kind in _FILES:
                yield TarMember(check_name(extended.pop("path", name), where), data, length)
                extended.clear()
            elif kind == _FOLDER:
                extended.clear()
            else:
                raise DataError(f"{where}: {name!r} is a link or a device (type {kind!r}), expected files and folders")
            position = data + -(-length // _BLOCK) * _BLOCK


def _header(header: bytes, where: str, first: bool) -> tuple[bytes, str, int]:
    if len(header) < _BLOCK:
        raise DataError(f"{where}: the archive ends without its closing block")
    if first and header[:2] == b"\x1f\x8b":
        raise DataError(f"{where}: compressed with gzip; random access needs a plain tar archive")
    try:
        stated = _number(header[148:156])
    except ValueError:
        stated = -1
    if stated != sum(header[:148]) + 8 * ord(" ") + sum(header[156:]):
        raise DataError(f"{where}: no tar header (its checksum is wrong)")
    name = _text(header[:100])
    if header[257:263] == b"ustar\0" and (prefix := _text(header[345:500])):
        name = f"{prefix}/{name}"
    try:
        size = _number(header[124:136])
    except ValueError:
        size = -1
    if size < 0:
        raise DataError(f"{where}: size of {name!r}: {header[124:136]!r}, expected an octal number")
    return header[156:157], name, size


def _number(field: bytes) -> int:
    if field[0] & 0x80:  # GNU: binary, for files above 8 GB
        return int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
    return int(field.strip(b"\0 ") or b"0", 8)


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode("utf-8", "surrogateescape")


def _extension(file, kind: bytes, size: int, where: str) -> dict[str, Any]:
    if size > _MAX_EXTENSION:
        raise DataError(f"{where}: a name or attribute of {size} bytes, expected at most {_MAX_EXTENSION}")
    data = file.read(size)
    if kind == _LONG_NAME:
        return {"path": _text(data)}
    return {} if kind == _PAX_GLOBAL else _pax(data, where)


def _pax(data: bytes, where: str) -> dict[str, Any]:
    """Path and size from a pax header, whose records are `LENGTH KEY=VALUE` and the end of the line."""
    attributes: dict[str, Any] = {}
    while data:
        length, _, rest = data.partition(b" ")
        try:
            count = int(length)
            key, _, value = rest[: count - len(length) - 1].partition(b"=")
            if key == b"path":
                attributes["path"] = _text(value.removesuffix(b"\n"))
            elif key == b"size":
                attributes["size"] = int(value)
        except ValueError as error:
            raise DataError(f"{where}: {data[:40]!r}, expected a pax header") from error
        if count <= len(length) or attributes.get("size", 0) < 0:
            raise DataError(f"{where}: {data[:40]!r}, expected a pax header")
        data = data[count:]
    return attributes
