"""ttt_linear against golden files of flash-linear-attention's form, which puts a norm and a residual around it."""

import torch
from golden_vector import GoldenVector
from torch import Tensor
from torch.nn.functional import layer_norm

from kernels_handlers.compare import check_operator, options_of
from visionseq.kernels.ttt_linear import ttt_linear

ARGUMENTS = {name: name for name in ("q", "k", "v", "eta", "w", "b", "initial_state", "initial_state_bias")}


def check_fla(vector: GoldenVector) -> None:
    options = {"scale": vector["in/q"].shape[-1] ** -0.5, "eps": 1e-6, **options_of(vector, normed)}
    options |= options_of(vector, ttt_linear)
    check_operator(vector, normed, ARGUMENTS, ["o", "final_state", "final_bias"], **options)


def normed(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    eta: Tensor,
    w: Tensor,
    b: Tensor,
    initial_state: Tensor | None = None,
    initial_state_bias: Tensor | None = None,
    *,
    scale: float,
    eps: float,
    **options,
) -> tuple[Tensor, Tensor, Tensor]:
    """o + LN(o), with learning rates of the reading token [B, T, H, 1], scaled queries and a state in two parts."""
    state = None if initial_state is None else (initial_state, initial_state_bias.squeeze(2))
    rows = eta.squeeze(-1)
    arguments = (scale * q, k, v, rows, torch.ones_like(rows), w, b)
    o, (weights, bias) = ttt_linear(*arguments, eps=eps, initial_state=state, **options)
    return o + layer_norm(o, o.shape[-1:], eps=eps) * w + b, weights, bias.unsqueeze(2)


HANDLERS = {"delta_rule_ttt": check_fla}
