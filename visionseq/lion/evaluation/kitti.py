"""KITTI's average precision in the trainer."""

from collections.abc import Sequence
from difflib import get_close_matches

import numpy as np

from visionseq.data.lidar.frame import LidarFrame
from visionseq.data.lidar.kitti_labels import DONT_CARE, lidar_boxes
from visionseq.errors import ConfigError
from visionseq.lion.detections import Detections
from visionseq.lion.evaluation.base import DetectionMetric, label
from visionseq.metrics import KittiAP
from visionseq.metrics.detection.kitti import camera_annotations


class KittiMetric(DetectionMetric):
    """KITTI's average precision, in percent, of the camera's annotations where the data set has them.

    Without a camera every object counts as easy (image boxes of 50 pixels, nothing hidden).
    "mAP" is the mean of the first of `figures` over the classes.

    Args:
        figures: which of `KittiAP`'s to report; "{class}" stands for each class.
        reach: metres along x and y beyond which neither objects nor detections count; None: everything counts.
    """

    def __init__(
        self,
        figures: Sequence[str] = ("{class}_3d_loose/moderate_R40", "{class}_bev_loose/moderate_R40"),
        reach: float | None = None,
    ):
        if not figures:
            raise ConfigError("figures: empty, expected one such as {class}_3d/moderate_R40")
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
        predictions, targets = [], []
        for boxes, frame in zip(detections, frames, strict=True):
            values, names, scores = self.arrays(boxes)
            camera = (frame.calibration, frame.image_shape)
            near = self._near(values)
            predictions.append(camera_annotations(values[near], names[near], scores[near], *camera))
            if "bbox" in frame.annotations:
                targets.append(self._near_annotations(frame))
            else:
                boxes_of_frame, names = label(frame, "boxes"), label(frame, "names")
                near = self._near(boxes_of_frame)
                targets.append(camera_annotations(boxes_of_frame[near], names[near], None, *camera))
        self.metric.update(predictions, targets)

    def compute(self) -> dict[str, float]:
        figures = self.metric.compute()
        chosen = {name: figures[name].item() for name in self._names(*self.figures)}
        return {**chosen, "mAP": float(np.mean([chosen[name] for name in self._names(self.figures[0])]))}

    def reset(self) -> None:
        self.metric.reset()

    def _names(self, *figures: str) -> list[str]:
        """The names of these figures for every class, each once."""
        names = [figure.replace("{class}", label) for figure in figures for label in self.class_names]
        return list(dict.fromkeys(names))

    def _near_annotations(self, frame: LidarFrame) -> dict[str, np.ndarray]:
        """The annotations within reach; regions of no interest have no place in space and stay."""
        if self.reach is None:
            return frame.annotations
        # `frame.boxes` lack the regions, and what the reader leaves out.
        assert frame.calibration is not None  # annotations in an image come with it
        kept = self._near(lidar_boxes(frame.annotations, frame.calibration))
        kept |= frame.annotations["name"] == DONT_CARE
        return {name: values[kept] for name, values in frame.annotations.items()}

    def _near(self, boxes: np.ndarray) -> np.ndarray:
        if self.reach is None:
            return np.ones(len(boxes), bool)
        return (np.abs(boxes[:, :2]) <= self.reach).all(1)
