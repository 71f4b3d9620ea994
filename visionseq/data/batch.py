"""Typed batches: plain dataclasses of tensors, one per modality.

The base knows tensors and nothing of images. Lightning moves a batch through `to`; torch's loader pins it through
`pin_memory`. A field that a data set does not have is None.
"""

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import ClassVar, TypeVar

import torch
from torch import Tensor

Self = TypeVar("Self", bound="Batch")


@dataclass
class Batch:
    """Base of all batches: a dataclass whose tensor fields have the batch as their first axis."""

    unit: ClassVar[str] = "samples"  # what `len` counts, for displays

    def map(self: Self, fn: Callable[[Tensor], Tensor]) -> Self:
        """The same batch with `fn` applied to each tensor field."""
        return replace(self, **{name: fn(value) for name, value in self._tensors()})

    def to(self: Self, device: torch.device | str, non_blocking: bool = False) -> Self:
        """Copy to `device`; dtypes stay."""
        return self.map(lambda tensor: tensor.to(device, non_blocking=non_blocking))

    def pin_memory(self: Self) -> Self:
        """Copy to page-locked memory, from which a GPU copies asynchronously."""
        return self.map(Tensor.pin_memory)

    def __len__(self) -> int:
        return next((len(value) for _, value in self._tensors()), 0)

    def _tensors(self) -> list[tuple[str, Tensor]]:
        named = [(field.name, getattr(self, field.name)) for field in fields(self)]
        return [(name, value) for name, value in named if isinstance(value, Tensor)]


@dataclass
class ImageBatch(Batch):
    """Images or latents.

    Fields: `image` float32 [B, C, H, W], images in [-1, 1]; `label` int64 [B] or None; `index` int64 [B], the place of
    each sample in its data set.
    """

    unit = "images"

    image: Tensor
    label: Tensor | None = None
    index: Tensor | None = None


@dataclass
class PairBatch(Batch):
    """Reflow pairs: images and the noise that a teacher's ODE turned into them (arXiv 2405.20320).

    Fields: `image` float32 [B, C, H, W] in [-1, 1]; `noise` float32 [B, C, H, W], unit variance; `label` int64 [B] or
    None; `index` int64 [B].
    """

    unit = "images"

    image: Tensor
    noise: Tensor
    label: Tensor | None = None
    index: Tensor | None = None
