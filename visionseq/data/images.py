"""The base of image data sets, and the step from stored pixels to network input.

A data set gives float images in [-1, 1] by index; random augmentation is not its business (see `ImageData`).
"""

from abc import ABC, abstractmethod
from copy import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionseq.data.batch import ImageBatch
from visionseq.errors import ConfigError, DataError


class ImageDataset(ABC):
    """Map-style images of one size: `len`, one image by index, and whole batches by indices.

    Attributes:
        labels: int64 [n] classes, or None.
        class_names: a name per class, or an empty list.
        size: height and width.
        channels: 1, 3, or 4 for latents.
        flippable: whether a mirrored sample is a sample of the same kind.
    """

    labels: Tensor | None = None
    class_names: list[str]
    size: int
    channels: int
    flippable: bool = True

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def __getitem__(self, index: int) -> Tensor:
        """Image `index`: float32 [C, H, W] in [-1, 1]. Raises `DataError` naming the file where it cannot be read."""

    def batch(self, indices: np.ndarray) -> ImageBatch:
        """Images of int64 [n] `indices`; data sets in memory do it in one step, with the same result."""
        image = torch.stack([self[index] for index in indices.tolist()])
        return self._labelled(image, torch.from_numpy(indices))

    def mirrored(self, image: Tensor, indices: np.ndarray) -> Tensor:
        """The samples `indices`, as [m, C, H, W], mirrored."""
        return image.flip(-1)

    @property
    def preprocessing(self) -> dict[str, Any]:
        """Plain values that inference needs: saved in checkpoints and model folders."""
        return {"kind": "image", "size": self.size, "channels": self.channels, "class_names": list(self.class_names)}

    def _labelled(self, image: Tensor, index: Tensor) -> ImageBatch:
        return ImageBatch(image, None if self.labels is None else self.labels[index], index)


def numbered_like(dataset: ImageDataset, class_names: list[str]) -> ImageDataset:
    """The data set with its classes numbered as in `class_names`; the set itself where nothing changes.

    A folder that lacks a class would otherwise give the classes after it other numbers. Raises `ConfigError` for a
    class that is not among the names.
    """
    names = list(dataset.class_names)
    if dataset.labels is None or not names or not class_names or names == list(class_names):
        return dataset
    unknown = [name for name in names if name not in class_names]
    if unknown:
        raise ConfigError(
            f"evaluation data: classes {', '.join(unknown)}, which the training data lacks; it has "
            f"{', '.join(class_names)}"
        )
    numbered = copy(dataset)
    numbered.labels = torch.tensor([class_names.index(name) for name in names])[dataset.labels]
    numbered.class_names = list(class_names)
    return numbered


class MemoryImages(ImageDataset):
    """Images held in memory as uint8 [n, C, H, W] (converted as they are taken) or float32 in [-1, 1].

    Args:
        images: the pixels.
        labels: int64 [n] or None.
        class_names: a name per class.
    """

    def __init__(self, images: Tensor, labels: Tensor | None = None, class_names: list[str] | None = None):
        if images.ndim != 4 or images.shape[2] != images.shape[3] or images.dtype not in (torch.uint8, torch.float32):
            raise DataError(
                f"images: {images.dtype} of shape {tuple(images.shape)}, expected uint8 or float32 [n, C, S, S]"
            )
        if labels is not None and (labels.shape != images.shape[:1] or labels.dtype != torch.int64):
            raise DataError(f"labels: {labels.dtype} of shape {tuple(labels.shape)}, expected int64 [{len(images)}]")
        self.images, self.labels = images, labels
        self.class_names = class_names or []
        self.channels, self.size = images.shape[1], images.shape[2]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return to_float(self.images[index])

    def batch(self, indices: np.ndarray) -> ImageBatch:
        index = torch.from_numpy(indices)
        return self._labelled(to_float(self.images.index_select(0, index)), index)


def to_float(pixels: Tensor) -> Tensor:
    """uint8 [0, 255] to float32 [-1, 1] as x/255, then (x - 0.5)/0.5; float images pass unchanged."""
    if pixels.dtype != torch.uint8:
        return pixels
    return pixels.float().div_(255).sub_(0.5).mul_(2)  # doubling is exact, as dividing by 0.5 is
