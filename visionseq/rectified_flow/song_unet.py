"""SongUNet: the DDPM++ and NCSN++ networks of Song et al. (arXiv 2011.13456) as used by EDM (arXiv 2206.00364).

F(x, c_noise) on images [B, C, H, W]. `positional` embedding, `standard` encoder and filter [1, 1] give DDPM++;
`fourier` embedding with channel_mult_noise 2, `residual` encoder and filter [1, 3, 3, 1] give NCSN++, the network of
the CIFAR-10, AFHQ and FFHQ models of arXiv 2405.20320. Module names are those of the official checkpoints.
"""

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.nn.embeddings import FourierEmbedding, SinusoidalEmbedding
from visionseq.rectified_flow.network import Network, check_choice, check_unet
from visionseq.rectified_flow.unet_block import UNetBlock
from visionseq.rectified_flow.unet_layers import Conv2d, GroupNorm, Linear

INIT: dict[str, Any] = {"init_mode": "xavier_uniform"}
INIT_ZERO: dict[str, Any] = {"init_mode": "xavier_uniform", "init_weight": 1e-5}
INIT_ATTENTION = {"init_mode": "xavier_uniform", "init_weight": math.sqrt(0.2)}
EPS = 1e-6


class SongUNet(Network):
    """U-Net of DDPM++ and NCSN++: forward(x [B, C, H, W], noise_labels [B], classes, augmentation) -> [B, C', H, W].

    Args:
        img_resolution: side of the square image; divisible by 2 ** (len(channel_mult) - 1).
        label_dim: number of classes, 0 = unconditional; labels are one-hot [B, label_dim].
        augment_dim: width of the augmentation vector, 0 = none.
        model_channels: base width; level i has model_channels * channel_mult[i].
        channel_mult_emb, channel_mult_noise: widths of the embedding and of its input, relative to model_channels.
        num_blocks: blocks per level of the encoder; the decoder has one more.
        attn_resolutions: resolutions with self-attention.
        label_dropout: probability of zeroing a label during training.
        resample_filter: taps of the separable resampling filter.
    """

    def __init__(
        self,
        img_resolution: int,
        in_channels: int,
        out_channels: int,
        label_dim: int = 0,
        augment_dim: int = 0,
        model_channels: int = 128,
        channel_mult: Sequence[int] = (1, 2, 2, 2),
        channel_mult_emb: int = 4,
        num_blocks: int = 4,
        attn_resolutions: Sequence[int] = (16,),
        dropout: float = 0.10,
        label_dropout: float = 0.0,
        embedding_type: Literal["positional", "fourier"] = "positional",
        channel_mult_noise: int = 1,
        encoder_type: Literal["standard", "skip", "residual"] = "standard",
        decoder_type: Literal["standard", "skip"] = "standard",
        resample_filter: Sequence[int] = (1, 1),
    ):
        super().__init__(locals())
        check_unet(img_resolution, channel_mult)
        check_choice("embedding_type", embedding_type, ("positional", "fourier"))
        check_choice("encoder_type", encoder_type, ("standard", "skip", "residual"))
        check_choice("decoder_type", decoder_type, ("standard", "skip"))

        emb_channels, noise_channels = model_channels * channel_mult_emb, model_channels * channel_mult_noise
        fourier = embedding_type == "fourier"
        self.map_noise = (
            FourierEmbedding(noise_channels) if fourier else SinusoidalEmbedding(noise_channels, endpoint=True)
        )
        self.map_label = Linear(label_dim, noise_channels, **INIT) if label_dim else None
        self.map_augment = Linear(augment_dim, noise_channels, bias=False, **INIT) if augment_dim else None
        self.map_layer0 = Linear(noise_channels, emb_channels, **INIT)
        self.map_layer1 = Linear(emb_channels, emb_channels, **INIT)

        block: dict[str, Any] = {
            "emb_channels": emb_channels,
            "num_heads": 1,
            "dropout": dropout,
            "skip_scale": math.sqrt(0.5),
            "eps": EPS,
            "resample_filter": resample_filter,
            "resample_proj": True,
            "adaptive_scale": False,
            "init": INIT,
            "init_zero": INIT_ZERO,
            "init_attn": INIT_ATTENTION,
        }
        levels = [(img_resolution >> i, model_channels * mult) for i, mult in enumerate(channel_mult)]
        self.enc = nn.ModuleDict()
        self._build_encoder(levels, num_blocks, attn_resolutions, model_channels, encoder_type, block)
        self.dec = nn.ModuleDict()
        self._build_decoder(levels, num_blocks, attn_resolutions, decoder_type, block)

    def _build_encoder(
        self,
        levels: list[tuple[int, int]],
        num_blocks: int,
        attn_resolutions: Sequence[int],
        model_channels: int,
        encoder_type: str,
        block: dict,
    ) -> None:
        resample: dict[str, Any] = {"down": True, "resample_filter": block["resample_filter"]}
        width, aux_width = model_channels, self.in_channels
        for level, (res, level_width) in enumerate(levels):
            # To the resolution of the level, by a path of its own for the input where there is one.
            name = f"{res}x{res}"
            if level == 0:
                self.enc[f"{name}_conv"] = Conv2d(self.in_channels, width, 3, **INIT)
            else:
                self.enc[f"{name}_down"] = UNetBlock(width, width, down=True, **block)
                if encoder_type == "skip":
                    self.enc[f"{name}_aux_down"] = Conv2d(aux_width, aux_width, 0, **resample)
                    self.enc[f"{name}_aux_skip"] = Conv2d(aux_width, width, 1, **INIT)
                if encoder_type == "residual":
                    self.enc[f"{name}_aux_residual"] = Conv2d(
                        aux_width, width, 3, fused_resample=True, **resample, **INIT
                    )
                    aux_width = width

            # The blocks of the level.
            for i in range(num_blocks):
                attention = res in attn_resolutions
                self.enc[f"{name}_block{i}"] = UNetBlock(width, level_width, attention=attention, **block)
                width = level_width

    def _build_decoder(
        self,
        levels: list[tuple[int, int]],
        num_blocks: int,
        attn_resolutions: Sequence[int],
        decoder_type: str,
        block: dict,
    ) -> None:
        skip_widths: list[Any] = [layer.out_channels for name, layer in self.enc.items() if "aux" not in name]
        width = skip_widths[-1]
        for level, (res, level_width) in reversed(list(enumerate(levels))):
            # To the resolution of the level.
            name = f"{res}x{res}"
            if level == len(levels) - 1:
                self.dec[f"{name}_in0"] = UNetBlock(width, width, attention=True, **block)
                self.dec[f"{name}_in1"] = UNetBlock(width, width, **block)
            else:
                self.dec[f"{name}_up"] = UNetBlock(width, width, up=True, **block)

            # The blocks of the level, each with a skip from the encoder.
            for i in range(num_blocks + 1):
                attention = i == num_blocks and res in attn_resolutions
                in_width = width + skip_widths.pop()
                self.dec[f"{name}_block{i}"] = UNetBlock(in_width, level_width, attention=attention, **block)
                width = level_width

            # The output of the level, where it has one.
            if decoder_type == "skip" and level < len(levels) - 1:
                taps = block["resample_filter"]
                self.dec[f"{name}_aux_up"] = Conv2d(
                    self.out_channels, self.out_channels, 0, up=True, resample_filter=taps
                )
            if decoder_type == "skip" or level == 0:
                self.dec[f"{name}_aux_norm"] = GroupNorm(width, eps=EPS)
                self.dec[f"{name}_aux_conv"] = Conv2d(width, self.out_channels, 3, **INIT_ZERO)

    def forward(
        self, x: Tensor, noise_labels: Tensor, class_labels: Tensor | None = None, augment_labels: Tensor | None = None
    ) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):  # the embedding stays in float32
            emb_BE = self._embedding(noise_labels, class_labels, augment_labels)
        x, skips = self._encode(x, emb_BE)
        return self._decode(x, skips, emb_BE)

    def _embedding(self, noise_labels: Tensor, class_labels: Tensor | None, augment_labels: Tensor | None) -> Tensor:
        emb = self.map_noise(noise_labels)
        emb = torch.cat(emb.chunk(2, dim=1)[::-1], dim=1)  # this network takes sines before cosines
        if self.map_label is not None:
            emb = emb + self.map_label(self.one_hot(class_labels, like=emb) * math.sqrt(self.label_dim))
        if self.map_augment is not None and augment_labels is not None:
            emb = emb + self.map_augment(augment_labels.to(emb.dtype))
        return F.silu(self.map_layer1(F.silu(self.map_layer0(emb))))

    def _encode(self, x: Tensor, emb_BE: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips: list[Tensor] = []
        aux = x
        for name, layer in self.enc.items():
            if name.endswith("aux_down"):
                aux = layer(aux)
            elif name.endswith("aux_skip"):
                x = skips[-1] = x + layer(aux)
            elif name.endswith("aux_residual"):
                x = skips[-1] = aux = (x + layer(aux)) * math.sqrt(0.5)
            else:
                x = layer(x, emb_BE) if isinstance(layer, UNetBlock) else layer(x)
                skips.append(x)
        return x, skips

    def _decode(self, x: Tensor, skips: list[Tensor], emb_BE: Tensor) -> Tensor:
        out: Any = None
        normed: Any = None
        for name, layer in self.dec.items():
            if name.endswith("aux_up"):
                out = layer(out)
            elif name.endswith("aux_norm"):
                normed = F.silu(layer(x))
            elif name.endswith("aux_conv"):
                contribution = layer(normed)
                out = contribution if out is None else out + contribution
            else:
                if x.shape[1] != layer.in_channels:
                    x = torch.cat([x, skips.pop()], dim=1)
                x = layer(x, emb_BE)
        return out
