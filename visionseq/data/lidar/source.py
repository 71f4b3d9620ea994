"""What a loader of point clouds reads from: batches as a function of keys (epoch, index), and of nothing else."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from visionseq.data.lidar.augment import Augmentation, wrap_headings
from visionseq.data.lidar.batch import PointCloudBatch
from visionseq.data.lidar.frame import LidarFrame, LidarFrames
from visionseq.data.lidar.gt_sampling import GroundTruthSampling
from visionseq.data.lidar.preparation import PointPreparation, encode_boxes, have_volume, prepare_points
from visionseq.data.seeding import seed_of

_log = logging.getLogger("visionseq.data")

_AUGMENT, _SHUFFLE, _ANOTHER = 5, 6, 7  # keys that keep the draws of a sample apart
ATTEMPTS = 10  # at a sample with boxes, before one without is taken


@dataclass
class Training:
    """What training does to a scene that evaluation does not.

    Args:
        augmentations: in this order, after the pasting of objects.
        gt_sampling: pasting of database objects; None: none.
        total_epochs: of the whole training, for the two below; None: they have no effect.
        without_sampling: in how many last epochs nothing is pasted.
        without_augmentation: in how many last epochs nothing is augmented or pasted.
    """

    augmentations: Sequence[Augmentation] = field(default_factory=list)
    gt_sampling: GroundTruthSampling | None = None
    total_epochs: int | None = None
    without_sampling: int = 0
    without_augmentation: int = 0

    def in_epoch(self, epoch: int) -> "Training":
        """What is left of it in an epoch (from 0)."""
        if self.total_epochs is None:
            return self
        last = epoch >= self.total_epochs - self.without_augmentation
        unpasted = last or epoch >= self.total_epochs - self.without_sampling
        kept = [] if last else self.augmentations
        return replace(self, augmentations=kept, gt_sampling=None if unpasted else self.gt_sampling)


class PointCloudSource:
    """Batches of a data set of frames.

    Args:
        frames: the data set.
        preparation: what the model takes.
        seed: keys the draws.
        training: what happens to training samples; None: evaluation, where labels are kept for the metric.
    """

    def __init__(
        self, frames: LidarFrames, preparation: PointPreparation, seed: int = 0, training: Training | None = None
    ):
        self.frames, self.preparation, self.seed, self.training = frames, preparation, seed, training
        self._told = False

    def __len__(self) -> int:
        return len(self.frames)

    def fetch(self, keys: np.ndarray) -> PointCloudBatch:
        make = self._evaluation_sample if self.training is None else self._training_sample
        samples = [make(int(epoch), int(index)) for epoch, index in keys]
        points = [
            np.column_stack([np.full(len(cloud), number, np.float32), cloud])
            for number, (_, cloud, _, _) in enumerate(samples)
        ]
        return PointCloudBatch(
            points=torch.from_numpy(np.concatenate(points)),
            gt_boxes=_padded([boxes for _, _, boxes, _ in samples]),
            index=torch.from_numpy(keys[:, 1].copy()),
            frame_ids=[frame.frame_id for frame, *_ in samples],
            frames=[replace(frame, points=frame.points[:0]) for frame, *_ in samples] if self.training is None else [],
            dropped=sum(dropped for *_, dropped in samples),
        )

    def _evaluation_sample(self, _: int, index: int) -> tuple[LidarFrame, np.ndarray, np.ndarray | None, int]:
        frame = self.frames.frame(index)
        prepared = prepare_points(frame.points, self.frames.features, self.preparation)
        boxes = None if frame.boxes is None else self._encoded(frame, frame.boxes, frame.names, in_range=False)
        return frame, prepared.points, boxes, prepared.dropped

    def _training_sample(self, epoch: int, index: int) -> tuple[LidarFrame, np.ndarray, np.ndarray, int]:
        for attempt in range(ATTEMPTS):
            chosen = index if attempt == 0 else seed_of(self.seed, _ANOTHER, epoch, index, attempt) % len(self.frames)
            sample = self._drawn(epoch, index, chosen)
            if len(sample[2]):
                break
        return sample

    def _drawn(self, epoch: int, index: int, chosen: int) -> tuple[LidarFrame, np.ndarray, np.ndarray, int]:
        frame, training = self.frames.frame(chosen), self.training.in_epoch(epoch)
        random = np.random.default_rng(seed_of(self.seed, _AUGMENT, epoch, index))
        points, boxes, names = frame.points, frame.boxes, frame.names
        if boxes is None:
            boxes, names = np.zeros((0, 7), np.float32), np.zeros(0, np.str_)
        if training.gt_sampling is not None:
            place = {"road_plane": frame.road_plane, "calibration": frame.calibration}
            points, boxes, names = training.gt_sampling.apply(points, boxes, names, random, **place)
        for augmentation in training.augmentations:
            points, boxes = augmentation.apply(points, boxes, random)
        encoded = self._encoded(frame, wrap_headings(boxes), names)
        prepared = prepare_points(points, self.frames.features, self.preparation)
        order = np.random.default_rng(seed_of(self.seed, _SHUFFLE, epoch, index)).permutation(len(prepared.points))
        return frame, prepared.points[order], encoded, prepared.dropped

    def _encoded(self, frame: LidarFrame, boxes: np.ndarray, names: np.ndarray, in_range: bool = True) -> np.ndarray:
        """The boxes as they are learned; the log counts those of the first frame that has some without a volume."""
        flat = len(boxes) - int(have_volume(boxes).sum())
        if flat and not self._told:
            self._told = True
            _log.warning("%s: %d boxes without a volume are not learned (said once)", frame.frame_id, flat)
        return encode_boxes(boxes, names, self.preparation, in_range)


def _padded(boxes: list[np.ndarray | None]) -> torch.Tensor | None:
    if any(rows is None for rows in boxes):
        return None
    width = max(rows.shape[1] for rows in boxes)
    padded = np.zeros((len(boxes), max(len(rows) for rows in boxes), width), np.float32)
    for sample, rows in enumerate(boxes):
        padded[sample, : len(rows), : rows.shape[1]] = rows
    return torch.from_numpy(padded)
