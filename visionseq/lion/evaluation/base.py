"""What `LionTask` measures: detections of frames against the labels that came with them."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np

from visionseq.data.lidar.frame import LidarFrame
from visionseq.errors import DataError
from visionseq.lion.detections import Detections

Arrays = tuple[np.ndarray, np.ndarray, np.ndarray]


class DetectionMetric(ABC):
    """Collects frames and computes figures by name; `class_names` are those of the detector's labels."""

    class_names: tuple[str, ...] = ()

    def begin(self, class_names: Sequence[str]) -> None:
        """Called once, before the first frame."""
        self.class_names = tuple(class_names)

    def update(self, detections: Sequence[Detections], frames: Sequence[LidarFrame]) -> None:
        """Add frames; `DataError` names one without labels."""
        for frame in frames:
            if frame.boxes is None:
                raise DataError(f"frame {frame.frame_id}: no labels; validate and test need them, predict needs none")
        self.add(detections, frames)

    @abstractmethod
    def add(self, detections: Sequence[Detections], frames: Sequence[LidarFrame]) -> None:
        """Add frames, all of which have labels."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Figures over all frames since the last `reset`."""

    @abstractmethod
    def reset(self) -> None:
        """Forget all frames."""

    def arrays(self, detections: Detections) -> Arrays:
        """Boxes float64 [N, 7 or 9], names str [N] and scores float64 [N]."""
        labels = detections.labels.cpu().numpy().tolist()
        names = np.array([self.class_names[label - 1] for label in labels], dtype=np.str_)
        return detections.boxes.double().cpu().numpy(), names, detections.scores.double().cpu().numpy()


def label(frame: LidarFrame, field: Literal["boxes", "names", "num_points", "difficulty"]) -> np.ndarray:
    """One array of a frame's labels; `DataError` where the frame does not have it."""
    values: np.ndarray | None = getattr(frame, field)
    if values is None:
        raise DataError(f"frame {frame.frame_id}: no {field}")
    return values
