"""ONCE's detection metric (arXiv 2106.11037): AP over 50 recall places of vehicles, pedestrians and cyclists.

The heading counts: boxes whose headings differ by more than pi/2 do not overlap.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from visionseq.geometry import iou3d
from visionseq.geometry.rotations import turn_between
from visionseq.metrics.detection.frames import FrameMetric, figures_of
from visionseq.metrics.detection.kitti_matching import counts_at, true_scores

SUPERCLASS = {"Car": "Vehicle", "Bus": "Vehicle", "Truck": "Vehicle", "Pedestrian": "Pedestrian", "Cyclist": "Cyclist"}
IOU = {"Vehicle": 0.7, "Pedestrian": 0.3, "Cyclist": 0.5}
RANGES = {"overall": (0.0, np.inf), "0-30m": (0.0, 30.0), "30-50m": (30.0, 50.0), "50m-inf": (50.0, np.inf)}
PLACES = 50


class OnceAP(FrameMetric):
    """ONCE's figures, in percent: "Vehicle/overall", "Cyclist/30-50m", "mAP/overall" and the like.

    A frame's dict holds `name` str [M] (a key of `SUPERCLASS`), `box` [M, 7] in the lidar frame, and `score` [M] for
    predictions.

    Args:
        class_names: classes to evaluate, of `SUPERCLASS`.
        official_rotation: measure the overlap as the official code does, which turns boxes the wrong way round. The IoU
            of boxes that are shifted and turned is then wrong, as in the published figures.
    """

    gt_columns: ClassVar = {"name": 1, "box": 7}
    dt_columns: ClassVar = {"name": 1, "box": 7, "score": 1}
    rules: ClassVar = tuple(SUPERCLASS)

    def __init__(self, class_names: Sequence[str] = tuple(SUPERCLASS), official_rotation: bool = True, **options: Any):
        super().__init__(class_names, **options)
        self.official_rotation = official_rotation

    def compute(self) -> dict[str, Tensor]:
        table = self.table_of_ap()
        rows = (*IOU, "mAP")
        cells = ((i, j, row, place) for i, row in enumerate(rows) for j, place in enumerate(RANGES))
        return figures_of({f"{row}/{place}": table[i, j] for i, j, row, place in cells})

    def table_of_ap(self) -> np.ndarray:
        """[Vehicle, Pedestrian, Cyclist, mean; overall and three distances], in percent."""
        frames = self.frames()
        if not frames:
            return np.zeros((len(IOU) + 1, len(RANGES)))
        supers = np.array([list(IOU).index(SUPERCLASS[name]) for name in self.known_names] + [-1])
        overlaps = [self._overlap(dt["box"], gt["box"]) for gt, dt in frames]
        flat = np.concatenate([o.ravel() for o in overlaps])
        places = [np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64) for sizes in (
            [o.size for o in overlaps], [len(gt["name"]) for gt, _ in frames], [len(dt["name"]) for _, dt in frames]
        )]  # fmt: skip
        gt, dt = (_joined([frame[side] for frame in frames]) for side in (0, 1))
        table = np.zeros((len(IOU) + 1, len(RANGES)))
        for number, least in enumerate(IOU.values()):
            for column, limits in enumerate(RANGES.values()):
                flags = [_flags(supers[side["name"].astype(int)] == number, side["box"], limits) for side in (gt, dt)]
                nothing = np.zeros(len(dt["name"]))
                arguments = (flat, *places, *flags, dt["score"], np.zeros(len(gt["name"])), nothing, nothing, least)
                table[number, column] = _average_precision(arguments)
        table[-1] = table[:-1].mean(0)
        return table

    def _overlap(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        apart = turn_between(a[:, None, 6], b[None, :, 6]) > np.pi / 2
        if self.official_rotation:
            a, b = a.copy(), b.copy()
            a[:, 6], b[:, 6] = -a[:, 6], -b[:, 6]
        return np.where(apart, 0.0, iou3d(torch.from_numpy(a), torch.from_numpy(b)).numpy())


def _average_precision(arguments: tuple) -> float:
    scores, valid = true_scores(*arguments)
    thresholds = recall_thresholds(scores, valid)
    if not len(thresholds):
        return 0.0
    counts = counts_at(thresholds, *arguments)
    precision = np.zeros(PLACES + 1)
    precision[: len(thresholds)] = counts[:, 0] / np.maximum(counts[:, 0] + counts[:, 1], 1)
    return float(np.maximum.accumulate(precision[::-1])[::-1][1:].mean() * 100)


def recall_thresholds(scores: np.ndarray, valid: int) -> np.ndarray:
    """Scores at which recall passes the places 0, 1/50 ... 1; one score may fill several places."""
    scores = np.sort(scores)[::-1]
    level, chosen = 0.0, []
    for i, score in enumerate(scores):
        left = (i + 1) / valid
        right = (i + 2) / valid if i < len(scores) - 1 else left
        if right + left < level * 2 and i < len(scores) - 1:
            continue
        chosen.append(score)
        level += 1 / PLACES
        while right + left + 1e-6 > level * 2 and len(chosen) < PLACES + 1:
            chosen.append(score)
            level += 1 / PLACES
    return np.array(chosen[: PLACES + 1])


def _flags(of_class: np.ndarray, boxes: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    apart = np.linalg.norm(boxes[:, :3], axis=1)
    outside = (apart < limits[0]) | (apart >= limits[1])
    return np.where(outside, 1, np.where(of_class, 0, -1)).astype(np.int64)


def _joined(sides: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([side[name] for side in sides]) for name in sides[0]}
