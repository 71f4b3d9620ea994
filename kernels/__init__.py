"""The scan kernels: one first-order recurrence, h_t = a_t h_{t-1} + b_t, and the operators built around it."""

from visionseq.kernels.chunk_gated_attention import chunk_gated_attention, chunk_gated_attention_step
from visionseq.kernels.delta_rule import delta_net, delta_net_step, delta_rule, delta_rule_step
from visionseq.kernels.gated_linear_attention import gated_linear_attention, gated_linear_attention_step
from visionseq.kernels.grid_scan import grid_scan, grid_scan_step
from visionseq.kernels.lif_scan import lif_scan, lif_scan_step
from visionseq.kernels.linear_scan import linear_scan, linear_scan_step
from visionseq.kernels.mlstm import mlstm, mlstm_step
from visionseq.kernels.recurrent_cell import recurrent_cell, recurrent_cell_step
from visionseq.kernels.selective_scan import selective_scan, selective_scan_step
from visionseq.kernels.ttt_linear import ttt_linear, ttt_linear_step

__all__ = [
    "chunk_gated_attention",
    "chunk_gated_attention_step",
    "delta_net",
    "delta_net_step",
    "delta_rule",
    "delta_rule_step",
    "gated_linear_attention",
    "gated_linear_attention_step",
    "grid_scan",
    "grid_scan_step",
    "lif_scan",
    "lif_scan_step",
    "linear_scan",
    "linear_scan_step",
    "mlstm",
    "mlstm_step",
    "recurrent_cell",
    "recurrent_cell_step",
    "selective_scan",
    "selective_scan_step",
    "ttt_linear",
    "ttt_linear_step",
]
