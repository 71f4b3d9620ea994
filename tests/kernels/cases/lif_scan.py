"""Cases of lif_scan: both resets, both scales of the input, every surrogate. Spikes must be equal bit for bit."""

import torch
from operator_case import Fixed, OperatorCase, State, Timed

from visionseq.kernels import lif_scan, lif_scan_step

CHANNELS, PIXELS = 3, 5


def case(name: str, **options) -> OperatorCase:
    def step(tokens, fixed, state):
        return lif_scan_step(tokens["x"], fixed["leak"], fixed["threshold"], state, **options)

    return OperatorCase(
        name=f"lif_scan-{name}",
        function=lif_scan,
        arguments={
            "x": Timed((CHANNELS, PIXELS)),
            "leak": Fixed((CHANNELS,), torch.sigmoid),
            "threshold": Fixed((CHANNELS,), lambda x: x.abs() / 2 + 0.3),
        },
        state=State((CHANNELS, PIXELS), lead=(2,), transform=lambda x: (x > 0).double()),
        options=options,
        step=step,
        outputs=2,
        exact_outputs=(0,),
        tolerance=2.0,
    )


CASES = [
    case("hard", reset="hard"),
    case("soft", reset="soft", input_scale="one_minus_leak"),
    case("soft-attached", reset="soft", detach_reset=False),
    case("superspike", surrogate="superspike"),
    case("triangle", surrogate="triangle", input_scale="one_minus_leak"),
    case("multigauss", surrogate="multigauss"),
]


def adaptive(x: torch.Tensor, trace_leak: torch.Tensor, trace_scale: torch.Tensor, **arguments):
    return lif_scan(x, adaptive=(trace_leak, trace_scale), **arguments)


CHANNEL, TRACED = Fixed((64,), torch.sigmoid), State((64, 16), lead=(3,))
PLAIN = {"x": Timed((64, 16)), "leak": CHANNEL, "threshold": CHANNEL}
ADAPTIVE = PLAIN | {"trace_leak": CHANNEL, "trace_scale": CHANNEL}
ON_A_GPU = [
    OperatorCase("lif_scan-gpu-fixed", lif_scan, PLAIN, State((64, 16), lead=(2,)), outputs=2),
    OperatorCase("lif_scan-gpu-given", lif_scan, PLAIN | {"threshold": Timed((64, 16))}, TRACED, outputs=2),
    OperatorCase("lif_scan-gpu-adaptive", adaptive, ADAPTIVE, TRACED, options={"reset": "soft"}, outputs=2),
    *(case(f"gpu-{name}", surrogate=name, detach_reset=False) for name in ("superspike", "triangle", "multigauss")),
]
