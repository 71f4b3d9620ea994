"""Recurrent networks on the CPU: the host's side of the loops over time.

A head of up to 16 sequences is an item, so that the recurrent weights are read once for all of them. The forward leaves
the gates to the backward, and where only the outputs are returned the other states behind them.

Shapes: M rows, N segments, G gates, H heads, D units, S states, K kept.
"""

from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from visionseq.errors import KernelError
from visionseq.kernels.allocation import empty
from visionseq.kernels.hand_over import array, optional_array
from visionseq.kernels.recurrent_cell.backward_loop import run_backward
from visionseq.kernels.recurrent_cell.forward_loop import run_forward
from visionseq.kernels.recurrent_cell.layout import LARGEST_EXPONENT, LAYOUTS, NUMBERS
from visionseq.kernels.recurrent_cell.panels import backward_panels, forward_panels
from visionseq.kernels.recurrent_cell.product import LANES, round_up
from visionseq.kernels.recurrent_cell.rows import ROWS
from visionseq.kernels.threads import spread

PARTS = 8  # sums of the weights' gradient, each over every eighth block of sequences


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
    # the results
    layout, (rows, _, heads, units) = LAYOUTS[cell], x_MGHD.shape
    segments = len(offsets) - 1
    shape = (segments, layout.states, heads, units)
    final = torch.zeros(shape) if initial_NSHD is None else initial_NSHD.clone()
    states = empty((rows, layout.returned(outputs_only), heads, units))
    kept = empty((rows, layout.kept(outputs_only, keep), heads, units))
    if not (rows and heads and units):
        return states, final, kept

    # the loop
    b = _zeros(layout.biases, heads, units) if b_GHD is None else array(b_GHD)
    panels, width = forward_panels(array(R_GHDE))
    blocks = -(-segments // ROWS)
    groups = _head_groups(heads, blocks)
    inputs = (groups, array(x_MGHD), panels, b, *_sequences(offsets), reverse)
    how = (NUMBERS[cell], _limits(normalizer_floor), width)
    results = (*_stored(states, kept, cell, outputs_only), array(final))
    spread(run_forward, blocks * groups, *inputs, *how, *results)
    return states, final, kept


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

    # the results; those of the weights are sums over parts of the sequences
    segments, gates_units = len(offsets) - 1, layout.recurrent * units
    parts = min(PARTS, -(-segments // ROWS))
    d_x = empty(x_MGHD.shape)
    d_R = _zeros(parts, heads, gates_units, round_up(units, LANES))
    d_b, d_b_n = _zeros(parts, heads, gates_units), _zeros(parts, heads, units)
    d_initial = torch.zeros(final.shape) if d_final is None else d_final.float().clone()

    # the loop
    if rows and heads and units:
        initial = _zeros(*final.shape) if initial_NSHD is None else array(initial_NSHD)
        groups = _head_groups(heads, parts)
        inputs = (groups, backward_panels(array(R_GHDE)), *_sequences(offsets), reverse)
        clip = np.float32(np.inf if recurrent_clipval is None else recurrent_clipval)
        how = (NUMBERS[cell], _limits(normalizer_floor), recurrent_cut, clip)
        stored = (*_stored(states, kept, cell, outputs_only), initial, optional_array(d_states, 4))
        spread(run_backward, parts * groups, *inputs, *how, *stored, array(d_x), d_R, d_b, d_b_n, array(d_initial))

    # in the axes of the arguments
    d_R_HGDE = _sum(d_R)[..., :units].view(heads, layout.recurrent, units, units)
    d_b_GHD = _sum(d_b).view(heads, layout.recurrent, units).transpose(0, 1)
    if cell == "gru":
        d_b_GHD = torch.cat([d_b_GHD, _sum(d_b_n).unsqueeze(0)])
    return (
        d_x.to(x_MGHD.dtype),
        _as(d_R_HGDE.transpose(0, 1), R_GHDE),
        None if b_GHD is None else _as(d_b_GHD, b_GHD),
        None if initial_NSHD is None else d_initial,
    )


def _stored(
    states: Tensor, kept: Tensor, cell: str, outputs_only: bool
) -> tuple[np.ndarray, np.ndarray, int, np.ndarray]:
    """Where y is, where the other states are and which one there is the first, where the gates are."""
    y, gates = array(states), array(kept)
    return (y, gates, LAYOUTS[cell].gates, gates) if outputs_only else (y, y, 1, gates)


def _zeros(*shape: int) -> np.ndarray:
    return np.zeros(shape, np.float32)


def _sum(parts: np.ndarray) -> Tensor:
    """Over the first axis."""
    tensor = torch.from_numpy(parts)
    return tensor[0] if len(parts) == 1 else tensor.sum(0)


def _as(gradient: Tensor, argument: Tensor) -> Tensor:
    """Contiguous, in memory of its own, in the dtype of the argument."""
    return gradient.to(argument.dtype).contiguous()


def _head_groups(heads: int, blocks: int) -> int:
    """How many groups of heads keep all threads busy: the fewer, the more of a token's memory is read at one time."""
    return min(heads, -(-torch.get_num_threads() // max(1, blocks)))


def _sequences(offsets: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Their offsets, and their numbers from the longest to the shortest."""
    bounds = offsets.numpy()
    return bounds, _longest_first(bounds.tobytes())


@lru_cache(maxsize=256)
def _longest_first(offsets: bytes) -> np.ndarray:
    """Numbers of the sequences; the loops only read them."""
    bounds = np.frombuffer(offsets, np.int64)
    return np.argsort(bounds[:-1] - bounds[1:], kind="stable")


def _limits(normalizer_floor: float | None) -> tuple[np.float32, np.float32]:
    """The floor of n and the largest exponent of F."""
    if normalizer_floor is None:
        return np.float32(-np.inf), np.float32(0)
    return np.float32(normalizer_floor), np.float32(LARGEST_EXPONENT)
