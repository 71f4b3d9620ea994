"""Tensors handed to numba without copies: contiguous float32 arrays that share the tensor's memory."""

import numpy as np
import torch
from torch import Tensor


def array(tensor: Tensor) -> np.ndarray:
    """The tensor as a C-contiguous float32 array; half precision and odd strides are copied, the rest is shared.

    What a kernel writes to has to be made contiguous and float32 beforehand, or it would fill a hidden copy.
    """
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.dtype != torch.float32:
        tensor = tensor.float()
    return tensor.contiguous().numpy()


def optional_array(tensor: Tensor | None, axes: int) -> np.ndarray:
    """As `array`; an absent tensor becomes an empty array of as many axes, which a kernel recognises by its size."""
    return np.empty((0,) * axes, np.float32) if tensor is None else array(tensor)
