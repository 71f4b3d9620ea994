"""chunk_gated_attention against golden files of ARFlow's hybrid attention."""

from golden_vector import GoldenVector

from kernels_handlers.compare import check_operator, options_of
from visionseq.kernels.chunk_gated_attention import chunk_gated_attention

ARGUMENTS = {name: name for name in ("q", "k", "v", "g", "initial_state")}


def check_arflow(vector: GoldenVector) -> None:
    options = options_of(vector, chunk_gated_attention)
    check_operator(vector, chunk_gated_attention, ARGUMENTS, ["o", "final_state"], **options)


HANDLERS = {"gla_arflow": check_arflow}
