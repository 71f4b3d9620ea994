"""Group norm with the operations around it: act(norm(x + shift) * scale + bias), shift, scale and bias per channel.

The U-Nets of this room add the embedding before a norm (DDPM++, NCSN++) or scale and shift after it (ADM), and a SiLU
follows. On a CPU the convolutions are fastest in channels_last, where PyTorch's group norm is about four times slower
than in its usual layout; there one autograd function serves the whole expression: pixel sums are products with a
vector of ones, every other pass runs along contiguous channels. Elsewhere PyTorch's own operators are composed.

Shapes: B batch, L pixels, C channels, G groups.
"""

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


def group_norm_act(
    x: Tensor,
    num_groups: int,
    weight_C: Tensor,
    bias_C: Tensor,
    eps: float,
    shift_BC: Tensor | None = None,
    film_BC: tuple[Tensor, Tensor] | None = None,
    silu: bool = True,
) -> Tensor:
    """Norm x + shift over groups of channels, apply weight and bias, then film = (scale, offset), then SiLU.

    x [B, C, H, W] of any floating dtype; statistics in float32. film is applied as y * (1 + scale) + offset.
    """
    if _prefers_fused(x):
        scale, bias = weight_C[None], bias_C[None]
        if film_BC is not None:
            scale, bias = scale * (1 + film_BC[0]), torch.addcmul(film_BC[1], bias, 1 + film_BC[0])
        shift = x.new_zeros(1, x.shape[1]) if shift_BC is None else shift_BC
        x_BLC = x.permute(0, 2, 3, 1).flatten(1, 2)
        y_BLC = _FusedGroupNorm.apply(x_BLC, shift, scale, bias, num_groups, eps, silu)
        return y_BLC.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
    if shift_BC is not None:
        x = x + shift_BC[:, :, None, None].to(x.dtype)
    y = F.group_norm(x, num_groups, weight_C.to(x.dtype), bias_C.to(x.dtype), eps)
    if film_BC is not None:
        scale, offset = (value[:, :, None, None].to(x.dtype) for value in film_BC)
        y = torch.addcmul(offset, y, 1 + scale)
    return F.silu(y) if silu else y


def _prefers_fused(x: Tensor) -> bool:
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return channels_last and x.device.type == "cpu" and x.dtype == torch.float32 and not torch.compiler.is_compiling()


class _FusedGroupNorm(torch.autograd.Function):
    """y = act(xhat * scale + bias) with xhat = (x + shift - mean) * rstd over (L, C / G); first derivatives only."""

    @staticmethod
    def forward(x_BLC, shift_BC, scale_BC, bias_BC, num_groups, eps, silu):
        B, L, C = x_BLC.shape
        sum_BC = _sum_pixels(x_BLC) + L * shift_BC
        mean_BC = _mean_groups(sum_BC, num_groups, L)
        centered_BLC = x_BLC + (shift_BC - mean_BC)[:, None]
        squares = centered_BLC.square()
        rstd_BC = (_mean_groups(_sum_pixels(squares), num_groups, L) + eps).rsqrt()
        y_BLC = torch.addcmul(bias_BC[:, None], centered_BLC, (rstd_BC * scale_BC)[:, None], out=squares)
        if silu:
            F.silu(y_BLC, inplace=True)
        return y_BLC, centered_BLC, rstd_BC, sum_BC - L * mean_BC

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass
