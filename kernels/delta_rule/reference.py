"""The delta rule in its general form, diagonal plus low rank, as it is defined.

Shapes: B sequences, T tokens, H heads, K key channels, V value channels; a state [B, H, K, V] maps keys to values.
"""

import torch
from torch import Tensor


def delta_rule(
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHV: Tensor,
    a_BTHK: Tensor,
    b_BTHK: Tensor,
    g_BTHK: Tensor | None,
    state_BHKV: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """S_t = diag(exp(g_t)) S_{t-1} + b_t (a_t^T S_{t-1}) + k_t v_t^T,  o_t = scale * q_t^T S_t.

    The log decays g are one for each key channel, or one for a head (last axis 1), or absent for no decay.
    """
    outputs = []
    decays = [None] * q_BTHK.shape[1] if g_BTHK is None else g_BTHK.unbind(1)
    tokens = (tensor.unbind(1) for tensor in (q_BTHK, k_BTHK, v_BTHV, a_BTHK, b_BTHK))
    for q, k, v, a, b, g in zip(*tokens, decays, strict=True):
        o, state_BHKV = token(q, k, v, a, b, g, state_BHKV, scale)
        outputs.append(o)
    return (torch.stack(outputs, 1) if outputs else v_BTHV), state_BHKV


def token(
    q_BHK: Tensor,
    k_BHK: Tensor,
    v_BHV: Tensor,
    a_BHK: Tensor,
    b_BHK: Tensor,
    g_BHK: Tensor | None,
    state_BHKV: Tensor,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """One token: (o [B, H, V], state)."""
    read_BHV = (a_BHK.unsqueeze(-2) @ state_BHKV).squeeze(-2)  # a reads the state before it decays
    if g_BHK is not None:
        state_BHKV = g_BHK.exp().unsqueeze(-1) * state_BHKV
    written_BHKV = b_BHK.unsqueeze(-1) * read_BHV.unsqueeze(-2) + k_BHK.unsqueeze(-1) * v_BHV.unsqueeze(-2)
    state_BHKV = state_BHKV + written_BHKV
    return scale * (q_BHK.unsqueeze(-2) @ state_BHKV).squeeze(-2), state_BHKV
