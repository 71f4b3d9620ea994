"""The data module of lidar frames."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from visionseq.data.lidar.frame import LidarFrames
from visionseq.data.lidar.preparation import PointPreparation
from visionseq.data.lidar.resampling import balanced_classes
from visionseq.data.lidar.source import PointCloudSource, Training
from visionseq.data.loader import LoaderOptions, Source
from visionseq.data.module import DataModule
from visionseq.errors import ConfigError


class PointCloudData(DataModule):
    """Lidar frames with their boxes, as `PointCloudBatch`.

    Args:
        dataset: the training frames.
        preparation: columns, range and classes of the model, which the data sets must have; saved with the model.
        batch_size: samples of the global batch, summed over processes.
        eval_dataset: the frames of validation, test and prediction.
        training: augmentation and pasting of objects.
        cbgs: draw frames so that classes come about equally often (class-balanced grouping, arXiv 1908.09492).
        eval_batch_size: the same for validation, test and prediction; None: batch_size.
        loader: workers, prefetch, pinning.
        limit: use only so many samples, spread evenly over the data set.
        samples_per_epoch: frames of an epoch of the training; None: the data set's length.
        seed: keys the order and the augmentation.
    """

    def __init__(
        self,
        dataset: LidarFrames,
        preparation: PointPreparation,
        batch_size: int,
        eval_dataset: LidarFrames | None = None,
        training: Training | None = None,
        cbgs: bool = False,
        eval_batch_size: int | None = None,
        loader: LoaderOptions | None = None,
        limit: int | None = None,
        samples_per_epoch: int | None = None,
        seed: int = 0,
    ):
        super().__init__(batch_size, eval_batch_size, loader, limit, samples_per_epoch, False, seed)
        self.dataset, self.eval_dataset = dataset, eval_dataset
        names = preparation.class_names or dataset.class_names
        for argument, frames in (("dataset", dataset), ("eval_dataset", eval_dataset)):
            _check_classes(names, argument, frames)
        self.preparation = replace(preparation, class_names=list(names))
        self.training, self.cbgs = training or Training(), cbgs

    def train_source(self) -> Source:
        frames = self.dataset
        if self.cbgs:
            frames = balanced_classes(frames, list(self.preparation.class_names), np.random.RandomState(self.seed))
        return PointCloudSource(frames, self.preparation, self.seed, self.training)

    def eval_source(self) -> Source | None:
        return None if self.eval_dataset is None else PointCloudSource(self.eval_dataset, self.preparation, self.seed)

    @property
    def preprocessing(self) -> dict[str, Any]:
        return self.preparation.preprocessing

    @property
    def class_names(self) -> Sequence[str]:
        return self.preparation.class_names


def _check_classes(names: Sequence[str], argument: str, frames: LidarFrames | None) -> None:
    """Refuse classes that a data set does not have; a data set that states no classes may hold any."""
    existing = () if frames is None else frames.class_names
    unknown = [name for name in names if name not in existing]
    if existing and unknown:
        classes = f"{argument} has {', '.join(existing)}, not {', '.join(unknown)}"
        raise ConfigError(f"preparation: class_names {', '.join(names)}; {classes}")
