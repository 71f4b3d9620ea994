"""VGG16 of LPIPS (arXiv 1801.03924, version 0.1) and how its weights are read from local files.

Improved rectified flows use average instead of max pooling, the five maps relu1_2, relu2_2, relu3_3, relu4_3, relu5_3
and the learned weights of LPIPS per channel. Both sets of weights are someone else's: they are never downloaded here.

    VGG16    features.{i}.weight|bias (torchvision), net.slice{k}.{i}.weight|bias (lpips), {i}.weight|bias
    linear   lin{k}.model.1.weight, lins.{k}.model.1.weight (lpips), lin{k}.weight, linear.{k}, or a list of five
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from visionseq.errors import CheckpointError
from visionseq.saving.weights import load_state, read_checkpoint, read_safetensors

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAYERS = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)  # widths; 0 = pooling
TAPS = (3, 8, 15, 22, 29)  # relu1_2, relu2_2, relu3_3, relu4_3, relu5_3 in torchvision's numbering
WIDTHS = (64, 128, 256, 512, 512)

_CONVOLUTION = re.compile(r"^(?:.*\.)?(?:features|net\.slice\d+)\.(\d+)\.(weight|bias)$|^(\d+)\.(weight|bias)$")
_LINEAR = re.compile(r"^(?:.*\.)?(?:lins?\.?|linear\.|lpips_w)(\d)(?:\.model\.1)?(?:\.weight)?$")


class VGG16Features(nn.Module):
    """The five feature maps from images [B, 3, H, W] normalised with ImageNet's mean and deviation; average pooling."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        width = 3
        for out in LAYERS:
            layers += [nn.Conv2d(width, out, 3, padding=1), nn.ReLU()] if out else [nn.AvgPool2d(2)]
            width = out or width
        self.features = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Maps [B, C_l, H_l, W_l], the finest first."""
        maps = []
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index in TAPS:
                maps.append(x)
        return maps


def load_lpips_vgg(*files: str | Path) -> tuple[VGG16Features, list[Tensor]]:
    """VGG16 and the five weights [1, C, 1, 1] from one file that holds both, or from one file for each.

    Files are .safetensors, or .pth and .pt read with `torch.load(weights_only=True)`.

    Raises `CheckpointError` naming the file where it is missing, or lacks tensors, or has them in another shape.
    """
    convolutions: dict[str, Tensor] = {}
    linear: dict[int, Tensor] = {}
    for file in files:
        for name, tensor in _read(Path(file)).items():
            if match := _CONVOLUTION.match(name):
                index, kind = match[1] or match[3], match[2] or match[4]
                convolutions[f"features.{index}.{kind}"] = tensor
            elif match := _LINEAR.match(name):
                linear[int(match[1])] = tensor
    source = " and ".join(map(str, files))
    with torch.random.fork_rng(devices=[]):  # initial weights that the file's replace draw from no one's generator
        network = VGG16Features()
    load_state(network, convolutions, f"{source} (VGG16)")
    return network.eval(), [_linear_weight(linear, k, source) for k in range(len(WIDTHS))]


def _read(path: Path) -> Mapping[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(
            f"LPIPS weights {path}: no such file. They are not downloaded: give torchvision's VGG16 "
            "(ImageNet) and the linear weights of LPIPS v0.1 as local files"
        )
    content = read_safetensors(path) if path.suffix == ".safetensors" else read_checkpoint(path)
    if isinstance(content, list | tuple):  # piq keeps the five linear weights as a list
        content = {f"linear.{k}": value for k, value in enumerate(content)}
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise CheckpointError(f"LPIPS weights {path}: expected a state dict of tensors, found {type(content).__name__}")
    return content


def _linear_weight(linear: Mapping[int, Tensor], k: int, source: str) -> Tensor:
    if k not in linear:
        raise CheckpointError(
            f"LPIPS weights {source}: the linear weight of layer {k} is missing, expected lin{k}.model.1.weight "
            f"[1, {WIDTHS[k]}, 1, 1]; torchvision's VGG16 alone is not LPIPS"
        )
    if linear[k].numel() != WIDTHS[k]:
        raise CheckpointError(
            f"LPIPS weights {source}: linear weight {k} is {list(linear[k].shape)}, expected [1, {WIDTHS[k]}, 1, 1]"
        )
    return linear[k].float().reshape(1, -1, 1, 1)
