"""selective_scan against golden files: groups, skip, gate, bias, softplus, states, packed sequences."""

from golden_vector import GoldenVector

from kernels_handlers.compare import check_operator, options_of
from visionseq.kernels.selective_scan import selective_scan

ARGUMENTS = {name: name for name in ("u", "delta", "A", "B", "C", "D", "z", "delta_bias", "initial_state")}


def check_selective_scan(vector: GoldenVector) -> None:
    options = options_of(vector, selective_scan)
    check_operator(vector, selective_scan, ARGUMENTS, ["y", "final_state"], **options)


HANDLERS = {"selective_scan": check_selective_scan}
