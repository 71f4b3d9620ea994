"""The grid on the CPU: by a weight between every two nodes where that is cheaper, else node by node with states."""

from typing import Any

import torch
from torch import Tensor

from visionseq.kernels.grid_scan import cpu_adjoint, cpu_states, cpu_weights
from visionseq.kernels.grid_scan.layout import by_head, by_node, by_weights, grid_size, pack, unpack


def forward(q: Tensor, k: Tensor, v: Tensor, *arguments: Any) -> tuple[Tensor, Tensor, Tensor]:
    """y in the dtype of v, and with one direction the states that leave the grid.

    The arguments are those of the operator: q, k, v, eight gates, direct, initial_left, initial_top, scale.
    """
    *gates, direct, initial_left, initial_top, scale = arguments
    inputs = by_head(q) * scale, by_head(k), by_head(v), pack(gates), by_head(direct)
    size, (right, bottom) = grid_size(v), (torch.empty(0), torch.empty(0))  # of no states with four directions
    if by_weights(v, gates[0]):
        y = cpu_weights.forward(*inputs, size)
    else:
        y, *ends = cpu_states.forward(*inputs, by_head(initial_left, 1), by_head(initial_top, 1), size)
        if gates[0].shape[-1] == 1:
            right, bottom = (by_node(end, v, end.shape[1:2]) for end in ends)
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
    inputs = by_head(q) * scale, by_head(k), by_head(v), pack(gates), by_head(direct)
    if by_weights(v, gates[0]):
        d_q, d_k, d_v, d_gates, d_direct, *d_borders = cpu_weights.backward(d_y, *inputs, size)
    else:
        left, top = (by_head(border, 1) for border in (initial_left, initial_top))
        if gates[0].shape[-1] == 1:
            d_right, d_bottom = by_head(d_right, 1), by_head(d_bottom, 1)
        else:
            d_right = d_bottom = None
        results = cpu_adjoint.backward(d_y, d_right, d_bottom, *inputs, left, top, size)
        d_q, d_k, d_v, d_gates, d_direct, *d_borders = results
    tensors = (q, k, v, *gates, direct, initial_left, initial_top)
    return unpack(tensors, v, d_gates, (d_q.mul_(scale), d_k, d_v, d_direct), d_borders)
