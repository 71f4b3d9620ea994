"""`visionseq::recurrent_cell` for torch.library: M rows of N segments, G gates, H heads of D units, S states.

The op returns the states, all or y alone, and what the backward needs besides, [M, K, H, D], if it is to be kept: the
gates, and behind them the states that are not returned. All are float32.
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
    outputs_only: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    rows, _, heads, units = x_MGHD.shape
    layout = LAYOUTS[cell]

    def empty(first: int, second: int) -> Tensor:
        return x_MGHD.new_empty((first, second, heads, units), dtype=torch.float32)

    states, kept = layout.returned(outputs_only), layout.kept(outputs_only, keep)
    return empty(rows, states), empty(offsets.shape[0] - 1, layout.states), empty(rows, kept)


def _flops(x, R, b, initial_state, offsets, *options) -> int:
    return 2 * x.shape[0] * R.numel()


operator = register(
    "recurrent_cell",
    "Tensor x, Tensor R, Tensor? b, Tensor? initial_state, Tensor offsets, bool reverse, str cell, "
    "float? normalizer_floor, bool recurrent_cut, float? recurrent_clipval, bool outputs_only, bool keep",
    outputs=("states", "final_state", "kept"),
    fake=_fake,
    flops=_flops,
)
