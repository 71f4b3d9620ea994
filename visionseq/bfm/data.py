"""Latents beside the images that they were made of, for encoders that see images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from visionseq.data.batch import ImageBatch
from visionseq.data.images import ImageDataset
from visionseq.errors import DataError


@dataclass
class PixelBatch(ImageBatch):
    """Latents, and `pixels` float32 [B, 3, S, S] in [-1, 1], the images that they were made of."""

    pixels: Tensor | None = None


class LatentsWithImages(ImageDataset):
    """Two data sets paired by position, such as `LatentShards` and the `ImageFolder` that was encoded.

    Args:
        latents: what the flow learns.
        images: what the encoder sees.

    Raises `DataError` where their lengths or their labels differ.
    """

    flippable = False

    def __init__(self, latents: ImageDataset, images: ImageDataset):
        if len(latents) != len(images):
            raise DataError(f"{len(latents)} latents and {len(images)} images, expected as many")
        if latents.labels is not None and images.labels is not None and not latents.labels.equal(images.labels):
            row = int((latents.labels != images.labels).nonzero()[0])
            raise DataError(f"sample {row}: the latent has label {latents.labels[row]}, the image {images.labels[row]}")
        self.latents, self.images = latents, images
        self.labels = images.labels if latents.labels is None else latents.labels
        self.class_names = latents.class_names or images.class_names
        self.channels, self.size = latents.channels, latents.size

    def __len__(self) -> int:
        return len(self.latents)

    def __getitem__(self, index: int) -> Tensor:
        return self.latents[index]

    def batch(self, indices: np.ndarray) -> PixelBatch:
        label = None if self.labels is None else self.labels[torch.from_numpy(indices)]
        pixels = self.images.batch(indices).image
        return PixelBatch(self.latents.batch(indices).image, label, torch.from_numpy(indices), pixels)

    @property
    def preprocessing(self) -> dict[str, Any]:
        return self.latents.preprocessing
