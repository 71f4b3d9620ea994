"""Rotated overlap and the forms of non-maximum suppression."""

import re

import torch
from golden_vector import GoldenVector

from visionseq.geometry import bev_iou, iou3d, multi_class_nms, nms

OFFICIAL = 1e-2  # of the official single precision routine, which counts corners within 1 cm as inside


def check_rotated_nms(vector: GoldenVector) -> None:
    _check_overlap(vector)
    boxes, scores, labels = (vector[f"in/{name}"] for name in ("boxes", "scores", "labels"))
    for name, expected in vector.tensors("out/").items():
        if found := re.fullmatch(r"nms_gpu_([\d.]+)", name):
            kept = nms(boxes, scores, float(found[1]))
        elif found := re.fullmatch(r"class_agnostic_pre(\d+)_post(\d+)_thr([\d.]+)", name):
            kept = nms(boxes, scores, float(found[3]), pre=int(found[1]), post=int(found[2]))
        elif found := re.fullmatch(r"multi_class_(\w+)", name):
            options = vector.config["multi_class"][found[1]]
            kept = multi_class_nms(
                boxes, scores, labels, options["thr"], options["pre"], options["post"], swap_dims=True
            )
        else:
            assert name.startswith("iou"), f"{name}: no form of suppression"
            continue
        assert kept.tolist() == expected.tolist(), name


def _check_overlap(vector: GoldenVector) -> None:
    boxes = vector["in/boxes"].double()
    swapped = boxes[:, [0, 1, 2, 4, 3, 5, 6]]
    matrix, aligned = vector["out/iou3d_matrix_official"], vector["out/iou3d_aligned_official"]
    (rows, columns), pairs = matrix.shape, len(aligned)
    for ours, expected, tolerance in (
        (bev_iou(boxes, boxes), vector["out/iou_bev_exact"], 1e-6),
        (bev_iou(swapped, swapped), vector["out/iou_bev_exact_swapped"], 1e-6),
        (bev_iou(boxes, boxes), vector["out/iou_bev_official"], OFFICIAL),
        (iou3d(boxes[:rows], boxes[rows : rows + columns]), matrix, OFFICIAL),
        (iou3d(boxes[:pairs], boxes[pairs : 2 * pairs], aligned=True), aligned, OFFICIAL),
    ):
        assert torch.isclose(ours, expected.double(), rtol=0, atol=tolerance).all()


HANDLERS = {"rotated_nms": check_rotated_nms}
