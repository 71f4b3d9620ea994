"""sLSTM: recurrent cells with exponential gates and a normaliser (xLSTM, arXiv 2405.04517).

    a = silu(conv(x));   i, f = W_i a, W_f a;   z, o = W_z x, W_o x;   y = W_out norm(sLSTM(i, f, z, o))

with m' = max(m + logsig f, i), c = e^(m + logsig f - m') c + e^(i - m') tanh z, n likewise without z, h = sig(o) c / n,
where each gate adds R h_{t-1}, block-diagonal over heads. There is no parallel form: time is sequential.

Names follow what a gate does. In the official checkpoints `fgate` feeds the input gate and `igate` the forget gate; a
converter keeps the role, not the name.

Shapes: B sequences, T tokens, D channels, H heads of K, G = 4 gates.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.kernels.recurrent_cell import recurrent_cell, recurrent_cell_step
from visionseq.nn.mixers.block_linear import BlockLinear
from visionseq.nn.mixers.causal_conv import CausalConv
from visionseq.nn.mixers.mixer import Mixer, state_type
from visionseq.nn.mixers.norms import HeadLayerNorm
from visionseq.nn.precision import at_least_float32


@state_type
class SLSTMState(NamedTuple):
    """Last tokens before the convolution [N, W-1, D], and the cells' (h, c, n, m) [N, 4, H, K]."""

    history: Tensor
    cell: Tensor


class SLSTM(Mixer):
    """sLSTM with its convolution, gates, head norm and projection out.

    Args:
        dim: D.
        heads: H; recurrent weights and gates connect the channels of a head.
        d_conv: taps of the convolution before the input and forget gates.
        layer_id, n_layer: place of the layer in its network, on which the forget gates' initial biases depend.
    """

    def __init__(self, dim: int, heads: int = 4, d_conv: int = 4, layer_id: int = 0, n_layer: int = 1):
        super().__init__()
        if dim % heads:
            raise ConfigError(f"SLSTM: {dim} channels do not divide into {heads} heads")
        self.heads, size = heads, dim // heads
        self.recurrent_weight = nn.Parameter(torch.zeros(4, heads, size, size))
        self.bias = nn.Parameter(torch.zeros(4, heads, size))
        with torch.no_grad():
            self.bias[1] = _initial_forget_bias(size, layer_id / max(n_layer - 1, 1))
        self.conv = CausalConv(dim, d_conv)
        self.input_gate = BlockLinear(dim, heads, bias=False)
        self.forget_gate = BlockLinear(dim, heads, bias=False)
        self.cell_input = BlockLinear(dim, heads, bias=False)
        self.output_gate = BlockLinear(dim, heads, bias=False)
        self.norm = HeadLayerNorm(dim, residual=True)
        self.out_proj = nn.Linear(dim, dim)

    def forward(
        self, x_BTD: Tensor, state: SLSTMState | None = None, cu_seqlens: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, SLSTMState]:
        self.check(x_BTD, state, cu_seqlens)
        history, cell = (None, None) if state is None else state
        convolved_BTD, history = self.conv(x_BTD, history, cu_seqlens, reverse)
        h_BTHK, cell = recurrent_cell(
            *(self._gates(x_BTD, convolved_BTD), self.recurrent_weight, self.bias),
            cell="slstm",
            normalizer_floor=None,
            outputs_only=True,
            initial_state=cell,
            reverse=reverse,
            cu_seqlens=cu_seqlens,
        )
        return self.out_proj(self.norm(h_BTHK).to(x_BTD.dtype)), SLSTMState(history, cell)

    def step(self, x_BD: Tensor, state: SLSTMState | None = None) -> tuple[Tensor, SLSTMState]:
        self.check_step(x_BD, state)
        history, cell = (None, None) if state is None else state
        convolved_BD, history = self.conv.step(x_BD, history)
        gates_BGHK = self._gates(x_BD, convolved_BD)
        if cell is None:
            cell = torch.zeros_like(gates_BGHK)
        h_BHK, cell = recurrent_cell_step(
            *(gates_BGHK, self.recurrent_weight, self.bias, cell),
            cell="slstm",
            normalizer_floor=None,
            outputs_only=True,
        )
        return self.out_proj(self.norm(h_BHK).to(x_BD.dtype)), SLSTMState(history, cell)

    def _gates(self, x_D: Tensor, convolved_D: Tensor) -> Tensor:
        """What the cell gets from the token, [..., G, H, K] with the gates i, f, z, o; in float32 or better."""
        a_D = F.silu(convolved_D)
        gates = (self.input_gate(a_D), self.forget_gate(a_D), self.cell_input(x_D), self.output_gate(x_D))
        return at_least_float32(torch.stack(gates, -2)).unflatten(-1, (self.heads, -1))


def _initial_forget_bias(size: int, depth: float) -> Tensor:
    """From 5, which remembers, to -7, which forgets, along the units of a head."""
    return 5 - 12 * (torch.arange(size) / max(size - 1, 1)) ** (0.3 + 1.3 * depth)
