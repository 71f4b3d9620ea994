"""The selective state space recurrence of Mamba (arXiv 2312.00752), as it is defined.

Shapes: B sequences, T tokens, E = G * F channels of which those of a group share B and C, N state values a channel.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def selective_scan(
    u_BTE: Tensor,
    delta_BTE: Tensor,
    B_BTGN: Tensor,
    C_BTGN: Tensor,
    z_BTE: Tensor | None,
    state_BEN: Tensor,
    *,
    A_EN: Tensor,
    D_E: Tensor | None,
    bias_E: Tensor | None,
    softplus: bool,
) -> tuple[Tensor, Tensor]:
    """Outputs y [B, T, E] and the final state [B, E, N].

    (1)  dt_t = softplus(delta_t + bias)                 softplus and bias are optional
    (2)  h_t = exp(dt_t A) * h_{t-1} + dt_t u_t B_t      for each of the N values of a channel
    (3)  y_t = (sum_n h_t C_t + D u_t) * silu(z_t)       D and z are optional
    """
    groups = (B_BTGN.shape[2], u_BTE.shape[2] // B_BTGN.shape[2])
    dt_BTE = time_step(delta_BTE, bias_E, softplus)
    dt_BTGF1, dtu_BTGF1 = (x_BTE.unflatten(2, groups).unsqueeze(-1) for x_BTE in (dt_BTE, dt_BTE * u_BTE))
    timed = (dt_BTGF1, dtu_BTGF1, B_BTGN.unsqueeze(3), C_BTGN.unsqueeze(3))
    A_GFN, h_BGFN, sums = A_EN.unflatten(0, groups), state_BEN.unflatten(1, groups), []
    for dt_t, dtu_t, B_t, C_t in zip(*(x.unbind(1) for x in timed), strict=True):
        h_BGFN = torch.exp(dt_t * A_GFN) * h_BGFN + dtu_t * B_t
        sums.append((h_BGFN * C_t).sum(-1))
    s_BTE = torch.stack(sums, 1).flatten(2) if sums else u_BTE
    return gated_output(s_BTE, u_BTE, D_E, z_BTE), h_BGFN.flatten(1, 2)


def time_step(delta: Tensor, bias_E: Tensor | None, softplus: bool) -> Tensor:
    """dt = softplus(delta + bias)."""
    dt = delta if bias_E is None else delta + bias_E
    return F.softplus(dt) if softplus else dt


def gated_output(s: Tensor, u: Tensor, D_E: Tensor | None, z: Tensor | None) -> Tensor:
    """y = (s + D u) * silu(z)."""
    o = s if D_E is None else s + D_E * u
    return o if z is None else o * F.silu(z)
