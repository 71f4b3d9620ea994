"""The metrics of Waymo, ONCE and Argoverse 2 in the trainer; boxes stay in the frame of the points."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from visionseq.data.lidar.frame import LidarFrame
from visionseq.geometry.rotations import upright_quaternions
from visionseq.lion.detections import Detections
from visionseq.lion.evaluation.base import DetectionMetric, label
from visionseq.metrics import Argoverse2AP, OnceAP, WaymoAP


class _Wrapped(DetectionMetric):
    """A metric whose frames only need their arrays renamed; it reports the figures named in `means`."""

    metric: Any
    means: tuple[str, ...]

    def add(self, detections: Sequence[Detections], frames: Sequence[LidarFrame]) -> None:
        targets = [self.target(frame) for frame in frames]
        predictions = [self.prediction(*self.arrays(boxes)) for boxes in detections]
        self.metric.update(predictions, targets)

    def compute(self) -> dict[str, float]:
        figures = self.metric.compute()
        return {name: figures[name].item() for name in self.means}

    def reset(self) -> None:
        self.metric.reset()

    @abstractmethod
    def target(self, frame: LidarFrame) -> dict[str, np.ndarray]:
        """The labels of a frame as the metric takes them."""

    @abstractmethod
    def prediction(self, boxes: np.ndarray, names: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
        """The detections of a frame as the metric takes them."""


class WaymoMetric(_Wrapped):
    """Waymo's mAP and mAPH of both levels, and of each type at level 2, in [0, 1]."""

    def begin(self, class_names: Sequence[str]) -> None:
        super().begin(class_names)
        self.metric = WaymoAP(self.class_names)
        types = tuple(f"{name}/L2/{kind}" for name in self.class_names for kind in ("AP", "APH"))
        self.means = ("mAP/L1", "mAPH/L1", "mAP/L2", "mAPH/L2", *types)

    def target(self, frame: LidarFrame) -> dict[str, np.ndarray]:
        facts = {"difficulty": label(frame, "difficulty"), "num_points": label(frame, "num_points")}
        return {"name": label(frame, "names"), "box": label(frame, "boxes")[:, :7], **facts}

    def prediction(self, boxes: np.ndarray, names: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
        return {"name": names, "box": boxes[:, :7], "score": scores, "no_label_zone": np.zeros(len(names))}


class OnceMetric(_Wrapped):
    """ONCE's mAP, overall and by distance, in percent."""

    means = ("mAP/overall", "mAP/0-30m", "mAP/30-50m", "mAP/50m-inf")

    def begin(self, class_names: Sequence[str]) -> None:
        super().begin(class_names)
        self.metric = OnceAP(self.class_names)

    def target(self, frame: LidarFrame) -> dict[str, np.ndarray]:
        return {"name": label(frame, "names"), "box": label(frame, "boxes")[:, :7]}

    def prediction(self, boxes: np.ndarray, names: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
        return {"name": names, "box": boxes[:, :7], "score": scores}


class Argoverse2Metric(_Wrapped):
    """Argoverse 2's mAP, mean errors and CDS, without the region of interest of the maps.

    Args:
        max_range: metres; the benchmark has 150, LION's published figures 200.
    """

    means = ("mAP", "mATE", "mASE", "mAOE", "mCDS")

    def __init__(self, max_range: float = 150.0):
        self.max_range = max_range

    def begin(self, class_names: Sequence[str]) -> None:
        super().begin(class_names)
        self.metric = Argoverse2AP(self.class_names, self.max_range)

    def target(self, frame: LidarFrame) -> dict[str, np.ndarray]:
        cuboids = _cuboids(label(frame, "boxes"), label(frame, "names"))
        return {**cuboids, "num_points": label(frame, "num_points")}

    def prediction(self, boxes: np.ndarray, names: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
        return {**_cuboids(boxes, names), "score": scores}


def _cuboids(boxes: np.ndarray, names: np.ndarray) -> dict[str, np.ndarray]:
    rotation = upright_quaternions(boxes[:, 6])
    return {"name": names, "translation": boxes[:, :3], "size": boxes[:, 3:6], "rotation": rotation}
