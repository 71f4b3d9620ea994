"""Norms inside the mixers: each head by itself, and weights stored as their difference from one.

Computed in float32 for half inputs, and returned in the dtype of the input.

Shapes: ... leading axes, H heads, K channels of a head, D = H * K.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.nn.precision import at_least_float32


def unit_length(x: Tensor, eps: float = 1e-6) -> Tensor:
    """x / |x| along the last axis; eps, added to the square, keeps the gradient finite at zero."""
    wide = at_least_float32(x)
    return (wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) + eps)).to(x.dtype)


class RMSNorm(nn.RMSNorm):
    """`nn.RMSNorm`, computed in float32 for half inputs whatever the dtype of its weight."""

    def forward(self, x: Tensor) -> Tensor:
        weight = at_least_float32(self.weight)
        return F.rms_norm(at_least_float32(x), self.normalized_shape, weight, self.eps).to(x.dtype)


class ResidualLayerNorm(nn.Module):
    """Layer norm whose stored weight is its difference from one, as in xLSTM (arXiv 2405.04517)."""

    def __init__(self, dim: int, eps: float = 1e-5):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.zeros(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x: Tensor) -> Tensor:
        return F.layer_norm(x, self.weight.shape, 1 + self.weight, self.bias, self.eps)


class HeadLayerNorm(nn.Module):
    """Layer norm of each head over its own channels, [..., H, K] -> [..., D]; weight and bias belong to channels.

    Args:
        dim: D.
        eps: added to the variance.
        residual: the stored weight is its difference from one.
    """

    def __init__(self, dim: int, eps: float = 1e-5, residual: bool = False):
        super().__init__()
        self.eps, self.residual = eps, residual
        self.weight = nn.Parameter(torch.zeros(dim) if residual else torch.ones(dim))
        self.bias = nn.Parameter(torch.zeros(dim))

    def forward(self, x_HK: Tensor) -> Tensor:
        y = F.layer_norm(at_least_float32(x_HK), x_HK.shape[-1:], eps=self.eps).flatten(-2)
        weight = 1 + self.weight if self.residual else self.weight
        return (y * weight + self.bias).to(x_HK.dtype)
