"""Waymo's messages and TFRecord files, written by hand for tests."""

import struct
import zlib
from functools import cache
from pathlib import Path

import numpy as np

from visionseq.data.lidar.waymo_records import euler_rotations

BEAMS, COLUMNS = 6, 40
RANGE = 10.0


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1
    data = bytearray()
    while number >= 0x80:
        data.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*data, number])


def field(number: int, value: bytes | int | float | str) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    if isinstance(value, float):
        return varint(number << 3 | 1) + struct.pack("<d", value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def doubles(number: int, values: np.ndarray) -> bytes:
    return b"".join(field(number, float(value)) for value in np.ravel(values))


def matrix(values: np.ndarray) -> bytes:
    shape = b"".join(field(1, size) for size in values.shape)
    return zlib.compress(field(1, values.astype("<f4").tobytes()) + field(2, shape))


def image(seed: int = 0) -> np.ndarray:
    """[BEAMS, COLUMNS, 4]; nothing comes back from the first column."""
    values = np.random.default_rng(seed).random((BEAMS, COLUMNS, 4)).astype(np.float32)
    values[..., 0], values[..., 3] = RANGE, -1
    values[:, 0, 0] = -1
    return values


def calibration(name: int, extrinsic: np.ndarray, beams: np.ndarray | None = None) -> bytes:
    limits = field(3, -0.3) + field(4, 0.1) if beams is None else doubles(2, beams)
    return field(1, name) + limits + field(5, doubles(1, extrinsic))


def laser(name: int, first: np.ndarray, second: np.ndarray | None = None, poses: np.ndarray | None = None) -> bytes:
    data = field(2, matrix(first)) + (b"" if poses is None else field(4, matrix(poses)))
    later = b"" if second is None else field(3, field(2, matrix(second)))
    return field(1, name) + field(2, data) + later


def label(kind: int, box: list[float], speed: tuple[float, float], points: int, difficulty: int = 0) -> bytes:
    x, y, z, length, width, height, heading = box
    values = (x, y, z, width, length, height, heading)
    message = field(1, b"".join(field(i, float(value)) for i, value in enumerate(values, 1)))
    message += field(2, field(1, float(speed[0])) + field(2, float(speed[1]))) + field(3, kind) + field(4, "some-id")
    return message + (field(5, difficulty) if difficulty else b"") + field(7, points)


def frame(lasers: list[bytes], calibrations: list[bytes], labels: list[bytes], time: int, pose: np.ndarray) -> bytes:
    context = field(1, "1234_5") + b"".join(field(3, data) for data in calibrations)
    message = field(1, context) + field(2, time) + field(3, doubles(1, pose)) + field(4, b"a picture")
    return message + b"".join(field(5, data) for data in lasers) + b"".join(field(6, data) for data in labels)


def records(messages: list[bytes]) -> bytes:
    parts = []
    for message in messages:
        length = struct.pack("<Q", len(message))
        checksums = [struct.pack("<I", masked_crc(data)) for data in (length, message)]
        parts.append(length + checksums[0] + message + checksums[1])
    return b"".join(parts)


def masked_crc(data: bytes) -> int:
    """CRC-32C byte by byte, by polynomial division of each."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ remainder(crc & 0xFF ^ byte)
    crc ^= 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


@cache
def remainder(byte: int) -> int:
    """What is left of a byte of reflected bits behind 32 others."""
    value = int(f"{byte:08b}"[::-1], 2) << 32
    for bit in range(39, 31, -1):
        if value >> bit & 1:
            value ^= 0x11EDC6F41 << bit - 32
    return int(f"{value:032b}"[::-1], 2)


def pose(yaw: float, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> np.ndarray:
    matrix = np.eye(4)
    matrix[:3, :3] = euler_rotations(np.array([[0.0, 0.0, yaw]]))[0]
    matrix[:3, 3] = x, y, z
    return matrix


def recording(path: Path, frames: int = 2, claimed: int | None = None, labelled: bool = True) -> Path:
    """Frames of one lidar at a height of 2 m with a wall around it, and boxes on the wall."""
    extrinsic, messages = pose(0.4, 1.0, 0.0, 2.0), []
    for number in range(frames):
        labels, where = [], pose(0.3, 100.0 + number, 50.0, 1.0)
        for turn in (0.0, 1.5, 3.0):
            box = [1 + RANGE * np.cos(turn), RANGE * np.sin(turn), 1.0, 6.0, 6.0, 6.0, turn]
            labels.append(label(1, box, (2.0, 0.0), 30 if claimed is None else claimed, number))
        labels += [label(4, [-200, 0, 0, 1, 1, 1, 0], (0, 0), 0), label(0, [0, 0, 0, 1, 1, 1, 0], (0, 0), 9)]
        lasers, calibrations = [laser(2, image(number), image(9))], [calibration(2, extrinsic)]
        messages.append(frame(lasers, calibrations, labels if labelled else [], 1000 + number, where))
    path.write_bytes(records(messages))
    return path
