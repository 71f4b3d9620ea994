"""DhariwalUNet: the ADM network of Dhariwal and Nichol (arXiv 2105.05233) as used by EDM (arXiv 2206.00364).

F(x, c_noise, classes) on images [B, C, H, W]: blocks whose embedding scales and shifts the second norm, attention with
64 channels a head in every block of the listed resolutions, plain 2x2 resampling. The network of the ImageNet-64 models
of arXiv 2405.20320. Module names are those of the official checkpoints.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.nn.embeddings import SinusoidalEmbedding
from visionseq.rectified_flow.network import Network, check_unet
from visionseq.rectified_flow.unet_block import UNetBlock
from visionseq.rectified_flow.unet_layers import Conv2d, GroupNorm, Linear

INIT: dict[str, Any] = {"init_mode": "kaiming_uniform", "init_weight": math.sqrt(1 / 3), "init_bias": math.sqrt(1 / 3)}
INIT_ZERO: dict[str, Any] = {"init_mode": "kaiming_uniform", "init_weight": 0, "init_bias": 0}


class DhariwalUNet(Network):
    """U-Net of ADM: forward(x [B, C, H, W], noise_labels [B], class_labels, augment_labels) -> [B, C', H, W].

    Args:
        img_resolution: side of the square image; divisible by 2 ** (len(channel_mult) - 1).
        label_dim: number of classes, 0 = unconditional; labels are one-hot [B, label_dim].
        augment_dim: width of the augmentation vector, 0 = none.
        model_channels: base width; level i has model_channels * channel_mult[i].
        channel_mult_emb: width of the embedding, relative to model_channels.
        num_blocks: blocks per level of the encoder; the decoder has one more.
        attn_resolutions: resolutions with self-attention.
        label_dropout: probability of zeroing a label during training.
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 192,
        channel_mult: Sequence[int] = (1, 2, 3, 4),
        channel_mult_emb: int = 4,
        num_blocks: int = 3,
        attn_resolutions: Sequence[int] = (32, 16, 8),
        dropout: float = 0.10,
        label_dropout: float = 0.0,
    ):
        super().__init__(locals())
        check_unet(img_resolution, channel_mult)
        emb_channels = model_channels * channel_mult_emb
        self.map_noise = SinusoidalEmbedding(model_channels)
        self.map_augment = Linear(augment_dim, model_channels, bias=False, **INIT_ZERO) if augment_dim else None
        self.map_layer0 = Linear(model_channels, emb_channels, **INIT)
        self.map_layer1 = Linear(emb_channels, emb_channels, **INIT)
        label_init: dict[str, Any] = {"init_mode": "kaiming_normal", "init_weight": math.sqrt(label_dim)}
        self.map_label = Linear(label_dim, emb_channels, bias=False, **label_init) if label_dim else None

        block: dict[str, Any] = {
            "emb_channels": emb_channels,
            "channels_per_head": 64,
            "dropout": dropout,
            "init": INIT,
            "init_zero": INIT_ZERO,
        }
        levels = [(img_resolution >> i, model_channels * mult) for i, mult in enumerate(channel_mult)]
        self.enc = nn.ModuleDict()
        self._build_encoder(levels, num_blocks, attn_resolutions, block)
        self.dec = nn.ModuleDict()
        width = self._build_decoder(levels, num_blocks, attn_resolutions, block)
        self.out_norm = GroupNorm(width)
        self.out_conv = Conv2d(width, out_channels, 3, **INIT_ZERO)

    def _build_encoder(
        self, levels: list[tuple[int, int]], num_blocks: int, attn_resolutions: Sequence[int], block: dict
    ) -> None:
        width = self.in_channels
        for level, (res, level_width) in enumerate(levels):
            if level == 0:
                self.enc[f"{res}x{res}_conv"] = Conv2d(width, level_width, 3, **INIT)
                width = level_width
            else:
                self.enc[f"{res}x{res}_down"] = UNetBlock(width, width, down=True, **block)
            for i in range(num_blocks):
                attention = res in attn_resolutions
                self.enc[f"{res}x{res}_block{i}"] = UNetBlock(width, level_width, attention=attention, **block)
                width = level_width

    def _build_decoder(
        self, levels: list[tuple[int, int]], num_blocks: int, attn_resolutions: Sequence[int], block: dict
    ) -> int:
        skip_widths: list[Any] = [layer.out_channels for layer in self.enc.values()]
        width = skip_widths[-1]
        for level, (res, level_width) in reversed(list(enumerate(levels))):
            if level == len(levels) - 1:
                self.dec[f"{res}x{res}_in0"] = UNetBlock(width, width, attention=True, **block)
                self.dec[f"{res}x{res}_in1"] = UNetBlock(width, width, **block)
            else:
                self.dec[f"{res}x{res}_up"] = UNetBlock(width, width, up=True, **block)
            for i in range(num_blocks + 1):
                attention, in_width = res in attn_resolutions, width + skip_widths.pop()
                self.dec[f"{res}x{res}_block{i}"] = UNetBlock(in_width, level_width, attention=attention, **block)
                width = level_width
        return width

    def forward(
        self, x: Tensor, noise_labels: Tensor, class_labels: Tensor | None = None, augment_labels: Tensor | None = None
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # the embedding stays in float32
            emb_BE = self._embedding(noise_labels, class_labels, augment_labels)
        skips = []
        for layer in self.enc.values():
            x = layer(x, emb_BE) if isinstance(layer, UNetBlock) else layer(x)
            skips.append(x)
        for layer in self.dec.values():
            if x.shape[1] != layer.in_channels:
                x = torch.cat([x, skips.pop()], dim=1)
            x = layer(x, emb_BE)
        return self.out_conv(F.silu(self.out_norm(x)))

    def _embedding(self, noise_labels: Tensor, class_labels: Tensor | None, augment_labels: Tensor | None) -> Tensor:
        emb = self.map_noise(noise_labels)
        if self.map_augment is not None and augment_labels is not None:
            emb = emb + self.map_augment(augment_labels.to(emb.dtype))
        emb = self.map_layer1(F.silu(self.map_layer0(emb)))
        if self.map_label is not None:
            emb = emb + self.map_label(self.one_hot(class_labels, like=emb))
        return F.silu(emb)
