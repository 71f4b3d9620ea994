"""The recurrent weights as panels for `product`: R^T for the forward, in blocks of units, and R for the backward.

Shapes: G gates, H heads, D units of the gates, E units of y, P panels of LANES columns.
"""

import numpy as np

from visionseq.kernels.compiled import compiled
from visionseq.kernels.recurrent_cell.product import LANES, round_up

COLUMNS = 256  # of a block of the forward: the sums of ROWS sequences stay in the L1 cache
ZERO = np.float32(0)


def forward_panels(R_GHDE: np.ndarray) -> tuple[np.ndarray, int]:
    """R^T as [H, blocks, P, E, LANES], the gates of a block of units one after the other, and the units of a block.

    Units beyond D are zero.
    """
    gates, heads, units, _ = R_GHDE.shape
    blocks = max(1, -(-units // (COLUMNS // gates // LANES * LANES)))
    width = max(LANES, round_up(-(-units // blocks), LANES))
    panels = np.empty((heads, blocks, gates * width // LANES, units, LANES), np.float32)
    _pack_transposed(R_GHDE, width, panels)
    return panels, width


def backward_panels(R_GHDE: np.ndarray) -> np.ndarray:
    """R as [H, P, G * D, LANES], with the units of all gates as rows; columns beyond E are zero."""
    gates, heads, units, _ = R_GHDE.shape
    panels = np.empty((heads, round_up(units, LANES) // LANES, gates * units, LANES), np.float32)
    _pack(R_GHDE, panels)
    return panels


@compiled
def _pack_transposed(R, width, panels):
    gates, heads, units = R.shape[0], R.shape[1], R.shape[2]
    for h in range(heads):
        for block in range(panels.shape[1]):
            for g in range(gates):
                for column in range(width):
                    place = g * width + column
                    panel, lane, unit = panels[h, block, place // LANES], place % LANES, block * width + column
                    if unit < units:
                        row = R[g, h, unit]
                        for e in range(units):
                            panel[e, lane] = row[e]
                    else:
                        panel[:, lane] = ZERO


@compiled
def _pack(R, panels):
    gates, heads, units = R.shape[0], R.shape[1], R.shape[2]
    for h in range(heads):
        for p in range(panels.shape[1]):
            low, high = p * LANES, min((p + 1) * LANES, units)
            for g in range(gates):
                for d in range(units):
                    row, vector = R[g, h, d, low:high], panels[h, p, g * units + d]
                    for lane in range(high - low):
                        vector[lane] = row[lane]
                    for lane in range(high - low, LANES):
                        vector[lane] = ZERO
