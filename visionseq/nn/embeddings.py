"""Embeddings of times, classes, patches and positions, which the generative rooms share.

    (1)  sinusoids   [cos(t f_j), sin(t f_j)],              f_j = 10000^(-j / (C/2))       (arXiv 1706.03762)
    (2)  Fourier     [cos(2 pi t f_j), sin(2 pi t f_j)],    f_j ~ N(0, scale^2), fixed     (arXiv 2006.10739)

Times are embedded in float32, also under autocast. Names of parameters are those of DiT and SiT (arXiv 2212.09748,
2401.08740), so that their checkpoints load without renaming.

Legend: B batch, C channels of the input, H W its sides, P side of a patch, N patches in row-major order, D width,
K channels of an attention head.
"""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError

PatchOrder = Literal["channel first", "channel last"]


class SinusoidalEmbedding(nn.Module):
    """[B] -> [B, C]: cosines, then sines, of x times frequencies that fall geometrically from 1 to 1/10000.

    Args:
        num_channels: C, even.
        endpoint: the last frequency is 1/10000 itself; otherwise the one after it would be.
    """

    def __init__(self, num_channels: int, endpoint: bool = False):
        super().__init__()
        self.num_channels, self.endpoint = num_channels, endpoint

    def forward(self, x_B: Tensor) -> Tensor:
        half = self.num_channels // 2
        exponents = torch.arange(half, dtype=torch.float32, device=x_B.device) / (half - self.endpoint)
        return _cos_sin(x_B, (1 / 10000) ** exponents)  # eq. (1)


