"""The dense centre-based head (arXiv 2006.11275), of the Waymo and ONCE detectors.

Legend: B samples, C classes of a group, H x W map, K slots or candidates.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.geometry import iou3d
from visionseq.lion.detections import Detections
from visionseq.lion.heads.center_targets import CenterTargets, Grid, center_targets
from visionseq.lion.heads.given import given_boxes
from visionseq.lion.heads.layers import HEAT_BIAS, branch, convolution, full
from visionseq.lion.heads.losses import heatmap_loss, masked_l1
from visionseq.lion.heads.suppression import Suppression

CODE = {"center": 2, "center_z": 1, "dim": 3, "rot": 2, "vel": 2}  # branches that make up a box, in order


class CenterHead(nn.Module):
    """A heat map for each class; at each cell offset, height, sizes, heading and, as wanted, velocity and IoU.

    Args:
        input_channels: of the map.
        class_names: of the detector.
        point_cloud_range, voxel_size: of the voxels, metres.
        class_names_each_head: groups of classes with branches of their own; None: one group.
        shared_conv_channel: channels of the branches.
        use_bias_before_norm: whether convolutions before a norm have a bias.
        velocity: predict it.
        iou: predict how well the box fits.
        num_conv: convolutions of a branch.
        bn_eps, bn_momentum: of the norms.
        feature_map_stride: voxels of a cell.
        num_max_objs: objects of a group and sample that are learned.
        gaussian_overlap, min_radius: of the heat maps.
        cls_weight, loc_weight, code_weights: of the losses.
        score_thresh: candidates must score more.
        post_center_limit_range: centres must lie within, x, y, z minima, then maxima.
        max_obj_per_sample: candidates of a group.
        nms: values of `Suppression`.
        iou_rectifier: for each class of the detector, the weight of the predicted IoU in the score; needs `iou`.
    """

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
        num_conv: int = 2,
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
        iou_rectifier: Sequence[float] | None = None,
    ):
        super().__init__()
        self.groups = groups_of(class_names, class_names_each_head)
        low, voxel = tuple(point_cloud_range[:2]), tuple(voxel_size[:2])
        self.grid = Grid(low, voxel, feature_map_stride, gaussian_overlap, min_radius, num_max_objs)
        self.code = [name for name in CODE if velocity or name != "vel"]
        self.cls_weight, self.loc_weight = cls_weight, loc_weight
        if len(code_weights) != 8 + 2 * velocity:
            raise ConfigError(f"dense_head: {len(code_weights)} code_weights, expected {8 + 2 * velocity}")
        self.register_buffer("code_weights", torch.tensor(code_weights), persistent=False)
        self.score_thresh, self.max_obj_per_sample = score_thresh, max_obj_per_sample
        self.register_buffer("limits", torch.tensor(post_center_limit_range).float(), persistent=False)
        self.suppression = Suppression(**(nms or {}))
        if iou_rectifier is not None and (not iou or len(iou_rectifier) != len(class_names)):
            raise ConfigError("dense_head: iou_rectifier needs `iou`, and a value for each class")
        self.iou_rectifier = None if iou_rectifier is None else list(iou_rectifier)
        channels, norm = shared_conv_channel, (use_bias_before_norm, bn_eps, bn_momentum)
        self.shared_conv = convolution(input_channels, channels, *norm)
        branches = {**{name: CODE[name] for name in self.code}, **({"iou": 1} if iou else {})}
        self.heads_list = nn.ModuleList()
        for group in self.groups:
            outputs = {**branches, "hm": len(group)}
            parts = {name: branch(channels, count, num_conv, *norm) for name, count in outputs.items()}
            self.heads_list.append(nn.ModuleDict(parts))
        self._initialise()

    def forward(self, x_BCHW: Tensor) -> list[dict[str, Tensor]]:
        """The maps of each group by branch, float32 whatever the network computes in."""
        shared = self.shared_conv(x_BCHW)
        return [{name: full(layers(shared)) for name, layers in head.items()} for head in self.heads_list]

    def losses(self, predictions: list[dict[str, Tensor]], gt_boxes: Tensor) -> dict[str, Tensor]:
        """ "loss" and its parts, of each group: hm_loss_head_0, loc_loss_head_0[, iou_loss_head_0]."""
        found: dict[str, Tensor] = {}
        for number, (maps, group) in enumerate(zip(predictions, self.groups, strict=True)):
            targets = self.targets(gt_boxes, group, *maps["hm"].shape[2:])
            found[f"hm_loss_head_{number}"] = heatmap_loss(maps["hm"], targets.heatmaps) * self.cls_weight
            predicted = gathered(torch.cat([maps[name] for name in self.code], 1), targets.cells)
            error = masked_l1(predicted, targets.boxes, targets.mask)
            found[f"loc_loss_head_{number}"] = (error * self.code_weights).sum() * self.loc_weight
            if "iou" in maps:
                found[f"iou_loss_head_{number}"] = self._iou_loss(maps, predicted, targets)
        return {"loss": torch.stack(list(found.values())).sum(), **found}

    def targets(self, gt_boxes: Tensor, group: Sequence[int], height: int, width: int) -> CenterTargets:
        return center_targets(given_boxes(gt_boxes, "vel" in self.code), group, self.grid, height, width)

    @torch.no_grad()
    def detections(self, predictions: list[dict[str, Tensor]]) -> list[Detections]:
        """Boxes of each sample, group after group."""
        candidates = [self.candidates(maps, group) for maps, group in zip(predictions, self.groups, strict=True)]
        samples = zip(*candidates, strict=True)
        return [Detections.cat([self.suppression(found) for found in sample]) for sample in samples]

    def candidates(self, maps: dict[str, Tensor], group: Sequence[int]) -> list[Detections]:
        """Of each sample, the best cells of one group as boxes, before suppression, labels of the detector."""
        heat = maps["hm"].sigmoid()
        count = min(self.max_obj_per_sample, heat[0].numel())
        scores, place = heat.flatten(1).topk(count)
        width, area = heat.shape[3], heat.shape[2] * heat.shape[3]
        classes, cells = place.div(area, rounding_mode="floor"), place % area
        code = gathered(torch.cat([maps[name] for name in self.code], 1), cells)
        boxes = self.decode(code, cells, width)
        labels = torch.tensor(group, device=heat.device)[classes]
        if self.iou_rectifier is not None:
            fit = ((gathered(maps["iou"], cells)[..., 0] + 1) / 2).clamp(0, 1)
            share = scores.new_tensor(self.iou_rectifier)[labels - 1]
            rectified = scores.pow(1 - share) * fit.pow(share)
        else:
            rectified = scores
        kept = (scores > self.score_thresh) & within(boxes, self.limits)
        rows = zip(boxes, rectified, labels, kept, strict=True)
        return [Detections(b[k], s[k], la[k]) for b, s, la, k in rows]

    def decode(self, code: Tensor, cells: Tensor, width: int) -> Tensor:
        """Boxes [B, K, 7 or 9] of codes [B, K, D] at cells [B, K]."""
        row, column = cells.div(width, rounding_mode="floor"), cells % width
        return decoded(code, column, row, self.grid)

    def _iou_loss(self, maps: dict[str, Tensor], predicted: Tensor, targets: CenterTargets) -> Tensor:
        mask = targets.mask.bool()
        boxes = self.decode(predicted.detach(), targets.cells, maps["hm"].shape[3])[mask][:, :7]
        goal = 2 * iou3d(boxes, targets.source[mask][:, :7].to(boxes.dtype), aligned=True) - 1
        error = (gathered(maps["iou"], targets.cells)[..., 0][mask] - goal).abs().sum()
        return error / mask.sum().clamp(min=1)

    def _initialise(self) -> None:
        for head in self.heads_list:
            for name, layers in head.items():
                if name == "hm":
                    nn.init.constant_(layers[-1].bias, HEAT_BIAS)
                    continue
                for layer in layers.modules():
                    if isinstance(layer, nn.Conv2d):
                        nn.init.kaiming_normal_(layer.weight)
                        if layer.bias is not None:
                            nn.init.zeros_(layer.bias)


def groups_of(class_names: Sequence[str], each: Sequence[Sequence[str]] | None) -> list[list[int]]:
    """The labels, from 1, of each group; raises `ConfigError` for a name that the detector does not have."""
    unknown = [name for names in each or () for name in names if name not in class_names]
    if unknown:
        raise ConfigError(f"class_names_each_head: {', '.join(unknown)}, expected some of {', '.join(class_names)}")
    return [[class_names.index(name) + 1 for name in names] for names in each or [class_names]]


def gathered(maps_BCHW: Tensor, cells_BK: Tensor) -> Tensor:
    """[B, K, C]: what the map holds at cells y * W + x."""
    flat = maps_BCHW.flatten(2)
    return flat.gather(2, cells_BK.unsqueeze(1).expand(-1, flat.shape[1], -1)).transpose(1, 2)


def decoded(code: Tensor, column: Tensor, row: Tensor, grid: Grid) -> Tensor:
    """Boxes [..., 7 or 9] of codes [..., D] at integer cells."""
    x = (column + code[..., 0]) * grid.stride * grid.voxel[0] + grid.low[0]
    y = (row + code[..., 1]) * grid.stride * grid.voxel[1] + grid.low[1]
    place, heading = torch.stack([x, y], -1), torch.atan2(code[..., 7:8], code[..., 6:7])
    return torch.cat([place, code[..., 2:3], code[..., 3:6].exp(), heading, code[..., 8:]], -1)


def within(boxes: Tensor, limits: Tensor) -> Tensor:
    """Whether the centres lie in x, y, z minima and maxima, bounds included."""
    return ((boxes[..., :3] >= limits[:3]) & (boxes[..., :3] <= limits[3:])).all(-1)
