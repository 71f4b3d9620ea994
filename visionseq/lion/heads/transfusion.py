"""The query-based head of the nuScenes detectors: TransFusion (arXiv 2203.11496) in LION's variant.

Each proposal attends to its own neighbourhood of the map and to nothing else. The head works on the transposed map
[B, C, X, Y]; a cell's number is ix * Y + iy.

Legend: B samples, P proposals, C classes, D hidden channels, L cells of a neighbourhood.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.lion import limits
from visionseq.lion.detections import Detections
from visionseq.lion.heads.center_code import within
from visionseq.lion.heads.ground_truth import boxes_to_learn
from visionseq.lion.heads.iou_branch import IouRectifier
from visionseq.lion.heads.layers import HEAT_BIAS, fill_bias
from visionseq.lion.heads.losses import heatmap_loss, sigmoid_focal
from visionseq.lion.heads.suppression import Suppression
from visionseq.lion.heads.transfusion_decoder import DecoderLayer
from visionseq.lion.heads.transfusion_targets import Assignment, Costs, MapFrame, assign, bottom_iou, heat_targets
from visionseq.nn.precision import at_least_float32

BRANCHES = {"center": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2, "iou": 1}
CODE_VALUES = 10  # center, height, dim, rot, vel
BRANCH_CHANNELS = 64
NO_HEAT = 1e-12  # keeps the logarithms of the heat finite


class TransFusionHead(nn.Module):
    """Peaks of a heat map become proposals, which one decoder layer turns into boxes with velocity.

    Args:
        input_channels: of the map.
        class_names: of the detector.
        point_cloud_range, voxel_size: of the voxels, metres.
        num_proposals, hidden_channel, num_heads, ffn_channel, dropout: of the decoder.
        bn_momentum: of the norms.
        nms_kernel_size: a peak is the highest cell of a square with so many cells a side.
        small_classes: numbers, from 0, of the classes of which every cell may become a proposal, and which are
            suppressed class by class; pedestrian and traffic_cone of nuScenes.
        feature_map_stride: voxels of a cell.
        gaussian_overlap, min_radius: of the heat map.
        costs: values of `Costs`, for the assignment of boxes to proposals.
        cls_weight, bbox_weight, hm_weight, iou_weight, code_weights: of the losses.
        score_thresh: boxes must score more.
        post_center_range: centres must lie within, x, y, z minima, then maxima.
        iou_rectifier: weight of the predicted IoU in the score, one or one for each class.
        nms_thresh, nms_pre, nms_post: `Suppression` of each of the small classes.

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
        num_proposals: int = 200,
        hidden_channel: int = 128,
        num_heads: int = 8,
        ffn_channel: int = 256,
        dropout: float = 0.0,
        bn_momentum: float = 0.1,
        nms_kernel_size: int = 3,
        small_classes: Sequence[int] = (8, 9),
        feature_map_stride: int = 2,
        gaussian_overlap: float = 0.1,
        min_radius: int = 2,
        costs: Mapping[str, Any] | None = None,
        cls_weight: float = 1.0,
        bbox_weight: float = 0.25,
        hm_weight: float = 1.0,
        iou_weight: float = 0.5,
        code_weights: Sequence[float] = (1.0,) * 8 + (0.2, 0.2),
        score_thresh: float = 0.0,
        post_center_range: Sequence[float] = (-61.2, -61.2, -10.0, 61.2, 61.2, 10.0),
        iou_rectifier: float | Sequence[float] = 0.5,
        nms_thresh: float = 0.175,
        nms_pre: int = 1000,
        nms_post: int = 100,
    ):
        super().__init__()
        # Numbers out of bounds.
        channels = {"hidden_channel": hidden_channel, "num_heads": num_heads, "ffn_channel": ffn_channel}
        for name, value in channels.items():
            limits.count(f"dense_head: {name}", value, limits.MOST_CHANNELS)
        limits.count("dense_head: num_proposals", num_proposals, limits.MOST_PLACES)
        if limits.count("dense_head: nms_kernel_size", nms_kernel_size, limits.MOST_LAYERS) % 2 == 0:
            raise ConfigError(f"dense_head: nms_kernel_size {nms_kernel_size}, expected an odd number")

        # Targets and losses.
        self.classes, self.num_proposals, self.nms_kernel_size = len(class_names), num_proposals, nms_kernel_size
        self.small = list(small_classes)
        if not all(0 <= number < self.classes for number in self.small):
            raise ConfigError(f"dense_head: small_classes {self.small}, expected numbers below {self.classes}")
        self.frame = MapFrame(
            tuple(point_cloud_range), tuple(voxel_size), feature_map_stride, gaussian_overlap, min_radius
        )
        self.costs = Costs(**(costs or {}))
        self.weights = {"heatmap": hm_weight, "cls": cls_weight, "bbox": bbox_weight, "iou": iou_weight}
        if len(code_weights) != CODE_VALUES:
            raise ConfigError(f"dense_head: {len(code_weights)} code_weights, expected {CODE_VALUES}")
        self.register_buffer("code_weights", torch.tensor(code_weights), persistent=False)

        # Decoding.
        self.register_buffer("limits", torch.tensor(post_center_range).float(), persistent=False)
        self.score_thresh, self.rectifier = score_thresh, IouRectifier(iou_rectifier, self.classes)
        self.suppression = Suppression("class_agnostic", nms_thresh, nms_pre, nms_post)

        # Layers.
        self.shared_conv = nn.Conv2d(input_channels, hidden_channel, 3, padding=1)
        self.heatmap_head = nn.Sequential(
            _ConvNormReLU(hidden_channel, bn_momentum), nn.Conv2d(hidden_channel, self.classes, 3, padding=1)
        )
        self.class_encoding = nn.Conv1d(self.classes, hidden_channel, 1)
        self.decoder = DecoderLayer(hidden_channel, num_heads, ffn_channel, dropout, bn_momentum)
        outputs = {**BRANCHES, "heatmap": self.classes}
        branches = {
            name: nn.Sequential(
                nn.Sequential(
                    nn.Conv1d(hidden_channel, BRANCH_CHANNELS, 1),
                    nn.BatchNorm1d(BRANCH_CHANNELS, momentum=bn_momentum),
                    nn.ReLU(),
                ),
                nn.Conv1d(BRANCH_CHANNELS, count, 1),
            )
            for name, count in outputs.items()
        }  # fmt: skip
        fill_bias(branches["heatmap"][-1], HEAT_BIAS)
        self.prediction_head = nn.ModuleDict(branches)
        for parameter in self.decoder.parameters():
            if parameter.ndim > 1:
                nn.init.xavier_uniform_(parameter)

    def forward(self, x_BCYX: Tensor) -> dict[str, Tensor]:
        """Of each proposal [B, channels, P] by branch, its class `query_labels` [B, P], the heat of the classes at its
        cell `query_heatmap_score` [B, C, P]; and the logits `dense_heatmap` [B, C, X, Y].

        All float32 whatever the network computes in. `ConfigError` where the map is not square, or smaller than the
        window of a peak.
        """
        side = self.nms_kernel_size
        if x_BCYX.shape[2] != x_BCYX.shape[3] or x_BCYX.shape[2] < side:
            raise ConfigError(
                f"dense_head: a map of {tuple(x_BCYX.shape[2:])} cells, "
                f"TransFusionHead needs a square one of at least {side} a side"
            )
        # Proposals: the highest peaks of the heat map, of all classes together.
        features = self.shared_conv(x_BCYX.transpose(2, 3))
        logits = at_least_float32(self.heatmap_head(features))
        heat = self._peaks(logits.detach().sigmoid()).flatten(2)
        chosen = heat.flatten(1).topk(min(self.num_proposals, heat[0].numel())).indices
        area, columns = heat.shape[2], features.shape[3]
        labels, cells = chosen.div(area, rounding_mode="floor"), chosen % area

        # Queries: the feature at the cell and the class.
        one_hot = nn.functional.one_hot(labels, self.classes).transpose(1, 2).to(features.dtype)
        flat = features.flatten(2)
        query = flat.gather(2, cells.unsqueeze(1).expand(-1, flat.shape[1], -1)) + self.class_encoding(one_hot)
        place = torch.stack([cells.div(columns, rounding_mode="floor"), cells % columns], -1)
        decoded = self.decoder(query.transpose(1, 2), flat.transpose(1, 2), place, features.shape[2:]).transpose(1, 2)

        # Branches; centres are relative to the middle of the query's cell.
        predictions = {name: at_least_float32(layers(decoded)) for name, layers in self.prediction_head.items()}
        predictions["center"] = predictions["center"] + (place + 0.5).transpose(1, 2)
        predictions["query_heatmap_score"] = heat.gather(2, cells.unsqueeze(1).expand(-1, self.classes, -1))
        return {**predictions, "query_labels": labels, "dense_heatmap": logits}

    def losses(self, predictions: dict[str, Tensor], gt_boxes: Tensor) -> dict[str, Tensor]:
        """ "loss" and its parts loss_heatmap, loss_cls, loss_bbox, loss_iou."""
        # The heat map.
        dense = predictions["dense_heatmap"]
        target = heat_targets(gt_boxes, self.frame, self.classes, dense.shape[2:]).to(dense.dtype)
        losses = {"heatmap": heatmap_loss(dense, target, NO_HEAT)}

        # The class of every proposal, and the boxes of those that are matched; unknown values teach nothing.
        assigned = self.assignment(predictions, gt_boxes)
        positives = assigned.matched.sum().clamp(min=1)
        code = self._code(predictions)
        one_hot = nn.functional.one_hot(assigned.labels, self.classes + 1)[..., : self.classes].to(code.dtype)
        losses["cls"] = sigmoid_focal(predictions["heatmap"].transpose(1, 2), one_hot).sum() / positives
        weight = assigned.matched.unsqueeze(-1) * self.code_weights
        error = (code - torch.where(assigned.codes.isnan(), code.detach(), assigned.codes)).abs() * weight
        losses["bbox"] = error.sum() / positives
        losses["iou"] = self._iou_loss(predictions["iou"][:, 0], code.detach(), assigned)

        weighted = {f"loss_{name}": value * self.weights[name] for name, value in losses.items()}
        return {"loss": torch.stack(list(weighted.values())).sum(), **weighted}

    def assignment(self, predictions: dict[str, Tensor], gt_boxes: Tensor) -> Assignment:
        """Which proposal learns which box, by the Hungarian method."""
        boxes = self.decode(predictions)
        labelled = boxes_to_learn(gt_boxes, velocity=True)
        return assign(boxes, predictions["heatmap"].transpose(1, 2), labelled, self.frame, self.costs)

    @torch.no_grad()
    def detections(self, predictions: dict[str, Tensor]) -> list[Detections]:
        """Boxes of each sample, in the order of the proposals."""
        one_hot = nn.functional.one_hot(predictions["query_labels"], self.classes).transpose(1, 2)
        scores = predictions["heatmap"].sigmoid() * predictions["query_heatmap_score"] * one_hot
        best, classes = scores.max(1)
        boxes = self.decode(predictions)
        rectified = self.rectifier(best, predictions["iou"][:, 0], classes + 1)
        kept = (best > self.score_thresh) & within(boxes, self.limits)
        rows = zip(boxes, rectified, classes, kept, strict=True)
        return [self._suppressed(b[k], s[k], c[k]) for b, s, c, k in rows]

    def decode(self, predictions: dict[str, Tensor]) -> Tensor:
        """Boxes [B, P, 9]; the predicted height is that of the upper face."""
        return self.frame.decode(self._code(predictions).detach())

    @staticmethod
    def _code(predictions: dict[str, Tensor]) -> Tensor:
        """[B, P, 10]: the branches that make up a box, in the order of its code."""
        return torch.cat([predictions[name] for name in ("center", "height", "dim", "rot", "vel")], 1).transpose(1, 2)

    def _suppressed(self, boxes: Tensor, scores: Tensor, classes: Tensor) -> Detections:
        kept = torch.ones(len(boxes), dtype=torch.bool, device=boxes.device)
        for small in self.small:
            rows = (classes == small).nonzero()[:, 0]
            kept[rows] = False
            kept[rows[self.suppression.rows(boxes[rows], scores[rows], classes[rows])]] = True
        return Detections(boxes[kept], scores[kept], classes[kept] + 1)

    def _peaks(self, heat: Tensor) -> Tensor:
        """Heat where it is the highest around. The border has no peaks, except of the small classes."""
        border = self.nms_kernel_size // 2
        highest = torch.zeros_like(heat)
        inner = nn.functional.max_pool2d(heat, self.nms_kernel_size, stride=1)
        highest[:, :, border : heat.shape[2] - border, border : heat.shape[3] - border] = inner
        highest[:, self.small] = heat[:, self.small]
        return heat * (heat == highest)

    def _iou_loss(self, predicted: Tensor, code: Tensor, assigned: Assignment) -> Tensor:
        matched = assigned.matched
        boxes, objects = (self.frame.decode(values[matched]) for values in (code, assigned.codes))
        iou = bottom_iou(boxes, objects)
        touching = iou != 0
        error = (predicted[matched] - (2 * iou - 1)).abs() * touching
        return error.sum() / touching.sum().clamp(min=1)


class _ConvNormReLU(nn.Module):
    def __init__(self, channels: int, momentum: float):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.bn = nn.BatchNorm2d(channels, momentum=momentum)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(x)).relu()
