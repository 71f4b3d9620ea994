"""Features at some sites of a grid, and the numbers of these sites.

Legend: V sites, C channels, D axes of the grid.
"""

import math
from collections.abc import Hashable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from visionseq.errors import KernelError


@dataclass
class SparseTensor:
    """A sparse grid of features; rows of one sample need not be together, and no site may occur twice.

    Fields: `features` [V, C]; `indices` int64 [V, 1 + D], the sample and then z, y, x (or y, x); `spatial_shape` (Z, Y,
    X) or (Y, X); `batch_size`; `cache`, neighbours that convolutions on the same sites share.
    """

    features: Tensor
    indices: Tensor
    spatial_shape: tuple[int, ...]
    batch_size: int
    cache: dict[Hashable, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self):
        self.spatial_shape = tuple(int(size) for size in self.spatial_shape)
        expected = (len(self.features), 1 + len(self.spatial_shape))
        if self.features.ndim != 2 or tuple(self.indices.shape) != expected:
            shapes = f"features {list(self.features.shape)}, indices {list(self.indices.shape)}"
            raise KernelError(
                f"sparse tensor: {shapes} and {len(self.spatial_shape)} axes; expected [V, C], [V, 1 + D]"
            )
        if self.indices.dtype != torch.int64:
            self.indices = self.indices.long()

    def with_features(self, features: Tensor) -> "SparseTensor":
        """Other features on the same sites; what is known of their neighbours stays known."""
        return replace(self, features=features)

    def dense(self) -> Tensor:
        """[B, C, *spatial_shape], zero where there is no site."""
        batch, channels = self.batch_size, self.features.shape[1]
        grid = self.features.new_zeros((batch * math.prod(self.spatial_shape), channels))
        grid = grid.index_copy(0, self.keys(), self.features)
        return grid.view(batch, *self.spatial_shape, channels).movedim(-1, 1).contiguous()

    def keys(self) -> Tensor:
        """int64 [V]: the number of each site in the dense grid, the last axis fastest."""
        return site_keys(self.indices, self.spatial_shape)

    def counts(self) -> Tensor:
        """int64 [B]: sites of each sample, also of those that have none."""
        return torch.bincount(self.indices[:, 0], minlength=self.batch_size)


def site_keys(indices: Tensor, spatial_shape: tuple[int, ...]) -> Tensor:
    """int64 [V] of indices [V, 1 + D]."""
    key = indices[:, 0]
    for axis, size in enumerate(spatial_shape, 1):
        key = key * size + indices[:, axis]
    return key
