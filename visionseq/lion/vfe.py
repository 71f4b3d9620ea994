"""Voxel feature encoders: points of any number in a voxel or pillar -> one feature (arXiv 2407.18232, 1812.05276).

The voxel of a point is floor((p - minimum) / size), in float32; a point on the upper bound or beyond has none.

Legend: N points, V voxels, F features of a point after x, y, z, D channels.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.lion import limits
from visionseq.lion.normalisation import RowBatchNorm
from visionseq.nn.sparse import SparseTensor


class DynamicVoxelVFE(nn.Module):
    """Two linear layers with a maximum over the voxel after each.

    Args:
        point_features: columns of a point, x, y, z included.
        num_filters: output channels of each layer.
        voxel_size: x, y, z in metres.
        point_cloud_range: x, y, z minima, then maxima, in metres.
        use_absolute_xyz: feed x, y, z themselves, and not only relative to the voxel.
        with_distance: feed the distance from the sensor.
    """

    axes = 3  # of x, y, z that are binned

    def __init__(
        self,
        point_features: int,
        num_filters: Sequence[int],
        voxel_size: Sequence[float],
        point_cloud_range: Sequence[float],
        use_absolute_xyz: bool = True,
        with_distance: bool = False,
    ):
        super().__init__()
        limits.count("vfe: point_features", point_features, limits.MOST_CHANNELS, least=3)
        if not limits.counts("vfe: num_filters", num_filters, limits.MOST_CHANNELS):
            raise ConfigError("vfe: num_filters is empty, expected a number for each layer")
        if any(outputs % 2 for outputs in num_filters[:-1]):
            raise ConfigError(f"vfe: filters {list(num_filters)}, expected even numbers, except the last")
        self.use_absolute_xyz, self.with_distance = use_absolute_xyz, with_distance

        # The grid. Float32 whatever the dtype of the points, as in trained detectors; it matters in float64 only.
        low, half = np.array(point_cloud_range[:3], np.float32), (np.array(voxel_size) / 2).astype(np.float32)
        self.low, self.first_centre, self.size = low.tolist(), (half + low).tolist(), list(voxel_size)
        self.grid = limits.grid_of(point_cloud_range, voxel_size)

        # The layers.
        width = point_features + 3 + 3 * use_absolute_xyz + with_distance
        widths = [width, *num_filters]
        last = len(num_filters) - 1
        self.pfn_layers = nn.ModuleList(
            _PointLayer(inputs, outputs, last=i == last) for i, (inputs, outputs) in enumerate(pairwise(widths))
        )

    @property
    def spatial_shape(self) -> tuple[int, int, int]:
        """(Z, Y, X) of the result; one layer for pillars."""
        x, y, z = self.grid
        return (z if self.axes == 3 else 1), y, x

    def forward(self, points: Tensor, batch_size: int) -> SparseTensor:
        """Points [N, 1 + 3 + F] with the sample in column 0 -> features [V, D], rows by (sample, x, y, z)."""
        points, voxel_of_point, indices = self.group(points)
        features = self.decorate(points, voxel_of_point, indices)
        for layer in self.pfn_layers:
            features = layer(features, voxel_of_point, len(indices))
        return SparseTensor(features, indices, self.spatial_shape, batch_size)

    def group(self, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The points that have a voxel, the row of each one's voxel int64 [N], and the voxels' indices [V, 4]."""
        place = ((points[:, 1:4] - points.new_tensor(self.low)) / points.new_tensor(self.size)).floor()[:, : self.axes]
        grid = torch.tensor(self.grid[: self.axes], device=points.device)
        kept = ((place >= 0) & (place < grid)).all(1)  # false for NaN
        points, place = points[kept], place[kept].long()
        key = points[:, 0].long()
        for axis in range(self.axes):
            key = key * self.grid[axis] + place[:, axis]
        key, voxel_of_point = key.unique(return_inverse=True)
        columns = []
        for axis in reversed(range(self.axes)):
            columns.append(key % self.grid[axis])
            key = key.div(self.grid[axis], rounding_mode="floor")
        if self.axes == 2:
            columns.insert(0, torch.zeros_like(key))
        return points, voxel_of_point, torch.stack([key, *columns], 1)

    def decorate(self, points: Tensor, voxel_of_point: Tensor, indices: Tensor) -> Tensor:
        """The input of the first layer: a point's columns, and its place relative to the voxel's mean and centre."""
        xyz = points[:, 1:4]
        sums = xyz.new_zeros((len(indices), 4)).index_add_(
            0, voxel_of_point, torch.cat([xyz, xyz.new_ones((len(xyz), 1))], 1)
        )
        mean = sums[:, :3] / sums[:, 3:]
        first = xyz.new_tensor(self.first_centre)
        centre = indices[:, [3, 2, 1]].to(xyz.dtype) * xyz.new_tensor(self.size) + first
        if self.axes == 2:
            centre[:, 2] = first[2]
        columns = points[:, 1 if self.use_absolute_xyz else 4 :]
        parts = [columns, xyz - mean[voxel_of_point], xyz - centre[voxel_of_point]]
        if self.with_distance:
            parts.append(xyz.norm(dim=1, keepdim=True))
        return torch.cat(parts, 1)


class DynamicPillarVFE(DynamicVoxelVFE):
    """The same with pillars: only x and y are checked and binned, and indices have z = 0."""

    axes = 2


class _PointLayer(nn.Module):
    """Linear, BatchNorm, ReLU; the last layer returns the voxel's maximum, the others append it to each point."""

    def __init__(self, inputs: int, outputs: int, last: bool):
        super().__init__()
        self.last = last
        self.linear = nn.Linear(inputs, outputs if last else outputs // 2, bias=False)
        self.norm = RowBatchNorm(self.linear.out_features, eps=1e-3, momentum=0.01)

    def forward(self, x_ND: Tensor, voxel_of_point: Tensor, voxels: int) -> Tensor:
        x_ND = self.norm(self.linear(x_ND)).relu()
        highest = voxel_maximum(x_ND, voxel_of_point, voxels)
        return highest if self.last else torch.cat([x_ND, highest.index_select(0, voxel_of_point)], 1)


def voxel_maximum(x_ND: Tensor, voxel_of_point: Tensor, voxels: int) -> Tensor:
    """The maxima [V, D]. Of equal ones only the first point gets the gradient; a voxel with a NaN has NaN."""
    where = voxel_of_point[:, None].expand_as(x_ND)
    with torch.no_grad():
        highest = x_ND.new_empty((voxels, x_ND.shape[1])).scatter_reduce_(0, where, x_ND, "amax", include_self=False)
        rows = torch.arange(len(x_ND), device=x_ND.device)[:, None].expand_as(x_ND)
        chosen = (x_ND == highest.index_select(0, voxel_of_point)) | x_ND.isnan()
        candidates = torch.where(chosen, rows, len(x_ND))
        first = torch.full_like(highest, len(x_ND), dtype=torch.int64).scatter_reduce_(0, where, candidates, "amin")
    return x_ND.gather(0, first)
