"""KITTI's average precision in the trainer."""

from collections.abc import Sequence

import numpy as np

from visionseq.data.lidar.frame import LidarFrame
from visionseq.lion.detections import Detections
from visionseq.lion.evaluation.base import FrameMetric
from visionseq.metrics import KittiAP
from visionseq.metrics.detection.kitti import camera_annotations


class KittiMetric(FrameMetric):
    """KITTI's average precision, in percent, of the camera's annotations where the data set has them.

    Without a camera every object counts as easy (boxes of 50 pixels, nothing hidden), as is usual for other data sets.

    Args:
        figures: those to tell, of `KittiAP`'s; "{class}" stands for each class.
        reach: metres along x and y beyond which neither objects nor detections count; None: everything counts.
    """

    def __init__(
        self,
        figures: Sequence[str] = ("{class}_3d_loose/moderate_R40", "{class}_bev_loose/moderate_R40"),
        reach: float | None = None,
    ):
        self.figures, self.reach = tuple(figures), reach

    def begin(self, class_names: Sequence[str]) -> None:
        super().begin(class_names)
        self.metric = KittiAP(self.class_names)

    def update(self, detections: Sequence[Detections], frames: Sequence[LidarFrame]) -> None:
        found, wanted = [], []
        for boxes, frame in zip(detections, frames, strict=True):
            values, names, scores = self.arrays(boxes)
            place = {"calibration": frame.calibration, "image_shape": frame.image_shape}
            near = self._near(values)
            found.append(camera_annotations(values[near], names[near], scores[near], **place))
            if "bbox" in frame.annotations:
                wanted.append(frame.annotations)
            else:
                near = self._near(frame.boxes)
                wanted.append(camera_annotations(frame.boxes[near], frame.names[near], **place))
        self.metric.update(found, wanted)

    def compute(self) -> dict[str, float]:
        figures = self.metric.compute()
        names = [name.replace("{class}", label) for name in self.figures for label in self.class_names]
        found = {name: figures[name].item() for name in dict.fromkeys(names)}
        return {**found, "mAP": float(np.mean(list(found.values())))}

    def reset(self) -> None:
        self.metric.reset()

    def _near(self, boxes: np.ndarray) -> np.ndarray:
        if self.reach is None:
            return np.ones(len(boxes), bool)
        return (np.abs(boxes[:, :2]) <= self.reach).all(1)
