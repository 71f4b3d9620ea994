"""`visionseq::recurrent_cell` for torch.library: M rows of N segments, G gates, H heads of D units, S states.

The op returns all states and the gates [M, K, H, D] in float32, the gates for the backward and only if asked for.
"""

import torch
from torch import Tensor

from visionseq.kernels.operator import register
from visionseq.kernels.recurrent_cell.layout import LAYOUTS


def _fake(
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
    rows, _, heads, units = x_MGHD.shape
    layout = LAYOUTS[cell]

    def empty(first: int, second: int) -> Tensor:
        return x_MGHD.new_empty((first, second, heads, units), dtype=torch.float32)

    kept = layout.kept if keep_gates else 0
    return empty(rows, layout.states), empty(offsets.shape[0] - 1, layout.states), empty(rows, kept)


def _flops(x, R, b, initial_state, offsets, *options) -> int:
    return 2 * x.shape[0] * R.numel()


operator = register(
    "recurrent_cell",
    "Tensor x, Tensor R, Tensor? b, Tensor? initial_state, Tensor offsets, bool reverse, str cell, "
    "float? normalizer_floor, bool recurrent_cut, float? recurrent_clipval, bool keep_gates",
    outputs=("states", "final_state", "gates"),
    fake=_fake,
    flops=_flops,
)
