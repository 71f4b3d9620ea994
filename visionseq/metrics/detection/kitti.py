"""KITTI's object evaluation: average precision of 2D boxes, boxes from above and in space, and orientation (AOS).

As the official code counts, with exact rotated overlaps: objects too small, hidden or cut off for a difficulty, and
those of a neighbouring class, are ignored; recall is sampled at 41 places, of which 11 or 40 are averaged.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from visionseq.geometry import Calibration, bev_intersection, image_boxes, lidar_to_camera, observation_angle
from visionseq.metrics.detection.frames import FrameMetric, figures_of
from visionseq.metrics.detection.kitti_matching import counts_at, true_scores

MIN_HEIGHT, MAX_OCCLUSION, MAX_TRUNCATION = (40, 25, 25), (0, 1, 2), (0.15, 0.3, 0.5)  # easy, moderate, hard
DIFFICULTIES = ("easy", "moderate", "hard")
KINDS = ("image", "bev", "3d")
NEIGHBOURS = {"car": "van", "pedestrian": "person_sitting"}  # taken for the class, they do not count
OVERLAPS = {  # least IoU for (image, bev and 3d), of the strict and the loose set
    "car": ((0.7, 0.7), (0.7, 0.5)),
    "pedestrian": ((0.5, 0.5), (0.5, 0.25)),
    "cyclist": ((0.5, 0.5), (0.5, 0.25)),
    "van": ((0.7, 0.7), (0.7, 0.5)),
    "person_sitting": ((0.5, 0.5), (0.5, 0.25)),
    "truck": ((0.7, 0.7), (0.5, 0.5)),
}
OTHER_OVERLAPS = ((0.7, 0.7), (0.7, 0.5))  # of classes that KITTI does not have
SAMPLES = 41
DONT_CARE = "dontcare"
NO_ALPHA = -10


class KittiAP(FrameMetric):
    """KITTI's figures, in percent.

    A frame's dict holds arrays in the camera frame: `name` str [M], `bbox` [M, 4] (left, top, right, bottom in pixels),
    `dimensions` [M, 3] (l, h, w), `location` [M, 3] (bottom centre), `rotation_y` [M], `alpha` [M]; `truncated` [M] and
    `occluded` [M] of targets, `score` [M] of predictions. `camera_annotations` makes them from lidar boxes.

    `compute` gives "Car_3d/moderate_R40" and the like: class, one of image, bev, 3d, aos, difficulty, recall places
    (R11 or R40); with "_loose" after the kind, those of the second set of overlaps. By KITTI's rule R40 reaches 100
    only from 41 objects of a class on: 4 perfect detections of 4 objects give 7.5.

    Args:
        class_names: classes to evaluate.
    """

    gt_columns: ClassVar = {
        "name": 1, "bbox": 4, "dimensions": 3, "location": 3, "rotation_y": 1, "alpha": 1,
        "truncated": 1, "occluded": 1,
    }  # fmt: skip
    dt_columns: ClassVar = {
        "name": 1,
        "bbox": 4,
        "dimensions": 3,
        "location": 3,
        "rotation_y": 1,
        "alpha": 1,
        "score": 1,
    }

    def __init__(self, class_names: Sequence[str] = ("Car", "Pedestrian", "Cyclist"), **options: Any):
        self.evaluated = tuple(class_names)
        others = [name for name in (*NEIGHBOURS.values(), DONT_CARE) if name not in map(str.lower, class_names)]
        super().__init__((*class_names, *others), **options)

    @staticmethod
    def name_key(name: str) -> str:
        return name.lower()

    def compute(self) -> dict[str, Tensor]:
        """All figures by name; 0 without detections or without objects.

        Those of aos are missing where detections have no alpha (-10).
        """
        figures = {}
        for kind, values in self.curves().items():
            for number, difficulty, loose in np.ndindex(values.shape[:3]):
                r11, r40 = self._names(kind, number, difficulty, loose)
                curve = values[number, difficulty, loose]
                figures[r11], figures[r40] = curve[::4].mean() * 100, curve[1:].mean() * 100
        return figures_of(figures)

    def figure_names(self) -> list[str]:
        """The names of all figures that `compute` can give."""
        shape = (len(self.evaluated), len(DIFFICULTIES), 2)
        return [name for kind in (*KINDS, "aos") for place in np.ndindex(shape) for name in self._names(kind, *place)]

    def _names(self, kind: str, number: int, difficulty: int, loose: int) -> tuple[str, str]:
        """The names of the averages over 11 and over 40 places."""
        name = f"{self.evaluated[number]}_{kind}{'_loose' if loose else ''}/{DIFFICULTIES[difficulty]}"
        return f"{name}_R11", f"{name}_R40"

    def curves(self) -> dict[str, np.ndarray]:
        """image, bev, 3d[, aos]: precision [class, difficulty, overlap set, 41], made monotone from the right."""
        data = _Frames(self.frames(), self.known_names)
        shape = (len(self.evaluated), len(DIFFICULTIES), 2, SAMPLES)
        curves = {kind: np.zeros(shape) for kind in (*KINDS, *(["aos"] if data.with_alpha else []))}
        for number, name in enumerate(self.evaluated):
            for difficulty in range(len(DIFFICULTIES)):
                flags = data.flags(number, name, difficulty)
                for metric, kind in enumerate(KINDS):
                    for loose, overlaps in enumerate(OVERLAPS.get(name.lower(), OTHER_OVERLAPS)):
                        precision, similarity = data.curve(kind, overlaps[min(metric, 1)], *flags)
                        curves[kind][number, difficulty, loose] = precision
                        if kind == "image" and data.with_alpha:
                            curves["aos"][number, difficulty, loose] = similarity
        return curves


class _Frames:
    """All frames in flat arrays, with the overlaps of every frame."""

    def __init__(self, frames: list, names: Sequence[str]):
        self.names = [name.lower() for name in names]
        regions = [(gt["name"] == self.names.index(DONT_CARE)) for gt, _ in frames]
        self.gt = _joined([gt for gt, _ in frames], KittiAP.gt_columns)
        self.dt = _joined([dt for _, dt in frames], KittiAP.dt_columns)
        self.gt_at = _places([len(gt["name"]) for gt, _ in frames])
        self.dt_at = _places([len(dt["name"]) for _, dt in frames])
        self.at = _places([len(gt["name"]) * len(dt["name"]) for gt, dt in frames])
        overlaps = [_overlaps(gt, dt) for gt, dt in frames]
        self.overlap = {kind: np.concatenate([o[kind].ravel() for o in overlaps] or [np.zeros(0)]) for kind in KINDS}
        pairs = zip(frames, regions, strict=True)
        shares = [_share(dt["bbox"], gt["bbox"][region]) for (gt, dt), region in pairs]
        self.stuff = np.concatenate(shares) if shares else np.zeros(0)
        self.with_alpha = NO_ALPHA not in self.dt["alpha"][:1]

    def flags(self, number: int, name: str, difficulty: int) -> tuple[np.ndarray, np.ndarray]:
        """int64 flags of all objects and of all detections."""
        gt, dt = self.gt, self.dt
        height = gt["bbox"][:, 3] - gt["bbox"][:, 1]
        too_hard = (gt["occluded"] > MAX_OCCLUSION[difficulty]) | (gt["truncated"] > MAX_TRUNCATION[difficulty])
        too_hard |= height <= MIN_HEIGHT[difficulty]
        neighbour = NEIGHBOURS.get(name.lower())
        other = gt["name"] == (self.names.index(neighbour) if neighbour in self.names else -2)
        gt_flag = np.where(gt["name"] == number, np.where(too_hard, 1, 0), np.where(other, 1, -1))
        small = np.abs(dt["bbox"][:, 3] - dt["bbox"][:, 1]) < MIN_HEIGHT[difficulty]
        return gt_flag, np.where(small, 1, np.where(dt["name"] == number, 0, -1))

    def curve(self, kind: str, least: float, gt_flag: np.ndarray, dt_flag: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Precision and orientation similarity [41]."""
        stuff = self.stuff if kind == "image" else np.zeros_like(self.stuff)
        arguments = (
            self.overlap[kind], self.at, self.gt_at, self.dt_at, gt_flag, dt_flag, self.dt["score"],
            self.gt["alpha"], self.dt["alpha"], stuff, least,
        )  # fmt: skip
        scores, valid = true_scores(*arguments)
        thresholds = recall_thresholds(scores, valid)
        counts = counts_at(thresholds, *arguments)
        detections = np.maximum(counts[:, 0] + counts[:, 1], 1)
        curves = np.zeros((2, SAMPLES))
        curves[:, : len(thresholds)] = counts[:, [0, 2]].T / detections
        precision, similarity = np.maximum.accumulate(curves[:, ::-1], 1)[:, ::-1]
        return precision, similarity


