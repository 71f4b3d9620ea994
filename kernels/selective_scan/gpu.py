"""The selective scan in Triton: a program takes a block of channels of one group through a segment, chunk by chunk.

Shapes: M rows, S segments, E channels in G groups, N states a channel.
"""

import torch
import triton
from torch import Tensor

from visionseq.kernels.selective_scan.gpu_kernels import backward_kernel, forward_kernel
from visionseq.kernels.selective_scan.registration import CHECKPOINT_EVERY, checkpoint_shape

BLOCK = 8  # channels in one program; 16 leave no register free in the backward


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
    segments = len(offsets) - 1
    y_ME = torch.empty_like(u_ME, memory_format=torch.contiguous_format)
    final_SEN = u_ME.new_zeros((segments, *A_EN.shape), dtype=torch.float32)
    if initial_SEN is not None:
        final_SEN.copy_(initial_SEN)  # of a segment without tokens
    checkpoints_CNE = u_ME.new_empty(checkpoint_shape(u_ME, A_EN), dtype=torch.float32)
    inputs = _contiguous(u_ME, delta_ME, A_EN, B_MGN, C_MGN, D_E, z_ME, bias_E, initial_SEN)
    if segments:
        grid, constants = _launch(A_EN, B_MGN, segments, reverse, delta_softplus)
        forward_kernel[grid](*inputs, offsets, y_ME, final_SEN, checkpoints_CNE, *_sizes(A_EN, B_MGN), **constants)
    return y_ME, final_SEN, checkpoints_CNE


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
    """Gradients of all tensors but the offsets; those of A, B, C, D and the bias are sums over the programs' parts."""
    # room for the gradients
    segments, blocks = len(final_SEN), triton.cdiv(len(A_EN) // B_MGN.shape[1], BLOCK)
    d_u, d_delta = (torch.empty_like(x, memory_format=torch.contiguous_format) for x in (u_ME, delta_ME))
    d_z = None if z_ME is None else torch.empty_like(z_ME, memory_format=torch.contiguous_format)
    d_A = torch.zeros_like(final_SEN)
    d_initial = torch.zeros_like(final_SEN) if d_final is None else d_final.float().clone()
    d_D, d_bias = final_SEN.new_empty(2, segments, len(A_EN))
    d_B, d_C = final_SEN.new_empty(2, blocks, *B_MGN.shape)

    # back through all segments
    inputs = _contiguous(u_ME, delta_ME, A_EN, B_MGN, C_MGN, D_E, z_ME, bias_E, initial_SEN)
    d_y = torch.zeros_like(y_ME) if d_y is None else d_y.contiguous()
    gradients = (d_u, d_delta, d_A, d_B, d_C, d_D, d_z, d_bias, d_initial)
    if segments:
        grid, constants = _launch(A_EN, B_MGN, segments, reverse, delta_softplus)
        sizes = (len(u_ME), *_sizes(A_EN, B_MGN))
        backward_kernel[grid](*inputs, offsets, checkpoints_CNE, d_y, *gradients, *sizes, **constants)

    # the parts of the programs added
    return (
        d_u,
        d_delta,
        d_A.sum(0).to(A_EN.dtype),
        d_B.sum(0).to(B_MGN.dtype),
        d_C.sum(0).to(C_MGN.dtype),
        None if D_E is None else d_D.sum(0).to(D_E.dtype),
        d_z,
        None if bias_E is None else d_bias.sum(0).to(bias_E.dtype),
        None if initial_SEN is None else d_initial,
    )


def _sizes(A_EN: Tensor, B_MGN: Tensor) -> tuple[int, int, int]:
    return len(A_EN), A_EN.shape[1], B_MGN.shape[1]


def _launch(
    A_EN: Tensor, B_MGN: Tensor, segments: int, reverse: bool, delta_softplus: bool
) -> tuple[tuple[int, int], dict[str, int | bool]]:
    """The grid and the constants of both kernels."""
    channels, _, groups = _sizes(A_EN, B_MGN)
    constants = {"REVERSE": reverse, "SOFTPLUS": delta_softplus, "CHUNK": CHECKPOINT_EVERY, "BLOCK": BLOCK}
    return (segments, groups * triton.cdiv(channels // groups, BLOCK)), constants


def _contiguous(*tensors: Tensor | None) -> list[Tensor | None]:
    return [None if tensor is None else tensor.contiguous() for tensor in tensors]
