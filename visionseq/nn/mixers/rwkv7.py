"""RWKV-7: a generalised delta rule with decays and learning rates for each channel (arXiv 2503.14456).

    S_t = diag(w_t) S_{t-1} - (a_t * kk_t) (kk_t^T S_{t-1}) + k~_t v_t^T,   o_t = r_t^T S_t
    w = exp(-e^(-1/2) sig(w_0 + tanh(x_w W_1) W_2)),   a = sig(a_0 + x_a A_1 A_2),   g = sig(x_g G_1) G_2
    kk = k * k_k / |k * k_k| in each head,   k~ = k * (1 + (a - 1) * k_a)
    y = W_o (g * (norm(o) + (r . (r_k * k~)) v))

Each x_* is a mixture of a token with the one before it. The residual of values across the layers of a language model is
left out: a mixer knows no other layer.

Shapes: B sequences, T tokens, C channels, H heads of K.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.kernels.delta_rule import delta_rule, delta_rule_step
from visionseq.nn.mixers.causal_conv import no_history, previous_token
from visionseq.nn.mixers.mixer import Mixer, state_type
from visionseq.nn.mixers.norms import HeadLayerNorm, unit_length
from visionseq.nn.precision import at_least_float32

DECAY_RANK, RATE_RANK, GATE_RANK = 64, 64, 128
FASTEST_LOG_DECAY = -math.exp(-0.5)
NORM_EPS = 64e-5


@state_type
class RWKV7State(NamedTuple):
    """The last token [N, 1, C], and the state of the recurrence [N, H, K, K]."""

    history: Tensor
    scan: Tensor


class RWKV7(Mixer):
    """Time mixing of RWKV-7.

    Args:
        dim: C.
        heads: H.
    """

    def __init__(self, dim: int, heads: int):
        super().__init__()
        if dim % heads:
            raise ConfigError(f"RWKV7: {dim} channels do not divide into {heads} heads")
        self.heads = heads
        for name in ("r", "w", "k", "v", "a", "g"):
            setattr(self, f"x_{name}", nn.Parameter(1 - torch.arange(dim) / dim))
        self.w0 = nn.Parameter(torch.linspace(-6, 0, dim))
        self.w1, self.w2 = _low_rank(dim, DECAY_RANK)
        self.a0 = nn.Parameter(torch.zeros(dim))
        self.a1, self.a2 = _low_rank(dim, RATE_RANK)
        self.g1, self.g2 = _low_rank(dim, GATE_RANK)
        nn.init.orthogonal_(self.g2)
        self.k_k = nn.Parameter(torch.ones(dim))
        self.k_a = nn.Parameter(torch.ones(dim))
        self.r_k = nn.Parameter(torch.zeros(heads, dim // heads))
        self.receptance = nn.Linear(dim, dim, bias=False)
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self.ln_x = HeadLayerNorm(dim, eps=NORM_EPS)

    def forward(
        self, x_BTD: Tensor, state: RWKV7State | None = None, cu_seqlens: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, RWKV7State]:
        self.check(x_BTD, state, cu_seqlens)
        history, scan = (None, None) if state is None else state
        previous_BTC, history = previous_token(x_BTD, history, cu_seqlens, reverse)
        *operands, gate_BTC = self._operands(x_BTD, previous_BTC)
        o_BTHK, scan = delta_rule(*operands, scale=1.0, initial_state=scan, reverse=reverse, cu_seqlens=cu_seqlens)
        return self._output(o_BTHK, operands, gate_BTC), RWKV7State(history, scan)

    def step(self, x_BD: Tensor, state: RWKV7State | None = None) -> tuple[Tensor, RWKV7State]:
        self.check_step(x_BD, state)
        history = no_history(x_BD.unsqueeze(1), 1) if state is None else state.history
        *operands, gate_BC = self._operands(x_BD, history[:, 0])
        r, written, v, a, b, log_decay = operands
        scan = log_decay.new_zeros(*log_decay.shape, log_decay.shape[-1]) if state is None else state.scan
        o_BHK, scan = delta_rule_step(r, written, v, a, b, log_decay, scan, scale=1.0)
        return self._output(o_BHK, operands, gate_BC), RWKV7State(x_BD.unsqueeze(1).clone(), scan)

    def _operands(self, x_C: Tensor, previous_C: Tensor) -> list[Tensor]:
        """r, k~, v, -kk, a * kk and log decays [..., H, K], and the gate [..., C], for tokens and those before them."""
        change_C = previous_C - x_C
        r_C, w_C, k_C, v_C, a_C, g_C = (
            (x_C + change_C * getattr(self, f"x_{name}")).to(x_C.dtype) for name in ("r", "w", "k", "v", "a", "g")
        )
        r, k, v = self.receptance(r_C), self.key(k_C), self.value(v_C)
        w = at_least_float32(self.w0 + torch.tanh(w_C @ self.w1) @ self.w2)
        log_decay = FASTEST_LOG_DECAY * torch.sigmoid(w)
        rate = torch.sigmoid(at_least_float32(self.a0 + a_C @ self.a1 @ self.a2))
        written = k * (1 + (rate - 1) * self.k_a)
        r, written, v, log_decay, rate, erased = (
            part.unflatten(-1, (self.heads, -1)) for part in (r, written, v, log_decay, rate, k * self.k_k)
        )
        erased = unit_length(erased)
        return [r, written.to(v.dtype), v, -erased, rate * erased, log_decay, torch.sigmoid(g_C @ self.g1) @ self.g2]

    def _output(self, o_HK: Tensor, operands: list[Tensor], gate_C: Tensor) -> Tensor:
        r, written, v = operands[:3]
        read_itself = (r * self.r_k * written).sum(-1, keepdim=True) * v
        return self.output((self.ln_x(o_HK) + read_itself.flatten(-2)).to(gate_C.dtype) * gate_C)


def _low_rank(dim: int, rank: int) -> tuple[nn.Parameter, nn.Parameter]:
    """Two maps, down and up; the second is zero at first, so that the sum begins with its constant part."""
    return nn.Parameter(torch.empty(dim, rank).uniform_(-1e-2, 1e-2)), nn.Parameter(torch.zeros(rank, dim))
