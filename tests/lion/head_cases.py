"""The four heads at a small size, maps for them, and boxes of three classes."""

import torch
from tiny_detector import NAMES

from visionseq.lion.heads import AnchorHeadSingle, CenterHead, SparseCenterHead, TransFusionHead
from visionseq.nn.sparse import SparseTensor

RANGE, VOXEL = [-8.0, -8.0, -3.0, 8.0, 8.0, 1.0], [0.5, 0.5, 0.125]
NUSCENES = [str(i) for i in range(10)]
BOXES = torch.tensor([
    [1.2, -3.4, -0.5, 4.0, 1.7, 1.5, 0.7, 1],
    [-5.1, 2.2, -0.8, 0.8, 0.6, 1.7, -2.9, 2],
    [4.4, 6.3, -0.7, 1.8, 0.6, 1.7, 3.1, 3],
])  # fmt: skip
ANCHORS = [{"size": size, "bottom": -1.6, "positive": 0.5, "negative": 0.35} for size in
           ([3.9, 1.6, 1.56], [0.8, 0.6, 1.73], [1.76, 0.6, 1.73])]  # fmt: skip
KINDS = ["center", "sparse", "transfusion", "anchor"]


def heads() -> dict:
    frame = (NAMES, RANGE, VOXEL)
    return {
        "center": CenterHead(6, *frame, shared_conv_channel=8, iou=True),
        "sparse": SparseCenterHead(6, *frame, class_names_each_head=[["Car"], ["Pedestrian", "Cyclist"]]),
        "transfusion": TransFusionHead(
            6, NUSCENES, RANGE, VOXEL, 8, 16, num_heads=2, ffn_channel=8, feature_map_stride=2
        ),
        "anchor": AnchorHeadSingle(6, *frame, ANCHORS),
    }


def features_for(name: str):
    if name == "sparse":
        indices = torch.cat([torch.full((2, 60, 1), 0), torch.randint(0, 32, (2, 60, 2))], 2)
        indices[1, :, 0] = 1
        indices = indices.flatten(0, 1).unique(dim=0)
        return SparseTensor(torch.randn(len(indices), 6), indices, (32, 32), 2)
    side = 16 if name == "transfusion" else 32
    return torch.randn(2, 6, side, side)


def boxes_for(name: str, *rows: torch.Tensor) -> torch.Tensor:
    boxes = torch.stack([row for row in rows])
    if name == "transfusion":
        boxes = torch.cat([boxes[..., :7], torch.ones(*boxes.shape[:2], 2), boxes[..., 7:]], -1)
        boxes[boxes[..., -1] == 0] = 0
    return boxes
