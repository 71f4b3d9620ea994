"""The calibration of a KITTI frame: lidar, rectified camera and image.

The rectified camera frame has x right, y down, z forward. A lidar point p lies at R0 (V2C [p; 1]) in it, a camera point
q at the pixel (P2[0] . [q; 1] / q_z, P2[1] . [q; 1] / q_z): the official code divides by q_z, not by the third
homogeneous component, and calls (P2[2] . [q; 1]) - P2[2, 3] the depth.

Legend: N points, columns after the third are ignored.
"""

import os
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from visionseq.errors import DataError
from visionseq.text_files import numbers_of, read_rows

# Names of the matrices in the object benchmark, then in the tracking benchmark and in exports.
KEYS = {"P2": ("P2",), "R0": ("R0_rect", "R_rect"), "V2C": ("Tr_velo_to_cam", "Tr_velo_cam")}
SHAPES = {"P2": (3, 4), "R0": (3, 3), "V2C": (3, 4)}


@dataclass(frozen=True, eq=False)
class Calibration:
    """P2 [3, 4], R0 [3, 3] and V2C [3, 4] in float32; `DataError` for other shapes, NaN, infinity or no inverse."""

    P2: np.ndarray
    R0: np.ndarray
    V2C: np.ndarray

    def __post_init__(self) -> None:
        for name, shape in SHAPES.items():
            with np.errstate(over="ignore"):
                matrix = np.asarray(getattr(self, name)).astype(np.float32)
            if matrix.shape != shape or not np.isfinite(matrix).all():
                raise DataError(f"calibration: {name} is {matrix.tolist()}, expected finite values of shape {shape}")
            object.__setattr__(self, name, matrix)
        if not _invertible(self._to_rect):
            raise DataError("calibration: R0 times V2C has no inverse, expected rotations and shifts")

    @classmethod
    def from_file(cls, path: str | os.PathLike) -> "Calibration":
        """Read `calib/NNNNNN.txt` by the names of its lines, in any order, with or without a colon behind a name.

        `DataError` names the line that is missing, or that does not hold a matrix.
        """
        lines = _lines_of(path)
        matrices = {name: _matrix(path, lines, name) for name in SHAPES}
        try:
            return cls(**matrices)
        except DataError as error:
            raise DataError(f"{path}: {error}") from None

    def lidar_to_rect(self, points: np.ndarray) -> np.ndarray:
        """Lidar points [N, >= 3] to the rectified camera frame, [N, 3] float32."""
        return _extended(points) @ self._to_rect[:, :3]

    def rect_to_lidar(self, points: np.ndarray) -> np.ndarray:
        """Points of the rectified camera frame [N, >= 3] to the lidar frame, [N, 3] float32."""
        return _extended(points) @ self._from_rect[:, :3]

    def rect_to_image(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (u, v) [N, 2] and depths [N] of camera points; for points in the camera's plane infinity or NaN."""
        projected = _extended(points) @ self.P2.T
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels = projected[:, :2] / np.asarray(points[:, 2:3], np.float32)
        return pixels, projected[:, 2] - self.P2[2, 3]

    def lidar_to_image(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (u, v) [N, 2] and depths [N] of lidar points."""
        return self.rect_to_image(self.lidar_to_rect(points))

    def image_to_rect(self, pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
        """Camera points [N, 3] of pixels [N, 2] at depths [N]: exact up to P2[2, 3], a few millimetres."""
        focal, centre = self.P2[[0, 1], [0, 1]], self.P2[:2, 2]
        x_and_y = (pixels - centre) * depth[:, None] / focal - self.P2[:2, 3] / focal
        return np.concatenate([x_and_y, depth[:, None]], 1)

    def in_view(self, points: np.ndarray, image_shape: tuple[int, int]) -> np.ndarray:
        """Mask bool [N] of lidar points that lie within an image of (height, width), hidden ones included."""
        pixels, depth = self.lidar_to_image(points)
        u, v = pixels.T
        height, width = image_shape
        return (u >= 0) & (u < width) & (v >= 0) & (v < height) & (depth >= 0)

    @cached_property
    def _to_rect(self) -> np.ndarray:
        """[4, 4] for row vectors: (R0 V2C)^T with V2C and R0 extended by a 1."""
        with np.errstate(over="ignore", invalid="ignore"):
            return (_square(self.R0) @ _square(self.V2C)).T

    @cached_property
    def _from_rect(self) -> np.ndarray:
        return np.linalg.inv(self._to_rect)


def _square(matrix: np.ndarray) -> np.ndarray:
    """[4, 4]: the matrix [3, 3] or [3, 4] extended by the identity."""
    square = np.eye(4, dtype=np.float32)
    square[:3, : matrix.shape[1]] = matrix
    return square


def _invertible(matrix: np.ndarray) -> bool:
    """Whether a matrix [4, 4] has an inverse in its own precision."""
    with np.errstate(all="ignore"):
        if not np.isfinite(matrix).all() or np.linalg.matrix_rank(matrix[:3, :3]) < 3:
            return False
        return bool(np.isfinite(np.linalg.inv(matrix)).all())


def _extended(points: np.ndarray) -> np.ndarray:
    """Homogeneous coordinates [N, 4] in float32."""
    return np.concatenate([points[:, :3], np.ones_like(points[:, :1])], 1).astype(np.float32, copy=False)


def _lines_of(path: str | os.PathLike) -> dict[str, tuple[int, list[str]]]:
    """Number and values of each line by its name: `R0_rect: 1 0 ...` and `R_rect 1 0 ...`."""
    lines: dict[str, tuple[int, list[str]]] = {}
    for number, words in read_rows(path):
        name, colon, values = " ".join(words).partition(":")
        if not colon:
            name, _, values = " ".join(words).partition(" ")
        lines[name.strip()] = number, values.split()
    return lines


def _matrix(path: str | os.PathLike, lines: dict[str, tuple[int, list[str]]], name: str) -> np.ndarray:
    keys = [key for key in KEYS[name] if key in lines]
    if not keys:
        names = ", ".join(lines)[:200] or "an empty file"
        raise DataError(f"{path}: the line {' or '.join(KEYS[name])} is missing, found {names}")
    line, words = lines[keys[0]]
    values = np.array(numbers_of(path, line, words))
    rows, columns = SHAPES[name]
    if values.size != rows * columns:
        raise DataError(f"{path}, line {line}: {keys[0]} has {values.size} values, expected {rows * columns}")
    return values.reshape(rows, columns)
