"""The centre-based head on a sparse map, of the Argoverse 2 detectors (arXiv 2407.18232; after arXiv 2006.11275).

Legend: V cells, B samples, C classes of a group, K slots, D values of a code.
"""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn

from visionseq.lion import limits
from visionseq.lion.detections import Detections
from visionseq.lion.heads.center_code import (
    CODE,
    Depth,
    code_branches,
    code_weights_of,
    convolutions_of,
    decoded,
    groups_of,
    within,
)
from visionseq.lion.heads.center_targets import CenterTargets, Grid
from visionseq.lion.heads.ground_truth import boxes_to_learn
from visionseq.lion.heads.iou_branch import IouRectifier, iou_loss
from visionseq.lion.heads.layers import HEAT_BIAS, fill_bias
from visionseq.lion.heads.losses import heatmap_loss, masked_l1
from visionseq.lion.heads.sparse_targets import rows_of_batch, sparse_targets
from visionseq.lion.heads.suppression import Suppression
from visionseq.lion.normalisation import RowBatchNorm
from visionseq.nn.precision import at_least_float32
from visionseq.nn.sparse import SparseTensor, SubMConv2d

Predictions = tuple[SparseTensor, list[dict[str, Tensor]]]
SUPPRESSION = {"thresholds": 0.2, "pre": 1000, "post": 83}


