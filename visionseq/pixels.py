"""The step from float images to 8 bits, the same for pictures, reflow pairs and scores."""

import torch
from torch import Tensor


def to_uint8(images: Tensor) -> Tensor:
    """8-bit images from floats in [-1, 1]: floor(127.5 x + 128), cut to 0..255; uint8 passes unchanged.

    This is the rule of EDM (arXiv 2206.00364): the nearest level, and of two equally near ones the upper.
    """
    if images.dtype == torch.uint8:
        return images
    if images.dtype != torch.float64:
        images = images.float()
    return (images * 127.5 + 128).clamp(0, 255).to(torch.uint8)
