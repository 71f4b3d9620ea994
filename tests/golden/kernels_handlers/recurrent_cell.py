"""recurrent_cell against golden files: the four cells, with and without an initial state."""

from golden_vector import GoldenVector

from kernels_handlers.compare import check_operator
from visionseq.kernels.recurrent_cell import recurrent_cell

ARGUMENTS = {name: name for name in ("x", "R", "b", "initial_state")}
OPTIONS = ("cell", "normalizer_floor", "gradient_recurrent_cut", "gradient_recurrent_clipval")


def check_recurrent_cell(vector: GoldenVector) -> None:
    options = {name: vector.config[name] for name in OPTIONS if name in vector.config}
    check_operator(vector, recurrent_cell, ARGUMENTS, ["states", "final_state"], **options)


HANDLERS = {"recurrent_": check_recurrent_cell}
