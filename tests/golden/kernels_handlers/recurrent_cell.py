"""recurrent_cell against golden files: the four cells, with and without an initial state."""

from golden_vector import GoldenVector

from kernels_handlers.compare import check_operator, options_of
from visionseq.kernels.recurrent_cell import recurrent_cell

ARGUMENTS = {name: name for name in ("x", "R", "b", "initial_state")}


def check_recurrent_cell(vector: GoldenVector) -> None:
    options = options_of(vector, recurrent_cell)
    check_operator(vector, recurrent_cell, ARGUMENTS, ["states", "final_state"], **options)


HANDLERS = {"recurrent_": check_recurrent_cell}
