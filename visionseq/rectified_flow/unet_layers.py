"""Layers of the EDM U-Nets: resampling convolutions, linear layers, group norm, embeddings, initialisers.

The networks of arXiv 2206.00364 (EDM) and 2405.20320 (improved rectified flows). Parameters are stored in float32 and
cast to the dtype of the input inside each layer, so that one network runs in float32 and float16; names of parameters
and buffers are those of the official checkpoints.

Shapes: B batch, C channels, H W pixels.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import ConfigError

InitMode = Literal["xavier_uniform", "kaiming_uniform", "kaiming_normal"]


class Conv2d(nn.Module):
    """Convolution of kernel 0, 1 or 3 with optional 2x up- or downsampling by a separable filter.

    Kernel 0 only resamples and has no parameters. `fused_resample` shares the padding between the two convolutions,
    which changes the result at the border.
    """

    resample_filter: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        bias: bool = True,
        up: bool = False,
        down: bool = False,
        resample_filter: Sequence[int] = (1, 1),
        fused_resample: bool = False,
        init_mode: InitMode = "kaiming_normal",
        init_weight: float = 1.0,
        init_bias: float = 0.0,
    ):
        super().__init__()
        self.in_channels, self.out_channels = in_channels, out_channels
        self.up, self.down, self.fused_resample = up, down, fused_resample
        fans = {"fan_in": in_channels * kernel**2, "fan_out": out_channels * kernel**2}
        shape = (out_channels, in_channels, kernel, kernel)
        self.weight = nn.Parameter(init_weight * initial(shape, init_mode, **fans)) if kernel else None
        self.bias = nn.Parameter(init_bias * initial((out_channels,), init_mode, **fans)) if kernel and bias else None
        taps = torch.tensor(resample_filter, dtype=torch.float32)
        outer = torch.outer(taps, taps)[None, None] / taps.sum().square()
        self.register_buffer("resample_filter", outer if up or down else None)

    def forward(self, x: Tensor) -> Tensor:
        if self.weight is None:
            return self._resample(x)
        w, b = self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype)
        w_pad = w.shape[-1] // 2
        if self.fused_resample and self.resample_filter is not None:
            return self._fused(x, w, b, self.resample_filter)
        if w_pad:
            return F.conv2d(self._resample(x), w, b, padding=w_pad)
        if self.up:  # a 1x1 convolution commutes with the filter, and costs a quarter before it
            return _add_bias(self._resample(_pointwise(x, w)), b)
        return _pointwise(self._resample(x), w, b)

    def _fused(self, x: Tensor, w: Tensor, b: Tensor | None, taps: Tensor) -> Tensor:
        """Convolution and resampling with one padding for both."""
        w_pad, f_pad = w.shape[-1] // 2, (taps.shape[-1] - 1) // 2
        if not self.down:
            x = _upsample(x, taps, max(f_pad - w_pad, 0))
            return F.conv2d(x, w, b, padding=max(w_pad - f_pad, 0))
        if self.in_channels < 8:
            # Filter after filter is one filter; with few inputs it is faster and needs no large map in between.
            return F.conv2d(x, _with_filter(w, taps), b, stride=2, padding=w_pad + f_pad)
        return _add_bias(_downsample(F.conv2d(x, w, padding=w_pad + f_pad), taps, 0), b)

    def _resample(self, x: Tensor) -> Tensor:
        if self.resample_filter is None:
            return x
        f_pad = (self.resample_filter.shape[-1] - 1) // 2
        return (_upsample if self.up else _downsample)(x, self.resample_filter, f_pad)


def _with_filter(w: Tensor, taps: Tensor) -> Tensor:
    """The kernel that convolves with w and then with the resampling filter."""
    taps = taps.to(w.dtype)
    combined = F.conv2d(w.flatten(0, 1).unsqueeze(1), taps.flip(2, 3), padding=taps.shape[-1] - 1)
    return combined.unflatten(0, w.shape[:2]).squeeze(2)


def _pointwise(x: Tensor, w: Tensor, bias: Tensor | None = None) -> Tensor:
    """1x1 convolution; on a CPU a small one is faster as a product."""
    if x.device.type != "cpu" or w.numel() > 2**14 or not x.is_contiguous():
        return F.conv2d(x, w, bias)
    x_BCL, w_BOC = x.flatten(2), w.flatten(1).expand(len(x), -1, -1)
    y_BOL = torch.bmm(w_BOC, x_BCL) if bias is None else torch.baddbmm(bias[:, None], w_BOC, x_BCL)
    return y_BOL.unflatten(2, x.shape[2:])


class _Upsample(torch.autograd.Function):
    """Transposed depthwise convolution of stride 2; the gradient is a plain one, which PyTorch misses on a CPU."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, padding: int) -> Tensor:
        return F.conv_transpose2d(x, weight.expand(x.shape[1], 1, -1, -1), stride=2, padding=padding, groups=x.shape[1])

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, weight, ctx.padding = inputs
        ctx.save_for_backward(weight)
        ctx.save_for_forward(weight)

    @staticmethod
    def backward(ctx, dy: Tensor):
        (weight,) = ctx.saved_tensors
        return _downsample(dy, weight, ctx.padding), None, None


