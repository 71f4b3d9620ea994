"""Waymo's recordings (TFRecord files of `Frame` messages) as points and labels; no other package is needed.

A return of a lidar is a range image [H, W, 4]: range, intensity, elongation, and 1 in a no-label zone (elsewhere -1).
Its rows are beams from the highest down, its columns turn from the back clockwise. The top lidar also has the vehicle's
pose of every pixel, because the vehicle moves while it turns. Field numbers are those of Waymo's published messages.

Legend: H rows and W columns of a range image, N points, M objects.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from visionseq.data.lidar.wire import Message, read_records
from visionseq.errors import DataError
from visionseq.text_files import fits_float32

TYPES = {1: "Vehicle", 2: "Pedestrian", 3: "Sign", 4: "Cyclist"}
CHANNELS, ANGLES = 4, 6  # of a range image, and of its poses: roll, pitch, yaw, x, y, z
LARGEST = 1 << 23  # bytes of an unpacked image; the poses of the largest lidar take 4 MB
LIDARS = (1, 2, 3, 4, 5)  # names of the lidars, each at most once in a frame


@dataclass
class RecordedFrame:
    """A frame of a recording.

    Fields: `points` float32 [N, 6] (x, y, z, intensity, elongation, no-label-zone flag), `boxes` float64 [M, 9] with
    velocity, `names`, `num_points` and `difficulty` [M], `context` (name of the segment), `timestamp` in microseconds,
    `pose` [4, 4] of the vehicle in the global frame.
    """

    points: np.ndarray
    boxes: np.ndarray
    names: list[str]
    num_points: np.ndarray
    difficulty: np.ndarray
    context: str
    timestamp: int
    pose: np.ndarray


def read_frames(path: Path) -> Iterator[RecordedFrame]:
    """The frames of a segment in their order; `DataError` names the file and the frame that is damaged."""
    for number, record in enumerate(read_records(path)):
        yield _frame(Message(record, f"{path}, frame {number}"))


def _frame(message: Message) -> RecordedFrame:
    # The points of all lidars.
    context, pose = message.message(1), _transform(message.message(3))
    calibrations = {calibration.integer(1): calibration for calibration in context.messages(3)}
    clouds, lasers = [], message.messages(5)
    names = [laser.integer(1) for laser in lasers]
    if not set(names) <= set(LIDARS) or len(set(names)) < len(names):
        raise DataError(f"{message.where}: lidars {names[:8]}, expected each of 1 to 5 at most once")
    for name, laser in zip(names, lasers, strict=True):
        if name not in calibrations:
            raise DataError(f"{message.where}: no calibration of lidar {name}")
        clouds += _returns(laser, calibrations[name], pose)
    if not clouds:
        raise DataError(f"{message.where}: no lidar in it, expected a frame of the perception data set")

    # The labels, in the frame of the vehicle.
    labels = [label for label in message.messages(6) if label.integer(3) in TYPES]
    return RecordedFrame(
        np.concatenate(clouds),
        np.array([_box(label, pose) for label in labels], np.float64).reshape(-1, 9),
        [TYPES[label.integer(3)] for label in labels],
        np.array([label.integer(7) for label in labels], np.int64),
        np.array([label.integer(5) for label in labels], np.int64),
        context.text(1),
        message.integer(2),
        pose,
    )


def _box(label: Message, pose: np.ndarray) -> list[float]:
    """x, y, z, length, width, height, heading, and the velocity, which is recorded in the global frame."""
    box, metadata = label.message(1), label.message(2)
    speed = np.array([metadata.number(1), metadata.number(2), 0.0]) @ pose[:3, :3]  # by the inverse rotation
    values = [*(box.number(field) for field in (1, 2, 3, 5, 4, 6, 7)), *speed[:2].tolist()]
    if not fits_float32(values):
        raise DataError(f"{label.where}: a box that is not finite")
    return values


def _transform(message: Message) -> np.ndarray:
    """float64 [4, 4] of a message Transform."""
    values = message.numbers(1)
    if values.size != 16 or not np.isfinite(values).all():
        raise DataError(f"{message.where}: a pose of {values.size} numbers, expected 16 finite ones")
    return values.reshape(4, 4)


def _returns(laser: Message, calibration: Message, pose: np.ndarray) -> list[np.ndarray]:
    """Points [N, 6] of the first and of the second return in the vehicle's frame."""
    extrinsic = _transform(calibration.message(5))
    clouds: list[np.ndarray] = []
    pixel_poses = None
    for echo in (laser.message(2), laser.message(3)):
        # The range image; the poses of its pixels stand beside the first one.
        image = _matrix(echo, 2, CHANNELS)
        if image is None:
            continue
        if not clouds:
            pixel_poses = _matrix(echo, 4, ANGLES)
        if pixel_poses is not None and pixel_poses.shape[:2] != image.shape[:2]:
            raise DataError(f"{laser.where}: poses of shape {pixel_poses.shape} for an image of shape {image.shape}")

        # Direction times range where there is a return, moved from the lidar's frame into the vehicle's.
        hit = image[..., 0] > 0
        xyz = directions(inclinations(calibration, len(image)), image.shape[1], extrinsic)[hit] * image[hit][:, :1]
        xyz = xyz @ extrinsic[:3, :3].T + extrinsic[:3, 3]
        if pixel_poses is not None:
            xyz = _as_of_frame(xyz, pixel_poses[hit], pose)
        clouds.append(np.concatenate([xyz, image[hit][:, 1:]], 1).astype(np.float32))
    return clouds


