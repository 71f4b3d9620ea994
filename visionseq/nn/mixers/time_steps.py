"""Initial time steps of Mamba (arXiv 2312.00752) and of the decays that follow it."""

import math

import torch
from torch import nn

SMALLEST, LARGEST, FLOOR = 1e-3, 1e-1, 1e-4


def init_time_step_bias(bias: nn.Parameter) -> None:
    """Set the bias before a softplus so that the time steps start log-uniform between `SMALLEST` and `LARGEST`."""
    dt = torch.empty_like(bias, dtype=torch.float32).uniform_(math.log(SMALLEST), math.log(LARGEST)).exp()
    dt = dt.clamp(min=FLOOR)
    with torch.no_grad():
        bias.copy_(dt + torch.log(-torch.expm1(-dt)))  # the inverse of softplus
