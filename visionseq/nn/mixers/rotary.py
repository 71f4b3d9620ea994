"""Rotary positions (arXiv 2104.09864): pairs of channels turned by angles that grow with the position.

Shapes: B sequences, T tokens, H heads, K channels, P = K / 2 pairs.
"""

import torch
from torch import Tensor


def rotate_pairs(x_HK: Tensor, angle_P: Tensor) -> Tensor:
    """Turn the channels (2j, 2j+1) of x [..., H, K] by the angles [..., P], the same for all heads."""
    cos, sin = (part.unsqueeze(-2).to(x_HK.dtype) for part in (angle_P.cos(), angle_P.sin()))
    even, odd = x_HK[..., 0::2], x_HK[..., 1::2]
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2)
