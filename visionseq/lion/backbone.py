"""The 3D backbones of LION: four blocks that keep the resolution seen from above and halve the height after each.

(arXiv 2407.18232, section 3.1; the sparse one is that of the Argoverse 2 detectors.)
"""

import math
from collections.abc import Sequence
from functools import partial

from torch import nn

from visionseq.errors import ConfigError
from visionseq.lion import limits
from visionseq.lion.block import LIONBlock
from visionseq.lion.layer import LIONLayer, Operator
from visionseq.lion.merge import PatchMerging3D
from visionseq.nn.sparse import SparseTensor

WINDOWS = ((13, 13, 32), (13, 13, 16), (13, 13, 8), (13, 13, 4))
GROUPS = (4096, 2048, 1024, 512)
OUT_WINDOW, OUT_GROUP = (13, 13, 2), 256
BEV_LAYERS = (((25, 25, 1), 512), ((37, 37, 1), 1024), ((51, 51, 1), 2048))
HALVE_HEIGHT = (1, 1, 2)
STAGES = 4


class LION3DBackboneOneStride(nn.Module):
    """Voxels [V, C] of a grid with 16 n cells of height -> [V', C] with n, at the same resolution in x and y.

    Args:
        feature_dim: C.
        build: makes an operator block, see `visionseq.lion.layer.operator`.
        window_shape: x, y, z in voxels, for each block.
        group_size: voxels of a group, for each block.
        depths: layers of each block's encoder.
        layer_down_scales: x, y, z for each merging inside each block.
        diffusion: generate voxels between the blocks.
        diff_scale: share of the voxels that generate.
        shift: whether every second layer has shifted windows.
        direction: the order within windows, for the two operator blocks of a layer.

    `ConfigError` for a grid that merging would not divide (the official ones have Z a multiple of 32, X and Y of 4).
    """

    bev_layers = 0

    def __init__(
        self,
        feature_dim: int,
        build: Operator,
        window_shape: Sequence[Sequence[int]] = WINDOWS,
        group_size: Sequence[int] = GROUPS,
        depths: Sequence[int] = (2, 2, 2, 2),
        layer_down_scales: Sequence[Sequence[Sequence[int]]] = (((2, 2, 2), (2, 2, 2)),) * 4,
        diffusion: bool = True,
        diff_scale: float = 0.2,
        shift: bool = True,
        direction: Sequence[str] = ("x", "y"),
    ):
        super().__init__()
        # Numbers out of bounds.
        limits.count("backbone_3d: feature_dim", feature_dim, limits.MOST_CHANNELS)
        limits.counts("backbone_3d: depths", depths, limits.MOST_LAYERS, length=STAGES)
        limits.counts("backbone_3d: group_size", group_size, limits.MOST_PLACES, length=STAGES)
        if not isinstance(direction, list | tuple) or not 0 < len(direction) <= limits.MOST_LAYERS:
            raise ConfigError(f"backbone_3d: direction, expected 1 to {limits.MOST_LAYERS} of x and y")
        if {len(window_shape), len(layer_down_scales)} != {STAGES} or list(map(len, layer_down_scales)) != list(depths):
            raise ConfigError(
                "backbone_3d: expected window_shape for four blocks, layer_down_scales for all their layers"
            )

        # The four blocks, each with a merging of heights after it.
        per_layer = len(direction)
        inner = 2 * sum(depths) * per_layer
        n_layer = inner + per_layer * (1 + self.bev_layers)
        layer_id = 0
        for stage, depth in enumerate(depths):
            block = LIONBlock(
                feature_dim,
                build,
                depth,
                layer_down_scales[stage],
                window_shape[stage],
                group_size[stage],
                shift,
                layer_id,
                n_layer,
                direction,
            )
            self.add_module(f"linear_{stage + 1}", block)
            self.add_module(f"dow{stage + 1}", PatchMerging3D(feature_dim, HALVE_HEIGHT, diffusion, diff_scale))
            layer_id += 2 * depth * per_layer
        self.divisors = _divisors(layer_down_scales)

        # What follows them.
        layer = partial(LIONLayer, feature_dim, build, shift=True, n_layer=n_layer, direction=direction)
        self.linear_out = layer(OUT_WINDOW, OUT_GROUP, layer_id=layer_id)
        if self.bev_layers:
            self.dow_out = PatchMerging3D(feature_dim, HALVE_HEIGHT, diffusion, diff_scale)
            for number, (window, group) in enumerate(BEV_LAYERS, 1):
                first = layer_id + per_layer * number
                self.add_module(f"linear_bev{number}", layer(window, group, layer_id=first))

    def forward(self, x: SparseTensor) -> SparseTensor:
        if any(size % divisor for size, divisor in zip(x.spatial_shape, self.divisors, strict=True)):
            raise ConfigError(f"grid {x.spatial_shape} (z, y, x): expected multiples of {self.divisors}")
        for stage in range(1, 5):
            x = getattr(self, f"linear_{stage}")(x)
            x = getattr(self, f"dow{stage}")(x).tensor
        return self.linear_out(x)


class LION3DBackboneOneStride_Sparse(LION3DBackboneOneStride):
    """The same, followed by three layers with large windows on the map seen from above, which stays sparse.

    The result has the axes (y, x); height must have come down to one cell.
    """

    bev_layers = len(BEV_LAYERS)

    def forward(self, x: SparseTensor) -> SparseTensor:
        x = self.dow_out(super().forward(x)).tensor
        for number in range(1, self.bev_layers + 1):
            x = getattr(self, f"linear_bev{number}")(x)
        if x.spatial_shape[0] != 1:
            raise ConfigError(f"grid: {x.spatial_shape[0]} cells of height are left, expected 1 (32 at the start)")
        return SparseTensor(x.features, x.indices[:, [0, 2, 3]], x.spatial_shape[1:], x.batch_size)


def _divisors(layer_down_scales: Sequence[Sequence[Sequence[int]]]) -> tuple[int, ...]:
    """Z, Y, X of which the first grid must be multiples, so that every merging divides the grid it is applied to."""
    divisors = [1, 1, 1]
    for stage, scales in enumerate(layer_down_scales):
        inside = [math.prod(steps) for steps in zip(*scales, strict=True)]
        for axis, halved in enumerate(HALVE_HEIGHT):
            divisors[axis] = math.lcm(divisors[axis], halved**stage * math.lcm(inside[axis], halved))
    return tuple(reversed(divisors))
