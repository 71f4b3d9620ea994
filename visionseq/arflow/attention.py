"""Hybrid attention of ARFlow (arXiv 2501.16085): softmax inside an image, a gated memory of the images before it.

    q, k, v   rms of h Wq, h Wk, h Wv over the full width D, without weights
    g         logsigmoid((h + c) Wgt) / 16, one log gate for each token and head
    o, M      `visionseq.kernels.chunk_gated_attention(q, k, v, g)` with one image as a chunk; M is the memory
    out       (silu(h Wg) rms(o)) Wo, the rms of each head by itself, without weights

What an image knows of those before it is in M alone, so a call for S images and S calls that hand M on give the same.

Legend: B sequences, S images, N tokens of an image, D width, H heads, K channels of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.kernels.chunk_gated_attention import chunk_gated_attention
from visionseq.nn.precision import at_least_float32

EPS = 1e-6
GATE_NORMALIZER = 16  # an undecided gate keeps exp(-ln 2 / 16) = 0.958 of the memory


class HybridAttention(nn.Module):
    """Attention among the tokens of each image, and from them to the images before: forward(h, c, memory).

    Args:
        dim: D.
        num_heads: H.

    Raises `ConfigError` where D does not divide into H heads.
    """

    def __init__(self, dim: int, num_heads: int):
        super().__init__()
        if num_heads < 1 or dim % num_heads:
            raise ConfigError(f"attention: {dim} channels do not divide into {num_heads} heads")
        self.num_heads = num_heads
        self.q_proj = nn.Linear(dim, dim, bias=False)
        self.k_proj = nn.Linear(dim, dim, bias=False)
        self.v_proj = nn.Linear(dim, dim, bias=False)
        self.g_proj = nn.Linear(dim, dim, bias=False)
        self.gt_proj = nn.Linear(dim, num_heads, bias=False)
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, h_BSND: Tensor, c_BSND: Tensor, memory_BHKK: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Attention [B, S, N, D], and the memory after the last image [B, H, K, K] in float32.

        Args:
            h_BSND: normalised tokens.
            c_BSND: condition of the gates, [B, S, 1 or N, D].
            memory_BHKK: memory before the first image; None: empty.
        """
        images, tokens = h_BSND.shape[1:3]
        q_BTHK, k_BTHK, v_BTHK = (
            self._heads(_rms(project(h_BSND))) for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        gates_BSNH = at_least_float32(self.gt_proj(h_BSND + c_BSND))
        g_BTH = (F.logsigmoid(gates_BSNH) / GATE_NORMALIZER).flatten(1, 2)

        o_BTHK, memory_BHKK = chunk_gated_attention(
            q_BTHK, k_BTHK, v_BTHK, g_BTH, chunk_size=tokens, initial_state=memory_BHKK
        )
        o_BSND = _rms(o_BTHK).flatten(2).unflatten(1, (images, tokens)).to(h_BSND.dtype)
        return self.out_proj(F.silu(self.g_proj(h_BSND)) * o_BSND), memory_BHKK

    def _heads(self, x_BSND: Tensor) -> Tensor:
        """[B, S, N, D] -> [B, S N, H, K]."""
        return x_BSND.flatten(1, 2).unflatten(-1, (self.num_heads, -1))


def _rms(x: Tensor) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the last axis, at least in float32."""
    x = at_least_float32(x)
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)
