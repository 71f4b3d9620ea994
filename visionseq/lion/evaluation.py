"""What `LionTask` measures: detections of frames against the labels that came with them."""

from abc import ABC, abstractmethod

from visionseq.data.lidar.frame import LidarFrame
from visionseq.lion.detections import Detections


class FrameMetric(ABC):
    """Collects frames, then tells figures by name."""

    class_names: tuple[str, ...] = ()

    def begin(self, class_names: list[str]) -> None:
        """Called once, with the names of the detector's labels."""
        self.class_names = tuple(class_names)

    @abstractmethod
    def update(self, detections: list[Detections], frames: list[LidarFrame]) -> None:
        """Add frames."""

    @abstractmethod
    def compute(self) -> dict[str, float]:
        """Figures over all frames since the last `reset`."""

    @abstractmethod
    def reset(self) -> None:
        """Forget all frames."""
