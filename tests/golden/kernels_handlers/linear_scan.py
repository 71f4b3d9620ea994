"""linear_scan against golden files: gates of every kind, both directions, packed sequences."""

from golden_vector import GoldenVector

from kernels_handlers.compare import check_operator, options_of
from visionseq.kernels import linear_scan

ARGUMENTS = {"a": "a", "b": "b", "initial_state": "initial_state"}


def check_linear_scan(vector: GoldenVector) -> None:
    check_operator(vector, linear_scan, ARGUMENTS, ["h", "final_state"], **options_of(vector, linear_scan))


HANDLERS = {"linear_scan": check_linear_scan}
