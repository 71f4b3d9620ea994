"""Which of the decoded boxes of one frame stay."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.geometry import multi_class_nms, nms
from visionseq.lion.detections import Detections

KINDS = ("class_agnostic", "multi_class")


@dataclass
class Suppression:
    """Non-maximum suppression of a head.

    Args:
        kind: all boxes together whatever their class, or class by class.
        thresholds: largest IoU seen from above of two boxes that stay.
        pre: how many boxes, the best ones, take part.
        post: how many boxes stay at most.
        swap_dims: exchange dx and dy first, as the published Waymo figures were measured.

    Class by class, `thresholds`, `pre` and `post` may have one value for each class; otherwise they have one value.
    `ConfigError` names a value of the wrong number or kind.
    """

    kind: Literal["class_agnostic", "multi_class"] = "class_agnostic"
    thresholds: float | Sequence[float] = (0.01,)
    pre: int | Sequence[int] = 4096
    post: int | Sequence[int] = 500
    swap_dims: bool = False

    def __post_init__(self):
        if self.kind not in KINDS:
            raise ConfigError(f"nms: kind {self.kind!r}, expected {' or '.join(KINDS)}")
        self._limits = {name: _values(name, getattr(self, name)) for name in ("thresholds", "pre", "post")}
        for name, values in self._limits.items():
            if self.kind == "class_agnostic" and len(set(values)) > 1:
                raise ConfigError(f"nms: {name} {values}, expected one value where boxes of all classes compete")

    def check_classes(self, classes: int) -> None:
        """`ConfigError` unless every limit has one value, or one for each class of the detector."""
        for name, values in self._limits.items():
            if len(values) not in (1, classes):
                raise ConfigError(
                    f"nms: {len(values)} {name}, expected one, or one for each of {classes} classes: {values}"
                )

    def __call__(self, detections: Detections) -> Detections:
        kept = self.rows(detections.boxes, detections.scores, detections.labels - 1)
        return detections.map(lambda values: values[kept])

    def rows(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Tensor:
        """The rows that stay, best first (class after class, where class by class)."""
        if not len(boxes):
            return torch.zeros(0, dtype=torch.int64, device=boxes.device)
        if self.kind == "class_agnostic":
            threshold, before, after = (values[0] for values in self._limits.values())
            return nms(boxes, scores, threshold, before, after, swap_dims=self.swap_dims)
        count = max(int(classes.max()) + 1, *map(len, self._limits.values()))
        self.check_classes(count)
        limits = [values * count if len(values) == 1 else values for values in self._limits.values()]
        thresholds, pre, post = limits
        return multi_class_nms(boxes, scores, classes, thresholds, pre, post, swap_dims=self.swap_dims)


def _values(name: str, limit: Any) -> list[Any]:
    """One value or a list of them, as a list; `ConfigError` for values out of range."""
    values = list(limit) if isinstance(limit, list | tuple) else [limit]
    whole = name != "thresholds"
    for value in values:
        number = isinstance(value, int) or (isinstance(value, float) and not whole)
        if not number or isinstance(value, bool) or not (value >= 1 if whole else 0 <= value <= 1):
            expected = "whole numbers from 1" if whole else "numbers from 0 to 1"
            raise ConfigError(f"nms: {name} {limit}, expected {expected}")
    if not values:
        raise ConfigError(f"nms: {name} is empty, expected one value, or one for each class")
    return values
