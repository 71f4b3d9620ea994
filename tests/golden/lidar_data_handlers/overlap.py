"""Overlap of boxes, pairwise and aligned, in both precisions."""

import torch
from golden_vector import GoldenVector
from torch import Tensor

from visionseq.geometry import bev_intersection, bev_iou, iou3d, nearest_bev_iou

OFFICIAL_MARGIN = 2e-2  # the official single precision routine counts corners within 1 cm as inside


def check_iou_rotated(vector: GoldenVector) -> None:
    a, b = vector["in/boxes_a"], vector["in/boxes_b"]
    unturned = [torch.cat([boxes[:, :6], torch.zeros_like(boxes[:, 6:])], 1) for boxes in (a, b)]
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
        _check(bev_intersection, a.to(dtype), b.to(dtype), vector["out/inter_bev"], tolerance)
        _check(bev_iou, a.to(dtype), b.to(dtype), vector["out/iou_bev"], tolerance)
        _check(iou3d, a.to(dtype), b.to(dtype), vector["out/iou_3d"], tolerance)
        given = (boxes.to(dtype) for boxes in unturned)
        _check(bev_iou, *given, vector["out/iou_axis_aligned_ignoring_heading"], tolerance)
    _check(nearest_bev_iou, a.float(), b.float(), vector["out/iou_nearest_bev_f32"], 1e-5)
    random = slice(vector.config["n_random_a"]), slice(vector.config["n_random_b"])
    official = vector["out/iou_bev_official_cpu_f32"][random]
    assert (bev_iou(a, b)[random] - official).abs().max() < OFFICIAL_MARGIN


def _check(measure, a: Tensor, b: Tensor, expected: Tensor, tolerance: float) -> None:
    assert (measure(a, b).double() - expected).abs().max() <= tolerance
    pairs = min(len(a), len(b))
    aligned = measure(a[:pairs], b[:pairs], aligned=True)
    assert (aligned.double() - expected.diagonal()).abs().max() <= tolerance


HANDLERS = {"iou_rotated": check_iou_rotated}
