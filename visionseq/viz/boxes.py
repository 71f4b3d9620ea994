"""The common parts of all pictures of boxes: a colour per class, and the lines of a box.

A box is (x, y, z, dx, dy, dz, heading) in the lidar frame: metres, centre of the volume, heading from +x to +y.
"""

from dataclasses import dataclass

import numpy as np

from visionseq.geometry import boxes_to_corners

PALETTE = (
    (255, 140, 40), (70, 170, 255), (110, 220, 90), (240, 90, 160), (250, 215, 70),
    (160, 120, 255), (60, 210, 200), (230, 80, 70), (180, 200, 130), (200, 160, 120),
)  # fmt: skip
TRUTH = (255, 255, 255)  # boxes of the ground truth
EDGES = ((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4), (0, 4), (1, 5), (2, 6), (3, 7))
FRONT = 4, 5, 1, 0  # corners of the face that the heading points out of


@dataclass
class DrawnBoxes:
    """Boxes to draw.

    Fields: `boxes` [M, >= 7], `labels` int [M], indices into `names`, `scores` [M] or None for ground truth;
    `by_class`: ground truth with the names and colours of its classes; otherwise white, as beside detections.
    """

    boxes: np.ndarray
    labels: np.ndarray
    names: tuple[str, ...]
    scores: np.ndarray | None = None
    by_class: bool = False

    def __len__(self) -> int:
        return len(self.boxes)

    @property
    def corners(self) -> np.ndarray:
        """[M, 8, 3], in the order that `EDGES` refers to."""
        return boxes_to_corners(np.asarray(self.boxes, np.float64)[:, :7].reshape(-1, 7))

    def colour(self, row: int) -> tuple[int, int, int]:
        return TRUTH if self.scores is None and not self.by_class else PALETTE[int(self.labels[row]) % len(PALETTE)]

    def text(self, row: int) -> str:
        """Name and score of a box."""
        name = self.names[int(self.labels[row])]
        return name if self.scores is None else f"{name} {self.scores[row]:.2f}"
