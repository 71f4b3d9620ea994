"""The 3D spatial descriptor, voxel generation and voxel merging (arXiv 2407.18232, sections 3.3 and 3.4)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.lion import limits
from visionseq.nn.sparse import SparseTensor, SubMConv3d
from visionseq.nn.sparse.tensor import site_keys

DIFFUSION = ((-1, 1), (1, 1), (-1, -1), (1, -1))  # x and y steps from a chosen voxel to the four that it generates


class Merged(NamedTuple):
    """Fields: `tensor` on the coarser grid, rows by (sample, x, y, z); `coarse` int64 [V], for each voxel of the finer
    grid its row there.
    """

    tensor: SparseTensor
    coarse: Tensor


class PatchMerging3D(nn.Module):
    """SubM convolution, LayerNorm and GELU; empty neighbours of the strongest voxels; sums over coarser cells.

    Args:
        dim: channels.
        down_scale: by how much the grid gets coarser along x, y, z; it must divide the grid.
        diffusion: generate voxels.
        diff_scale: share of the voxels of a sample, those of the largest mean response, that generate four each.

    Raises `ConfigError` for a share beyond [0, 1], and for a grid that the down scale does not divide.
    """

    def __init__(self, dim: int, down_scale: Sequence[int], diffusion: bool = False, diff_scale: float = 0.2):
        super().__init__()
        self.down_scale = tuple(limits.counts("down_scale", down_scale, limits.MOST_CELLS, length=3))
        if not 0 <= diff_scale <= 1:
            raise ConfigError(f"diff_scale {diff_scale}, expected from 0 to 1")
        self.diffusion, self.diff_scale = diffusion, diff_scale
        self.sub_conv = nn.Sequential(
            SubMConv3d(dim, dim, 3, bias=False, indice_key="subm"), nn.LayerNorm(dim), nn.GELU()
        )
        self.norm = nn.LayerNorm(dim)

    def forward(self, x: SparseTensor) -> Merged:
        """Features [V, C] -> [V', C]; a generated voxel has the feature zero before the norm."""
        scale = self.down_scale[::-1]
        if any(size % step for size, step in zip(x.spatial_shape, scale, strict=True)):
            raise ConfigError(f"grid {x.spatial_shape} (z, y, x): expected multiples of the down scale {scale}")
        described = self.describe(x)
        sites = x.indices
        if self.diffusion:
            sites = torch.cat([sites, self.generate(x, described)])
        shape = tuple(size // step for size, step in zip(x.spatial_shape, scale, strict=True))
        steps = torch.tensor((1, *scale), device=sites.device)
        sites = sites.div(steps, rounding_mode="floor")
        z, y, x_ = shape
        keys, row = site_keys(sites[:, [0, 3, 2, 1]], (x_, y, z)).unique(return_inverse=True)
        row = row[: len(described)]
        summed = described.new_zeros((len(keys), described.shape[1])).index_add(0, row, described)
        return Merged(SparseTensor(self.norm(summed), _sites_of(keys, shape), shape, x.batch_size), row)

    def describe(self, x: SparseTensor) -> Tensor:
        """The 3D spatial feature descriptor, [V, C]."""
        convolution, *others = self.sub_conv
        described = convolution(x).features
        for layer in others:
            described = layer(described)
        return described

    def generate(self, x: SparseTensor, described: Tensor) -> Tensor:
        """Sites [4 K, 4] around the K chosen voxels of each sample, clamped to the grid; some exist already."""
        response = described.detach().mean(1)
        chosen = []
        for sample, count in enumerate(x.counts().tolist()):
            rows = (x.indices[:, 0] == sample).nonzero()[:, 0]
            chosen.append(rows[response[rows].topk(int(count * self.diff_scale)).indices])
        base = x.indices[torch.cat(chosen)]
        _, height, width = x.spatial_shape
        generated = []
        for dx, dy in DIFFUSION:
            site = base.clone()
            site[:, 3] = (site[:, 3] + dx).clamp(0, width - 1)
            site[:, 2] = (site[:, 2] + dy).clamp(0, height - 1)
            generated.append(site)
        return torch.cat(generated)


def _sites_of(keys: Tensor, shape: tuple[int, ...]) -> Tensor:
    z, y, x = shape
    rest, of_z = keys.div(z, rounding_mode="floor"), keys % z
    rest, of_y = rest.div(y, rounding_mode="floor"), rest % y
    return torch.stack([rest.div(x, rounding_mode="floor"), of_z, of_y, rest % x], 1)
