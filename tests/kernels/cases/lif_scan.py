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


def triton_kernels():
    """(kernel, argument types, constexpr values) of what is compiled without a GPU: each kind of threshold."""
    from visionseq.kernels.lif_scan import gpu

    sizes = {"offsets": "*i64", "segments": "i32", "channel_count": "i32", "inner": "i32"}
    tokens = dict.fromkeys(("x", "z", "d_z", "d_v", "d_x"), "*bf16") | {"v": "*fp32"}
    states = dict.fromkeys(("channels", "initial", "final", "d_final", "d_initial", "d_neurons"), "*fp32")
    slope = {"width": "fp32", "height": "fp32"}
    flags = dict.fromkeys(("HAS_INITIAL", "HAS_D_Z", "HAS_D_V", "HAS_D_FINAL", "SCALE_INPUT"), True)
    flags |= {"REVERSE": False, "DETACH": False, "BLOCK": gpu.BLOCK}
    for kind, number in gpu.KINDS.items():
        absent = {} if kind == "given" else {"thresholds": None, "d_thresholds": None}
        absent |= {} if kind == "adaptive" else {"traces": None}
        given = dict.fromkeys({"thresholds", "d_thresholds", "traces"} - set(absent), "*fp32")
        types = sizes | tokens | states | slope | given
        for family in range(4):
            options = {"KIND": number, "HARD": family % 2 == 0, "FAMILY": family, "KEEP_TRACES": kind == "adaptive"}
            for kernel in (gpu.run_forward, gpu.run_backward) if family < 2 else (gpu.run_backward,):
                yield kernel, types, absent | flags | options
