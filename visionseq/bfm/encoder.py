"""Frozen networks whose tokens guide the features: DINOv2 (arXiv 2304.07193), or a small feature network.

    encoder = encoder_from("dinov2-vit-b:weights/dinov2_vitb14_pretrain.pth")
    tokens_BNZ = encoder(images)                    # images [B, 3, S, S] in [-1, 1] -> [B, 256, 768]

DINOv2 sees the images with ImageNet's normalisation, resized to 224x224: 16x16 patches, one for each token of a
32x32 latent in patches of 2. Weights are a local file, as published or in timm's layout; nothing is downloaded.

Legend: B batch, S side, N tokens, Z channels of a token.
"""

import re
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import CheckpointError, ConfigError, import_extra
from visionseq.metrics.features import FeatureCNN
from visionseq.saving.weights import load_state, read_checkpoint, read_safetensors
from visionseq.zoo.loading import load_as

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet
SIDE, PATCH = 224, 14
NAME = re.compile(r"dinov2(reg)?-vit-([sblg]):(.+)")
SIZES = {"s": "small", "b": "base", "l": "large", "g": "giant"}


class Encoder(Protocol):
    """Images [B, C, S, S] in [-1, 1] -> tokens [B, N, Z], row by row, without gradients."""

    def __call__(self, images: Tensor) -> Tensor: ...

    def to(self, device: torch.device) -> "Encoder": ...


def encoder_from(name: str) -> Encoder:
    """The encoder behind a name: `dinov2-vit-{s,b,l,g}:FILE`, `dinov2reg-vit-...:FILE`, or a zoo's feature network.

    Raises `ConfigError` for a model that has no feature maps, `CheckpointError` for a file that does not fit.
    """
    if name.startswith("dinov2"):
        return DinoEncoder(name)
    return FeatureMapEncoder(load_as(FeatureCNN, name))


class FrozenEncoder(nn.Module, ABC):
    """Base: no gradients, always in eval mode."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "FrozenEncoder":
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        return self.tokens(images)

    @abstractmethod
    def tokens(self, images: Tensor) -> Tensor:
        """Tokens [B, N, Z] of images in [-1, 1]."""


class FeatureMapEncoder(FrozenEncoder):
    """The last map of a small classifier: each of its pixels is a token."""

    network: FeatureCNN

    def tokens(self, images: Tensor) -> Tensor:
        return self.network.feature_maps(images)[-1].flatten(2).transpose(1, 2)


class DinoEncoder(FrozenEncoder):
    """The patch tokens of DINOv2 after its last norm.

    Args:
        name: `dinov2-vit-b:FILE`; `dinov2reg` is the variant with registers, which are left out of the tokens.
    """

    network: Any

    def __init__(self, name: str):
        super().__init__(_dino(name))

    def tokens(self, images: Tensor) -> Tensor:
        hidden_BTZ = self.network.forward_features(preprocess(images / 2 + 0.5))
        return hidden_BTZ[:, self.network.num_prefix_tokens :]


def preprocess(unit_B3SS: Tensor) -> Tensor:
    """Images in [0, 1] as DINOv2 sees them: normalised, then resized to [B, 3, 224, 224] bicubically."""
    mean, std = (torch.tensor(values).to(unit_B3SS).view(3, 1, 1) for values in (MEAN, STD))
    return F.interpolate((unit_B3SS - mean) / std, (SIDE, SIDE), mode="bicubic", align_corners=False, antialias=False)


def _dino(name: str) -> nn.Module:
    """A network of timm with the weights of a file; its positions are resampled once to 16x16 patches."""
    match = NAME.fullmatch(name)
    if match is None:
        raise ConfigError(
            f"encoder {name!r}, expected dinov2-vit-b:FILE with one of the sizes s, b, l, g, or dinov2reg-"
        )
    registers, size, file = match.groups()
    timm = import_extra("timm", "images")
    architecture = f"vit_{SIZES[size]}_patch{PATCH}_{'reg4_' if registers else ''}dinov2"
    network = timm.create_model(architecture, pretrained=False, num_classes=0, img_size=SIDE)
    state = read_safetensors(file) if Path(file).suffix == ".safetensors" else read_checkpoint(file)
    from timm.models.vision_transformer import checkpoint_filter_fn

    try:
        converted = checkpoint_filter_fn(dict(state), network)
    except (KeyError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(f"{file} holds no {architecture}: {error}") from error
    load_state(network, converted, file)
    return network
