"""CRC-32C as TFRecord files carry it: of their lengths and of their data, rotated and masked."""

import numpy as np

from visionseq.kernels.compiled import exact

POLYNOMIAL = 0x82F63B78  # Castagnoli, reflected
MASK = 0xA282EAD8  # added to a checksum after its rotation
SLICES = 8  # bytes that are taken at a time


def masked_crc32c(data: bytes) -> int:
    """The checksum of bytes in the form in which TFRecord files store it."""
    crc = int(_crc32c(np.frombuffer(data, np.uint8), TABLES)) if data else 0
    return ((crc >> 15 | crc << 17) + MASK) & 0xFFFFFFFF


def _tables() -> np.ndarray:
    """uint32 [8, 256]: the effect of a byte on the checksum when 0 to 7 bytes follow it (slicing by eight)."""
    tables = np.zeros((SLICES, 256), np.uint32)
    values = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        values = np.where(values & 1, values >> 1 ^ np.uint32(POLYNOMIAL), values >> 1)
    tables[0] = values
    for following in range(1, SLICES):
        tables[following] = tables[0][tables[following - 1] & 0xFF] ^ tables[following - 1] >> 8
    return tables


TABLES = _tables()


@exact
def _crc32c(data, tables):
    crc, place = np.uint32(0xFFFFFFFF), 0
    while place + 8 <= len(data):
        mixed = np.uint32(0)
        for following in range(8):
            byte = np.uint32(data[place + following])
            if following < 4:
                byte ^= (crc >> np.uint32(8 * following)) & np.uint32(0xFF)
            mixed ^= tables[7 - following, byte]
        crc = mixed
        place += 8
    while place < len(data):
        crc = tables[0, (crc ^ np.uint32(data[place])) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
        place += 1
    return crc ^ np.uint32(0xFFFFFFFF)
