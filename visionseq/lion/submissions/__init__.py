"""Detections in the form in which the benchmarks take them: one class for each data set."""

from visionseq.lion.submissions.argoverse2 import Argoverse2Submission
from visionseq.lion.submissions.base import Submission, frame_file
from visionseq.lion.submissions.kitti import KittiSubmission
from visionseq.lion.submissions.nuscenes import NuScenesSubmission
from visionseq.lion.submissions.waymo import WaymoSubmission

__all__ = [
    "Argoverse2Submission",
    "KittiSubmission",
    "NuScenesSubmission",
    "Submission",
    "WaymoSubmission",
    "frame_file",
]
