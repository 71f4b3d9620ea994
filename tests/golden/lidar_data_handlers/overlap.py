"""Overlap of boxes, pairwise and aligned, in both precisions."""

import torch
from golden_vector import GoldenVector
from torch import Tensor
from torch.testing import assert_close

from visionseq.geometry import bev_intersection, bev_iou, iou3d, nearest_bev_iou

OFFICIAL_MARGIN = 2e-2  # the official single precision routine counts corners within 1 cm as inside


def check_iou_rotated(vector: GoldenVector) -> None:
    a, b = vector["in/boxes_a"], vector["in/boxes_b"]
    unturned = [torch.cat([boxes[:, :6], torch.zeros_like(boxes[:, 6:])], 1) for boxes in (a, b)]
    for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-4)):
        _check(vector, "inter_bev", bev_intersection, a.to(dtype), b.to(dtype), tolerance)
        _check(vector, "iou_bev", bev_iou, a.to(dtype), b.to(dtype), tolerance)
        _check(vector, "iou_3d", iou3d, a.to(dtype), b.to(dtype), tolerance)
        axis_aligned = (boxes.to(dtype) for boxes in unturned)
        _check(vector, "iou_axis_aligned_ignoring_heading", bev_iou, *axis_aligned, tolerance)
    _check(vector, "iou_nearest_bev_f32", nearest_bev_iou, a.float(), b.float(), 1e-5)
    if "out/iou_bev_official_cpu_f32" in vector:
        random = slice(vector.config["n_random_a"]), slice(vector.config["n_random_b"])
        official = vector.expected("out/iou_bev_official_cpu_f32")[random]
        assert (bev_iou(a, b)[random] - official).abs().max() < OFFICIAL_MARGIN


def _check(vector: GoldenVector, name: str, measure, a: Tensor, b: Tensor, tolerance: float) -> None:
    """Every pair, and the pairs of equal number on their own."""
    if f"out/{name}" not in vector:
        return
    expected = vector.expected(f"out/{name}").double()
    assert_close(measure(a, b).double(), expected, rtol=0, atol=tolerance)
    pairs = min(len(a), len(b))
    aligned = measure(a[:pairs], b[:pairs], aligned=True)
    assert_close(aligned.double(), expected.diagonal(), rtol=0, atol=tolerance)


HANDLERS = {"iou_rotated": check_iou_rotated}
