"""The official metrics of five driving data sets, exact and on any CPU: KITTI, nuScenes, Waymo, Argoverse 2, ONCE.

Each is a torchmetrics `Metric` of frames: `update(predictions, targets)` with one dict of arrays for each frame of
both, `compute()` for figures by name. Each class documents what its dicts hold.
"""

from visionseq.metrics.detection.argoverse2 import Argoverse2AP
from visionseq.metrics.detection.kitti import KittiAP
from visionseq.metrics.detection.nuscenes import NuScenesNDS
from visionseq.metrics.detection.once import OnceAP
from visionseq.metrics.detection.waymo import WaymoAP

__all__ = ["Argoverse2AP", "KittiAP", "NuScenesNDS", "OnceAP", "WaymoAP"]
