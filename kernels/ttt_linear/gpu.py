"""TTT-Linear on a GPU: the launches of the Triton kernels.

Shapes: M rows, N segments, H heads, K channels; one program for each segment and head.
"""

import torch
import triton
from torch import Tensor

from visionseq.kernels.checks import check_width
from visionseq.kernels.ttt_linear import gpu_kernels
from visionseq.kernels.ttt_linear.registration import count_groups, group_size

WIDEST = 64  # K; the backward has four matrices [K, K] in the registers of a program


def forward(
    v_MHK: Tensor,
    q_MHK: Tensor,
    k_MHK: Tensor,
    eta_row_MH: Tensor,
    eta_col_MH: Tensor,
    norm_weight_HK: Tensor,
    norm_bias_HK: Tensor,
    initial_W: Tensor | None,
    initial_b: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    mini_batch_size: int,
    eps: float,
) -> tuple[Tensor, ...]:
    """o [M, H, K] in the dtype of v, the final W [N, H, K, K] and b [N, H, K], and the weights kept."""
    (rows, heads, channels), segments = v_MHK.shape, len(offsets) - 1
    check_width("v", channels, WIDEST)
    places = count_groups(rows, segments, mini_batch_size)
    o = torch.empty_like(v_MHK, memory_format=torch.contiguous_format)
    W = v_MHK.new_empty(segments, heads, channels, channels, dtype=torch.float32)
    b = v_MHK.new_empty(segments, heads, channels, dtype=torch.float32)
    kept_W, kept_b = (x.new_zeros(places, *x.shape[1:]) for x in (W, b))
    inputs = (v_MHK, q_MHK, k_MHK, eta_row_MH, eta_col_MH, norm_weight_HK, norm_bias_HK, initial_W, initial_b)
    if W.numel():
        gpu_kernels.forward[segments, heads](
            *(None if x is None else x.contiguous() for x in inputs),
            *(offsets, o, W, b, kept_W, kept_b),
            *(mini_batch_size, group_size(mini_batch_size), eps, channels),
            HAS_INITIAL=initial_W is not None,
            REVERSE=reverse,
            BLOCK=triton.next_power_of_2(channels),
            num_warps=_warps(channels),
        )
    return o, W, b, kept_W, kept_b


def backward(
    d_o: Tensor | None,
    d_W: Tensor | None,
    d_b: Tensor | None,
    d_kept_W: None,
    d_kept_b: None,
    o_MHK: Tensor,
    final_W: Tensor,
    final_b: Tensor,
    kept_W: Tensor,
    kept_b: Tensor,
    v_MHK: Tensor,
    q_MHK: Tensor,
    k_MHK: Tensor,
    eta_row_MH: Tensor,
    eta_col_MH: Tensor,
    norm_weight_HK: Tensor,
    norm_bias_HK: Tensor,
    initial_W: Tensor | None,
    initial_b: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    mini_batch_size: int,
    eps: float,
) -> tuple[Tensor | None, ...]:
    """Gradients of all tensors but the offsets; those of the norm are sums over the segments."""
    # what the kernel reads, and room for the gradients
    segments, heads, channels = final_b.shape
    group, block = group_size(mini_batch_size), triton.next_power_of_2(channels)
    timed = (v_MHK, q_MHK, k_MHK, eta_row_MH, eta_col_MH)
    norm = (norm_weight_HK, norm_bias_HK)
    d_timed = [torch.empty_like(x, memory_format=torch.contiguous_format) for x in timed]
    d_norm = [torch.zeros_like(final_b) for _ in norm]
    adjoints = [torch.zeros_like(x) if d is None else d.clone() for d, x in ((d_W, final_W), (d_b, final_b))]

    # back through all segments, with scratch memory for the weights of one group of mini-batches
    if final_W.numel():
        gpu_kernels.backward[segments, heads](
            *(x.contiguous() for x in (*timed, *norm, kept_W, kept_b)),
            offsets,
            torch.zeros_like(d_timed[0]) if d_o is None else d_o.contiguous(),
            final_W.new_empty(segments, heads, group // mini_batch_size, block, block),
            final_W.new_empty(segments, heads, group // mini_batch_size, block),
            *(*d_timed, *d_norm, *(x.contiguous() for x in adjoints)),
            *(mini_batch_size, group, eps, channels),
            REVERSE=reverse,
            BLOCK=block,
            num_warps=_warps(channels),
        )

    # the gradients of the norm added over the segments
    return (
        *d_timed,
        *(d.sum(0).to(x.dtype) for d, x in zip(d_norm, norm, strict=True)),
        *(None if x is None else d for d, x in zip(adjoints, (initial_W, initial_b), strict=True)),
    )


def _warps(channels: int) -> int:
    """Enough threads to hold four matrices in their registers."""
    return 4 if channels <= 32 else 8
