"""KITTI's detection submission: a folder with one text file for each frame, in the camera frame."""

import os
from collections.abc import Sequence
from pathlib import Path

from visionseq.data.lidar.frame import LidarFrame
from visionseq.errors import DataError
from visionseq.lion.detections import Detections
from visionseq.lion.results import kitti_lines
from visionseq.lion.submissions.base import Submission


class KittiSubmission(Submission):
    """Writes data/000123.txt and the like; frames come from `Kitti`, with their calibration and size of the image."""

    result, suffix = "data", ".txt"

    def part(self, detections: Detections, frame: LidarFrame) -> bytes:
        if frame.calibration is None:
            raise DataError(f"frame {frame.frame_id}: no calibration, which KITTI's lines need")
        return kitti_lines(detections, self.class_names, frame.calibration, frame.image_shape).encode()

    def join(self, parts: Sequence[Path], result: Path) -> None:
        result.mkdir(exist_ok=True)
        for part in parts:
            os.replace(part, result / part.name)
