"""The EDM U-Nets written out plainly, from their configuration and state: the peer that SongUNet is timed against.

One method for each part that the paper describes (arXiv 2206.00364, appendix F), in the usual order of operations:
every residual sum is scaled after it is formed, 1x1 convolutions follow the upsampling filter, attention weights are
formed explicitly. It shares no code with `visionseq.rectified_flow`, so tests also compare both.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def plain_unet(
    network: nn.Module,
    x: Tensor,
    noise_labels: Tensor,
    class_labels: Tensor | None = None,
    augment_labels: Tensor | None = None,
) -> Tensor:
    """F(x, c_noise, labels) in evaluation mode with the weights of a SongUNet or DhariwalUNet, differentiable."""
    state = dict(network.named_parameters()) | dict(network.named_buffers())
    config: Any = network.config
    unet = _Adm if config["type"] == "DhariwalUNet" else _Song
    return unet(config, state)(x, noise_labels, class_labels, augment_labels)


class _Plain:
    """The parts that both U-Nets share; `name` is the prefix of a layer in the state."""

    heads_of_64 = False
    skip_scale = 1.0
    eps = 1e-5

    def __init__(self, config: dict[str, Any], state: dict[str, Tensor]):
        self.config, self.state = config, state
        self.resolutions = [config["img_resolution"] >> i for i in range(len(config["channel_mult"]))]

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        groups = min(32, x.shape[1] // 4)
        return F.group_norm(x, groups, self.state[f"{name}.weight"], self.state[f"{name}.bias"], self.eps)

    def conv(self, name: str, x: Tensor, up: bool = False, down: bool = False) -> Tensor:
        """Resampling by the filter, if any, then the convolution, if the layer has weights."""
        if up or down:
            taps = self.state[f"{name}.resample_filter"].repeat(x.shape[1], 1, 1, 1)
            padding = (taps.shape[-1] - 1) // 2
            if up:
                x = F.conv_transpose2d(x, 4 * taps, stride=2, padding=padding, groups=x.shape[1])
            else:
                x = F.conv2d(x, taps, stride=2, padding=padding, groups=x.shape[1])
        if f"{name}.weight" not in self.state:
            return x
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return F.conv2d(x, weight, padding=weight.shape[-1] // 2) + bias[:, None, None]

    def block(self, name: str, x: Tensor, emb: Tensor, up: bool = False, down: bool = False) -> Tensor:
        """Residual block: norm, SiLU, convolution; shift (and scale) by the embedding; the same again; attention."""
        h = self.conv(f"{name}.conv0", F.silu(self.norm(f"{name}.norm0", x)), up, down)
        params = self.linear(f"{name}.affine", emb)[:, :, None, None]
        if self.heads_of_64:
            scale, shift = params.chunk(2, dim=1)
            h = F.silu(self.norm(f"{name}.norm1", h) * (1 + scale) + shift)
        else:
            h = F.silu(self.norm(f"{name}.norm1", h + params))
        h = self.conv(f"{name}.conv1", h)
        if any(key.startswith(f"{name}.skip.") for key in self.state):
            x = self.conv(f"{name}.skip", x, up, down)
        h = (h + x) * self.skip_scale
        return self.attend(name, h) if f"{name}.qkv.weight" in self.state else h

    def attend(self, name: str, x: Tensor) -> Tensor:
        """Self-attention over the pixels, with its residual."""
        B, C, H, W = x.shape
        heads = C // 64 if self.heads_of_64 else 1
        qkv = self.conv(f"{name}.qkv", self.norm(f"{name}.norm2", x))
        q, k, v = qkv.reshape(B * heads, C // heads, 3, H * W).unbind(2)
        weights = torch.einsum("ncq,nck->nqk", q, k / math.sqrt(C // heads)).softmax(dim=2)
        h = torch.einsum("nqk,nck->ncq", weights, v).reshape(B, C, H, W)
        return (self.conv(f"{name}.proj", h) + x) * self.skip_scale

    def position(self, noise: Tensor, channels: int, endpoint: bool) -> Tensor:
        """Cosines, then sines, of the noise level times frequencies from 1 to 1/10000, [B, channels]."""
        exponents = torch.arange(channels // 2, dtype=noise.dtype) / (channels // 2 - endpoint)
        angle = noise[:, None] * 10000.0 ** -exponents.to(noise.device)
        return torch.cat([angle.cos(), angle.sin()], dim=1)

    def up_levels(self, x: Tensor, skips: list[Tensor], emb: Tensor, after_level: Any = None) -> Tensor:
        """The decoder; `after_level(name, x)` is called at the end of each level."""
        for res in reversed(self.resolutions):
            name = f"dec.{res}x{res}"
            if res == self.resolutions[-1]:
                x = self.block(f"{name}_in1", self.block(f"{name}_in0", x, emb), emb)
            else:
                x = self.block(f"{name}_up", x, emb, up=True)
            for i in range(self.config["num_blocks"] + 1):
                x = self.block(f"{name}_block{i}", torch.cat([x, skips.pop()], dim=1), emb)
            if after_level is not None:
                after_level(name, x)
        return x


class _Adm(_Plain):
    """DhariwalUNet (ADM)."""

    heads_of_64 = True

    def __call__(self, x: Tensor, noise: Tensor, classes: Tensor | None, augment: Tensor | None) -> Tensor:
        # Embedding of noise level, augmentation and class.
        emb = self.position(noise, self.config["model_channels"], endpoint=False)
        if augment is not None:
            emb = emb + self.linear("map_augment", augment)
        emb = self.linear("map_layer1", F.silu(self.linear("map_layer0", emb)))
        if classes is not None:
            emb = emb + self.linear("map_label", classes)
        emb = F.silu(emb)

        # Encoder, then decoder.
        skips = []
        for res in self.resolutions:
            name = f"enc.{res}x{res}"
            first = res == self.resolutions[0]
            x = self.conv(f"{name}_conv", x) if first else self.block(f"{name}_down", x, emb, down=True)
            skips.append(x)
            for i in range(self.config["num_blocks"]):
                x = self.block(f"{name}_block{i}", x, emb)
                skips.append(x)
        return self.conv("out_conv", F.silu(self.norm("out_norm", self.up_levels(x, skips, emb))))


class _Song(_Plain):
    """SongUNet (DDPM++, NCSN++): skip connections of images in the decoder, of a pyramid in the encoder."""

    skip_scale = math.sqrt(0.5)
    eps = 1e-6

    def __call__(self, x: Tensor, noise: Tensor, classes: Tensor | None, augment: Tensor | None) -> Tensor:
        emb = self.embedding(noise, classes, augment)
        x, skips = self.encode(x, emb)
        images: list[Tensor] = []

        def to_image(name: str, x: Tensor) -> None:
            if f"{name}_aux_conv.weight" in self.state:
                image = self.conv(f"{name}_aux_conv", F.silu(self.norm(f"{name}_aux_norm", x)))
                images.append(image + self.conv(f"{name}_aux_up", images[-1], up=True) if images else image)

        self.up_levels(x, skips, emb, to_image)
        return images[-1]

    def embedding(self, noise: Tensor, classes: Tensor | None, augment: Tensor | None) -> Tensor:
        """[B, C] of noise level, class and augmentation."""
        if self.config["embedding_type"] == "fourier":
            angle = noise[:, None] * (2 * math.pi * self.state["map_noise.freqs"])
            emb = torch.cat([angle.cos(), angle.sin()], dim=1)
        else:
            channels = self.config["model_channels"] * self.config["channel_mult_noise"]
            emb = self.position(noise, channels, endpoint=True)
        cos, sin = emb.chunk(2, dim=1)
        emb = torch.cat([sin, cos], dim=1)
        if classes is not None:
            emb = emb + self.linear("map_label", classes * math.sqrt(classes.shape[1]))
        if augment is not None:
            emb = emb + self.linear("map_augment", augment)
        return F.silu(self.linear("map_layer1", F.silu(self.linear("map_layer0", emb))))

    def encode(self, x: Tensor, emb: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The encoder's output, and what its blocks leave for the decoder."""
        skips, pyramid = [], x
        for res in self.resolutions:
            # The first convolution, or the next resolution with its share of the pyramid.
            name = f"enc.{res}x{res}"
            if res == self.resolutions[0]:
                x = self.conv(f"{name}_conv", x)
            else:
                x = self.block(f"{name}_down", x, emb, down=True)
                if self.config["encoder_type"] == "skip":
                    pyramid = self.conv(f"{name}_aux_down", pyramid, down=True)
                    x = x + self.conv(f"{name}_aux_skip", pyramid)
                elif self.config["encoder_type"] == "residual":
                    x = pyramid = (x + self.fused_down(f"{name}_aux_residual", pyramid)) / math.sqrt(2)
            skips.append(x)

            # The blocks of this resolution.
            for i in range(self.config["num_blocks"]):
                x = self.block(f"{name}_block{i}", x, emb)
                skips.append(x)
        return x, skips

    def fused_down(self, name: str, x: Tensor) -> Tensor:
        """Convolution with the padding of both filters, then the filter without padding."""
        weight, taps = self.state[f"{name}.weight"], self.state[f"{name}.resample_filter"]
        padding = weight.shape[-1] // 2 + (taps.shape[-1] - 1) // 2
        x = F.conv2d(x, weight, padding=padding)
        x = F.conv2d(x, taps.repeat(x.shape[1], 1, 1, 1), stride=2, groups=x.shape[1])
        return x + self.state[f"{name}.bias"][:, None, None]
