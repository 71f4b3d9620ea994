"""Inception-v3 as the FID knows it: the TensorFlow graph of 2015-12-05, features of its last pooling layer.

FIDs are comparable only with this network: its average pools leave the padding out, the last block pools by maximum,
and images are enlarged to 299 x 299 by TensorFlow 1's bilinear rule, whose grid starts at the corner instead of the
pixel's centre (arXiv 1512.00567 for the architecture, 1706.08500 for the use). Weights come from one local file with
the names of pytorch-fid and torch-fidelity (`pt_inception-2015-12-05-6726825d.pth`) and are never downloaded.

Legend: B batch, C channels, H, W side.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import CheckpointError, ConfigError
from visionseq.pixels import to_uint8
from visionseq.saving.weights import load_state, read_checkpoint, read_safetensors

SIDE = 299
NUM_LOGITS = 1008
Kernel = int | tuple[int, int]


class InceptionFeatures(nn.Module):
    """Pool features [B, 2048] of images [B, 1 or 3, H, W]; grey is repeated to three channels.

    Args:
        weights_file: local .pth (read with `weights_only`) or .safetensors.

    Raises:
        CheckpointError: the file is missing, refused, or does not hold this network.
    """

    num_features = 2048
    name = "inception-v3-2015-12-05"

    def __init__(self, weights_file: str | os.PathLike):
        super().__init__()
        self.network = InceptionV3()
        load_state(self.network, _read(Path(weights_file)), weights_file)
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def features(self, images: Tensor) -> Tensor:
        """Images as uint8, or float in [-1, 1] that are rounded to 8 bits first."""
        if images.ndim != 4 or images.shape[1] not in (1, 3):
            raise ConfigError(f"{self.name}: images {tuple(images.shape)}, expected [B, 1 or 3, H, W]")
        return self.network(to_uint8(images).float().expand(-1, 3, -1, -1))

    forward = features

    def train(self, mode: bool = True) -> "InceptionFeatures":
        """Stay in eval mode, also as part of a module that trains."""
        return super().train(False)


class InceptionV3(nn.Module):
    """The network: RGB [B, 3, H, W] in [0, 255] -> pool features [B, 2048]."""

    def __init__(self):
        super().__init__()
        self.Conv2d_1a_3x3 = ConvBN(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = ConvBN(32, 32, 3, padding=0)
        self.Conv2d_2b_3x3 = ConvBN(32, 64, 3)
        self.Conv2d_3b_1x1 = ConvBN(64, 80, 1)
        self.Conv2d_4a_3x3 = ConvBN(80, 192, 3, padding=0)
        self.Mixed_5b = block_a(192, 32)
        self.Mixed_5c = block_a(256, 64)
        self.Mixed_5d = block_a(288, 64)
        self.Mixed_6a = block_b(288)
        self.Mixed_6b = block_c(768, 128)
        self.Mixed_6c = block_c(768, 160)
        self.Mixed_6d = block_c(768, 160)
        self.Mixed_6e = block_c(768, 192)
        self.Mixed_7a = block_d(768)
        self.Mixed_7b = block_e(1280, "average")
        self.Mixed_7c = block_e(2048, "max")
        self.fc = nn.Linear(2048, NUM_LOGITS)  # unused here; files of other Inceptions have 1000 logits

    def forward(self, x_BCHW: Tensor) -> Tensor:
        x = (resize_tensorflow_1(x_BCHW, SIDE) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, stride=2)
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x))
        x = F.max_pool2d(x, 3, stride=2)
        for name, block in self.named_children():
            if name.startswith("Mixed"):
                x = block(x)
        return x.mean((2, 3))


class ConvBN(nn.Module):
    """Convolution, frozen batch normalisation, ReLU; `padding` None keeps the size, or is 0 where the stride is 2."""

    def __init__(self, c_in: int, c_out: int, kernel: Kernel, stride: int = 1, padding: int | None = None):
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        same = (height // 2, width // 2) if stride == 1 else (0, 0)
        self.conv = nn.Conv2d(c_in, c_out, (height, width), stride, same if padding is None else padding, bias=False)
        self.bn = nn.BatchNorm2d(c_out, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn(self.conv(x)), inplace=True)


class InceptionBlock(nn.Module):
    """Parallel chains of convolutions and a pooled branch, joined along the channels.

    Args:
        c_in: input channels.
        chains: name -> layers (channels, kernel[, stride]); a list in place of a layer splits the chain in parallel
            layers. Layers are called name_1, name_2, ... (name_2a, name_2b where split), or name if there is one.
        pool: "average" without padding, "max", or "max-stride-2" without a convolution.
        c_pool: channels of the pooled branch.
    """

    def __init__(self, c_in: int, chains: Mapping[str, Sequence[Any]], pool: str, c_pool: int = 0):
        super().__init__()
        self.pool = pool
        self.chains: list[list[list[str]]] = [self._add(c_in, name, layers) for name, layers in chains.items()]
        if c_pool:
            self.branch_pool = ConvBN(c_in, c_pool, 1)

    def _add(self, c_in: int, name: str, layers: Sequence) -> list[list[str]]:
        steps = []
        for number, layer in enumerate(layers, 1):
            parallel = layer if isinstance(layer, list) else [layer]
            stem = name if len(layers) == 1 else f"{name}_{number}"
            names = [f"{stem}{letter}" for letter in "ab"[: len(parallel)]] if len(parallel) > 1 else [stem]
            for child, arguments in zip(names, parallel, strict=True):
                self.add_module(child, ConvBN(c_in, *arguments))
            steps.append(names)
            c_in = parallel[0][0]
        return steps

    def forward(self, x: Tensor) -> Tensor:
        branches = []
        for chain in self.chains:
            y = x
            for names in chain:
                y = torch.cat([getattr(self, name)(y) for name in names], 1)
            branches.append(y)
        return torch.cat([*branches, self._pooled(x)], 1)

    def _pooled(self, x: Tensor) -> Tensor:
        if self.pool == "max-stride-2":
            return F.max_pool2d(x, 3, stride=2)
        if self.pool == "max":
            return self.branch_pool(F.max_pool2d(x, 3, stride=1, padding=1))
        return self.branch_pool(F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False))


def block_a(c_in: int, c_pool: int) -> InceptionBlock:
    chains: dict[str, list[Any]] = {
        "branch1x1": [(64, 1)],
        "branch5x5": [(48, 1), (64, 5)],
        "branch3x3dbl": [(64, 1), (96, 3), (96, 3)],
    }
    return InceptionBlock(c_in, chains, "average", c_pool)


def block_b(c_in: int) -> InceptionBlock:
    chains: dict[str, list[Any]] = {"branch3x3": [(384, 3, 2)], "branch3x3dbl": [(64, 1), (96, 3), (96, 3, 2)]}
    return InceptionBlock(c_in, chains, "max-stride-2")


def block_c(c_in: int, c: int) -> InceptionBlock:
    row, column = (1, 7), (7, 1)
    chains: dict[str, list[Any]] = {
        "branch1x1": [(192, 1)],
        "branch7x7": [(c, 1), (c, row), (192, column)],
        "branch7x7dbl": [(c, 1), (c, column), (c, row), (c, column), (192, row)],
    }
    return InceptionBlock(c_in, chains, "average", 192)


def block_d(c_in: int) -> InceptionBlock:
    chains: dict[str, list[Any]] = {
        "branch3x3": [(192, 1), (320, 3, 2)],
        "branch7x7x3": [(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3, 2)],
    }
    return InceptionBlock(c_in, chains, "max-stride-2")


def block_e(c_in: int, pool: str) -> InceptionBlock:
    split = [(384, (1, 3)), (384, (3, 1))]
    chains: dict[str, list[Any]] = {
        "branch1x1": [(320, 1)],
        "branch3x3": [(384, 1), split],
        "branch3x3dbl": [(448, 1), (384, 3), split],
    }
    return InceptionBlock(c_in, chains, pool, 192)


def resize_tensorflow_1(x_BCHW: Tensor, side: int) -> Tensor:
    """TensorFlow 1's resize_bilinear without corner alignment: output i reads the input at i * size / side."""

    def blend(x: Tensor, axis: int) -> Tensor:
        size = x.shape[axis]
        position = torch.arange(side, dtype=torch.float32, device=x.device) * (size / side)
        low = position.long()
        share = (position - low).view([-1 if i == axis else 1 for i in range(4)])
        near, far = x.index_select(axis, low), x.index_select(axis, (low + 1).clamp(max=size - 1))
        return near + (far - near) * share

    return blend(blend(x_BCHW, 3), 2)


def _read(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise CheckpointError(
            f"Inception weights {path}: no such file. visionseq does not download them; get "
            "pt_inception-2015-12-05-6726825d.pth, which pytorch-fid and torch-fidelity use, and name it here"
        )
    state = read_safetensors(path) if path.suffix == ".safetensors" else read_checkpoint(path)
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"Inception weights {path}: expected a table of tensors")
    # Files differ in whether they hold the step counters of batch normalisation, which inference does not use.
    counters = {name: torch.zeros((), dtype=torch.int64) for name in _counters(state)}
    return state | counters


def _counters(state: dict[str, Tensor]) -> list[str]:
    ending = "running_mean"
    return [f"{name.removesuffix(ending)}num_batches_tracked" for name in state if name.endswith(ending)]
