"""Cases of selective_scan: everything with groups, the bare recurrence, one group given without its axis."""

import torch
from operator_case import Fixed, OperatorCase, State, Timed

from visionseq.kernels import selective_scan, selective_scan_step

CHANNELS, STATES = 6, 3


def step(tokens, fixed, state):
    named = {name: {**tokens, **fixed}.get(name) for name in ("D", "z", "delta_bias")}
    arguments = (tokens["u"], tokens["delta"], fixed["A"], tokens["B"], tokens["C"], state)
    return selective_scan_step(*arguments, **named, delta_softplus="delta_bias" in fixed)


def rates(x: torch.Tensor) -> torch.Tensor:
    return -torch.nn.functional.softplus(x) - 0.1


def case(name: str, weights: tuple[int, ...], channels: int = CHANNELS, full: bool = True) -> OperatorCase:
    tokens = Timed((channels,))
    arguments = {"u": tokens, "delta": tokens if full else Timed((channels,), lambda x: x.abs())}
    arguments |= {"A": Fixed((channels, STATES), rates), "B": Timed(weights), "C": Timed(weights)}
    if full:
        arguments |= {"D": Fixed((channels,)), "z": tokens, "delta_bias": Fixed((channels,))}
    return OperatorCase(
        name=f"selective_scan-{name}",
        function=selective_scan,
        arguments=arguments,
        state=State((channels, STATES)),
        options={"delta_softplus": full},
        step=step,
        extreme={"delta": lambda x: 60 * x.sign()} if full else {},
        lengths=(0, 1, 2, 63, 64, 65, 257),
    )


CASES = [
    case("groups", (2, STATES)),
    case("plain", (1, STATES), full=False),
    case("one-group", (STATES,)),
    case("wide", (1, STATES), channels=67),
]
