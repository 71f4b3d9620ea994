"""The memory that a point file may take: as much as its own bytes justify."""

from pathlib import Path

from visionseq.errors import DataError

FREE = 1 << 28  # bytes that any file may unpack to: 16 million points of four float32
RATIO = 16  # times a file's own bytes that it may unpack to beyond; lidar points hardly shrink by more than ten


def check_unpacked(path: Path, unpacked: int, packed: int) -> None:
    """`DataError` where `packed` bytes of a file claim to hold `unpacked` bytes, far more than data of a sensor do."""
    if unpacked > max(FREE, RATIO * packed):
        most = max(FREE, RATIO * packed)
        raise DataError(f"{path}: {packed} bytes claim to unpack to {unpacked}, expected at most {most}")
