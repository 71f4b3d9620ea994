"""What must not be computed in half precision: decays, gates before exponentials, norms, losses, places on a map."""

import torch
from torch import Tensor


def at_least_float32(x: Tensor) -> Tensor:
    """float32 and float64 as they are, everything else as float32."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()
