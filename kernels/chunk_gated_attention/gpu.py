"""The gated memory across chunks on the GPU: matrix products around the Triton kernel of `linear_scan`.

Shapes: M rows in S chunks of C, N segments, H heads, K key size, V value size. A chunk reads the memory that the chunks
before have left, so the scan is exclusive. The softmax part is torch's `scaled_dot_product_attention`.
"""

import torch
from torch import Tensor

from visionseq.kernels.linear_scan import gpu as scan


def forward(
    q_MHK: Tensor,
    k_MHK: Tensor,
    v_MHV: Tensor,
    g_MH: Tensor,
    initial_NHKV: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    chunk_size: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """What every row reads [M, H, V], the final memory [N, H, K, V] and the memories that the chunks saw [S, H, K, V].

    across_i = exp(sum_{j<=i} g_j) q_i^T M,  M <- exp(mean_j g_j) M + sum_j k_j v_j^T / sqrt(K)
    """
    with torch.autocast(q_MHK.device.type, enabled=False):
        q_SHCK, k_SHCK, v_SHCV = (_heads_first(x, chunk_size) for x in (q_MHK, k_MHK, v_MHV))
        decay_SH, damping_SHC1 = _decays(g_MH, chunk_size, reverse)
        write_SHKV = k_SHCK.mT @ v_SHCV * k_SHCK.shape[-1] ** -0.5
        initial = None if initial_NHKV is None else initial_NHKV.flatten(2)
        states, final = scan.forward(decay_SH, write_SHKV.flatten(2), initial, offsets // chunk_size, reverse, True)
        states_SHKV, final_NHKV = (x.unflatten(2, write_SHKV.shape[2:]) for x in (states, final))
        return _rows((q_SHCK * damping_SHC1) @ states_SHKV), final_NHKV, states_SHKV


def backward(
    d_across: Tensor | None,
    d_final: Tensor | None,
    d_states: None,
    across_MHV: Tensor,
    final_NHKV: Tensor,
    states_SHKV: Tensor,
    q_MHK: Tensor,
    k_MHK: Tensor,
    v_MHV: Tensor,
    g_MH: Tensor,
    initial_NHKV: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    chunk_size: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
    """Gradients of q, k, v, g and the initial memory; the scan's backward gives those of writes and decays."""
    with torch.autocast(q_MHK.device.type, enabled=False):
        # the read: gradients of q, of the damping and of the memories that were read
        d_across = torch.zeros_like(across_MHV) if d_across is None else d_across
        q_SHCK, k_SHCK, v_SHCV, d_SHCV = (_heads_first(x, chunk_size) for x in (q_MHK, k_MHK, v_MHV, d_across))
        decay_SH, damping_SHC1 = _decays(g_MH, chunk_size, reverse)
        d_q_SHCK = damping_SHC1 * (d_SHCV @ states_SHKV.mT)
        d_read_SHKV = (damping_SHC1 * q_SHCK).mT @ d_SHCV

        # the scan of the memory
        initial, d_final = (None if x is None else x.flatten(2) for x in (initial_NHKV, d_final))
        states, final, offsets = states_SHKV.flatten(2), final_NHKV.flatten(2), offsets // chunk_size
        d_decay_SH, d_write, d_initial = scan.backward(
            d_read_SHKV.flatten(2), d_final, states, final, decay_SH, None, initial, offsets, reverse, True
        )

        # the writes and the gates
        d_write_SHKV = d_write.unflatten(2, states_SHKV.shape[2:]) * k_SHCK.shape[-1] ** -0.5
        d_k_SHCK, d_v_SHCV = v_SHCV @ d_write_SHKV.mT, k_SHCK @ d_write_SHKV
        d_sum_SCH = (q_SHCK * d_q_SHCK).sum(-1).mT
        d_g_SCH = _running_sum(d_sum_SCH, not reverse) + (decay_SH * d_decay_SH)[:, None] / chunk_size
    return (
        _rows(d_q_SHCK).to(q_MHK.dtype),
        _rows(d_k_SHCK).to(k_MHK.dtype),
        _rows(d_v_SHCV).to(v_MHV.dtype),
        d_g_SCH.flatten(0, 1).to(g_MH.dtype),
        None if initial_NHKV is None or d_initial is None else d_initial.view(initial_NHKV.shape),
    )


def _heads_first(x_MHD: Tensor, chunk_size: int) -> Tensor:
    """[M, H, D] -> [S, H, C, D] in float32."""
    return x_MHD.unflatten(0, (x_MHD.shape[0] // chunk_size, chunk_size)).transpose(1, 2).float()


def _rows(x_SHCD: Tensor) -> Tensor:
    """[S, H, C, D] -> contiguous [M, H, D]."""
    return x_SHCD.transpose(1, 2).flatten(0, 1).contiguous()


def _decays(g_MH: Tensor, chunk_size: int, reverse: bool) -> tuple[Tensor, Tensor]:
    """The decay of the memory over each chunk [S, H], and the damping of each row's read [S, H, C, 1]."""
    g_SCH = g_MH.float().unflatten(0, (g_MH.shape[0] // chunk_size, chunk_size))
    damping_SCH = _running_sum(g_SCH, reverse).exp()
    return g_SCH.mean(1).exp(), damping_SCH.mT.unsqueeze(-1)


def _running_sum(x_SCH: Tensor, reverse: bool) -> Tensor:
    """Inclusive sums over the rows of a chunk, from its first or from its last."""
    return x_SCH.flip(1).cumsum(1).flip(1) if reverse else x_SCH.cumsum(1)
