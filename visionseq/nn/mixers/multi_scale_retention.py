"""Multi-scale retention, the layer of RetNet (arXiv 2307.08621), with the parameters of its released code.

    o_t = q_t . sum_{s<=t} gamma_h^(t-s) k_s v_s^T,   y = W_o (silu(W_g x) * RMSNorm_heads(o))

q and k carry rotary positions, and k is scaled by 1/sqrt(K). The released code divides o_t by sqrt(sum_s gamma^(t-s)),
and in its parallel form, in which models are trained, also by max(1, sum_s |score_ts|). The head norm removes both
but for its eps; `parallel=True` computes that form exactly, at quadratic cost.

Shapes: B sequences, T tokens, D channels, H heads of K key and V value channels, P = K / 2 pairs, N states.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.kernels.gated_linear_attention import gated_linear_attention, gated_linear_attention_step
from visionseq.nn.embeddings import rotate_pairs
from visionseq.nn.mixers.mixer import Mixer, state_type
from visionseq.nn.mixers.packing import segment_of_token, token_positions
from visionseq.nn.mixers.retnet import XAVIER_GAIN, retention_log_decay
from visionseq.nn.precision import at_least_float32

LARGEST_SCORE_SUM = 5e4
NORM_EPS = 1e-6


@state_type
class RetentionState(NamedTuple):
    """The state of the recurrence [N, H, K, V], and the number of tokens read [N], int64."""

    scan: Tensor
    position: Tensor


class MultiScaleRetention(Mixer):
    """The original retention layer.

    Args:
        dim: D; also H K.
        heads: H, which decides the decays.
        value_dim: H V, twice D if not given.
        parallel: divide by the sums of scores, as in training; quadratic in T, and without a state.
    """

    def __init__(self, dim: int, heads: int, value_dim: int | None = None, parallel: bool = False):
        super().__init__()
        values = value_dim or 2 * dim
        if dim % (2 * heads) or values % heads:
            raise ConfigError(f"MultiScaleRetention: {dim} and {values} channels do not divide into {heads} heads")
        self.heads, self.parallel = heads, parallel
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, values, bias=False)
        self.g_proj = nn.Linear(dim, values, bias=False)
        self.out_proj = nn.Linear(values, dim, bias=False)
        for projection in (self.q_proj, self.k_proj, self.v_proj, self.g_proj):
            nn.init.xavier_uniform_(projection.weight, gain=XAVIER_GAIN)
        nn.init.xavier_uniform_(self.out_proj.weight)

    def forward(
        self,
        x_BTD: Tensor,
        state: RetentionState | None = None,
        cu_seqlens: Tensor | None = None,
        reverse: bool = False,
    ) -> tuple[Tensor, RetentionState | None]:
        self.check(x_BTD, state, cu_seqlens)
        if self.parallel and state is not None:
            raise ConfigError("MultiScaleRetention(parallel=True) cannot go on from a state: pass state=None")
        position_BT, after_N = _positions(x_BTD, state, cu_seqlens, reverse)
        q, k, v = self._operands(x_BTD, position_BT)
        if self.parallel:
            o_BTHV, state = self._parallel(q, k, v, position_BT, cu_seqlens), None
        else:
            log_decay_H = retention_log_decay(self.heads, at_least_float32(v))
            scan = None if state is None else state.scan
            o_BTHV, scan = gated_linear_attention(
                *(q, k, v, log_decay_H),
                scale=1.0,
                initial_state=scan,
                reverse=reverse,
                cu_seqlens=cu_seqlens,
            )
            assert scan is not None  # it is None for two directions alone
            o_BTHV, state = o_BTHV / self._weight_sum(position_BT, o_BTHV).sqrt(), RetentionState(scan, after_N)
        return self._output(x_BTD, o_BTHV), state

    def step(self, x_BD: Tensor, state: RetentionState | None = None) -> tuple[Tensor, RetentionState]:
        self.check_step(x_BD, state)
        if self.parallel:
            raise ConfigError("MultiScaleRetention(parallel=True) cannot take single tokens: call it on sequences")
        position_B = x_BD.new_zeros(x_BD.shape[0], dtype=torch.int64) if state is None else state.position
        q, k, v = self._operands(x_BD, position_B)
        log_decay_H = retention_log_decay(self.heads, at_least_float32(v))
        scan = log_decay_H.new_zeros(*k.shape, v.shape[-1]) if state is None else state.scan
        o_BHV, scan = gated_linear_attention_step(q, k, v, scan, log_decay_H, scale=1.0)
        o_BHV = o_BHV / self._weight_sum(position_B, o_BHV).sqrt()
        return self._output(x_BD, o_BHV), RetentionState(scan, position_B + 1)

    def _operands(self, x_D: Tensor, position: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q, k [..., H, K] with positions and v [..., H, V], for tokens [..., D] at the positions [...]."""
        projected = (self.q_proj(x_D), self.k_proj(x_D), self.v_proj(x_D))
        q, k, v = (x.unflatten(-1, (self.heads, -1)) for x in projected)
        angle = position.unsqueeze(-1) * angle_per_token(q.shape[-1] // 2, x_D.device)
        return rotate_pairs(q, angle), rotate_pairs(k, angle) * k.shape[-1] ** -0.5, v

    def _weight_sum(self, position: Tensor, like: Tensor) -> Tensor:
        """sum_{s<=t} gamma^(t-s) [..., H, 1] for tokens at the positions [...]."""
        log_decay_H = retention_log_decay(self.heads, like.new_empty(0, dtype=torch.float64))
        count = (position + 1).to(torch.float64).unsqueeze(-1)
        return (torch.expm1(count * log_decay_H) / torch.expm1(log_decay_H)).unsqueeze(-1).to(like.dtype)

    def _parallel(self, q: Tensor, k: Tensor, v: Tensor, position_BT: Tensor, cu_seqlens: Tensor | None) -> Tensor:
        """softmax-free attention with the decay mask and the normalisers of the released parallel form."""
        length = q.shape[1]
        age_BTS = position_BT.unsqueeze(2) - position_BT.unsqueeze(1)
        visible_BTS = age_BTS >= 0
        if cu_seqlens is not None:
            segment_T = segment_of_token(cu_seqlens.to(q.device), length)
            visible_BTS = visible_BTS & (segment_T.unsqueeze(1) == segment_T)
        log_decay_H = retention_log_decay(self.heads, at_least_float32(v))
        mask_BTSH = torch.exp(age_BTS.clamp(min=0).unsqueeze(-1) * log_decay_H) * visible_BTS.unsqueeze(-1)
        mask_BTSH = mask_BTSH / mask_BTSH.sum(2, keepdim=True).sqrt()
        scores_BTSH = torch.einsum("bthk,bshk->btsh", q, k) * mask_BTSH
        total_BT1H = scores_BTSH.detach().abs().sum(2, keepdim=True).clamp(1, LARGEST_SCORE_SUM)
        return torch.einsum("btsh,bshv->bthv", scores_BTSH / total_BT1H, at_least_float32(v)).to(v.dtype)

    def _output(self, x_D: Tensor, o_HV: Tensor) -> Tensor:
        normed = F.rms_norm(at_least_float32(o_HV), o_HV.shape[-1:], eps=NORM_EPS).to(o_HV.dtype)
        return self.out_proj(F.silu(self.g_proj(x_D)) * normed.flatten(-2))


def angle_per_token(pairs: int, device: torch.device | None = None) -> Tensor:
    """By how much a pair of channels turns from one token to the next [P], in float64; from 1 to 1e-4."""
    return 1e4 ** -torch.linspace(0, 1, pairs, dtype=torch.float64, device=device)


def _positions(
    x_BTD: Tensor, state: RetentionState | None, cu_seqlens: Tensor | None, reverse: bool
) -> tuple[Tensor, Tensor]:
    """Position [B or 1, T] of each token since its sequence began, and the tokens read after it [N]."""
    position_BT = token_positions(x_BTD.shape[1], cu_seqlens, reverse, x_BTD.device).unsqueeze(0)
    if cu_seqlens is None:
        length_N = torch.full((x_BTD.shape[0],), x_BTD.shape[1], device=x_BTD.device)
    else:
        length_N = cu_seqlens.to(device=x_BTD.device, dtype=torch.int64).diff()
    if state is None:
        return position_BT, length_N
    if cu_seqlens is None:
        return position_BT + state.position.unsqueeze(1), length_N + state.position
    return position_BT + state.position[segment_of_token(cu_seqlens, x_BTD.shape[1])], length_N + state.position
