"""A detector on point clouds of any source: the way from a file's columns to boxes in the file's own frame."""

import logging
import os
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from visionseq.data.lidar.preparation import PointPreparation, prepare_points
from visionseq.data.point_files import PointCloud
from visionseq.errors import CheckpointError
from visionseq.lion.detections import Detections
from visionseq.lion.model import LionDetector
from visionseq.zoo.loading import load

_log = logging.getLogger("visionseq.lion")


@dataclass
class FrameInput:
    """One cloud on its way into a model.

    Fields: `points` float32 [N, C] in the file's frame, for pictures; `prepared` float32 [M, 1 + F] as the model takes
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
    ) -> "FrameInput":
        """Bring a cloud into the model's form; a column that it lacks becomes zero, which is said."""
        preparation = PointPreparation.of(detector.preprocessing)
        values, columns = cloud.values, list(cloud.columns)
        lacking = [column for column in preparation.features if column not in columns]
        if lacking:
            _log.warning("%s has no column %s: the model sees zeros there", name, ", ".join(lacking))
            values = np.concatenate([values, np.zeros((len(values), len(lacking)), np.float32)], 1)
            columns += lacking
        if any(shift) or intensity_scale != 1:
            values = values.copy()
            values[:, :3] += np.float32(shift)
            if "intensity" in columns:
                values[:, columns.index("intensity")] *= np.float32(intensity_scale)
        prepared = prepare_points(values, columns, preparation)
        if prepared.dropped:
            _log.warning("%s: %d points that are not finite were left out", name, prepared.dropped)
        first = np.zeros((len(prepared.points), 1), np.float32)
        return cls(cloud.values, torch.from_numpy(np.concatenate([first, prepared.points], 1)), shift)


def load_detector(name_or_path: str | os.PathLike) -> LionDetector:
    """A detector of the zoo, of a model folder or of a run, in eval mode; `CheckpointError` for another model."""
    model = load(name_or_path)
    if not isinstance(model, LionDetector):
        raise CheckpointError(f"{name_or_path} is a {type(model).__name__}, expected a detector of the room lion")
    return model


def detect_frame(detector: LionDetector, frame: FrameInput) -> Detections:
    """Boxes in the frame of the file, on the CPU."""
    device = next(detector.parameters()).device
    (found,) = detector.detect(frame.prepared.to(device))
    back = (-frame.shift[0], -frame.shift[1], -frame.shift[2])
    return found.map(Tensor.cpu).shifted(back) if any(frame.shift) else found.map(Tensor.cpu)
