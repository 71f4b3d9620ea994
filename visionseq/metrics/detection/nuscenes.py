"""nuScenes' detection score (arXiv 1903.11027; configuration detection_cvpr_2019): NDS, mAP and five kinds of errors.

A detection is true when it is the nearest to an object that is still free, within 0.5, 1, 2 or 4 m seen from above.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
from torch import Tensor

from visionseq.geometry.rotations import headings_of, turn_between
from visionseq.metrics.detection.frames import FrameMetric, figures_of

CLASS_RANGE = {
    "car": 50, "truck": 50, "bus": 50, "trailer": 50, "construction_vehicle": 50, "pedestrian": 40, "motorcycle": 40,
    "bicycle": 40, "traffic_cone": 30, "barrier": 30,
}  # fmt: skip
DISTANCES, TRUE_DISTANCE = (0.5, 1.0, 2.0, 4.0), 2.0
ERRORS = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")
UNDEFINED = {"traffic_cone": ("orient_err", "vel_err", "attr_err"), "barrier": ("vel_err", "attr_err")}
ATTRIBUTES = (
    "pedestrian.moving", "pedestrian.sitting_lying_down", "pedestrian.standing", "cycle.with_rider",
    "cycle.without_rider", "vehicle.moving", "vehicle.parked", "vehicle.stopped",
)  # fmt: skip
PLACES = 101
FIRST = 11  # recalls up to 0.1 do not count
MIN_PRECISION = 0.1


class Curve(NamedTuple):
    """Of one class and distance, at 101 recalls: precision, confidence, and the errors by name."""

    precision: np.ndarray
    confidence: np.ndarray
    errors: Mapping[str, np.ndarray]


class NuScenesNDS(FrameMetric):
    """nuScenes' figures: "NDS", "mAP", "mATE" ..., "car_AP" (mean over distances), "car_AP@0.5", "car_trans_err".

    A frame's dict holds arrays in the global frame: `name` str [M], `translation` [M, 3], `size` [M, 3] (width, length,
    height), `rotation` [M, 4] (quaternion w, x, y, z), `velocity` [M, 2] (NaN: unknown), `attribute` str [M] ("": none)
    and, of predictions, `score` [M]. Boxes must have passed `in_class_range`, and objects without a point be left out.

    Args:
        class_names: classes to evaluate, of `CLASS_RANGE`.
    """

    gt_columns: ClassVar = {"name": 1, "translation": 3, "size": 3, "rotation": 4, "velocity": 2, "attribute": 1}
    dt_columns: ClassVar = {**gt_columns, "score": 1}
    texts: ClassVar = {"attribute": ATTRIBUTES}
    rules: ClassVar = tuple(CLASS_RANGE)

    def __init__(self, class_names: Sequence[str] = tuple(CLASS_RANGE), **options: Any):
        super().__init__(class_names, **options)

    def compute(self) -> dict[str, Tensor]:
        aps, errors = self.tables()
        means = np.array([_mean(column) for column in errors.T])
        figures = {"mAP": aps.mean(), "NDS": (5 * aps.mean() + np.maximum(1 - means, 0).sum()) / 10}
        figures |= dict(zip(("mATE", "mASE", "mAOE", "mAVE", "mAAE"), means, strict=True))
        for number, name in enumerate(self.known_names):
            figures[f"{name}_AP"] = aps[number].mean()
            figures |= {f"{name}_AP@{d}": aps[number, i] for i, d in enumerate(DISTANCES)}
            figures |= {f"{name}_{error}": errors[number, i] for i, error in enumerate(ERRORS)}
        return figures_of(figures)

    def tables(self) -> tuple[np.ndarray, np.ndarray]:
        """AP [class, distance], and errors [class, 5] with NaN where a class has none of a kind."""
        frames = self.frames()
        aps = np.zeros((len(self.known_names), len(DISTANCES)))
        errors = np.full((len(self.known_names), len(ERRORS)), np.nan)
        for number, name in enumerate(self.known_names):
            curves = {distance: class_curve(frames, number, name, distance) for distance in DISTANCES}
            aps[number] = [_average_precision(curve) for curve in curves.values()]
            for i, error in enumerate(ERRORS):
                if error not in UNDEFINED.get(name, ()):
                    errors[number, i] = _mean_error(curves[TRUE_DISTANCE], error)
        return aps, errors


def class_curve(frames: Sequence[tuple[dict, dict]], number: int, name: str, distance: float) -> Curve:
    """Match one class over all frames at one distance."""
    # The detections of all frames by falling score.
    targets = [_only(gt, number) for gt, _ in frames]
    detections = [_only(dt, number) for _, dt in frames]
    total = sum(len(gt["name"]) for gt in targets)
    scores = np.concatenate([np.zeros(0), *(dt["score"] for dt in detections)])
    sizes = [len(dt["name"]) for dt in detections]
    of_frame = np.repeat(np.arange(len(sizes)), sizes)
    row = np.concatenate([np.zeros(0, int), *map(np.arange, sizes)])
    order = np.argsort(scores, kind="stable")[::-1]  # of equal scores the later one first

    # Each takes the nearest object of its frame that is still free.
    free = [np.ones(len(gt["name"]), bool) for gt in targets]
    true, matches = np.zeros(len(scores), bool), []
    for rank, i in enumerate(order):
        gt, dt = targets[of_frame[i]], detections[of_frame[i]]
        free_here = free[of_frame[i]]
        if not free_here.any():
            continue
        apart = np.linalg.norm(gt["translation"][:, :2] - dt["translation"][row[i], :2], axis=1)
        best = int(np.argmin(np.where(free_here, apart, np.inf)))
        if apart[best] < distance:
            free_here[best], true[rank] = False, True
            matches.append((scores[i], _errors_of(gt, best, dt, row[i], name)))

    # Precision, confidence and errors at 101 recalls.
    places = np.linspace(0, 1, PLACES)
    if not total or not matches:
        ones = dict.fromkeys(ERRORS, np.ones(PLACES))
        return Curve(np.zeros(PLACES), np.zeros(PLACES), ones)
    hits = np.cumsum(true).astype(float)
    recall, precision = hits / total, hits / np.arange(1, len(hits) + 1)
    precision = np.interp(places, recall, precision, right=0)
    confidence = np.interp(places, recall, scores[order], right=0)
    at = np.array([score for score, _ in matches])
    errors = {}
    for i, error in enumerate(ERRORS):
        running = _running_mean(np.array([values[i] for _, values in matches]))
        errors[error] = np.interp(confidence[::-1], at[::-1], running[::-1])[::-1]
    return Curve(precision, confidence, errors)


def in_class_range(
    frame: Mapping[str, np.ndarray], ego: Sequence[float], racks: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The boxes of a frame that are evaluated: nearer to the ego pose (x, y) than the range of their class, and no
    bicycle or motorcycle with its centre in a bicycle rack [R, 7].
    """
    names = np.asarray(frame["name"])
    apart = np.linalg.norm(np.asarray(frame["translation"])[:, :2] - np.asarray(ego)[:2], axis=1)
    kept = apart < np.array([CLASS_RANGE.get(name, -1) for name in names.tolist()])
    if racks is not None and len(racks):
        from visionseq.geometry import DATABASE, points_in_boxes

        inside = points_in_boxes(np.asarray(frame["translation"]), racks, DATABASE).any(0)
        kept &= ~(inside & np.isin(names, ("bicycle", "motorcycle")))
    return {key: np.asarray(values)[kept] for key, values in frame.items()}


