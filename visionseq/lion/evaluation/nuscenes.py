"""nuScenes' detection score in the trainer: boxes go to the global frame, attributes follow from class and speed."""

from collections.abc import Sequence

import numpy as np

from visionseq.data.lidar.frame import LidarFrame
from visionseq.lion.detections import Detections
from visionseq.lion.evaluation.base import FrameMetric
from visionseq.metrics import NuScenesNDS
from visionseq.metrics.detection.nuscenes import in_class_range

MOST_BOXES = 500  # of a frame
MOVING = 0.2  # metres per second
CYCLES, VEHICLES = ("bicycle", "motorcycle"), ("car", "truck", "bus", "trailer", "construction_vehicle")
SLOW = {"pedestrian": "pedestrian.standing", "bus": "vehicle.stopped"}
USUAL = {
    **dict.fromkeys(VEHICLES, "vehicle.parked"),
    **dict.fromkeys(CYCLES, "cycle.without_rider"),
    "pedestrian": "pedestrian.moving",
}


class NuScenesMetric(FrameMetric):
    """NDS, mAP and the five mean errors; frames come from `NuScenes`."""

    means = ("NDS", "mAP", "mATE", "mASE", "mAOE", "mAVE", "mAAE")

    def begin(self, class_names: Sequence[str]) -> None:
        super().begin(class_names)
        self.metric = NuScenesNDS(self.class_names)

    def add(self, detections: Sequence[Detections], frames: Sequence[LidarFrame]) -> None:
        predictions, targets = [], []
        for found, frame in zip(detections, frames, strict=True):
            pose, ego = np.array(frame.origin["lidar_to_global"]), frame.origin["ego_translation"]
            racks = frame.annotations.get("bicycle_racks")
            boxes, names, scores = self.arrays(found)
            best = np.argsort(-scores, kind="stable")[:MOST_BOXES]
            given = global_boxes(boxes[best], names[best], pose)
            given["attribute"] = attributes_of(names[best], np.linalg.norm(boxes[best, 7:9], axis=1))
            predictions.append(in_class_range({**given, "score": scores[best]}, ego, racks))
            wanted = global_boxes(frame.boxes, frame.names, pose)
            wanted["attribute"] = frame.annotations["attribute"]
            targets.append(in_class_range(wanted, ego, racks))
        self.metric.update(predictions, targets)

    def compute(self) -> dict[str, float]:
        figures = self.metric.compute()
        return {name: figures[name].item() for name in self.means}

    def reset(self) -> None:
        self.metric.reset()


def global_boxes(boxes: np.ndarray, names: np.ndarray, pose: np.ndarray) -> dict[str, np.ndarray]:
    """Boxes [M, 9] of the lidar frame as the metric takes them; `pose` [4, 4] leads to the global frame."""
    boxes = boxes.astype(np.float64)
    place = np.concatenate([boxes[:, :3], np.ones((len(boxes), 1))], 1) @ pose.T
    velocity = np.concatenate([boxes[:, 7:9], np.zeros((len(boxes), 1))], 1) @ pose[:3, :3].T
    ahead = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6]), np.zeros(len(boxes))], 1) @ pose[:3, :3].T
    half = np.arctan2(ahead[:, 1], ahead[:, 0]) / 2
    none = np.zeros(len(boxes))
    return {
        "name": names,
        "translation": place[:, :3],
        "size": boxes[:, [4, 3, 5]],
        "rotation": np.stack([np.cos(half), none, none, np.sin(half)], 1),
        "velocity": velocity[:, :2],
    }


def attributes_of(names: np.ndarray, speeds: np.ndarray) -> np.ndarray:
    """str [M]: what is usual for a class at its speed; "" where a class has none."""
    found = []
    for name, speed in zip(names.tolist(), speeds.tolist(), strict=True):
        if speed > MOVING and name in VEHICLES:
            found.append("vehicle.moving")
        elif speed > MOVING and name in CYCLES:
            found.append("cycle.with_rider")
        elif speed > MOVING:
            found.append(USUAL.get(name, ""))
        else:
            found.append(SLOW.get(name, USUAL.get(name, "")))
    return np.array(found, dtype=np.str_) if found else np.zeros(0, "U1")