def _upsample(x: Tensor, filter_: Tensor, padding: int) -> Tensor:
    """Insert zeros between pixels and filter each channel with four times the filter."""
    return _Upsample.apply(x, (4 * filter_).to(x.dtype), padding)


def _downsample(x: Tensor, filter_: Tensor, padding: int) -> Tensor:
    """Filter each channel and keep every second pixel."""
    weight = filter_.to(x.dtype).expand(x.shape[1], 1, -1, -1)
    return F.conv2d(x, weight, stride=2, padding=padding, groups=x.shape[1])


def _add_bias(x: Tensor, bias: Tensor | None) -> Tensor:
    return x if bias is None else x + bias[:, None, None]


class Linear(nn.Module):
    """x W^T + b, the weight [out, in] drawn by one of the initialisers."""

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        init_mode: InitMode = "kaiming_normal",
        init_weight: float = 1.0,
        init_bias: float = 0.0,
    ):
        super().__init__()
        fans = {"fan_in": in_features, "fan_out": out_features}
        self.weight = nn.Parameter(init_weight * initial((out_features, in_features), init_mode, **fans))
        self.bias = nn.Parameter(init_bias * initial((out_features,), init_mode, **fans)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class GroupNorm(nn.Module):
    """Group norm with min(num_groups, C // 4) groups."""

    def __init__(self, num_channels: int, num_groups: int = 32, min_channels_per_group: int = 4, eps: float = 1e-5):
        super().__init__()
        self.num_groups = max(1, min(num_groups, num_channels // min_channels_per_group))
        if num_channels % self.num_groups:
            raise ConfigError(f"{num_channels} channels cannot be split into {self.num_groups} groups of equal size")
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(num_channels))
        self.bias = nn.Parameter(torch.zeros(num_channels))

    def forward(self, x: Tensor) -> Tensor:
        w: Tensor = self.weight
        b: Tensor = self.bias
        if not torch.is_autocast_enabled(x.device.type):  # under autocast a norm runs in float32
            w, b = w.to(x.dtype), b.to(x.dtype)
        return F.group_norm(x, self.num_groups, w, b, self.eps)


def initial(shape: tuple[int, ...], mode: InitMode, fan_in: int, fan_out: int) -> Tensor:
    """Random initial values of the given shape: uniform or normal, scaled by the fans."""
    if mode == "xavier_uniform":
        return math.sqrt(6 / (fan_in + fan_out)) * (torch.rand(shape) * 2 - 1)
    if mode == "kaiming_uniform":
        return math.sqrt(3 / fan_in) * (torch.rand(shape) * 2 - 1)
    if mode == "kaiming_normal":
        return math.sqrt(1 / fan_in) * torch.randn(shape)
    raise ConfigError(f"init_mode {mode!r}, expected xavier_uniform, kaiming_uniform or kaiming_normal")
