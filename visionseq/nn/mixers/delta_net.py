"""Delta rule mixers: DeltaNet (arXiv 2406.06484) and gated DeltaNet (arXiv 2412.06464).

    S_t = S' + beta_t k_t (v_t - k_t^T S')^T,   S' = exp(g_t) S_{t-1},   o_t = q_t^T S_t / sqrt(K),   y = W_o norm(o)

q, k and v pass a causal convolution and silu, and q and k have length one. DeltaNet has g = 0; the gated form has
g = -exp(A) softplus(W_a x + b), and its output is gated by silu(W_g x).

Shapes: B sequences, T tokens, D channels, H heads of K key and V value channels, C = H (2 K + V).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.kernels.delta_rule import delta_net, delta_net_step
from visionseq.nn.mixers.causal_conv import CausalConv
from visionseq.nn.mixers.mixer import Mixer, state_type
from visionseq.nn.mixers.norms import RMSNorm, unit_length
from visionseq.nn.mixers.time_steps import init_time_step_bias
from visionseq.nn.precision import at_least_float32

NORM_EPS = 1e-5
LARGEST_RATE = 16  # of the initial decays, arXiv 2412.06464


@state_type
class DeltaNetState(NamedTuple):
    """Last tokens before the convolution [N, W-1, C], and the state of the recurrence [N, H, K, V]."""

    history: Tensor
    scan: Tensor


class DeltaNet(Mixer):
    """Linear attention that overwrites what it had stored under a key.

    Args:
        dim: D.
        heads: H.
        expand_k, expand_v: H K / D and H V / D.
        d_conv: taps of the convolution.
        largest_beta: 1, or 2 to let the state change sign along a key (arXiv 2411.12537).
    """

    def __init__(
        self,
        dim: int,
        heads: int = 4,
        expand_k: float = 1.0,
        expand_v: float = 1.0,
        d_conv: int = 4,
        largest_beta: float = 1.0,
    ):
        super().__init__()
        keys, values = int(dim * expand_k), int(dim * expand_v)
        if keys % heads or values % heads:
            raise ConfigError(f"{self._name}: {keys} and {values} channels do not divide into {heads} heads")
        self.heads, self.sizes, self.largest_beta = heads, [keys, keys, values], largest_beta
        self.q_proj = nn.Linear(dim, keys, bias=False)
        self.k_proj = nn.Linear(dim, keys, bias=False)
        self.v_proj = nn.Linear(dim, values, bias=False)
        self.b_proj = nn.Linear(dim, heads, bias=False)
        self.conv = CausalConv(sum(self.sizes), d_conv, bias=False)
        self.o_norm = RMSNorm(values // heads, eps=NORM_EPS)
        self.o_proj = nn.Linear(values, dim, bias=False)

    def forward(
        self, x_BTD: Tensor, state: DeltaNetState | None = None, cu_seqlens: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, DeltaNetState]:
        self.check(x_BTD, state, cu_seqlens)
        history, scan = (None, None) if state is None else state
        qkv_BTC, history = self.conv(self._projected(x_BTD), history, cu_seqlens, reverse)
        o_BTHV, scan = delta_net(
            *self._operands(x_BTD, qkv_BTC), initial_state=scan, reverse=reverse, cu_seqlens=cu_seqlens
        )
        return self._output(x_BTD, o_BTHV), DeltaNetState(history, scan)

    def step(self, x_BD: Tensor, state: DeltaNetState | None = None) -> tuple[Tensor, DeltaNetState]:
        self.check_step(x_BD, state)
        history, scan = (None, None) if state is None else state
        qkv_BC, history = self.conv.step(self._projected(x_BD), history)
        q, k, v, beta, log_decay = self._operands(x_BD, qkv_BC)
        if scan is None:
            scan = beta.new_zeros(*k.shape, v.shape[-1])
        o_BHV, scan = delta_net_step(q, k, v, beta, log_decay, scan)
        return self._output(x_BD, o_BHV), DeltaNetState(history, scan)

    def log_decay(self, x_D: Tensor) -> Tensor | None:
        """g [..., H] of tokens [..., D], or None for no decay."""
        return None

    def _projected(self, x_D: Tensor) -> Tensor:
        return torch.cat([self.q_proj(x_D), self.k_proj(x_D), self.v_proj(x_D)], -1)

    def _operands(self, x_D: Tensor, qkv_C: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor | None]:
        """q, k [..., H, K], v [..., H, V], beta and log decays [..., H], for tokens [..., D] and convolved [..., C]."""
        q, k, v = (part.unflatten(-1, (self.heads, -1)) for part in F.silu(qkv_C).split(self.sizes, -1))
        beta = self.largest_beta * torch.sigmoid(at_least_float32(self.b_proj(x_D)))
        return unit_length(q), unit_length(k), v, beta, self.log_decay(x_D)

    def _output(self, x_D: Tensor, o_HV: Tensor) -> Tensor:
        return self.o_proj(self.o_norm(o_HV).flatten(-2))


class GatedDeltaNet(DeltaNet):
    """DeltaNet whose state also decays, by a rate for each head that depends on the token. Arguments as `DeltaNet`."""

    def __init__(
        self,
        dim: int,
        heads: int = 4,
        expand_k: float = 1.0,
        expand_v: float = 2.0,
        d_conv: int = 4,
        largest_beta: float = 1.0,
    ):
        super().__init__(dim, heads, expand_k, expand_v, d_conv, largest_beta)
        self.a_proj = nn.Linear(dim, heads, bias=False)
        self.g_proj = nn.Linear(dim, self.sizes[2], bias=False)
        self.A_log = nn.Parameter(torch.empty(heads).uniform_(1, LARGEST_RATE).log())
        self.dt_bias = nn.Parameter(torch.empty(heads))
        init_time_step_bias(self.dt_bias)

    def log_decay(self, x_D: Tensor) -> Tensor:
        dt = F.softplus(at_least_float32(self.a_proj(x_D)) + self.dt_bias)
        return -at_least_float32(self.A_log).exp() * dt

    def _output(self, x_D: Tensor, o_HV: Tensor) -> Tensor:
        return self.o_proj(self.o_norm(o_HV).flatten(-2) * F.silu(self.g_proj(x_D)))
