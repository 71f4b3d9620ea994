"""TTT-Linear, as it is defined: a linear map trained on the sequence itself, by gradient descent in mini-batches.

Shapes: B sequences, T tokens, H heads, K channels; the fast weights are W [B, H, K, K] and b [B, H, K].
"""

import torch
from torch import Tensor

State = tuple[Tensor, Tensor]


def ttt_linear(
    q_BTHK: Tensor,
    k_BTHK: Tensor,
    v_BTHK: Tensor,
    eta_row_BTH: Tensor,
    eta_col_BTH: Tensor,
    state: State,
    norm_weight_HK: Tensor,
    norm_bias_HK: Tensor,
    mini_batch_size: int,
    eps: float,
) -> tuple[Tensor, State]:
    """Token t of a mini-batch that begins with the weights W, b:

    W_t = W - row_t sum_{s<=t} col_s k_s grad_s^T,  b_t = b - row_t sum_{s<=t} col_s grad_s,  o_t = q_t W_t + b_t,

    with grad_s of `inner_gradient` at W, b. The next mini-batch begins with the weights of the last token.
    """
    outputs = []
    tokens = (tensor.unbind(1) for tensor in (q_BTHK, k_BTHK, v_BTHK, eta_row_BTH, eta_col_BTH))
    weights = start = sums = state
    for i, (q, k, v, row, col) in enumerate(zip(*tokens, strict=True)):
        if i % mini_batch_size == 0:
            start, sums = weights, (torch.zeros_like(weights[0]), torch.zeros_like(weights[1]))
        o, weights, sums = token(q, k, v, row, col, start, sums, norm_weight_HK, norm_bias_HK, eps)
        outputs.append(o)
    return (torch.stack(outputs, 1) if outputs else v_BTHK), weights


def token(
    q_BHK: Tensor,
    k_BHK: Tensor,
    v_BHK: Tensor,
    row_BH: Tensor,
    col_BH: Tensor,
    start: State,
    sums: State,
    norm_weight_HK: Tensor,
    norm_bias_HK: Tensor,
    eps: float,
) -> tuple[Tensor, State, State]:
    """One token, given the weights at the start of its mini-batch and its sums of gradients: (o, weights, sums)."""
    grad_BHK = col_BH.unsqueeze(-1) * inner_gradient(k_BHK, v_BHK, *start, norm_weight_HK, norm_bias_HK, eps)
    sums = (sums[0] + k_BHK.unsqueeze(-1) * grad_BHK.unsqueeze(-2), sums[1] + grad_BHK)
    weights = (start[0] - row_BH[..., None, None] * sums[0], start[1] - row_BH[..., None] * sums[1])
    return _apply(q_BHK, *weights), weights, sums


def inner_gradient(
    k_BHK: Tensor,
    v_BHK: Tensor,
    W_BHKK: Tensor,
    b_BHK: Tensor,
    norm_weight_HK: Tensor,
    norm_bias_HK: Tensor,
    eps: float,
) -> Tensor:
    """Gradient by z = k W + b of 1/2 |LN(z) - (v - k)|^2, LN over the channels with weight and bias."""
    z_BHK = _apply(k_BHK, W_BHKK, b_BHK)
    centred = z_BHK - z_BHK.mean(-1, keepdim=True)
    std = (centred.square().mean(-1, keepdim=True) + eps).sqrt()
    unit = centred / std
    error = norm_weight_HK * unit + norm_bias_HK - (v_BHK - k_BHK)
    by_unit = norm_weight_HK * error
    return (by_unit - by_unit.mean(-1, keepdim=True) - unit * (by_unit * unit).mean(-1, keepdim=True)) / std


def _apply(x_BHK: Tensor, W_BHKK: Tensor, b_BHK: Tensor) -> Tensor:
    return (x_BHK.unsqueeze(-2) @ W_BHKK).squeeze(-2) + b_BHK
