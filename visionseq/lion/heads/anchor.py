"""The anchor-based head of the KITTI detectors (SECOND; sizes and thresholds of arXiv 1812.05784).

Legend: B samples, A = H * W * classes * rotations anchors, M boxes of a sample.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.errors import ConfigError
from visionseq.geometry import limit_period, nearest_bev_iou
from visionseq.lion import limits
from visionseq.lion.detections import Detections
from visionseq.lion.heads.layers import fill_bias
from visionseq.lion.heads.losses import sigmoid_focal
from visionseq.lion.heads.suppression import Suppression
from visionseq.nn.precision import at_least_float32

MOST_VALUES = 1 << 28  # of all anchors
BETA = 1 / 9  # where the smooth L1 loss turns linear
BACKGROUND, IGNORED = 0, -1
ROUNDING = 0.01  # metres; more than float32 loses in the place of an anchor


class AnchorHeadSingle(nn.Module):
    """For each cell, class and rotation: class scores, box residuals, and which way the box looks.

    Args:
        input_channels: of the map.
        class_names: one entry of `anchors` for each.
        point_cloud_range, voxel_size: of the voxels, metres.
        anchors: for each class `size` (length, width, height), `bottom` (z of the lower face), `positive` and
            `negative` (IoU from which an anchor is an object, and below which it is background).
        rotations: headings of the anchors, radians.
        align_center: anchors at the middles of the cells, not spread from border to border.
        feature_map_stride: voxels of a cell.
        dir_offset: where the bins of the direction begin, radians.
        num_dir_bins: bins of the direction.
        cls_weight, loc_weight, dir_weight, code_weights: of the losses.
        score_thresh: the least score of a detection.
        nms: values of `Suppression`.
    """

    anchors: Tensor
    code_weights: Tensor

    def __init__(
        self,
        input_channels: int,
        class_names: Sequence[str],
        point_cloud_range: Sequence[float],
        voxel_size: Sequence[float],
        anchors: Sequence[Mapping[str, Any]],
        rotations: Sequence[float] = (0.0, 1.57),
        align_center: bool = False,
        feature_map_stride: int = 1,
        dir_offset: float = 0.78539,
        num_dir_bins: int = 2,
        cls_weight: float = 1.0,
        loc_weight: float = 2.0,
        dir_weight: float = 0.2,
        code_weights: Sequence[float] = (1.0,) * 7,
        score_thresh: float = 0.1,
        nms: Mapping[str, Any] | None = None,
    ):
        super().__init__()
        # What belongs together.
        limits.count("dense_head: feature_map_stride", feature_map_stride, limits.MOST_CELLS)
        limits.count("dense_head: num_dir_bins", num_dir_bins, limits.MOST_PLACES)
        if len(anchors) != len(class_names):
            raise ConfigError(f"dense_head: {len(anchors)} anchors for {len(class_names)} classes")
        self.thresholds = [(float(anchor["positive"]), float(anchor["negative"])) for anchor in anchors]
        if any(not 0 < negative <= positive for positive, negative in self.thresholds):
            raise ConfigError(
                f"dense_head: anchors with (positive, negative) {self.thresholds}, expected 0 < negative <= positive"
            )
        shape = [cells // feature_map_stride for cells in limits.grid_of(point_cloud_range, voxel_size)[:2]]
        if (values := math.prod(shape) * len(anchors) * len(rotations) * 7) > MOST_VALUES:
            raise ConfigError(f"dense_head: anchors of {values:,} values, expected at most {MOST_VALUES:,}")

        # Losses and decoding.
        self.dir_offset, self.num_dir_bins = dir_offset, num_dir_bins
        self.weights = cls_weight, loc_weight, dir_weight
        self.register_buffer("code_weights", torch.tensor(code_weights), persistent=False)
        self.score_thresh, self.suppression = score_thresh, Suppression(**(nms or {}))
        self.suppression.check_classes(len(class_names))

        # Anchors and layers.
        of_classes = [_anchors(point_cloud_range, shape, anchor, rotations, align_center) for anchor in anchors]
        self.register_buffer("anchors", torch.stack(of_classes, 2), persistent=False)  # [H, W, classes, rotations, 7]
        self.classes, per_cell = len(class_names), len(class_names) * len(rotations)
        self.conv_cls = nn.Conv2d(input_channels, per_cell * self.classes, 1)
        self.conv_box = nn.Conv2d(input_channels, per_cell * 7, 1)
        self.conv_dir_cls = nn.Conv2d(input_channels, per_cell * num_dir_bins, 1)
        fill_bias(self.conv_cls, -math.log(99))
        nn.init.normal_(self.conv_box.weight, 0, 0.001)

    def forward(self, x_BCHW: Tensor) -> dict[str, Tensor]:
        """cls [B, A, classes], box [B, A, 7] residuals, dir [B, A, bins]; anchors by (y, x, class, rotation).

        All float32 whatever the network computes in.
        """
        if x_BCHW.shape[2:] != self.anchors.shape[:2]:
            cells, expected = tuple(x_BCHW.shape[2:]), tuple(self.anchors.shape[:2])
            raise ConfigError(f"map of {cells} cells, the anchors have {expected}")
        widths = {"cls": self.classes, "box": 7, "dir": self.num_dir_bins}
        layers = {"cls": self.conv_cls, "box": self.conv_box, "dir": self.conv_dir_cls}
        return {
            name: at_least_float32(layer(x_BCHW)).permute(0, 2, 3, 1).reshape(len(x_BCHW), -1, widths[name])
            for name, layer in layers.items()
        }

    def losses(self, predictions: dict[str, Tensor], gt_boxes: Tensor) -> dict[str, Tensor]:
        """ "loss" and its parts rpn_loss_cls, rpn_loss_loc, rpn_loss_dir, each divided by the number of samples."""
        # How much each anchor counts.
        labels, residuals, headings = self.targets(gt_boxes)
        batch = len(labels)
        positive = labels > 0
        share = positive.sum(1, keepdim=True).clamp(min=1).to(residuals.dtype)
        of_positive = (positive / share)[positive]

        # Classes of all anchors that are not ignored; boxes and directions of the positive ones.
        one_hot = F.one_hot(labels.clamp(min=0), self.classes + 1)[..., 1:].to(residuals.dtype)
        focal = sigmoid_focal(predictions["cls"], one_hot) * (labels >= 0).unsqueeze(-1) / share.unsqueeze(-1)
        error = _with_sine(predictions["box"][positive], residuals[positive]) * self.code_weights
        distance = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="none", beta=BETA)
        located = distance * of_positive.unsqueeze(-1)
        bins = self._bins(headings[positive])
        entropy = F.cross_entropy(predictions["dir"][positive], bins, reduction="none") * of_positive
        cls, loc, direction = self.weights
        losses = {
            "rpn_loss_cls": focal.sum() / batch * cls,
            "rpn_loss_loc": located.sum() / batch * loc,
            "rpn_loss_dir": entropy.sum() / batch * direction,
        }
        return {"loss": torch.stack(list(losses.values())).sum(), **losses}

    @torch.no_grad()
    def targets(self, gt_boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Labels int64 [B, A] (0 background, -1 ignored), residuals [B, A, 7] and headings of the boxes [B, A]."""
        labels: list[Tensor] = []
        residuals: list[Tensor] = []
        headings: list[Tensor] = []
        for boxes in gt_boxes:
            parts = [self._assign(boxes[boxes[:, -1] == label + 1], label) for label in range(self.classes)]
            for collected, values in zip((labels, residuals, headings), zip(*parts, strict=True), strict=True):
                collected.append(torch.stack(values, 1).flatten(0, 2))  # [H * W, classes, rotations, ...]
        return torch.stack(labels), torch.stack(residuals), torch.stack(headings)

    def _assign(self, boxes: Tensor, label: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of one class: labels [H * W, rotations], residuals [H * W, rotations, 7], headings [H * W, rotations]."""
        every = self.anchors[:, :, label].flatten(0, 1)
        labels = torch.full(every.shape[:2], BACKGROUND, device=every.device)
        residuals, headings = torch.zeros_like(every), torch.zeros_like(every[..., 0])
        near = self._near(boxes, label).flatten().nonzero()[:, 0]
        if not len(near):
            return labels, residuals, headings

        # Which anchors are objects, background, or neither.
        anchors, boxes = every[near].flatten(0, 1), boxes[:, :7].to(every.dtype)
        positive, negative = self.thresholds[label]
        iou = nearest_bev_iou(anchors, boxes)
        best, which = iou.max(1)
        best_of_box = iou.max(0).values
        is_best = ((iou == best_of_box) & (best_of_box > 0)).any(1)
        assigned = torch.where(best < negative, BACKGROUND, IGNORED)
        assigned[(best >= positive) | is_best] = label + 1

        # What they learn.
        matched = boxes[which]
        coded = torch.where((assigned > 0).unsqueeze(1), encode(matched, anchors), 0)
        labels[near], residuals[near] = assigned.view(-1, every.shape[1]), coded.view(-1, *every.shape[1:])
        headings[near] = matched[:, 6].view(-1, every.shape[1])
        return labels, residuals, headings

    def _near(self, boxes: Tensor, label: int) -> Tensor:
        """[H, W]: cells whose anchors can touch a box; the anchors of all others are background."""
        anchors = self.anchors[:, :, label, 0]
        reach = (boxes[:, 3:5].amax(1) + anchors[0, 0, 3:5].amax()) / 2 + ROUNDING
        columns = (anchors[0, :, 0] - boxes[:, :1]).abs() <= reach[:, None]
        rows = (anchors[:, 0, 1] - boxes[:, 1:2]).abs() <= reach[:, None]
        return (rows[:, :, None] & columns[:, None]).any(0)

    @torch.no_grad()
    def detections(self, predictions: dict[str, Tensor]) -> list[Detections]:
        """Boxes of each sample, best first."""
        boxes = self.decode(predictions)
        scores, classes = predictions["cls"].sigmoid().max(2)
        kept = scores >= self.score_thresh
        rows = zip(boxes, scores, classes + 1, kept, strict=True)
        return [self.suppression(Detections(b[k], s[k], c[k])) for b, s, c, k in rows]

    def decode(self, predictions: dict[str, Tensor]) -> Tensor:
        """Boxes [B, A, 7], turned by pi where the direction says so."""
        boxes = decode(predictions["box"], self.anchors.view(-1, 7))
        period = 2 * math.pi / self.num_dir_bins
        heading = limit_period(boxes[..., 6] - self.dir_offset, 0, period) + self.dir_offset
        heading = heading + period * predictions["dir"].argmax(2)
        return torch.cat([boxes[..., :6], heading.unsqueeze(-1)], -1)

    def _bins(self, headings: Tensor) -> Tensor:
        turned = (headings - self.dir_offset) % (2 * math.pi)
        return (turned / (2 * math.pi / self.num_dir_bins)).floor().long().clamp(0, self.num_dir_bins - 1)


def encode(boxes: Tensor, anchors: Tensor) -> Tensor:
    """Residuals [..., 7] of boxes to anchors."""
    diagonal = anchors[..., 3:5].norm(dim=-1, keepdim=True)
    place = (boxes[..., :2] - anchors[..., :2]) / diagonal
    up = (boxes[..., 2:3] - anchors[..., 2:3]) / anchors[..., 5:6]
    return torch.cat([place, up, (boxes[..., 3:6] / anchors[..., 3:6]).log(), boxes[..., 6:] - anchors[..., 6:]], -1)


def decode(residuals: Tensor, anchors: Tensor) -> Tensor:
    """Boxes [..., 7] of residuals to anchors."""
    diagonal = anchors[..., 3:5].norm(dim=-1, keepdim=True)
    place = residuals[..., :2] * diagonal + anchors[..., :2]
    up = residuals[..., 2:3] * anchors[..., 5:6] + anchors[..., 2:3]
    sizes = residuals[..., 3:6].exp() * anchors[..., 3:6]
    return torch.cat([place, up, sizes, residuals[..., 6:] + anchors[..., 6:]], -1)


def _with_sine(predicted: Tensor, target: Tensor) -> Tensor:
    """Differences of the codes; of the heading, the sine of the difference."""
    turn = predicted[..., 6:].sin() * target[..., 6:].cos() - predicted[..., 6:].cos() * target[..., 6:].sin()
    return torch.cat([predicted[..., :6] - target[..., :6], turn], -1)


def _anchors(
    point_range: Sequence[float],
    shape: Sequence[int],
    anchor: Mapping[str, Any],
    rotations: Sequence[float],
    align: bool,
) -> Tensor:
    """[H, W, rotations, 7] of one class."""
    axes = []
    for axis, cells in enumerate(shape):
        low, high = point_range[axis], point_range[axis + 3]
        step = (high - low) / (cells if align else max(cells - 1, 1))
        axes.append(low + torch.arange(cells, dtype=torch.float32) * step + (step / 2 if align else 0))
    x, y = axes
    length, width, height = anchor["size"]
    fixed = torch.tensor([anchor["bottom"] + height / 2, length, width, height])
    anchors = torch.empty(len(y), len(x), len(rotations), 7)
    anchors[..., 0], anchors[..., 1] = x[None, :, None], y[:, None, None]
    anchors[..., 2:6], anchors[..., 6] = fixed, torch.tensor(rotations)
    return anchors
