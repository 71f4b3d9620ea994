"""The metrics that `LionTask` takes: detections of frames against the labels of their data set."""

from visionseq.lion.evaluation.base import DetectionMetric
from visionseq.lion.evaluation.kitti import KittiMetric
from visionseq.lion.evaluation.nuscenes import NuScenesMetric
from visionseq.lion.evaluation.others import Argoverse2Metric, OnceMetric, WaymoMetric

__all__ = ["Argoverse2Metric", "DetectionMetric", "KittiMetric", "NuScenesMetric", "OnceMetric", "WaymoMetric"]