def recall_thresholds(scores: np.ndarray, valid: int) -> np.ndarray:
    """Scores at which recall passes the places 0, 1/40 ... 1; at most 41."""
    scores = np.sort(scores)[::-1]
    current, chosen = 0.0, []
    for i, score in enumerate(scores):
        left = (i + 1) / valid
        right = (i + 2) / valid if i < len(scores) - 1 else left
        if right - current < current - left and i < len(scores) - 1:
            continue
        chosen.append(score)
        current += 1 / (SAMPLES - 1.0)
    return np.array(chosen[:SAMPLES])


def camera_annotations(
    boxes: np.ndarray,
    names: np.ndarray,
    scores: np.ndarray | None = None,
    calibration: Calibration | None = None,
    image_shape: tuple[int, int] | None = None,
) -> dict[str, np.ndarray]:
    """Lidar boxes [M, >= 7] as `KittiAP` takes them.

    Without a calibration they follow the convention for data sets without a camera: image boxes of 50 pixels, nothing
    hidden or cut off, and a camera in the place of the lidar.
    """
    # The boxes in the camera frame, and in the image.
    boxes = np.asarray(boxes, np.float64).reshape(len(boxes), -1)[:, :7] if len(boxes) else np.zeros((0, 7))
    if calibration is None:
        x, y, z, dx, dy, dz, heading = boxes.T
        camera = np.stack([-y, -(z - dz / 2), x, dx, dz, dy, -heading - np.pi / 2], 1)
        bbox = np.tile([0.0, 0.0, 50.0, 50.0], (len(boxes), 1))
    else:
        camera = lidar_to_camera(boxes, calibration)
        bbox = image_boxes(camera, calibration, image_shape) if len(boxes) else np.zeros((0, 4))

    annotations = {
        "name": np.array(names),
        "bbox": bbox,
        "dimensions": camera[:, 3:6],
        "location": camera[:, :3],
        "rotation_y": camera[:, 6],
        "alpha": observation_angle(boxes, camera),
        "truncated": np.zeros(len(boxes)),
        "occluded": np.zeros(len(boxes)),
    }
    return annotations if scores is None else {**annotations, "score": np.asarray(scores, np.float64)}


