"""Protocol buffers and TFRecord files, as far as Waymo's recordings need them, without their libraries.

A message is a sequence of fields. Each begins with a varint (number << 3 | kind); kind 0 is followed by a varint, 1 by
8 bytes, 2 by a length and that many bytes, 5 by 4 bytes. A TFRecord is a length in 8 bytes, its checksum, the data, and
their checksum.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from visionseq.data.lidar.checksum import masked_crc32c
from visionseq.errors import DataError
from visionseq.text_files import reason

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_WIDTH = {_FIXED64: 8, _FIXED32: 4}
MOST_FIELDS = 1 << 16  # of a message; a frame of Waymo has a few hundred


def read_records(path: Path) -> Iterator[bytes]:
    """The records of a TFRecord file in their order; the checksums of lengths and data are compared.

    Raises `DataError` naming the file and the offset of the damage.
    """
    try:
        size = path.stat().st_size
        with open(path, "rb") as file:
            while header := file.read(12):
                place = file.tell() - len(header)
                if len(header) < 12 or masked_crc32c(header[:8]) != int.from_bytes(header[8:], "little"):
                    raise DataError(f"{path}, offset {place}: not a TFRecord header, or a damaged one")
                length = int.from_bytes(header[:8], "little")
                if length + 4 > size - file.tell():
                    raise DataError(f"{path}, offset {place}: the file ends within a record of {length} bytes")
                data, checksum = file.read(length), int.from_bytes(file.read(4), "little")
                if masked_crc32c(data) != checksum:
                    raise DataError(f"{path}, offset {place}: a record of {length} bytes is damaged: its CRC differs")
                yield data
    except OSError as error:
        raise DataError(f"{path}: not readable: {reason(error)}") from error


class Message:
    """The fields of a message by their numbers; absent ones have protobuf's default.

    Raises `DataError` beginning with `where` for bytes that are not a message, for a field of another kind, and for
    more than 65,536 fields.
    """

    def __init__(self, data: bytes, where: str):
        self.where = where
        self.fields: dict[int, list[tuple[int, Any]]] = {}
        place, count = 0, 0
        while place < len(data):
            # The field's number and kind.
            count += 1
            if count > MOST_FIELDS:
                raise DataError(f"{where}: more than {MOST_FIELDS} fields, expected a message of Waymo")
            tag, place = _varint(data, place, where)
            kind, field = tag & 7, tag >> 3

            # Its value: a number, or bytes that are read later.
            value: int | bytes
            if kind == _VARINT:
                value, place = _varint(data, place, where)
            elif kind in (_BYTES, _FIXED32, _FIXED64):
                length, place = _varint(data, place, where) if kind == _BYTES else (_WIDTH[kind], place)
                value, place = data[place : place + length], place + length
                if place > len(data):
                    raise DataError(f"{where}: the message ends within field {field}")
            else:
                raise DataError(f"{where}: a field of kind {kind}, expected a protobuf message")
            self.fields.setdefault(field, []).append((kind, value))

    def integer(self, field: int) -> int:
        """The last value, as int64."""
        values = self._values(field, _VARINT)
        number = values[-1] if values else 0
        return number - (1 << 64) if number >> 63 else number

    def text(self, field: int) -> str:
        """The last value, a string in UTF-8."""
        values = self._values(field, _BYTES)
        return values[-1].decode("utf-8", "replace") if values else ""

    def data(self, field: int) -> bytes:
        """The last value as bytes."""
        values = self._values(field, _BYTES)
        return values[-1] if values else b""

    def message(self, field: int) -> "Message":
        """The last value, a message itself."""
        return Message(self.data(field), self.where)

    def messages(self, field: int) -> list["Message"]:
        """All values of a repeated field of messages."""
        return [Message(data, self.where) for data in self._values(field, _BYTES)]

    def number(self, field: int) -> float:
        """The last value of a double or float."""
        values = self.numbers(field)
        return float(values[-1]) if len(values) else 0.0

    def numbers(self, field: int, single: bool = False) -> np.ndarray:
        """All doubles (floats with `single`) of a repeated field, packed or not."""
        kind, dtype = (_FIXED32, "<f4") if single else (_FIXED64, "<f8")
        joined = b"".join(self._values(field, kind, _BYTES))
        if len(joined) % _WIDTH[kind]:
            raise DataError(f"{self.where}: field {field} has {len(joined)} bytes, expected {dtype}")
        return np.frombuffer(joined, dtype)

    def integers(self, field: int, most: int) -> list[int]:
        """The varints of a repeated field, packed or not; `DataError` for more than `most`."""
        numbers: list[int] = []
        for kind, value in self.fields.get(field, []):
            if kind == _VARINT:
                numbers.append(value)
                continue
            place = 0
            while kind == _BYTES and place < len(value) and len(numbers) <= most:
                number, place = _varint(value, place, self.where)
                numbers.append(number)
        if len(numbers) > most:
            raise DataError(f"{self.where}: field {field} has more than {most} numbers")
        return numbers

    def _values(self, field: int, *kinds: int) -> list[Any]:
        values = self.fields.get(field, [])
        for kind, _ in values:
            if kind not in kinds:
                raise DataError(f"{self.where}: field {field} is of kind {kind}, expected kind {kinds[0]}")
        return [value for _, value in values]


def _varint(data: bytes, place: int, where: str) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if place >= len(data):
            break
        byte = data[place]
        place += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number & (1 << 64) - 1, place
    raise DataError(f"{where}: a number without an end at offset {place}, expected a protobuf message")
