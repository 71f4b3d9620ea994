"""The four detection heads of LION's detectors, all with the same interface.

    predictions = head(features)                       # during training and evaluation
    losses = head.losses(predictions, gt_boxes_BMX)    # dict of scalars, "loss" is their weighted sum
    boxes = head.detections(predictions)               # one `Detections` for each sample

`gt_boxes` float32 [B, M, 8 or 10]: a box, then the class from 1; rows of zeros are padding.
"""

from visionseq.lion.heads.anchor import AnchorHeadSingle
from visionseq.lion.heads.center import CenterHead
from visionseq.lion.heads.sparse_center import SparseCenterHead
from visionseq.lion.heads.transfusion import TransFusionHead

__all__ = ["AnchorHeadSingle", "CenterHead", "SparseCenterHead", "TransFusionHead"]
