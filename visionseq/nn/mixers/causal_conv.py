"""Tokens that came before: the causal depthwise convolution and the token shift, packed and streaming.

The history of a sequence is its last W-1 tokens, oldest first in the order of reading; before the first token it is
zero. Mamba, xLSTM and the delta rules convolve, y_t = b + sum_j w_j x_{t-j}; the RWKVs look one token back.

Shapes: B sequences, T tokens, D channels, W taps, N histories.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from visionseq.nn.mixers.packing import segment_of_token


class CausalConv(nn.Conv1d):
    """Depthwise convolution over a token and the `width` - 1 before it; parameters as in `nn.Conv1d`."""

    def __init__(self, dim: int, width: int = 4, bias: bool = True):
        super().__init__(dim, dim, width, groups=dim, bias=bias)

    def forward(  # type: ignore[override]  # takes a history too, and returns the one to go on with
        self, x_BTD: Tensor, history: Tensor | None = None, cu_seqlens: Tensor | None = None, reverse: bool = False
    ) -> tuple[Tensor, Tensor]:
        """The convolved tokens [B, T, D] and the history [N, W-1, D] to go on with."""
        width = self.weight.shape[-1]
        if cu_seqlens is not None or x_BTD.shape[1] == 0:
            lags, history = lagged_tokens(x_BTD, width - 1, history, cu_seqlens, reverse)
            taps_WD = self.weight[:, 0].t().flip(0)
            y = self._offset() + lags[0] * taps_WD[0]
            for lag, tap in zip(lags[1:], taps_WD[1:], strict=True):
                y = y + lag * tap
            return y.to(x_BTD.dtype), history
        padded, history = _with_history(x_BTD, width - 1, history, reverse)
        weight = self.weight.flip(-1) if reverse else self.weight
        y_BDT = F.conv1d(padded.transpose(1, 2), weight, self.bias, groups=weight.shape[0])
        return y_BDT.transpose(1, 2), history

    def step(self, x_BD: Tensor, history: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """One token of each sequence."""
        history = no_history(x_BD.unsqueeze(1), self.weight.shape[-1] - 1) if history is None else history
        window_BWD = torch.cat([history, x_BD.unsqueeze(1)], 1)
        y = (window_BWD * self.weight[:, 0].t()).sum(1) + self._offset()
        return y.to(x_BD.dtype), window_BWD[:, 1:].clone()  # a view would keep the window

    def _offset(self) -> Tensor | float:
        return 0.0 if self.bias is None else self.bias


def previous_token(
    x_BTD: Tensor, history: Tensor | None = None, cu_seqlens: Tensor | None = None, reverse: bool = False
) -> tuple[Tensor, Tensor]:
    """For each token the one before it, zero before the first, and the history [N, 1, D] to go on with."""
    (_, previous), history = lagged_tokens(x_BTD, 1, history, cu_seqlens, reverse)
    return previous, history


def lagged_tokens(
    x_BTD: Tensor, past: int, history: Tensor | None, cu_seqlens: Tensor | None, reverse: bool
) -> tuple[list[Tensor], Tensor]:
    """x_t, x_{t-1}, ..., x_{t-past}, each [B, T, D], and the history [N, past, D] after the last token."""
    if cu_seqlens is not None:
        return _lagged_packed(x_BTD, past, history, cu_seqlens, reverse)
    padded, after = _with_history(x_BTD, past, history, reverse)
    length = x_BTD.shape[1]
    starts = range(past + 1) if reverse else range(past, -1, -1)
    return [padded[:, start : start + length] for start in starts], after


def no_history(x_BTD: Tensor, past: int, cu_seqlens: Tensor | None = None) -> Tensor:
    """The history before the first token."""
    count = x_BTD.shape[0] if cu_seqlens is None else len(cu_seqlens) - 1
    return x_BTD.new_zeros(count, past, x_BTD.shape[2])


def _with_history(x_BTD: Tensor, past: int, history: Tensor | None, reverse: bool) -> tuple[Tensor, Tensor]:
    """The tokens with `past` others on the side that is read first, and the history after the last."""
    history = no_history(x_BTD, past) if history is None else history.to(x_BTD.dtype)
    if reverse:
        padded = torch.cat([x_BTD, history.flip(1)], 1)
        return padded, padded[:, :past].flip(1)
    padded = torch.cat([history, x_BTD], 1)
    return padded, padded[:, x_BTD.shape[1] :].clone()  # a view would keep all tokens alive


def _lagged_packed(
    x_BTD: Tensor, past: int, history: Tensor | None, cu_seqlens: Tensor, reverse: bool
) -> tuple[list[Tensor], Tensor]:
    """Gathers from the rows [all histories; all tokens]; a token's position counts in the order of reading."""
    count, (_, length, dim), device = len(cu_seqlens) - 1, x_BTD.shape, x_BTD.device
    history = no_history(x_BTD, past, cu_seqlens) if history is None else history.to(x_BTD.dtype)
    rows = torch.cat([history.reshape(count * past, dim), x_BTD[0]])
    offsets = cu_seqlens.to(device=device, dtype=torch.int64)
    start, stop = offsets[:-1], offsets[1:]

    def row(segment: Tensor, position: Tensor) -> Tensor:
        token = stop[segment] - 1 - position if reverse else start[segment] + position
        return torch.where(position >= 0, count * past + token, (segment + 1) * past + position)

    segment, tokens = segment_of_token(offsets, length), torch.arange(length, device=device)
    position = stop[segment] - 1 - tokens if reverse else tokens - start[segment]
    lags = [rows[row(segment, position - lag)].unsqueeze(0) for lag in range(past + 1)]
    segments = torch.arange(count, device=device).unsqueeze(1)
    last = (stop - start).unsqueeze(1) - past + torch.arange(past, device=device)
    return lags, rows[row(segments, last)]