def _overlaps(gt: dict[str, np.ndarray], dt: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """[N, M] for each kind."""
    area = bev_intersection(_seen_from_above(dt), _seen_from_above(gt)).numpy()
    gt_size, dt_size = gt["dimensions"], dt["dimensions"]
    gt_area, dt_area = gt_size[:, 0] * gt_size[:, 2], dt_size[:, 0] * dt_size[:, 2]
    top = np.maximum.outer(dt["location"][:, 1] - dt_size[:, 1], gt["location"][:, 1] - gt_size[:, 1])
    volume = area * np.maximum(np.minimum.outer(dt["location"][:, 1], gt["location"][:, 1]) - top, 0)
    together = np.add.outer(dt_size.prod(1), gt_size.prod(1)) - volume
    return {
        "image": _image_iou(dt["bbox"], gt["bbox"]),
        "bev": _ratio(area, np.add.outer(dt_area, gt_area) - area),
        "3d": _ratio(volume, together),
    }


def _seen_from_above(side: dict[str, np.ndarray]) -> Tensor:
    """(x, z, l, w, ry) as boxes of the geometry: the camera's y points down, so turning goes the other way."""
    count = len(side["name"])
    boxes = np.zeros((count, 7))
    boxes[:, 0], boxes[:, 1] = side["location"][:, 0], side["location"][:, 2]
    boxes[:, 3], boxes[:, 4], boxes[:, 5] = side["dimensions"][:, 0], side["dimensions"][:, 2], 1.0
    boxes[:, 6] = -side["rotation_y"]
    return torch.from_numpy(boxes)


def _image_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    shared = _image_intersection(a, b)
    return _ratio(shared, np.add.outer(_image_area(a), _image_area(b)) - shared)


def _share(boxes: np.ndarray, regions: np.ndarray) -> np.ndarray:
    """[N]: the largest share of each box in one of the regions."""
    if not len(regions):
        return np.zeros(len(boxes))
    return _ratio(_image_intersection(boxes, regions), _image_area(boxes)[:, None]).max(1)


def _image_intersection(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    width = np.minimum.outer(a[:, 2], b[:, 2]) - np.maximum.outer(a[:, 0], b[:, 0])
    height = np.minimum.outer(a[:, 3], b[:, 3]) - np.maximum.outer(a[:, 1], b[:, 1])
    return np.maximum(width, 0) * np.maximum(height, 0)


def _image_area(boxes: np.ndarray) -> np.ndarray:
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.where(whole > 0, part / np.where(whole > 0, whole, 1), 0.0)


def _joined(sides: list[dict[str, np.ndarray]], columns: dict[str, int]) -> dict[str, np.ndarray]:
    empty = {name: np.zeros(0) if width == 1 else np.zeros((0, width)) for name, width in columns.items()}
    return {name: np.concatenate([empty[name], *(side[name] for side in sides)]) for name in columns}


def _places(sizes: list[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
