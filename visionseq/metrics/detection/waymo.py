"""Waymo's detection metrics (arXiv 1912.04838): AP and APH, two levels of difficulty, by type and by distance.

At each of 101 score cutoffs objects and detections of a frame are matched so that the sum of their 3D IoU is largest;
scores play no part in it. Overlaps are exact; those of the published tool are approximations.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from visionseq.geometry import iou3d
from visionseq.geometry.rotations import turn_between
from visionseq.metrics.detection.frames import FrameMetric, figures_of

IOU = {"Vehicle": 0.7, "Pedestrian": 0.5, "Sign": 0.5, "Cyclist": 0.5}
CUTOFFS = np.linspace(0, 1, 101)
LEVELS = (1, 2)
RANGES = ((0.0, 30.0), (30.0, 50.0), (50.0, np.inf))
RANGE_NAMES = ("0-30m", "30-50m", "50m+")
STEP = 0.05  # of recall between two points of a curve
THIN = 0.01  # metres; flatter boxes overlap nothing
FEW_POINTS = 5
QUANTA = 1e6
AVERAGED = ("Vehicle", "Pedestrian", "Cyclist")


class WaymoAP(FrameMetric):
    """Waymo's figures in [0, 1]: "Vehicle/L1/AP", "Vehicle/L2/APH/30-50m", "mAP/L2" and the like.

    A frame's dict holds `name` str [M] (a key of `IOU`), `box` [M, 7] in the vehicle frame; of targets `difficulty` [M]
    (0: by the number of points) and `num_points` [M]; of predictions `score` [M] (through a sigmoid where one is above
    1) and `no_label_zone` [M], whether it lies where nothing was labelled.

    Args:
        class_names: classes to evaluate, of `IOU`.
    """

    gt_columns: ClassVar = {"name": 1, "box": 7, "difficulty": 1, "num_points": 1}
    dt_columns: ClassVar = {"name": 1, "box": 7, "score": 1, "no_label_zone": 1}
    rules: ClassVar = tuple(IOU)

    def __init__(self, class_names: Sequence[str] = AVERAGED, **options: Any):
        super().__init__(class_names, **options)

    def compute(self) -> dict[str, Tensor]:
        frames = [(_labelled(gt), _squashed(dt)) for gt, dt in self.frames()]
        figures: dict[str, float] = {}
        for number, name in enumerate(self.known_names):
            for place, limits in (("", (0.0, np.inf)), *zip(RANGE_NAMES, RANGES, strict=True)):
                counts = type_counts(frames, number, IOU[name], limits)
                for level in LEVELS:
                    for kind, value in zip(("AP", "APH"), average_precisions(counts[level - 1]), strict=True):
                        figures[f"{name}/L{level}/{kind}" + (f"/{place}" if place else "")] = value
        for level in LEVELS:
            for kind in ("AP", "APH"):
                values = [figures[f"{name}/L{level}/{kind}"] for name in self.known_names if name in AVERAGED]
                figures[f"m{kind}/L{level}"] = float(np.mean(values)) if values else 0.0
        return figures_of(figures)


def type_counts(
    frames: Sequence[tuple[dict, dict]], number: int, least: float, limits: tuple[float, float] = (0.0, np.inf)
) -> np.ndarray:
    """[level, cutoff, 4]: true positives, false positives, missed objects, sum of heading accuracies of one type."""
    counts = np.zeros((len(LEVELS), len(CUTOFFS), 4))
    for gt, dt in frames:
        gt, dt = _within(gt, number, limits), _within(dt, number, limits)
        missed = np.array([(gt["difficulty"] <= level).sum() for level in LEVELS])
        iou = _overlap(dt["box"], gt["box"])
        earlier, totals = None, np.zeros(0)
        for cutoff, score in enumerate(CUTOFFS):
            chosen = (dt["score"] >= score).nonzero()[0]
            if earlier is None or len(chosen) != len(earlier):
                totals = _matched(iou[chosen], least, gt, {k: v[chosen] for k, v in dt.items()}, missed)
                earlier = chosen
            counts[:, cutoff] += totals
    return counts


def average_precisions(counts: np.ndarray) -> tuple[float, float]:
    """AP and APH of counts [cutoff, 4]."""
    true, false, missed, heading = counts.T
    recall = _ratio(true, true + missed)
    precision, weighted = _ratio(true, true + false), _ratio(heading, true + false)
    return _area(recall, precision), _area(recall, weighted)


def _matched(iou: np.ndarray, least: float, gt: dict, dt: dict, objects: np.ndarray) -> np.ndarray:
    """[level, 4] of one frame and cutoff: true and false positives, missed objects, sum of heading accuracies."""
    # The pairs of largest overlap together; pairs below the least overlap do not count.
    weight = np.where(iou >= least, np.rint(iou * QUANTA), 0)
    rows, columns = linear_sum_assignment(weight, maximize=True)
    valid = weight[rows, columns] > 0
    rows, columns = rows[valid], columns[valid]

    # What they count at both levels.
    turn = turn_between(dt["box"][rows, 6], gt["box"][columns, 6])
    heading = (1 - turn / np.pi).sum()
    alone = np.ones(len(dt["score"]), bool)
    alone[rows] = False
    false = (alone & (dt["no_label_zone"] == 0)).sum()
    counts = [
        (len(rows), false, objects[i] - (gt["difficulty"][columns] <= level).sum(), heading)
        for i, level in enumerate(LEVELS)
    ]
    return np.array(counts, float)


def _area(recall: np.ndarray, precision: np.ndarray) -> float:
    """Below the curve of the largest precision at each recall and beyond it, in steps of recall of at most `STEP`."""
    best: dict[float, float] = {0.0: 1.0}
    for r, p in zip(recall.tolist(), precision.tolist(), strict=True):
        best[r] = max(best.get(r, 0.0), 1.0 if r == 0 else p)
    points: list[tuple[float, float]] = []
    highest = 0.0
    for r in sorted(best, reverse=True):
        if points:
            before = points[-1][0]
            while before - r > STEP + 1e-9:
                before -= STEP
                points.append((before, highest))
        highest = max(highest, best[r]) if r > 0 or not points else highest
        points.append((r, highest))
    r, p = np.array(points).T
    return float(((r[:-1] - r[1:]) * (p[:-1] + p[1:]) / 2).sum())


def _overlap(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    iou = iou3d(torch.from_numpy(a), torch.from_numpy(b)).numpy()
    thin = np.logical_or.outer((a[:, 3:6] <= THIN).any(1), (b[:, 3:6] <= THIN).any(1))
    return np.where(thin, 0, iou)


def _labelled(gt: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    kept = {name: values[gt["num_points"] > 0] for name, values in gt.items()}
    by_points = np.where(kept["num_points"] <= FEW_POINTS, 2, 1)
    return {**kept, "difficulty": np.where(kept["difficulty"] == 0, by_points, kept["difficulty"])}


def _squashed(dt: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    score = dt["score"]
    return {**dt, "score": 1 / (1 + np.exp(-score)) if (score > 1).any() else score}


def _within(side: dict[str, np.ndarray], number: int, limits: tuple[float, float]) -> dict[str, np.ndarray]:
    apart = np.linalg.norm(side["box"][:, :3], axis=1)
    rows = (side["name"] == number) & (apart >= limits[0]) & (apart < limits[1])
    return {name: np.ascontiguousarray(values[rows]) for name, values in side.items()}


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
