"""mlstm against golden files: zero state, carried state (C, n, m)."""

from golden_vector import GoldenVector
from torch import Tensor

from kernels_handlers.compare import check_operator, options_of
from visionseq.kernels.mlstm import mlstm

ARGUMENTS = {name: name for name in ("q", "k", "v", "i", "f", "C", "n", "m")}


def run(C: Tensor | None = None, n: Tensor | None = None, m: Tensor | None = None, **options):
    return mlstm(**options, initial_state=None if C is None else (C, n, m))


def check_mlstm(vector: GoldenVector) -> None:
    outputs = ["o", "final_C", "final_n", "final_m"]
    check_operator(vector, run, ARGUMENTS, outputs, **options_of(vector, mlstm))


HANDLERS = {"gla_mlstm": check_mlstm}
