"""Tensors handed to numba without copies: contiguous float32 arrays that share the tensor's memory."""

import numpy as np
from torch import Tensor


def array(tensor: Tensor) -> np.ndarray:
    """The tensor as a C-contiguous float32 array; half precision and odd strides are copied, the rest is shared."""
    return tensor.detach().float().contiguous().numpy()


def optional_array(tensor: Tensor | None, axes: int) -> np.ndarray:
    """As `array`; an absent tensor becomes an empty array of as many axes, which a kernel recognises by its size."""
    return np.empty((0,) * axes, np.float32) if tensor is None else array(tensor)
