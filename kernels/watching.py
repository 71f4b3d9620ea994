"""Whether anybody besides autograd watches a call: a compiler, a tracer, a mode of the dispatcher, a class of tensors.

Where nobody does, a call may go straight to its implementation, and small constants may be kept between calls.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn


def is_unwatched(values: Iterable[Any]) -> bool:
    """Whether plain tensors are computed with here and now."""
    if torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() or torch.jit.is_tracing():
        return False
    for value in values:
        if isinstance(value, Tensor) and type(value) is not Tensor and type(value) is not nn.Parameter:
            return False
    return True
