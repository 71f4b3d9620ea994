"""A batch of point clouds of different sizes, with the sample's number in the first column of the points."""

from dataclasses import dataclass, field

from torch import Tensor

from visionseq.data.batch import Batch
from visionseq.data.lidar.frame import LidarFrame


@dataclass
class PointCloudBatch(Batch):
    """Point clouds with their boxes; a sample may have no points, and no boxes.

    Fields: `points` float32 [N, 1 + F], the sample and then the features; `gt_boxes` float32 [B, M, 8 or 10], boxes
    with the class (from 1) last, rows of zeros as padding, or None without labels; `index` int64 [B], the place of each
    sample in its data set; `frame_ids`; `frames`, labels and further facts for a metric, without points; `dropped`, how
    many points of the samples were not finite.
    """

    unit = "frames"

    points: Tensor
    gt_boxes: Tensor | None
    index: Tensor
    frame_ids: list[str] = field(default_factory=list)
    frames: list[LidarFrame] = field(default_factory=list)
    dropped: int = 0

    @property
    def batch_size(self) -> int:
        return len(self.index)

    def __len__(self) -> int:
        return len(self.index)
