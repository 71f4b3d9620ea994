"""Overlap of boxes, seen from above (BEV) and in space, by exact convex polygon clipping in float64.

A box is (x, y, z, dx, dy, dz, heading, ...): centre, size with dx along the heading, heading in radians
counter-clockwise from +x; values after the seventh (velocities) are ignored. Every function here

- compares all pairs, [N, M], or with `aligned=True` box i of one set with box i of the other, [N];
- computes in float64 on the CPU and returns the dtype and device of `boxes_a` (float64 for integers): tensors on a GPU
  are moved to the CPU and back; the result carries no gradient;
- is exact at the edges: identical boxes have IoU 1, also where one heading is turned by pi; boxes that touch, and boxes
  with a size of 0 or less, have IoU 0; a box with NaN or infinity has NaN with every box.

Boxes of another shape, and aligned sets of different length, raise `ConfigError`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from visionseq.errors import ConfigError
from visionseq.kernels.threads import spread

UNION_FLOOR_BEV = 1e-8  # square metres
UNION_FLOOR_3D = 1e-6  # cubic metres


def bev_intersection(boxes_a: Tensor, boxes_b: Tensor, aligned: bool = False) -> Tensor:
    """Area in square metres that boxes [N, >= 7] and [M, >= 7] share seen from above: [N, M], or [N] where aligned."""
    return _measured(_intersection, boxes_a, boxes_b, aligned)


def bev_iou(boxes_a: Tensor, boxes_b: Tensor, aligned: bool = False) -> Tensor:
    """Intersection over union of the areas seen from above, in [0, 1]: [N, M], or [N] where aligned."""
    return _measured(_bev_iou, boxes_a, boxes_b, aligned)


def iou3d(boxes_a: Tensor, boxes_b: Tensor, aligned: bool = False) -> Tensor:
    """Intersection over union of the volumes, in [0, 1]: [N, M], or [N] where aligned; z is the centre of a box."""
    return _measured(_iou3d, boxes_a, boxes_b, aligned)


def nearest_bev_iou(boxes_a: Tensor, boxes_b: Tensor, aligned: bool = False) -> Tensor:
    """BEV IoU after each heading is turned to the nearest multiple of pi/2, as anchors are assigned: [N, M], or [N]."""
    return _measured(_nearest_bev_iou, boxes_a, boxes_b, aligned)


def _measured(measure: Callable[..., Tensor], boxes_a: Tensor, boxes_b: Tensor, aligned: bool) -> Tensor:
    """A measure of checked boxes, computed in float64 on the CPU, in the dtype and on the device of `boxes_a`."""
    for name, boxes in (("boxes_a", boxes_a), ("boxes_b", boxes_b)):
        if boxes.ndim != 2 or boxes.shape[1] < 7:
            raise ConfigError(f"{name} of shape {tuple(boxes.shape)}, expected [N, 7] or more columns")
    if aligned and len(boxes_a) != len(boxes_b):
        raise ConfigError(f"boxes_a and boxes_b: {len(boxes_a)} and {len(boxes_b)} boxes, expected the same number")
    dtype = boxes_a.dtype if boxes_a.is_floating_point() else torch.float64
    a, b = (boxes.detach().to("cpu", torch.float64)[:, :7] for boxes in (boxes_a, boxes_b))
    return measure(a, b, aligned).to(boxes_a.device, dtype)


def _intersection(a: Tensor, b: Tensor, aligned: bool) -> Tensor:
    from visionseq.geometry import clipping

    shared = torch.empty(len(a) if aligned else (len(a), len(b)), dtype=torch.float64)
    fill = clipping.fill_aligned if aligned else clipping.fill_matrix
    spread(fill, len(a), clipping.rectangles(a.numpy()), clipping.rectangles(b.numpy()), shared.numpy())
    return shared


def _bev_iou(a: Tensor, b: Tensor, aligned: bool) -> Tensor:
    return _over_union(_intersection(a, b, aligned), _area(a), _area(b), aligned, UNION_FLOOR_BEV)


def _iou3d(a: Tensor, b: Tensor, aligned: bool) -> Tensor:
    shared = _intersection(a, b, aligned) * _overlap_along(2, a, b, aligned)
    volume_a, volume_b = (_area(boxes) * boxes[:, 5].clamp(min=0) for boxes in (a, b))
    return _over_union(shared, volume_a, volume_b, aligned, UNION_FLOOR_3D)


def _nearest_bev_iou(a: Tensor, b: Tensor, aligned: bool) -> Tensor:
    a, b = _to_nearest_axis(a), _to_nearest_axis(b)
    shared = _overlap_along(0, a, b, aligned) * _overlap_along(1, a, b, aligned)
    return _over_union(shared, _area(a), _area(b), aligned, UNION_FLOOR_BEV)


def _to_nearest_axis(boxes: Tensor) -> Tensor:
    """Swap dx and dy of boxes that are turned by pi/4 or more from the x axis."""
    turn = (boxes[:, 6] / torch.pi + 0.5).remainder(1) - 0.5  # of pi, in [-1/2, 1/2)
    swapped = boxes[:, [0, 1, 2, 4, 3, 5, 6]]
    return torch.where((turn.abs() >= 0.25)[:, None], swapped, boxes)


def _overlap_along(axis: int, a: Tensor, b: Tensor, aligned: bool) -> Tensor:
    """Length that two unturned boxes share along an axis; exactly the size where the boxes are equal."""
    centre_a, size_a = a[:, axis], a[:, axis + 3].clamp(min=0)
    centre_b, size_b = b[:, axis], b[:, axis + 3].clamp(min=0)
    if not aligned:
        centre_a, size_a = centre_a[:, None], size_a[:, None]
    reach = (size_a + size_b) / 2 - (centre_a - centre_b).abs()
    return torch.minimum(reach, torch.minimum(size_a, size_b)).clamp(min=0)


def _area(boxes: Tensor) -> Tensor:
    return boxes[:, 3].clamp(min=0) * boxes[:, 4].clamp(min=0)


def _over_union(shared: Tensor, content_a: Tensor, content_b: Tensor, aligned: bool, floor: float) -> Tensor:
    union = (content_a if aligned else content_a[:, None]) + content_b - shared
    return shared / union.clamp(min=floor)
