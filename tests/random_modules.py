"""Weights and tokens that hide nothing: no parameter is zero or neutral."""

import torch
from torch import Tensor, nn

DIM = 8


def with_random_weights(module: nn.Module, seed: int = 0) -> nn.Module:
    """Add noise to every parameter, so that none is zero or neutral."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))
    return module


def tokens(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, DIM, generator=torch.Generator().manual_seed(seed), dtype=dtype)
