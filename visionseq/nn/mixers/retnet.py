"""Retention as LION has it (arXiv 2407.18232): RetNet (arXiv 2307.08621) without positions, head norms and gate.

    S_t = gamma_h S_{t-1} + k_t v_t^T,   o_t = q_t S_t / sqrt(K),   gamma_h = 1 - 2^(-5-h)

LION computes it in chunks of 64 tokens, and within a chunk every token sees every token, weighted by gamma^|t-s|; only
across chunks is it causal. `causal=True` is the recurrence above. The original layer is `MultiScaleRetention`.

Shapes: B sequences, T tokens, D channels, H heads of K key and V value channels.
"""

import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.kernels.gated_linear_attention import gated_linear_attention, gated_linear_attention_step
from visionseq.nn.mixers.mixer import Mixer
from visionseq.nn.precision import at_least_float32

XAVIER_GAIN = 2**-2.5  # arXiv 2307.08621, its code


class RetNet(Mixer):
    """Retention with fixed decays; the state is [N, H, K, V].

    Args:
        dim: D.
        heads: H, which decides the decays.
        expand_k, expand_v: H K / D and H V / D.
        chunk_size: tokens of a chunk, counted from the start of a sequence; part of the definition unless `causal`.
        causal: see the past only, in chunks of any size. Otherwise a state may be carried only from a call that ended
            at the end of a chunk.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        expand_k: float = 1,
        expand_v: float = 2,
        chunk_size: int = 64,
        causal: bool = False,
    ):
        super().__init__()
        keys, values = int(dim * expand_k), int(dim * expand_v)
        if keys % heads or values % heads:
            raise ConfigError(f"RetNet: {keys} key and {values} value channels do not divide into {heads} heads")
        self.direction = "past" if causal else "chunk"
        self.heads, self.chunk_size = heads, chunk_size
        self.q_proj = nn.Linear(dim, keys, bias=False)
        self.k_proj = nn.Linear(dim, keys, bias=False)
        self.v_proj = nn.Linear(dim, values, bias=False)
        self.o_proj = nn.Linear(values, dim, bias=False)
        for projection in (self.q_proj, self.k_proj, self.v_proj, self.o_proj):
            nn.init.xavier_uniform_(projection.weight, gain=XAVIER_GAIN)

    def forward(
        self, x_BTD: Tensor, state: Tensor | None = None, cu_seqlens: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, Tensor]:
        self.check(x_BTD, state, cu_seqlens)
        q, k, v = self._operands(x_BTD)
        o_BTHV, state = gated_linear_attention(
            *(q, k, v, retention_log_decay(self.heads, at_least_float32(v))),
            within="causal" if self.direction == "past" else "bidirectional",
            chunk_size=self.chunk_size,
            initial_state=state,
            reverse=reverse,
            cu_seqlens=cu_seqlens,
        )
        assert state is not None  # it is None for two directions alone
        return self.o_proj(o_BTHV.flatten(-2)), state

    def step(self, x_BD: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self.check_step(x_BD, state)
        q, k, v = self._operands(x_BD)
        log_decay_H = retention_log_decay(self.heads, at_least_float32(v))
        if state is None:
            state = log_decay_H.new_zeros(*k.shape, v.shape[-1])
        o_BHV, state = gated_linear_attention_step(q, k, v, state, log_decay_H)
        return self.o_proj(o_BHV.flatten(-2)), state

    def _operands(self, x_D: Tensor) -> tuple[Tensor, ...]:
        """q, k [..., H, K] and v [..., H, V] for tokens [..., D]."""
        projected = (self.q_proj(x_D), self.k_proj(x_D), self.v_proj(x_D))
        return tuple(x.unflatten(-1, (self.heads, -1)) for x in projected)


def retention_log_decay(heads: int, like: Tensor) -> Tensor:
    """log gamma_h = log(1 - 2^(-5-h)) [H], on the device and in the dtype of another tensor."""
    return torch.log1p(-(2.0 ** (-5 - torch.arange(heads, device=like.device, dtype=like.dtype))))
