"""The block of the EDM U-Nets (arXiv 2206.00364): two convolutions around the embedding, a skip path, self-attention.

Serves DDPM++ and NCSN++ (embedding added before the second norm, residual sums scaled by sqrt(1/2)) and ADM (embedding
scales and shifts after it).

Shapes: B batch, C channels, H W pixels, E width of the embedding, N = B * heads, L = H * W.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.rectified_flow.unet_layers import Conv2d, GroupNorm, Linear


class UNetBlock(nn.Module):
    """Residual block with embedding, optional resampling and self-attention: [B, C, H, W], [B, E] -> [B, C', H', W'].

    Args:
        num_heads: attention heads; None takes `out_channels // channels_per_head`, which is no attention where it is 0.
        skip_scale: factor on every residual sum.
        resample_proj: put a 1x1 convolution on the skip path of a resampling block even where channels stay equal.
        adaptive_scale: the embedding gives scale and shift of the second norm (ADM); otherwise it is added before it.
        init, init_zero, init_attn: arguments of the initialiser for ordinary, last and query-key-value layers.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        emb_channels: int,
        up: bool = False,
        down: bool = False,
        attention: bool = False,
        num_heads: int | None = None,
        channels_per_head: int = 64,
        dropout: float = 0.0,
        skip_scale: float = 1.0,
        eps: float = 1e-5,
        resample_filter: Sequence[int] = (1, 1),
        resample_proj: bool = False,
        adaptive_scale: bool = True,
        init: dict | None = None,
        init_zero: dict | None = None,
        init_attn: dict | None = None,
    ):
        super().__init__()
        init = init or {}
        init_zero = {"init_weight": 0} if init_zero is None else init_zero
        self.in_channels, self.out_channels = in_channels, out_channels
        self.dropout, self.skip_scale, self.adaptive_scale = dropout, skip_scale, adaptive_scale
        self.num_heads = _heads(attention, num_heads, out_channels, channels_per_head)

        # Two convolutions around the embedding.
        resample: dict[str, Any] = {"up": up, "down": down, "resample_filter": resample_filter}
        self.norm0 = GroupNorm(in_channels, eps=eps)
        self.conv0 = Conv2d(in_channels, out_channels, 3, **resample, **init)
        self.affine = Linear(emb_channels, out_channels * (2 if adaptive_scale else 1), **init)
        self.norm1 = GroupNorm(out_channels, eps=eps)
        self.conv1 = Conv2d(out_channels, out_channels, 3, **init_zero)

        # The skip path, and self-attention.
        self.skip = None
        if out_channels != in_channels or up or down:
            kernel = 1 if resample_proj or out_channels != in_channels else 0
            self.skip = Conv2d(in_channels, out_channels, kernel, **resample, **init)
        if self.num_heads:
            self.norm2 = GroupNorm(out_channels, eps=eps)
            self.qkv = Conv2d(out_channels, out_channels * 3, 1, **(init if init_attn is None else init_attn))
            self.proj = Conv2d(out_channels, out_channels, 1, **init_zero)

    def forward(self, x: Tensor, emb_BE: Tensor) -> Tensor:
        h = self.conv0(F.silu(self.norm0(x)))
        params = self.affine(emb_BE)[:, :, None, None].to(h.dtype)
        if self.adaptive_scale:
            scale, shift = params.chunk(2, dim=1)
            h = F.silu(torch.addcmul(shift, self.norm1(h), scale + 1))
        else:
            h = F.silu(self.norm1(h.add_(params)))
        h = self.conv1(F.dropout(h, self.dropout, self.training))
        h = self._residual(h, x if self.skip is None else self.skip(x))
        return self._residual(self._attend(h), h) if self.num_heads else h

    def _residual(self, h: Tensor, x: Tensor) -> Tensor:
        """(h + x) * skip_scale, in place: nothing else needs the output of a convolution, not even its gradient."""
        h = h.add_(x)
        return h if self.skip_scale == 1 else h.mul_(self.skip_scale)

    def _attend(self, x: Tensor) -> Tensor:
        B, C, H, W = x.shape
        # The output channels of qkv run over (head, channel of the head, {q, k, v}).
        qkv = self.qkv(self.norm2(x)).reshape(B * self.num_heads, C // self.num_heads, 3, H * W)
        h = attention(*qkv.unbind(2)).reshape(B, C, H, W)
        return self.proj(h)


def attention(q_NCL: Tensor, k_NCL: Tensor, v_NCL: Tensor) -> Tensor:
    """Softmax attention over L with weights q.k / sqrt(C), the softmax in float32: [N, C, L] -> [N, C, L]."""
    if q_NCL.is_cuda:  # the fused kernels need contiguous channels
        q_N1LC, k_N1LC, v_N1LC = (a.transpose(1, 2).unsqueeze(1).contiguous() for a in (q_NCL, k_NCL, v_NCL))
        return F.scaled_dot_product_attention(q_N1LC, k_N1LC, v_N1LC)[:, 0].transpose(1, 2).contiguous()
    scale = q_NCL.shape[1] ** -0.5  # on a CPU two products are faster than the fused kernel at these sizes
    scores_NQK = torch.baddbmm(q_NCL.new_zeros(1), q_NCL.transpose(1, 2), k_NCL, beta=0, alpha=scale)
    weights_NQK = scores_NQK.float().softmax(dim=2).to(v_NCL.dtype)
    return torch.bmm(v_NCL, weights_NQK.transpose(1, 2))


def _heads(attention: bool, num_heads: int | None, channels: int, channels_per_head: int) -> int:
    if not attention:
        return 0
    heads = channels // channels_per_head if num_heads is None else num_heads
    if heads and channels % heads:
        raise ConfigError(f"{channels} channels cannot be split into {heads} attention heads")
    return heads
