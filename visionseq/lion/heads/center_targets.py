"""Targets of the centre-based heads: which cell learns which box, and the heat around it (arXiv 2006.11275).

Legend: B samples, M boxes of a sample, K slots, C classes of a group, D values of a code.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from visionseq.lion import limits
from visionseq.lion.heads.gaussian import draw_gaussian, gaussian_radius

_log = logging.getLogger("visionseq.lion")


@dataclass
class CenterTargets:
    """Fields: `heatmaps` [B, C, H, W]; `boxes` [B, K, D] codes; `cells` int64 [B, K], y * W + x; `mask` bool [B, K];
    `source` [B, K, X], the labelled boxes themselves, with the class in its group.
    """

    heatmaps: Tensor
    boxes: Tensor
    cells: Tensor
    mask: Tensor
    source: Tensor


@dataclass
class Grid:
    """In which cells of the map boxes lie, and how far their heat reaches.

    Args:
        low: x, y minima of the map, metres.
        voxel: size of a voxel in x, y, metres.
        stride: voxels of a cell.
        overlap, min_radius: see `gaussian_radius`; the least radius of the heat, in cells.
        slots: boxes of a group and sample that are learned.

    `ConfigError` for a stride, radius or number of slots out of bounds.
    """

    low: tuple[float, float]
    voxel: tuple[float, float]
    stride: int
    overlap: float = 0.1
    min_radius: int = 2
    slots: int = 500
    has_warned: bool = field(default=False, init=False, repr=False, compare=False)

    def __post_init__(self):
        limits.count("dense_head: feature_map_stride", self.stride, limits.MOST_CELLS)
        limits.count("dense_head: min_radius", self.min_radius, limits.MOST_CELLS, least=0)
        limits.count("dense_head: num_max_objs", self.slots, limits.MOST_PLACES)

    def in_slots(self, boxes: np.ndarray) -> np.ndarray:
        """The first boxes, as many as there are slots; the log counts the others, once."""
        if len(boxes) > self.slots and not self.has_warned:
            self.has_warned = True
            left = len(boxes) - self.slots
            _log.warning(
                "%d objects of a group in one sample: the last %d are not learned (said once)", len(boxes), left
            )
        return boxes[: self.slots]

    def cells(self, values: np.ndarray, axis: int) -> np.ndarray:
        """Coordinates in cells, float32."""
        low, voxel = np.float32(self.low[axis]), np.float32(self.voxel[axis])
        return (values - low) / voxel / np.float32(self.stride)

    def radii(self, boxes: np.ndarray) -> np.ndarray:
        """Radius int64 [M] of the heat around boxes [M, >= 5]."""
        with np.errstate(invalid="ignore", over="ignore"):
            length = (boxes[:, 3] / np.float32(self.voxel[0]) / self.stride).astype(np.float64)
            width = (boxes[:, 4] / np.float32(self.voxel[1]) / self.stride).astype(np.float64)
            radius = np.nan_to_num(gaussian_radius(length, width, self.overlap), nan=0.0, posinf=limits.MOST_CELLS)
        radius = radius.clip(0, limits.MOST_CELLS)  # wider than any map
        return np.maximum(radius.astype(np.int64), self.min_radius)


def of_group(gt_boxes: np.ndarray, group: Sequence[int], grid: Grid) -> np.ndarray:
    """The boxes [m, X] of one sample whose class is in the group, with the class's number in it, in their slots."""
    number = {label: i + 1 for i, label in enumerate(group)}
    labels = gt_boxes[:, -1].astype(np.int64)
    chosen = gt_boxes[np.isin(labels, list(group))].copy()
    chosen[:, -1] = [number[int(label)] for label in chosen[:, -1]]
    return grid.in_slots(chosen)


def code_of(boxes: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """float32 [m, 8 or 10]: offset in cells, z, logarithms of the sizes, cosine and sine of the heading, velocity."""
    with np.errstate(divide="ignore", invalid="ignore"):
        sizes = np.log(boxes[:, 3:6])
    heading = boxes[:, 6:7]
    return np.concatenate([offset, boxes[:, 2:3], sizes, np.cos(heading), np.sin(heading), boxes[:, 7:-1]], 1)


def center_targets(gt_boxes: Tensor, group: Sequence[int], grid: Grid, height: int, width: int) -> CenterTargets:
    """Targets of one group of classes on a map [height, width], on the device of `gt_boxes` [B, M, X].

    A box beyond the map is drawn to its border; one without length or width keeps its slot empty.
    """
    labelled = gt_boxes.detach().cpu().numpy()
    batch, values = len(labelled), labelled.shape[2]
    heat = np.zeros((batch, len(group), height, width), np.float32)
    codes = np.zeros((batch, grid.slots, values), np.float32)
    cells, mask = np.zeros((batch, grid.slots), np.int64), np.zeros((batch, grid.slots), np.bool_)
    source = np.zeros((batch, grid.slots, values), np.float32)

    for sample in range(batch):
        # The boxes that are learned, in their slots, and where they are on the map.
        boxes = of_group(labelled[sample], group, grid)
        if not len(boxes):
            continue
        source[sample, : len(boxes)] = boxes
        x = grid.cells(boxes[:, 0], 0).clip(0, width - 0.5)
        y = grid.cells(boxes[:, 1], 1).clip(0, height - 0.5)
        column, row = x.astype(np.int64), y.astype(np.int64)

        # Heat, cells and codes of those with a size.
        radii, code = grid.radii(boxes), code_of(boxes, np.stack([x - column, y - row], 1))
        for i in ((boxes[:, 3] > 0) & (boxes[:, 4] > 0)).nonzero()[0]:
            draw_gaussian(heat[sample, int(boxes[i, -1]) - 1], int(column[i]), int(row[i]), int(radii[i]))
            cells[sample, i], mask[sample, i] = row[i] * width + column[i], True
            codes[sample, i] = code[i]

    tensors = (torch.from_numpy(array).to(gt_boxes.device) for array in (heat, codes, cells, mask, source))
    return CenterTargets(*tensors)
