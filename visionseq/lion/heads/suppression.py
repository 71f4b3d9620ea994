"""Which of the decoded boxes of one frame stay."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.geometry import multi_class_nms, nms
from visionseq.lion.detections import Detections


@dataclass
class Suppression:
    """Non-maximum suppression of a head.

    Args:
        kind: whatever the class, or class by class.
        thresholds: largest IoU seen from above of two boxes that stay; one, or one for each class.
        pre: boxes that take part, the best ones (of each class, where class by class).
        post: boxes that stay at most.
        swap_dims: with dx and dy exchanged, as the published Waymo figures were measured.
    """

    kind: Literal["class_agnostic", "multi_class"] = "class_agnostic"
    thresholds: tuple[float, ...] = (0.01,)
    pre: int = 4096
    post: int = 500
    swap_dims: bool = False

    def __post_init__(self):
        self.thresholds = tuple(self.thresholds)
        if self.kind not in ("class_agnostic", "multi_class"):
            raise ConfigError(f"nms: kind {self.kind!r}, expected class_agnostic or multi_class")

    def __call__(self, found: Detections) -> Detections:
        kept = self.rows(found.boxes, found.scores, found.labels - 1)
        return found.map(lambda values: values[kept])

    def rows(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
        """The rows that stay, best first (class after class, where class by class)."""
        if not len(boxes):
            return torch.zeros(0, dtype=torch.int64, device=boxes.device)
        if self.kind == "class_agnostic":
            return nms(boxes, scores, self.thresholds[0], self.pre, self.post, swap_dims=self.swap_dims)
        count, thresholds = int(classes.max()) + 1, self.thresholds
        if len(thresholds) == 1:
            thresholds *= count
        elif len(thresholds) < count:
            raise ConfigError(f"nms: {len(thresholds)} thresholds, expected one, or one for each of {count} classes")
        return multi_class_nms(boxes, scores, classes, thresholds, self.pre, self.post, swap_dims=self.swap_dims)
