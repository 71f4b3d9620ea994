"""The peers of LION's parts: rotated overlaps in the usual torch form and in shapely, voxels in a dictionary."""

from collections.abc import Iterable

import numpy as np
import torch


def shapely_iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """BEV IoU [N, M] of boxes [N, 7] and [M, 7], a pair at a time."""
    from shapely import Polygon

    from visionseq.geometry import boxes_to_corners

    first, second = ([Polygon(corners[:4, :2]) for corners in boxes_to_corners(boxes)] for boxes in (a, b))
    shared = np.array([[p.intersection(q).area for q in second] for p in first])
    return shared / np.maximum(np.add.outer([p.area for p in first], [q.area for q in second]) - shared, 1e-8)


def vectorised_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """BEV IoU [N, M] of boxes [N, 7] and [M, 7] in the usual torch form.

    The vertices of the shared area are the crossings of edges and the corners inside the other box, sorted by their
    angle around their mean.
    """
    # Where each edge of a crosses each edge of b.
    corners_a, corners_b = _corners(a), _corners(b)
    n, m = len(a), len(b)
    starts_a, ends_a = corners_a[:, None, :, None], corners_a.roll(-1, 1)[:, None, :, None]
    starts_b, ends_b = corners_b[None, :, None], corners_b.roll(-1, 1)[None, :, None]
    along_a, along_b, apart = ends_a - starts_a, ends_b - starts_b, starts_b - starts_a
    cross = _cross(along_a, along_b)
    s, t = _cross(apart, along_b) / cross, _cross(apart, along_a) / cross
    crossing = ((s >= 0) & (s <= 1) & (t >= 0) & (t <= 1)).expand(n, m, 4, 4).reshape(n, m, 16)

    # All candidates for vertices [N, M, 24, 2]: 16 crossings, 4 corners of a, 4 of b; the mask says which are vertices.
    corners = [(starts_a + s.unsqueeze(-1) * along_a).expand(n, m, 4, 4, 2).reshape(n, m, 16, 2)]
    corners += [corners_a[:, None].expand(n, m, 4, 2), corners_b[None].expand(n, m, 4, 2)]
    inside_a = _inside(corners_a[:, None], b[None, :])
    inside_b = _inside(corners_b[None], a[:, None])
    mask, points = torch.cat([crossing, inside_a, inside_b], 2), torch.cat(corners, 2)

    # Sort the vertices by their angle around the mean.
    points = torch.where(mask.unsqueeze(-1), points, 0)
    centre = points.sum(2, keepdim=True) / mask.sum(2).clamp(min=1)[..., None, None]
    around = points - centre
    angle = torch.where(mask, torch.atan2(around[..., 1], around[..., 0]), 10.0)
    order = angle.argsort(2)
    around = torch.where(mask.unsqueeze(-1), around, 0).gather(2, order.unsqueeze(-1).expand_as(around))

    # Shoelace formula, then intersection over union.
    last = mask.sum(2, keepdim=True)
    place = torch.arange(24)[None, None].expand(n, m, 24)
    following = torch.where(place + 1 < last, place + 1, 0)
    area = _cross(around, around.gather(2, following.unsqueeze(-1).expand_as(around)))
    shared = (area * (place < last)).sum(2).abs() / 2
    return shared / ((a[:, 3] * a[:, 4])[:, None] + (b[:, 3] * b[:, 4])[None] - shared).clamp(min=1e-8)


def _corners(boxes: torch.Tensor) -> torch.Tensor:
    steps = boxes.new_tensor([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]]) * boxes[:, None, 3:5]
    cos, sin = boxes[:, 6, None].cos(), boxes[:, 6, None].sin()
    turned = torch.stack([steps[..., 0] * cos - steps[..., 1] * sin, steps[..., 0] * sin + steps[..., 1] * cos], -1)
    return turned + boxes[:, None, :2]


def _inside(corners: torch.Tensor, boxes: torch.Tensor) -> torch.Tensor:
    away = corners - boxes[..., None, :2]
    cos, sin = boxes[..., 6, None].cos(), boxes[..., 6, None].sin()
    u, v = away[..., 0] * cos + away[..., 1] * sin, away[..., 1] * cos - away[..., 0] * sin
    return (u.abs() <= boxes[..., 3, None] / 2) & (v.abs() <= boxes[..., 4, None] / 2)


def _cross(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def dictionary_voxels(points: np.ndarray, size: Iterable[float], limits: tuple, most: int, voxels: int) -> dict:
    """Cell -> its first `most` points, for the first `voxels` cells; points [N, >= 3], a point at a time."""
    low, high, step = (np.array(values, np.float32) for values in (limits[:3], limits[3:], tuple(size)))
    grid = np.rint((high - low) / step).astype(int)
    voxel_points: dict[tuple, list] = {}
    for point in points:
        place = np.floor((point[:3] - low) / step).astype(int)
        if (place < 0).any() or (place >= grid).any():
            continue
        key = tuple(place)
        if key not in voxel_points:
            if len(voxel_points) >= voxels:
                continue
            voxel_points[key] = []
        if len(voxel_points[key]) < most:
            voxel_points[key].append(point)
    return voxel_points
