"""The dense centre-based head (arXiv 2006.11275), of the Waymo and ONCE detectors.

Legend: B samples, C classes of a group, H x W map, K slots or candidates.
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
    gathered,
    groups_of,
    within,
)
from visionseq.lion.heads.center_targets import CenterTargets, Grid, center_targets
from visionseq.lion.heads.ground_truth import boxes_to_learn
from visionseq.lion.heads.iou_branch import IouRectifier, iou_loss
from visionseq.lion.heads.layers import HEAT_BIAS, branch, convolution, fill_bias
from visionseq.lion.heads.losses import heatmap_loss, masked_l1
from visionseq.lion.heads.suppression import Suppression
from visionseq.nn.precision import at_least_float32


class CenterHead(nn.Module):
    """A heat map for each class, and at each cell the offset, height, sizes and heading of a box.

    Args:
        input_channels: of the map.
        class_names: of the detector.
        point_cloud_range, voxel_size: of the voxels, metres.
        class_names_each_head: groups of classes with branches of their own; None: one group.
        shared_conv_channel: channels of the branches.
        use_bias_before_norm: whether convolutions before a norm have a bias.
        velocity: predict the velocity of a box as well.
        iou: predict the IoU of a box with its object as well.
        num_conv: convolutions of every branch, or of each by its name (center, center_z, dim, rot, vel, iou, hm).
        bn_eps, bn_momentum: of the norms.
        feature_map_stride: voxels of a cell.
        num_max_objs: objects of a group and sample that are learned.
        gaussian_overlap, min_radius: of the heat maps.
        cls_weight, loc_weight, code_weights: of the losses.
        score_thresh: candidates must score more.
        post_center_limit_range: centres must lie within, x, y, z minima, then maxima.
        max_obj_per_sample: candidates of a group.
        nms: values of `Suppression`; it runs on each group apart.
        iou_rectifier: weight of the predicted IoU in the score, one or one for each class of the detector; needs `iou`.

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
        shared_conv_channel: int = 64,
        use_bias_before_norm: bool = False,
        velocity: bool = False,
        iou: bool = False,
        num_conv: Depth = 2,
        bn_eps: float = 1e-5,
        bn_momentum: float = 0.1,
        feature_map_stride: int = 1,
        num_max_objs: int = 500,
        gaussian_overlap: float = 0.1,
        min_radius: int = 2,
        cls_weight: float = 1.0,
        loc_weight: float = 1.0,
        code_weights: Sequence[float] = (1.0,) * 8,
        score_thresh: float = 0.1,
        post_center_limit_range: Sequence[float] = (-80, -80, -10, 80, 80, 10),
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
        self.suppression = Suppression(**(nms or {}))
        self.suppression.check_classes(len(class_names))

        # Layers.
        limits.count("dense_head: shared_conv_channel", shared_conv_channel, limits.MOST_CHANNELS)
        channels, norm = shared_conv_channel, (use_bias_before_norm, bn_eps, bn_momentum)
        self.shared_conv = convolution(input_channels, channels, *norm)
        outputs = {name: CODE[name] for name in self.code} | ({"iou": 1} if iou else {})
        of_groups = []
        for group in self.groups:
            branches = {
                name: branch(channels, count, convolutions_of(name, num_conv), *norm)
                for name, count in {**outputs, "hm": len(group)}.items()
            }
            of_groups.append(branches)
        self.heads_list = nn.ModuleList(nn.ModuleDict(branches) for branches in of_groups)
        for branches in of_groups:
            _initialise(branches)

    def forward(self, x_BCHW: Tensor) -> list[dict[str, Tensor]]:
        """The maps of each group by branch, float32 whatever the network computes in."""
        shared = self.shared_conv(x_BCHW)
        return [{name: at_least_float32(layers(shared)) for name, layers in head.items()} for head in self._branches()]

    def losses(self, predictions: list[dict[str, Tensor]], gt_boxes: Tensor) -> dict[str, Tensor]:
        """ "loss" and its parts, of each group: hm_loss_head_0, loc_loss_head_0[, iou_loss_head_0]."""
        losses: dict[str, Tensor] = {}
        for number, (maps, group) in enumerate(zip(predictions, self.groups, strict=True)):
            targets = self.targets(gt_boxes, group, *maps["hm"].shape[2:])
            losses[f"hm_loss_head_{number}"] = heatmap_loss(maps["hm"], targets.heatmaps) * self.cls_weight
            code = gathered(torch.cat([maps[name] for name in self.code], 1), targets.cells)
            error = masked_l1(code, targets.boxes, targets.mask)
            losses[f"loc_loss_head_{number}"] = (error * self.code_weights).sum() * self.loc_weight
            if "iou" in maps:
                boxes = self.decode(code.detach(), targets.cells, maps["hm"].shape[3])
                predicted = gathered(maps["iou"], targets.cells)[..., 0]
                losses[f"iou_loss_head_{number}"] = iou_loss(predicted, boxes, targets.source, targets.mask)
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    def targets(self, gt_boxes: Tensor, group: Sequence[int], height: int, width: int) -> CenterTargets:
        """Targets of one group of classes on a map [height, width]."""
        return center_targets(boxes_to_learn(gt_boxes, "vel" in self.code), group, self.grid, height, width)

    @torch.no_grad()
    def detections(self, predictions: list[dict[str, Tensor]]) -> list[Detections]:
        """Boxes of each sample, group after group."""
        of_groups = [self.candidates(maps, group) for maps, group in zip(predictions, self.groups, strict=True)]
        return [
            Detections.cat([self.suppression(boxes) for boxes in groups]) for groups in zip(*of_groups, strict=True)
        ]

    def candidates(self, maps: dict[str, Tensor], group: Sequence[int]) -> list[Detections]:
        """Of each sample, the best cells of one group as boxes, before suppression, labels of the detector."""
        # The best cells, of all classes together.
        heat = maps["hm"].sigmoid()
        scores, place = heat.flatten(1).topk(min(self.max_obj_per_sample, heat[0].numel()))
        width, area = heat.shape[3], heat.shape[2] * heat.shape[3]
        classes, cells = place.div(area, rounding_mode="floor"), place % area

        # Their boxes.
        boxes = self.decode(gathered(torch.cat([maps[name] for name in self.code], 1), cells), cells, width)
        labels = torch.tensor(group, device=heat.device)[classes]
        kept = (scores > self.score_thresh) & within(boxes, self.limits)
        if "iou" in maps:
            scores = self.rectifier(scores, gathered(maps["iou"], cells)[..., 0], labels)
        rows = zip(boxes, scores, labels, kept, strict=True)
        return [Detections(b[k], s[k], la[k]) for b, s, la, k in rows]

    def decode(self, code: Tensor, cells: Tensor, width: int) -> Tensor:
        """Boxes [B, K, 7 or 9] of codes [B, K, D] at cells [B, K]."""
        row, column = cells.div(width, rounding_mode="floor"), cells % width
        return decoded(code, column, row, self.grid)

    def _branches(self) -> list[nn.ModuleDict]:
        """The branches of each group; nn.ModuleList does not keep the type."""
        return [cast(nn.ModuleDict, head) for head in self.heads_list]


def _initialise(branches: Mapping[str, nn.Sequential]) -> None:
    """The initial values of the branches of one group."""
    for name, layers in branches.items():
        if name == "hm":
            fill_bias(layers[-1], HEAT_BIAS)
            continue
        for layer in layers.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
