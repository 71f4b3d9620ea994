"""One frame of a lidar data set, as every reader returns it: points, boxes and further facts for the evaluation."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np

from visionseq.geometry.kitti_calibration import Calibration

UNKNOWN = -1  # in `num_points` and `difficulty`


class Objects(NamedTuple):
    """The objects of a frame: `boxes` float32 [M, 7 or 9] and `names` str [M] of their classes."""

    boxes: np.ndarray
    names: np.ndarray


@dataclass
class LidarFrame:
    """A point cloud with its boxes, in the lidar frame: metres, z up, headings counter-clockwise from +x.

    Fields: `frame_id` names the frame within its data set; `points` float32 [N, 3 + C], columns as the data set's
    `features` say; `boxes` float32 [M, 7], or [M, 9] with velocity (x, y, z of the centre, dx, dy, dz, heading[, vx,
    vy]), `names` str [M] of their classes, `num_points` int64 [M] and `difficulty` int64 [M], -1 where not known; all
    of these are None for a frame without labels, and then `missing_labels` is the label file that was looked for.
    `annotations` holds further arrays of the data set, as its metric takes them, `origin` what else is known of the
    recording (tokens, poses, files) as plain values.
    """

    frame_id: str
    points: np.ndarray
    boxes: np.ndarray | None = None
    names: np.ndarray | None = None
    num_points: np.ndarray | None = None
    difficulty: np.ndarray | None = None
    calibration: Calibration | None = None
    image_shape: tuple[int, int] | None = None
    road_plane: np.ndarray | None = None
    annotations: dict[str, np.ndarray] = field(default_factory=dict)
    origin: dict[str, Any] = field(default_factory=dict)
    missing_labels: Path | None = None

    @property
    def objects(self) -> Objects | None:
        """Boxes and names, which a frame has together; None for a frame without labels."""
        return None if self.boxes is None or self.names is None else Objects(self.boxes, self.names)


class LidarFrames(Protocol):
    """A map-style data set of frames; it opens files when asked, so it travels to workers by pickle.

    Attributes:
        class_names: the classes of the data set's own labels.
        features: names of the columns of `points`, beginning with x, y, z.
        frame_ids: the names of all frames, in order.
    """

    frame_ids: list[str]

    @property
    def class_names(self) -> tuple[str, ...]: ...

    @property
    def features(self) -> tuple[str, ...]: ...

    def __len__(self) -> int: ...

    def frame(self, index: int) -> LidarFrame:
        """Frame `index`; `DataError` names the file that cannot be read, and where in it."""

    def labels(self, index: int) -> LidarFrame:
        """Frame `index` without its points: `points` is empty [0, 3 + C]. Statistics and balancing use this."""
