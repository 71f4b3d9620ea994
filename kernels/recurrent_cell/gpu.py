"""Recurrent networks in Triton: the host's side.

A program takes one head of 16 sequences through all tokens. The states of all tokens lie in memory, with the initial
ones behind the last token, and are what a program reads at the next token. Shapes: M rows, N segments, G gates, H
heads, D units, S states.
"""

import torch
import triton
from torch import Tensor
from torch.nn.functional import pad

from visionseq.errors import KernelError
from visionseq.kernels.recurrent_cell.gpu_backward import run_backward
from visionseq.kernels.recurrent_cell.gpu_forward import run_forward
from visionseq.kernels.recurrent_cell.layout import LARGEST_EXPONENT, LAYOUTS, NUMBERS

BATCH = 16  # sequences of a program
UNITS = 32  # that are computed together; ptxas spills a few bytes of blocks of 16


def forward(
    x_MGHD: Tensor,
    R_GHDE: Tensor,
    b_GHD: Tensor | None,
    initial_NSHD: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    cell: str,
    normalizer_floor: float | None,
    recurrent_cut: bool,
    recurrent_clipval: float | None,
    outputs_only: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """In float32: states [M, S, H, D] or [M, 1, H, D], the final ones [N, S, H, D], what is kept [M, K, H, D]."""
    # the states, those before the first tokens behind the rows, and the gates
    layout, (rows, _, heads, units) = LAYOUTS[cell], x_MGHD.shape
    segments = len(offsets) - 1
    states = x_MGHD.new_zeros((rows + segments, layout.states, heads, units), dtype=torch.float32)
    if initial_NSHD is not None:
        states[rows:] = initial_NSHD
    gates = x_MGHD.new_empty((rows, layout.gates if keep else 0, heads, units), dtype=torch.float32)

    # the loop over time
    if rows and heads and units:
        run_forward[(heads, triton.cdiv(segments, BATCH))](
            x_MGHD.contiguous(),
            R_GHDE.contiguous(),
            _biases(b_GHD, cell, R_GHDE),
            offsets,
            _long_first(offsets),
            states,
            gates,
            rows,
            segments,
            heads,
            units,
            *_limits(normalizer_floor),
            CELL=NUMBERS[cell],
            INPUTS=layout.inputs,
            STATES=layout.states,
            KEEP=keep,
            REVERSE=reverse,
            UNITS=UNITS,
            BATCH=BATCH,
        )

    # the last states of the segments; an empty one ends where it began
    ends = offsets[:-1] if reverse else offsets[1:] - 1
    behind = rows + torch.arange(segments, device=x_MGHD.device)
    final = states[torch.where(offsets.diff() > 0, ends, behind)]
    if outputs_only:
        kept = torch.cat([gates, states[:rows, 1:]], 1) if keep else gates
        return states[:rows, :1].clone(), final, kept
    return states[:rows].clone(), final, gates


def backward(
    d_states: Tensor | None,
    d_final: Tensor | None,
    d_kept: None,
    states: Tensor,
    final: Tensor,
    kept: Tensor,
    x_MGHD: Tensor,
    R_GHDE: Tensor,
    b_GHD: Tensor | None,
    initial_NSHD: Tensor | None,
    offsets: Tensor,
    reverse: bool,
    cell: str,
    normalizer_floor: float | None,
    recurrent_cut: bool,
    recurrent_clipval: float | None,
    outputs_only: bool,
    keep: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of x, R, b and the initial state."""
    layout, (rows, _, heads, units) = LAYOUTS[cell], x_MGHD.shape
    if not keep and layout.gates:
        raise KernelError("recurrent_cell: the forward ran without gradients, so that there is no backward")

    # all states, those before the first tokens behind the rows, and the adjoints of the last ones
    segments, gates = len(offsets) - 1, kept[:, : layout.gates].contiguous()
    if outputs_only:
        states = torch.cat([states, kept[:, layout.gates :]], 1)
        if d_states is not None:
            d_states = pad(d_states, (0, 0, 0, 0, 0, layout.states - 1))
    all_states = torch.cat([states, torch.zeros_like(final) if initial_NSHD is None else initial_NSHD])
    d_initial = torch.zeros_like(final) if d_final is None else d_final.float().clone()
    d_sums = states.new_empty((rows, layout.biases, heads, units))

    # the loop back over time
    if rows and heads and units:
        run_backward[(heads, triton.cdiv(segments, BATCH))](
            R_GHDE.contiguous(),
            offsets,
            _long_first(offsets),
            all_states,
            gates,
            None if d_states is None else d_states.contiguous(),
            d_sums,
            d_initial,
            rows,
            segments,
            heads,
            units,
            *_limits(normalizer_floor),
            float("inf") if recurrent_clipval is None else recurrent_clipval,
            HAS_D_STATES=d_states is not None,
            CELL=NUMBERS[cell],
            RECURRENT=layout.recurrent,
            BIASES=layout.biases,
            STATES=layout.states,
            CUT=recurrent_cut,
            REVERSE=reverse,
            UNITS=UNITS,
            BATCH=BATCH,
        )

    # the weights' gradient, one product over all rows
    y_before = all_states[_rows_before(offsets, rows, reverse), 0]
    d_R = torch.einsum("mghd,mhe->ghde", d_sums[:, : layout.recurrent], y_before)
    return (
        d_sums[:, layout.biases - layout.inputs :].to(x_MGHD.dtype, memory_format=torch.contiguous_format, copy=True),
        d_R.to(R_GHDE.dtype).contiguous(),
        None if b_GHD is None else d_sums.sum(0).to(b_GHD.dtype),
        None if initial_NSHD is None else d_initial,
    )


def _biases(b_GHD: Tensor | None, cell: str, R_GHDE: Tensor) -> Tensor:
    heads, units = R_GHDE.shape[1:3]
    return R_GHDE.new_zeros(LAYOUTS[cell].biases, heads, units) if b_GHD is None else b_GHD.contiguous()


def _limits(normalizer_floor: float | None) -> tuple[float, float]:
    """The floor of n and the largest exponent of F."""
    return (float("-inf"), 0.0) if normalizer_floor is None else (normalizer_floor, LARGEST_EXPONENT)


def _long_first(offsets: Tensor) -> Tensor:
    return torch.argsort(offsets.diff(), descending=True, stable=True)


def _rows_before(offsets: Tensor, rows: int, reverse: bool) -> Tensor:
    """For each row that of the token before it; rows + n for the first token of segment n."""
    row = torch.arange(rows, device=offsets.device)
    segment = torch.searchsorted(offsets, row, right=True) - 1
    first = row == (offsets[segment + 1] - 1 if reverse else offsets[segment])
    return torch.where(first, rows + segment, row + (1 if reverse else -1))