class SparseCenterHead(nn.Module):
    """For each occupied cell a heat for each class, and the offset, height, sizes and heading of a box.

    Args:
        input_channels: of the cells; the branches have as many.
        num_conv: convolutions of every branch, or of each by its name (center, center_z, dim, rot, vel, iou, heatmap).
        class_names, point_cloud_range, voxel_size, class_names_each_head, use_bias_before_norm, velocity, iou, bn_eps,
            bn_momentum, feature_map_stride, num_max_objs, gaussian_overlap, min_radius, cls_weight, loc_weight,
            code_weights, score_thresh, post_center_limit_range, max_obj_per_sample, nms, iou_rectifier: as in
            `CenterHead`.

    `ConfigError` for values that do not go together.
    """

    code_weights: Tensor
    limits: Tensor

    def __init__(
        self,
        input_channels: int,
        class_names: Sequence[str],
        point_cloud_range: Sequence[float],
        voxel_size: Sequence[float],
        class_names_each_head: Sequence[Sequence[str]] | None = None,
        use_bias_before_norm: bool = False,
        velocity: bool = False,
        iou: bool = False,
        num_conv: Depth = 2,
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
        iou_rectifier: float | Sequence[float] | None = None,
    ):
        super().__init__()
        # Targets and losses.
        self.groups = groups_of(class_names, class_names_each_head)
        low, voxel = (point_cloud_range[0], point_cloud_range[1]), (voxel_size[0], voxel_size[1])
        self.grid = Grid(low, voxel, feature_map_stride, gaussian_overlap, min_radius, num_max_objs)
        self.code = code_branches(velocity)
        self.cls_weight, self.loc_weight = cls_weight, loc_weight
        self.register_buffer("code_weights", code_weights_of(code_weights, velocity), persistent=False)

        # Decoding.
        self.score_thresh = score_thresh
        self.max_obj_per_sample = limits.count("dense_head: max_obj_per_sample", max_obj_per_sample, limits.MOST_PLACES)
        self.register_buffer("limits", torch.tensor(post_center_limit_range).float(), persistent=False)
        self.rectifier = IouRectifier(iou_rectifier, len(class_names), iou)
        self.suppression = Suppression(**(nms or SUPPRESSION))
        self.suppression.check_classes(len(class_names))

        # Layers.
        outputs = {name: CODE[name] for name in self.code} | ({"iou": 1} if iou else {})
        self.heads_list = nn.ModuleList()
        for group in self.groups:
            branches = {
                name: _Branch(
                    input_channels, count, convolutions_of(name, num_conv), use_bias_before_norm, bn_eps, bn_momentum
                )
                for name, count in {**outputs, "heatmap": len(group)}.items()
            }
            fill_bias(branches["heatmap"][-1], HEAT_BIAS)
            self.heads_list.append(nn.ModuleDict(branches))

    def forward(self, x: SparseTensor) -> Predictions:
        """The cells, and for each group [V, channels] by branch, float32 whatever the network computes in."""
        return x, [{name: at_least_float32(layers(x)) for name, layers in head.items()} for head in self._branches()]

    def losses(self, predictions: Predictions, gt_boxes: Tensor) -> dict[str, Tensor]:
        """ "loss" and its parts, of each group: hm_loss_head_0, loc_loss_head_0[, iou_loss_head_0]."""
        cells, groups = predictions
        losses: dict[str, Tensor] = {}
        for number, (values, group) in enumerate(zip(groups, self.groups, strict=True)):
            targets = self.targets(gt_boxes, group, cells)
            losses[f"hm_loss_head_{number}"] = heatmap_loss(values["heatmap"], targets.heatmaps) * self.cls_weight
            parts = self._box_losses(cells, values, targets) if len(cells.indices) else {}
            nothing = values["heatmap"].sum()  # zero, with a gradient, where there are no cells
            losses[f"loc_loss_head_{number}"] = parts.get("loc", nothing)
            if "iou" in values:
                losses[f"iou_loss_head_{number}"] = parts.get("iou", nothing)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def targets(self, gt_boxes: Tensor, group: Sequence[int], cells: SparseTensor) -> CenterTargets:
        """Targets of a group; `cells` are rows within the sample, `heatmaps` [V, C]."""
        return sparse_targets(boxes_to_learn(gt_boxes, "vel" in self.code), group, self.grid, cells)

    @torch.no_grad()
    def detections(self, predictions: Predictions) -> list[Detections]:
        """Boxes of each sample, group after group; a sample with few cells gives few candidates."""
        cells, groups = predictions
        samples = [(cells.indices[:, 0] == sample).nonzero()[:, 0] for sample in range(cells.batch_size)]
        of_groups = []
        for values, group in zip(groups, self.groups, strict=True):
            of_samples = [{name: value[rows] for name, value in values.items()} for rows in samples]
            pairs = zip(of_samples, samples, strict=True)
            of_groups.append([self.candidates(maps, cells.indices[rows], group) for maps, rows in pairs])
        return [Detections.cat([self.suppression(boxes) for boxes in parts]) for parts in zip(*of_groups, strict=True)]

    def candidates(self, values: dict[str, Tensor], indices: Tensor, group: Sequence[int]) -> Detections:
        """The best cells of one sample as boxes, before suppression, labels of the detector.

        `values` are [n, channels] by branch, `indices` int64 [n, 3] (sample, y, x).
        """
        # The best cells, of all classes together.
        heat = values["heatmap"].sigmoid()
        scores, place = heat.T.flatten().topk(min(self.max_obj_per_sample, heat.numel()))
        count = max(len(heat), 1)
        classes, rows = place.div(count, rounding_mode="floor"), place % count

        # Their boxes.
        code = torch.cat([values[name] for name in self.code], 1)[rows]
        boxes = decoded(code, indices[rows, 2], indices[rows, 1], self.grid)
        labels = torch.tensor(group, device=heat.device)[classes]
        kept = (scores > self.score_thresh) & within(boxes, self.limits)
        if "iou" in values:
            scores = self.rectifier(scores, values["iou"][rows, 0], labels)
        return Detections(boxes[kept], scores[kept], labels[kept])

    def _branches(self) -> list[nn.ModuleDict]:
        """The branches of each group; nn.ModuleList does not keep the type."""
        return [cast(nn.ModuleDict, head) for head in self.heads_list]

    def _box_losses(self, cells: SparseTensor, values: dict[str, Tensor], targets: CenterTargets) -> dict[str, Tensor]:
        """The losses of the cells that learn a box: loc[, iou]."""
        rows = rows_of_batch(cells, targets.cells, targets.mask)
        code = torch.cat([values[name] for name in self.code], 1)[rows]
        error = masked_l1(code, targets.boxes, targets.mask)
        losses = {"loc": (error * self.code_weights).sum() * self.loc_weight}
        if "iou" in values:
            boxes = decoded(code.detach(), cells.indices[rows, 2], cells.indices[rows, 1], self.grid)
            losses["iou"] = iou_loss(values["iou"][rows, 0], boxes, targets.source, targets.mask)
        return losses


class _Branch(nn.Sequential):
    """Submanifold 3 x 3, norm and ReLU, `num_conv` - 1 times; then 1 x 1 with bias."""

    def __init__(self, channels: int, outputs: int, num_conv: int, bias: bool, eps: float, momentum: float):
        layers: list[nn.Module] = []
        for _ in range(num_conv - 1):
            convolution = SubMConv2d(channels, channels, 3, bias=bias, indice_key="head")
            layers.append(nn.Sequential(convolution, RowBatchNorm(channels, eps=eps, momentum=momentum), nn.ReLU()))
        super().__init__(*layers, SubMConv2d(channels, outputs, 1, bias=True))
        for layer in self.modules():
            if isinstance(layer, SubMConv2d):
                nn.init.kaiming_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, x: SparseTensor) -> Tensor:
        *hidden, last = self
        for layers in hidden:
            convolution, norm, relu = layers.children()
            x = x.with_features(relu(norm(convolution(x).features)))
        return last(x).features
