"""Targets of the TransFusion head: the heat map, and which proposal learns which box (arXiv 2203.11496).

Legend: B samples, P proposals, M boxes of a sample, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from visionseq.geometry import bev_intersection
from visionseq.lion import limits
from visionseq.lion.heads.gaussian import draw_gaussian, gaussian_radius

EPS = 1e-12


@dataclass
class Costs:
    """Weights of the assignment's cost, and the focal cost's constants."""

    cls: float = 0.15
    reg: float = 0.25
    iou: float = 0.25
    alpha: float = 0.25
    gamma: float = 2.0


@dataclass
class Assignment:
    """Fields: `labels` int64 [B, P], the number of classes where unmatched; `codes` [B, P, 10]; `matched` bool [B, P];
    `box_numbers` int64 [B, P], from 1, 0 where unmatched; `ious` [B, P], with the matched box.
    """

    labels: Tensor
    codes: Tensor
    matched: Tensor
    box_numbers: Tensor
    ious: Tensor


@dataclass(frozen=True)
class MapFrame:
    """Between metres and cells of the transposed map.

    Args:
        point_range: x, y, z minima, then maxima, metres.
        voxel: size of a voxel in x, y, z, metres.
        stride: voxels of a cell.
        overlap, min_radius: see `gaussian_radius`; the least radius of the heat, in cells.

    `ConfigError` for a stride or radius out of bounds.
    """

    point_range: tuple[float, ...]
    voxel: tuple[float, ...]
    stride: int
    overlap: float = 0.1
    min_radius: int = 2

    def __post_init__(self):
        limits.count("dense_head: feature_map_stride", self.stride, limits.MOST_CELLS)
        limits.count("dense_head: min_radius", self.min_radius, limits.MOST_CELLS, least=0)

    def encode(self, boxes: Tensor) -> Tensor:
        """Codes [..., 10] of boxes [..., 9]: centre in cells, z of the upper face, logarithms, sine and cosine."""
        x, y = ((boxes[..., axis] - self.point_range[axis]) / (self.stride * self.voxel[axis]) for axis in (0, 1))
        top, heading = boxes[..., 2] + boxes[..., 5] / 2, boxes[..., 6]
        place, turn = torch.stack([x, y, top], -1), torch.stack([heading.sin(), heading.cos()], -1)
        return torch.cat([place, boxes[..., 3:6].log(), turn, boxes[..., 7:9]], -1)

    def decode(self, codes: Tensor) -> Tensor:
        """Boxes [..., 9] of codes [..., 10]."""
        x, y = (codes[..., axis] * self.stride * self.voxel[axis] + self.point_range[axis] for axis in (0, 1))
        sizes = codes[..., 3:6].exp()
        z = codes[..., 2] - sizes[..., 2] / 2
        heading = torch.atan2(codes[..., 6], codes[..., 7])
        return torch.cat([torch.stack([x, y, z], -1), sizes, heading.unsqueeze(-1), codes[..., 8:]], -1)


def heat_targets(gt_boxes: Tensor, frame: MapFrame, classes: int, shape: Sequence[int]) -> Tensor:
    """[B, C, X, Y] on the transposed map, which must be square; a centre beyond it has its heat on the map alone."""
    labelled = gt_boxes.detach().cpu().numpy()
    heat = np.zeros((len(labelled), classes, *shape), np.float32)
    size = np.array(frame.voxel[:2], np.float32) * frame.stride
    for sample, boxes in enumerate(labelled):
        boxes = boxes[(boxes[:, -1] > 0) & (boxes[:, 3] > 0) & (boxes[:, 4] > 0)]
        cells = ((boxes[:, :2] - np.array(frame.point_range[:2], np.float32)) / size).astype(np.int64)
        lengths = (boxes[:, 3:5] / size).astype(np.float64)
        radii = gaussian_radius(lengths[:, 0], lengths[:, 1], frame.overlap)
        radii = radii.clip(frame.min_radius, limits.MOST_CELLS).astype(np.int64)
        for box, (x, y), radius in zip(boxes, cells.tolist(), radii.tolist(), strict=True):
            draw_gaussian(heat[sample, int(box[-1]) - 1], y, x, radius)
    return torch.from_numpy(heat).to(gt_boxes.device)


@torch.no_grad()
def assign(boxes: Tensor, logits: Tensor, gt_boxes: Tensor, frame: MapFrame, costs: Costs) -> Assignment:
    """Match proposals [B, P, 9], logits [B, P, C], to boxes [B, M, 10] at the least cost; without boxes, none."""
    batch, proposals, classes = logits.shape
    device = boxes.device
    labels = torch.full((batch, proposals), classes, dtype=torch.int64, device=device)
    codes = boxes.new_zeros((batch, proposals, 10))
    numbers, ious = torch.zeros_like(labels), boxes.new_zeros((batch, proposals))

    for sample in range(batch):
        # The cost of every pair of a proposal and an object.
        objects = gt_boxes[sample]
        objects = objects[(objects[:, -1] > 0) & (objects[:, 3] > 0) & (objects[:, 4] > 0)].to(boxes.dtype)
        if not len(objects):
            continue
        classes_M = objects[:, -1].long() - 1
        iou = bottom_iou(boxes[sample], objects, aligned=False)
        cost = (
            costs.cls * _focal_cost(logits[sample], classes_M, costs)
            + costs.reg * _centre_cost(boxes[sample], objects, frame)
            - costs.iou * iou
        )

        # The pairs of least cost together.
        pairs = linear_sum_assignment(cost.cpu().numpy())
        rows, columns = (torch.from_numpy(numbers_of_pairs).to(device) for numbers_of_pairs in pairs)
        labels[sample, rows], numbers[sample, rows] = classes_M[columns], columns + 1
        codes[sample, rows] = frame.encode(objects[columns][:, :9])
        ious[sample, rows] = iou[rows, columns]
    return Assignment(labels, codes, numbers > 0, numbers, ious)


def bottom_iou(a: Tensor, b: Tensor, aligned: bool = True) -> Tensor:
    """3D IoU that takes z for the lower face on both sides, as the official code does."""
    area = bev_intersection(a, b, aligned=aligned).clamp(min=0)
    low_a, high_a, low_b, high_b = a[:, 2], a[:, 2] + a[:, 5], b[:, 2], b[:, 2] + b[:, 5]
    volume_a, volume_b = a[:, 3:6].prod(1), b[:, 3:6].prod(1)
    if not aligned:
        low_a, high_a, volume_a = low_a[:, None], high_a[:, None], volume_a[:, None]
    shared = area * (torch.minimum(high_a, high_b) - torch.maximum(low_a, low_b)).clamp(min=0)
    return shared / (volume_a + volume_b - shared).clamp(min=1e-8)


def _focal_cost(logits: Tensor, classes_M: Tensor, costs: Costs) -> Tensor:
    p = logits.sigmoid()
    negative = -(1 - p + EPS).log() * (1 - costs.alpha) * p.pow(costs.gamma)
    positive = -(p + EPS).log() * costs.alpha * (1 - p).pow(costs.gamma)
    return (positive - negative)[:, classes_M]


def _centre_cost(boxes: Tensor, objects: Tensor, frame: MapFrame) -> Tensor:
    low = boxes.new_tensor(frame.point_range[:2])
    span = boxes.new_tensor(frame.point_range[3:5]) - low
    a, b = (boxes[:, :2] - low) / span, (objects[:, :2] - low) / span
    return (a[:, None] - b[None]).abs().sum(-1)
