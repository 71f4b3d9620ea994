"""chunk_gated_attention against golden files of ARFlow's hybrid attention."""

from golden_vector import GoldenVector

from kernels_handlers.compare import check_operator
from visionseq.kernels.chunk_gated_attention import chunk_gated_attention

ARGUMENTS = {name: name for name in ("q", "k", "v", "g", "initial_state")}


def check_arflow(vector: GoldenVector) -> None:
    chunk_size = vector.config["chunk_size"]
    check_operator(vector, chunk_gated_attention, ARGUMENTS, ["o", "final_state"], chunk_size=chunk_size)


HANDLERS = {"gla_arflow": check_arflow}
