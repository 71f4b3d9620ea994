"""TTT-Linear on the CPU: tensors handed to the kernels, one item for each segment and head.

Shapes: M rows, N segments, H heads, K channels.
"""

import numpy as np
import torch
from torch import Tensor

from visionseq.kernels.hand_over import array
from visionseq.kernels.threads import spread
from visionseq.kernels.ttt_linear import cpu_kernels
from visionseq.kernels.ttt_linear.registration import count_groups, group_size


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
    o_MHK = torch.empty(v_MHK.shape)
    W = _copy(initial_W, (segments, heads, channels, channels))
    b = _copy(initial_b, (segments, heads, channels))
    places = count_groups(rows, segments, mini_batch_size)
    kept_W = torch.zeros(places, heads, channels, channels)  # some places may stay free
    kept_b = torch.zeros(places, heads, channels)
    inputs = map(array, (v_MHK, q_MHK, k_MHK, eta_row_MH, eta_col_MH, norm_weight_HK, norm_bias_HK))
    sizes = (mini_batch_size, group_size(mini_batch_size))
    results = map(array, (o_MHK, W, b, kept_W, kept_b))
    spread(cpu_kernels.forward, segments * heads, *inputs, offsets.numpy(), reverse, *sizes, np.float32(eps), *results)
    return o_MHK.to(v_MHK.dtype), W, b, kept_W, kept_b


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
    d_o = torch.zeros(v_MHK.shape) if d_o is None else d_o
    timed = (v_MHK, q_MHK, k_MHK, eta_row_MH, eta_col_MH)
    norm = (norm_weight_HK, norm_bias_HK)
    d_timed = [torch.empty(x.shape) for x in timed]
    d_norm = [torch.zeros(len(final_W), *x.shape) for x in norm]
    adjoints = (_copy(d_W, final_W.shape), _copy(d_b, final_b.shape))
    inputs = map(array, (*timed, *norm, kept_W, kept_b, d_o))
    sizes = (mini_batch_size, group_size(mini_batch_size))
    results = map(array, (*d_timed, *d_norm, *adjoints))
    items = len(final_W) * len(norm_weight_HK)
    spread(cpu_kernels.backward, items, *inputs, offsets.numpy(), reverse, *sizes, np.float32(eps), *results)
    return (
        *(d_x.to(x.dtype) for d_x, x in zip(d_timed, timed, strict=True)),
        *(d_x.sum(0).to(x.dtype) for d_x, x in zip(d_norm, norm, strict=True)),
        *(None if x is None else d_x for d_x, x in zip(adjoints, (initial_W, initial_b), strict=True)),
    )


def _copy(state: Tensor | None, shape: tuple[int, ...]) -> Tensor:
    """A contiguous copy that a kernel may overwrite; zeros where there is none."""
    return torch.zeros(shape) if state is None else state.clone()
