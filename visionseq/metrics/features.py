"""Feature networks for scoring small images: a classifier whose penultimate layer is compared by the Frechet distance.

    conv3x3 - relu - pool2 - conv3x3 - relu [- pool2] - fc - relu - fc

For digits and Fashion-MNIST it replaces Inception-v3 and VGG16, which are made for large photographs. The Frechet
distance takes `features`, the perceptual distance `feature_maps`. Scores of different feature networks are not
comparable.

Legend: B batch, C channels, H, W side, K classes.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.saving.pretrained import PretrainedModel

LARGEST_MAP = 8  # the last map is pooled down to this side before the fully connected layer


class FeatureCNN(PretrainedModel):
    """Classifier of images [B, C, H, W] in [-1, 1].

    Args:
        img_resolution: side of the square images.
        in_channels: channels of the images.
        widths: output channels of each 3x3 convolution; the maps are halved between them.
        hidden: width of the penultimate layer.
        num_classes: K.

    Raises `ConfigError` where the images are too small for the halvings.
    """

    room: ClassVar[str] = "metrics"

    def __init__(
        self,
        img_resolution: int = 8,
        in_channels: int = 1,
        widths: Sequence[int] = (16, 32),
        hidden: int = 64,
        num_classes: int = 10,
    ):
        super().__init__()
        self.config: dict[str, Any] = {
            "img_resolution": img_resolution,
            "in_channels": in_channels,
            "widths": list(widths),
            "hidden": hidden,
            "num_classes": num_classes,
        }

        # Side of the last map, which decides the size of the fully connected layer.
        side = img_resolution // 2 ** (len(widths) - 1)
        if not widths or side < 1:
            raise ConfigError(
                f"FeatureCNN: images of {img_resolution}x{img_resolution} are too small for widths {list(widths)}"
            )
        self.pools_last = side > LARGEST_MAP
        side = side // 2 if self.pools_last else side

        self.convolutions = nn.ModuleList(
            nn.Conv2d(c_in, c_out, 3, padding=1)
            for c_in, c_out in zip([in_channels, *widths[:-1]], widths, strict=True)
        )
        self.hidden = nn.Linear(widths[-1] * side**2, hidden)
        self.classifier = nn.Linear(hidden, num_classes)

    @property
    def num_features(self) -> int:
        """Width of `features`."""
        return self.hidden.out_features

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Logits [B, K]."""
        return self.classifier(self.features(x_BCHW))

    def features(self, x_BCHW: Tensor) -> Tensor:
        """Penultimate activations [B, hidden], after their ReLU."""
        map_BCHW = self.feature_maps(x_BCHW)[-1]
        if self.pools_last:
            map_BCHW = F.max_pool2d(map_BCHW, 2)
        return F.relu(self.hidden(map_BCHW.flatten(1)))

    def feature_maps(self, x_BCHW: Tensor) -> list[Tensor]:
        """The map after the ReLU of each convolution, the finest first; uint8 images are scaled to [-1, 1]."""
        self._check(x_BCHW)
        if x_BCHW.dtype == torch.uint8:
            x_BCHW = x_BCHW.float() / 127.5 - 1
        maps: list[Tensor] = []
        for convolution in self.convolutions:
            x_BCHW = F.relu(convolution(F.max_pool2d(x_BCHW, 2) if maps else x_BCHW))
            maps.append(x_BCHW)
        return maps

    def _check(self, x_BCHW: Tensor) -> None:
        expected = (self.config["in_channels"], self.config["img_resolution"], self.config["img_resolution"])
        if x_BCHW.shape[1:] != expected:
            raise ConfigError(
                f"FeatureCNN: images {tuple(x_BCHW.shape)}, expected [B, {', '.join(map(str, expected))}]"
            )
