"""The unpacked size of an Arrow file, read from its metadata before a library unpacks it.

Layout (arrow.apache.org, columnar format): the file ends with a footer, its length and ARROW1; the footer lists blocks;
a block is a message and a body of buffers; a compressed buffer begins with its unpacked length in 8 bytes. Footer and
messages are FlatBuffers: a table begins with the distance back to the places of its fields, 0 for an absent field.
"""

import struct
from collections.abc import Iterator

MAGIC = b"ARROW1"
CONTINUES = 0xFFFFFFFF  # before the length of a message
DICTIONARY, RECORDS = 2, 3  # kinds of message
LEAST = 64  # bytes of memory that the smallest buffer takes
CELL = 8  # bytes of a value in memory


def unpacked_size(data: bytes, most: int) -> int:
    """Bytes that the tables of an Arrow file take in memory; stops counting beyond `most`.

    Raises `ValueError` for other data and `struct.error` for places outside of them.
    """
    if not (data.startswith(MAGIC) and data.endswith(MAGIC) and len(data) >= 2 * len(MAGIC) + 4):
        raise ValueError("it does not begin and end with ARROW1, expected an Arrow file (Feather version 2)")
    (length,) = struct.unpack_from("<I", data, len(data) - len(MAGIC) - 4)
    footer = _table(data, len(data) - len(MAGIC) - 4 - length)
    total = 0
    for field in (2, 3):  # blocks of dictionaries and of records
        for place in _vector(data, footer, field, 24):
            offset, metadata = struct.unpack_from("<qi", data, place)
            for size in _sizes(data, _inside(offset), _inside(offset + metadata)):
                total += size
                if total > most:
                    return total
    return total


def _sizes(data: bytes, start: int, body: int) -> Iterator[int]:
    """Bytes in memory of the buffers and of the values of a message at `start` with its buffers from `body` on."""
    (first,) = struct.unpack_from("<I", data, start)
    message = _table(data, start + (8 if first == CONTINUES else 4))
    kind = data[_field(data, message, 1) or 0]
    if kind not in (DICTIONARY, RECORDS):
        return
    batch = _table(data, _field(data, message, 2))
    if kind == DICTIONARY:
        batch = _table(data, _field(data, batch, 1))
    compressed = _field(data, batch, 3) is not None
    for place in _vector(data, batch, 2, 16):
        offset, length = struct.unpack_from("<qq", data, place)
        if compressed and length:
            (unpacked,) = struct.unpack_from("<q", data, _inside(body + offset))
            length = max(unpacked, length)
        yield max(length, LEAST)
    for place in _vector(data, batch, 1, 16):
        yield max(struct.unpack_from("<q", data, place)[0] * CELL, LEAST)


def _table(data: bytes, place: int | None) -> int:
    """Where the table begins to which the distance at `place` leads."""
    if place is None:
        raise ValueError("its metadata lack a field")
    return place + struct.unpack_from("<I", data, _inside(place))[0]


def _field(data: bytes, table: int, number: int) -> int | None:
    """Where a field of a table lies, None where it is absent."""
    fields = table - struct.unpack_from("<i", data, _inside(table))[0]
    (size,) = struct.unpack_from("<H", data, _inside(fields))
    if 4 + 2 * number >= size:
        return None
    (offset,) = struct.unpack_from("<H", data, fields + 4 + 2 * number)
    return table + offset if offset else None


def _vector(data: bytes, table: int, number: int, width: int) -> Iterator[int]:
    """Where the structures of a field lie, of `width` bytes each."""
    place = _field(data, table, number)
    if place is None:
        return
    start = _table(data, place)
    (count,) = struct.unpack_from("<I", data, start)
    for index in range(count):
        yield start + 4 + index * width


def _inside(place: int) -> int:
    """`place`, where it is not before the data: `struct` counts negative places from the end."""
    if place < 0:
        raise ValueError("its metadata point outside of the file")
    return place
