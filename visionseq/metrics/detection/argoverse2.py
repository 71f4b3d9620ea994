"""Argoverse 2's detection metrics (arXiv 2301.00493): AP by distance of centres, errors of place, size, heading; CDS.

Each detection is paired with the object nearest to it; of those paired with one object the best scored counts, the
others are false even where another object is near.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from torch import Tensor

from visionseq.geometry.rotations import headings_of, turn_between
from visionseq.metrics.detection.frames import FrameMetric, figures_of

DISTANCES, TRUE_DISTANCE = (0.5, 1.0, 2.0, 4.0), 2.0
RECALLS = np.linspace(0, 1, 101)
WORST = (2.0, 1.0, np.pi)  # errors without a true positive: metres, share, radians
FIGURES = ("AP", "ATE", "ASE", "AOE", "CDS")


class Argoverse2AP(FrameMetric):
    """Argoverse 2's figures: "mAP", "mCDS" and the like, and "Bus_AP", "Bus_ATE", "Bus_ASE", "Bus_AOE", "Bus_CDS".

    A frame's dict holds arrays in the ego frame: `name` str [M], `translation` [M, 3], `size` [M, 3] (length, width,
    height), `rotation` [M, 4] (quaternion w, x, y, z), `num_points` [M] for targets, `score` [M] for predictions. To
    count only the region of interest of a map, leave all other boxes out of the dict.

    Args:
        class_names: classes to evaluate.
        max_range: centres must be nearer to the ego vehicle, metres.
        max_detections: of a class and frame that count, the best scored.
    """

    gt_columns: ClassVar = {"name": 1, "translation": 3, "size": 3, "rotation": 4, "num_points": 1}
    dt_columns: ClassVar = {"name": 1, "translation": 3, "size": 3, "rotation": 4, "score": 1}

    def __init__(self, class_names: Sequence[str], max_range: float = 150.0, max_detections: int = 100, **options: Any):
        super().__init__(class_names, **options)
        self.max_range, self.max_detections = max_range, max_detections

    def compute(self) -> dict[str, Tensor]:
        table = self.summary()
        figures = {f"m{name}": table[:, i].mean() for i, name in enumerate(FIGURES)}
        for number, name in enumerate(self.known_names):
            figures |= {f"{name}_{figure}": table[number, i] for i, figure in enumerate(FIGURES)}
        return figures_of(figures)

    def summary(self) -> np.ndarray:
        """[class, 5]: AP, ATE, ASE, AOE, CDS."""
        frames = self.frames()
        rows = []
        for number in range(len(self.known_names)):
            parts = [self.judge(gt, dt, number) for gt, dt in frames]
            judged, scores = [np.zeros((0, 8))], [np.zeros(0)]
            for (_, dt), (metrics, chosen, _) in zip(frames, parts, strict=True):
                evaluated = metrics[:, 7] > 0
                judged.append(metrics[evaluated])
                scores.append(dt["score"][chosen][evaluated])
            objects = sum(int(evaluated.sum()) for *_, evaluated in parts)
            rows.append(_figures(np.concatenate(judged), np.concatenate(scores), objects))
        return np.array(rows).reshape(-1, len(FIGURES))

    def judge(self, gt: dict, dt: dict, number: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Of one class in one frame: [N, 8] (true at each distance, three errors, evaluated) by falling score, the rows
        of these detections, and which objects are evaluated.
        """
        # The detections and the objects that are evaluated.
        rows = (dt["name"] == number).nonzero()[0]
        rows = rows[np.argsort(-dt["score"][rows], kind="stable")]
        near = np.linalg.norm(dt["translation"][rows], axis=1) < self.max_range
        evaluated = near & (np.cumsum(near) <= self.max_detections)
        of_class = gt["name"] == number
        valid = of_class & (gt["num_points"] > 0) & (np.linalg.norm(gt["translation"], axis=1) < self.max_range)

        # Each detection is paired with its nearest object, and the best scored one of each object counts.
        metrics = np.zeros((len(rows), 8))
        metrics[:, 7] = evaluated
        objects, chosen = valid.nonzero()[0], evaluated.nonzero()[0]
        if len(objects) and len(chosen):
            detections = rows[chosen]
            metrics[chosen, 4:7] = WORST
            apart = np.linalg.norm(dt["translation"][detections][:, None] - gt["translation"][objects][None], axis=2)
            nearest = apart.argmin(1)
            _, first = np.unique(nearest, return_index=True)
            for i in first:
                distance = apart[i, nearest[i]]
                metrics[chosen[i], :4] = distance < np.array(DISTANCES)
                if distance < TRUE_DISTANCE:
                    metrics[chosen[i], 4:7] = (distance, *_errors(gt, objects[nearest[i]], dt, detections[i]))
        return metrics, rows, valid


def _errors(gt: dict, i: int, dt: dict, j: int) -> tuple[float, float]:
    a, b = gt["size"][i], dt["size"][j]
    scale = 1 - np.minimum(a, b).prod() / np.maximum(a, b).prod()
    return float(scale), float(turn_between(headings_of(gt["rotation"][i]), headings_of(dt["rotation"][j])))


def _figures(judged: np.ndarray, scores: np.ndarray, objects: int) -> list[float]:
    """AP, ATE, ASE, AOE, CDS of the evaluated detections of a class."""
    order = np.argsort(-scores, kind="stable")
    judged = judged[order]
    ap = float(np.mean([_average_precision(judged[:, i] > 0, objects) for i in range(len(DISTANCES))]))
    true = judged[judged[:, DISTANCES.index(TRUE_DISTANCE)] > 0]
    errors = true[:, 4:7].mean(0) if len(true) else np.array(WORST)
    return [ap, *errors, ap * float(np.mean(1 - errors / np.array(WORST)))]


def _average_precision(true: np.ndarray, objects: int) -> float:
    if not objects or not true.any():
        return 0.0
    hits = np.cumsum(true).astype(float)
    precision = hits / (np.arange(1, len(hits) + 1) + np.finfo(np.float64).eps)
    precision = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.interp(RECALLS, hits / objects, precision, right=0).mean())
