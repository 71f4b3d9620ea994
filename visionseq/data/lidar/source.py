"""The source of a loader of point clouds: batches as a function of keys (epoch, index), and of nothing else."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from visionseq.data.lidar.augment import Augmentation, wrap_headings
from visionseq.data.lidar.batch import PointCloudBatch
from visionseq.data.lidar.frame import LidarFrame, LidarFrames, Objects
from visionseq.data.lidar.gt_sampling import GroundTruthSampling
from visionseq.data.lidar.preparation import (
    PointPreparation,
    PreparedPoints,
    encode_boxes,
    have_volume,
    prepare_points,
)
from visionseq.data.seeding import seed_of
from visionseq.errors import DataError

_log = logging.getLogger("visionseq.data")

Sample = tuple[LidarFrame, np.ndarray, np.ndarray, int]  # frame, points, boxes, points that are not finite

_AUGMENT, _SHUFFLE, _ANOTHER = 5, 6, 7  # keys that keep the draws of a sample apart
ATTEMPTS = 10  # frames to try for a sample with boxes, before one without boxes is taken


@dataclass
class Training:
    """The changes that training makes to a scene, and evaluation does not.

    Args:
        augmentations: in this order, after the pasting of objects.
        gt_sampling: pasting of database objects; None: none.
        total_epochs: epochs of the whole training; None: the two arguments below have no effect.
        without_sampling: number of final epochs in which nothing is pasted.
        without_augmentation: number of final epochs in which nothing is augmented or pasted.
    """

    augmentations: Sequence[Augmentation] = field(default_factory=list)
    gt_sampling: GroundTruthSampling | None = None
    total_epochs: int | None = None
    without_sampling: int = 0
    without_augmentation: int = 0

    def in_epoch(self, epoch: int) -> "Training":
        """The changes that apply in an epoch (from 0)."""
        if self.total_epochs is None:
            return self
        plain = epoch >= self.total_epochs - self.without_augmentation
        without_pasting = plain or epoch >= self.total_epochs - self.without_sampling
        augmentations = [] if plain else self.augmentations
        return replace(self, augmentations=augmentations, gt_sampling=None if without_pasting else self.gt_sampling)


class PointCloudSource:
    """Batches of a data set of frames.

    Args:
        frames: the data set.
        preparation: the columns, range and classes of the model.
        seed: keys the draws.
        training: the changes of training samples; None: evaluation, where labels are kept for the metric.

    The log reports once each: boxes without a volume, names that no class has, points that are not finite. Training
    draws another frame in the place of one without labels. Raises `ConfigError` where the database of objects has other
    columns than the frames.
    """

    def __init__(
        self, frames: LidarFrames, preparation: PointPreparation, seed: int = 0, training: Training | None = None
    ):
        self.frames, self.preparation, self.seed, self.training = frames, preparation, seed, training
        self._reported: set[str] = set()
        if training is not None and training.gt_sampling is not None:
            training.gt_sampling.check(frames.features)

    def __len__(self) -> int:
        return len(self.frames)

    def fetch(self, keys: np.ndarray) -> PointCloudBatch:
        """The batch of keys int64 [B, 2], each an (epoch, index)."""
        training = self.training
        samples = [
            self._evaluation_sample(index) if training is None else self._training_sample(training, epoch, index)
            for epoch, index in keys.tolist()
        ]
        points = [
            np.column_stack([np.full(len(cloud), number, np.float32), cloud])
            for number, (_, cloud, _, _) in enumerate(samples)
        ]
        return PointCloudBatch(
            points=torch.from_numpy(np.concatenate(points)),
            gt_boxes=padded_boxes([boxes for _, _, boxes, _ in samples]),
            index=torch.from_numpy(keys[:, 1].copy()),
            frame_ids=[frame.frame_id for frame, *_ in samples],
            frames=[replace(frame, points=frame.points[:0]) for frame, *_ in samples] if training is None else [],
            dropped=sum(dropped for *_, dropped in samples),
        )

    def _evaluation_sample(self, index: int) -> tuple[LidarFrame, np.ndarray, np.ndarray | None, int]:
        frame = self.frames.frame(index)
        prepared = self._prepared(frame, frame.points)
        boxes = None if frame.objects is None else self._encoded(frame, *frame.objects, in_range=False)
        return frame, prepared.points, boxes, prepared.dropped

    def _training_sample(self, training: Training, epoch: int, index: int) -> Sample:
        """The sample of a frame, or of another one that is drawn in its place: one with boxes, if possible."""
        sample: Sample | None = None
        frame = self.frames.frame(index)
        for attempt in range(ATTEMPTS):
            if attempt:
                frame = self.frames.frame(seed_of(self.seed, _ANOTHER, epoch, index, attempt) % len(self.frames))
            if frame.objects is None:
                continue
            sample = self._labelled_sample(frame, frame.objects, training.in_epoch(epoch), epoch, index)
            if len(sample[2]):
                break
        if sample is None:
            reason = f" ({frame.missing_labels} is missing)" if frame.missing_labels else ""
            others = f"{ATTEMPTS - 1} other frames that were drawn have none either"
            raise DataError(f"frame {frame.frame_id}: no labels{reason}; {others}")
        return sample

    def _labelled_sample(
        self, frame: LidarFrame, objects: Objects, training: Training, epoch: int, index: int
    ) -> Sample:
        """A labelled frame with the pasting, augmentation and order of points that a sample of an epoch draws."""
        # Change the scene: objects are pasted, then all of it is augmented.
        random = np.random.default_rng(seed_of(self.seed, _AUGMENT, epoch, index))
        points, (boxes, names) = frame.points, objects
        if training.gt_sampling is not None:
            points, boxes, names = training.gt_sampling.apply(
                points, boxes, names, random, road_plane=frame.road_plane, calibration=frame.calibration
            )
        for augmentation in training.augmentations:
            points, boxes = augmentation.apply(points, boxes, random)

        # Encode the boxes; prepare the points and shuffle them.
        encoded = self._encoded(frame, wrap_headings(boxes), names)
        prepared = self._prepared(frame, points)
        order = np.random.default_rng(seed_of(self.seed, _SHUFFLE, epoch, index)).permutation(len(prepared.points))
        return frame, prepared.points[order], encoded, prepared.dropped

    def _encoded(self, frame: LidarFrame, boxes: np.ndarray, names: np.ndarray, in_range: bool = True) -> np.ndarray:
        """The boxes [M, 8 or 10] that are learned, pasted ones included, with their classes as the last column."""
        flat = len(boxes) - int(have_volume(boxes).sum())
        if flat:
            self._report("flat", f"{frame.frame_id}: {flat} boxes without a volume are not learned (reported once)")
        classes = list(self.preparation.class_names)
        if frame.names is not None and len(frame.names) and not np.isin(frame.names, classes).any():
            learned, names_in_frame = ", ".join(classes), ", ".join(np.unique(frame.names))
            message = f"no box is of a class that is learned ({learned}), found {names_in_frame} (reported once)"
            self._report("names", f"{frame.frame_id}: {message}")
        return encode_boxes(boxes, names, self.preparation, in_range)

    def _prepared(self, frame: LidarFrame, points: np.ndarray) -> PreparedPoints:
        prepared = prepare_points(points, self.frames.features, self.preparation)
        if prepared.dropped:
            count = f"{prepared.dropped} of {len(points)} points are not finite and left out (reported once)"
            self._report("points", f"{frame.frame_id}: {count}")
        return prepared

    def _report(self, kind: str, message: str) -> None:
        if kind not in self._reported:
            self._reported.add(kind)
            _log.warning(message)


def padded_boxes(boxes: list[np.ndarray | None]) -> torch.Tensor | None:
    """[B, M, 8 or 10] of the samples' boxes, zeros beyond them; None where a sample has no labels."""
    labelled = [rows for rows in boxes if rows is not None]
    if len(labelled) < len(boxes):
        return None
    width = max(rows.shape[1] for rows in labelled)
    padded = np.zeros((len(labelled), max(len(rows) for rows in labelled), width), np.float32)
    for sample, rows in enumerate(labelled):
        padded[sample, : len(rows), : rows.shape[1] - 1] = rows[:, :-1]
        padded[sample, : len(rows), -1] = rows[:, -1]  # the class, also where samples with and without velocity meet
    return torch.from_numpy(padded)
