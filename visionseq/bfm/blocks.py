"""The parts of a BFM network: its norms, its gated MLP and its three kinds of adaptive block (arXiv 2510.21167).

    feature block     modulation of each sample by U D silu(c) + g1         U, D: a low rank of r channels
    velocity block    modulation of each token by U D silu([c; f]) + g2
    FRN block         modulation of each sample by W silu(c)

c is the embedding of time and class, f the feature of a token, g1 and g2 are maps that all blocks share. Modulations
and gates are computed in float32 under autocast, and so both residual streams stay in float32.

Legend: B batch, N tokens, D width, M width inside an MLP, K channels of a head.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.nn.adaptive import EPS, AdaptiveBlock, Attention, FeedForward, plain_norm

NormType = Literal["layernorm", "w_layernorm", "rmsnorm"]
HeadNorm = Literal["RMSNorm", "layernorm"]


@dataclass(frozen=True)
class BlockSettings:
    """What all blocks of a network have in common; the names are those of `BFM`."""

    hidden_size: int
    num_heads: int
    mlp_ratio: float
    q_norm: HeadNorm | None
    k_norm: HeadNorm | None
    qk_norm_weight: bool
    qkv_bias: bool
    ffn_bias: bool
    adaln_bias: bool
    norm_type: NormType
    use_swiglu: bool
    use_swiglu_large: bool

    def __post_init__(self) -> None:
        if self.norm_type not in NORMS:
            raise ConfigError(f"norm_type {self.norm_type!r}, expected one of {', '.join(NORMS)}")
        for name, norm in (("q_norm", self.q_norm), ("k_norm", self.k_norm)):
            if norm not in (None, "RMSNorm", "layernorm"):
                raise ConfigError(f"{name} {norm!r}, expected RMSNorm, layernorm or null")

    @property
    def norm(self) -> Callable[[int], nn.Module]:
        """Width -> a norm of tokens."""
        return NORMS[self.norm_type]

    def block(self, modulation: nn.Module) -> AdaptiveBlock:
        """An adaptive block around a modulation."""
        attention = Attention(
            self.hidden_size, self.num_heads, self.qkv_bias, self._head_norm(self.q_norm), self._head_norm(self.k_norm)
        )
        return AdaptiveBlock(self.hidden_size, attention, self._mlp(), modulation=modulation, norm=self.norm)

    def _mlp(self) -> nn.Module:
        hidden = int(self.hidden_size * self.mlp_ratio)
        if self.use_swiglu or self.use_swiglu_large:
            return SwiGLU(self.hidden_size, hidden if self.use_swiglu_large else hidden * 2 // 3, self.ffn_bias)
        return FeedForward(self.hidden_size, hidden, self.ffn_bias)

    def _head_norm(self, name: HeadNorm | None) -> nn.Module | None:
        channels = self.hidden_size // self.num_heads
        if name == "RMSNorm":
            return RMSNorm(channels)
        return None if name is None else nn.LayerNorm(channels, EPS, self.qk_norm_weight, bias=False)


def feature_block(settings: BlockSettings, rank: int) -> AdaptiveBlock:
    """A block of the feature network: forward(x [B, N, D], c [B, D], g1 [B, 6 D]) -> [B, N, D]."""
    return settings.block(_low_rank(settings, settings.hidden_size, rank))


def velocity_block(settings: BlockSettings, rank: int) -> AdaptiveBlock:
    """A block of a velocity stack: forward(x [B, N, D], [c; f] [B, N, 2 D], g2 [B, N, 6 D]) -> [B, N, D]."""
    return settings.block(_low_rank(settings, 2 * settings.hidden_size, rank))


def frn_block(settings: BlockSettings) -> AdaptiveBlock:
    """A block of the feature residual network: forward(x [B, N, D], c [B, D]) -> [B, N, D]."""
    linear = nn.Linear(settings.hidden_size, 6 * settings.hidden_size, bias=settings.adaln_bias)
    return settings.block(Modulation(nn.SiLU(), linear))


class Modulation(nn.Sequential):
    """A sequence of layers that is computed in float32 under autocast."""

    def forward(self, c: Tensor) -> Tensor:
        with torch.autocast(c.device.type, enabled=False):
            return super().forward(c.to(next(self.parameters()).dtype))


class RMSNorm(nn.Module):
    """x / rms(x), cast back to the dtype of x, times a weight: half inputs give the dtype of the weight.

    Args:
        channels: of the last axis.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        wide = x if x.dtype == torch.float64 else x.float()
        return (wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + EPS)).to(x.dtype) * self.weight


class SwiGLU(nn.Module):
    """W2 (silu(Wg x) * Wx x) (arXiv 2002.05202).

    Args:
        dim: D.
        hidden: channels of both factors.
        bias: biases of all three maps.
    """

    def __init__(self, dim: int, hidden: int, bias: bool = True):
        super().__init__()
        self.fc1_g, self.fc1_x = nn.Linear(dim, hidden, bias=bias), nn.Linear(dim, hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, dim, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.silu(self.fc1_g(x)) * self.fc1_x(x))


def weighted_norm(dim: int) -> nn.LayerNorm:
    """A layer norm with a weight and no bias."""
    return nn.LayerNorm(dim, EPS, bias=False)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "layernorm": plain_norm,
    "w_layernorm": weighted_norm,
    "rmsnorm": RMSNorm,
}


def _low_rank(settings: BlockSettings, condition_dim: int, rank: int) -> Modulation:
    """SiLU and two linear maps through `rank` channels, with nothing between them."""
    down = nn.Linear(condition_dim, rank, bias=settings.adaln_bias)
    return Modulation(nn.SiLU(), down, nn.Linear(rank, 6 * settings.hidden_size, bias=settings.adaln_bias))
