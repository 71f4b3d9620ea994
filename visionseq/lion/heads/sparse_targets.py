"""Targets of the sparse centre-based head: they live on the occupied cells (arXiv 2407.18232, after 2006.11275).

The occupied cell nearest to an object's centre learns its box; the heat is 1 there and falls with the distance from the
centre.

Legend: V cells, B samples, C classes of a group, K slots, D values of a code, n cells and m boxes of one sample.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from visionseq.lion.heads.center_targets import CenterTargets, Grid, code_of, of_group
from visionseq.nn.sparse import SparseTensor


def sparse_targets(gt_boxes: Tensor, group: Sequence[int], grid: Grid, cells: SparseTensor) -> CenterTargets:
    """Targets of one group of classes, on the device of `gt_boxes` [B, M, X].

    `heatmaps` are [V, C], and `cells` the rows of a sample's own cells. A box without length or width has no slot.
    """
    labelled, indices = gt_boxes.detach().cpu().numpy(), cells.indices.cpu().numpy()
    batch, values, slots = len(labelled), labelled.shape[2], grid.slots
    heat = np.zeros((len(indices), len(group)), np.float32)
    codes, source = (np.zeros((batch, slots, width), np.float32) for width in (values, values))
    rows, mask = np.zeros((batch, slots), np.int64), np.zeros((batch, slots), np.bool_)

    for sample in range(batch):
        # The boxes that are learned, in their slots.
        boxes = labelled[sample]
        boxes = of_group(boxes[(boxes[:, 3] > 0) & (boxes[:, 4] > 0)], group, grid)
        count = len(boxes)
        source[sample, :count] = boxes
        of_sample = (indices[:, 0] == sample).nonzero()[0]
        if not len(of_sample) or not count:
            continue

        # Where they are on the map; the limits of x and y are exchanged, as in the official code for square maps.
        height, width = cells.spatial_shape
        x = grid.cells(boxes[:, 0], 0).clip(0, height - 0.5)
        y = grid.cells(boxes[:, 1], 1).clip(0, width - 0.5)
        centres, place = np.stack([x, y], 1), indices[of_sample][:, [2, 1]]

        # Heat, and the nearest cell with its code.
        warm = np.zeros((len(of_sample), len(group)), np.float32)
        for slot, radius in enumerate(grid.radii(boxes).tolist()):
            distance = ((place - centres[slot].astype(np.int64)) ** 2).sum(1)
            rows[sample, slot] = distance.argmin()
            _warm(warm[:, int(boxes[slot, -1]) - 1], distance, radius)
        heat[of_sample] = warm
        mask[sample, :count] = True
        codes[sample, :count] = code_of(boxes, centres - place[rows[sample, :count]])

    tensors = (torch.from_numpy(array).to(gt_boxes.device) for array in (heat, codes, rows, mask, source))
    return CenterTargets(*tensors)


def rows_of_batch(cells: SparseTensor, rows_BK: Tensor, mask_BK: Tensor) -> Tensor:
    """Rows among all cells, of rows among the cells of each sample; where nothing is masked, any row."""
    order = cells.indices[:, 0].argsort(stable=True)
    first = torch.cat([cells.counts().new_zeros(1), cells.counts().cumsum(0)[:-1]])
    return order[torch.where(mask_BK, rows_BK + first[:, None], 0)]


def _warm(heat: np.ndarray, distance: np.ndarray, radius: int) -> None:
    """Raise the heat of cells [n] at squared distances [n] from a centre, in place; to 1 at the nearest cell."""
    near = (distance <= 2 * radius**2).nonzero()[0]
    width = np.float32(2 * ((2 * radius + 1) / 6) ** 2)
    bell = np.exp(-distance[near].astype(np.float32) / width)
    heat[near] = np.maximum(heat[near], bell / np.exp(-np.float32(distance.min()) / width))
