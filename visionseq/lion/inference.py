"""A detector on point clouds of any source: from a file's columns to boxes in the frame of the file."""

import logging
import os
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from visionseq.data.lidar.ground import ground_level
from visionseq.data.lidar.preparation import PointPreparation, points_in_view, prepare_points
from visionseq.data.point_files import PointCloud
from visionseq.errors import CheckpointError
from visionseq.geometry import Calibration, points_in_range
from visionseq.lion.detections import Detections
from visionseq.lion.model import LionDetector
from visionseq.zoo.loading import load

PLAIN_INTENSITY = 2.0  # a cloud with a higher one does not have intensities of 0 to 1
GROUND_TOLERANCE = 0.5  # metres; smaller differences to the ground of the training data are not reported

_log = logging.getLogger("visionseq.lion")


@dataclass
class FrameInput:
    """One cloud on its way into a model.

    Fields: `points` float32 [N, C] in the cloud's frame, for pictures; `prepared` float32 [M, 1 + F] as the model takes
    them; `shift`, what was added to x, y, z on the way.
    """

    points: np.ndarray
    prepared: Tensor
    shift: tuple[float, float, float]

    @classmethod
    def of(
        cls,
        cloud: PointCloud,
        detector: LionDetector,
        shift: tuple[float, float, float] = (0.0, 0.0, 0.0),
        intensity_scale: float = 1.0,
        name: str = "the points",
        calibration: Calibration | None = None,
        image_shape: tuple[int, int] | None = None,
    ) -> "FrameInput":
        """Bring a cloud into the model's form; a column that it lacks becomes zero.

        With `calibration` and `image_shape` (height, width) only the points that the camera sees stay. The log warns of
        clouds in which a model finds little: missing columns, no points, none in its range, intensities above 1, ground
        at another height than in training.
        """
        # The columns of the model.
        preparation = PointPreparation.of(detector.preprocessing)
        seen = cloud.values
        if calibration is not None and image_shape is not None:
            seen = points_in_view(seen, calibration, image_shape)
        values, columns = seen, list(cloud.columns)
        lacking = [column for column in preparation.features if column not in columns]
        if lacking:
            _log.warning("%s has no column %s: the model sees zeros there", name, ", ".join(lacking))
            values = np.concatenate([values, np.zeros((len(values), len(lacking)), np.float32)], 1)
            columns += lacking

        # Their place and scale.
        if any(shift) or intensity_scale != 1:
            values = values.copy()
            values[:, :3] += np.array(shift, np.float32)
            if "intensity" in columns:
                values[:, columns.index("intensity")] *= np.float32(intensity_scale)
        prepared = prepare_points(values, columns, preparation)
        if prepared.dropped:
            _log.warning("%s: %d points that are not finite were left out", name, prepared.dropped)
        _warn_of_nothing(name, len(cloud.values), len(seen), prepared.points, preparation)
        _warn_of_intensity(name, prepared.points, preparation, intensity_scale)
        _warn_of_ground(name, values, preparation, shift)
        first = np.zeros((len(prepared.points), 1), np.float32)
        return cls(seen, torch.from_numpy(np.concatenate([first, prepared.points], 1)), shift)


def load_detector(name_or_path: str | os.PathLike) -> LionDetector:
    """A detector of the zoo, of a model folder or of a run, in eval mode; `CheckpointError` for another model."""
    model = load(name_or_path)
    if not isinstance(model, LionDetector):
        raise CheckpointError(f"{name_or_path} holds {type(model).__name__}, expected a detector of the room lion")
    return model


def detect_frame(detector: LionDetector, frame: FrameInput) -> Detections:
    """Boxes in the frame of the file, on the CPU."""
    device = next(detector.parameters()).device
    (detections,) = detector.detect(frame.prepared.to(device))
    detections = detections.map(Tensor.cpu)
    x, y, z = frame.shift
    return detections.shifted((-x, -y, -z)) if any(frame.shift) else detections


def _warn_of_nothing(name: str, total: int, seen: int, prepared: np.ndarray, preparation: PointPreparation) -> None:
    """Warn where nothing can be detected: no points, none in the camera's view, or none in the model's range."""
    limits = preparation.point_cloud_range
    if not total:
        _log.warning("%s has no points", name)
    elif not seen:
        _log.warning("%s: none of its %d points is in the camera's view", name, total)
    elif not points_in_range(prepared, limits, with_z=True).any():
        sides = ", ".join(f"{axis} {limits[i]:g}..{limits[3 + i]:g}" for i, axis in enumerate("xyz"))
        _log.warning("%s: none of its %d points is within the model's range %s", name, seen, sides)


def _warn_of_intensity(name: str, prepared: np.ndarray, preparation: PointPreparation, scale: float) -> None:
    """Warn of intensities above 1; a model's files do not record the range that it was trained on."""
    features = list(preparation.features)
    if not len(prepared) or "intensity" not in features or "intensity" in preparation.squashed:
        return
    top = float(prepared[:, features.index("intensity")].max())
    if top > PLAIN_INTENSITY:
        full = 255 if top / scale < 256 else 65535
        _log.warning(
            "%s: intensity up to %g: most models take 0 to 1 (those of nuScenes and Argoverse 2: 0 to 255); "
            "--intensity-scale %.3g",
            name,
            top,
            1 / full,
        )


def _warn_of_ground(
    name: str, values: np.ndarray, preparation: PointPreparation, shift: tuple[float, float, float]
) -> None:
    """Warn where the ground of a cloud, after the shift, is not as high as in the model's training data."""
    expected = preparation.ground_level
    if expected is None:
        return
    level = ground_level(values)
    if level is None or abs(level - expected) <= GROUND_TOLERANCE:
        return
    better = " ".join(f"{value:g}" for value in (*shift[:2], round(shift[2] + expected - level, 2)))
    _log.warning(
        "%s: the ground is at z = %.2f m, in the model's training data at %.2f m; --shift %s brings it there",
        name,
        level,
        expected,
        better,
    )
