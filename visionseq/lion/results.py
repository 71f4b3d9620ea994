"""Detections as files: JSON in the lidar frame, and KITTI's result lines in the camera frame.

`visionseq detect` and `visionseq predict` use the same writer, so their files can be compared byte by byte. Numbers are
written as the shortest decimals that give the same float32 back.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from visionseq.errors import ConfigError
from visionseq.files import atomic_write, write_json
from visionseq.geometry import (
    Calibration,
    camera_corners,
    image_boxes,
    lidar_to_camera,
    limit_period,
    observation_angle,
)
from visionseq.lion.detections import Detections
from visionseq.viz import DrawnBoxes

CONVENTION = (
    "x, y, z of the centre, dx along the heading, dy, dz in metres, heading in radians from +x to +y, in [-pi, pi); "
    "in the frame of the file (most: x forward, y left, z up; nuScenes: x right, y forward)"
)
NO_IMAGE = (-1.0, -1.0, -1.0, -1.0)  # left, top, right, bottom of a box without a camera
NOMINAL = Calibration(  # the camera's axes in the lidar's place, where no calibration is known
    P2=np.eye(3, 4), R0=np.eye(3), V2C=np.array([[0.0, -1, 0, 0], [0, 0, -1, 0], [1, 0, 0, 0]])
)


def write_detections(
    path: str | os.PathLike, detections: Detections, class_names: Sequence[str], facts: dict[str, Any]
) -> None:
    """Write a JSON object: `facts` (frame, model ...), the convention, and `boxes` by falling score."""
    order = detections.scores.argsort(descending=True, stable=True).tolist()
    boxes = detections.boxes.float().cpu().numpy().copy()
    boxes[:, 6] = limit_period(boxes[:, 6])  # heads count from where the official code does
    scores = detections.scores.float().cpu().numpy()
    entries = []
    for row in order:
        entry: dict[str, Any] = {"class": class_names[int(detections.labels[row]) - 1], "score": _short(scores[row])}
        entry["box"] = [_short(value) for value in boxes[row, :7]]
        if boxes.shape[1] > 7:
            entry["velocity"] = [_short(value) for value in boxes[row, 7:9]]
        entries.append(entry)
    write_json(path, {**facts, "convention": CONVENTION, "boxes": entries})


def write_kitti(
    path: str | os.PathLike,
    detections: Detections,
    class_names: Sequence[str],
    calibration: Calibration | None = None,
    image_shape: tuple[int, int] | None = None,
) -> None:
    """Write `kitti_lines` to a file, atomically."""
    text = kitti_lines(detections, class_names, calibration, image_shape)
    with atomic_write(path, "w") as file:
        file.write(text)


def kitti_lines(
    detections: Detections,
    class_names: Sequence[str],
    calibration: Calibration | None = None,
    image_shape: tuple[int, int] | None = None,
) -> str:
    """KITTI's result lines: type, -1, -1, alpha, bbox, h w l, x y z (camera, bottom centre), ry, score.

    Without a calibration the camera sits in the lidar, and only the axes are exchanged; the image box is then -1. It is
    -1 as well for a box that reaches behind the camera. With `image_shape` (height, width) image boxes are cut to the
    image, and those outside are -1. `ConfigError` for a class whose name has a space, which would shift the columns.
    """
    # The boxes in the camera frame, and in the image.
    boxes = detections.boxes.double().cpu().numpy()[:, :7]
    camera = lidar_to_camera(boxes, calibration or NOMINAL)
    camera[:, 6] = limit_period(camera[:, 6], 0.5, 2 * np.pi)
    alpha = limit_period(observation_angle(boxes, camera), 0.5, 2 * np.pi)
    images = np.tile(NO_IMAGE, (len(boxes), 1))
    if calibration is not None and len(boxes):
        images = _image_boxes(camera, calibration, image_shape)

    # A line for each.
    lines = []
    for row, (x, y, z, length, height, width, ry) in enumerate(camera.tolist()):
        name = class_names[int(detections.labels[row]) - 1]
        if not name or any(mark.isspace() for mark in name):
            raise ConfigError(f"class {name!r}: KITTI's lines need names without spaces")
        values = (alpha[row], *images[row], height, width, length, x, y, z, ry)
        lines.append(f"{name} -1 -1 {' '.join(f'{value:.4f}' for value in values)} {detections.scores[row]:.4f}\n")
    return "".join(lines)


def _image_boxes(camera: np.ndarray, calibration: Calibration, image_shape: tuple[int, int] | None) -> np.ndarray:
    """Image boxes [N, 4] of camera boxes [N, 7], -1 for those outside; what is behind the camera would be mirrored."""
    images = image_boxes(camera, calibration, image_shape)
    seen = (camera_corners(camera)[:, :, 2] > 0).all(1) & (images[:, :2] < images[:, 2:]).all(1)
    images[~seen] = NO_IMAGE
    return images


def _short(value: np.floating) -> float:
    return float(str(np.float32(value)))


def drawn_boxes(detections: Detections, class_names: Sequence[str]) -> DrawnBoxes:
    """Detections as the pictures take them."""
    labels = detections.labels.cpu().numpy() - 1
    boxes, scores = detections.boxes.float().cpu().numpy(), detections.scores.float().cpu().numpy()
    return DrawnBoxes(boxes, labels, tuple(class_names), scores)
