"""Cases of linear_scan: gates of their own, shared gates, few shared channels, the exclusive form."""

import torch
from operator_case import OperatorCase, State, Timed

from visionseq.kernels import linear_scan, linear_scan_step


def step(tokens, fixed, state):
    return linear_scan_step(tokens["a"], tokens["b"], state)


def case(name: str, gate: tuple[int, ...], shape: tuple[int, ...], **options) -> OperatorCase:
    return OperatorCase(
        name=f"linear_scan-{name}",
        function=linear_scan,
        arguments={"b": Timed(shape), "a": Timed(gate)},
        state=State(shape),
        options=options,
        step=None if options else step,
        extreme={"a": lambda x: torch.where(x > 0.5, -1.0, torch.where(x > -0.5, 0.0, 1e-30))},
        lengths=(0, 1, 2, 63, 64, 65, 257),
    )


CASES = [
    case("own", (5,), (5,)),
    case("shared", (3,), (3, 4, 5)),
    case("few", (3, 1), (3, 2)),
    case("one-gate", (), (33,)),
    case("exclusive", (3,), (3, 9), exclusive=True),
]

ON_A_GPU = [
    case("gpu-own", (64,), (64,)),
    case("gpu-shared", (8,), (8, 64)),
    case("gpu-exclusive", (8,), (8, 64), exclusive=True),
]


def of_width(width: int) -> OperatorCase:
    return case(f"width-{width}", (width,), (width, 5))


WIDTHS = (1, 100, 1024)  # gates; any number on Triton
