"""KITTI's average precision in the trainer."""

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np

from visionseq.data.lidar.frame import LidarFrame
from visionseq.data.lidar.kitti_labels import DONT_CARE, lidar_boxes
from visionseq.errors import ConfigError
from visionseq.lion.detections import Detections
from visionseq.lion.evaluation.base import DetectionMetric
from visionseq.metrics import KittiAP
from visionseq.metrics.detection.kitti import camera_annotations


class KittiMetric(DetectionMetric):
    """KITTI's average precision, in percent, of the camera's annotations where the data set has them.

    Without a camera every object counts as easy (boxes of 50 pixels, nothing hidden), as is usual for other data sets.
    "mAP" is the mean of the first of `figures` over the classes.

    Args:
        figures: those to tell, of `KittiAP`'s; "{class}" stands for each class.
        reach: metres along x and y beyond which neither objects nor detections count; None: everything counts.
    """

    def __init__(
        self,
        figures: Sequence[str] = ("{class}_3d_loose/moderate_R40", "{class}_bev_loose/moderate_R40"),
        reach: float | None = None,
    ):
        if not figures:
            raise ConfigError("figures: none, expected one such as {class}_3d/moderate_R40")
        self.figures, self.reach = tuple(figures), reach

    def begin(self, class_names: Sequence[str]) -> None:
        super().begin(class_names)
        self.metric = KittiAP(self.class_names)
        known = self.metric.figure_names()
        for name in self._names(*self.figures):
            if name not in known:
                near = ", ".join(get_close_matches(name, known, cutoff=0))
                raise ConfigError(f"figures: no {name!r}, expected such as {near}")

    def add(self, detections: Sequence[Detections], frames: Sequence[LidarFrame]) -> None:
        found, wanted = [], []
        for boxes, frame in zip(detections, frames, strict=True):
            values, names, scores = self.arrays(boxes)
            place = {"calibration": frame.calibration, "image_shape": frame.image_shape}
            near = self._near(values)
            found.append(camera_annotations(values[near], names[near], scores[near], **place))
            if "bbox" in frame.annotations:
                wanted.append(self._near_annotations(frame))
            else:
                near = self._near(frame.boxes)
                wanted.append(camera_annotations(frame.boxes[near], frame.names[near], **place))
        self.metric.update(found, wanted)

    def compute(self) -> dict[str, float]:
        figures = self.metric.compute()
        found = {name: figures[name].item() for name in self._names(*self.figures)}
        return {**found, "mAP": float(np.mean([found[name] for name in self._names(self.figures[0])]))}

    def reset(self) -> None:
        self.metric.reset()

    def _names(self, *figures: str) -> list[str]:
        """Of these figures for every class, each once."""
        names = [figure.replace("{class}", label) for figure in figures for label in self.class_names]
        return list(dict.fromkeys(names))

    def _near_annotations(self, frame: LidarFrame) -> dict[str, np.ndarray]:
        """Without the objects out of reach; regions of no interest have no place in space and stay."""
        if self.reach is None:
            return frame.annotations
        # Not by `frame.boxes`, which lack the regions and what the reader leaves out.
        kept = self._near(lidar_boxes(frame.annotations, frame.calibration))
        kept |= frame.annotations["name"] == DONT_CARE
        return {name: values[kept] for name, values in frame.annotations.items()}

    def _near(self, boxes: np.ndarray) -> np.ndarray:
        if self.reach is None:
            return np.ones(len(boxes), bool)
        return (np.abs(boxes[:, :2]) <= self.reach).all(1)
