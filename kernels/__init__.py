"""The scan kernels: one first-order recurrence, h_t = a_t h_{t-1} + b_t, and the operators built around it."""

from visionseq.kernels.linear_scan import linear_scan, linear_scan_step

__all__ = ["linear_scan", "linear_scan_step"]
