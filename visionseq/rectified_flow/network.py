"""The common parts of this room's networks that the wrappers of `model.py` use: sizes, labels, configuration.

A network is F(x, c_noise, labels) of the EDM preconditioning (arXiv 2206.00364, table 1). It knows the plain arguments
it was built with, so that a saved model can be rebuilt without naming a Python path.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError


class Network(nn.Module):
    """Base of the networks: forward(x [B, C, H, W], noise_labels [B], class_labels, augment_labels) -> [B, C', H, W].

    Attributes:
        config: `type` and the constructor's arguments as plain JSON values.
        img_resolution, in_channels, out_channels: size of the square image.
        label_dim: number of classes, 0 = unconditional.
        augment_dim: width of the augmentation vector, 0 = none.
    """

    def __init__(self, arguments: dict[str, Any]):
        """Take the constructor's `locals()`."""
        super().__init__()
        arguments = {name: value for name, value in arguments.items() if name not in ("self", "__class__")}
        self.config: dict[str, Any] = {"type": type(self).__name__}
        self.config |= {name: list(v) if isinstance(v, tuple) else v for name, v in arguments.items()}
        self.img_resolution: int = arguments["img_resolution"]
        self.in_channels: int = arguments["in_channels"]
        self.out_channels: int = arguments.get("out_channels", self.in_channels)
        self.label_dim: int = arguments.get("label_dim", 0)
        self.augment_dim: int = arguments.get("augment_dim", 0)
        self.label_dropout: float = arguments.get("label_dropout", 0.0)

    def one_hot(self, class_labels: Tensor | None, like: Tensor) -> Tensor:
        """One-hot labels [B or 1, label_dim]: zero where they are missing, or dropped during training."""
        if class_labels is None:
            return like.new_zeros(1, self.label_dim)
        labels = class_labels.to(like.dtype)
        if self.training and self.label_dropout:
            labels = labels * (torch.rand(len(labels), 1, device=labels.device) >= self.label_dropout)
        return labels


def check_unet(img_resolution: int, channel_mult: Sequence[int]) -> None:
    """Raise `ConfigError` unless every level halves the resolution without a remainder."""
    if not channel_mult:
        raise ConfigError("channel_mult is empty, expected one entry per level")
    factor = 2 ** (len(channel_mult) - 1)
    if img_resolution % factor:
        raise ConfigError(f"img_resolution {img_resolution}: {len(channel_mult)} levels need a multiple of {factor}")


def check_choice(argument: str, value: str, choices: Sequence[str]) -> None:
    """Raise `ConfigError` unless the value is one of the choices."""
    if value not in choices:
        raise ConfigError(f"{argument} {value!r}, expected one of {', '.join(choices)}")
