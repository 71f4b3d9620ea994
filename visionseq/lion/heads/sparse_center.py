"""The centre-based head on a sparse map, of the Argoverse 2 detectors (arXiv 2407.18232; after arXiv 2006.11275).

Targets live on the cells that there are: the nearest one to an object's centre learns its box.

Legend: V cells, B samples, C classes of a group, K slots, D values of a code.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.lion.detections import Detections
from visionseq.lion.heads.center import CODE, decoded, groups_of, within
from visionseq.lion.heads.center_targets import CenterTargets, Grid, code_of, of_group
from visionseq.lion.heads.given import given_boxes
from visionseq.lion.heads.layers import HEAT_BIAS, full
from visionseq.lion.heads.losses import heatmap_loss, masked_l1
from visionseq.lion.heads.suppression import Suppression
from visionseq.lion.normalisation import RowBatchNorm
from visionseq.nn.sparse import SparseTensor, SubMConv2d

Predictions = tuple[SparseTensor, list[dict[str, Tensor]]]


class SparseCenterHead(nn.Module):
    """For each cell a heat for each class, offset, height, sizes and heading.

    Args:
        input_channels: of the cells; the branches have as many.
        class_names, point_cloud_range, voxel_size, class_names_each_head, bn_eps, bn_momentum, feature_map_stride,
            num_max_objs, gaussian_overlap, min_radius, cls_weight, loc_weight, code_weights, score_thresh,
            post_center_limit_range, max_obj_per_sample: as in `CenterHead`.
        nms: values of `Suppression`, for each group apart.
    """

    def __init__(
        self,
        input_channels: int,
        class_names: Sequence[str],
        point_cloud_range: Sequence[float],
        voxel_size: Sequence[float],
        class_names_each_head: Sequence[Sequence[str]] | None = None,
        bn_eps: float = 1e-3,
        bn_momentum: float = 0.01,
        feature_map_stride: int = 1,
        num_max_objs: int = 500,
        gaussian_overlap: float = 0.1,
        min_radius: int = 2,
        cls_weight: float = 1.0,
        loc_weight: float = 0.25,
        code_weights: Sequence[float] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2),
        score_thresh: float = 0.1,
        post_center_limit_range: Sequence[float] = (-200, -200, -20, 200, 200, 20),
        max_obj_per_sample: int = 500,
        nms: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        self.groups = groups_of(class_names, class_names_each_head)
        low, voxel = tuple(point_cloud_range[:2]), tuple(voxel_size[:2])
        self.grid = Grid(low, voxel, feature_map_stride, gaussian_overlap, min_radius, num_max_objs)
        self.cls_weight, self.loc_weight = cls_weight, loc_weight
        if len(code_weights) != 8:
            raise ConfigError(f"dense_head: {len(code_weights)} code_weights, expected 8")
        self.register_buffer("code_weights", torch.tensor(code_weights), persistent=False)
        self.register_buffer("limits", torch.tensor(post_center_limit_range).float(), persistent=False)
        self.score_thresh, self.max_obj_per_sample = score_thresh, max_obj_per_sample
        self.suppression = Suppression(**(nms or {"thresholds": (0.2,), "pre": 1000, "post": 83}))
        self.code = [name for name in CODE if name != "vel"]
        self.heads_list = nn.ModuleList()
        for group in self.groups:
            outputs = {**{name: CODE[name] for name in self.code}, "heatmap": len(group)}
            parts = {name: _Branch(input_channels, count, bn_eps, bn_momentum) for name, count in outputs.items()}
            nn.init.constant_(parts["heatmap"][-1].bias, HEAT_BIAS)
            self.heads_list.append(nn.ModuleDict(parts))

    def forward(self, x: SparseTensor) -> Predictions:
        """The cells, and for each group [V, channels] by branch, float32 whatever the network computes in."""
        return x, [{name: full(layers(x)) for name, layers in head.items()} for head in self.heads_list]

    def losses(self, predictions: Predictions, gt_boxes: Tensor) -> dict[str, Tensor]:
        """ "loss" and its parts, of each group: hm_loss_head_0, loc_loss_head_0."""
        cells, groups = predictions
        found: dict[str, Tensor] = {}
        for number, (values, group) in enumerate(zip(groups, self.groups, strict=True)):
            targets = self.targets(gt_boxes, group, cells)
            found[f"hm_loss_head_{number}"] = heatmap_loss(values["heatmap"], targets.heatmaps) * self.cls_weight
            code = torch.cat([values[name] for name in self.code], 1)
            predicted = code[_global_rows(cells, targets.cells, targets.mask)] if len(code) else targets.boxes * 0
            error = masked_l1(predicted, targets.boxes, targets.mask)
            found[f"loc_loss_head_{number}"] = (error * self.code_weights).sum() * self.loc_weight
        return {"loss": torch.stack(list(found.values())).sum(), **found}

    def targets(self, gt_boxes: Tensor, group: Sequence[int], cells: SparseTensor) -> CenterTargets:
        """Targets of a group; `cells` are rows within the sample, `heatmaps` [V, C]."""
        given = given_boxes(gt_boxes, velocity=False).detach().cpu().numpy()
        indices = cells.indices.cpu().numpy()
        batch, values, slots = len(given), given.shape[2], self.grid.slots
        heat = np.zeros((len(indices), len(group)), np.float32)
        codes, source = np.zeros((batch, slots, 8), np.float32), np.zeros((batch, slots, values), np.float32)
        rows, mask = np.zeros((batch, slots), np.int64), np.zeros((batch, slots), np.bool_)
        height, width = cells.spatial_shape
        for sample in range(batch):
            of_sample = (indices[:, 0] == sample).nonzero()[0]
            known = given[sample][(given[sample][:, 3] > 0) & (given[sample][:, 4] > 0)]
            boxes = of_group(known, group, self.grid)
            source[sample, : len(boxes)] = boxes
            if not len(of_sample) or not len(boxes):
                continue
            columns, lines = indices[of_sample, 2], indices[of_sample, 1]
            # The limits of x and y are exchanged in the official code, which needs square maps.
            x = self.grid.cells(boxes[:, 0], 0).clip(0, height - 0.5)
            y = self.grid.cells(boxes[:, 1], 1).clip(0, width - 0.5)
            count = len(boxes)
            for i, radius in enumerate(self.grid.radii(boxes)):
                distance = (columns - int(x[i])) ** 2 + (lines - int(y[i])) ** 2
                nearest = rows[sample, i] = distance.argmin()
                around, bell = _bell(distance, distance[nearest], int(radius))
                cells_around, number = of_sample[around], int(boxes[i, -1]) - 1
                heat[cells_around, number] = np.maximum(heat[cells_around, number], bell)
            mask[sample, :count] = True
            place = np.stack([columns, lines], 1)[rows[sample, :count]]
            codes[sample, :count] = code_of(boxes, np.stack([x, y], 1) - place)
        tensors = (torch.from_numpy(array).to(gt_boxes.device) for array in (heat, codes, rows, mask, source))
        return CenterTargets(*tensors)

    @torch.no_grad()
    def detections(self, predictions: Predictions) -> list[Detections]:
        """Boxes of each sample, group after group; a sample with few cells gives few candidates."""
        cells, groups = predictions
        found: list[list[Detections]] = [[] for _ in range(cells.batch_size)]
        for values, group in zip(groups, self.groups, strict=True):
            heat = values["heatmap"].sigmoid()
            code = torch.cat([values[name] for name in self.code], 1)
            for sample in range(cells.batch_size):
                rows = (cells.indices[:, 0] == sample).nonzero()[:, 0]
                found[sample].append(self._of_sample(heat[rows], code[rows], cells.indices[rows], group))
        return [Detections.cat(parts) for parts in found]

    def _of_sample(self, heat: Tensor, code: Tensor, indices: Tensor, group: Sequence[int]) -> Detections:
        scores, place = heat.T.flatten().topk(min(self.max_obj_per_sample, heat.numel()))
        count = max(len(heat), 1)
        classes, rows = place.div(count, rounding_mode="floor"), place % count
        boxes = decoded(code[rows], indices[rows, 2], indices[rows, 1], self.grid)
        kept = (scores > self.score_thresh) & within(boxes, self.limits)
        labels = torch.tensor(group, device=heat.device)[classes]
        return self.suppression(Detections(boxes[kept], scores[kept], labels[kept]))


class _Branch(nn.Sequential):
    """Submanifold 3 x 3, norm, ReLU; then 1 x 1 with bias."""

    def __init__(self, channels: int, outputs: int, eps: float, momentum: float):
        first = SubMConv2d(channels, channels, 3, bias=False, indice_key="head")
        norm = RowBatchNorm(channels, eps=eps, momentum=momentum)
        super().__init__(nn.Sequential(first, norm, nn.ReLU()), SubMConv2d(channels, outputs, 1, bias=True))
        for layer in (first, self[1]):
            nn.init.kaiming_normal_(layer.weight)
        nn.init.zeros_(self[1].bias)

    def forward(self, x: SparseTensor) -> Tensor:
        (convolution, norm, relu), last = self
        hidden = relu(norm(convolution(x).features))
        return last(x.with_features(hidden)).features


def _bell(distance: np.ndarray, least: int, radius: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of the cells [n] at squared distances from a centre are warm, and their heat; 1 at the nearest one."""
    around = (distance <= 2 * radius**2).nonzero()[0]
    width = np.float32(2 * ((2 * radius + 1) / 6) ** 2)
    heat = np.exp(-distance[around].astype(np.float32) / width)
    return around, heat / np.exp(-np.float32(least) / width)


def _global_rows(cells: SparseTensor, rows_BK: Tensor, mask_BK: Tensor) -> Tensor:
    """Rows of all cells, of rows within samples; where nothing is masked, any row."""
    order = cells.indices[:, 0].argsort(stable=True)
    first = torch.cat([cells.counts().new_zeros(1), cells.counts().cumsum(0)[:-1]])
    place = torch.where(mask_BK, rows_BK + first[:, None], 0)
    return order[place]
