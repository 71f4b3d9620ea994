"""Softmax attention behind the protocol of the mixers, for comparison (arXiv 1706.03762).

    y_t = W_o sum_s softmax_s(q_t . k_s / sqrt(K)) v_s,   s <= t where causal

Its state holds the keys and values of every token read, so it grows, and a token costs as much as there are tokens
before it. The caller adds positions.

Shapes: B sequences, T tokens, D channels, H heads of K, S tokens in the cache, N states.
"""

from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.nn.mixers.mixer import Mixer, state_type
from visionseq.nn.mixers.packing import flip_tokens


@state_type
class AttentionState(NamedTuple):
    """Keys and values read so far [N, S, H, K], and how many of them are real [N]: the last ones; zeros come before."""

    k: Tensor
    v: Tensor
    count: Tensor  # type: ignore[assignment]  # takes the place of the method `tuple.count`


class SoftmaxAttention(Mixer):
    """Multi-head attention over each sequence.

    Args:
        dim: D.
        heads: H.
        causal: see the past only. Otherwise all of the sequence, without a state.
    """

    state_grows = True

    def __init__(self, dim: int, heads: int = 4, causal: bool = True):
        super().__init__()
        if dim % heads:
            raise ConfigError(f"SoftmaxAttention: {dim} channels do not divide into {heads} heads")
        self.direction = "past" if causal else "both"
        self.heads = heads
        self.qkv_proj = nn.Linear(dim, 3 * dim, bias=False)
        self.o_proj = nn.Linear(dim, dim, bias=False)

    def forward(
        self,
        x_BTD: Tensor,
        state: AttentionState | None = None,
        cu_seqlens: Tensor | None = None,
        reverse: bool = False,
    ) -> tuple[Tensor, AttentionState | None]:
        self.check(x_BTD, state, cu_seqlens)
        x_BTD = flip_tokens(x_BTD, cu_seqlens) if reverse else x_BTD
        q, k, v = self.qkv_proj(x_BTD).unflatten(-1, (3, self.heads, -1)).unbind(-3)
        if cu_seqlens is None:
            o_BTHK, state = self._attend(q, k, v, state)
        else:
            o_BTHK, state = self._attend_packed(q, k, v, state, cu_seqlens.tolist())
        y_BTD = self.o_proj(o_BTHK.flatten(-2))
        return flip_tokens(y_BTD, cu_seqlens) if reverse else y_BTD, state if self.direction == "past" else None

    def step(self, x_BD: Tensor, state: AttentionState | None = None) -> tuple[Tensor, AttentionState]:
        self.check_step(x_BD, state)
        y_BTD, state = self(x_BD.unsqueeze(1), state)
        return y_BTD[:, 0], state

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, state: AttentionState | None) -> tuple[Tensor, AttentionState]:
        # the keys and values read so far, before those of these tokens
        count_N = torch.full((q.shape[0],), q.shape[1], device=q.device)
        mask = None
        if state is not None:
            mask = _visible(q.shape[1], state)
            k, v = torch.cat([state.k.to(k.dtype), k], 1), torch.cat([state.v.to(v.dtype), v], 1)
            count_N = count_N + state.count
        elif self.direction == "past":
            k, v = k.clone(), v.clone()  # views would keep q alive with the state

        # attention, the heads before the tokens
        causal = self.direction == "past" and mask is None
        q_BHTK, k_BHSK, v_BHSK = (x.transpose(1, 2) for x in (q, k, v))
        o_BHTK = F.scaled_dot_product_attention(q_BHTK, k_BHSK, v_BHSK, attn_mask=mask, is_causal=causal)
        return o_BHTK.transpose(1, 2), AttentionState(k, v, count_N)

    def _attend_packed(
        self, q: Tensor, k: Tensor, v: Tensor, state: AttentionState | None, offsets: list[int]
    ) -> tuple[Tensor, AttentionState]:
        outputs, states = [q[:, :0]], []
        for i, (start, stop) in enumerate(pairwise(offsets)):
            before = None if state is None else AttentionState(*(part[i : i + 1] for part in state))
            o, after = self._attend(q[:, start:stop], k[:, start:stop], v[:, start:stop], before)
            outputs.append(o)
            states.append(after)
        return torch.cat(outputs, 1), _stack(states, k)


def _visible(length: int, state: AttentionState) -> Tensor:
    """Mask [N, 1, T, S + T]: the real keys of the cache, and of the new ones those up to the query's own."""
    cached = state.k.shape[1]
    key = torch.arange(cached + length, device=state.k.device)
    query = torch.arange(length, device=state.k.device).unsqueeze(1)
    real_NS = key >= cached - state.count.unsqueeze(1)
    return real_NS[:, None, None] & (key - cached <= query)


def _stack(states: list[AttentionState], like: Tensor) -> AttentionState:
    """Caches of several sequences as one, with zeros in front of the shorter ones."""
    longest = max((state.k.shape[1] for state in states), default=0)

    def padded(part: Tensor) -> Tensor:
        return F.pad(part, (0, 0, 0, 0, longest - part.shape[1], 0))

    if not states:
        return AttentionState(like[:0], like[:0], torch.zeros(0, dtype=torch.int64, device=like.device))
    k, v = torch.cat([padded(state.k) for state in states]), torch.cat([padded(state.v) for state in states])
    return AttentionState(k, v, torch.cat([state.count for state in states]))
