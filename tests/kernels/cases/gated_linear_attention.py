"""Cases of gated_linear_attention: each kind of decay, the bonus, both directions, bidirectional chunks, odd sizes."""

import torch
from operator_case import Fixed, OperatorCase, State, Timed, extreme_log_decay, log_decay

from visionseq.kernels import gated_linear_attention, gated_linear_attention_step

HEADS = 2


def step(tokens, fixed, state):
    gates = tokens.get("g", fixed.get("g"))
    return gated_linear_attention_step(*(tokens[n] for n in "qkv"), state, gates, bonus=fixed.get("bonus"))


def retention(x: torch.Tensor) -> torch.Tensor:
    return torch.log1p(-(2.0 ** -(3 + torch.arange(len(x)))))


def case(name: str, keys: int, values: int, gate=None, bonus: bool = False, stateless: bool = False, **options):
    vectors = Timed((HEADS, keys))
    arguments = {"v": Timed((HEADS, values)), "q": vectors, "k": vectors}
    if gate is not None:
        arguments["g"] = gate
    if bonus:
        arguments["bonus"] = Fixed((HEADS, keys))
    return OperatorCase(
        name=f"gated_linear_attention-{name}",
        function=gated_linear_attention,
        arguments=arguments,
        state=None if stateless else State((HEADS, keys, values)),
        options=options,
        step=None if options else step,
        extreme={"g": extreme_log_decay} if isinstance(gate, Timed) else {},
        lengths=(0, 1, 2, 63, 64, 65, 257),
    )


SCALAR, KEY = Timed((HEADS,), log_decay), Timed((HEADS, 5), log_decay)
FIXED = Fixed((HEADS,), retention)

CASES = [
    case("key", 5, 3, KEY),
    case("scalar", 4, 7, SCALAR),
    case("fixed", 3, 5, FIXED),
    case("none", 6, 4),
    case("bonus", 5, 6, KEY, bonus=True),
    case("wide", 5, 67, KEY),
    case("chunks", 3, 5, FIXED, within="bidirectional", chunk_size=4),
    case("both", 5, 4, KEY, bonus=True, stateless=True, direction="both", scale=1.0),
    case("both-plain", 5, 4, SCALAR, stateless=True, direction="both"),
]

ON_A_GPU = [
    case("gpu-key", 64, 64, Timed((HEADS, 64), log_decay)),
    case("gpu-bonus", 64, 64, Timed((HEADS, 64), log_decay), bonus=True),
    case("gpu-fixed", 64, 64, FIXED),
    case("gpu-wide-keys", 256, 64, SCALAR),
    case("gpu-wide-values", 64, 512, SCALAR),
]


def of_width(width: int) -> OperatorCase:
    return case(f"width-{width}", width, width, Timed((HEADS, width), log_decay))


WIDTHS = (1, 16, 32, 100, 128, 256, 1024)  # on Triton, from the narrowest to the widest
