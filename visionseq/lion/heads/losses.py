"""Losses that the heads share."""

import torch
import torch.nn.functional as F
from torch import Tensor

CLAMP = 1e-4  # least distance of the heat from 0 and 1


def heatmap_loss(logits: Tensor, target: Tensor, eps: float = 0.0) -> Tensor:
    """Gaussian focal loss (arXiv 1808.01244) over all cells, divided by the number of cells whose target is 1."""
    p = logits.sigmoid().clamp(CLAMP, 1 - CLAMP)
    positive = (target == 1).to(p.dtype)
    at_centres = (p + eps).log() * (1 - p).square() * positive
    elsewhere = (1 - p + eps).log() * p.square() * (1 - target).pow(4) * (1 - positive)
    return -(at_centres.sum() + elsewhere.sum()) / positive.sum().clamp(min=1)


def masked_l1(predicted_BKD: Tensor, target_BKD: Tensor, mask_BK: Tensor) -> Tensor:
    """[D]: the absolute error of each code over the masked slots, divided by their number; NaN targets are left out."""
    known = ~target_BKD.isnan() & mask_BK.bool().unsqueeze(-1)
    error = (predicted_BKD - torch.where(known, target_BKD, predicted_BKD.detach())).abs() * known
    return error.flatten(0, 1).sum(0) / mask_BK.sum().clamp(min=1)


def sigmoid_focal(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss of each element (arXiv 1708.02002), `target` 0 or 1."""
    p = logits.sigmoid()
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    missing = target * (1 - p) + (1 - target) * p
    return (target * alpha + (1 - target) * (1 - alpha)) * missing.pow(gamma) * entropy
