"""The grid in Triton: by a weight between every two nodes where that is cheaper, else node by node with states.

The products of matrices around the kernels are torch's; the direct term is added outside of the kernels.
"""

from typing import Any

import torch
from torch import Tensor

from visionseq.kernels.grid_scan import gpu_states, gpu_weights
from visionseq.kernels.grid_scan.layout import by_head, by_node, by_weights, grid_size, pack, unpack


def forward(q: Tensor, k: Tensor, v: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """y in the dtype of v, and with one direction the states that leave the grid.

    The arguments are those of the operator: q, k, v, eight gates, direct, initial_left, initial_top, scale.
    """
    *gates, direct, initial_left, initial_top, scale = arguments
    inputs = by_head(q) * scale, by_head(k), by_head(v)
    right, bottom = (v.new_empty(0, dtype=torch.float32) for _ in range(2))  # of no states with four directions
    size = grid_size(v)
    if by_weights(v, gates[0]):
        y = gpu_weights.forward(*inputs, pack(gates), size)
    else:
        borders = by_head(initial_left, 1), by_head(initial_top, 1)
        y, *ends = gpu_states.forward(*inputs, pack(gates), *borders, size)
        if gates[0].shape[-1] == 1:
            right, bottom = (by_node(end, v, end.shape[1:2]) for end in ends)
    if direct is not None:
        y = y + _read_itself(*inputs, by_head(direct))
    return by_node(y, v, size).to(v.dtype), right, bottom


def backward(
    d_y: Tensor | None,
    d_right: Tensor | None,
    d_bottom: Tensor | None,
    y: Tensor,
    right: Tensor,
    bottom: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *arguments: Any,
) -> tuple[Tensor | None, ...]:
    """Gradients of the tensors in the order of the arguments, None for those not given."""
    *gates, direct, initial_left, initial_top, scale = arguments
    size = grid_size(v)
    d_y = by_head(torch.zeros_like(y) if d_y is None else d_y)
    inputs = by_head(q) * scale, by_head(k), by_head(v)
    if by_weights(v, gates[0]):
        d_q, d_k, d_v, d_gates, *d_borders = gpu_weights.backward(d_y, *inputs, pack(gates), size)
    else:
        left, top = (by_head(border, 1) for border in (initial_left, initial_top))
        if gates[0].shape[-1] == 1:
            d_right, d_bottom = by_head(d_right, 1), by_head(d_bottom, 1)
        else:
            d_right = d_bottom = None
        results = gpu_states.backward(d_y, d_right, d_bottom, *inputs, pack(gates), left, top, size)
        d_q, d_k, d_v, d_gates, *d_borders = results
    d_direct = d_q.new_zeros(d_q.shape[:2])
    if direct is not None:
        *by_itself, d_direct = _adjoint_of_itself(d_y, *inputs, by_head(direct))
        d_q, d_k, d_v = (d + more for d, more in zip((d_q, d_k, d_v), by_itself, strict=True))
    tensors = (q, k, v, *gates, direct, initial_left, initial_top)
    return unpack(tensors, v, d_gates, (d_q * scale, d_k, d_v, d_direct), d_borders)


def _read_itself(q: Tensor, k: Tensor, v: Tensor, direct: Tensor) -> Tensor:
    return (direct * (q * k).sum(-1)).unsqueeze(-1) * v


def _adjoint_of_itself(
    d_y: Tensor, q: Tensor, k: Tensor, v: Tensor, direct: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What the direct term adds to the gradients of q, k and v, and the gradient of direct."""
    score, read = (q * k).sum(-1), (v * d_y).sum(-1)
    d_score = (direct * read).unsqueeze(-1)
    return d_score * k, d_score * q, (direct * score).unsqueeze(-1) * d_y, score * read
