"""Recurrent networks on the CPU: the host's side of the loops over time.

A head of up to 16 sequences is an item, so that the recurrent weights are read once for all of them. The forward leaves
the gates to the backward. Shapes: M rows, N segments, G gates, H heads, D units, S states.
"""

import numpy as np
import torch
from torch import Tensor

from visionseq.errors import KernelError
from visionseq.kernels.allocation import empty
from visionseq.kernels.hand_over import array, optional_array
from visionseq.kernels.recurrent_cell.backward_loop import run_backward
from visionseq.kernels.recurrent_cell.forward_loop import run_forward
from visionseq.kernels.recurrent_cell.layout import LARGEST_EXPONENT, LAYOUTS, NUMBERS
from visionseq.kernels.recurrent_cell.product import LANES, VECTOR, round_up, tiled
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
    keep_gates: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """All states [M, S, H, D], the final ones [N, S, H, D] and the gates [M, K, H, D], in float32."""
    layout, (rows, _, heads, units) = LAYOUTS[cell], x_MGHD.shape
    segments = len(offsets) - 1
    shape = (segments, layout.states, heads, units)
    final = torch.zeros(shape) if initial_NSHD is None else initial_NSHD.clone()
    states = empty((rows, layout.states, heads, units))
    gates = empty((rows, layout.kept if keep_gates else 0, heads, units))
    b = torch.zeros(layout.biases, heads, units) if b_GHD is None else b_GHD
    tiles, width = _forward_tiles(R_GHDE.float())
    where = (offsets.numpy(), _long_first(offsets), reverse)
    how = (NUMBERS[cell], _limits(normalizer_floor), width)
    blocks = -(-segments // ROWS)
    groups = _head_groups(heads, blocks)
    if rows and units:
        inputs = (groups, array(x_MGHD), array(tiles), array(b))
        spread(run_forward, blocks * groups, *inputs, *where, *how, array(states), array(final), array(gates))
    return states, final, gates


def backward(
    d_states: Tensor | None,
    d_final: Tensor | None,
    d_gates: None,
    states: Tensor,
    final: Tensor,
    gates: Tensor,
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
    keep_gates: bool,
) -> tuple[Tensor | None, ...]:
    """Gradients of x, R, b and the initial state."""
    layout, (rows, _, heads, units) = LAYOUTS[cell], x_MGHD.shape
    if not keep_gates and layout.kept:
        raise KernelError("recurrent_cell: the forward ran without gradients, so that there is no backward")
    segments = len(offsets) - 1
    initial = array(torch.zeros(final.shape) if initial_NSHD is None else initial_NSHD)
    d_initial = torch.zeros(final.shape) if d_final is None else d_final.float().clone()
    d_x = empty(x_MGHD.shape)
    parts = min(PARTS, -(-segments // ROWS))
    groups = _head_groups(heads, parts)
    d_R = torch.zeros(parts, heads, units, layout.recurrent * units)
    d_b = torch.zeros(parts, heads, layout.recurrent * units)
    d_b_n = torch.zeros(parts, heads, units)
    if rows and units:
        where = (offsets.numpy(), _long_first(offsets), reverse)
        how = (NUMBERS[cell], _limits(normalizer_floor), recurrent_cut)
        clip = np.float32(np.inf if recurrent_clipval is None else recurrent_clipval)
        kept = (array(states), initial, array(gates), optional_array(d_states, 4))
        results = map(array, (d_x, d_R, d_b, d_b_n, d_initial))
        tiles = array(_backward_tiles(R_GHDE.float()))
        spread(run_backward, parts * groups, groups, tiles, *where, *how, clip, *kept, *results)
    d_R = d_R.sum(0).unflatten(2, (layout.recurrent, units)).permute(2, 0, 3, 1)
    d_bias = d_b.sum(0).unflatten(1, (layout.recurrent, units)).transpose(0, 1)
    if cell == "gru":
        d_bias = torch.cat([d_bias, d_b_n.sum(0, keepdim=True)])
    return (
        d_x.to(x_MGHD.dtype),
        _as(d_R, R_GHDE),
        None if b_GHD is None else _as(d_bias, b_GHD),
        None if initial_NSHD is None else d_initial,
    )


def _as(gradient: Tensor, argument: Tensor) -> Tensor:
    return gradient.to(argument.dtype, memory_format=torch.contiguous_format, copy=True)


def _head_groups(heads: int, blocks: int) -> int:
    """How many groups of heads keep all threads busy: the fewer, the more of a token's memory is read at one time."""
    return min(heads, -(-torch.get_num_threads() // max(1, blocks)))


def _forward_tiles(R_GHDE: Tensor) -> tuple[Tensor, int]:
    """Tiles of R^T for blocks of units [H, blocks, ., .], all gates of a block side by side, and its units."""
    gates, heads, units, _ = R_GHDE.shape
    blocks = max(1, -(-units // (LANES // gates // VECTOR * VECTOR)))
    width = max(VECTOR, round_up(-(-units // blocks), VECTOR))
    padded = R_GHDE.new_zeros(heads, units, gates, blocks, width)
    padded.flatten(3)[..., :units] = R_GHDE.permute(1, 3, 0, 2)
    tiles = tiled(padded.permute(0, 3, 1, 2, 4).reshape(heads * blocks, units, gates * width))
    return tiles.unflatten(0, (heads, blocks)), width


def _backward_tiles(R_GHDE: Tensor) -> Tensor:
    """Tiles of R for blocks of LANES units [H, blocks, ., .], with the units of all gates as rows."""
    matrix = R_GHDE.transpose(0, 1).flatten(1, 2)
    return torch.stack([tiled(columns) for columns in matrix.split(LANES, -1)], 1)


def _long_first(offsets: Tensor) -> np.ndarray:
    return torch.argsort(offsets.diff(), descending=True, stable=True).numpy()


def _limits(normalizer_floor: float | None) -> tuple[np.float32, np.float32]:
    """The floor of n and the largest exponent of F."""
    if normalizer_floor is None:
        return np.float32(-np.inf), np.float32(0)
    return np.float32(normalizer_floor), np.float32(LARGEST_EXPONENT)
