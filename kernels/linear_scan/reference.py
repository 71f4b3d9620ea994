"""The linear recurrence h_t = a_t * h_{t-1} + b_t, as it is defined.

Shapes: B sequences, T tokens, S any further axes; a [B, T, *S'] with S' broadcast to S.
"""

import torch
from torch import Tensor


def linear_scan(a: Tensor, b: Tensor, state: Tensor, exclusive: bool) -> tuple[Tensor, Tensor]:
    """a [B, T, *S'] and b [B, T, *S], state [B, *S] -> (h [B, T, *S], final state).

    h_t = a_t * h_{t-1} + b_t; `exclusive` returns h_{t-1} in place of h_t.
    """
    outputs = []
    for a_t, b_t in zip(a.unbind(1), b.unbind(1), strict=True):
        before = state
        state = a_t * state + b_t
        outputs.append(before if exclusive else state)
    return (torch.stack(outputs, 1) if outputs else b), state
