"""nuScenes' detection submission: one JSON file, boxes in the global frame (arXiv 1903.11027).

{"meta": {"use_lidar": true, ...}, "results": {SAMPLE: [{"sample_token", "translation" [x, y, z], "size" [width, length,
height], "rotation" [w, x, y, z], "velocity" [vx, vy], "detection_name", "detection_score", "attribute_name"}, ...]}}
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from visionseq.data.lidar.frame import LidarFrame
from visionseq.files import atomic_write
from visionseq.lion.detections import Detections
from visionseq.lion.global_boxes import MOST_BOXES, attributes_of, to_global
from visionseq.lion.submissions.base import Submission, origin_of
from visionseq.metrics.detection.nuscenes import CLASS_RANGE

META = {"use_camera": False, "use_lidar": True, "use_radar": False, "use_map": False, "use_external": False}


class NuScenesSubmission(Submission):
    """Writes results_nusc.json; at most 500 boxes of a sample, the best scored. Frames come from `NuScenes`."""

    result, suffix = "results_nusc.json", ".json"
    benchmark_classes = tuple(CLASS_RANGE)

    def part(self, detections: Detections, frame: LidarFrame) -> bytes:
        token, pose = origin_of(frame, "token", "lidar_to_global")
        boxes, scores = detections.boxes.double().cpu().numpy(), detections.scores.double().cpu().numpy()
        names = np.array(self.names_of(detections), dtype=np.str_)
        best = np.argsort(-scores, kind="stable")[:MOST_BOXES]
        moved = to_global(boxes[best], np.array(pose))
        attributes = attributes_of(names[best], np.linalg.norm(boxes[best, 7:9], axis=1))
        rows = [
            {
                "sample_token": token,
                "translation": moved["translation"][row].tolist(),
                "size": moved["size"][row].tolist(),
                "rotation": moved["rotation"][row].tolist(),
                "velocity": moved["velocity"][row].tolist(),
                "detection_name": str(names[number]),
                "detection_score": float(scores[number]),
                "attribute_name": str(attributes[row]),
            }
            for row, number in enumerate(best.tolist())
        ]
        return f"{json.dumps(token)}: {json.dumps(rows, allow_nan=False)}".encode()

    def join(self, parts: Sequence[Path], result: Path) -> None:
        with atomic_write(result) as file:
            file.write(f'{{"meta": {json.dumps(META)}, "results": {{'.encode())
            for number, part in enumerate(parts):
                file.write((b",\n" if number else b"\n") + part.read_bytes())
            file.write(b"\n}}\n")
