"""Gated linear attention: a matrix state whose rows decay by the token's gates (GLA, arXiv 2312.06635).

    S_t = diag(exp(g_t)) S_{t-1} + k_t v_t^T,   o_t = q_t^T S_t / sqrt(K),   g = logsigmoid(W_2 W_1 x + b) / 16
    y = W_o (RMSNorm_heads(o) * silu(W_g x))

Shapes: B sequences, T tokens, D channels, H heads of K key and V value channels.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.kernels.gated_linear_attention import gated_linear_attention, gated_linear_attention_step
from visionseq.nn.mixers.mixer import Mixer
from visionseq.nn.mixers.norms import RMSNorm
from visionseq.nn.precision import at_least_float32

GATE_RANK, GATE_TEMPERATURE = 16, 16  # arXiv 2312.06635, section 4.4
NORM_EPS = 1e-5


class GatedLinearAttention(Mixer):
    """Linear attention with data-dependent decays; the state is [N, H, K, V].

    Args:
        dim: D.
        heads: H.
        expand_k, expand_v: H K / D and H V / D.
        gate: a decay for each "key" channel, or one for a whole "head" (as in Mamba-2).
    """

    def __init__(self, dim: int, heads: int = 4, expand_k: float = 0.5, expand_v: float = 1.0, gate: str = "key"):
        super().__init__()
        keys, values = int(dim * expand_k), int(dim * expand_v)
        if keys % heads or values % heads:
            raise ConfigError(f"GatedLinearAttention: {keys} and {values} channels do not divide into {heads} heads")
        if gate not in ("key", "head"):
            raise ConfigError(f"GatedLinearAttention: gate={gate!r}, expected 'key' or 'head'")
        self.heads, self.gate = heads, gate
        self.q_proj = nn.Linear(dim, keys, bias=False)
        self.k_proj = nn.Linear(dim, keys, bias=False)
        self.v_proj = nn.Linear(dim, values, bias=False)
        self.g_proj = nn.Linear(dim, values, bias=False)
        low_rank = nn.Linear(dim, GATE_RANK, bias=False)
        self.gk_proj = nn.Sequential(low_rank, nn.Linear(GATE_RANK, keys if gate == "key" else heads))
        self.g_norm = RMSNorm(values // heads, eps=NORM_EPS)
        self.o_proj = nn.Linear(values, dim, bias=False)

    def forward(
        self, x_BTD: Tensor, state: Tensor | None = None, cu_seqlens: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, Tensor]:
        self.check(x_BTD, state, cu_seqlens)
        o_BTHV, state = gated_linear_attention(
            *self._operands(x_BTD), initial_state=state, reverse=reverse, cu_seqlens=cu_seqlens
        )
        assert state is not None  # it is None for two directions alone
        return self._output(x_BTD, o_BTHV), state

    def step(self, x_BD: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.check_step(x_BD, state)
        q, k, v, log_decay = self._operands(x_BD)
        if state is None:
            state = log_decay.new_zeros(*k.shape, v.shape[-1])
        o_BHV, state = gated_linear_attention_step(q, k, v, state, log_decay)
        return self._output(x_BD, o_BHV), state

    def _operands(self, x_D: Tensor) -> tuple[Tensor, ...]:
        """q, k [..., H, K], v [..., H, V] and log decays [..., H, K] or [..., H], for tokens [..., D]."""
        projected = (self.q_proj(x_D), self.k_proj(x_D), self.v_proj(x_D))
        log_decay = F.logsigmoid(at_least_float32(self.gk_proj(x_D))) / GATE_TEMPERATURE
        if self.gate == "key":
            log_decay = log_decay.unflatten(-1, (self.heads, -1))
        return *(x.unflatten(-1, (self.heads, -1)) for x in projected), log_decay

    def _output(self, x_D: Tensor, o_HV: Tensor) -> Tensor:
        return self.o_proj(self.g_norm(o_HV).flatten(-2) * F.silu(self.g_proj(x_D)))
