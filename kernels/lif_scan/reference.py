"""Leaky integrate-and-fire neurons with a delayed reset, as they are defined.

Shapes: B sequences, T tokens, C channels, P any further axes. Membrane v, spike z, threshold th, w = 1 or 1 - leak:

    hard reset   v_t = leak v_{t-1} (1 - z_{t-1}) + w x_t
    soft reset   v_t = leak v_{t-1} + w x_t - th_{t-1} z_{t-1}
    spike        z_t = 1[v_t > th_t], with a surrogate derivative

The threshold is fixed for each channel, or given for each token, or adaptive with a trace a of the spikes:
a_t = leak_a a_{t-1} + (1 - leak_a) z_{t-1}, th_t = th + scale a_t. The state is (v, z), (v, z, th) or (v, z, a).
"""

import torch
from torch import Tensor

from visionseq.kernels.lif_scan.surrogates import Spike


def lif_scan(
    x_BTCP: Tensor,
    threshold_BTCP: Tensor | None,
    state_SBCP: Tensor,
    leak_CP: Tensor,
    threshold_CP: Tensor | None,
    adaptive_CP: tuple[Tensor, Tensor] | None,
    reset: str,
    input_scale: str,
    surrogate: str,
    width: float,
    detach_reset: bool,
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Spikes and membranes [B, T, C, *P], and the final state [S, B, C, *P]; one of the two thresholds is given.

    The parameters of the channels are [C, 1, ...], with as many axes as x has after T.
    """
    v, z, *third = state_SBCP.unbind(0)
    scale = 1 - leak_CP if input_scale == "one_minus_leak" else 1.0
    thresholds = [None] * x_BTCP.shape[1] if threshold_BTCP is None else threshold_BTCP.unbind(1)
    threshold = threshold_of(third, threshold_CP, adaptive_CP)
    spikes, membranes = [], []
    for x, token_threshold in zip(x_BTCP.unbind(1), thresholds, strict=True):
        z_reset = z.detach() if detach_reset else z
        if reset == "hard":
            v = leak_CP * v * (1 - z_reset) + scale * x
        else:
            v = leak_CP * v + scale * x - threshold * z_reset
        if adaptive_CP is not None:
            leak_trace = adaptive_CP[0]
            third = [leak_trace * third[0] + (1 - leak_trace) * z]
        elif token_threshold is not None:
            third = [token_threshold]
        threshold = threshold_of(third, threshold_CP, adaptive_CP)
        z = Spike.apply(v - threshold, surrogate, width)
        spikes.append(z)
        membranes.append(v)
    outputs = (torch.stack(spikes, 1), torch.stack(membranes, 1)) if spikes else (x_BTCP, x_BTCP)
    return outputs, torch.stack([v, z, *third])


def threshold_of(third: list[Tensor], threshold_CP: Tensor | None, adaptive_CP: tuple[Tensor, Tensor] | None) -> Tensor:
    """The threshold that belongs to a state: fixed, that of the last token, or that of the trace."""
    if adaptive_CP is not None:
        assert threshold_CP is not None  # it is what the trace adds to
        return threshold_CP + adaptive_CP[1] * third[0]
    return third[0] if threshold_CP is None else threshold_CP
