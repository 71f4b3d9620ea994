"""Networks that turn images into the vectors that scores compare.

Scores of different networks are not comparable, so each extractor has a name that every score reports.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError


@runtime_checkable
class FeatureNetwork(Protocol):
    """A network with a feature layer, such as `FeatureCNN` and `InceptionFeatures`."""

    num_features: int

    def features(self, images: Tensor) -> Tensor:
        """Images [B, C, H, W] (float in [-1, 1] or uint8) -> [B, num_features]."""


class FeatureExtractor(nn.Module):
    """Images [B, C, H, W] -> features [B, num_features]; frozen, and always in eval mode.

    Args:
        network: a `FeatureNetwork`, or any callable from images to [B, num_features].
        num_features: width of the features; read from a `FeatureNetwork`, needed for a plain callable.
        name: what scores report; default: the network's own `name`, or that of its class.
    """

    def __init__(
        self,
        network: FeatureNetwork | Callable[[Tensor], Tensor],
        num_features: int | None = None,
        name: str | None = None,
    ):
        super().__init__()
        self.network = network
        self._function: Callable[[Tensor], Tensor]
        if isinstance(network, FeatureNetwork):
            self._function, width = network.features, network.num_features
        else:
            self._function, width = network, 0
        self.num_features = num_features or width
        self.name = str(name or getattr(network, "name", "") or getattr(network, "__name__", type(network).__name__))
        if self.num_features < 1:
            raise ConfigError(f"features {self.name}: a plain callable needs num_features, the width of its output")
        self.eval()

    @classmethod
    def of(cls, features: "FeatureExtractor | FeatureNetwork") -> "FeatureExtractor":
        """The extractor itself, or one around a feature network."""
        return features if isinstance(features, cls) else cls(features)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        features = self._function(images)
        if features.ndim != 2 or features.shape[1] != self.num_features:
            raise ConfigError(f"features {self.name}: {tuple(features.shape)}, expected [B, {self.num_features}]")
        return features

    def train(self, mode: bool = True) -> "FeatureExtractor":
        """Stay in eval mode, also as part of a module that trains."""
        return super().train(False)


def precomputed(num_features: int, name: str) -> FeatureExtractor:
    """An extractor for features [B, num_features] that exist already; `name` is that of their network."""
    return FeatureExtractor(_identity, num_features, name)


def _identity(features: Tensor) -> Tensor:
    return features
