"""Cases of selective_scan: everything with groups, the bare recurrence, parts of the options, several blocks."""

from functools import partial

import torch
from operator_case import Fixed, OperatorCase, State, Timed

from visionseq.kernels import selective_scan, selective_scan_step

CHANNELS = 6


def step(tokens, fixed, state, softplus):
    return selective_scan_step(**tokens, **fixed, state=state, delta_softplus=softplus)


def rates(x: torch.Tensor) -> torch.Tensor:
    return -torch.nn.functional.softplus(x) - 0.1


def case(
    name: str, weights: tuple[int, ...], channels: int = CHANNELS, full: bool = True, without: tuple[str, ...] = ()
) -> OperatorCase:
    """With all options or none; `without` leaves arguments out."""
    states, tokens = weights[-1], Timed((channels,))
    arguments = {"u": tokens, "delta": tokens if full else Timed((channels,), lambda x: x.abs())}
    arguments |= {"A": Fixed((channels, states), rates), "B": Timed(weights), "C": Timed(weights)}
    if full:
        arguments |= {"D": Fixed((channels,)), "z": tokens, "delta_bias": Fixed((channels,))}
    return OperatorCase(
        name=f"selective_scan-{name}",
        function=selective_scan,
        arguments={name: kind for name, kind in arguments.items() if name not in without},
        state=State((channels, states)),
        options={"delta_softplus": full},
        step=partial(step, softplus=full),
        extreme={"delta": lambda x: 60 * x.sign()} if full else {"delta": lambda x: torch.where(x > 0, 60.0, 0.0)},
        lengths=(0, 1, 2, 63, 64, 65, 257),
    )


CASES = [
    case("groups", (2, 3)),
    case("plain", (1, 3), full=False),
    case("one-group", (3,), without=("D", "delta_bias")),
    case("no-gate", (3, 2), without=("z",)),
    case("wide", (1, 2), channels=67),
    case("wide-groups", (2, 5), channels=138, without=("delta_bias",)),
    case("one-state", (1, 1), channels=1),
]

ON_A_GPU = [
    case("gpu-16", (1, 16), channels=128),
    case("gpu-plain", (1, 16), channels=128, full=False),
]


def of_width(width: int) -> OperatorCase:
    return case(f"width-{width}", (1, width), channels=width)


WIDTHS = (1, 16, 67, 256)  # states of a channel; any number on Triton
