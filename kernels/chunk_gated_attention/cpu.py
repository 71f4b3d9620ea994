"""The gated memory across chunks on the CPU: torch's matrix products around the numba kernel of `linear_scan`."""

from functools import partial

from visionseq.kernels.chunk_gated_attention import chunked
from visionseq.kernels.linear_scan import cpu as scan

forward = partial(chunked.forward, scan)
backward = partial(chunked.backward, scan)