def _errors_of(gt: dict, i: int, dt: dict, j: int, name: str) -> tuple[float, ...]:
    smaller = np.minimum(gt["size"][i], dt["size"][j]).prod()
    union = gt["size"][i].prod() + dt["size"][j].prod() - smaller
    period = np.pi if name == "barrier" else 2 * np.pi
    turn = turn_between(headings_of(gt["rotation"][i]), headings_of(dt["rotation"][j]), period).item()
    known = gt["attribute"][i] >= 0
    return (
        float(np.linalg.norm(gt["translation"][i, :2] - dt["translation"][j, :2])),
        float(1 - smaller / union),
        float(turn),
        float(np.linalg.norm(gt["velocity"][i] - dt["velocity"][j])),
        float(gt["attribute"][i] != dt["attribute"][j]) if known else np.nan,
    )


def _running_mean(values: np.ndarray) -> np.ndarray:
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    counts = np.cumsum(known)
    return np.divide(np.nancumsum(values), counts, out=np.zeros(len(values)), where=counts != 0)


def _average_precision(curve: Curve) -> float:
    return float(np.maximum(curve.precision[FIRST:] - MIN_PRECISION, 0).mean() / (1 - MIN_PRECISION))


def _mean_error(curve: Curve, error: str) -> float:
    above = curve.confidence.nonzero()[0]
    last = above[-1] if len(above) else 0
    return 1.0 if last < FIRST else float(curve.errors[error][FIRST : last + 1].mean())


def _mean(values: np.ndarray) -> float:
    return 1.0 if np.isnan(values).all() else float(np.nanmean(values))


def _only(side: dict[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    rows = side["name"] == number
    return {name: values[rows] for name, values in side.items()}