def inclinations(calibration: Message, rows: int) -> np.ndarray:
    """Radians [H] of the rows of a range image, highest first; equally spaced where the file has only their limits."""
    beams = calibration.numbers(2)
    if beams.size == rows:
        return beams[::-1]
    if beams.size:
        raise DataError(f"{calibration.where}: {beams.size} inclinations for {rows} rows")
    low, high = calibration.number(3), calibration.number(4)
    return (low + (high - low) * (np.arange(rows) + 0.5) / rows)[::-1]


def directions(beams: np.ndarray, columns: int, extrinsic: np.ndarray) -> np.ndarray:
    """Unit vectors [H, W, 3] in the lidar's frame; column 0 begins at the vehicle's back, whatever the lidar's yaw."""
    turned = np.arctan2(extrinsic[1, 0], extrinsic[0, 0])
    azimuth = (2 * (columns - np.arange(columns) - 0.5) / columns - 1) * np.pi - turned
    cos = np.cos(beams)[:, None]
    parts = (cos * np.cos(azimuth), cos * np.sin(azimuth), np.sin(beams)[:, None])
    return np.stack(np.broadcast_arrays(*parts), -1)


def _as_of_frame(points: np.ndarray, pixel_poses: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Points [N, 3] from the vehicle's frame at the time of their pixels to its frame at the time of the frame."""
    rotations = euler_rotations(pixel_poses[:, :3].astype(np.float64))
    world = (rotations @ points[..., None])[..., 0] + pixel_poses[:, 3:]
    return (world - pose[:3, 3]) @ np.linalg.inv(pose[:3, :3]).T


def euler_rotations(angles: np.ndarray) -> np.ndarray:
    """Rotations [N, 3, 3] of roll, pitch, yaw [N, 3]: about x first, then about y, then about z."""
    (sin_x, sin_y, sin_z), (cos_x, cos_y, cos_z) = np.sin(angles).T, np.cos(angles).T
    rows = [
        [cos_z * cos_y, cos_z * sin_y * sin_x - sin_z * cos_x, cos_z * sin_y * cos_x + sin_z * sin_x],
        [sin_z * cos_y, sin_z * sin_y * sin_x + cos_z * cos_x, sin_z * sin_y * cos_x - cos_z * sin_x],
        [-sin_y, cos_y * sin_x, cos_y * cos_x],
    ]
    return np.moveaxis(np.array(rows), 2, 0)


def _matrix(message: Message, field: int, channels: int) -> np.ndarray | None:
    """A compressed MatrixFloat [H, W, channels], None where it is absent."""
    # Unpack, up to a ceiling.
    compressed = message.data(field)
    if not compressed:
        return None
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(compressed, LARGEST)
    except zlib.error as error:
        raise DataError(f"{message.where}: a damaged image: {error}") from error
    if not stream.eof:
        raise DataError(f"{message.where}: an image that ends early, or has more than {LARGEST} bytes")

    # The values, and the shape they are stored with.
    matrix = Message(content, message.where)
    values, shape = matrix.numbers(1, single=True), matrix.message(2).integers(1, most=3)
    if len(shape) != 3 or shape[2] != channels or shape[0] * shape[1] * shape[2] != values.size:
        raise DataError(f"{message.where}: {values.size} values of shape {shape}, expected [H, W, {channels}]")
    return values.reshape(shape)
