"""The LION layer: voxels in groups through one operator along x, then through another along y (arXiv 2407.18232)."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.lion import limits, operators
from visionseq.lion.normalisation import RowBatchNorm
from visionseq.lion.windows import Window, group_places, window_order
from visionseq.nn.precision import at_least_float32
from visionseq.nn.sparse import SparseTensor

Operator = Callable[..., nn.Module]  # (d_model, layer_id=, n_layer=) -> module on [groups, length, d_model]

OPERATORS = {
    "Mamba": "MambaBlock",
    "RWKV": "RWKV6Block",
    "RetNet": "RetNetBlock",
    "xLSTM": "XLSTMBlock",
    "TTT": "TTTBlock",
}
PI = 3.1415  # the constant that the released weights were trained with


def operator(name: str, **options: Any) -> Operator:
    """A function that builds the operator blocks of a backbone: one of `OPERATORS` with its options.

    Raises `ConfigError` for an unknown name or option.
    """
    if not isinstance(name, str) or name not in OPERATORS:
        raise ConfigError(f"operator {name!r}, expected one of {', '.join(OPERATORS)}")
    block = getattr(operators, OPERATORS[name])

    def build(d_model: int, layer_id: int, n_layer: int) -> nn.Module:
        try:
            return block(d_model, layer_id=layer_id, n_layer=n_layer, **options)
        except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            raise ConfigError(f"operator {name}: {error}") from error

    return build


class LIONLayer(nn.Module):
    """Two operator blocks in series on groups of voxels; residuals and norms are inside the blocks.

    Args:
        dim: channels.
        build: makes an operator block.
        window_shape: x, y, z in voxels.
        group_size: voxels of a group.
        shift: move the windows by half of their size.
        layer_id: number of the first block in the network of `n_layer` blocks.
        direction: the order within windows, x or y for each block.

    Raises `ConfigError` for sizes below one and other directions.
    """

    def __init__(
        self,
        dim: int,
        build: Operator,
        window_shape: Sequence[int],
        group_size: int,
        shift: bool,
        layer_id: int = 0,
        n_layer: int = 1,
        direction: Sequence[str] = ("x", "y"),
    ):
        super().__init__()
        x, y, z = limits.counts("window_shape", window_shape, limits.MOST_CELLS, length=3)
        self.window_shape: Window = (x, y, z)
        self.group_size = limits.count("group_size", group_size, limits.MOST_PLACES)
        if not set(direction) <= {"x", "y"}:
            raise ConfigError(f"direction {list(direction)}, expected x or y for each operator block")
        self.shift, self.direction = shift, tuple(direction)
        self.blocks = nn.ModuleList(build(dim, layer_id=layer_id + i, n_layer=n_layer) for i in range(len(direction)))

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Features [V, C] -> [V, C] on the same sites."""
        if not len(x.features):
            return x
        groups = group_places(x.counts().tolist(), self.group_size, x.features.device)
        features = x.features
        for block, direction in zip(self.blocks, self.direction, strict=True):
            order = window_order(x.indices, x.spatial_shape, self.window_shape, self.shift, direction)
            place = torch.empty_like(order)
            place[order] = groups.places
            tokens = features.index_select(0, order[groups.sources]).view(-1, self.group_size, features.shape[1])
            features = block(tokens).flatten(0, 1).index_select(0, place)
        return x.with_features(features)


class PositionEmbedding(nn.Module):
    """A small network on the place of a voxel in its grid, which runs from -pi to pi along each axis."""

    def __init__(self, dim: int):
        super().__init__()
        self.position_embedding_head = nn.Sequential(
            nn.Linear(3, dim), RowBatchNorm(dim), nn.ReLU(inplace=True), nn.Linear(dim, dim)
        )

    def forward(self, x: SparseTensor) -> Tensor:
        """[V, C] to be added to the features."""
        return self.position_embedding_head(self.location(x))

    @staticmethod
    def location(x: SparseTensor) -> Tensor:
        """[V, 3]: x, y, z from -pi to pi over the grid of the tensor."""
        dtype = at_least_float32(x.features[:0]).dtype  # half precision cannot separate 350 columns
        shape = torch.tensor(x.spatial_shape[::-1], device=x.features.device, dtype=dtype)
        place = x.indices[:, [3, 2, 1]].to(dtype)
        return (place - shape / 2) / shape * 2 * PI
