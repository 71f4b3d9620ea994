"""Recurrent networks: Elman, LSTM, GRU and sLSTM with recurrent weights that are block-diagonal over heads."""

from functools import partial

import torch
from torch import Tensor

from visionseq.errors import KernelArgumentError
from visionseq.kernels.autocast import without_autocast
from visionseq.kernels.checks import check_choice, check_rank, check_shape, check_tensors, state_dtype
from visionseq.kernels.recurrent_cell import reference
from visionseq.kernels.recurrent_cell.layout import LAYOUTS
from visionseq.kernels.recurrent_cell.registration import operator
from visionseq.kernels.segments import check_cu_seqlens, count_segments, row_offsets, run_segments
from visionseq.kernels.serving import serving_backend


@without_autocast
def recurrent_cell(
    x: Tensor,
    R: Tensor,
    b: Tensor | None = None,
    *,
    cell: str,
    normalizer_floor: float | None = 1.0,
    gradient_recurrent_cut: bool = False,
    gradient_recurrent_clipval: float | None = None,
    outputs_only: bool = False,
    initial_state: Tensor | None = None,
    reverse: bool = False,
    cu_seqlens: Tensor | None = None,
    backend: str = "auto",
) -> tuple[Tensor, Tensor]:
    """A recurrent network over pre-activations x = W u; with (R y)_g = R_g y_{t-1} in each head, the cells are

        elman (g)           y = tanh(x + R y + b)
        lstm (i, f, z, o)   c = sig(f) c + sig(i) tanh(z);  y = sig(o) tanh(c), each gate being x + R y + b
        gru (r, z, n)       r, z = sig(x + R y + b);  y = z y + (1 - z) tanh(x_n + b_n + r * (R_g y + b_g))
        slstm (i, f, z, o)  m' = max(i, m + logsig(f)), i where n = 0;  I = exp(i - m');  F = exp(m + logsig(f) - m')
                            c = F c + I tanh(z);  n = max(F n + I, normalizer_floor);  y = sig(o) c / n

    Args:
        x: [B, T, G, H, D] with the gates in the order above (1, 4, 3 and 4 of them).
        R: recurrent weights [G, H, D, D], from the last axis to the one before; those of gru are (R_g, R_r, R_z).
        b: biases [G, H, D]; those of gru are (b_g, b_r, b_z, b_n). Zero if not given.
        cell: "elman", "lstm", "gru" or "slstm".
        normalizer_floor: smallest n of slstm, 1 as in FlashRNN; None for no floor, with exp(...) <= 1 as in xlstm.
        gradient_recurrent_cut: no gradient passes through R y_{t-1} to y_{t-1}; R still has its own.
        gradient_recurrent_clipval: the gradient that reaches y_{t-1} through R is clipped to this absolute value.
        outputs_only: return y [B, T, H, D] in place of all states.
        initial_state: [N, S, H, D], zero if not given: elman, gru (y), lstm (y, c), slstm (y, c, n, m); N is B, or the
            number of packed segments.
        reverse: run from the last token to the first, within each segment.
        cu_seqlens: offsets [N+1] of sequences packed in a batch of 1.
        backend: "auto", "reference", "cpu" or "triton".

    Returns:
        states [B, T, S, H, D] in the dtype of x, and the last one [N, S, H, D] in float32 (float64 where x is).

    Raises:
        KernelArgumentError: an argument has a wrong shape, dtype or value.
        KernelError: the backend cannot serve.

    Source: FlashRNN, arXiv 2412.07752; sLSTM from xLSTM, arXiv 2405.04517.
    """
    # the arguments
    _check(x, R, b, initial_state, cell, cu_seqlens)
    chosen = serving_backend("recurrent_cell", x, backend, x.shape[1] if cu_seqlens is None else None)

    # the definition
    if chosen == "reference":
        R_GHDE, b_GHD = _weights(x, R, b, cell)
        loop = partial(
            reference.recurrent_cell,
            R_GHDE=R_GHDE,
            b_GHD=b_GHD,
            cell=cell,
            normalizer_floor=normalizer_floor,
            gradient_recurrent_cut=gradient_recurrent_cut,
            gradient_recurrent_clipval=gradient_recurrent_clipval,
        )
        state = _initial_state(x, initial_state, cell, count_segments(x.shape[0], cu_seqlens))
        states, final_state = run_segments(loop, (x.to(state.dtype),), state, reverse, cu_seqlens)
        if outputs_only:
            states = states[:, :, 0].contiguous()
    else:
        # the kernels, on the rows of all sequences
        states, final_state, _ = operator(
            x.flatten(0, 1),
            R,
            b,
            None if initial_state is None else initial_state.float(),
            row_offsets(x, cu_seqlens),
            reverse,
            cell,
            normalizer_floor,
            gradient_recurrent_cut,
            gradient_recurrent_clipval,
            outputs_only,
            torch.is_grad_enabled(),
            chosen,
        )
        states = states.view(*x.shape[:2], *(() if outputs_only else states.shape[1:2]), *x.shape[3:])
    return states.to(x.dtype), final_state


@without_autocast
def recurrent_cell_step(
    x: Tensor,
    R: Tensor,
    b: Tensor | None,
    state: Tensor,
    *,
    cell: str,
    normalizer_floor: float | None = 1.0,
    outputs_only: bool = False,
) -> tuple[Tensor, Tensor]:
    """One token of `recurrent_cell`: x [B, G, H, D], state [B, S, H, D] -> (that as output, or y, and the state)."""
    R_GHDE, b_GHD = _weights(x, R, b, cell)
    Ry_BGHD = torch.einsum("ghde,bhe->bghd", R_GHDE, state[:, 0])
    new = reference.update(x.to(state.dtype), Ry_BGHD, b_GHD, state, cell, normalizer_floor)
    state = torch.stack(new, 1)
    return (state[:, 0] if outputs_only else state).to(x.dtype), state


def _weights(x: Tensor, R: Tensor, b: Tensor | None, cell: str) -> tuple[Tensor, Tensor]:
    """R [G, H, D, D] and b [G, H, D] in the dtype of the states, zero where there is no b."""
    dtype = state_dtype(x)
    zeros = x.new_zeros(LAYOUTS[cell].biases, *x.shape[-2:], dtype=dtype)
    return R.to(dtype), zeros if b is None else b.to(dtype)


def _initial_state(x: Tensor, initial_state: Tensor | None, cell: str, segments: int) -> Tensor:
    if initial_state is not None:
        return initial_state.to(state_dtype(x))
    return x.new_zeros(segments, LAYOUTS[cell].states, *x.shape[3:], dtype=state_dtype(x))


def _check(
    x: Tensor, R: Tensor, b: Tensor | None, initial_state: Tensor | None, cell: str, cu_seqlens: Tensor | None
) -> None:
    check_choice("cell", cell, list(LAYOUTS))
    layout = LAYOUTS[cell]
    check_tensors(x=x, R=R, b=b, initial_state=initial_state)
    check_rank("x", x, "B,T,G,H,D")
    batch, length, gates, heads, units = x.shape
    if gates != layout.inputs:
        expected = [batch, length, layout.inputs, heads, units]
        raise KernelArgumentError(f"x: expected {expected}, got {list(x.shape)}")
    check_shape("R", R, (layout.recurrent, heads, units, units))
    if b is not None:
        check_shape("b", b, (layout.biases, heads, units))
    check_cu_seqlens(x, cu_seqlens)
    if initial_state is not None:
        check_shape("initial_state", initial_state, (count_segments(batch, cu_seqlens), layout.states, heads, units))


__all__ = ["recurrent_cell", "recurrent_cell_step"]
