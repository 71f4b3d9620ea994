"""Block-diagonal linear maps: the channels fall into blocks, and each block is mapped by itself.

Shapes: ... leading axes, G blocks of I channels in and O out, D channels.
"""

import torch
from torch import Tensor, nn


class BlockLinear(nn.Module):
    """y[g, o] = sum_i W[g, o, i] x[g, i] + b[g, o], on channels [..., D].

    Args:
        dim: D, both in and out.
        blocks: G.
        bias: whether to add b.
    """

    def __init__(self, dim: int, blocks: int, bias: bool = True):
        super().__init__()
        size = dim // blocks
        self.weight = nn.Parameter(torch.empty(blocks, size, size))
        self.bias = nn.Parameter(torch.zeros(dim)) if bias else None
        nn.init.uniform_(self.weight, -(size**-0.5), size**-0.5)

    def forward(self, x_D: Tensor) -> Tensor:
        x_GI = x_D.unflatten(-1, (self.weight.shape[0], -1))
        y_D = torch.einsum("...gi,goi->...go", x_GI, self.weight).flatten(-2)
        return y_D if self.bias is None else y_D + self.bias.to(y_D.dtype)
