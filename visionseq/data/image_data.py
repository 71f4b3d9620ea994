"""The data module of images and latents."""

from typing import Any

import numpy as np

from visionseq.data.images import ImageDataset, numbered_like
from visionseq.data.loader import LoaderOptions, Source
from visionseq.data.module import DataModule
from visionseq.data.sources import ImageSource
from visionseq.errors import ConfigError


class ImageData(DataModule):
    """Images or latents with their labels, as `ImageBatch`.

    Args:
        dataset: the training samples.
        batch_size: samples of the global batch, summed over processes.
        eval_dataset: the samples of validation, test and prediction; its classes get the numbers that classes of the
            same name have in `dataset`.
        flip: mirror half of the training samples.
        eval_batch_size: the same for validation, test and prediction; None: batch_size.
        loader: workers, prefetch, pinning.
        limit: use only so many samples, spread evenly over the data set.
        samples_per_epoch: samples of an epoch of the training; None: the data set's length.
        class_balanced: draw every class equally often.
        seed: keys the order and the augmentation.
    """

    def __init__(
        self,
        dataset: ImageDataset,
        batch_size: int,
        eval_dataset: ImageDataset | None = None,
        flip: bool = False,
        eval_batch_size: int | None = None,
        loader: LoaderOptions | None = None,
        limit: int | None = None,
        samples_per_epoch: int | None = None,
        class_balanced: bool = False,
        seed: int = 0,
    ):
        super().__init__(batch_size, eval_batch_size, loader, limit, samples_per_epoch, class_balanced, seed)
        if flip and not dataset.flippable:
            raise ConfigError(f"flip: a mirrored sample of {type(dataset).__name__} is not a sample of the same kind")
        self.dataset, self.flip = dataset, flip
        self.eval_dataset = None if eval_dataset is None else numbered_like(eval_dataset, dataset.class_names)

    def train_source(self) -> Source:
        return ImageSource(self.dataset, self.seed, self.flip)

    def eval_source(self) -> Source | None:
        return None if self.eval_dataset is None else ImageSource(self.eval_dataset, self.seed)

    def train_labels(self) -> np.ndarray | None:
        return None if self.dataset.labels is None else self.dataset.labels.numpy()

    @property
    def preprocessing(self) -> dict[str, Any]:
        return self.dataset.preprocessing
