"""Recurrent networks: LSTM (Hochreiter and Schmidhuber, 1997), GRU (arXiv 1406.1078), minGRU (arXiv 2410.01201).

LSTM and GRU feed their output back through recurrent weights, block-diagonal over heads, so time is sequential; with
one head they are `nn.LSTM` and `nn.GRU`. The gates of minGRU see the token alone, which makes it a linear recurrence:

    h_t = (1 - z_t) h_{t-1} + z_t W_h x_t,   z_t = sig(W_z x_t)

Shapes: B sequences, T tokens, D channels, H heads of K, G gates, N states.
"""

from typing import Any

import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.kernels.linear_scan import linear_scan, linear_scan_step
from visionseq.kernels.recurrent_cell import recurrent_cell, recurrent_cell_step
from visionseq.nn.mixers.mixer import Mixer
from visionseq.nn.precision import at_least_float32


class _Recurrent(Mixer):
    """A cell with its input projection; biases belong to the cell."""

    cell: str
    input_gates: int
    biases: int
    states: int

    def __init__(self, dim: int, heads: int = 1):
        super().__init__()
        if dim % heads:
            raise ConfigError(f"{self._name}: {dim} channels do not divide into {heads} heads")
        self.heads, size = heads, dim // heads
        self.in_proj = nn.Linear(dim, self.input_gates * dim, bias=False)
        self.recurrent_weight = nn.Parameter(torch.empty(self.input_gates, heads, size, size))
        self.bias = nn.Parameter(torch.empty(self.biases, heads, size))
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(size**-0.5), size**-0.5)  # as nn.LSTM and nn.GRU

    def forward(
        self, x_BTD: Tensor, state: Tensor | None = None, cu_seqlens: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, Tensor]:
        self.check(x_BTD, state, cu_seqlens)
        y_BTHK, state = recurrent_cell(
            *(self._gates(x_BTD), self.recurrent_weight, self.bias),
            cell=self.cell,
            outputs_only=True,
            initial_state=state,
            reverse=reverse,
            cu_seqlens=cu_seqlens,
        )
        return y_BTHK.flatten(-2).to(x_BTD.dtype), state

    def step(self, x_BD: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.check_step(x_BD, state)
        gates_BGHK = self._gates(x_BD)
        if state is None:
            state = gates_BGHK.new_zeros(x_BD.shape[0], self.states, *gates_BGHK.shape[2:])
        y_BHK, state = recurrent_cell_step(
            *(gates_BGHK, self.recurrent_weight, self.bias, state), cell=self.cell, outputs_only=True
        )
        return y_BHK.flatten(-2).to(x_BD.dtype), state

    def _gates(self, x_D: Tensor) -> Tensor:
        """What the cell gets from the token [..., G, H, K]; in float32 or better."""
        gates_J = at_least_float32(self.in_proj(x_D))
        return gates_J.view(*x_D.shape[:-1], self.input_gates, self.heads, x_D.shape[-1] // self.heads)


class LSTM(_Recurrent):
    """Long short-term memory; the state (y, c) is [N, 2, H, K]. Gates in the order i, f, z, o.

    Args:
        dim: D.
        heads: H; recurrent weights connect the channels of a head.
    """

    cell, input_gates, biases, states = "lstm", 4, 4, 2


class GRU(_Recurrent):
    """Gated recurrent unit; the state (y) is [N, 1, H, K]. Gates in the order r, z, n.

    Args:
        dim: D.
        heads: H; recurrent weights connect the channels of a head.
    """

    cell, input_gates, biases, states = "gru", 3, 4, 1  # weights g, r, z and biases g, r, z, n: g is n's recurrent part


class MinGRU(Mixer):
    """GRU whose gates see the token alone; the state is [N, D].

    Args:
        dim: D.
    """

    def __init__(self, dim: int):
        super().__init__()
        self.z_proj = nn.Linear(dim, dim)
        self.h_proj = nn.Linear(dim, dim)

    def forward(
        self, x_BTD: Tensor, state: Any = None, cu_seqlens: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, Tensor]:
        self.check(x_BTD, state, cu_seqlens)
        y_BTD, state = linear_scan(*self._gates(x_BTD), state, reverse=reverse, cu_seqlens=cu_seqlens)
        return y_BTD.to(x_BTD.dtype), state

    def step(self, x_BD: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.check_step(x_BD, state)
        keep_BD, add_BD = self._gates(x_BD)
        y_BD, state = linear_scan_step(keep_BD, add_BD, torch.zeros_like(add_BD) if state is None else state)
        return y_BD.to(x_BD.dtype), state

    def _gates(self, x_D: Tensor) -> tuple[Tensor, Tensor]:
        """What is kept of the state and what is added to it."""
        z_D = at_least_float32(self.z_proj(x_D))
        return torch.sigmoid(-z_D), torch.sigmoid(z_D) * at_least_float32(self.h_proj(x_D))
