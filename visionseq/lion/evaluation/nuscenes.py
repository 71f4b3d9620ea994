"""nuScenes' detection score in the trainer.

Detections go to the global frame; the labels are in it from the start, as the tables have them, so that the figures are
those of the official evaluation of the submitted file also where the vehicle tilts.
"""

from collections.abc import Sequence

import numpy as np

from visionseq.data.lidar.frame import LidarFrame
from visionseq.errors import DataError
from visionseq.lion.detections import Detections
from visionseq.lion.evaluation.base import DetectionMetric, label
from visionseq.lion.global_boxes import MOST_BOXES, attributes_of, to_global
from visionseq.metrics import NuScenesNDS
from visionseq.metrics.detection.nuscenes import in_class_range

LABELS = ("translation", "size", "rotation", "velocity", "attribute")


class NuScenesMetric(DetectionMetric):
    """NDS, mAP and the five mean errors; frames come from `NuScenes`."""

    means = ("NDS", "mAP", "mATE", "mASE", "mAOE", "mAVE", "mAAE")

    def begin(self, class_names: Sequence[str]) -> None:
        super().begin(class_names)
        self.metric = NuScenesNDS(self.class_names)

    def add(self, detections: Sequence[Detections], frames: Sequence[LidarFrame]) -> None:
        predictions = [self._prediction(boxes, frame) for boxes, frame in zip(detections, frames, strict=True)]
        self.metric.update(predictions, [self._target(frame) for frame in frames])

    def compute(self) -> dict[str, float]:
        figures = self.metric.compute()
        return {name: figures[name].item() for name in self.means}

    def reset(self) -> None:
        self.metric.reset()

    def _prediction(self, detections: Detections, frame: LidarFrame) -> dict[str, np.ndarray]:
        """The best boxes of a frame in the global frame, as the metric takes them."""
        boxes, names, scores = self.arrays(detections)
        best = np.argsort(-scores, kind="stable")[:MOST_BOXES]
        attributes = attributes_of(names[best], np.linalg.norm(boxes[best, 7:9], axis=1))
        moved = to_global(boxes[best], np.array(frame.origin["lidar_to_global"]))
        return _evaluated({"name": names[best], **moved, "attribute": attributes, "score": scores[best]}, frame)

    def _target(self, frame: LidarFrame) -> dict[str, np.ndarray]:
        missing = [name for name in LABELS if name not in frame.annotations]
        if missing:
            raise DataError(f"frame {frame.frame_id}: no {', '.join(missing)} in its annotations, expected `NuScenes`")
        return _evaluated({"name": label(frame, "names"), **{name: frame.annotations[name] for name in LABELS}}, frame)


def _evaluated(boxes: dict[str, np.ndarray], frame: LidarFrame) -> dict[str, np.ndarray]:
    """The boxes that count: within the range of their class, and in no bicycle rack."""
    return in_class_range(boxes, frame.origin["ego_translation"], frame.annotations.get("bicycle_racks"))
