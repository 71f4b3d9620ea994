"""From sparse voxels to a dense map seen from above, and the 2D backbones on it (as in OpenPCDet's detectors)."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.lion import limits
from visionseq.nn.sparse import SparseTensor

EPS, MOMENTUM = 1e-3, 0.01


def height_compression(x: SparseTensor) -> Tensor:
    """[B, C * Z, Y, X]: the cells of a column side by side, channel c * Z + z."""
    return x.dense().flatten(1, 2)


class BaseBEVBackbone(nn.Module):
    """Levels of plain convolutions, each brought to a common resolution; the results side by side.

    Args:
        input_channels: of the map.
        layer_nums: convolutions of each level after the first one.
        layer_strides: of the first convolution of each level.
        num_filters: channels of each level.
        upsample_strides: by how much each level is enlarged; below one it is reduced.
        num_upsample_filters: channels of each level's share of the result.
    """

    def __init__(
        self,
        input_channels: int,
        layer_nums: Sequence[int],
        layer_strides: Sequence[int],
        num_filters: Sequence[int],
        upsample_strides: Sequence[float],
        num_upsample_filters: Sequence[int],
    ):
        super().__init__()
        # Numbers out of bounds.
        lists = (layer_nums, layer_strides, num_filters, upsample_strides, num_upsample_filters)
        limits.counts("backbone_2d: layer_nums", layer_nums, limits.MOST_LAYERS, least=0)
        limits.counts("backbone_2d: layer_strides", layer_strides, limits.MOST_CELLS)
        for filters in (num_filters, num_upsample_filters):
            limits.counts("backbone_2d: filters", filters, limits.MOST_CHANNELS)
        if len({len(values) for values in lists}) != 1:
            raise ConfigError("backbone_2d: layer_nums, strides and filters must have one entry for each level")
        for stride in upsample_strides:
            if not 1 / limits.MOST_LAYERS <= stride <= limits.MOST_LAYERS or (stride > 1 and stride != int(stride)):
                raise ConfigError(
                    f"backbone_2d: upsample_strides {list(upsample_strides)}, expected 1, 2 ... or below 1"
                )

        # The levels, and how each is brought to the common resolution.
        inputs = [input_channels, *num_filters[:-1]]
        levels = zip(inputs, num_filters, layer_strides, layer_nums, strict=True)
        self.blocks = nn.ModuleList(self.level(*level) for level in levels)
        ups = zip(num_filters, num_upsample_filters, upsample_strides, strict=True)
        self.deblocks = nn.ModuleList(_resized(*up) for up in ups)
        self.num_bev_features = sum(num_upsample_filters)

    def level(self, inputs: int, outputs: int, stride: int, layers: int) -> nn.Sequential:
        """The convolutions of one level."""
        parts: list[nn.Module] = [nn.ZeroPad2d(1), nn.Conv2d(inputs, outputs, 3, stride, bias=False)]
        parts += [_norm(outputs), nn.ReLU()]
        for _ in range(layers):
            parts += [nn.Conv2d(outputs, outputs, 3, padding=1, bias=False), _norm(outputs), nn.ReLU()]
        return nn.Sequential(*parts)

    def forward(self, x_BCYX: Tensor) -> Tensor:
        """[B, C, Y, X] -> [B, C', Y / s, X / s]."""
        levels = []
        for block, deblock in zip(self.blocks, self.deblocks, strict=True):
            x_BCYX = block(x_BCYX)
            levels.append(deblock(x_BCYX))
        return torch.cat(levels, 1)


class BaseBEVResBackbone(BaseBEVBackbone):
    """The same with residual blocks of two convolutions."""

    def level(self, inputs: int, outputs: int, stride: int, layers: int) -> nn.Sequential:
        first = BasicBlock(inputs, outputs, stride, downsample=True)
        return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(layers)))


class BasicBlock(nn.Module):
    """relu(conv(relu(conv(x))) + shortcut(x)), BatchNorm after each convolution (arXiv 1512.03385)."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1, downsample: bool = False):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.bn1 = _norm(outputs)
        self.relu1 = nn.ReLU()
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = _norm(outputs)
        self.relu2 = nn.ReLU()
        self.downsample_layer = None
        if downsample:
            shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
            self.downsample_layer = nn.Sequential(shortcut, _norm(outputs))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu1(self.bn1(self.conv1(x)))))
        return self.relu2(y + (x if self.downsample_layer is None else self.downsample_layer(x)))


def _resized(inputs: int, outputs: int, stride: float) -> nn.Sequential:
    if stride >= 1:
        factor = int(stride)
        convolution: nn.Module = nn.ConvTranspose2d(inputs, outputs, factor, factor, bias=False)
    else:
        factor = round(1 / stride)
        convolution = nn.Conv2d(inputs, outputs, factor, factor, bias=False)
    return nn.Sequential(convolution, _norm(outputs), nn.ReLU())


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=EPS, momentum=MOMENTUM)
