"""From a frame to the input of a detector; training, evaluation and `visionseq detect` all use this module.

What a model needs is kept with it as plain values, its `preprocessing`: names of the point columns, which of them pass
through tanh, the range in metres, whether z is cut as well, and the names of the classes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from visionseq.errors import DataError
from visionseq.geometry.boxes import boxes_in_range, points_in_range
from visionseq.geometry.kitti_calibration import Calibration


@dataclass
class PointPreparation:
    """The preparation of the points of every frame.

    Args:
        features: columns of the points in the model's order, beginning with x, y, z.
        point_cloud_range: x, y, z minima, then maxima, in metres; both bounds belong to it.
        class_names: classes of the model, the first one has label 1; empty: those of the training set.
        squashed: columns that are replaced by their hyperbolic tangent.
        mask_z: leave out points above and below the range as well; voxels do it anyway.
        ground_level: z of the ground in the frames that a model learns from, metres; None: not known. Nothing is moved
            by it, but `visionseq detect` says where a cloud has its ground elsewhere.
    """

    features: Sequence[str]
    point_cloud_range: Sequence[float]
    class_names: Sequence[str] = field(default_factory=list)
    squashed: Sequence[str] = field(default_factory=list)
    mask_z: bool = False
    ground_level: float | None = None

    @property
    def preprocessing(self) -> dict[str, Any]:
        """The plain values that are saved with a model."""
        values = {name: list(v) if isinstance(v, list | tuple) else v for name, v in asdict(self).items()}
        return {"kind": "points", **values}

    @classmethod
    def of(cls, preprocessing: dict[str, Any]) -> "PointPreparation":
        """From the values that were saved; raises `DataError` where they are of another kind of model."""
        if preprocessing.get("kind") != "points":
            raise DataError(f"the model takes {preprocessing.get('kind', 'unknown')} input, expected point clouds")
        return cls(**{name: value for name, value in preprocessing.items() if name != "kind"})


def points_in_view(points: np.ndarray, calibration: Calibration, image_shape: tuple[int, int]) -> np.ndarray:
    """The points that the camera sees; those that are not finite stay, and `prepare_points` counts them."""
    finite = np.isfinite(points[:, :3]).all(1)
    kept = ~finite
    kept[finite] = calibration.in_view(points[finite], image_shape)
    return points[kept]


class PreparedPoints(NamedTuple):
    """Fields: `points` float32 [M, F]; `dropped`, how many points were not finite."""

    points: np.ndarray
    dropped: int


def prepare_points(points: np.ndarray, columns: Sequence[str], preparation: PointPreparation) -> PreparedPoints:
    """Points float32 [N, len(columns)] as the model takes them, in their order.

    Raises `DataError` for a column that the model needs and the points do not have.
    """
    missing = [name for name in preparation.features if name not in columns]
    if missing:
        raise DataError(f"points have no column {', '.join(missing)}, found {', '.join(columns)}")
    chosen = points[:, [list(columns).index(name) for name in preparation.features]].astype(np.float32, copy=False)
    finite = np.isfinite(chosen).all(1)
    kept = chosen[finite & points_in_range(chosen, preparation.point_cloud_range, preparation.mask_z)].copy()
    for name in preparation.squashed:
        column = list(preparation.features).index(name)
        kept[:, column] = np.tanh(kept[:, column])
    return PreparedPoints(kept, int(len(chosen) - finite.sum()))


def encode_boxes(
    boxes: np.ndarray, names: np.ndarray, preparation: PointPreparation, in_range: bool = True
) -> np.ndarray:
    """float32 [m, 8 or 10]: the boxes of the model's classes with the class last; velocities that are unknown are 0.

    Boxes without a volume are left out: heads learn the logarithms of the sizes. With `in_range` those whose centre is
    beyond the range are left out as well.
    """
    label = {name: number for number, name in enumerate(preparation.class_names, 1)}
    kept = np.isin(names, list(label)) & have_volume(boxes)
    if in_range and len(boxes):
        kept &= boxes_in_range(boxes, preparation.point_cloud_range)
    labels = np.array([label[name] for name in names[kept].tolist()], np.float32).reshape(-1, 1)
    chosen = boxes[kept].astype(np.float32)
    chosen[:, 7:] = np.nan_to_num(chosen[:, 7:])
    return np.concatenate([chosen, labels], 1)


def have_volume(boxes: np.ndarray) -> np.ndarray:
    """bool [M]: length, width and height are more than zero (NaN is not)."""
    return np.all(boxes[:, 3:6] > 0, axis=1)
