"""Tokens of TTT arranged so that a pass may begin and end anywhere in a mini-batch.

The gradients of a mini-batch are all taken at the fast weights with which it began. So what is carried from one pass to
the next is those weights and the tokens since: the next pass reads these again, in front of its own. A closing token,
whose learning rate is zero, follows each sequence: with it the operator's final weights are those that the running
mini-batch began with.

Shapes: B sequences, T tokens, D channels, M tokens of a mini-batch, N states, S arranged sequences.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from visionseq.kernels.segments import row_offsets
from visionseq.nn.mixers.mixer import state_type
from visionseq.nn.mixers.packing import segment_of_token


@state_type
class TTTState(NamedTuple):
    """Fast weights at the start of the running mini-batch, W [N, H, K, K] and b [N, H, K]; its tokens so far
    [N, M-1, D], zero from their number [N] on.
    """

    W: Tensor
    b: Tensor
    tokens: Tensor
    count: Tensor  # type: ignore[assignment]  # takes the place of the method `tuple.count`


@dataclass
class ArrangedTokens:
    """Each sequence with its carried tokens in front and a closing token behind.

    Attributes:
        x_BTD: the tokens to run over; packed where `cu_seqlens` is given.
        cu_seqlens: offsets [S+1], or None for a batch. There may be one more sequence, of zeros, behind the given ones.
        is_closing_T: which tokens close a sequence.
        rows: where the given tokens stand in the packed row, or None where they are the first of a batch.
        shape: of the given tokens, (B, T).
        carried, carried_count: for the next pass, as in `TTTState`.
    """

    x_BTD: Tensor
    cu_seqlens: Tensor | None
    is_closing_T: Tensor
    rows: Tensor | None
    shape: tuple[int, int]
    carried: Tensor
    carried_count: Tensor

    @property
    def sequences(self) -> int:
        """S."""
        return self.x_BTD.shape[0] if self.cu_seqlens is None else self.cu_seqlens.shape[0] - 1

    def original(self, y: Tensor) -> Tensor:
        """Results of the given tokens, [B, T, ...], among those of the arranged ones."""
        if self.rows is None:
            return y[:, : self.shape[1]]
        return y[0].index_select(0, self.rows).unflatten(0, self.shape)


def arrange(x_BTD: Tensor, state: TTTState | None, cu_seqlens: Tensor | None, mini_batch: int) -> ArrangedTokens:
    """Arrange the tokens of a batch, or of packed sequences, behind those that the state carries."""
    if state is None and cu_seqlens is None:
        return _arrange_batch(x_BTD, mini_batch)
    return _arrange_packed(x_BTD, state, row_offsets(x_BTD, cu_seqlens), mini_batch)


def _arrange_batch(x_BTD: Tensor, mini_batch: int) -> ArrangedTokens:
    batch, length, _ = x_BTD.shape
    rest = length % mini_batch
    return ArrangedTokens(
        x_BTD=F.pad(x_BTD, (0, 0, 0, 1)),
        cu_seqlens=None,
        is_closing_T=torch.arange(length + 1, device=x_BTD.device) == length,
        rows=None,
        shape=(batch, length),
        carried=F.pad(x_BTD[:, length - rest :], (0, 0, 0, mini_batch - 1 - rest)),
        carried_count=torch.full((batch,), rest, device=x_BTD.device),
    )


def _arrange_packed(x_BTD: Tensor, state: TTTState | None, offsets: Tensor, mini_batch: int) -> ArrangedTokens:
    """The row's length is independent of the carried counts: places that stay free become a last sequence of zeros."""
    # the sequences of the new row: carried tokens, given tokens, a closing token
    (batch, length, dim), count, device = x_BTD.shape, offsets.shape[0] - 1, x_BTD.device
    room = 0 if state is None else mini_batch - 1  # for carried tokens, of each sequence
    sizes = offsets.diff()
    fronts = torch.zeros_like(sizes) if state is None else state.count
    total = batch * length + count * (1 + room)
    stops = torch.cumsum(fronts + sizes + 1, 0)
    arranged = torch.cat([stops.new_zeros(1), stops, stops.new_full((1,), total)])

    # the source of each place: the carried tokens, the given ones, or the zero behind both
    segment, place = segment_of_token(arranged, total), torch.arange(total, device=device)
    front, size = (F.pad(lengths, (0, 1))[segment] for lengths in (fronts, sizes))
    place = place - arranged[segment]  # in its sequence: carried tokens, given tokens, closing token
    nothing = count * room + batch * length
    source = torch.where(place < front + size, count * room + offsets[segment] + place - front, nothing)
    source = torch.where(place < front, segment * room + place, source)
    carried = x_BTD.new_zeros(0, dim) if state is None else state.tokens.reshape(count * room, dim).to(x_BTD.dtype)
    row_TD = torch.cat([carried, x_BTD.reshape(-1, dim), x_BTD.new_zeros(1, dim)])[source]

    # where the outputs of the given tokens are, and the tokens of mini-batches that are not complete
    sequence = segment_of_token(offsets, batch * length)
    rows = arranged[sequence] + fronts[sequence] + torch.arange(batch * length, device=device) - offsets[sequence]
    rest = (fronts + sizes) % mini_batch
    slot = torch.arange(mini_batch - 1, device=device)
    last = (stops - 1 - rest).unsqueeze(1) + slot
    unused = slot >= rest.unsqueeze(1)
    return ArrangedTokens(
        x_BTD=row_TD.unsqueeze(0),
        cu_seqlens=arranged,
        is_closing_T=place == front + size,
        rows=rows,
        shape=(batch, length),
        carried=row_TD[last.masked_fill(unused, 0)].masked_fill(unused.unsqueeze(-1), 0),
        carried_count=rest,
    )
