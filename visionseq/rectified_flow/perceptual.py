"""Perceptual distances: channel-normalised feature maps compared layer by layer (LPIPS, arXiv 1801.03924).

    P(a, b) = sum_l mean_hw sum_c w_lc (f_lc(a) / |f_l(a)| - f_lc(b) / |f_l(b)|)^2

At small scale the feature maps of a classifier of `visionseq.metrics` with unit weights stand in for LPIPS, whose VGG16
is in `vgg.py`. A distance is asked for by name; another network is never taken in its place.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq import zoo
from visionseq.errors import ConfigError
from visionseq.metrics.features import FeatureCNN
from visionseq.rectified_flow.vgg import IMAGENET_MEAN, IMAGENET_STD, load_lpips_vgg

LPIPS_PREFIX = "lpips:"
LPIPS_SIZE = 224  # every data set, as the official code has it
EPSILON = 1e-10


class PerceptualDistance(nn.Module):
    """Distance [B] of two images [B, C, H, W] in [0, 1], in float32; parameters are frozen, gradients reach the images.

    Args:
        feature_maps: normalised image -> list of maps [B, C_l, H_l, W_l]; a module moves with the distance.
        weights: per layer [1, C_l, 1, 1]; None is 1 everywhere.
        resize: side that images are resized to (bilinear, no antialiasing) before everything else.
        mean, std: normalisation (image - mean) / std, one value or one per channel of the feature network; a grey image
            gets a channel for each value.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        feature_maps: Callable[[Tensor], Sequence[Tensor]],
        weights: Sequence[Tensor] | None = None,
        resize: int | None = None,
        mean: Sequence[float] = (0.0,),
        std: Sequence[float] = (1.0,),
    ):
        super().__init__()
        self.feature_maps = feature_maps
        self.resize = resize
        self.weights = None if weights is None else nn.ParameterList(weights)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distances [B]; raises `ConfigError` where the numbers of layers and of weights differ."""
        with torch.autocast(a.device.type, enabled=False):
            maps_a, maps_b = self.feature_maps(self._prepare(a)), self.feature_maps(self._prepare(b))
            weights = [1.0] * len(maps_a) if self.weights is None else list(self.weights)
            if len(weights) != len(maps_a):
                raise ConfigError(f"perceptual distance: {len(weights)} layer weights for {len(maps_a)} feature maps")
            layers = [layer_distance(f, g, w) for f, g, w in zip(maps_a, maps_b, weights, strict=True)]
            return torch.stack(layers).sum(0)

    def train(self, mode: bool = True) -> "PerceptualDistance":
        """Stays in eval mode: a distance is not trained."""
        return super().train(False)

    def _prepare(self, image: Tensor) -> Tensor:
        image = image.float()
        if self.resize is not None:
            image = F.interpolate(image, size=(self.resize, self.resize), mode="bilinear", align_corners=False)
        return (image - self.mean) / self.std


def perceptual_from(name: str) -> PerceptualDistance:
    """The distance that a config names.

    Args:
        name: `lpips:FILE` for LPIPS with VGG16, its weights in a local file or in two (`lpips:VGG16.pth,LINEAR.pth`);
            otherwise a feature network for `visionseq.load`, whose maps are compared with unit weights.

    Raises `ConfigError` where the name is a model without feature maps, `CheckpointError` where files do not match.
    """
    if name.startswith(LPIPS_PREFIX):
        return lpips_vgg(*name.removeprefix(LPIPS_PREFIX).split(","))
    network = zoo.load(name)
    if not isinstance(network, FeatureCNN):
        raise ConfigError(
            f"perceptual: {name} is a {type(network).__name__}, expected a FeatureCNN or {LPIPS_PREFIX}FILE"
        )
    return classifier_distance(network)


def classifier_distance(network: FeatureCNN) -> PerceptualDistance:
    """Unit-weight distance on the maps of a classifier of images in [-1, 1]."""
    return PerceptualDistance(_Maps(network), mean=(0.5,), std=(0.5,))


def lpips_vgg(*files: str) -> PerceptualDistance:
    """LPIPS with VGG16, average pooling and images resized to 224, its weights in one or two local files.

    Raises `CheckpointError` where a file is missing or has other contents, see `vgg.load_lpips_vgg`.
    """
    network, weights = load_lpips_vgg(*files)
    return PerceptualDistance(network, weights, LPIPS_SIZE, IMAGENET_MEAN, IMAGENET_STD)


def layer_distance(f: Tensor, g: Tensor, weight: Tensor | float) -> Tensor:
    """Weighted squared difference of channel-normalised maps [B, C, H, W], summed over C, mean over space: [B]."""
    return ((normalise_channels(f) - normalise_channels(g)).square() * weight).sum(1).mean((1, 2))


def normalise_channels(f: Tensor) -> Tensor:
    """f / |f| over channels; the epsilon is inside the root, so that the gradient exists where all channels are 0."""
    return f / (f.square().sum(1, keepdim=True) + EPSILON**2).sqrt()


class _Maps(nn.Module):
    """The feature maps of a classifier as a module."""

    def __init__(self, network: FeatureCNN):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> list[Tensor]:
        return self.network.feature_maps(x)
