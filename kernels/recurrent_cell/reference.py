"""Recurrent networks with block-diagonal recurrent weights, as they are defined.

Shapes: B sequences, T tokens, G gates, H heads of D units (E where a sum runs over them), S states of which the first
is the output y. In each head, R y_{t-1} stands for sum_e R[g, h, d, e] y_{t-1}[h, e], and every gate has a bias b.

    elman (g)           y = tanh(x + R y + b)
    lstm (i, f, z, o)   c = sig(f) c + sig(i) tanh(z);  y = sig(o) tanh(c), each gate being x + R y + b
    gru (r, z, n)       r, z = sig(x + R y + b);  y = z y + (1 - z) tanh(x_n + b_n + r * (R_g y + b_g))
    slstm (i, f, z, o)  m' = max(i, m + logsig(f)), but i where n = 0;  I = exp(i - m');  F = exp(m + logsig(f) - m')
                        c = F c + I tanh(z);  n = F n + I, at least the floor;  y = sig(o) c / n

States: elman and gru (y), lstm (y, c), slstm (y, c, n, m). The recurrent weights of gru are (R_g, R_r, R_z), its biases
(b_g, b_r, b_z, b_n).
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from visionseq.kernels.recurrent_cell.layout import LARGEST_EXPONENT


def recurrent_cell(
    x_BTGHD: Tensor,
    state_BSHD: Tensor,
    R_GHDE: Tensor,
    b_GHD: Tensor,
    cell: str,
    normalizer_floor: float | None,
    gradient_recurrent_cut: bool,
    gradient_recurrent_clipval: float | None,
) -> tuple[Tensor, Tensor]:
    """All states [B, T, S, H, D] and the final one [B, S, H, D]."""
    states = []
    for x_BGHD in x_BTGHD.unbind(1):
        y_BHD = state_BSHD[:, 0]
        if gradient_recurrent_cut:
            y_BHD = y_BHD.detach()
        if gradient_recurrent_clipval is not None:
            y_BHD = ClippedGradient.apply(y_BHD, gradient_recurrent_clipval)
        Ry_BGHD = torch.einsum("ghde,bhe->bghd", R_GHDE, y_BHD)
        state_BSHD = torch.stack(update(x_BGHD, Ry_BGHD, b_GHD, state_BSHD, cell, normalizer_floor), 1)
        states.append(state_BSHD)
    if not states:
        return x_BTGHD.new_empty(x_BTGHD.shape[0], 0, *state_BSHD.shape[1:]), state_BSHD
    return torch.stack(states, 1), state_BSHD


def update(
    x_BGHD: Tensor, Ry_BGHD: Tensor, b_GHD: Tensor, state_BSHD: Tensor, cell: str, normalizer_floor: float | None
) -> tuple[Tensor, ...]:
    """The states of one token, each [B, H, D], from those before it."""
    if cell == "gru":
        return _gru(x_BGHD, Ry_BGHD, b_GHD, state_BSHD)
    gates_GBHD = (x_BGHD + Ry_BGHD + b_GHD).unbind(1)
    if cell == "elman":
        return (torch.tanh(*gates_GBHD),)
    i, f, z, o = gates_GBHD
    if cell == "lstm":
        return _lstm(i, f, z, o, state_BSHD)
    return _slstm(i, f, z, o, state_BSHD, normalizer_floor)


def _lstm(i: Tensor, f: Tensor, z: Tensor, o: Tensor, state_BSHD: Tensor) -> tuple[Tensor, Tensor]:
    c = torch.sigmoid(f) * state_BSHD[:, 1] + torch.sigmoid(i) * torch.tanh(z)
    return torch.sigmoid(o) * torch.tanh(c), c


def _gru(x_BGHD: Tensor, Ry_BGHD: Tensor, b_GHD: Tensor, state_BSHD: Tensor) -> tuple[Tensor]:
    (x_r, x_z, x_n), (g, r, z), n = x_BGHD.unbind(1), (Ry_BGHD + b_GHD[:3]).unbind(1), b_GHD[3]
    r, z = torch.sigmoid(x_r + r), torch.sigmoid(x_z + z)
    return (z * state_BSHD[:, 0] + (1 - z) * torch.tanh(x_n + n + r * g),)


def _slstm(
    i: Tensor, f: Tensor, z: Tensor, o: Tensor, state_BSHD: Tensor, normalizer_floor: float | None
) -> tuple[Tensor, ...]:
    _, c, n, m = state_BSHD.unbind(1)
    log_f = m + logsigmoid(f)
    m = torch.where(n == 0, i, torch.maximum(i, log_f))
    exponent, limit = log_f - m, 0.0 if normalizer_floor is None else LARGEST_EXPONENT  # above 0 only where n = 0
    F = torch.exp(torch.where(exponent > limit, limit, exponent))
    I = torch.exp(i - m)  # noqa: E741
    c, n = F * c + I * torch.tanh(z), F * n + I
    if normalizer_floor is not None:
        n = torch.where(
            n < normalizer_floor, normalizer_floor, n
        )  # not torch.clamp: its gradient where both are equal varies
    return torch.sigmoid(o) * c / n, c, n, m


class ClippedGradient(torch.autograd.Function):
    """The identity, whose gradient is clipped to [-limit, limit]; tangents pass as they are."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y: Tensor, limit: float) -> Tensor:
        return y.view_as(y)

    @staticmethod
    def setup_context(ctx, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.limit = inputs[1]

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient.clamp(-ctx.limit, ctx.limit), None

    @staticmethod
    def jvp(ctx, tangent: Tensor, limit: None) -> Tensor:
        return tangent.view_as(tangent)
