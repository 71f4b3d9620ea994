"""Gated linear attention as it is defined: a state [K, V] per head that decays along K and gains k_t v_t^T every token.

Shapes: B sequences, T tokens, H heads, K key channels, V value channels, C tokens of one chunk.
"""

import torch
from torch import Tensor


def gated_linear_attention(
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHV: Tensor,
    g_BTHK: Tensor,
    S_BHKV: Tensor,
    scale: float,
    bonus_HK: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Log decays g [B, T, H, K], their last axis 1 for a scalar -> (o [B, T, H, V], final state [B, H, K, V]).

    S_t = exp(g_t) S_{t-1} + k_t v_t^T. Without a bonus o_t = scale q_t^T S_t; a bonus u weighs a token's own value, and
    the rest is read before the update: o_t = scale q_t^T (S_{t-1} + (u * k_t) v_t^T).
    """
    outputs = []
    for q_BHK, k_BHK, v_BHV, g_BHK in zip(*(x.unbind(1) for x in (q_BTHK, k_BTHK, v_BTHV, g_BTHK)), strict=True):
        before_BHKV = S_BHKV
        v_BH1V = v_BHV.unsqueeze(-2)
        S_BHKV = g_BHK.exp().unsqueeze(-1) * S_BHKV + k_BHK.unsqueeze(-1) * v_BH1V
        read_BHKV = S_BHKV if bonus_HK is None else before_BHKV + (bonus_HK * k_BHK).unsqueeze(-1) * v_BH1V
        outputs.append(scale * (q_BHK.unsqueeze(-2) @ read_BHKV).squeeze(-2))
    return (torch.stack(outputs, 1) if outputs else v_BTHV), S_BHKV


def bidirectional_in_chunks(
    q_BTHK: Tensor, k_BTHK: Tensor, v_BTHV: Tensor, S_BHKV: Tensor, scale: float, decay_H: Tensor, chunk_size: int
) -> tuple[Tensor, Tensor]:
    """Retention that looks both ways inside chunks and back across them -> (o [B, T, H, V], final state).

    o_i = scale [sum_j d^|i-j| (q_i.k_j) v_j + d^(i+1) q_i^T S] over all j of the chunk of i, i from 0 to n - 1; then
    S = d^n S + sum_j d^(n-1-j) k_j v_j^T. The last chunk may be shorter.
    """
    outputs = []
    decay_H11 = decay_H.view(-1, 1, 1)
    for chunk in zip(*(x.transpose(1, 2).split(chunk_size, 2) for x in (q_BTHK, k_BTHK, v_BTHV)), strict=True):
        q_BHCK, k_BHCK, v_BHCV = chunk
        i_C1 = torch.arange(q_BHCK.shape[2], device=q_BHCK.device).unsqueeze(1)
        near_HCC = decay_H11 ** (i_C1 - i_C1.T).abs()
        o_BHCV = (q_BHCK @ k_BHCK.mT * near_HCC) @ v_BHCV + decay_H11 ** (i_C1 + 1) * (q_BHCK @ S_BHKV)
        outputs.append(scale * o_BHCV)
        S_BHKV = decay_H11 ** len(i_C1) * S_BHKV + (decay_H11 ** i_C1.flip(0) * k_BHCK).mT @ v_BHCV
    return (torch.cat(outputs, 2).transpose(1, 2) if q_BTHK.shape[1] else v_BTHV), S_BHKV
