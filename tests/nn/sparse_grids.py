"""Random sparse grids."""

import torch

from visionseq.nn.sparse import SparseTensor


def grid_of(axes: int, channels: int, seed: int, batch: int = 2, share: float = 0.3) -> SparseTensor:
    random = torch.Generator().manual_seed(seed)
    shape = tuple(torch.randint(3, 7, (axes,), generator=random).tolist())
    indices = (torch.rand((batch, *shape), generator=random) < share).nonzero()
    indices = indices[torch.randperm(len(indices), generator=random)]
    features = torch.randn((len(indices), channels), generator=random, dtype=torch.float64)
    return SparseTensor(features, indices, shape, batch)
