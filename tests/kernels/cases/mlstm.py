"""Cases of mlstm: square and odd heads, one head, chunks of every length."""

import torch
from operator_case import OperatorCase, State, Timed

from visionseq.kernels.mlstm import mlstm, mlstm_step


def step(tokens, fixed, state):
    return mlstm_step(**tokens, state=state)


def extreme_gate(x):
    """Gates of -80, 0.1 and 80 beside each other."""
    return torch.where(x > 0.5, 80.0, torch.where(x > -0.5, 0.1, -80.0))


def case(name: str, heads: int, keys: int, values: int, **options) -> OperatorCase:
    gates = {"i": Timed((heads,)), "f": Timed((heads,), lambda x: 2 * x + 1)}
    vectors = {"q": Timed((heads, keys)), "k": Timed((heads, keys)), "v": Timed((heads, values))}
    return OperatorCase(
        name=f"mlstm-{name}",
        function=mlstm,
        arguments=vectors | gates,
        state=(State((heads, keys, values)), State((heads, keys)), State((heads,))),
        options=options,
        step=None if options else step,
        extreme={"i": extreme_gate, "f": extreme_gate},
        lengths=(0, 1, 2, 63, 64, 65, 257),
    )


CASES = [
    case("square", 2, 8, 8),
    case("odd", 3, 5, 7),
    case("one-head", 1, 33, 16),
    case("large-eps", 2, 4, 3, eps=1e-2),
]

ON_A_GPU = [case("gpu-64", 2, 64, 64)]


def of_width(width: int) -> OperatorCase:
    return case(f"width-{width}", 2, width, width)


WIDTHS = (1, 16, 32, 100, 128, 256, 1024)  # on Triton, from the narrowest to the widest
