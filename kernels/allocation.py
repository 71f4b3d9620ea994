"""Memory for the results of the CPU kernels, in huge pages where the system grants them.

The first touch of a page is a call into the operating system: for results of 100 MB in pages of 4 KB that takes as long
as a scan does. numpy asks for pages of 2 MB (`madvise`), torch does not.
"""

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from torch import Tensor

LARGE = 1 << 22  # bytes from which numpy asks for huge pages
ALIGNMENT = 64  # bytes, of torch's own memory and of vector registers


def empty(shape: Sequence[int]) -> Tensor:
    """A float32 tensor of any content."""
    size = prod(shape)
    if 4 * size < LARGE:
        return torch.empty(tuple(shape))
    memory = np.empty(size + ALIGNMENT // 4, np.float32)
    start = -memory.ctypes.data % ALIGNMENT // 4
    return torch.from_numpy(memory[start : start + size]).view(tuple(shape))
