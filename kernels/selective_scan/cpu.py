"""The selective scan on the CPU: a block of channels goes through a segment in chunks, its state in the L1 cache.

Shapes: M rows, S segments, E channels in G groups, N states a channel.
"""

import numpy as np
import torch
from torch import Tensor

from visionseq.kernels.hand_over import array, optional_array
from visionseq.kernels.selective_scan.cpu_kernels import BLOCK, backward_kernel, forward_kernel
from visionseq.kernels.selective_scan.registration import checkpoint_shape
from visionseq.kernels.threads import spread


def forward(
    u_ME: Tensor,
    delta_ME: Tensor,
    A_EN: Tensor,
    B_MGN: Tensor,
    C_MGN: Tensor,
    D_E: Tensor | None,
    z_ME: Tensor | None,
    bias_E: Tensor | None,
    initial_SEN: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    delta_softplus: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """y [M, E] in the dtype of u, the final state [S, E, N] and the checkpoints [C, N, E]."""
    y_ME = torch.empty(u_ME.shape)
    final_SEN = torch.zeros(len(offsets) - 1, *A_EN.shape) if initial_SEN is None else initial_SEN.clone()
    checkpoints_CNE = torch.empty(checkpoint_shape(u_ME, A_EN))
    inputs = _arrays(u_ME, delta_ME, A_EN, B_MGN, C_MGN, D_E, z_ME, bias_E)
    results = map(array, (y_ME, final_SEN, checkpoints_CNE))
    items = len(final_SEN) * B_MGN.shape[1] * count_blocks(A_EN, B_MGN)
    spread(forward_kernel, items, inputs, offsets.numpy(), reverse, delta_softplus, *results)
    return y_ME.to(u_ME.dtype), final_SEN, checkpoints_CNE


def backward(
    d_y: Tensor | None,
    d_final: Tensor | None,
    d_checkpoints: None,
    y_ME: Tensor,
    final_SEN: Tensor,
    checkpoints_CNE: Tensor,
    u_ME: Tensor,
    delta_ME: Tensor,
    A_EN: Tensor,
    B_MGN: Tensor,
    C_MGN: Tensor,
    D_E: Tensor | None,
    z_ME: Tensor | None,
    bias_E: Tensor | None,
    initial_SEN: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    delta_softplus: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of all tensors but the offsets; those of A, B, C, D and the bias are sums over the items' parts."""
    segments, blocks = len(final_SEN), count_blocks(A_EN, B_MGN)
    d_y = torch.zeros(u_ME.shape) if d_y is None else d_y
    d_u, d_delta = torch.empty(u_ME.shape), torch.empty(u_ME.shape)
    d_z = torch.empty(0, 0) if z_ME is None else torch.empty(u_ME.shape)
    d_initial = torch.zeros(final_SEN.shape) if d_final is None else d_final.float().clone()
    d_B, d_C = torch.empty(blocks, *B_MGN.shape), torch.empty(blocks, *B_MGN.shape)
    d_A, d_D, d_bias = torch.empty(segments, *A_EN.T.shape), *torch.empty(2, segments, len(A_EN))
    inputs = _arrays(u_ME, delta_ME, A_EN, B_MGN, C_MGN, D_E, z_ME, bias_E)
    states = (optional_array(initial_SEN, 3), array(checkpoints_CNE))
    gradients = tuple(map(array, (d_u, d_delta, d_A, d_B, d_C, d_D, d_z, d_bias, d_initial)))
    items = segments * B_MGN.shape[1] * blocks
    options = (offsets.numpy(), reverse, delta_softplus)
    spread(backward_kernel, items, inputs, *states, *options, array(d_y), gradients)
    return (
        d_u.to(u_ME.dtype),
        d_delta.to(delta_ME.dtype),
        d_A.sum(0).T.to(A_EN.dtype).contiguous(),
        d_B.sum(0).to(B_MGN.dtype),
        d_C.sum(0).to(C_MGN.dtype),
        None if D_E is None else d_D.sum(0).to(D_E.dtype),
        None if z_ME is None else d_z.to(z_ME.dtype),
        None if bias_E is None else d_bias.sum(0).to(bias_E.dtype),
        None if initial_SEN is None else d_initial,
    )


def count_blocks(A_EN: Tensor, B_MGN: Tensor) -> int:
    """Blocks of channels in a group."""
    return -(-len(A_EN) // B_MGN.shape[1] // BLOCK)


def _arrays(
    u_ME: Tensor,
    delta_ME: Tensor,
    A_EN: Tensor,
    B_MGN: Tensor,
    C_MGN: Tensor,
    D_E: Tensor | None,
    z_ME: Tensor | None,
    bias_E: Tensor | None,
) -> tuple[np.ndarray, ...]:
    return (
        *map(array, (u_ME, delta_ME, A_EN, B_MGN, C_MGN)),
        optional_array(D_E, 1),
        optional_array(z_ME, 2),
        optional_array(bias_E, 1),
    )
