"""The labelled boxes in the width that a head learns from."""

import torch
from torch import Tensor

from visionseq.errors import ConfigError

PLAIN, MOVING = 8, 10  # values of a box and its class, without and with velocity


def boxes_to_learn(gt_boxes: Tensor, velocity: bool) -> Tensor:
    """Boxes [B, M, 8 or 10] as [B, M, 10] for a head that predicts velocity, else as [B, M, 8] without it.

    `ConfigError` for another width, and where a head needs a velocity that the data set does not have.
    """
    values = gt_boxes.shape[-1]
    if values not in (PLAIN, MOVING):
        raise ConfigError(f"gt_boxes {list(gt_boxes.shape)}, expected [B, M, 8], or [B, M, 10] with velocity")
    if velocity and values == PLAIN:
        raise ConfigError("dense_head: it predicts velocity, but the boxes of the data set have none")
    if not velocity and values == MOVING:
        return torch.cat([gt_boxes[..., :7], gt_boxes[..., -1:]], -1)
    return gt_boxes
