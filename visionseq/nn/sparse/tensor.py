"""Features at some sites of a grid, and the indices of these sites.

Legend: V sites, C channels, D axes of the grid.
"""

import math
from collections.abc import Hashable
from copy import copy
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from visionseq.errors import KernelError


@dataclass
class SparseTensor:
    """A sparse grid of features; the rows may have any order, and no site may occur twice.

    Fields: `features` [V, C]; `indices` int64 [V, 1 + D], the sample and then z, y, x (or y, x); `spatial_shape` (Z, Y,
    X) or (Y, X); `batch_size`; `cache`, neighbours that convolutions on the same sites share.

    `KernelError` for shapes that do not match, and for indices that are not integers or lie beyond grid or batch.
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
        if self.indices.is_floating_point():
            raise KernelError(f"indices: {self.indices.dtype}, expected integers (int64)")
        self.indices = self.indices.long()
        self._check_places()

    def _check_places(self) -> None:
        limits = (self.batch_size, *self.spatial_shape)
        if math.prod(limits) >= 2**63:
            raise KernelError(f"sparse tensor: {limits} cells (sample first), expected fewer than 2^63 in all")
        if not len(self.indices):
            return
        low, high = torch.stack(self.indices.aminmax(dim=0)).tolist()
        if min(low) < 0 or any(place >= limit for place, limit in zip(high, limits, strict=True)):
            raise KernelError(f"indices: from {low} to {high}, expected 0 <= index < {list(limits)} (sample first)")

    def with_features(self, features: Tensor) -> "SparseTensor":
        """Other features [V, C'] on the same sites, with the same cache of neighbours."""
        if features.ndim != 2 or len(features) != len(self.indices):
            raise KernelError(f"features: {list(features.shape)}, expected [{len(self.indices)}, C]")
        tensor = copy(self)
        tensor.features = features
        return tensor

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
        """int64 [B]: number of sites of each sample."""
        return torch.bincount(self.indices[:, 0], minlength=self.batch_size)


def site_keys(indices: Tensor, spatial_shape: tuple[int, ...]) -> Tensor:
    """int64 [V]: the number of each site in the dense grid, from indices [V, 1 + D]."""
    key = indices[:, 0]
    for axis, size in enumerate(spatial_shape, 1):
        key = key * size + indices[:, axis]
    return key


def occurs_twice(site: list[int]) -> KernelError:
    """The error for a site (sample first) that occurs in two rows."""
    return KernelError(f"indices: site {site} (sample first) occurs twice, expected every site once")
