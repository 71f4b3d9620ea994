"""Mamba: the selective state space mixer (arXiv 2312.00752), and its two-directional form in LION (arXiv 2407.18232).

    x, z = W_in u;   x = silu(conv(x));   dt, B, C = W_x x;   y = W_out (S6(x, softplus(W_dt dt), A, B, C, D) * silu(z))

The two-directional form adds a second scan from the right with weights of its own but the same projections in and out;
each direction is gated before the sum. Parameters have the names and the order of the official checkpoints.

Shapes: B sequences, T tokens, D channels, E = expand * D inner channels, S state values a channel, R rank of dt.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.kernels.selective_scan import selective_scan, selective_scan_step
from visionseq.nn.mixers.causal_conv import CausalConv
from visionseq.nn.mixers.mixer import Mixer, state_type
from visionseq.nn.mixers.time_steps import init_time_step_bias
from visionseq.nn.precision import at_least_float32


@state_type
class MambaState(NamedTuple):
    """Last tokens before the convolution [N, W-1, E], and the state of the scan [N, E, S]."""

    history: Tensor
    scan: Tensor


class _Direction(NamedTuple):
    """Weights of one scan."""

    conv: CausalConv
    x_proj: nn.Linear
    dt_proj: nn.Linear
    A_log: Tensor
    D: Tensor


class Mamba(Mixer):
    """Selective state space mixer.

    Args:
        dim: D.
        d_state: S.
        d_conv: taps of the convolution.
        expand: E / D.
        dt_rank: R, ceil(D / 16) if not given.
        bidirectional: scan from both ends and add; such a mixer has no state.
    """

    # weights of the scan from the left, and of the one from the right where there is one
    conv1d: CausalConv
    x_proj: nn.Linear
    dt_proj: nn.Linear
    A_log: nn.Parameter
    D: nn.Parameter
    conv1d_b: CausalConv
    x_proj_b: nn.Linear
    dt_proj_b: nn.Linear
    A_b_log: nn.Parameter
    D_b: nn.Parameter

    def __init__(
        self,
        dim: int,
        d_state: int = 16,
        d_conv: int = 4,
        expand: int = 2,
        dt_rank: int | None = None,
        bidirectional: bool = False,
    ):
        super().__init__()
        self.direction = "both" if bidirectional else "past"
        inner, self.dt_rank = expand * dim, dt_rank or math.ceil(dim / 16)
        suffixes = ("", "_b") if bidirectional else ("",)
        for suffix in suffixes:
            rates = torch.arange(1, d_state + 1, dtype=torch.float32).log().repeat(inner, 1)
            setattr(self, "A_b_log" if suffix else "A_log", _without_decay(rates))
            setattr(self, f"D{suffix}", _without_decay(torch.ones(inner)))
        self.in_proj = nn.Linear(dim, 2 * inner, bias=False)
        for suffix in suffixes:
            setattr(self, f"conv1d{suffix}", CausalConv(inner, d_conv))
            setattr(self, f"x_proj{suffix}", nn.Linear(inner, self.dt_rank + 2 * d_state, bias=False))
            setattr(self, f"dt_proj{suffix}", nn.Linear(self.dt_rank, inner))
        self.out_proj = nn.Linear(inner, dim, bias=False)
        # the direction from the right keeps the initial values of nn.Linear, as in LION
        nn.init.uniform_(self.dt_proj.weight, -(self.dt_rank**-0.5), self.dt_rank**-0.5)
        init_time_step_bias(self.dt_proj.bias)

    def forward(
        self, x_BTD: Tensor, state: MambaState | None = None, cu_seqlens: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, MambaState | None]:
        self.check(x_BTD, state, cu_seqlens)
        x_BTE, z_BTE = self.in_proj(x_BTD).chunk(2, -1)
        y_BTE, state = self._scan(self._left, x_BTE, z_BTE, state, cu_seqlens, reverse)
        if self.direction == "both":
            from_right_BTE, _ = self._scan(self._right, x_BTE, z_BTE, None, cu_seqlens, not reverse)
            y_BTE, state = y_BTE + from_right_BTE, None
        return self.out_proj(y_BTE), state

    def step(self, x_BD: Tensor, state: MambaState | None = None) -> tuple[Tensor, MambaState]:
        self.check_step(x_BD, state)
        x_BE, z_BE = self.in_proj(x_BD).chunk(2, -1)
        history, scan = (None, None) if state is None else state
        x_BE, history = self.conv1d.step(x_BE, history)
        u_BE = F.silu(x_BE)
        left = self._left
        delta_BE, A_ES, B_BS, C_BS = self._operands(left, u_BE)
        if scan is None:
            scan = at_least_float32(u_BE).new_zeros(u_BE.shape[0], *A_ES.shape)
        y_BE, scan = selective_scan_step(
            *(u_BE, delta_BE, A_ES, B_BS, C_BS, scan, left.D, z_BE, left.dt_proj.bias), delta_softplus=True
        )
        return self.out_proj(y_BE), MambaState(history, scan)

    def _scan(
        self,
        weights: _Direction,
        x_BTE: Tensor,
        z_BTE: Tensor,
        state: MambaState | None,
        cu_seqlens: Tensor | None,
        reverse: bool,
    ) -> tuple[Tensor, MambaState]:
        history, scan = (None, None) if state is None else state
        x_BTE, history = weights.conv(x_BTE, history, cu_seqlens, reverse)
        u_BTE = F.silu(x_BTE)
        y_BTE, scan = selective_scan(
            *(u_BTE, *self._operands(weights, u_BTE)),
            D=weights.D,
            z=z_BTE,
            delta_bias=weights.dt_proj.bias,
            delta_softplus=True,
            initial_state=scan,
            reverse=reverse,
            cu_seqlens=cu_seqlens,
        )
        return y_BTE, MambaState(history, scan)

    def _operands(self, weights: _Direction, u_E: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """delta [..., E] without its bias, A [E, S], B and C [..., S], for inputs [..., E]."""
        d_state = weights.A_log.shape[1]
        dt_R, B_S, C_S = weights.x_proj(u_E).split([self.dt_rank, d_state, d_state], -1)
        delta_E = F.linear(dt_R, weights.dt_proj.weight)  # its bias is added in float32, inside the scan
        return delta_E, -at_least_float32(weights.A_log).exp(), B_S, C_S

    @property
    def _left(self) -> _Direction:
        return _Direction(self.conv1d, self.x_proj, self.dt_proj, self.A_log, self.D)

    @property
    def _right(self) -> _Direction:
        return _Direction(self.conv1d_b, self.x_proj_b, self.dt_proj_b, self.A_b_log, self.D_b)


def _without_decay(values: Tensor) -> nn.Parameter:
    """A parameter that optimisers exempt from weight decay, by the mark that the official code uses."""
    parameter = nn.Parameter(values)
    parameter._no_weight_decay = True  # type: ignore[attr-defined]
    return parameter