class FourierEmbedding(nn.Module):
    """[B] -> [B, C]: cosines, then sines, of 2 pi x times fixed random frequencies.

    Args:
        num_channels: C, even.
        scale: standard deviation of the frequencies.
    """

    freqs: Tensor

    def __init__(self, num_channels: int, scale: float = 16.0):
        super().__init__()
        self.num_channels = num_channels
        self.register_buffer("freqs", torch.randn(num_channels // 2) * scale)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "FourierEmbedding":
        """Move with the module, in float32: frequencies of half precision would give other features."""
        freqs = self.freqs
        super()._apply(fn, recurse)
        if self.freqs.dtype in (torch.float16, torch.bfloat16):
            self.freqs = freqs.to(self.freqs.device)
        return self

    def forward(self, x_B: Tensor) -> Tensor:
        return _cos_sin(x_B, 2 * math.pi * self.freqs)  # eq. (2)


class TimeEmbedding(nn.Module):
    """[B] -> [B, D]: sinusoids of a time or noise level, then two linear layers with a SiLU between them.

    Args:
        dim: D.
        features: sinusoids of the numbers; None: `SinusoidalEmbedding` with 256 channels.
    """

    def __init__(self, dim: int, features: SinusoidalEmbedding | FourierEmbedding | None = None):
        super().__init__()
        self.features = features or SinusoidalEmbedding(256)
        self.mlp = nn.Sequential(nn.Linear(self.features.num_channels, dim), nn.SiLU(), nn.Linear(dim, dim))

    def forward(self, t_B: Tensor) -> Tensor:
        with torch.autocast(t_B.device.type, enabled=False):
            return self.mlp(self.features(t_B.float()).to(self.mlp[0].weight.dtype))


class LabelEmbedding(nn.Module):
    """Classes int64 [...] -> [..., D], with one more row for "no class" (arXiv 2207.12598).

    Args:
        num_classes: the classes are 0 to num_classes - 1, and `null_label` is num_classes.
        dim: D.
        dropout: share of the classes that become "no class" while the module trains.
        null_row: False leaves out the row for "no class", as DiT and SiT do in models that drop no label.

    Raises `ConfigError` for dropout without that row.
    """

    def __init__(self, num_classes: int, dim: int, dropout: float = 0.0, null_row: bool = True):
        super().__init__()
        if dropout and not null_row:
            raise ConfigError(f"label dropout {dropout} needs the row for no class")
        self.num_classes, self.dropout = num_classes, dropout
        self.embedding_table = nn.Embedding(num_classes + null_row, dim)

    @property
    def null_label(self) -> int:
        """The label that stands for no class."""
        return self.num_classes

    def forward(self, labels: Tensor, drop: Tensor | None = None) -> Tensor:
        """Rows of the table; where `drop` (bool, like labels) is true, the row of "no class".

        Without `drop`, a training module draws it from torch's generator and an evaluating one drops nothing.
        """
        if drop is None and self.training and self.dropout:
            drop = torch.rand(labels.shape, device=labels.device) < self.dropout
        return self.embedding_table(labels if drop is None else labels.masked_fill(drop, self.null_label))


class PatchEmbedding(nn.Module):
    """Images [B, C, H, W] -> tokens [B, N, D]: a linear map of each patch, stored as a convolution.

    Args:
        patch_size: P; H and W must be multiples of it.
        in_channels: C.
        dim: D.
    """

    def __init__(self, patch_size: int, in_channels: int, dim: int):
        super().__init__()
        self.patch_size = patch_size
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        _check_patches(x_BCHW.shape[-2:], self.patch_size)
        return self.proj(x_BCHW).flatten(2).transpose(1, 2)


def patchify(x_BCHW: Tensor, patch_size: int, order: PatchOrder = "channel first") -> Tensor:
    """Patches of images [B, C, H, W] as tokens [B, N, C P P].

    Inside a token the values are ordered (channel, row, column), or (row, column, channel) for "channel last", as in
    the output layers of DiT and SiT. Raises `ConfigError` where the sides are not multiples of P.
    """
    height, width = x_BCHW.shape[-2:]
    _check_patches((height, width), patch_size)
    blocks = x_BCHW.unflatten(3, (width // patch_size, patch_size)).unflatten(2, (height // patch_size, patch_size))
    axes = (0, 2, 4, 1, 3, 5) if order == "channel first" else (0, 2, 4, 3, 5, 1)
    return blocks.permute(axes).flatten(3).flatten(1, 2)


def unpatchify(x_BND: Tensor, patch_size: int, size: tuple[int, int], order: PatchOrder = "channel first") -> Tensor:
    """The inverse of `patchify`: tokens [B, N, C P P] -> images [B, C, *size]."""
    _check_patches(size, patch_size)
    rows, columns = size[0] // patch_size, size[1] // patch_size
    channels = x_BND.shape[-1] // patch_size**2
    if order == "channel first":
        blocks = x_BND.unflatten(2, (channels, patch_size, patch_size)).permute(0, 2, 1, 3, 4)
    else:
        blocks = x_BND.unflatten(2, (patch_size, patch_size, channels)).permute(0, 4, 1, 2, 3)
    return blocks.unflatten(2, (rows, columns)).transpose(3, 4).flatten(4, 5).flatten(2, 3)


def sincos_positions(size: tuple[int, int], dim: int) -> Tensor:
    """Fixed positions [N, D] in float32 of a grid of `size` (rows, columns), row by row (arXiv 2111.06377).

    The first half of the channels encodes the column and the second the row, each as sines, then cosines, of the index
    times 10000^(-i / (D/4)). Computed in float64. Raises `ConfigError` unless D is a multiple of 4.
    """
    if dim % 4:
        raise ConfigError(f"sine-cosine positions of {dim} channels, expected a multiple of 4")
    frequencies = 10000 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    angles = [torch.outer(index.double(), frequencies) for index in _grid(size, reverse=True)]
    return torch.cat([part for angle in angles for part in (angle.sin(), angle.cos())], dim=1).float()


def rotary_angles(size: tuple[int, int], head_dim: int) -> Tensor:
    """Angles [N, K/2] in float32 that turn the channel pairs of a head on a grid of `size` (rows, columns).

    The first half of the pairs turns with the row and the second with the column, pair m of each by the index times
    10000^(-4m / K). Use them with `rotate_pairs`. Raises `ConfigError` unless K is a multiple of 4.
    """
    if head_dim % 4:
        raise ConfigError(f"2D rotary positions of {head_dim} channels in a head, expected a multiple of 4")
    exponents = torch.arange(0, head_dim // 2, 2).float() / (head_dim // 2)
    frequencies = 1.0 / 10000**exponents
    return torch.cat([torch.outer(index.float(), frequencies) for index in _grid(size)], dim=1)


def rotate_pairs(x_HK: Tensor, angle_P: Tensor) -> Tensor:
    """Turn the channels (2j, 2j+1) of x [..., H, K] by the angles [..., K/2] of all heads (arXiv 2104.09864)."""
    cos, sin = (part.unsqueeze(-2).to(x_HK.dtype) for part in (angle_P.cos(), angle_P.sin()))
    even, odd = x_HK[..., 0::2], x_HK[..., 1::2]
    return torch.stack([even * cos - odd * sin, odd * cos + even * sin], -1).flatten(-2)


def _grid(size: tuple[int, int], reverse: bool = False) -> tuple[Tensor, Tensor]:
    """Row and column index of each patch [N], or column and row."""
    row, column = (index.flatten() for index in torch.meshgrid(*map(torch.arange, size), indexing="ij"))
    return (column, row) if reverse else (row, column)


def _check_patches(size: Sequence[int], patch_size: int) -> None:
    if any(side % patch_size for side in size):
        raise ConfigError(f"images of {size[0]} x {size[1]} pixels, expected multiples of the patch size {patch_size}")


def _cos_sin(x_B: Tensor, freqs: Tensor) -> Tensor:
    """Cosines, then sines, of each number times each frequency."""
    angle = torch.outer(x_B, freqs.to(x_B.dtype))
    return torch.cat([angle.cos(), angle.sin()], dim=1)
