"""Operators and sparse grids small enough for tests of the network's parts."""

import torch
from torch import Tensor, nn

from visionseq.nn.sparse import SparseTensor


class Decay(nn.Module):
    """An operator that looks to the left only: a decaying sum; remembers its place in the network and what it saw."""

    def __init__(self, d_model: int, layer_id: int, n_layer: int):
        super().__init__()
        self.place = (layer_id, n_layer)
        self.gain = nn.Parameter(torch.full((d_model,), 0.3))

    def forward(self, x_GLD: Tensor) -> Tensor:
        self.seen = x_GLD.detach()
        lags = torch.arange(x_GLD.shape[1], dtype=x_GLD.dtype)
        weight_LL = (0.5 ** (lags[:, None] - lags)).tril()
        return x_GLD + self.gain * (weight_LL @ x_GLD)


def scattered(counts: list[int], shape: tuple[int, int, int], channels: int = 4, seed: int = 0) -> SparseTensor:
    """`counts` voxels of each sample at random places; a sample's voxels depend on the seed and its number alone."""
    _, height, width = shape
    indices, features = [], []
    for sample, count in enumerate(counts):
        random = torch.Generator().manual_seed(1000 * seed + sample)
        place = torch.randperm(shape[0] * height * width, generator=random)[:count].sort().values
        z, y, x = place // (height * width), place // width % height, place % width
        indices.append(torch.stack([torch.full_like(z, sample), z, y, x], 1))
        features.append(torch.randn((count, channels), generator=random, dtype=torch.float64))
    return SparseTensor(torch.cat(features), torch.cat(indices), shape, len(counts))


def sample_of(x: SparseTensor, sample: int) -> SparseTensor:
    """One sample as a batch of its own."""
    rows = x.indices[:, 0] == sample
    indices = x.indices[rows].clone()
    indices[:, 0] = 0
    return SparseTensor(x.features[rows], indices, x.spatial_shape, 1)
