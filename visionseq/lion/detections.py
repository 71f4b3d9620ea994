"""The boxes that a detector reports for one frame."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Detections:
    """Boxes of one frame.

    Fields: `boxes` [N, 7], or [N, 9] with velocity (x, y, z of the centre, dx, dy, dz, heading[, vx, vy]); `scores` [N]
    in [0, 1]; `labels` int64 [N], 1 for the first class.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.boxes)

    def map(self, fn: Callable[[Tensor], Tensor]) -> "Detections":
        """The results of `fn` on each field, which must keep the rows together."""
        return Detections(fn(self.boxes), fn(self.scores), fn(self.labels))

    def above(self, threshold: float) -> "Detections":
        """The boxes with at least this score."""
        kept = self.scores >= threshold
        return self.map(lambda values: values[kept])

    def shifted(self, by: tuple[float, float, float]) -> "Detections":
        """The boxes moved by x, y, z metres."""
        boxes = self.boxes.clone()
        boxes[:, :3] += boxes.new_tensor(by)
        return Detections(boxes, self.scores, self.labels)

    @staticmethod
    def cat(parts: list["Detections"]) -> "Detections":
        """The boxes of all parts, one part after the other."""
        return Detections(*(torch.cat([getattr(p, name) for p in parts]) for name in ("boxes", "scores", "labels")))
