"""The data module of class-balanced sequences."""

from typing import Any

import numpy as np

from visionseq.arflow.sequences import ClassMembers, EvaluationSequences, SequenceOrder, TrainingSequences
from visionseq.data.images import ImageDataset, numbered_like
from visionseq.data.loader import LoaderOptions, Source
from visionseq.data.module import DataModule
from visionseq.data.sampler import Order, spread
from visionseq.data.sources import ImageSource
from visionseq.errors import ConfigError


class SequenceData(DataModule):
    """Sequences of different images of one class, as `SequenceBatch`.

    Args:
        dataset: the training samples, images or latents with labels.
        batch_size: sequences of the global batch, summed over processes.
        images_per_sequence: S.
        eval_dataset: the samples of validation, test and prediction; its classes get the numbers that classes of the
            same name have in `dataset`.
        flip: mirror half of the training samples, each image by itself.
        eval_batch_size: the same for validation, test and prediction; None: batch_size.
        loader: workers, prefetch, pinning.
        limit: use only so many samples, spread evenly over the data set.
        samples_per_epoch: sequences of an epoch of the training; None: as many as there are samples.
        seed: keys the draws and the augmentation.

    Raises `ConfigError` for data without labels, or a class with fewer samples than a sequence has.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        images_per_sequence: int = 5,
        eval_dataset: ImageDataset | None = None,
        flip: bool = False,
        eval_batch_size: int | None = None,
        loader: LoaderOptions | None = None,
        limit: int | None = None,
        samples_per_epoch: int | None = None,
        seed: int = 0,
    ):
        super().__init__(batch_size, eval_batch_size, loader, limit, samples_per_epoch, seed=seed)
        if images_per_sequence < 1:
            raise ConfigError(f"images_per_sequence: {images_per_sequence}, expected at least 1")
        if flip and not dataset.flippable:
            raise ConfigError(f"flip: a mirrored sample of {type(dataset).__name__} is not a sample of the same kind")
        self.dataset, self.images_per_sequence, self.flip = dataset, images_per_sequence, flip
        self.eval_dataset = None if eval_dataset is None else numbered_like(eval_dataset, dataset.class_names)

    def train_source(self) -> Source:
        images = ImageSource(self.dataset, self.seed, self.flip)
        members = self._members(self.dataset, "dataset", self.limit)
        return TrainingSequences(images, members, self.images_per_sequence, self.seed)

    def eval_source(self) -> Source | None:
        if self.eval_dataset is None:
            return None
        images = ImageSource(self.eval_dataset, self.seed)
        members = self._members(self.eval_dataset, "eval_dataset")
        return EvaluationSequences(images, members, self.images_per_sequence, self.seed)

    def train_order(self, source: Source) -> Order:
        return SequenceOrder(len(source))

    @property
    def preprocessing(self) -> dict[str, Any]:
        return self.dataset.preprocessing

    def _members(self, dataset: ImageDataset, name: str, limit: int | None = None) -> ClassMembers:
        if dataset.labels is None:
            raise ConfigError(f"{name}: {type(dataset).__name__} has no labels, sequences are of one class")
        indices: np.ndarray = spread(len(dataset), limit)
        labels = dataset.labels.numpy()[indices]
        return ClassMembers(indices, labels, list(dataset.class_names), self.images_per_sequence)
