"""RWKV-6: linear attention with token-dependent decays (arXiv 2404.05892), and its form in LION (arXiv 2407.18232).

    y_t = r_t . (S_t + u * k_t v_t^T),   S_{t+1} = diag(exp(-exp(w_t))) S_t + k_t v_t^T

The two-directional form (arXiv 2403.02308) adds the same recurrence from the right; the bonus u counts once, and the
token shift looks back only. Parameters have the names and the order of the official checkpoints.

Shapes: B sequences, T tokens, C channels, H heads of N, L rank of the token-dependent mixing.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.kernels.gated_linear_attention import gated_linear_attention, gated_linear_attention_step
from visionseq.nn.mixers.causal_conv import no_history, previous_token
from visionseq.nn.mixers.mixer import Mixer, state_type
from visionseq.nn.mixers.norms import HeadLayerNorm
from visionseq.nn.precision import at_least_float32

MIXED = ("w", "k", "v", "r", "g")  # what has a mixture of x_t and x_{t-1} of its own, in the order of the weights
MIX_RANK, DECAY_RANK = 32, 64


@state_type
class RWKV6State(NamedTuple):
    """The last token [N, 1, C], and the state of the recurrence [N, H, K, V]."""

    history: Tensor
    scan: Tensor


class RWKV6(Mixer):
    """Spatial (time) mixing of RWKV-6.

    Args:
        dim: C.
        heads: H; a head has C / H channels.
        layer_id, n_layer: place of the layer in its network, on which the initial values depend.
        bidirectional: read both directions; such a mixer has no state.
    """

    time_maa_x: nn.Parameter

    def __init__(self, dim: int, heads: int, layer_id: int = 0, n_layer: int = 1, bidirectional: bool = False):
        super().__init__()
        if dim % heads:
            raise ConfigError(f"RWKV6: {dim} channels do not divide into {heads} heads")
        self.direction = "both" if bidirectional else "past"
        self.heads = heads
        for name, mixture in _initial_mixtures(dim, layer_id, n_layer).items():
            setattr(self, f"time_maa_{name}", nn.Parameter(mixture.clone().view(1, 1, dim)))
        self.time_maa_w1 = _small_weights(dim, len(MIXED) * MIX_RANK)
        self.time_maa_w2 = _small_weights(len(MIXED), MIX_RANK, dim)
        self.time_decay = nn.Parameter(_initial_decay(dim, layer_id, n_layer).view(1, 1, dim))
        self.time_decay_w1 = _small_weights(dim, DECAY_RANK)
        self.time_decay_w2 = _small_weights(DECAY_RANK, dim)
        self.time_faaaa = nn.Parameter(_initial_bonus(dim, layer_id, n_layer).view(heads, -1))
        self.key = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(dim, dim, bias=False)
        self.receptance = nn.Linear(dim, dim, bias=False)
        self.gate = nn.Linear(dim, dim, bias=False)
        self.output = nn.Linear(dim, dim, bias=False)
        self.ln_x = HeadLayerNorm(dim)

    def forward(
        self, x_BTD: Tensor, state: RWKV6State | None = None, cu_seqlens: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, RWKV6State | None]:
        self.check(x_BTD, state, cu_seqlens)
        history, scan = (None, None) if state is None else state
        previous_BTC, history = previous_token(x_BTD, history, cu_seqlens, reverse)
        r, k, v, decay, gate_BTC = self._operands(x_BTD, previous_BTC)
        both = self.direction == "both"
        y_BTHN, scan = gated_linear_attention(
            *(r, k, v, decay),
            scale=1.0,
            bonus=self.time_faaaa,
            direction="both" if both else "one",
            initial_state=scan,
            reverse=reverse,
            cu_seqlens=cu_seqlens,
        )
        after = None if scan is None else RWKV6State(history, scan)
        return self.output(self.ln_x(y_BTHN) * gate_BTC), after

    def step(self, x_BD: Tensor, state: RWKV6State | None = None) -> tuple[Tensor, RWKV6State]:
        self.check_step(x_BD, state)
        history = no_history(x_BD.unsqueeze(1), 1) if state is None else state.history
        r, k, v, decay, gate_BC = self._operands(x_BD, history[:, 0])
        scan = decay.new_zeros(*decay.shape, v.shape[-1]) if state is None else state.scan
        y_BHN, scan = gated_linear_attention_step(r, k, v, scan, decay, scale=1.0, bonus=self.time_faaaa)
        return self.output(self.ln_x(y_BHN) * gate_BC), RWKV6State(x_BD.unsqueeze(1).clone(), scan)

    def _operands(self, x_C: Tensor, previous_C: Tensor) -> tuple[Tensor, ...]:
        """r, k, v and the log decays [..., H, N], and the gate [..., C], for tokens and those before them [..., C]."""
        w_C, k_C, v_C, r_C, g_C = self._mixtures(x_C, previous_C - x_C)
        r, k, v = self.receptance(r_C), self.key(k_C), self.value(v_C)
        w_C = self.time_decay.view(-1) + torch.tanh(w_C @ self.time_decay_w1) @ self.time_decay_w2
        decay = -at_least_float32(w_C).exp()
        return *(x.unflatten(-1, (self.heads, -1)) for x in (r, k, v, decay)), F.silu(self.gate(g_C))

    def _mixtures(self, x_C: Tensor, change_C: Tensor) -> list[Tensor]:
        """Inputs of w, k, v, r, g: x + change * (mixture + what the token adds to the mixture)."""
        low_rank = torch.tanh((x_C + change_C * self.time_maa_x.view(-1)) @ self.time_maa_w1)
        added = torch.einsum("...ml,mlc->...mc", low_rank.unflatten(-1, (len(MIXED), -1)), self.time_maa_w2)
        mixtures = [getattr(self, f"time_maa_{name}").view(-1) for name in MIXED]
        return [
            (x_C + change_C * (mixture + extra)).to(x_C.dtype)
            for mixture, extra in zip(mixtures, added.unbind(-2), strict=True)
        ]


def depth_fractions(layer_id: int, n_layer: int) -> tuple[float, float]:
    """How deep a layer is, from 0 to 1, and how much of the network is left from it on, from 1 to almost 0."""
    return layer_id / max(n_layer - 1, 1), 1 - layer_id / n_layer


def _initial_mixtures(dim: int, layer_id: int, n_layer: int) -> dict[str, Tensor]:
    depth, left = depth_fractions(layer_id, n_layer)
    fraction = torch.arange(dim) / dim
    full, half = 1 - fraction**left, 1 - fraction ** (left / 2)
    return {"x": full, "w": full, "k": full, "v": full - 0.3 * depth, "r": half, "g": half}


def _initial_decay(dim: int, layer_id: int, n_layer: int) -> Tensor:
    depth, _ = depth_fractions(layer_id, n_layer)
    return -6 + 5 * (torch.arange(dim) / max(dim - 1, 1)) ** (0.7 + 1.3 * depth)


def _initial_bonus(dim: int, layer_id: int, n_layer: int) -> Tensor:
    depth, _ = depth_fractions(layer_id, n_layer)
    n = torch.arange(dim)
    return depth * (1 - n / max(dim - 1, 1)) + 0.1 * ((n + 1) % 3 - 1)


def _small_weights(*shape: int) -> nn.Parameter:
    return nn.Parameter(torch.empty(shape).uniform_(-1e-4, 1e-4))
