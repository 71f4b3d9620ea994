"""The mLSTM layer of Vision-LSTM (xLSTM, arXiv 2405.04517; ViL, arXiv 2406.04303).

    x, z = W_up u;   a = silu(conv(x));   q, k from a and v from x;   h = norm(mLSTM(q, k, v, i, f))
    y = W_down((h + skip * a) * silu(z))

Parameters have the names of the official checkpoints; the weights of norms are stored as their difference from one.

Shapes: B sequences, T tokens, D channels, E = expand * D inner channels, H heads of K.
"""

import math
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.kernels.mlstm import mlstm, mlstm_step
from visionseq.nn.mixers.block_linear import BlockLinear
from visionseq.nn.mixers.causal_conv import CausalConv
from visionseq.nn.mixers.mixer import Mixer, state_type
from visionseq.nn.mixers.norms import HeadLayerNorm
from visionseq.nn.precision import at_least_float32

Cell = tuple[Tensor, Tensor, Tensor]


@state_type
class MLSTMState(NamedTuple):
    """Last tokens before the convolution [N, W-1, E]; memory [N, H, K, K], normaliser [N, H, K], stabiliser [N, H]."""

    history: Tensor
    memory: Tensor
    normalizer: Tensor
    stabilizer: Tensor


class MLSTM(Mixer):
    """mLSTM with its projections, convolution, skip and gate.

    Args:
        dim: D.
        heads: H.
        expand: E / D.
        d_conv: taps of the convolution.
        qkv_block: channels of a block of the block-diagonal projections to q, k and v.
        bias: whether projections have biases.
        n_blocks: blocks of the network, on which initial values depend.
    """

    def __init__(
        self,
        dim: int,
        heads: int = 4,
        expand: int = 2,
        d_conv: int = 4,
        qkv_block: int = 4,
        bias: bool = True,
        n_blocks: int = 1,
    ):
        super().__init__()
        inner = expand * dim
        if inner % heads or inner % qkv_block:
            raise ConfigError(f"MLSTM: {inner} channels do not divide into {heads} heads and blocks of {qkv_block}")
        self.heads = heads
        self.learnable_skip = nn.Parameter(torch.ones(inner))
        self.proj_up = nn.Linear(dim, 2 * inner, bias=bias)
        self.q_proj = BlockLinear(inner, inner // qkv_block, bias)
        self.k_proj = BlockLinear(inner, inner // qkv_block, bias)
        self.v_proj = BlockLinear(inner, inner // qkv_block, bias)
        self.conv = nn.ModuleDict({"conv": CausalConv(inner, d_conv)})
        self.mlstm_cell = _Cell(inner, heads)
        self.proj_down = nn.Linear(inner, dim, bias=bias)
        self._reset(dim, n_blocks)

    def forward(
        self, x_BTD: Tensor, state: MLSTMState | None = None, cu_seqlens: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, MLSTMState]:
        self.check(x_BTD, state, cu_seqlens)
        x_BTE, z_BTE = self.proj_up(x_BTD).chunk(2, -1)
        history = None if state is None else state.history
        convolved_BTE, history = self._convolution(x_BTE, history, cu_seqlens, reverse)
        a_BTE = F.silu(convolved_BTE)
        cell = None if state is None else state[1:]
        h_BTHK, cell = mlstm(*self._operands(a_BTE, x_BTE), initial_state=cell, reverse=reverse, cu_seqlens=cu_seqlens)
        return self._output(h_BTHK, a_BTE, z_BTE), MLSTMState(history, *cell)

    def step(self, x_BD: Tensor, state: MLSTMState | None = None) -> tuple[Tensor, MLSTMState]:
        self.check_step(x_BD, state)
        x_BE, z_BE = self.proj_up(x_BD).chunk(2, -1)
        convolved_BE, history = self._convolution.step(x_BE, None if state is None else state.history)
        a_BE = F.silu(convolved_BE)
        operands = self._operands(a_BE, x_BE)
        h_BHK, cell = mlstm_step(*operands, _empty_cell(operands[0]) if state is None else state[1:])
        return self._output(h_BHK, a_BE, z_BE), MLSTMState(history, *cell)

    @property
    def _convolution(self) -> CausalConv:
        return cast(CausalConv, self.conv["conv"])  # nn.ModuleDict does not keep the type

    def _operands(self, a_E: Tensor, x_E: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """q, k, v [..., H, K], input and forget gates [..., H], for channels [..., E] with and without convolution."""
        q_E, k_E, v_E = self.q_proj(a_E), self.k_proj(a_E), self.v_proj(x_E)
        gates = self.mlstm_cell.gates(torch.cat([q_E, k_E, v_E], -1))
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in (q_E, k_E, v_E))
        return q, k, v, *gates

    def _output(self, h_HK: Tensor, a_E: Tensor, z_E: Tensor) -> Tensor:
        return self.proj_down((self.mlstm_cell.outnorm(h_HK) + self.learnable_skip * a_E) * F.silu(z_E))

    def _reset(self, dim: int, n_blocks: int) -> None:
        """Small and wide initial values of arXiv 2405.04517; the biases of the projections are zero."""
        for projection in (self.proj_up, self.q_proj, self.k_proj, self.v_proj):
            nn.init.normal_(projection.weight, std=math.sqrt(2 / (5 * dim)))
        nn.init.normal_(self.proj_down.weight, std=2 / (n_blocks * math.sqrt(dim)))
        for projection in (self.proj_up, self.proj_down):
            if projection.bias is not None:
                nn.init.zeros_(projection.bias)


class _Cell(nn.Module):
    """Gates and norm of the cell, which official checkpoints keep together."""

    def __init__(self, inner: int, heads: int):
        super().__init__()
        self.igate = nn.Linear(3 * inner, heads)
        self.fgate = nn.Linear(3 * inner, heads)
        self.outnorm = HeadLayerNorm(inner, residual=True)
        nn.init.zeros_(self.igate.weight)
        nn.init.normal_(self.igate.bias, std=0.1)
        nn.init.zeros_(self.fgate.weight)
        with torch.no_grad():
            self.fgate.bias.copy_(torch.linspace(3, 6, heads))

    def gates(self, qkv: Tensor) -> tuple[Tensor, Tensor]:
        """Input and forget gates before exponential and sigmoid; the cell takes both in float32."""
        return self.igate(qkv), self.fgate(qkv)


def _empty_cell(q_BHK: Tensor) -> Cell:
    q_BHK = at_least_float32(q_BHK)
    batch, heads, keys = q_BHK.shape
    memory, normalizer = q_BHK.new_zeros(batch, heads, keys, keys), q_BHK.new_zeros(batch, heads, keys)
    return memory, normalizer, q_BHK.new_full((batch, heads), -torch.inf)
