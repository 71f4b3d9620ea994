"""Perceptual distances: channel-normalised feature maps compared layer by layer (LPIPS, arXiv 1801.03924).

    P(a, b) = sum_l mean_hw sum_c w_lc (f_lc(a) / |f_l(a)| - f_lc(b) / |f_l(b)|)^2

LPIPS as improved rectified flows use it resizes both images to 224 x 224, takes five VGG16 layers with average instead
of max pooling and the learned linear weights of LPIPS v0.1; its weights come from a local file. At small scale the
feature maps of a classifier of `visionseq.metrics` with unit weights stand in for it.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import CheckpointError, ConfigError
from visionseq.nn.weights import read_checkpoint, read_safetensors

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
EPS = 1e-10
VGG16_LAYERS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)  # 0: pooling
VGG16_TAPS = (3, 8, 15, 22, 29)  # relu1_2, relu2_2, relu3_3, relu4_3, relu5_3 in torchvision's numbering
VGG16_WIDTHS = (64, 128, 256, 512, 512)


class PerceptualDistance(nn.Module):
    """Distance [B] of two images [B, C, H, W] in [0, 1], in float32; parameters are frozen, gradients reach the images.

    Args:
        feature_maps: image -> list of maps [B, C_l, H_l, W_l].
        weights: per layer [1, C_l, 1, 1]; None is 1 everywhere.
        resize: side that images are resized to (bilinear, no antialiasing) before everything else.
        mean, std: normalisation per channel.
    """

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
        self.weights = None if weights is None else nn.ParameterList(nn.Parameter(w) for w in weights)
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        self.requires_grad_(False).eval()

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        with torch.autocast(a.device.type, enabled=False):
            maps_a, maps_b = self.feature_maps(self._prepare(a)), self.feature_maps(self._prepare(b))
            if self.weights is not None and len(self.weights) != len(maps_a):
                raise ConfigError(f"{len(self.weights)} layer weights for {len(maps_a)} feature maps")
            return sum(self._layer(i, f, g) for i, (f, g) in enumerate(zip(maps_a, maps_b, strict=True)))

    def _prepare(self, image: Tensor) -> Tensor:
        image = image.float()
        if self.resize is not None:
            image = F.interpolate(image, size=(self.resize, self.resize), mode="bilinear", align_corners=False)
        return (image - self.mean) / self.std

    def _layer(self, index: int, f: Tensor, g: Tensor) -> Tensor:
        difference = (normalise_channels(f) - normalise_channels(g)).square()
        if self.weights is not None:
            difference = difference * self.weights[index]
        return difference.sum(1).mean((1, 2))


def normalise_channels(f: Tensor) -> Tensor:
    """Divide by the L2 norm over channels; the gradient is finite where all channels are 0."""
    return f / (f.square().sum(1, keepdim=True) + EPS**2).sqrt().clamp(min=EPS)


class VGG16Features(nn.Module):
    """The five feature maps of LPIPS from a VGG16 with average pooling, on normalised RGB images."""

    def __init__(self):
        super().__init__()
        layers, width = [], 3
        for out in VGG16_LAYERS:
            layers += [nn.Conv2d(width, out, 3, padding=1), nn.ReLU()] if out else [nn.AvgPool2d(2)]
            width = out or width
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in VGG16_TAPS:
                maps.append(x)
        return maps


def lpips_vgg(weights_file: str | Path) -> PerceptualDistance:
    """LPIPS with VGG16 from one local file (.safetensors, or .pth read with weights_only).

    The file holds `features.{i}.weight|bias` as torchvision's vgg16 names them, and the five linear weights
    [1, C, 1, 1] as `lin{k}.model.1.weight` (the lpips package) or `lin{k}.weight`, for k = 0..4.

    Raises:
        CheckpointError: the file is missing, or lacks some of these tensors, or holds them in another shape.
    """
    path = Path(weights_file)
    if not path.is_file():
        raise CheckpointError(f"LPIPS weights {path}: no such file; give a local file with VGG16 and linear weights")
    state = read_safetensors(path) if path.suffix == ".safetensors" else read_checkpoint(path)
    network = VGG16Features()
    wanted = network.state_dict()
    linear = [_linear_weight(state, k, path) for k in range(len(VGG16_WIDTHS))]
    problems = [
        f"{key}: {'missing' if key not in state else f'{tuple(state[key].shape)}, expected {tuple(value.shape)}'}"
        for key, value in wanted.items()
        if key not in state or state[key].shape != value.shape
    ]
    if problems:
        raise CheckpointError(f"LPIPS weights {path}: " + "; ".join(problems))
    network.load_state_dict({key: state[key] for key in wanted})
    return PerceptualDistance(network, linear, 224, IMAGENET_MEAN, IMAGENET_STD)


def _linear_weight(state: dict[str, Tensor], k: int, path: Path) -> Tensor:
    for key in (f"lin{k}.model.1.weight", f"lin{k}.weight"):
        if key in state:
            if state[key].numel() != VGG16_WIDTHS[k]:
                found = tuple(state[key].shape)
                raise CheckpointError(f"LPIPS weights {path}: {key} has shape {found}, expected [1, {VGG16_WIDTHS[k]}, 1, 1]")
            return state[key].float().view(1, -1, 1, 1)
    raise CheckpointError(f"LPIPS weights {path}: no lin{k}.model.1.weight, the linear weights of LPIPS v0.1")
