"""The mLSTM recurrence as it is defined: a gated matrix memory C with a normaliser n and a stabiliser m.

Shapes: B sequences, T tokens, H heads, K key size, V value size.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

State = tuple[Tensor, Tensor, Tensor]

MAX_FLOOR = 80.0  # e^-m ends at e^80, so that it stays finite in float32; the output is zero there in any case


def mlstm(
    q_BTHK: Tensor, k_BTHK: Tensor, v_BTHV: Tensor, i_BTH: Tensor, f_BTH: Tensor, state: State, eps: float
) -> tuple[Tensor, State]:
    """Run over T from the state (C [B, H, K, V], n [B, H, K], m [B, H]) -> (o [B, T, H, V], state).

    (1)  m_t = max(logsig f_t + m_{t-1}, i_t),  F_t = exp(logsig f_t + m_{t-1} - m_t),  I_t = exp(i_t - m_t)
    (2)  C_t = F_t C_{t-1} + I_t k_t v_t^T / sqrt(K)
    (3)  n_t = F_t n_{t-1} + I_t k_t / sqrt(K)
    (4)  o_t = q_t^T C_t / (max(|q_t . n_t|, e^-m_t) + eps)
    """
    outputs = []
    tokens = (tensor.unbind(1) for tensor in (q_BTHK, k_BTHK, v_BTHV, i_BTH, f_BTH))
    for q_BHK, k_BHK, v_BHV, i_BH, f_BH in zip(*tokens, strict=True):
        o_BHV, state = step(q_BHK, k_BHK, v_BHV, i_BH, f_BH, state, eps)
        outputs.append(o_BHV)
    return (torch.stack(outputs, 1) if outputs else v_BTHV), state


def step(
    q_BHK: Tensor, k_BHK: Tensor, v_BHV: Tensor, i_BH: Tensor, f_BH: Tensor, state: State, eps: float
) -> tuple[Tensor, State]:
    """One token of `mlstm`: (o [B, H, V], state)."""
    C_BHKV, n_BHK, m_BH = state
    k_BHK = k_BHK * k_BHK.shape[-1] ** -0.5
    log_f_BH, before_BH = logsigmoid(f_BH), m_BH
    m_BH = torch.maximum(log_f_BH + before_BH, i_BH)
    shift_BH = torch.where(m_BH == -torch.inf, 0.0, m_BH)  # nothing written yet: both gates are zero
    F_BH1 = torch.exp(log_f_BH + (before_BH - shift_BH))[..., None]  # this order loses the fewest digits
    I_BH1 = torch.exp(i_BH - shift_BH)[..., None]
    C_BHKV = F_BH1[..., None] * C_BHKV + (I_BH1 * k_BHK)[..., None] * v_BHV[..., None, :]
    n_BHK = F_BH1 * n_BHK + I_BH1 * k_BHK
    floor_BH = torch.exp((-m_BH).clamp(max=MAX_FLOOR))
    size_BH = torch.maximum((q_BHK * n_BHK).sum(-1).abs(), floor_BH) + eps
    o_BHV = (q_BHK[..., None] * C_BHKV).sum(-2) / size_BH[..., None]
    return o_BHV, (C_BHKV, n_BHK, m_BH)
