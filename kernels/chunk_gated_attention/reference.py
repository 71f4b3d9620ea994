"""Attention inside chunks with a gated memory of the chunks before, as it is defined.

Shapes: B sequences, T tokens in S chunks of N, H heads, K key size, V value size.
"""

import torch
from torch import Tensor


def chunk_gated_attention(
    q_BTHK: Tensor, k_BTHK: Tensor, v_BTHV: Tensor, g_BTH: Tensor, state_BHKV: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """Run over the chunks from the state M [B, H, K, V] -> (o [B, T, H, V], state).

    (1)  o_i = sum_j softmax_j(q_i . k_j / sqrt(K)) v_j + exp(sum_{j<=i} g_j) q_i^T M      i, j in the chunk
    (2)  M <- exp(mean_j g_j) M + sum_j k_j v_j^T / sqrt(K)                               after the chunk
    """
    outputs = []
    chunks = (tensor.split(chunk_size, 1) for tensor in (q_BTHK, k_BTHK, v_BTHV, g_BTH))
    for q_BNHK, k_BNHK, v_BNHV, g_BNH in zip(*chunks, strict=True):
        if not q_BNHK.shape[1]:  # the split of no tokens is one empty chunk
            break
        o_BNHV, state_BHKV = step(q_BNHK, k_BNHK, v_BNHV, g_BNH, state_BHKV)
        outputs.append(o_BNHV)
    return (torch.cat(outputs, 1) if outputs else v_BTHV), state_BHKV


def step(q_BNHK: Tensor, k_BNHK: Tensor, v_BNHV: Tensor, g_BNH: Tensor, state_BHKV: Tensor) -> tuple[Tensor, Tensor]:
    """One chunk of `chunk_gated_attention`: (o [B, N, H, V], state)."""
    # eq. (1): softmax inside the chunk, and the damped read of the memory
    k_BNHK = k_BNHK * k_BNHK.shape[-1] ** -0.5
    scores_BHNN = torch.einsum("bihk,bjhk->bhij", q_BNHK, k_BNHK)
    inside_BNHV = torch.einsum("bhij,bjhv->bihv", scores_BHNN.softmax(-1), v_BNHV)
    damped_BNHK = g_BNH.cumsum(1).exp()[..., None] * q_BNHK
    across_BNHV = torch.einsum("bihk,bhkv->bihv", damped_BNHK, state_BHKV)

    # eq. (2): the memory after the chunk
    decay_BH11 = g_BNH.mean(1).exp()[..., None, None]
    state_BHKV = decay_BH11 * state_BHKV + torch.einsum("bjhk,bjhv->bhkv", k_BNHK, v_BNHV)
    return inside_BNHV + across_BNHV, state_BHKV
