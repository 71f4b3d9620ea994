"""Ground-truth sampling: objects of the database pasted into a scene where nothing is in their way (arXiv 1812.05784).

A class has a permutation of its objects and a pointer into it; when the pointer has reached the end a new permutation
is drawn. In training every sample draws afresh, by its own generator, so that it depends on nothing before it.

Legend: M boxes of the scene, S sampled ones, N points.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from visionseq.data.lidar.augment import Random
from visionseq.data.lidar.database import GroundTruthDatabase
from visionseq.errors import ConfigError, DataError
from visionseq.geometry import Calibration, bev_iou
from visionseq.geometry.boxes import enlarge
from visionseq.geometry.point_tests import DATABASE, points_in_boxes

_log = logging.getLogger("visionseq.data")

TIME = "time"  # the last column of databases of several sweeps; scenes of one sweep lack it
NOW = 1e-6  # seconds; points with a smaller time are of the keyframe itself


class PastedScene(NamedTuple):
    """Fields: `points` [N', C], those of the objects first; `boxes` [M', 7 or 9]; `names` [M']."""

    points: np.ndarray
    boxes: np.ndarray
    names: np.ndarray


class ObjectDraw:
    """Objects of one class in random order, permutation after permutation."""

    def __init__(self, numbers: np.ndarray):
        self.numbers, self.order, self.pointer = numbers, numbers[:0], len(numbers)

    def take(self, count: int, random: Random) -> np.ndarray:
        """The next `count` objects; fewer where the permutation ends."""
        if self.pointer >= len(self.numbers):
            self.order, self.pointer = random.permutation(len(self.numbers)), 0
        taken = self.order[self.pointer : self.pointer + count]
        self.pointer += count
        return self.numbers[taken]


@dataclass
class GroundTruthSampling:
    """Pasting of database objects.

    Args:
        database: folder that `build_database` wrote, or such a database.
        sample_groups: class -> objects to sample for a scene, in this order.
        min_points: lowest number of points of an object, for all classes or by class.
        limit_whole_scene: count the scene's own objects towards the number.
        use_road_plane: put objects onto the scene's road plane, where it has one.
        remove_extra_width: added to the boxes' sizes (x, y, z, metres) when scene points inside them are removed.
        removed_difficulty: objects of these difficulties are not used (-1: unknown, or beyond hard).
    """

    database: str | GroundTruthDatabase
    sample_groups: Mapping[str, int]
    min_points: int | Mapping[str, int] = 5
    limit_whole_scene: bool = False
    use_road_plane: bool = False
    remove_extra_width: tuple[float, float, float] = (0.0, 0.0, 0.0)
    removed_difficulty: Sequence[int] = field(default_factory=list)

    def __post_init__(self):
        if not isinstance(self.database, GroundTruthDatabase) and not Path(self.database).is_dir():
            raise ConfigError(f"gt_sampling: the database {self.database} is missing; `prepare.py` writes it")
        self._opened: GroundTruthDatabase | None = None

    @property
    def objects(self) -> GroundTruthDatabase:
        if self._opened is None:
            database = self.database
            self._opened = database if isinstance(database, GroundTruthDatabase) else GroundTruthDatabase(database)
        return self._opened

    @cached_property
    def usable(self) -> dict[str, np.ndarray]:
        """Class -> row numbers of its objects that may be pasted; `ConfigError` for a class without objects."""
        database = self.objects
        allowed = ~np.isin(database.difficulty, list(self.removed_difficulty))
        numbers = {}
        for name in self.sample_groups:
            rows = database.names == name
            if not rows.any():
                existing = ", ".join(np.unique(database.names)) or "no objects"
                raise ConfigError(f"gt_sampling: sample_groups names {name}, {database.folder} has {existing}")
            least = self.min_points if isinstance(self.min_points, int) else self.min_points.get(name, 0)
            numbers[name] = (rows & allowed & (database.counts >= least)).nonzero()[0]
        return numbers

    def __getstate__(self) -> dict:
        opened = {} if isinstance(self.database, GroundTruthDatabase) else {"_opened": None}  # by each worker itself
        return {name: value for name, value in self.__dict__.items() if name != "usable"} | opened

    def check(self, features: Sequence[str]) -> None:
        """Raise `ConfigError` where the database lacks a class of the groups, or columns of the frames."""
        columns = self.objects.features
        if columns not in (tuple(features), (*features, TIME)):
            raise ConfigError(
                f"gt_sampling: {self.objects.folder} has the columns {', '.join(columns)}, the frames have "
                f"{', '.join(features)}"
            )
        self.draws()  # raises `ConfigError` for classes without objects

    def draws(self) -> dict[str, ObjectDraw]:
        """A fresh draw for each class of the groups."""
        return {name: ObjectDraw(numbers) for name, numbers in self.usable.items()}

    def apply(
        self,
        points: np.ndarray,
        boxes: np.ndarray,
        names: np.ndarray,
        random: Random,
        draws: Mapping[str, ObjectDraw] | None = None,
        road_plane: np.ndarray | None = None,
        calibration: Calibration | None = None,
    ) -> PastedScene:
        """The scene with objects pasted.

        Args:
            points: float32 [N, 3 + C], columns as the database has them.
            boxes: float32 [M, 7 or 9] of all classes; a pasted object touches none of them.
            names: str [M].
            random: the generator that draws.
            draws: the permutations to continue; None: fresh ones.
            road_plane: (a, b, c, d) in the rectified camera frame, used with `calibration`.
        """
        self._check_widths(points.shape[1], boxes.shape[1])
        draws = self.draws() if draws is None else draws

        # Choose objects of each class that touch neither the scene's boxes nor those chosen before.
        existing, pasted, labels = boxes, [], []
        for name, number in self.sample_groups.items():
            count = number - int((names == name).sum()) if self.limit_whole_scene else number
            if count <= 0 or not len(draws[name].numbers):
                continue
            numbers = draws[name].take(count, random)
            sampled = self.objects.boxes[numbers][:, : boxes.shape[1]]
            free = _without_collision(sampled, existing)
            existing = np.concatenate([existing, sampled[free]])
            pasted += numbers[free].tolist()
            labels += [name] * int(free.sum())
        if not pasted:
            return PastedScene(points, boxes, names)

        # Lower their boxes to the road, if it is known.
        added = existing[len(boxes) :].copy()
        heights = np.zeros(len(added), np.float32)
        if self.use_road_plane:
            if road_plane is None or calibration is None:
                _warn_no_plane()
            else:
                added, heights = on_road_plane(added, road_plane, calibration)

        # Their points come first; scene points inside their boxes are removed.
        columns = points.shape[1]
        objects = [self._placed(number, down, columns) for number, down in zip(pasted, heights.tolist(), strict=True)]
        covered = points_in_boxes(points, enlarge(added[:, :7], self.remove_extra_width), DATABASE).any(0)
        everything = np.concatenate([*objects, points[~covered]])
        return PastedScene(everything, np.concatenate([boxes, added]), np.concatenate([names, np.array(labels)]))

    def _placed(self, number: int, height: float, columns: int) -> np.ndarray:
        """The points of an object at its place in the scene, lowered by `height`, in as many columns as the scene."""
        points = self.objects.points_of(number)
        if points.shape[1] > columns:  # of several sweeps, where the scene is of one
            points = points[np.abs(points[:, -1]) < NOW, :-1]
        points[:, :3] += self.objects.boxes[number, :3]
        points[:, 2] -= height
        return points

    def _check_widths(self, columns: int, values: int) -> None:
        database = self.objects
        width = len(database.features)
        if width not in (columns, columns + 1):
            raise DataError(f"{database.folder}: points of {width} columns, the scene's have {columns}")
        if len(database) and database.boxes.shape[1] < values:
            raise DataError(f"{database.folder}: boxes of {database.boxes.shape[1]} values, the scene's have {values}")


@lru_cache(1)
def _warn_no_plane() -> None:
    _log.warning("gt_sampling: use_road_plane is set, but frames have no road plane: objects keep their heights")


def on_road_plane(boxes: np.ndarray, plane: np.ndarray, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
    """The boxes with their lower faces on the plane, and the metres [S] by which each was lowered."""
    a, b, c, d = plane
    centre = calibration.lidar_to_rect(boxes[:, :3])
    centre[:, 1] = (-d - a * centre[:, 0] - c * centre[:, 2]) / b
    ground = calibration.rect_to_lidar(centre)[:, 2]
    down = (boxes[:, 2] - boxes[:, 5] / 2 - ground).astype(np.float32)
    moved = boxes.copy()
    moved[:, 2] -= down
    return moved, down


def _without_collision(sampled: np.ndarray, existing: np.ndarray) -> np.ndarray:
    """Mask [S]: those that touch neither the scene nor each other; of two that touch, neither is used."""
    if not len(sampled):
        return np.zeros(0, bool)
    boxes = torch.from_numpy(np.ascontiguousarray(sampled[:, :7]))
    each = bev_iou(boxes, boxes).numpy()
    np.fill_diagonal(each, 0)
    worst = each.max(1)
    if len(existing):
        worst = worst + bev_iou(boxes, torch.from_numpy(np.ascontiguousarray(existing[:, :7]))).numpy().max(1)
    return worst == 0
